"""Each law of the three barriers against a simulation that does not know it."""

from __future__ import annotations

import numpy as np
import pytest

from extrabitter.experiments import three_barriers as barriers
from extrabitter.experiments.search_as_optimisation import Learner, group_gradient, policy_steps
from extrabitter.experiments.three_barriers import escape_steps, escape_table, escape_times


@pytest.mark.parametrize("rival_pay", [0.0, barriers.RIVAL_PAY])
@pytest.mark.parametrize("divided", [False, True])
@pytest.mark.parametrize("start", [0.003, 0.05])
def test_plain_ascent_escapes_when_the_integral_says(start: float, rival_pay: float, divided: bool) -> None:
    learner = Learner(learning_rate=0.2, divide_by_std=divided)
    simulated = escape_times(np.array([start]), rival_pay, learner, 1, 50_000)[0, 0]
    assert simulated == pytest.approx(escape_steps(start, 0.2, rival_pay, divided), rel=0.03, abs=2)


def test_without_a_share_there_is_no_escape() -> None:
    assert escape_steps(0.0, 1.0, 0.0, divide_by_std=False) == float("inf")
    assert np.isnan(escape_times(np.array([0.0]), 0.0, Learner(), 1, 100)).all()


def test_each_law_has_its_exponent_where_the_habit_is_rare() -> None:
    slopes = barriers.escape_slopes(escape_table([1e-3, 3e-3, 1e-2], num_runs=32))
    for law, (_, _, exponent) in barriers.ESCAPES.items():
        # A logarithm's slope is small and not nought over two decades.
        assert slopes[law] == pytest.approx(exponent, abs=0.12), law


def test_a_run_that_never_escapes_counts_as_the_last_step() -> None:
    table = escape_table([1e-4], num_runs=2, max_steps=5)
    assert (table["steps"] == 5).all()


@pytest.mark.parametrize(("p", "size"), [(0.001, 8), (0.1, 4), (0.5, 8), (0.97, 16)])
def test_groups_are_informative_as_often_as_the_identity_says(p: float, size: int) -> None:
    runs, learner, rng = 40_000, Learner(num_generations=size), np.random.default_rng(1)
    gradient = group_gradient(np.full((runs, 2), 0.5), np.full((runs, 2), p), learner, rng)
    moved = (gradient != 0).any(axis=1)
    # A group can be informative and leave both shares where they are, if its two types were right equally often.
    chance = float(barriers.informative_chance(p, size))
    assert moved.mean() <= chance + 4 * np.sqrt(chance / runs)
    rewards = np.random.default_rng(2).random((runs, size)) < p
    mixed = rewards.any(axis=1) & ~rewards.all(axis=1)
    assert mixed.mean() == pytest.approx(chance, abs=4 * np.sqrt(chance / runs))


@pytest.mark.parametrize(("second", "shrinks"), [(0.53, False), (0.55, True), (0.96, True), (0.975, False)])
def test_the_rare_best_shrinks_between_the_shares_of_the_exercise(second: float, shrinks: bool) -> None:
    shares = np.array([[0.01, second, 0.99 - second]])
    steps = policy_steps(shares, barriers.THREE_PAY, Learner(learning_rate=1e-3))
    before, after = next(steps)[0, 0], next(steps)[0, 0]
    assert (after < before) == shrinks


def test_only_plain_ascent_shrinks_the_best_before_it_wins() -> None:
    table = barriers.selection_table(1_600)
    lowest = table.groupby("dynamics")["value"].min()
    assert (lowest[["replicator", "Adam, exact"]] >= barriers.THREE_SHARES[0] - 1e-9).all()
    assert (lowest[["SGD, exact", "SGD, sampled"]] < barriers.THREE_SHARES[0] / 2).all()
    last = table[table["step"] == 1_600].set_index("dynamics")["value"]
    assert (last.drop("SGD, sampled") > 0.9).all()
    assert table[(table["dynamics"] == "SGD, sampled") & (table["step"] == 300)]["num_below"].item() == 20


def test_figures_name_every_line() -> None:
    escape = barriers.escape_figure(escape_table([1e-2, 1e-1], num_runs=2, max_steps=300), "Waiting")
    assert {text.get_text() for text in escape.axes[0].texts} == set(barriers.ESCAPES)
    selection = barriers.selection_figure(barriers.selection_table(30, num_runs=2), "Shrinking")
    assert {text.get_text() for text in selection.axes[0].texts} == set(barriers.SELECTIONS)
    assert barriers.HABIT_PAY > barriers.RIVAL_PAY
