"""Estimates and intervals, against closed forms and simulation."""

from __future__ import annotations

from math import comb, inf, isnan, nan

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from extrabitter.statistics import (
    MISSING,
    Estimate,
    bootstrap_interval,
    clustered_share,
    holm_adjusted,
    of_difference,
    of_measure,
    over_seed_values,
    over_seeds,
    pass_at_k,
    t_interval,
    wilson_interval,
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(1, 256), st.data())
def test_pass_at_k_equals_its_closed_form_and_stays_in_the_unit_interval(n: int, data: st.DataObject) -> None:
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    value = pass_at_k(n, c, k)
    assert value == pytest.approx(1 - comb(n - c, k) / comb(n, k), abs=1e-9)
    assert 0 <= value <= 1
    if k < n:
        assert value <= pass_at_k(n, c, k + 1) + 1e-12


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
    published = ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611))
    for successes, trials, lower, upper in published:
        interval = wilson_interval(successes, trials)
        assert interval == pytest.approx((successes / trials, lower, upper), abs=6e-5)
    for successes in range(11):
        interval = wilson_interval(successes, 10)
        assert 0 <= interval.lower <= interval.value <= interval.upper <= 1
    assert isnan(wilson_interval(0, 0).value)


def test_bootstrap_keeps_a_problems_samples_together() -> None:
    rng = np.random.default_rng(0)
    problems = np.repeat(rng.random((50, 1)) < 0.5, 20, axis=1)  # samples of a problem always agree
    interval = bootstrap_interval(problems, np.random.default_rng(1))
    assert interval.value == problems.mean()
    width = interval.upper - interval.lower
    assert width == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(50), rel=0.15)
    assert interval == bootstrap_interval(problems, np.random.default_rng(1))
    median = bootstrap_interval(np.arange(9.0), np.random.default_rng(1), lambda x: float(np.median(x)))
    assert median.value == 4.0 and 0 <= median.lower < 4 < median.upper <= 8
    assert all(isnan(end) for end in bootstrap_interval([], np.random.default_rng(1)))


def test_holm_adjusts_as_in_its_definition_and_keeps_order() -> None:
    # By hand: 7 tests of which 3 are given; sorted .002 .004 .01, times 7 6 5.
    assert holm_adjusted([0.01, 0.002, 0.004], 7) == pytest.approx([0.05, 0.014, 0.024])
    assert holm_adjusted([0.5, 0.2], 2) == pytest.approx([0.5, 0.4])
    assert holm_adjusted([0.4, 0.4], 3) == pytest.approx([1.0, 1.0])
    assert holm_adjusted([], 3).size == 0


# --- Over seeds ------------------------------------------------------------------------------------------------


def test_one_seed_keeps_its_own_interval_and_more_give_students() -> None:
    rows = pd.DataFrame({"value": [0.5, nan, 0.7], "lower": [0.4, nan, 0.6], "upper": [0.6, nan, 0.8]})
    assert over_seeds(rows[:2]) == Estimate(0.5, 0.4, 0.6, 1)
    assert over_seeds(rows) == Estimate(*t_interval([0.5, 0.7]), 2)
    assert over_seeds(rows[:0]) == MISSING and not MISSING.measured


def test_a_difference_is_paired_by_seed() -> None:
    rng, rows = np.random.default_rng(4), []
    for seed in range(6):  # b is better by about a tenth, and what seeds share is far larger
        level = rng.uniform(0.2, 0.7)
        for arm, more in (("a", 0), ("b", 0.1)):
            rows.append((seed, arm, (rng.binomial(8, level + more, size=40) / 8).mean()))
    summary = pd.DataFrame(rows, columns=["seed", "arm", "value"])
    summary = summary.assign(measure="pass@1", lower=nan, upper=nan)
    apart = of_difference(summary, "b", "a")
    means = [of_measure(summary, arm, "pass@1").value for arm in ("b", "a")]
    assert apart.value == pytest.approx(means[0] - means[1])
    assert 0 < apart.lower < apart.upper < 0.2 and apart.num_seeds == 6
    alone = of_measure(summary, "b", "pass@1")
    assert apart.upper - apart.lower < (alone.upper - alone.lower) / 2, "pairing takes out what seeds share"
    assert of_difference(summary, "a", "a") == Estimate(0.0, 0.0, 0.0, 6)
    assert of_difference(summary[summary["arm"] == "b"], "b", "a") == MISSING


@pytest.mark.parametrize("values", [[0.2, 0.25, 0.3], [0.1, 0.5, 0.15, 0.2], [0.19, 0.2, 0.21, 0.2, 0.2]])
def test_a_p_value_decides_as_its_interval_does(values: list[float]) -> None:
    estimate = over_seed_values(values)
    for bound in (0.05, 0.1, 0.15, 0.19, 0.25):
        assert (estimate.p_value(bound, above=True) <= 0.025) == (estimate.lower >= bound)
        assert (estimate.p_value(bound, above=False) <= 0.025) == (estimate.upper <= bound)
    exact = stats.ttest_1samp(values, 0.15, alternative="greater").pvalue
    assert estimate.p_value(0.15, above=True) == pytest.approx(exact)
    assert isnan(over_seed_values(values[:1]).p_value(0.1, above=True))
    assert isnan(Estimate(0.2, 0.1, 0.5, 5).p_value(0.1, above=True)), "widened on one side"


def test_a_share_of_clustered_units_is_honest_at_its_ends_and_wider_than_one_of_free_units() -> None:
    assert clustered_share(np.zeros(20), np.full(20, 8.0)) == wilson_interval(0, 20)
    same = clustered_share(np.repeat([0.0, 8.0], 10), np.full(20, 8.0))
    free = clustered_share(np.full(20, 4.0) + np.tile([1, -1], 10), np.full(20, 8.0))
    assert same.value == free.value == 0.5
    assert same.upper - same.lower > 2 * (free.upper - free.lower)
    assert isnan(clustered_share([0.0], [0.0]).value)
