"""What gets a base out is counted in seeds, in waits and in gains, each as its prediction says."""

from __future__ import annotations

import pandas as pd
import pytest

from extrabitter.experiments.way_out import gain_after_hundred, seeds_that_search, shortest_wait


def summary(measure: str, **values: list[float]) -> pd.DataFrame:
    rows = [(seed, arm, measure, value) for arm, own in values.items() for seed, value in enumerate(own)]
    return pd.DataFrame(rows, columns=["seed", "arm", "measure", "value"])


def test_a_seed_counts_once_any_arm_of_it_passes_and_other_arms_do_not_count() -> None:
    table = summary("frac_working_search", a=[0.0, 0.02, 0.01], b=[0.0, 0.5, 0.0], taught=[1.0, 1.0, 1.0])
    found = seeds_that_search(table, ["a", "b"])
    assert (found.value, found.lower, found.upper, found.num_seeds) == (1.0, 1.0, 1.0, 3)
    assert seeds_that_search(table, ["taught"]).value == 3
    assert not seeds_that_search(table, ["none"]).measured


def test_the_quickest_arm_is_compared_with_plain_rl_seed_by_seed() -> None:
    waits = {"plain": [100.0, 200.0], "slow": [100.0, 210.0], "quick": [40.0, 120.0]}
    rows = [(arm, seed, steps) for arm, own in waits.items() for seed, steps in enumerate(own)]
    table = pd.DataFrame(rows, columns=["arm", "seed", "steps"])
    assert shortest_wait(table, ["slow", "quick"], "plain").value == pytest.approx((0.4 + 0.6) / 2)
    assert shortest_wait(table, ["slow"], "plain").value == pytest.approx((1.0 + 1.05) / 2)


def test_the_gain_after_demonstrations_is_a_difference_of_differences() -> None:
    table = summary(
        "pass@1",
        before_taught_100=[0.4, 0.5],
        after_taught_100=[0.9, 0.9],
        before_guesser=[0.3, 0.4],
        after_guesser=[0.6, 0.5],
    )
    found = gain_after_hundred(table)
    assert found.value == pytest.approx((0.5 - 0.3 + 0.4 - 0.1) / 2)
    assert found.num_seeds == 2
