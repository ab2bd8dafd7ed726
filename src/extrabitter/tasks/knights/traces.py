"""The grammar of Knights & Knaves: traces written with each habit on a switch.

    completion := "."*  (roles | island+)  "answer"
    island     := ["aim" NAME RELATION NAME] ["need" NAME ROLE CLAIM] attempt ("back" NAME ROLE attempt)*
    attempt    := "assume" roles step* ["check" test+ ("yes" | "no")]
    step       := NUMBER NAME "says" CLAIM inputs "so" roles
    roles      := (NAME ROLE)+

"answer" hands in, for each island, what was known last. A step copies one statement, word for word, and then takes
it and what is known in parts of at most two inputs each, the speaker's role first where that is known; it ends in the
list of all that is known, the latest first, so that the next step need look no further back than that:

    assume A knave 1 A says B is knave A knave so B knight A knave
    2 B says C same A B knight so same A knave so C knave B knight A knave
    check 3 C says A is knight C knave so knave A knave yes answer

Statements are numbered as they are told, and so are found again by one word. A claim is written with "is", so that no
claim about somebody looks like what is known of them.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from extrabitter.tasks import SPECIAL_WORDS, SupportsRandom
from extrabitter.tasks.knights.problems import (
    MAX_PAIRED,
    NAMES,
    ROLES,
    SIGNS,
    Problem,
    Statement,
    draw_islands,
    next_step,
)

KNOWN = "known"  # opens what a drill gives
OPPOSITE = {"knight": "knave", "knave": "knight", "same": "differs", "differs": "same"}
NUMBERS = tuple(str(number + 1) for number in range(len(NAMES)))
VOCABULARY: tuple[str, ...] = (
    *SPECIAL_WORDS,
    *NAMES,
    *ROLES,
    *SIGNS,
    *NUMBERS,
    *(".", ":", "island", "says", "is", "so", "think", KNOWN, "assume", "check", "yes", "no", "back"),
    *("aim", "need", "answer"),
)
Roles = tuple[tuple[str, str], ...]  # (name, role), the latest last


class Condition(NamedTuple):
    """How traces of a condition are written; `meaning` is what pages say of it."""

    meaning: str
    derives: bool = True
    verdicts: Literal["", "true", "coin"] = ""
    backtracks: bool = False
    aims: bool = False
    needs: bool = False
    fails: bool = False
    noisy: bool = False
    filler: bool = False


CONDITIONS = {
    "direct": Condition("the roles, right, with nothing before them", derives=False),
    "noisy": Condition("roles that are right with the given chance, else drawn", derives=False, noisy=True),
    "derive": Condition("assumes either role, derives, answers; never checks, never goes back"),
    "search": Condition(
        "checks what it derives, and goes back when it is refuted", verdicts="true", backtracks=True
    ),
    "cosmetic": Condition("the words of search, with a coin for a judge", verdicts="coin", backtracks=True),
    "filler": Condition(
        "dots as long as another puzzle's search, then the right roles", derives=False, filler=True
    ),
    "wrong": Condition(
        "a true search that hands in what it refuted", verdicts="true", backtracks=True, fails=True
    ),
    "verification": Condition("checks what it derives, and answers in either case", verdicts="true"),
    "backtracking": Condition("goes back from what is refuted, without a written check", backtracks=True),
    "subgoal_setting": Condition("first finds how two people are related, then derives", aims=True),
    "backward_chaining": Condition("first says what the last statement needs, then derives", needs=True),
    "all_behaviours": Condition("all four behaviours", True, "true", True, True, True),
}


class Attempted(NamedTuple):
    """One assumption and what is derived from it; `given` holds outer assumptions and what followed from them.

    `tested` are the statements checked, `said` the verdict, `refuted` what "back" names behind it.
    """

    given: Roles
    assumed: tuple[str, str]
    steps: tuple[tuple[Statement, str, str], ...]
    tested: tuple[Statement, ...] = ()
    said: str = ""
    refuted: tuple[str, str] | None = None

    @property
    def known(self) -> dict[str, str]:
        """Return all roles at its end, the latest last."""
        return dict((*self.given, self.assumed, *((name, role) for _, name, role in self.steps)))


@dataclass(frozen=True)
class Script:
    """What a trace says: dots, then either roles at once or the attempts on each island."""

    roles: Roles = ()
    islands: tuple[tuple[Attempted, ...], ...] = ()
    aims: bool = False
    needs: bool = False
    num_filler: int = 0


def write(problem: Problem, condition: str, rng: SupportsRandom, solution_probability: float) -> Script:
    """Draw a script that shows a condition; only "noisy" is ever wrong by `solution_probability`."""
    shown = CONDITIONS[condition]
    if shown.derives:
        fails = int(rng.random() * len(problem.islands)) if shown.fails else -1
        writers = [
            _Island(island, problem, shown, rng, fails == index)
            for index, island in enumerate(problem.islands)
        ]
        return Script(islands=tuple(writer.write() for writer in writers), aims=shown.aims, needs=shown.needs)
    roles = problem.solutions[0]
    if shown.noisy and rng.random() >= solution_probability:
        roles = {name: ROLES[int(rng.random() * 2)] for name in problem.people}
    script = Script(tuple((name, roles[name]) for name in problem.people))
    if not shown.filler:
        return script
    # Of another puzzle, or the number of dots would tell how the search for these very roles went.
    sizes = [min(max(len(island), min(MAX_PAIRED)), max(MAX_PAIRED)) for island in problem.islands]
    drawn = draw_islands("train", sizes, "ordered", random.Random(int(rng.random() * 2**31)))
    other = Problem(tuple(statement for island in drawn for statement in island))
    length = len(render(write(other, "search", rng, 1.0), other).split())
    return Script(script.roles, num_filler=max(1, length - len(render(script, problem).split())))


@dataclass
class _Island:
    """Writes the attempts on one island; assumes whoever speaks first and is unknown, either role first."""

    statements: tuple[Statement, ...]
    problem: Problem
    shown: Condition
    rng: SupportsRandom
    fails: bool

    def write(self) -> tuple[Attempted, ...]:
        """Return the attempts in order."""
        self.attempts: list[Attempted] = []
        self._explore({}, frozenset())
        return tuple(self.attempts)

    def _explore(self, given: dict[str, str], used: frozenset[Statement]) -> bool:
        """Try both roles of the next person; return whether to go on with what was found."""
        name = next(s.speaker for s in self.statements if s.speaker not in given)
        right = self.problem.solutions[0][name]
        first = ROLES[int(self.rng.random() * 2)] if not self.fails else OPPOSITE[right]
        for role in (first, OPPOSITE[first]):
            known, steps, spent = {**given, name: role}, [], set(used)
            while (step := next_step(self.statements, known)) is not None:
                steps.append(step)
                known[step[1]] = step[2]
                if {*step[0].people} <= known.keys():  # else it may turn out not to fit
                    spent.add(step[0])
            is_last = role != first
            attempt = Attempted(tuple(given.items()), (name, role), tuple(steps))
            if len(known) < len(self.statements):  # nested: this assumption does not settle everybody
                self.attempts.append(attempt)
                goes_on = self._explore(known, frozenset(spent))
            else:
                goes_on = self._judge(attempt, [s for s in self.statements if s not in spent])
            if goes_on or is_last:
                return goes_on
            self.attempts[-1] = self.attempts[-1]._replace(refuted=(name, role))
        raise AssertionError("both roles were tried")

    def _judge(self, attempt: Attempted, left: list[Statement]) -> bool:
        """Check the statements not used, write the attempt down, and return whether to go on with it."""
        tested = first_tests(left, attempt.known)
        holds = all(statement.fits(attempt.known) for statement in tested)
        if self.shown.verdicts == "coin":
            holds = self.rng.random() < 0.5
        if self.shown.verdicts:
            attempt = attempt._replace(tested=tested, said="yes" if holds else "no")
        self.attempts.append(attempt)
        return holds or not self.shown.backtracks or self.fails


def render(script: Script, problem: Problem) -> str:
    """Return a script's text."""
    words = ["."] * script.num_filler
    if script.roles:
        words += listed(dict(script.roles), latest_first=False)
    for statements, attempts in zip(problem.islands, script.islands, strict=False):
        if script.aims and (first := aimed(statements)):
            words += aim_words(first)
        if script.needs:
            words += need_words(statements[-1], "knight")
        for attempt in attempts:
            known = dict((*attempt.given, attempt.assumed))
            words += ["assume", *listed(known)]
            for statement, name, role in attempt.steps:
                words += [number(statement, problem), *step_words(statement, known, name)]
                known[name] = role
                words += listed(known)
            if attempt.said:
                words += [*tests_words(attempt.tested, known, problem), attempt.said]
            if attempt.refuted:
                words += ["back", *attempt.refuted]
    return " ".join([*words, "answer"])


