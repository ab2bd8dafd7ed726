"""The small search problem, and policies on it, against what is known without them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extrabitter.experiments import search_as_optimisation as search
from extrabitter.experiments.search_as_optimisation import Learner, group_gradient, policy_steps

logit_rows = st.lists(st.floats(-3, 3), min_size=2, max_size=6)


@pytest.mark.parametrize("prime", [5, 7, 23])
def test_half_of_all_instances_have_two_roots_and_the_score_is_one_just_there(prime: int) -> None:
    problem = search.square_roots(prime)
    assert problem.relation.shape == problem.score.shape == (prime - 1, prime)
    assert sorted(problem.relation.sum(axis=1)) == [0] * ((prime - 1) // 2) + [2] * ((prime - 1) // 2)
    for x, y in np.argwhere(problem.relation):
        assert (y * y - (x + 1)) % prime == 0
    assert ((problem.score == 1) == problem.relation).all()
    assert problem.score.min() >= 0


@given(logit_rows, st.data())
@settings(max_examples=40, deadline=None)
def test_the_policy_gradient_is_the_derivative_of_the_reward(row: list[float], data: st.DataObject) -> None:
    logits = np.array(row)
    pay = np.array(data.draw(st.lists(st.floats(0, 1), min_size=len(row), max_size=len(row))))
    step = 1e-6 * np.eye(len(row))
    ends = [(search.softmax(logits + sign * step) * pay).sum(axis=1) for sign in (1, -1)]
    slope = pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-7)
    assert search.policy_gradient(search.softmax(logits), pay) == slope


@pytest.mark.parametrize("divide_by_std", [False, True])
def test_groups_estimate_the_exact_gradient_up_to_a_factor(divide_by_std: bool) -> None:
    shares, pay = np.array([0.2, 0.5, 0.3]), np.array([0.9, 0.4, 0.1])
    learner = Learner(num_generations=8, divide_by_std=divide_by_std)
    rng = np.random.default_rng(0)
    drawn = group_gradient(np.tile(shares, (200_000, 1)), np.tile(pay, (200_000, 1)), learner, rng)
    ratio = drawn.mean(axis=0) / search.policy_gradient(shares, pay)
    assert ratio == pytest.approx(np.full(3, ratio.mean()), rel=0.05)
    # Without division the factor is 1 - 1/G, since a group's mean holds the completion itself.
    assert ratio.mean() == pytest.approx(7 / 8, rel=0.02) if not divide_by_std else ratio.mean() > 1.5


@pytest.mark.parametrize("pay", [0.0, 1.0])
def test_a_group_that_is_all_right_or_all_wrong_moves_nothing(pay: float) -> None:
    learner, rng = Learner(divide_by_std=True), np.random.default_rng(0)
    assert (group_gradient(np.array([[0.4, 0.6]]), np.full((1, 2), pay), learner, rng) == 0).all()


@pytest.mark.parametrize(
    "learner", [Learner(), Learner("adam", 0.1), Learner(sampled=True), Learner("replicator")]
)
def test_what_has_no_share_never_gets_one(learner: Learner) -> None:
    steps = policy_steps(np.array([[0.0, 0.7, 0.3]]), np.array([1.0, 0.4, 0.2]), learner)
    for _ in range(200):
        shares = next(steps)
        assert shares[0, 0] == 0
        assert shares.sum() == pytest.approx(1)


def test_the_replicator_grows_by_advantage() -> None:
    shares, pay = np.array([[0.01, 0.99]]), np.array([1.0, 0.0])
    steps = policy_steps(shares, pay, Learner("replicator", 0.1))
    first, second = next(steps), next(steps)
    growth = np.log(second / first)[0]
    assert growth[0] - growth[1] == pytest.approx(0.1)


def test_adam_takes_first_steps_of_its_rate_whatever_the_gradient() -> None:
    for pay in (1.0, 1e-3):
        steps = policy_steps(np.array([[0.1, 0.9]]), np.array([pay, 0.0]), Learner("adam", 0.02))
        first, second = next(steps), next(steps)
        moved = np.log(second / first)[0]
        assert moved[0] - moved[1] == pytest.approx(0.04, rel=1e-3)


def test_from_no_share_only_the_list_finds_the_root() -> None:
    race = search.race_table(search.square_roots(7), 0, [0.3, 0.0], [8, 64, 2048], num_runs=8)
    last = race[race["num_scored"] == 2048].set_index(["start", "way"])["value"]
    assert (last[0.3] > 0.95).all()
    ways = race.pivot(index=["start", "num_scored"], columns="way", values="value")
    assert (ways["a list"] >= ways["blind draws"] - 1e-9).all(), "it repeats nothing"
    assert last[0.0]["a list"] == 1 and (last[0.0].drop("a list") == 0).all()
    assert ((race["lower"] <= race["value"] + 1e-9) & (race["value"] <= 1)).all()


def test_figures_say_their_message_and_name_what_stays_at_nought() -> None:
    problem = search.square_roots(7)
    race = search.race_table(problem, 0, [0.3, 0.0], [8, 64], num_runs=2)
    fig = search.race_figure(race, "Only the list")
    written = [text.get_text() for axes in fig.axes for text in axes.texts]
    assert "all at 0: blind draws, exact policy gradient, sampled GRPO" in written
    assert fig.get_suptitle() == "Only the list"
    assert len(search.problem_figure(problem, problem.score, "Three times").axes) == 3
