"""Countdown's rules, solver and splits."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import permutations, product
from random import Random

import pytest

from extrabitter.tasks.countdown.problems import (
    MAX_VALUE,
    MIN_SOLUTION_SHARE,
    SPLITS,
    Attempt,
    Problem,
    Step,
    all_problems,
    attempt_table,
    combine,
    generate_problems,
    multisets,
    solve,
    split_of,
)


def brute_force(numbers: tuple[int, ...], operations: str) -> dict[tuple[Step, ...], int]:
    """Every legal computation and its value, by trying all ordered pairs of positions at every step."""
    found: dict[tuple[Step, ...], int] = {}

    def explore(left: list[int], steps: list[Step]) -> None:
        if len(left) == 1:
            found[tuple(sorted(steps))] = left[0]
            return
        for i, j in permutations(range(len(left)), 2):
            for operation in operations:
                a, b = left[i], left[j]
                if (operation == "/" and b == 0) or (operation in "+*" and a < b):
                    continue
                exact = {"+": a + b, "-": a - b, "*": a * b, "/": Fraction(a, b or 1)}[operation]
                if exact.denominator == 1 and 0 <= exact <= MAX_VALUE:
                    rest = [value for position, value in enumerate(left) if position not in (i, j)]
                    explore([*rest, int(exact)], [*steps, Step(a, operation, b, int(exact))])

    explore(list(numbers), [])
    return found


def key(attempt: Attempt) -> tuple[Step, ...]:
    return tuple(sorted(attempt))


@pytest.mark.parametrize("operations", ["+-*", "+-*/"])
def test_solver_finds_every_solution_of_three_numbers_exactly_once(operations: str) -> None:
    for split in SPLITS:
        for numbers in multisets(split, 3)[:: 1 if operations == "+-*" else 4]:
            expected = brute_force(numbers, operations)
            table = attempt_table(numbers, operations)
            found = [key(table.attempt(index)) for index in range(len(table))]
            assert sorted(found) == sorted(expected)
            for target in set(expected.values()):
                solutions = solve(Problem(numbers, target), operations)
                assert {key(attempt) for attempt in solutions} == {
                    k for k, v in expected.items() if v == target
                }


@pytest.mark.parametrize("operations", ["+-*", "+-*/"])
def test_solver_finds_every_solution_of_four_numbers_exactly_once(operations: str) -> None:
    chosen = Random(0).sample(multisets("train", 4), 25)
    for numbers in [*chosen, (1, 1, 1, 1), (7, 7, 7, 2)[::-1], (2, 4, 6, 6)]:
        numbers = tuple(sorted(numbers))
        expected = brute_force(numbers, operations)
        table = attempt_table(numbers, operations)
        found = {key(table.attempt(index)): table.values[index] for index in range(len(table))}
        assert len(table) == len(expected)
        assert found == expected


def test_every_listed_attempt_follows_the_rules_in_the_order_it_is_written() -> None:
    for numbers in [*multisets("validation", 3), *multisets("validation", 4)[::10]]:
        table = attempt_table(numbers)
        for index in range(len(table)):
            left = list(numbers)
            for step in table.attempt(index):
                left.remove(step.left)
                left.remove(step.right)
                assert step.left >= step.right
                assert combine(step.left, step.operation, step.right) == step.result
                left.append(step.result)
            assert left == [table.values[index]]


def test_independent_steps_and_equal_numbers_are_listed_in_one_way_only() -> None:
    solutions = solve(Problem((1, 2, 3, 4), 21))
    assert len({key(attempt) for attempt in solutions}) == len(solutions)
    assert sum(sorted(s.result for s in attempt) == [3, 7, 21] for attempt in solutions) == 1
    assert solve(Problem((7, 7), 14)) == [(Step(7, "+", 7, 14),)]


def test_solutions_are_none_for_a_target_out_of_reach() -> None:
    assert solve(Problem((1, 1, 1), 60)) == []


def test_exact_division_is_an_option_of_the_solver() -> None:
    assert solve(Problem((3, 12), 4)) == []
    assert solve(Problem((3, 12), 4), "+-*/") == [(Step(12, "/", 3, 4),)]
    assert solve(Problem((5, 12), 2), "+-*/") == []


def test_no_multiset_of_numbers_is_in_two_splits() -> None:
    for num_numbers in (2, 3, 4):
        sets = [set(multisets(split, num_numbers)) for split in SPLITS]
        assert sum(map(len, sets)) == len(set().union(*sets))
    drawn = {split: {p.numbers for p in generate_problems(split, 3000, 5)} for split in SPLITS}
    for first, second in product(SPLITS, repeat=2):
        assert first == second or not drawn[first] & drawn[second]


def test_splits_have_their_nominal_shares_and_never_move() -> None:
    total = sum(len(multisets(split, 4)) for split in SPLITS)
    for split, share in SPLITS.items():
        assert len(multisets(split, 4)) / total == pytest.approx(share, abs=0.02)
    # A change of the hash would move problems that shipped models were trained on into the test split.
    assert " ".join(split_of((1, 2, n))[:2] for n in range(2, 12)) == "tr va tr te te va tr tr te te"
    assert split_of((9, 6, 7)) == split_of((6, 7, 9))


def test_problems_depend_on_seed_split_and_size_and_on_nothing_else() -> None:
    first = generate_problems("train", 50, 7)
    assert first == generate_problems("train", 50, 7)
    assert first == generate_problems("train", 80, 7)[:50]
    assert first != generate_problems("train", 50, 8)
    assert len({p.identifier for p in first} & {p.identifier for p in generate_problems("train", 50, 8)}) < 10
    assert {len(p.numbers) for p in generate_problems("test", 20, 7, num_numbers=4)} == {4}


def test_every_problem_keeps_to_the_rules_and_has_a_solution() -> None:
    for num_numbers in (2, 3, 4):
        for problem in generate_problems("validation", 300, 0, num_numbers):
            assert all(1 <= number <= 20 for number in problem.numbers)
            assert list(problem.numbers) == sorted(problem.numbers)
            assert 0 <= problem.target <= MAX_VALUE
            assert solve(problem)


def test_targets_come_as_often_as_attempts_reach_them() -> None:
    problems = generate_problems("validation", 20_000, 1)
    choices = multisets("validation", 3)
    expected = Counter()
    for numbers in choices:
        reached = Counter(attempt_table(numbers).values)
        frequent = {value: count for value, count in reached.items() if count >= 0.1 * reached.total()}
        expected.update({value: count / sum(frequent.values()) for value, count in frequent.items()})
    counts = Counter(problem.target for problem in problems)
    for target, weight in expected.items():
        share = weight / len(choices)
        assert abs(counts[target] / 20_000 - share) < 5 * (share / 20_000) ** 0.5


def test_distinct_problems_are_distinct_up_to_the_whole_split() -> None:
    every = all_problems("validation", 3)
    drawn = generate_problems("validation", len(every), 3, distinct=True)
    assert set(drawn) == set(every)
    with pytest.raises(ValueError, match=f"count: {len(every) + 1} must be <= {len(every)}"):
        generate_problems("validation", len(every) + 1, 3, distinct=True)


def test_rare_problems_are_those_that_all_others_leave_out() -> None:
    rare, common = (set(all_problems("validation", 3, rare)) for rare in (True, False))
    drawn = generate_problems("validation", len(rare), 3, distinct=True, rare=True)
    assert set(drawn) == rare and not rare & common
    assert {p.numbers for p in rare} <= set(multisets("validation", 3))
    for problem in rare:
        assert 0 < len(solve(problem)) < MIN_SOLUTION_SHARE[3] * len(attempt_table(problem.numbers))
    with pytest.raises(
        ValueError, match=r"count: 5 must be <= 0 \(4-number problems of test, solutions rare\)"
    ):
        generate_problems("test", 5, 0, num_numbers=4, rare=True)


def test_identifiers_name_problems_and_read_back() -> None:
    for problem in all_problems("validation", 3):
        assert Problem.from_identifier(problem.identifier) == problem


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Problem((9, 6, 7), 8), "ascending"),
        (lambda: Problem((), 8), "non-empty"),
        (
            lambda: generate_problems("dev", 1, 0),
            "split: unknown 'dev'; must be one of train, validation, test",
        ),
        (lambda: generate_problems("test", 1, 0, num_numbers=7), r"num_numbers: 7 must be in 2\.\.4"),
        (lambda: solve(Problem((100, 200), 300)), r"values in 0\.\.60"),
    ],
)
def test_what_is_not_a_problem_is_refused_by_name(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
