"""Every closed form of the theory chapter against a simulation that does not know it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extrabitter.experiments.dynamics import (
    Learner,
    exact_gradient,
    log_log_slope,
    policy_steps,
    sampled_gradient,
    simulated_escape_steps,
    softmax,
)
from extrabitter.statistics import pass_at_k
from extrabitter.experiments.success_map import (
    solve_inner_loop,
    success_map,
    success_map_fixed_points,
    success_map_slope,
)
from extrabitter.experiments.theory import (
    adam_kick,
    chance_of_a_hit,
    escape_steps,
    exhaustive_chance_of_a_hit,
    expected_reward_gradient,
    group_gain,
    informative_group_probability,
    replicator_growth,
    sign_ascent_steps,
    softmax_growth,
)
from extrabitter.experiments.theory_figures import (
    escape_figure,
    four_ways_figure,
    group_figure,
    selection_figure,
    success_map_figure,
)
from extrabitter.experiments.theory_tables import (
    THREE_PAY,
    THREE_SHARES,
    death_table,
    escape_tables,
    four_ways_table,
    group_table,
    selection_table,
    starting_shares,
    success_map_table,
)

chances = st.floats(0.01, 0.99)


@st.composite
def policies(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Return shares of 2 to 6 types, none negligible, and their pay."""
    size = draw(st.integers(2, 6))
    weights = np.array(draw(st.lists(st.floats(0.05, 1), min_size=size, max_size=size)))
    pay = np.array(draw(st.lists(st.floats(0, 1), min_size=size, max_size=size)))
    return weights / weights.sum(), pay


@settings(max_examples=20, deadline=None)
@given(chances, st.integers(1, 16), st.integers(0, 2**31))
def test_chance_of_a_hit_is_the_frequency_of_a_hit(p: float, draws: int, seed: int) -> None:
    hits = (np.random.default_rng(seed).random((20_000, draws)) < p).any(axis=1)
    assert abs(hits.mean() - chance_of_a_hit(p, draws)) < 0.018


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 40), st.data())
def test_exhaustive_search_draws_without_replacement(total: int, data: st.DataObject) -> None:
    solutions = data.draw(st.integers(1, total))
    draws = data.draw(st.integers(0, total))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    found = rng.permuted(np.tile(np.arange(total) < solutions, (4_000, 1)), axis=1)[:, :draws].any(axis=1)
    assert abs(found.mean() - exhaustive_chance_of_a_hit(total, solutions, draws)) < 0.04
    assert draws == 0 or exhaustive_chance_of_a_hit(total, solutions, draws) == pytest.approx(
        pass_at_k(total, solutions, draws)
    )


def test_pass_at_k_is_unbiased_for_the_chance_of_a_hit() -> None:
    rng = np.random.default_rng(1)
    for p, samples, k in ((0.02, 32, 8), (0.3, 16, 4), (0.6, 8, 8)):
        correct = rng.binomial(samples, p, size=20_000)
        value_of = np.array([pass_at_k(samples, c, k) for c in range(samples + 1)])
        estimates = value_of[correct]
        assert abs(estimates.mean() - chance_of_a_hit(p, k)) < 4 * estimates.std() / np.sqrt(len(estimates))


@settings(max_examples=20, deadline=None)
@given(chances, st.integers(2, 64), st.integers(0, 2**31))
def test_informative_groups_are_as_frequent_as_the_binomial_says(p: float, size: int, seed: int) -> None:
    right = np.random.default_rng(seed).binomial(size, p, size=40_000)
    share = ((right > 0) & (right < size)).mean()
    assert abs(share - informative_group_probability(p, size)) < 0.013


@settings(max_examples=30, deadline=None)
@given(policies())
def test_the_gradient_is_the_slope_of_expected_reward(policy: tuple[np.ndarray, np.ndarray]) -> None:
    shares, pay = policy
    logits, width = np.log(shares), 1e-5
    nudges = width * np.eye(len(shares))
    slopes = (softmax(logits + nudges) @ pay - softmax(logits - nudges) @ pay) / (2 * width)
    np.testing.assert_allclose(slopes, expected_reward_gradient(shares, pay), atol=1e-8)


@settings(max_examples=30, deadline=None)
@given(policies())
def test_one_small_step_grows_each_share_as_its_law_says(policy: tuple[np.ndarray, np.ndarray]) -> None:
    shares, pay = policy
    rate = 1e-6
    for learner, growth in (
        (Learner("replicator", rate), replicator_growth),
        (Learner("sgd", rate), softmax_growth),
    ):
        steps = policy_steps(shares[None, :], pay, learner)
        before, after = next(steps)[0], next(steps)[0]
        observed = np.log(after / before) / rate
        # a common shift of the logits changes no share: only differences of replicator growth are observable
        expected = growth(shares, pay)
        np.testing.assert_allclose(
            observed, expected - (0 if learner.update == "sgd" else shares @ expected), atol=1e-5
        )


