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

import operator
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations, permutations, product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from extrabitter.tasks import split_of

NAMES = "ABCDEFGHIJKL"
ROLES = ("knight", "knave")
# In a problem's name; roles are + and -.
SIGNS = {"same": "=", "differs": "!", "and": "&", "or": "|", "if": ">"}
LINEAR = ("is", "same", "differs")
MAX_DISTINCT = 5_000  # problems; names included, the smallest split of the smallest band has more
MAX_ISLAND = 8  # people; solutions are found by going through all 2 ** 8
# How many roles may follow from two statements alone. Of three people two always do; of four, a limit of one would
# leave 60 structures of 302, few enough to be learnt by heart.
MAX_PAIRED = {3: 2, 4: 2, 5: 1}
_RELATIONS = ("is", *SIGNS)
_CLAIMS = {
    "same": operator.eq,
    "differs": operator.ne,
    "and": operator.and_,
    "or": operator.or_,
    "if": operator.ge,
}
_STATEMENT = re.compile(r"([A-L]):([A-L])(?:([+-])|([=!&|>])([A-L]))")


class Statement(NamedTuple):
    """What one person says: "A says B same C" is ("A", "B", "same", "C"), "A says B is knave" ends in a role."""

    speaker: str
    subject: str
    relation: str
    other: str

    @property
    def people(self) -> tuple[str, ...]:
        """Return the speaker and those it is about."""
        return self[:2] if self.relation == "is" else (self.speaker, self.subject, self.other)

    def fits(self, roles: Mapping[str, str]) -> bool:
        """Return whether the speaker, being what `roles` says, could say this; `roles` holds all its people."""
        if self.relation == "is":
            claimed = roles[self.subject] == self.other
        else:
            claimed = _CLAIMS[self.relation](roles[self.subject] == "knight", roles[self.other] == "knight")
        return claimed == (roles[self.speaker] == "knight")

    def renamed(self, new: Mapping[str, str]) -> Statement:
        """Return the statement with other names."""
        return Statement(new[self.speaker], new[self.subject], self.relation, new.get(self.other, self.other))

    def turned(self, descending: bool = False) -> Statement:
        """Return it with the two it is about in the order of the alphabet, or against it, if both say the same."""
        turns = self.relation not in ("is", "if") and (self.subject < self.other) == descending
        return Statement(self.speaker, self.other, self.relation, self.subject) if turns else self

    def __str__(self) -> str:
        return f"{self.speaker} says {self.subject} {self.relation} {self.other}"


Island = tuple[Statement, ...]


@dataclass(frozen=True)
class Problem:
    """A puzzle: its statements, in the order in which they are told."""

    statements: Island

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
    def islands(self) -> tuple[Island, ...]:
        """Return the statements of each group of people that speak of each other only, by its first speaker."""
        group = {name: name for name in self.people}
        for statement in self.statements:
            for name in statement.people[1:]:
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
        """Return every consistent assignment of roles to people, found island by island."""
        found: list[dict[str, str]] = [{}]
        for island in self.islands:
            own = [r for r in assignments([s.speaker for s in island]) if all(s.fits(r) for s in island)]
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
        match = _STATEMENT.fullmatch(part)
        if not match:
            raise ValueError(f"problem {identifier!r}: {part!r} is no statement")
        speaker, subject, role, sign, other = match.groups()
        relation, other = ("is", ROLES["+-".index(role)]) if role else (relations[sign], other)
        statements.append(Statement(speaker, subject, relation, other))
    problem = Problem(tuple(statements))
    named = {name for statement in statements for name in statement.people}
    if sorted(problem.people) != sorted(named) or any(len({*s.people}) < len(s.people) for s in statements):
        raise ValueError(f"problem {identifier!r}: everybody must speak once, and of others")
    if max(map(len, problem.islands)) > MAX_ISLAND:
        raise ValueError(f"problem {identifier!r}: more than {MAX_ISLAND} people on an island")
    return problem


def assignments(names: Sequence[str]) -> list[dict[str, str]]:
    """Return every way to give people roles."""
    return [dict(zip(names, roles, strict=True)) for roles in product(ROLES, repeat=len(names))]


