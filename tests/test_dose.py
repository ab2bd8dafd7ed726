"""Fits recover what made the points, the left-out comparison tells a step from a line, take-off is found."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from extrabitter import dose
from extrabitter.dose import READ_AT, RUNGS, Logistic

CHANCES = dict(zip(RUNGS, (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1), strict=True))


def tables(accuracy, seeds=(0, 1, 2), rungs=RUNGS) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Collected `steps` and `summary` in which each rung's accuracy is `accuracy(log10 chance, step)`, plus noise."""
    steps, summary = [], []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        for rung in rungs:
            chance = CHANCES[rung] * 10 ** rng.normal(0, 0.05)
            summary.append((f"base_{rung}", seed, "search_probability", chance))
            for step in range(1, READ_AT[-1] + 1):
                value = accuracy(np.log10(chance), step)
                steps.append((f"grpo_{rung}", seed, step, value + rng.normal(0, 0.01), value))
    return (
        pd.DataFrame(steps, columns=["arm", "seed", "step", "correct_reward", "frac_searches"]),
        pd.DataFrame(summary, columns=["arm", "seed", "measure", "value"]),
    )


def moving(x: float, step: int) -> float:
    """A logistic whose midpoint falls by .3 decades for each doubling of steps; at step 80 it lies at -2."""
    return float(Logistic(0.3, 0.9, -2.0 - 0.3 * np.log2(step / 80), 0.2)(x))


def test_a_logistic_is_fitted_as_it_was_made() -> None:
    made = Logistic(0.2, 0.9, -1.7, 0.25)
    x = np.linspace(-4, 0, 9)
    found = dose.fit_logistic(x, made(x))
    assert (found.low, found.high, found.midpoint, found.scale) == pytest.approx(
        (0.2, 0.9, -1.7, 0.25), abs=1e-3
    )
    assert made(made.midpoint + made.width / 2) == pytest.approx(0.2 + 0.9 * 0.7, abs=1e-6)


def test_a_threshold_beats_the_line_and_a_line_does_not_lose_to_it() -> None:
    step_like = dose.of_left_out_gain(dose.readings(*tables(moving)))
    assert step_like.num_seeds == 3 and step_like.lower > 0.5
    line = dose.of_left_out_gain(dose.readings(*tables(lambda x, step: 0.9 + 0.15 * x)))
    assert line.value < 0.3 and line.lower < 0


def test_width_and_shift_are_those_of_the_curve() -> None:
    read = dose.readings(*tables(moving))
    assert dose.of_width(read).value == pytest.approx(2 * np.log(9) * 0.2, abs=0.35)
    assert dose.of_midpoint(read).value == pytest.approx(-2.0, abs=0.1)
    # Read over the steps before, the midpoints lag, and less so for late steps.
    assert 0.25 < dose.of_shift(read).value < 0.45
    assert dose.of_shift(read[read["step"] == 80]).num_seeds == 0


def test_a_reading_is_the_mean_of_the_steps_before_it_and_needs_both_tables() -> None:
    steps, summary = tables(lambda x, step: step / 100, seeds=(4,))
    read = dose.readings(steps, summary[summary["arm"] != "base_rich"])
    assert set(read["rung"]) == set(RUNGS) - {"rich"} and set(read["seed"]) == {4}
    means = read.groupby("step")["accuracy"].mean()
    assert means.to_dict() == pytest.approx({20: 0.155, 40: 0.355, 80: 0.755}, abs=0.01)
    short = dose.readings(steps[steps["step"] <= 50], summary)
    assert set(short["step"]) == {20, 40}
    assert not dose.of_width(read[read["rung"].isin(RUNGS[:4])]).measured


def test_take_off_is_the_first_step_past_the_half_of_a_running_mean() -> None:
    steps, summary = tables(lambda x, step: 0.0, seeds=(0, 1), rungs=("ladder_1", "rich"))
    steps.loc[(steps["arm"] == "grpo_rich") & (steps["step"] > 30), "frac_searches"] = 1.0
    steps.loc[(steps["arm"] == "grpo_rich") & (steps["step"] == 10), "frac_searches"] = 1.0
    found = dose.take_off(steps, summary, ["grpo_rich", "grpo_ladder_1"]).set_index(["arm", "seed"])
    assert found.loc["grpo_rich", "step"].tolist() == [33, 33]
    assert found.loc["grpo_ladder_1", "step"].isna().all()
    collapse = dose.of_collapse(found.reset_index(), 256)
    expected = [
        max(a, b) / min(a, b)
        for a, b in zip(
            33 * found.loc["grpo_rich", "chance"], 80 * found.loc["grpo_ladder_1", "chance"], strict=True
        )
    ]
    assert collapse.value == pytest.approx(np.mean(expected)) and collapse.num_seeds == 2


def test_an_arm_with_another_group_size_has_the_same_base() -> None:
    steps, summary = tables(lambda x, step: 1.0, seeds=(0,), rungs=("rich",))
    found = dose.take_off(steps.assign(arm="grpo_rich_g32"), summary, ["grpo_rich_g32"])
    assert found["chance"].tolist() == summary["value"].tolist() and found["step"].tolist() == [5]
