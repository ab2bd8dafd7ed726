"""Knights & Knaves: puzzles, their solutions, and the structures that tell training from held-out ones.

A knight says what is the case, a knave what is not. Each person makes one statement, about others. In the headline
bands statements are *linear*: "X is knight", "X is knave", "X same Y", "X differs Y". Read a knave as 1: each of
them is then an equation over two values, so that given the structure every solution is as likely as any other, and
to guess all roles in one go is to compute a parity. `and`, `or` and `if` have a band of their own.

An *island* is a group of people who speak of each other only. In the ordered bands its statements stand in an order
in which the first, of one person, is spoken by whom one may begin with, each next one adds one person, and the last
adds nobody: it is the check. Every puzzle has exactly one solution.

Source: Logic-RL, arXiv 2502.14768 (the game); ours: linear statements, islands, the order.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations, permutations, product
from typing import NamedTuple

import numpy as np

from extrabitter.seeding import derive_seed

NAMES = "ABCDEFGHIJKL"
ROLES = ("knight", "knave")
SIGNS = {"same": "=", "differs": "!", "and": "&", "or": "|", "if": ">"}  # in a problem's name; roles are + and -
LINEAR = ("is", "same", "differs")
SYMMETRIC = ("same", "differs", "and", "or")
MAX_ISLAND = 8  # people; solutions are found by going through all 2 ** 8
SPLITS = {"train": 0.7, "validation": 0.1, "test": 0.2}  # of structures
# Of three people two always follow from two statements. Of four, one at most would leave 60 structures of 302, few
# enough to be learnt by heart; so the structures in which three follow are left out.
MAX_PAIRED = {3: 2, 4: 2, 5: 1}


class Statement(NamedTuple):
    """What one person says: "A says B same C" is ("A", "B", "same", "C"), "A says B is knave" has a role at its end."""

    speaker: str
    subject: str
    relation: str
    other: str

    @property
    def people(self) -> tuple[str, ...]:
        """Return those it is about, without the speaker."""
        return (self.subject,) if self.relation == "is" else (self.subject, self.other)

    def claims(self, roles: Mapping[str, str]) -> bool:
        """Return whether what is said is the case; `roles` holds everybody it is about."""
        subject = roles[self.subject] == "knight"
        if self.relation == "is":
            return roles[self.subject] == self.other
        other = roles[self.other] == "knight"
        if self.relation == "same":
            return subject == other
        if self.relation == "differs":
            return subject != other
        if self.relation == "and":
            return subject and other
        return subject or other if self.relation == "or" else subject or not other

    def fits(self, roles: Mapping[str, str]) -> bool:
        """Return whether the speaker, being what `roles` says, could say this."""
        return self.claims(roles) == (roles[self.speaker] == "knight")

    def __str__(self) -> str:
        return f"{self.speaker} says {self.subject} {self.relation} {self.other}"


@dataclass(frozen=True)
class Problem:
    """A puzzle: its statements, in the order in which they are told."""

    statements: tuple[Statement, ...]

    @cached_property
    def identifier(self) -> str:
        """Return the name used in tables, e.g. `A:B-,B:C=A,C:A+`."""
        parts = []
        for speaker, subject, relation, other in self.statements:
            said = "+-"[ROLES.index(other)] if relation == "is" else f"{SIGNS[relation]}{other}"
            parts.append(f"{speaker}:{subject}{said}")
        return ",".join(parts)

    @cached_property
    def people(self) -> tuple[str, ...]:
        """Return everybody, in the order in which they speak."""
        return tuple(statement.speaker for statement in self.statements)

    @cached_property
    def islands(self) -> tuple[tuple[Statement, ...], ...]:
        """Return the statements of each group of people that speak of each other only, by its first speaker."""
        group = {name: name for name in self.people}
        for statement in self.statements:
            for name in statement.people:
                old, new = group[name], group[statement.speaker]
                group = {key: new if value == old else value for key, value in group.items()}
        roots = dict.fromkeys(group[name] for name in self.people)
        return tuple(tuple(s for s in self.statements if group[s.speaker] == root) for root in roots)

    @cached_property
    def structure(self) -> tuple[str, ...]:
        """Return what stays of the puzzle when people are renamed and statements reordered, an entry an island."""
        return tuple(sorted(canonical_form(island) for island in self.islands))

    @cached_property
    def solutions(self) -> tuple[dict[str, str], ...]:
        """Return every consistent assignment of roles to people."""
        found: list[dict[str, str]] = [{}]
        for island in self.islands:
            own = _solutions(island)
            found = [{**roles, **more} for roles in found for more in own]
        return tuple(found)


def read_problem(identifier: str) -> Problem:
    """Return the problem of a name; ValueError where it names none, or people who do not speak once each.

    >>> read_problem("A:B-,B:C=A,C:A+").solutions
    ({'A': 'knave', 'B': 'knight', 'C': 'knave'},)
    """
    relations = {sign: relation for relation, sign in SIGNS.items()}
    statements = []
    for part in identifier.split(","):
        speaker, colon, said = part[:1], part[1:2], part[2:]
        subject, sign, other = said[:1], said[1:2], said[2:]
        named = [speaker, subject] if sign in ("+", "-") and not other else [speaker, subject, other]
        if colon != ":" or not all(len(name) == 1 and name in NAMES for name in named) or len({*named}) < len(named):
            raise ValueError(f"problem {identifier!r}: {part!r} is no statement")
        if len(named) == 2:
            statements.append(Statement(speaker, subject, "is", ROLES["+-".index(sign)]))
        elif sign in relations:
            statements.append(Statement(speaker, subject, relations[sign], other))
        else:
            raise ValueError(f"problem {identifier!r}: {part!r} is no statement")
    problem = Problem(tuple(statements))
    if len({*problem.people}) < len(statements) or not {*problem.people}.issuperset(
        name for statement in statements for name in statement.people
    ):
        raise ValueError(f"problem {identifier!r}: everybody must speak once")
    if max(map(len, problem.islands)) > MAX_ISLAND:
        raise ValueError(f"problem {identifier!r}: more than {MAX_ISLAND} people on an island")
    return problem


def assignments(names: Sequence[str]) -> list[dict[str, str]]:
    """Return every way to give the names roles."""
    return [dict(zip(names, roles, strict=True)) for roles in product(ROLES, repeat=len(names))]


def _solutions(island: Sequence[Statement]) -> list[dict[str, str]]:
    every = assignments([statement.speaker for statement in island])
    return [roles for roles in every if all(statement.fits(roles) for statement in island)]


@lru_cache(maxsize=4096)
def _allowed(statement: Statement, names: str) -> int:
    """Return, a bit each, which assignments a statement allows: spares drawing most of its time."""
    return sum(1 << bit for bit, roles in enumerate(assignments(names)) if statement.fits(roles))


@lru_cache(maxsize=32768)
def canonical_form(island: tuple[Statement, ...]) -> str:
    """Return the first, in the alphabet, of all ways to write an island's statements with names A, B, C …"""
    names = [statement.speaker for statement in island]
    forms = []
    for chosen in permutations(NAMES[: len(names)]):
        new = dict(zip(names, chosen, strict=True))
        forms.append(sorted(_sorted(_renamed(statement, new)) for statement in island))
    return Problem(tuple(min(forms))).identifier