@lru_cache(maxsize=4096)
def allowed(statement: Statement, names: str) -> int:
    """Return which of the names' assignments a statement allows, a bit each."""
    return sum(1 << bit for bit, roles in enumerate(assignments(names)) if statement.fits(roles))


@lru_cache(maxsize=32768)
def canonical_form(island: Island) -> str:
    """Return the same words for all ways to name an island's people and to order its statements, and for no others.

    Each statement is a number, at the place of its speaker; of all namings the one whose numbers come first.
    """
    place = {statement.speaker: index for index, statement in enumerate(island)}
    namings = _permutations(len(island))  # (n!, n)
    rows = np.empty_like(namings)
    for speaker, subject, relation, other in island:
        first = namings[:, place[subject]]
        last = namings[:, place[other]] if other in place else ROLES.index(other)
        if relation not in ("is", "if"):  # what is said of two is the same the other way round
            first, last = np.minimum(first, last), np.maximum(first, last)
        code = (_RELATIONS.index(relation) * MAX_ISLAND + first) * MAX_ISLAND + last
        rows[np.arange(len(rows)), namings[:, place[speaker]]] = code
    for column in range(len(island)):
        rows = rows[rows[:, column] == rows[:, column].min()]
    return " ".join(map(str, rows[0]))


@lru_cache
def _permutations(count: int) -> NDArray[np.int64]:
    """Return every order of `count` places, (count!, count)."""
    return np.array(list(permutations(range(count))))


def settles(statement: Statement, known: Mapping[str, str]) -> dict[str, str]:
    """Return the roles, not known yet, in which all ways agree to complete `known` that a statement allows."""
    unknown = [name for name in statement.people if name not in known]
    if len(unknown) > (1 if statement.relation in LINEAR else 2):
        return {}
    fitting = [more for more in assignments(unknown) if statement.fits({**known, **more})]
    return {name: fitting[0][name] for name in unknown if len({more[name] for more in fitting}) == 1}


def next_step(island: Sequence[Statement], known: Mapping[str, str]) -> tuple[Statement, str, str] | None:
    """Return the first statement that settles somebody unknown, who that is, and the role; None where none does."""
    return next(((s, name, role) for s in island for name, role in settles(s, known).items()), None)


def closure(island: Sequence[Statement], known: Mapping[str, str]) -> dict[str, str]:
    """Return `known` and all that follows from it, a statement at a time."""
    roles = dict(known)
    while (step := next_step(island, roles)) is not None:
        roles[step[1]] = step[2]
    return roles


def ordered(island: Sequence[Statement], rng: random.Random) -> Island | None:
    """Return the statements in an order in which each adds one person and the last none; None where there is none."""
    for first in rng.sample(list(island), len(island)):
        known, order, left = {*first.people}, [first], [s for s in island if s != first]
        while first.relation == "is" and left:
            useful = [s for s in left if len({*s.people} - known) == (0 if len(left) == 1 else 1)]
            if not useful:
                break
            order.append(rng.choice(useful))
            left.remove(order[-1])
            known.update(order[-1].people)
        else:
            if not left:
                return tuple(order)
    return None


def num_paired(island: Island, names: str) -> int:
    """Return how many roles follow from two of the statements alone."""
    left = [allowed(first, names) & allowed(second, names) for first, second in combinations(island, 2)]
    # Of the assignments that a pair leaves, all or none have a person a knight.
    return sum(any(ways and ways & knight in (0, ways) for ways in left) for knight in _knights(names))


@lru_cache
def _knights(names: str) -> tuple[int, ...]:
    """Return of each person which assignments have them a knight, a bit each."""
    every = assignments(names)
    return tuple(
        sum(1 << bit for bit, roles in enumerate(every) if roles[name] == "knight") for name in names
    )


def statements_of(speaker: str, names: str, relations: Sequence[str] = LINEAR) -> list[Statement]:
    """Return all that one of `names` can say about others."""
    others = [name for name in names if name != speaker]
    said = [Statement(speaker, name, "is", role) for name in others for role in ROLES]
    pairs = product([relation for relation in relations if relation != "is"], combinations(others, 2))
    return said + [Statement(speaker, first, relation, second) for relation, (first, second) in pairs]


