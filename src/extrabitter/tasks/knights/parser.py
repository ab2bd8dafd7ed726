"""The parser and verifier of Knights & Knaves: total, bounded, exact in what a completion does.

Form and truth are kept apart: a false step or a wrong verdict is read like a right one, and then judged by writing
down what the grammar would say at its place. An attempt is one assumption and what is derived from it; it *hits* if
all that it knows is right and nothing more follows from it, and is *illegal* if one of its steps is not what a
statement and the roles known by then amount to, whatever it arrives at.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple

from extrabitter.tasks import SPECIAL_WORDS, Attempt, Trace, Use, Verdict
from extrabitter.tasks.knights.problems import NAMES, ROLES, SIGNS, Problem, Statement, closure, settles
from extrabitter.tasks.knights.traces import (
    ANSWER_WORD,
    VOCABULARY,
    aim_words,
    need_words,
    step_words,
    test_words,
)

MAX_CHARACTERS = 10_000  # of a completion; longer ones are not read
REASONS = {
    "correct": "everybody has the role that fits all statements",
    "wrong_role": "the roles handed in do not fit all statements",
    "person_missing": "somebody's role is not handed in",
    "person_unknown": "somebody is given a role who is not in the puzzle",
    "person_twice": "somebody is given a role twice",
    "not_text": "the completion is not a string",
    "too_long": f"over {MAX_CHARACTERS} characters",
    "unfinished": "the text ends before the word 'answer'",
    "truncated": "cut at the length cap before 'answer'",
    "unknown_word": "a word outside the vocabulary",
    "unexpected_word": "a word the grammar does not allow at its place",
    "trailing_words": "words after 'answer'",
}
_WORDS = frozenset(VOCABULARY) - frozenset(SPECIAL_WORDS)
_NAMES = frozenset(NAMES)
Pair = tuple[str, str]
Outcome = Literal["hit", "miss", "illegal"]


class _Broken(Exception):
    """The text leaves the grammar at a word; caught inside `Reading`."""


@lru_cache(maxsize=4096)
def _answers(problem: Problem) -> tuple[dict[str, int], tuple[frozenset[frozenset[Pair]], ...]]:
    """Return the island of each person, and the solutions of each island."""
    place = {statement.speaker: index for index, island in enumerate(problem.islands) for statement in island}
    solutions = tuple(
        frozenset(
            frozenset((name, role) for name, role in roles.items() if place[name] == index)
            for roles in problem.solutions
        )
        for index in range(len(problem.islands))
    )
    return place, solutions


class _Line(NamedTuple):
    """What a list of known roles rests on: the assumptions made, the latest last, and the statements used."""

    assumed: tuple[Pair, ...] = ()
    used: frozenset[str] = frozenset()


class Reading:
    """What a completion does, read word by word up to its end or to where it leaves the grammar."""

    def __init__(self, text: str, problem: Problem) -> None:
        """Read a text."""
        words = text.split()
        while words and words[-1] in ("<eos>", "<pad>"):
            words.pop()
        self.words = [*words, ""]
        self.problem = problem
        self.place, self.solutions = _answers(problem)
        self.statements = {str(statement): statement for statement in problem.statements}
        self.position = self.num_filler = 0
        self.reason, self.flaw, self.answered = "ok", "", False
        self.attempts: list[Attempt] = []
        self.uses: list[Use] = []
        self.handed: dict[int, dict[str, str]] = {}  # of each island, the roles known last; -1: of none
        self.known: dict[str, str] = {}
        self.line = _Line()
        self.reached = {frozenset[Pair](): _Line()}  # what legal steps led to
        self.made: set[tuple[_Line, frozenset[Pair]]] = set()
        self.aims: list[tuple[Use, Pair]] = []
        try:
            self._read()
        except _Broken:
            word = self.word
            self.reason = "unfinished" if not word else "unexpected_word" if word in _WORDS else "unknown_word"
        lists = [{name for name, _ in known} for _, known in self.made]
        for use, pair in self.aims:
            self.uses.append(use._replace(functional=use.functional and any({*pair} <= names for names in lists)))
        self.uses.sort(key=lambda use: use.start)

    @property
    def word(self) -> str:
        """Return the word under the cursor, empty at the end."""
        return self.words[self.position]

    def _take(self, *allowed: str) -> str:
        word = self.words[self.position]
        if word not in allowed:
            raise _Broken
        self.position += 1
        return word

    def _pair(self) -> Pair:
        return self._take(*NAMES), self._take(*ROLES)

    def _roles(self) -> list[Pair]:
        roles = [self._pair()]
        while self.word in _NAMES:
            roles.append(self._pair())
        return roles

    def _said(self, role: bool) -> Statement | None:
        """Read a statement, with a role in front of "says" if there must be one; None if nobody made it."""
        speaker = self._take(*NAMES)
        if role or self.word in ROLES:
            self._take(*ROLES)
        start = self.position
        self._take("says")
        self._claim()
        return self.statements.get(" ".join([speaker, *self.words[start : self.position]]))

    def _claim(self) -> None:
        self._take(*NAMES)
        self._take(*(ROLES if self._take("is", *SIGNS) == "is" else NAMES))

    def _read(self) -> None:
        while self.word == ".":
            self.position += 1
        self.num_filler = self.position
        if self.word in _NAMES:
            self._guess()
        refuting = None
        while self.word != ANSWER_WORD or not self.attempts:
            while self.word in ("aim", "need") and refuting is None:
                self._prologue()
            self._attempt(refuting)
            if self.word == "check":
                self._check()
            refuting = self._back() if self.word == "back" else None
        self._take(ANSWER_WORD)
        self.answered = True
        if self.word:
            self.reason = "trailing_words"

    def _guess(self) -> None:
        """Read roles given at once, without an assumption."""
        roles = self._roles()
        self.known = dict(roles)
        self.handed = {-1: self.known}
        if not self.place.keys() >= {name for name, _ in roles}:
            self.flaw = "person_unknown"
        elif len(self.known) < len(roles):
            self.flaw = "person_twice"
        outcome: Outcome = "illegal" if self.flaw else "hit" if self.known in self.problem.solutions else "miss"
        self.attempts.append(Attempt(self.num_filler, self.position, outcome))
        if self.word == "check":
            self._check()

    def _prologue(self) -> None:
        """Read an aim, which is true by a statement and used if both are known later, or a true need."""
        start, true = self.position, False
        if self._take("aim", "need") == "aim":
            pair = (self._take(*NAMES), self._take("same", "differs"), self._take(*NAMES))[::2]
            said = self.words[start : self.position]
            true = any(s.relation == "is" and aim_words(s) == said for s in self.problem.statements)
            self.aims.append((Use("subgoal_setting", start, self.position, true), pair))
        else:
            name, role = self._pair()
            self._claim()
            said = self.words[start : self.position]
            true = any(s.speaker == name and need_words(s, role) == said for s in self.problem.statements)
            self.uses.append(Use("backward_chaining", start, self.position, true))
        self._take(";")

    def _attempt(self, refuting: tuple[Use, bool] | None) -> None:
        """Read an assumption and its steps; judge them, and what went back to it."""
        start = self.position
        self._take("assume")
        num_steps = num_right_steps = 0
        roles: list[Pair] = []
        legal = finished = False
        try:
            roles = self._roles()
            given = frozenset(roles[1:])
            before = self.reached.get(given, _Line())
            self.line = _Line((*before.assumed, roles[0]), before.used)
            legal = given in self.reached and roles[0][0] in self.place and roles[0][0] not in dict(roles[1:])
            self._know(roles, legal)
            self._take(";")
            while self.word in _NAMES:
                num_steps += 1
                right = self._step()
                num_right_steps += right
                legal = legal and right
                self._know(self.latest, legal)
            finished = bool(self.word) or self._is_whole()
        finally:  # also where the text ends or breaks in the middle
            known = frozenset(self.known.items()) if roles else frozenset()
            new = (self.line, known) not in self.made
            outcome: Outcome = ("hit" if self._is_right() else "miss") if legal else "illegal"
            self.attempts.append(
                Attempt(
                    start,
                    self.position,
                    outcome,
                    finished,
                    repeated=not new,
                    num_steps=num_steps,
                    num_right_steps=num_right_steps,
                )
            )
            if finished:
                self.made.add((self.line, known))
            if refuting is not None:
                use, named = refuting
                self.uses.append(use._replace(functional=named and legal and finished and new))

    def _know(self, roles: list[Pair], legal: bool) -> None:
        """Take a list, the latest first, for what is known now and is handed in unless more follows."""
        self.known = dict(roles[::-1])
        self.handed[self.place.get(roles[0][0], -1)] = self.known
        if legal:
            self.reached[frozenset(roles)] = self.line

    def _step(self) -> bool:
        """Read a step; return whether it is what a statement and the roles known by then amount to."""
        start = self.position
        statement = self._said(role=False)
        while True:
            if self.word != "so":
                self._pair()
                continue
            self.position += 1
            if self.word not in ("same", "differs"):
                break
            self.position += 1
        words = self.words[start : self.position]
        self.latest = self._roles()
        self._take(";")
        if statement is None:
            return False
        if {statement.speaker, *statement.people} <= dict(self.latest).keys():
            self.line = self.line._replace(used=self.line.used | {str(statement)})
        (name, role), rest = self.latest[0], self.latest[1:]
        if name in self.known or len(rest) != len(self.known) or dict(rest) != self.known:
            return False
        return settles(statement, self.known).get(name) == role and step_words(statement, self.known, name) == words

    def _check(self) -> None:
        """Read a check; it works if its tests are what the statements say and its verdict is the case."""
        start, right = self.position, True
        while self.word == ("check" if self.position == start else ";"):
            self.position += 1
            first = self.position
            statement = self._said(role=True)
            while self.word not in ("yes", "no", ";"):
                if self.word == "so":
                    self.position += 1
                    self._take("same", "differs", *ROLES)
                else:
                    self._pair()
            try:
                said = self.words[first : self.position]
                right = right and statement is not None and test_words(statement, self.known) == said
            except KeyError:
                right = False
        says: Literal["yes", "no"] = "yes" if self._take("yes", "no") == "yes" else "no"
        attempt = self.attempts[-1]
        true = (says == "yes") == (attempt.outcome == "hit" and self._is_whole())
        self.attempts[-1] = attempt._replace(said=says, verdict_true=true)
        self.uses.append(Use("verification", start, self.position, true and right))

    def _back(self) -> tuple[Use, bool]:
        """Read "back" and what it refutes; whether it does its work shows in the attempt behind it."""
        use = Use("backtracking", self.position, self.position + 1, False)
        self.position += 1
        try:
            refuted = self._pair()
            if self.word != "assume":
                raise _Broken
        except _Broken:
            self.uses.append(use)
            raise
        return use._replace(end=self.position), refuted in self.line.assumed

    def _is_whole(self) -> bool:
        """Return whether everybody's role on the island is known."""
        if not self.line.assumed:  # a guess
            return True
        index = self.place.get(self.line.assumed[0][0], -1)
        return index >= 0 and len(self.known) == len(self.problem.islands[index])

    def _is_right(self) -> bool:
        """Return whether all that is known is right, and nothing more follows."""
        index = self.place[self.line.assumed[0][0]]
        known = frozenset(self.known.items())
        if known in self.solutions[index]:
            return True
        island = self.problem.islands[index]
        return any(known < roles for roles in self.solutions[index]) and len(closure(island, self.known)) == len(known)

    def judge(self) -> Verdict:
        """Judge what is handed in; an ill-formed completion hands in nothing."""
        if self.reason != "ok":
            return Verdict(False, self.reason)
        roles = {name: role for known in self.handed.values() for name, role in known.items()}
        said = " ".join(f"{name} {roles[name]}" for name in self.problem.people if name in roles)
        if self.flaw or not self.place.keys() >= roles.keys():
            return Verdict(False, self.flaw or "person_unknown", said)
        if len(roles) < len(self.problem.people):
            return Verdict(False, "person_missing", said)
        correct = roles in self.problem.solutions
        return Verdict(correct, "correct" if correct else "wrong_role", said)