def _renamed(statement: Statement, new: Mapping[str, str]) -> Statement:
    speaker, subject, relation, other = statement
    return Statement(new[speaker], new[subject], relation, new.get(other, other))


def _sorted(statement: Statement, reverse: bool = False) -> Statement:
    """Return a statement with its two people in the order of the alphabet, where both orders say the same."""
    speaker, subject, relation, other = statement
    swaps = relation in SYMMETRIC and (subject < other) == reverse
    return Statement(speaker, other, relation, subject) if swaps else statement


@lru_cache(maxsize=65536)
def split_of(structure: str) -> str:
    """Return the split that an island's structure belongs to, by a stable hash; a puzzle's islands share it."""
    position = int.from_bytes(hashlib.sha256(structure.encode()).digest()[:8], "big") / 2**64
    for split, share in SPLITS.items():
        if position < share:
            return split
        position -= share
    return "test"


def settles(statement: Statement, known: Mapping[str, str]) -> dict[str, str]:
    """Return the roles, not known yet, in which all ways agree to complete `known` that a statement allows."""
    unknown = [name for name in (statement.speaker, *statement.people) if name not in known]
    if len(unknown) > (1 if statement.relation in LINEAR else 2):
        return {}
    allowed = [more for more in assignments(unknown) if statement.fits({**known, **more})]
    return {name: allowed[0][name] for name in unknown if len({more[name] for more in allowed}) == 1}