class Band(NamedTuple):
    """A range of difficulty: `meaning` on pages, people on each island (one of several choices), kind of statements."""

    meaning: str
    choices: tuple[tuple[int, ...], ...]
    kind: str = "ordered"


BANDS = {
    "islands": Band("one island of four or five people, or two of four", ((4,), (5,), (4, 4))),
    "people3": Band("one island of three people", ((3,),)),
    "people4": Band("one island of four people", ((4,),)),
    "people5": Band("one island of five people", ((5,),)),
    "islands33": Band("two islands of three people", ((3, 3),)),
    "islands34": Band("an island of three people and one of four", ((3, 4),)),
    "islands44": Band("two islands of four people", ((4, 4),)),
    "islands45": Band("an island of four people and one of five", ((4, 5),)),
    "islands333": Band("three islands of three people", ((3, 3, 3),)),
    "islands444": Band("three islands of four people", ((4, 4, 4),)),
    "free": Band("four people, statements in any order behind the first", ((4,),), "free"),
    "mixed": Band("three people and four, the islands' statements interleaved", ((3, 4),), "mixed"),
    "nested": Band("five people, of whom no one's role settles all others'", ((5,),), "nested"),
    "logic": Band("four people, statements with and, or and if among them", ((4,),), "logic"),
}


def draw_problem(split: str, band: str, rng: random.Random) -> Problem:
    """Draw a problem: a choice of the band, islands of the split, and names for everybody."""
    _, choices, kind = BANDS[band]
    sizes = list(rng.choice(choices))
    rng.shuffle(sizes)
    islands = draw_islands(split, sizes, kind, rng)
    if kind == "mixed":
        left = [list(island) for island in islands]
        turns = rng.sample([own for own in left for _ in own], sum(sizes))
        return Problem(tuple(own.pop(0) for own in turns))  # each island keeps its order
    return Problem(tuple(statement for island in islands for statement in island))


def draw_islands(split: str, sizes: Sequence[int], kind: str, rng: random.Random) -> list[Island]:
    """Draw islands with so many people, whose structures are of the split, all with names of their own."""
    names = iter(rng.sample(NAMES, sum(sizes)))
    islands = []
    for size in sizes:
        new = dict(zip(NAMES[:size], names))  # noqa: B905  (takes as many as it needs)
        drawn = _draw_island(split, NAMES[:size], kind, rng)
        islands.append(tuple(s.renamed(new).turned(descending=rng.random() < 0.5) for s in drawn))
    return islands


def _draw_island(split: str, names: str, kind: str, rng: random.Random) -> Island:
    """Draw statements uniformly until they are of the kind and the split."""
    relations = (*LINEAR, "and", "or", "if") if kind == "logic" else LINEAR
    choices = [statements_of(speaker, names, relations) for speaker in names]
    while True:
        drawn = tuple(said[int(rng.random() * len(said))] for said in choices)
        if not _is_of(drawn, names, kind) or split_of(canonical_form(drawn)) != split:
            continue
        if kind in ("logic", "nested"):
            return (drawn[0], *rng.sample(drawn[1:], len(drawn) - 1))
        if (order := ordered(drawn, rng)) is not None:
            return order if kind != "free" else (order[0], *rng.sample(order[1:], len(order) - 1))


@lru_cache(maxsize=32768)  # more than there are ways for four people to make linear statements
def _is_of(drawn: Island, names: str, kind: str) -> bool:
    """Return whether statements have one solution and, but for their order, are of the kind."""
    left = (1 << 2 ** len(drawn)) - 1
    for statement in drawn:
        left &= allowed(statement, names)
    if left == 0 or left & (left - 1):
        return False
    if kind == "logic":
        return any(statement.relation not in LINEAR for statement in drawn)
    if kind == "nested":
        settled = [_num_settled(drawn, name) for name in names]
        return settled[0] > 1 and max(settled) < len(names)
    return num_paired(drawn, names) <= MAX_PAIRED[len(names)]


def _num_settled(statements: Island, first: str) -> int:
    """Return how many people linear statements settle, a person each, once `first` is known: whatever is assumed."""
    known = {first}
    while new := [unknown for s in statements if len(unknown := {*s.people} - known) == 1]:
        known |= new[0]
    return len(known)