@pytest.mark.parametrize("divide_by_std", [False, True])
@pytest.mark.parametrize("num_generations", [2, 8, 32])
def test_grpo_is_on_average_the_exact_gradient_times_the_group_gain(
    divide_by_std: bool, num_generations: int
) -> None:
    shares, pay = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.9, 0.0, 0.3, 0.1])
    learner = Learner(
        sampled=True, divide_by_std=divide_by_std, num_generations=num_generations, num_groups=500
    )
    rng = np.random.default_rng(2)
    draws = sampled_gradient(np.tile(shares, (200, 1)), pay, learner, rng)
    error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    expected = group_gain(shares @ pay, num_generations, divide_by_std) * exact_gradient(shares, pay, False)
    # dividing adds TRL's 1e-4 to the deviation, at most 2e-4 of it here
    assert (np.abs(draws.mean(axis=0) - expected) < 4.5 * error + 1e-3 * np.abs(expected)).all()


def test_the_gain_of_dividing_approaches_one_over_std_in_large_groups_only() -> None:
    assert group_gain(0.2, 2000, True) == pytest.approx(1 / np.sqrt(0.16), rel=1e-2)
    assert group_gain(1e-6, 8, True) == pytest.approx(7 / np.sqrt(8), rel=1e-3)
    assert 1 / np.sqrt(1e-6) > 100 * group_gain(1e-6, 8, True)


@settings(max_examples=15, deadline=None)
@given(st.floats(0.002, 0.1), st.floats(0.3, 1), st.floats(0, 0.25), st.booleans())
def test_exact_ascent_escapes_when_the_integral_says(
    start: float, pay: float, rival: float, divide_by_std: bool
) -> None:
    rate = 0.2
    expected = escape_steps(start, rate, pay, rival, divide_by_std)
    learner = Learner("sgd", rate, divide_by_std=divide_by_std)
    payoff = np.array([pay, rival])
    steps = simulated_escape_steps(np.array([start]), payoff, learner, 1, int(2 * expected) + 50, seed=0)
    assert steps[0, 0] == pytest.approx(expected, rel=0.05, abs=3)


def test_sampled_escape_follows_the_mean_drift_when_batches_are_large() -> None:
    learner = Learner("sgd", 0.5, sampled=True, divide_by_std=True, num_groups=64)
    steps = simulated_escape_steps(np.array([0.01, 0.05]), np.array([0.43, 0.17]), learner, 20, 2_000, seed=3)
    expected = [escape_steps(p, 0.5, 0.43, 0.17, True, num_generations=8) for p in (0.01, 0.05)]
    np.testing.assert_allclose(steps.mean(axis=1), expected, rtol=0.07)


def test_a_behaviour_without_support_never_escapes() -> None:
    assert escape_steps(0.0, 0.5, 1.0, 0.0, divide_by_std=True) == float("inf")
    for learner in (Learner("replicator"), Learner("sgd"), Learner("adam")):
        steps = policy_steps(np.array([[0.0, 1.0]]), np.array([1.0, 0.2]), learner)
        assert all(next(steps)[0, 0] == 0 for _ in range(200))
    sampled = Learner("adam", sampled=True, divide_by_std=True)
    steps = policy_steps(np.array([[0.0, 1.0]]), np.array([1.0, 0.2]), sampled, np.random.default_rng(0))
    assert all(next(steps)[0, 0] == 0 for _ in range(200))


def test_slopes_are_one_by_rule_and_a_half_under_four_conditions() -> None:
    starts = np.array([1e-5, 1e-4, 1e-3])
    for std, rival, exponent in ((False, 0.0, -1), (False, 0.17, -1), (True, 0.17, -1), (True, 0.0, -0.5)):
        times = np.array([[escape_steps(p, 0.1, 0.43, rival, std)] for p in starts])
        assert log_log_slope(starts, times)[0] == pytest.approx(exponent, abs=0.02)
    sampled = np.array([[escape_steps(p, 0.1, 0.43, 0.0, True, num_generations=8)] for p in starts])
    assert log_log_slope(starts, sampled)[0] == pytest.approx(-1, abs=0.02)


def test_exact_adam_stays_under_the_sign_ascent_bound_and_grows_slower_than_any_power() -> None:
    starts = np.array([1e-5, 1e-3, 1e-1])
    times = simulated_escape_steps(starts, np.array([0.43, 0.17]), Learner("adam", 0.02), 1, 1_000, seed=0)
    bounds = np.array([sign_ascent_steps(p, 0.02) for p in starts])
    assert (times[:, 0] <= bounds).all()
    assert times[0, 0] / times[1, 0] < 1.5


def test_one_lone_gradient_kicks_adam_as_far_as_the_sum_says() -> None:
    rate, first, second, moved = 0.01, 0.0, 0.0, 0.0
    for step in range(1, 25_000):
        gradient = 3e-3 if step == 20_000 else 0.0
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        moved += rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    assert moved == pytest.approx(adam_kick(rate), rel=1e-3)