def next_step(island: Sequence[Statement], known: Mapping[str, str]) -> tuple[Statement, str, str] | None:
    """Return the first statement that settles somebody unknown, who that is, and the role; None where none does."""
    return next(((s, name, role) for s in island for name, role in settles(s, known).items()), None)


def ordered(island: Sequence[Statement], rng: random.Random) -> tuple[Statement, ...] | None:
    """Return the statements in an order in which each adds one person and the last none; None where there is none."""
    for first in rng.sample(list(island), len(island)):
        known, order, left = {first.speaker, first.subject}, [first], [s for s in island if s != first]
        while first.relation == "is" and left:
            wanted = 0 if len(left) == 1 else 1
            useful = [s for s in left if len({s.speaker, *s.people} - known) == wanted]
            if not useful:
                break
            chosen = useful[int(rng.random() * len(useful))]
            order.append(chosen)
            left.remove(chosen)
            known.update((chosen.speaker, *chosen.people))
        if first.relation == "is" and not left:
            return tuple(order)
    return None


def num_paired(island: Sequence[Statement]) -> int:
    """Return how many roles follow from two of the statements alone."""
    names = [statement.speaker for statement in island]
    every = assignments(names)
    settled = set()
    for pair in combinations(island, 2):
        allowed = [roles for roles in every if all(statement.fits(roles) for statement in pair)]
        settled |= {name for name in names if len({roles[name] for roles in allowed}) == 1}
    return len(settled)


