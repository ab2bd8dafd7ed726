"""Countdown problems: rules, exact solver, and splits that share no multiset of numbers.

A problem gives numbers and a target. An attempt combines all numbers, each once, two at a time, until one value is
left; it solves the problem when that value is the target. All values stay in 0..60, so that each is one word.

Attempts are listed in *step form*, without writing one computation twice:
- operands stand larger first (`9 + 7`, never `7 + 9`), so the order of commuting operands makes no difference;
- equal numbers are interchangeable (with 7 7 2 there is one `7 + 2`);
- steps that do not depend on each other appear in one order only, the lexicographically first;
- nothing is simplified further: `9 - 7 = 2 , 6 + 2 = 8` and `9 + 6 = 15 , 15 - 7 = 8` are two attempts.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, combinations_with_replacement, product
from typing import NamedTuple

from extrabitter.tasks import SupportsRandom, split_of

MIN_NUMBER = 1
MAX_NUMBER = 20
MAX_VALUE = 60
OPERATIONS = "+-*"
# Least share of the legal attempts that solve a problem of three numbers, but for rare ones. Where one attempt in
# twenty does, a search at chance needs more attempts than fit under any cap that trains in minutes.
MIN_SOLUTION_SHARE = 0.1


class Band(NamedTuple):
    """A range of difficulty: how many numbers, and what share of the attempts on them, [least, most), solves."""

    num_numbers: int
    least: float
    most: float
    meaning: str


BANDS = {
    "common": Band(3, MIN_SOLUTION_SHARE, 2.0, "three numbers; at least a tenth of the legal attempts solve"),
    "rare": Band(3, 0.0, MIN_SOLUTION_SHARE, "three numbers; fewer than a tenth of the legal attempts solve"),
    "four": Band(4, 0.0, 2.0, "four numbers"),
    "two": Band(2, 0.0, 2.0, "two numbers, for models that can hardly calculate"),
}


class Step(NamedTuple):
    """One line of arithmetic: `left operation right = result`; may be false when it was read from a model."""

    left: int
    operation: str
    right: int
    result: int

    def __str__(self) -> str:
        return f"{self.left} {self.operation} {self.right} = {self.result}"


Attempt = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """Numbers in ascending order and the target to reach with them.

    >>> Problem((6, 7, 9), 8).identifier
    '6-7-9:8'
    """

    numbers: tuple[int, ...]
    target: int

    def __post_init__(self) -> None:
        """Refuse numbers out of order: two spellings of one problem would not be equal."""
        if not self.numbers or list(self.numbers) != sorted(self.numbers):
            raise ValueError(f"numbers: {self.numbers} must be non-empty and in ascending order")

    @property
    def identifier(self) -> str:
        """Return the name used in tables."""
        return "-".join(map(str, self.numbers)) + f":{self.target}"


def read_problem(identifier: str) -> Problem:
    """Read a problem back from its identifier; ValueError where it is none."""
    numbers, _, target = identifier.partition(":")
    try:
        problem = Problem(tuple(map(int, numbers.split("-"))), int(target))
    except ValueError:
        problem = None
    if problem is None or problem.identifier != identifier:
        raise ValueError(f"problem = {identifier!r}: must be ascending numbers and a target, as in 6-7-9:8")
    return problem


def combine(left: int, operation: str, right: int) -> int | None:
    """Return the result of a step, or None where the rules have none; "/" is for steps back from the target only.

    >>> combine(9, "-", 7), combine(7, "-", 9), combine(12, "/", 5), combine(15, "*", 5)
    (2, None, None, None)
    """
    if operation == "/":
        return left // right if right > 0 and left % right == 0 else None
    result = left + right if operation == "+" else left - right if operation == "-" else left * right
    return result if 0 <= result <= MAX_VALUE else None


# Every true equation, under its number; a table of attempts stores numbers of equations, two bytes each.
EQUATIONS = tuple(
    Step(left, operation, right, result)
    for left, right, operation in product(range(MAX_VALUE + 1), range(MAX_VALUE + 1), "+-*/")
    if (result := combine(left, operation, right)) is not None
)
TRUE_EQUATIONS = frozenset(EQUATIONS)
_EQUATION_NUMBER: dict[tuple[int, str, int, int], int] = {step: n for n, step in enumerate(EQUATIONS)}


@lru_cache(maxsize=4096)
def _moves(larger: int, smaller: int) -> tuple[tuple[int, int], ...]:
    """Return (number of the equation, result) of each step on two values."""
    results = [(sign, combine(larger, sign, smaller)) for sign in OPERATIONS]
    return tuple((_EQUATION_NUMBER[larger, sign, smaller, it], it) for sign, it in results if it is not None)


@lru_cache(maxsize=8192)
def _continuations(state: tuple[int, ...]) -> tuple[tuple[tuple[int, ...], int], ...]:
    """Return (equation numbers, final value) of each way to use up `state` (ascending values)."""
    if len(state) == 1:
        return (((), state[0]),)
    first_order: dict[tuple[int, ...], tuple[tuple[int, ...], int]] = {}
    for smaller, larger in set(combinations(state, 2)):
        rest = [*state]
        rest.remove(smaller)
        rest.remove(larger)
        for equation, result in _moves(larger, smaller):
            for tail, value in _continuations(tuple(sorted((*rest, result)))):
                steps = (equation, *tail)
                key = tuple(sorted(steps))
                if key not in first_order or steps < first_order[key][0]:
                    first_order[key] = (steps, value)
    return tuple(first_order.values())


class AttemptTable:
    """All legal attempts on a multiset of at most four numbers, ascending, ordered by the value they reach.

    A table of four numbers has about 160 attempts and 1 KB, so that of every multiset fits in the cache.
    """

    __slots__ = ("_equations", "_num_steps", "values")

    def __init__(self, numbers: tuple[int, ...]) -> None:
        """List them; ValueError where there are more numbers, or any not in 0..60."""
        if len(numbers) > 4 or not all(0 <= number <= MAX_VALUE for number in numbers):
            raise ValueError(f"numbers: {numbers} must be at most 4 values in 0..{MAX_VALUE}")
        # Past the cache: the table replaces what would be kept there for `numbers` themselves.
        found = sorted(_continuations.__wrapped__(numbers), key=lambda item: (item[1], item[0]))
        self._num_steps = len(numbers) - 1
        self._equations = array("H", [equation for steps, _ in found for equation in steps])
        self.values = bytes(value for _, value in found)

    def __len__(self) -> int:
        """Return the number of attempts."""
        return len(self.values)

    def attempt(self, index: int) -> Attempt:
        """Return the steps of an attempt."""
        start = index * self._num_steps
        return tuple([EQUATIONS[number] for number in self._equations[start : start + self._num_steps]])

    def hits(self, target: int) -> range:
        """Return the indices of the attempts that reach `target`."""
        return range(bisect_left(self.values, target), bisect_right(self.values, target))


attempt_table = lru_cache(maxsize=8192)(AttemptTable)


def solve(problem: Problem) -> list[Attempt]:
    """Return all solutions in step form, each once (convention at the head of this module).

    >>> solve(Problem((2, 5), 7))
    [(Step(left=5, operation='+', right=2, result=7),)]
    """
    table = attempt_table(problem.numbers)
    return [table.attempt(index) for index in table.hits(problem.target)]


@lru_cache(maxsize=32)
def multisets(split: str, num_numbers: int) -> tuple[tuple[int, ...], ...]:
    """Return the multisets of numbers that belong to a split, whatever the target, ascending."""
    every = combinations_with_replacement(range(MIN_NUMBER, MAX_NUMBER + 1), num_numbers)
    return tuple(numbers for numbers in every if split_of("-".join(map(str, numbers))) == split)


@lru_cache(maxsize=8192)
def problem_targets(numbers: tuple[int, ...], band: Band) -> bytes:
    """Return, ascending, the targets a problem of a band may give, each as often as attempts reach it."""
    table = attempt_table(numbers)
    return bytes(v for v in table.values if band.least <= len(table.hits(v)) / len(table) < band.most)


def all_problems(split: str, band: Band) -> list[Problem]:
    """Return every problem of a split and band, ordered by numbers, then target."""
    return [
        Problem(numbers, target)
        for numbers in multisets(split, band.num_numbers)
        for target in sorted(set(problem_targets(numbers, band)))
    ]


def draw_problem(split: str, band: str, rng: SupportsRandom) -> Problem:
    """Draw a uniform multiset of the split that has such a target, and as target the value of a uniform attempt on it.

    So every problem has a solution, and targets that many attempts reach are frequent.
    """
    choices = multisets(split, BANDS[band].num_numbers)
    while True:
        numbers = choices[int(rng.random() * len(choices))]
        if values := problem_targets(numbers, BANDS[band]):
            return Problem(numbers, values[int(rng.random() * len(values))])


def num_distinct(split: str, band: str, count: int) -> int:
    """Return how many problems there are, or of how many multisets where these are enough: counting takes long."""
    num_multisets = len(multisets(split, BANDS[band].num_numbers))
    # All but rare ones have a target on each multiset.
    is_enough = band != "rare" and count <= num_multisets
    return num_multisets if is_enough else len(all_problems(split, BANDS[band]))
