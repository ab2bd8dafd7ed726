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
        (0.2, 0.9, -1.7, 0.25), abs=2e-3
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
    whole = dose.readings(steps, summary)
    assert not dose.of_left_out_gain(whole[whole["rung"] != "rich"]).measured  # a rung is missing


def test_a_curve_that_does_not_rise_has_no_middle_and_no_width() -> None:
    flat = dose.readings(*tables(lambda x, step: 0.5))
    assert not dose.of_width(flat).measured and not dose.of_midpoint(flat).measured
    # Only the top rung has risen: the middle could lie anywhere above.
    late = dose.readings(*tables(lambda x, step: float(Logistic(0.3, 0.9, -0.3, 0.2)(x))))
    assert not dose.of_midpoint(late).measured and dose.of_left_out_gain(late).measured


def test_the_middle_is_bracketed_by_the_rungs_around_it_without_a_curve() -> None:
    read = dose.readings(*tables(moving))
    last = dose.brackets(read)[lambda found: found["step"] == 80]
    assert list(last["seed"]) == [0, 1, 2]
    assert (last["below"] < 1e-2 * 1.2).all() and (last["above"] > 1e-2 / 1.2).all()
    assert (last["below"] < last["above"]).all()
    earlier = dose.brackets(read)[lambda found: found["step"] == 20]
    assert (earlier["above"].to_numpy() >= last["above"].to_numpy()).all() and (earlier["above"] > 1e-2).all()


def test_a_dip_at_the_top_and_a_flat_line_have_no_bracket_and_a_missing_rung_no_row() -> None:
    read = dose.readings(*tables(moving, seeds=(0,)))
    flat, dipped = read.assign(accuracy=0.5), read.copy()
    dipped.loc[dipped["rung"] == RUNGS[-1], "accuracy"] = 0.1
    for found in (dose.brackets(flat), dose.brackets(dipped)):
        assert len(found) == len(READ_AT) and found[["below", "above"]].isna().all().all()
    assert dose.brackets(read[read["rung"] != RUNGS[2]]).empty
    early = read.assign(accuracy=np.where(read["rung"] == RUNGS[0], 0.2, 0.9))
    assert dose.brackets(early)["below"].eq(read.set_index("rung").loc[RUNGS[0], "chance"].iloc[0]).all()


def test_ends_stay_shares() -> None:
    x = np.linspace(-3.5, -1, 6)
    for y in (0.9 + 0.3 * x, np.where(x > -1.2, 1.0, 0.0), np.full(6, 0.02)):
        fit = dose.fit_logistic(x, y)
        assert 0 <= fit.low <= fit.high <= 1
        assert ((fit(x) - y) ** 2).sum() <= ((y - y.mean()) ** 2).sum() + 1e-9 or y.min() < 0


BATCHES = {"grpo_rich": 256, "grpo_ladder_1": 256, "grpo_rich_g32": 256, "grpo_rich_b64": 64}


def test_take_off_is_the_first_step_past_the_half_of_a_running_mean() -> None:
    steps, summary = tables(lambda x, step: 0.0, seeds=(0, 1), rungs=("ladder_1", "rich"))
    steps.loc[(steps["arm"] == "grpo_rich") & (steps["step"] > 30), "frac_searches"] = 1.0
    steps.loc[(steps["arm"] == "grpo_rich") & (steps["step"] == 10), "frac_searches"] = 1.0
    found = dose.take_off(steps, summary, BATCHES, ["grpo_rich", "grpo_ladder_1"]).set_index(["arm", "seed"])
    assert found.loc["grpo_rich", "step"].tolist() == [33, 33]
    assert found.loc["grpo_ladder_1", "step"].isna().all()
    assert found.loc["grpo_rich", "product"].tolist() == pytest.approx(
        [33 * 256 * chance for chance in found.loc["grpo_rich", "chance"]]
    )


def test_a_run_that_did_not_take_off_can_refute_a_collapse_and_not_support_it() -> None:
    def product(arm: str, step: float, value: float) -> tuple[str, int, float, int, float]:
        return arm, 0, step, 80, value

    columns = ["arm", "seed", "step", "last_step", "product"]
    arms = ["a", "b"]
    both = pd.DataFrame([product("a", 20, 100.0), product("b", 40, 150.0)], columns=columns)
    assert dose.of_collapse(both, arms).value == pytest.approx(1.5)
    # The silent run's product is at least 20: that says nothing against 100.
    silent = pd.DataFrame([product("a", 20, 100.0), product("b", np.nan, 20.0)], columns=columns)
    assert dose.of_collapse(silent, arms).value == 1.0 and dose.of_collapse(silent, arms).upper == np.inf
    waiting = pd.DataFrame([product("a", 20, 100.0), product("b", np.nan, 900.0)], columns=columns)
    assert dose.of_collapse(waiting, arms).value == 9.0
    assert not dose.of_collapse(both.iloc[:1], arms).measured  # a seed without all arms is missing


def test_an_arm_with_another_group_or_batch_has_the_same_base() -> None:
    steps, summary = tables(lambda x, step: 1.0, seeds=(0,), rungs=("rich",))
    for arm in ("grpo_rich_g32", "grpo_rich_b64"):
        found = dose.take_off(steps.assign(arm=arm), summary, BATCHES, [arm])
        assert found["chance"].tolist() == summary["value"].tolist() and found["step"].tolist() == [5]
        assert found["product"].tolist() == pytest.approx([5 * BATCHES[arm] * summary["value"].item()])


def test_the_chance_of_an_arm_is_that_of_its_own_start_where_it_was_read() -> None:
    steps, summary = tables(lambda x, step: 1.0, seeds=(0, 1), rungs=("rich",))
    arm, own = "grpo_rich_g32", summary[summary["seed"] == 1].assign(arm="base_rich_g32")
    own["value"] *= 1.5
    both = pd.concat([summary, own])
    found = dose.take_off(steps.assign(arm=arm), both, BATCHES, [arm]).set_index("seed")["chance"]
    of_base = summary.set_index("seed")["value"]
    assert found[0] == of_base[0] and found[1] == pytest.approx(1.5 * of_base[1])
    assert dose.between_draws(both, ["grpo_rich", arm, "grpo_rich_b64"]) == pytest.approx([1.5])
    assert dose.between_draws(summary, [arm]) == []