@lru_cache(maxsize=8)
def num_structures(num_people: int) -> int:
    """Return how many structures with an order there are of 3, 4 or 5 people: 14, 302 and 8,390.

    Structures that the headline leaves out (see `MAX_PAIRED`) are counted; a band's own number is smaller.
    """
    names = NAMES[:num_people]
    said = [statements_of(speaker, names) for speaker in names]
    number = [{statement: index for index, statement in enumerate(own)} for own in said]
    base = len(said[0])
    chosen = np.indices((base,) * num_people).reshape(num_people, -1).astype(np.uint8)  # (n, base ** n)
    allowed = np.full(chosen.shape[1], -1, dtype=np.int64)  # a bit an assignment
    for place, own in enumerate(said):
        allowed &= np.array([_allowed(s, names) for s in own], dtype=np.int64)[chosen[place]]
    chosen = chosen[:, (allowed != 0) & (allowed & (allowed - 1) == 0)]
    least = np.full(chosen.shape[1], np.iinfo(np.int64).max)
    for order in permutations(names):
        new = dict(zip(names, order, strict=True))
        code = np.zeros(chosen.shape[1], dtype=np.int64)
        for place, own in enumerate(said):
            to = names.index(new[names[place]])
            table = [number[to][_sorted(_renamed(statement, new))] * base**to for statement in own]
            code += np.array(table, dtype=np.int64)[chosen[place]]
        least = np.minimum(least, code)
    rng = random.Random(0)  # decides which order is found, not whether there is one
    return sum(
        ordered([said[place][code // base**place % base] for place in range(num_people)], rng) is not None
        for code in set(least.tolist())
    )


def statements_of(speaker: str, names: str, relations: Sequence[str] = LINEAR) -> list[Statement]:
    """Return all that one of `names` can say about others."""
    others = [name for name in names if name != speaker]
    said = [Statement(speaker, name, "is", role) for name in others for role in ROLES]
    pairs = [(relation, pair) for relation in relations if relation != "is" for pair in combinations(others, 2)]
    return said + [Statement(speaker, first, relation, second) for relation, (first, second) in pairs]


class Band(NamedTuple):
    """A range of difficulty: `meaning` on pages, people on each island (one of several choices), kind of statements."""

    meaning: str
    choices: tuple[tuple[int, ...], ...]
    kind: str = "ordered"


BANDS = {
    "islands": Band("one island of four people, or two of three or four", ((4,), (3, 3), (3, 4), (4, 4))),
    "people3": Band("one island of three people", ((3,),)),
    "people4": Band("one island of four people", ((4,),)),
    "people5": Band("one island of five people", ((5,),)),
    "islands33": Band("two islands of three people", ((3, 3),)),
    "islands34": Band("an island of three people and one of four", ((3, 4),)),
    "islands44": Band("two islands of four people", ((4, 4),)),
    "islands333": Band("three islands of three people", ((3, 3, 3),)),
    "free": Band("four people, statements in any order behind the first", ((4,),), "free"),
    "mixed": Band("three people and four, the islands' statements interleaved", ((3, 4),), "mixed"),
    "nested": Band("five people, of whom no one's role settles all others'", ((5,),), "nested"),
    "logic": Band("four people, statements with and, or and if among them", ((4,),), "logic"),
}


def draw_problem(split: str, band: str, rng: random.Random) -> Problem:
    """Draw a problem: a choice of the band, islands of the split, and names for everybody."""
    _, choices, kind = BANDS[band]
    sizes = list(choices[int(rng.random() * len(choices))])
    rng.shuffle(sizes)
    islands = _draw_islands(split, sizes, kind, rng)
    told: list[Statement] = []
    if kind == "mixed":
        left = [list(island) for island in islands]
        while any(left):  # each island keeps its order
            told.append(rng.choice([island for island in left for _ in island]).pop(0))
    return Problem(tuple(told or (statement for island in islands for statement in island)))


def another_problem(problem: Problem, rng: random.Random) -> Problem:
    """Draw a training problem with as many people on each island, in the order of the ordered bands."""
    sizes = [min(max(len(island), min(MAX_PAIRED)), max(MAX_PAIRED)) for island in problem.islands]
    return Problem(tuple(statement for island in _draw_islands("train", sizes, "ordered", rng) for statement in island))


def _draw_islands(split: str, sizes: list[int], kind: str, rng: random.Random) -> list[tuple[Statement, ...]]:
    names = rng.sample(NAMES, sum(sizes))
    ends = [sum(sizes[: index + 1]) for index in range(len(sizes))]
    return [_draw_island(split, names[e - n : e], kind, rng) for n, e in zip(sizes, ends, strict=True)]


def _draw_island(split: str, names: list[str], kind: str, rng: random.Random) -> tuple[Statement, ...]:
    """Draw statements uniformly until they are of the kind and split; under fixed names, so that work is kept."""
    plain = NAMES[: len(names)]
    relations = ("same", "differs", "and", "or", "if") if kind == "logic" else LINEAR
    choices = [statements_of(speaker, plain, relations) for speaker in plain]
    while True:
        drawn = tuple(said[int(rng.random() * len(said))] for said in choices)
        left = (1 << 2 ** len(drawn)) - 1
        for statement in drawn:
            left &= _allowed(statement, plain)
        if left == 0 or left & (left - 1):
            continue
        order: tuple[Statement, ...] | None = drawn
        if kind == "logic":
            if all(statement.relation in LINEAR for statement in drawn):
                continue
        elif kind == "nested":
            # The first to speak is one to begin with.
            if _finishes(drawn, plain) or next_step(drawn, {plain[0]: "knight"}) is None:
                continue
        elif (order := ordered(drawn, rng)) is None or num_paired(drawn) > MAX_PAIRED[len(drawn)]:
            continue
        if order is None or split_of(canonical_form(drawn)) != split:
            continue
        if kind not in ("ordered", "mixed"):
            order = (order[0], *rng.sample(order[1:], len(order) - 1))
        new = dict(zip(plain, names, strict=True))
        renamed = (_renamed(statement, new) for statement in order)
        return tuple(_sorted(s) if rng.random() < 0.5 else _sorted(s, reverse=True) for s in renamed)


def _finishes(island: Sequence[Statement], names: str) -> bool:
    """Return whether somebody's role settles everybody's, a statement at a time."""
    return any(len(closure(island, {name: "knight"})) == len(names) for name in names)


def closure(island: Sequence[Statement], known: Mapping[str, str]) -> dict[str, str]:
    """Return `known` and all that follows from it, a statement at a time."""
    roles = dict(known)
    while (step := next_step(island, roles)) is not None:
        roles[step[1]] = step[2]
    return roles


def draw_problems(split: str, count: int, seed: int, band: str, distinct: bool = False) -> list[Problem]:
    """Draw problems of a split and band, the same ones for the same arguments; with `distinct` none twice."""
    if split not in SPLITS:
        raise ValueError(f"split = {split!r}: unknown; must be one of {', '.join(SPLITS)}")
    rng = random.Random(derive_seed(seed, "knights", split, band))
    problems: dict[str, Problem] = {}
    drawn: list[Problem] = []
    while len(drawn) < count:
        problem = draw_problem(split, band, rng)
        if not (distinct and problem.identifier in problems):
            problems[problem.identifier] = problem
            drawn.append(problem)
    return drawn