@settings(max_examples=15, deadline=None)
@given(st.floats(0.02, 0.9), st.floats(0.02, 0.98), st.floats(1, 10), st.integers(0, 2**31))
def test_a_converged_inner_loop_lands_on_the_map(
    reference_mass: float, old_mass: float, beta: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    is_solution = np.arange(12) < 3
    split = np.where(is_solution, rng.dirichlet(np.ones(12)), rng.dirichlet(np.ones(12)))
    split = split / np.where(is_solution, split[:3].sum(), split[3:].sum())
    reference = split * np.where(is_solution, reference_mass, 1 - reference_mass)
    old = starting_shares(is_solution, old_mass)
    solved = solve_inner_loop(old, reference, is_solution.astype(float), beta)
    assert solved[is_solution].sum() == pytest.approx(success_map(old_mass, reference_mass, beta), abs=1e-4)
    np.testing.assert_allclose(solved[:3] / solved[:3].sum(), reference[:3] / reference[:3].sum(), atol=1e-3)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.001, 0.9), st.floats(0.3, 20))
def test_fixed_points_stay_fixed_exceed_the_reference_and_attract_as_the_slope_says(
    reference: float, beta: float
) -> None:
    points = success_map_fixed_points(reference, beta)
    assert points
    for point in points:
        assert point >= reference
        if point < 1 - 1e-6:
            assert success_map(point, reference, beta) == pytest.approx(point, abs=1e-7)
            numeric = (
                success_map(point + 1e-7, reference, beta) - success_map(point - 1e-7, reference, beta)
            ) / 2e-7
            assert success_map_slope(point, reference, beta) == pytest.approx(numeric, rel=1e-2, abs=1e-4)


def test_the_map_keeps_zero_at_zero_and_can_oscillate() -> None:
    assert success_map_fixed_points(0.0, 1.0) == [0.0]
    point = success_map_fixed_points(1e-4, 10.0)[0]
    assert abs(success_map_slope(point, 1e-4, 10.0)) > 1
    p, seen = point * 1.01, []
    for _ in range(200):
        p = success_map(p, 1e-4, 10.0)
        seen.append(p)
    assert max(seen[-2:]) > 100 * min(seen[-2:])


def test_the_rare_best_type_first_shrinks_under_softmax_ascent_and_never_under_the_replicator() -> None:
    assert softmax_growth(THREE_SHARES, THREE_PAY)[0] < 0 < replicator_growth(THREE_SHARES, THREE_PAY)[0]
    shares = selection_table(num_steps=1600, num_runs=8, seed=0).query("type == 0")
    exact = shares[shares["dynamics"] == "SGD, exact"].set_index("step")["value"]
    assert exact.idxmin() == pytest.approx(370, abs=5)
    assert exact.min() == pytest.approx(0.0032, abs=2e-4)
    assert exact.iloc[-1] > 0.9
    assert shares[shares["dynamics"] == "replicator"]["value"].is_monotonic_increasing


def test_same_seed_gives_the_same_table() -> None:
    first, second = (death_table(4, 20, 40, seed=5) for _ in range(2))
    assert first.equals(second)
    assert not first.equals(death_table(4, 20, 40, seed=6)) or first["value"].nunique() == 1


def test_four_ways_agree_with_their_closed_forms_where_there_is_one() -> None:
    is_solution = np.arange(30) == 4
    budgets = [8, 30, 400, 4_000]
    table = four_ways_table(is_solution, [0.0, 0.1], budgets, num_runs=8, seed=0)
    zero = table[table["start_mass"] == 0].pivot(index="num_evaluations", columns="method", values="value")
    assert zero.loc[30, "exhaustive search"] == 1
    assert (zero.drop(columns="exhaustive search") == 0).all().all()
    tenth = table[table["start_mass"] == 0.1].pivot(index="num_evaluations", columns="method", values="value")
    assert tenth.loc[8, "random search"] == pytest.approx(1 - 0.9**8)
    assert (tenth.loc[4_000] > 0.95).all()


def test_every_figure_is_drawn_from_its_table() -> None:
    is_solution = np.arange(20) == 0
    cases = [(0.2, 2.0), (0.2, 0.5), (0.05, 5.0)]
    figures = [
        four_ways_figure(four_ways_table(is_solution, [0.0, 0.1], [8, 80], 2, 0), 20),
        escape_figure(escape_tables(num_runs=2, max_steps=60, seed=0)[0]),
        selection_figure(selection_table(5, 2, 0), death_table(2, 2, 4, 0)),
        success_map_figure(success_map_table(cases, is_solution, 2), cases),
        group_figure(group_table([2, 4, 8], 50, 0)),
    ]
    assert [len(figure.axes) for figure in figures] == [2, 4, 3, 2, 2]
    assert all(ax.lines for figure in figures for ax in figure.axes)