def state(problem: Problem) -> str:
    """Return the statements as they are told, each island of them behind a word of its own."""
    words = []
    heads = {island[0] for island in problem.islands} if is_grouped(problem) else {problem.statements[0]}
    for statement in problem.statements:
        words += [*(["island"] if statement in heads else []), number(statement, problem), str(statement)]
    return " ".join([*words, ":"])


def number(statement: Statement, problem: Problem) -> str:
    """Return a statement's number."""
    return NUMBERS[problem.people.index(statement.speaker)]


def is_grouped(problem: Problem) -> bool:
    """Return whether the islands' statements come one island after the other."""
    return problem.statements == tuple(statement for island in problem.islands for statement in island)


def listed(known: Mapping[str, str], latest_first: bool = True) -> list[str]:
    """Return a list of roles in words."""
    pairs = list(known.items())
    return [word for pair in (pairs[::-1] if latest_first else pairs) for word in pair]


def step_words(statement: Statement, known: Mapping[str, str], name: str) -> list[str]:
    """Return a step's words up to its last "so": what it finds is the role of `name`.

    KeyError where it takes a role that is not known.
    """
    speaker, subject, relation, other = statement
    is_pair = relation in ("same", "differs")
    given = [person for person in statement.people[1:] if person != name and person in known]
    inputs = [word for person in given for word in (person, known[person])]
    if name == speaker:
        middle = ["so", "same" if known[subject] == known[other] else "differs"] if is_pair else []
        return [*str(statement).split(), *inputs, *middle, "so"]
    role = known[speaker]
    middle = ["so", relation if role == "knight" else OPPOSITE[relation]] if is_pair else []
    return [*str(statement).split(), speaker, role, *middle, *inputs, "so"]


