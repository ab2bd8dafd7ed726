"""Survival of a behaviour while accuracy rises: known curves give known ratios, and what is missing stays missing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from extrabitter import extinction


def run(
    arm: str, seed: int, accuracy: Callable[[int], float], searched: Callable[[int], float], last: int = 60
) -> pd.DataFrame:
    """Steps of a run whose accuracy and search follow given curves."""
    rows = [(arm, seed, step, accuracy(step), searched(step)) for step in range(1, last + 1)]
    return pd.DataFrame(rows, columns=["arm", "seed", "step", "correct_reward", "frac_searches"])


def test_search_is_read_when_accuracy_has_doubled() -> None:
    dying = run(
        extinction.TIGHT_BONUS,
        1,
        lambda step: 0.2 if step <= 30 else 0.4,
        lambda step: 0.1 if step <= 20 else 0.01,
    )
    found = extinction.survivals(dying)
    assert len(found) == 1
    row = found.iloc[0]
    # The mean over five steps has doubled when the last of them has.
    assert row["step"] == 35 and row["accuracy"] == pytest.approx(0.2)
    assert row["searched"] == pytest.approx(0.1) and row["ratio"] == pytest.approx(0.1)
    assert extinction.of_survival(found).value == pytest.approx(0.1)
    assert not extinction.of_survival(found, extinction.LOOSE).measured


def test_a_run_whose_accuracy_does_not_double_says_nothing() -> None:
    flat = run(extinction.TIGHT_BONUS, 1, lambda step: 0.3, lambda step: 0.1)
    rising = run(extinction.TIGHT_BONUS, 2, lambda step: 0.01 * step, lambda step: 0.1)
    found = extinction.survivals(pd.concat([flat, rising]))
    assert np.isnan(found.set_index("seed")["ratio"][1])
    survival = extinction.of_survival(found)
    assert survival.num_seeds == 1 and survival.value == pytest.approx(1.0)


@pytest.mark.parametrize("constant", [0.0, float("nan")])
def test_a_run_without_success_or_search_has_no_ratio(constant: float) -> None:
    without = run(extinction.TIGHT_BONUS, 1, lambda step: constant, lambda step: 0.1)
    silent = run(extinction.TIGHT_BONUS, 2, lambda step: 0.01 * step, lambda step: 0.0)
    found = extinction.survivals(pd.concat([without, silent]))
    assert found["ratio"].isna().all() and not extinction.of_survival(found).measured
    assert extinction.survivals(without.iloc[:0]).empty


def test_other_arms_are_left_out() -> None:
    assert extinction.survivals(run("grpo_absent", 1, lambda step: 0.01 * step, lambda step: 0.5)).empty