def parse(text: object, problem: Problem, truncated: bool = False) -> Trace:
    """Read a completion; never raises. Cut at the cap, it has reason "truncated" in place of "unfinished"."""
    if not isinstance(text, str) or len(text) > MAX_CHARACTERS:
        reason = "too_long" if isinstance(text, str) else "not_text"
        return Trace((), (), Verdict(False, reason), reason, answered=False)
    reading = Reading(text, problem)
    verdict = reading.judge()
    if truncated and verdict.reason == "unfinished":
        verdict = Verdict(False, "truncated")
    return Trace(
        tuple(reading.attempts), tuple(reading.uses), verdict, reading.reason, reading.answered, reading.num_filler
    )


def true_verdict(problem: Problem, prefix: str) -> str:
    """Return the check of the last attempt as a true search writes it; ValueError where there is nothing to check."""
    reading = Reading(prefix, problem)
    tests: list[str] = []
    for statement in problem.statements:
        if str(statement) in reading.line.used or not {statement.speaker, *statement.people} <= reading.known.keys():
            continue
        tests.append(" ".join(test_words(statement, reading.known)))
        if not statement.fits(reading.known):
            return f"check {' ; '.join(tests)} no"
    if not tests:
        raise ValueError(f"prefix {prefix[:80]!r}: nothing in it can be checked")
    return f"check {' ; '.join(tests)} yes"