def check_words(statement: Statement, known: Mapping[str, str]) -> list[str]:
    """Return the words of a test: what a speaker's role makes of a statement, against what is known.

    The statement fits if the two words they end in agree. KeyError where somebody's role is not known.
    """
    speaker, subject, relation, other = statement
    role = known[speaker]
    words = [*str(statement).split(), speaker, role]
    inputs = [word for person in statement.people[1:] for word in (person, known[person])]
    if relation == "is":
        return [*words, "so", other if role == "knight" else OPPOSITE[other], *inputs]
    if relation in ("same", "differs"):
        needed = relation if role == "knight" else OPPOSITE[relation]
        return [*words, "so", needed, *inputs, "so", "same" if known[subject] == known[other] else "differs"]
    return [*words, *inputs, "so", role if statement.fits(known) else OPPOSITE[role]]


def first_tests(statements: Sequence[Statement], known: Mapping[str, str]) -> tuple[Statement, ...]:
    """Return the statements up to the first that does not fit what is known."""
    end = next((place for place, each in enumerate(statements, 1) if not each.fits(known)), None)
    return tuple(statements[:end])


def tests_words(tested: Sequence[Statement], known: Mapping[str, str], problem: Problem) -> list[str]:
    """Return the words of a check up to its verdict."""
    tests = [[number(statement, problem), *check_words(statement, known)] for statement in tested]
    return ["check", *(word for test in tests for word in test)]


def aimed(statements: Sequence[Statement]) -> Statement | None:
    """Return the first statement about one person's role, which relates two people whatever they are."""
    return next((statement for statement in statements if statement.relation == "is"), None)


def aim_words(statement: Statement) -> list[str]:
    """Return how speaker and subject of a statement about one role are related, whatever they are."""
    return ["aim", statement.speaker, "same" if statement.other == "knight" else "differs", statement.subject]


def need_words(statement: Statement, role: str) -> list[str]:
    """Return what must hold if a statement's speaker has a role: as it is said by a knight, turned round by a knave.

    What is left of `and`, `or` and `if` stays as it is said: it has no opposite in the vocabulary.
    """
    said = str(statement).split()[2:]
    if role == "knave":
        place = 2 if statement.relation == "is" else 1
        said[place] = OPPOSITE.get(said[place], said[place])
    return ["need", statement.speaker, role, *said]
