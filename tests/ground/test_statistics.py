"""Estimates and intervals, against closed forms and simulation."""

from __future__ import annotations

from itertools import combinations
from math import comb, inf, isnan, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from extrabitter.statistics import (
    bootstrap_interval,
    holm_adjusted,
    paired_difference,
    pass_at_k,
    pass_at_k_curve,
    t_interval,
    wilson_interval,
)


def test_pass_at_k_is_the_share_of_subsets_with_a_right_sample() -> None:
    for n in range(1, 8):
        for c in range(n + 1):
            for k in range(1, n + 1):
                subsets = list(combinations(range(n), k))
                share = sum(min(subset) < c for subset in subsets) / len(subsets)
                assert pass_at_k(n, c, k) == pytest.approx(share)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(1, 256), st.data())
def test_pass_at_k_equals_its_closed_form_and_stays_in_the_unit_interval(n: int, data: st.DataObject) -> None:
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    value = pass_at_k(n, c, k)
    assert value == pytest.approx(1 - comb(n - c, k) / comb(n, k), abs=1e-9)
    assert 0 <= value <= 1
    if k < n:
        assert value <= pass_at_k(n, c, k + 1) + 1e-12


def test_pass_at_k_is_unbiased() -> None:
    rng = np.random.default_rng(0)
    chance, n, k = 0.2, 10, 4
    correct = rng.binomial(n, chance, size=40_000)
    estimate = pass_at_k_curve(np.full(40_000, n), correct, [k])[0]
    assert estimate == pytest.approx(1 - (1 - chance) ** k, abs=0.006)


def test_a_curve_averages_problems() -> None:
    curve = pass_at_k_curve([4, 4, 8], [0, 4, 1], [1, 2, 4])
    each = [[pass_at_k(n, c, k) for n, c in ((4, 0), (4, 4), (8, 1))] for k in (1, 2, 4)]
    assert curve == pytest.approx(np.mean(each, axis=1))


@pytest.mark.parametrize(("n", "c", "k"), [(4, 5, 1), (4, -1, 1), (4, 2, 5), (4, 2, 0)])
def test_pass_at_k_refuses_what_has_no_meaning(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match="must be in"):
        pass_at_k(n, c, k)


def test_t_interval_is_students() -> None:
    values = [0.2, 0.5, 0.4, 0.9, 0.1]
    lower, upper = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert t_interval(values) == pytest.approx((np.mean(values), lower, upper))
    assert t_interval([3.0, 3.0]) == (3.0, 3.0, 3.0)


def test_one_value_has_no_interval_and_no_values_no_mean() -> None:
    assert t_interval([0.5]) == (0.5, -inf, inf)
    assert all(isnan(end) for end in t_interval([]))
    assert isnan(t_interval([0.5, nan]).value)


def test_wilson_interval_has_its_published_values_and_stays_in_the_unit_interval() -> None:
    # Source: R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    for successes, trials, lower, upper in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
    ):
        interval = wilson_interval(successes, trials)
        assert interval == pytest.approx((successes / trials, lower, upper), abs=6e-5)
    for successes in range(11):
        interval = wilson_interval(successes, 10)
        assert 0 <= interval.lower <= interval.value <= interval.upper <= 1
    assert isnan(wilson_interval(0, 0).value)
    with pytest.raises(ValueError, match="num_successes: 3 must be in"):
        wilson_interval(3, 2)


def test_bootstrap_keeps_a_problems_samples_together() -> None:
    rng = np.random.default_rng(0)
    problems = np.repeat(rng.random((50, 1)) < 0.5, 20, axis=1)  # samples of a problem always agree
    interval = bootstrap_interval(problems, np.random.default_rng(1))
    assert interval.value == problems.mean()
    width = interval.upper - interval.lower
    assert width == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(50), rel=0.15)
    assert interval == bootstrap_interval(problems, np.random.default_rng(1))
    median = bootstrap_interval(
        np.arange(9.0), np.random.default_rng(1), statistic=lambda x: float(np.median(x))
    )
    assert median.value == 4.0 and 0 <= median.lower < 4 < median.upper <= 8
    assert all(isnan(end) for end in bootstrap_interval([], np.random.default_rng(1)))


@pytest.mark.parametrize("method", ["t", "wilson", "bootstrap"])
def test_intervals_cover_the_truth_as_often_as_they_say(method: str) -> None:
    rng = np.random.default_rng(2)
    covered = []
    for _ in range(300):
        if method == "t":
            truth, interval = 1.0, t_interval(rng.normal(1.0, 2.0, size=5))
        elif method == "wilson":
            truth, interval = 0.3, wilson_interval(int(rng.binomial(40, 0.3)), 40)
        else:
            truth, interval = 1.0, bootstrap_interval(rng.normal(1.0, 2.0, size=60), rng, num_resamples=200)
        covered.append(interval.lower <= truth <= interval.upper)
    assert 0.90 <= np.mean(covered) <= 0.985


def test_pairing_removes_what_both_arms_share() -> None:
    rng = np.random.default_rng(3)
    seeds = rng.normal(0, 10, size=6)
    difference = paired_difference(seeds + 1 + rng.normal(0, 0.1, 6), seeds)
    assert difference.lower < 1 < difference.upper < 1.3
    with pytest.raises(ValueError, match="must be equal"):
        paired_difference([1.0, 2.0], [1.0])


def test_holm_adjusts_as_in_its_definition_and_keeps_order() -> None:
    # By hand: 7 tests of which 3 are given; sorted .002 .004 .01, times 7 6 5.
    assert holm_adjusted([0.01, 0.002, 0.004], 7) == pytest.approx([0.05, 0.014, 0.024])
    assert holm_adjusted([0.5, 0.2], 2) == pytest.approx([0.5, 0.4])
    assert holm_adjusted([0.4, 0.4], 3) == pytest.approx([1.0, 1.0])
    assert holm_adjusted([], 3).size == 0
    with pytest.raises(ValueError, match="num_tests: 1 must be at least 2"):
        holm_adjusted([0.1, 0.2], 1)


def test_holm_keeps_the_chance_of_any_false_rejection() -> None:
    rng = np.random.default_rng(7)
    false = [(holm_adjusted(rng.uniform(size=5), 5) <= 0.05).any() for _ in range(4000)]
    uncorrected = [(rng.uniform(size=5) <= 0.05).any() for _ in range(4000)]
    assert np.mean(false) < 0.062 < 0.2 < np.mean(uncorrected)
