"""The parser and verifier of Knights & Knaves: total, bounded, exact in what a completion does.

Form and truth are kept apart: a false step or a wrong verdict is read like a right one, and then judged by writing
down what the grammar would say at its place. An attempt is one assumption and what is derived from it; it *hits* if
all that it knows is right and nothing more follows from it, and is *illegal* if one of its steps is not what a
statement and the roles known by then amount to, whatever it arrives at.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple

from extrabitter.tasks import Attempt, Use, Verdict, grammar
from extrabitter.tasks.grammar import Broken
from extrabitter.tasks.knights.problems import NAMES, ROLES, SIGNS, Problem, Statement, closure, settles
from extrabitter.tasks.knights.traces import (
    NUMBERS,
    VOCABULARY,
    aim_words,
    check_words,
    first_tests,
    need_words,
    number,
    step_words,
    tests_words,
)

REASONS = {
    **grammar.REASONS,
    "correct": "everybody has the role that fits all statements",
    "wrong_role": "the roles handed in do not fit all statements",
    "person_missing": "somebody's role is not handed in",
    "person_unknown": "somebody is given a role who is not in the puzzle",
    "person_twice": "somebody is given a role twice",
}
Pair = tuple[str, str]
Outcome = Literal["hit", "miss", "illegal"]
_NAMES = frozenset(NAMES)


class _Line(NamedTuple):
    """What a list of known roles rests on: the assumptions made, the latest last, and the statements used up."""

    assumed: tuple[Pair, ...] = ()
    used: frozenset[Statement] = frozenset()


@lru_cache(maxsize=4096)
def _facts(problem: Problem) -> tuple[dict[str, int], dict[str, Statement]]:
    """Return the island of each person, and statements by their words."""
    place = {statement.speaker: index for index, island in enumerate(problem.islands) for statement in island}
    return place, {f"{number(statement, problem)} {statement}": statement for statement in problem.statements}


class Reading(grammar.Reader):
    """What a completion does, and what is known at its end."""

    vocabulary = VOCABULARY
    max_characters = 10_000

    def __init__(self, text: str, problem: Problem) -> None:
        """Read a text."""
        self.place, self.statements = _facts(problem)
        self.aims: list[tuple[Use, set[str]]] = []
        # Of each island, the roles known last; -1: of no island, or of all.
        self.handed: dict[int, list[Pair]] = {}
        self.known: dict[str, str] = {}
        self.line = _Line()
        self.reached = {frozenset[Pair](): _Line()}  # lists that legal steps led to
        self.made: set[tuple[_Line, frozenset[Pair]]] = set()  # attempts
        super().__init__(text, problem)
        for use, pair in self.aims:  # an aim is used where both roles came to be known
            used = any(pair <= {name for name, _ in known} for _, known in self.made)
            self.uses.append(use._replace(functional=use.functional and used))
        self.uses.sort(key=lambda use: use.start)

    def _pair(self) -> Pair:
        return self.take(*NAMES), self.take(*ROLES)

    def _roles(self) -> list[Pair]:
        roles = [self._pair()]
        while self.word in _NAMES:
            roles.append(self._pair())
        return roles

    def _claim(self) -> None:
        self.take(*NAMES)
        self.take(*(ROLES if self.take("is", *SIGNS) == "is" else NAMES))

    def _inference(self) -> tuple[Statement | None, list[str]]:
        """Read a statement and what is made of it, up to a last "so"; None where nobody says it under that number."""
        told = [self.take(*NUMBERS), self.take(*NAMES)]
        start, said = self.position - 1, self.position
        self.take("says")
        self._claim()
        statement = self.statements.get(" ".join([*told, *self.words[said : self.position]]))
        while self.word == "so" or self.word in _NAMES:
            if self.word != "so":
                self._pair()
                continue
            self.position += 1
            if self.word in _NAMES:
                break
            self.take("same", "differs", *ROLES)
        return statement, self.words[start : self.position]

    def read(self) -> None:
        """Read a guess or none, and attempts up to the word that hands in."""
        if self.word in _NAMES:
            self._guess()
        refuting = None
        while self.word != "answer" or not self.attempts:
            while self.word in ("aim", "need") and refuting is None:
                self._prologue()
            self._attempt(refuting)
            if self.word == "check":
                self._check()
            refuting = self._back() if self.word == "back" else None
        self.position += 1

    def _guess(self) -> None:
        """Read roles given at once, without an assumption."""
        self.handed = {-1: self._roles()}
        reason = self.judge().reason
        outcome: Outcome = "hit" if reason == "correct" else "miss" if reason == "wrong_role" else "illegal"
        self.attempts.append(Attempt(self.num_filler, self.position, outcome))
        self.known = dict(self.handed[-1])
        if self.word == "check":
            self._check()

    def _prologue(self) -> None:
        """Read an aim or a need; each is true by a statement."""
        start = self.position
        if self.take("aim", "need") == "aim":
            first, _, second = self.take(*NAMES), self.take("same", "differs"), self.take(*NAMES)
            said = self.words[start : self.position]
            true = any(s.relation == "is" and aim_words(s) == said for s in self.problem.statements)
            self.aims.append((Use("subgoal_setting", start, self.position, true), {first, second}))
        else:
            _, role = self._pair()
            self._claim()
            said = self.words[start : self.position]
            true = any(need_words(s, role) == said for s in self.problem.statements)
            self.uses.append(Use("backward_chaining", start, self.position, true))

    def _attempt(self, refuting: tuple[Use, bool] | None) -> None:
        """Read an assumption and its steps; judge them, and what went back to it."""
        start = self.position
        self.take("assume")
        num_steps = num_right_steps = 0
        legal = finished = False
        self.known = {}
        try:
            roles = self._roles()
            (name, _), given = roles[0], frozenset(roles[1:])
            before = self.reached.get(given, _Line())
            self.line = _Line((*before.assumed, roles[0]), before.used)
            legal = given in self.reached and name in self.place and name not in dict(given)
            self._know(roles, legal)
            while self.word in NUMBERS:
                right, roles = self._step()
                num_steps += 1
                num_right_steps += right
                legal = legal and right
                self._know(roles, legal)
            finished = bool(self.word) or self._is_whole()
        finally:  # also where the text ends or breaks in the middle
            made = (self.line, frozenset(self.known.items()))
            repeated = made in self.made
            outcome: Outcome = "illegal" if not legal else "hit" if self._is_right() else "miss"
            span, counts = (start, self.position), (num_steps, num_right_steps)
            self.attempts.append(Attempt(*span, outcome, finished, repeated, "", False, *counts))
            if finished:
                self.made.add(made)
            if refuting is not None:
                use, named = refuting
                self.uses.append(use._replace(functional=named and legal and finished and not repeated))

    def _know(self, roles: list[Pair], legal: bool) -> None:
        """Take a list, the latest first, for what is known now; it is handed in unless more follows."""
        self.known = dict(roles[::-1])
        self.handed[self.place.get(self.line.assumed[-1][0], -1)] = roles
        if legal:
            self.reached[frozenset(roles)] = self.line

    def _step(self) -> tuple[bool, list[Pair]]:
        """Read a step; return its list, and whether it is what a statement and the roles known by then amount to."""
        statement, words = self._inference()
        roles = self._roles()
        if not self.word and len(roles) <= len(self.known):
            raise Broken  # the text ends in the middle of the list
        (name, role), rest = roles[0], dict(roles[1:])
        if statement is None:
            return False, roles
        if {*statement.people} <= {name, *rest}:  # else it may turn out not to fit
            self.line = self.line._replace(used=self.line.used | {statement})
        right = settles(statement, self.known).get(name) == role and rest == self.known
        return right and len(rest) == len(roles) - 1 and step_words(statement, rest, name) == words, roles

    def _check(self) -> None:
        """Read a check; it works if its tests are what the statements say and its verdict is the case."""
        start, right = self.position, True
        self.take("check")
        while self.word in NUMBERS or self.position == start + 1:
            statement, words = self._inference()
            can = statement is not None and {*statement.people} <= self.known.keys()
            right = right and can and statement is not None and check_words(statement, self.known) == words
        says: Literal["yes", "no"] = "yes" if self.take("yes", "no") == "yes" else "no"
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
                raise Broken
        except Broken:
            self.uses.append(use)
            raise
        return use._replace(end=self.position), refuted in self.line.assumed

    def _is_whole(self) -> bool:
        """Return whether everybody's role is known on the island of the attempt; of a guess, always."""
        index = self.place.get(self.line.assumed[0][0], -1) if self.line.assumed else -1
        return index < 0 or len(self.known) == len(self.problem.islands[index])

    def _is_right(self) -> bool:
        """Return whether all that is known is right, and nothing more follows."""
        island = self.problem.islands[self.place[self.line.assumed[0][0]]]
        right = any(self.known.items() <= roles.items() for roles in self.problem.solutions)
        return right and (self._is_whole() or len(closure(island, self.known)) == len(self.known))

    def judge(self) -> Verdict:
        """Judge the roles that are handed in."""
        return judge_roles([pair for roles in self.handed.values() for pair in roles], self.problem)


def judge_roles(handed: list[Pair], problem: Problem) -> Verdict:
    """Judge roles handed in, (name, role) each."""
    roles = dict(handed)
    said = " ".join(f"{name} {roles[name]}" for name in problem.people if name in roles)
    correct = roles in problem.solutions
    reason = "correct" if correct else "wrong_role"
    if len(roles) < len(handed):
        correct, reason = False, "person_twice"
    elif not {*problem.people} >= roles.keys():
        reason = "person_unknown"
    elif len(roles) < len(problem.people):
        reason = "person_missing"
    return Verdict(correct, reason, said)


def true_verdict(problem: Problem, prefix: str) -> str:
    """Return the check of the last attempt as a true search writes it; ValueError where there is nothing to check."""
    reading = Reading(prefix, problem)
    used, known = reading.line.used, reading.known
    left = [s for s in problem.statements if s not in used and {*s.people} <= known.keys()]
    tested = first_tests(left, known)
    if not tested:
        raise ValueError(f"prefix {prefix[:80]!r}: nothing in it can be checked")
    return " ".join([*tests_words(tested, known, problem), "yes" if tested[-1].fits(known) else "no"])
