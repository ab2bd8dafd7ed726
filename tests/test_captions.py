"""Takeaways name what the tables say: highest and lowest, most and least, and nothing where nothing was run."""

from __future__ import annotations

import pandas as pd
import pytest

from extrabitter import captions


def summary_of(values: dict[str, dict[str, float]]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"arm": arm, "seed": seed, "measure": measure, "value": value, "lower": value, "upper": value}
            for arm, own in values.items()
            for measure, value in own.items()
            for seed in (0, 1)
        ],
        columns=["arm", "seed", "measure", "value", "lower", "upper"],
    )


SUMMARY = summary_of(
    {
        "base_rich": {"pass@1": 0.3, "frac_with_verification": 0.1, "frac_with_backtracking": 0.4},
        "grpo_rich": {"pass@1": 0.9, "frac_with_verification": 0.8, "frac_with_backtracking": 0.1},
        "base_absent": {"pass@1": 0.4, "frac_with_verification": 0.0},
        "grpo_absent": {"pass@1": 0.5, "frac_with_verification": 0.0},
    }
)
PAIRS = [("base_rich", "grpo_rich"), ("base_absent", "grpo_absent"), ("base_latent", "grpo_latent")]
RICH, ABSENT = "rich: sometimes searches", "absent: never searches"


def test_arms_are_ranked_by_their_means_and_the_missing_left_out() -> None:
    arms = ["base_rich", "base_absent", "base_latent"]
    said = captions.of_arms(SUMMARY, arms, "pass@1")
    assert said == f"Highest for “{ABSENT}” (40.0 %), lowest for “{RICH}” (30.0 %)."
    assert captions.of_arms(SUMMARY, ["base_rich"], "pass@1") == f"30.0 % for “{RICH}”."
    assert captions.of_arms(SUMMARY.assign(value=0.5), arms, "pass@1") == "50.0 % for all."
    assert captions.of_arms(SUMMARY, ["base_latent"], "pass@1") == captions.NOTHING


def test_the_most_and_the_least_moved_are_named_with_both_ends() -> None:
    assert captions.of_before_and_after(SUMMARY, PAIRS, "pass@1") == (
        f"RL adds most to “{RICH}” (from 30.0 % to 90.0 %), and least to “{ABSENT}” (from 40.0 % to 50.0 %)."
    )
    assert captions.of_before_and_after(SUMMARY, PAIRS[:1], "pass@1").startswith(
        f"RL moves “{RICH}” (from 30"
    )
    assert captions.of_before_and_after(SUMMARY, PAIRS[2:], "pass@1") == captions.NOTHING


def test_behaviours_that_rise_and_fall_are_named_and_none_where_none_does() -> None:
    said = captions.of_behaviours(SUMMARY, PAIRS)
    assert said == (
        f"RL raises most verification in “{RICH}”, from 10.0 % to 80.0 %; "
        f"it lowers most backtracking in “{RICH}”, from 40.0 % to 10.0 %."
    )
    assert captions.of_behaviours(SUMMARY, PAIRS[1:]) == "RL moves none of these shares."
    assert captions.of_behaviours(SUMMARY, PAIRS[2:]) == captions.NOTHING


def test_raised_success_is_counted_at_both_ends_of_the_curve() -> None:
    rows = [("base_rich", 1, 0.3), ("grpo_rich", 1, 0.9), ("base_rich", 8, 0.9), ("grpo_rich", 8, 0.8)]
    rows.append(("rare_grpo_rich", 32, 0.9))  # not among the pairs
    table = pd.DataFrame(
        [{"arm": arm, "seed": 0, "k": k, "value": v, "lower": v, "upper": v} for arm, k, v in rows]
    )
    said = captions.of_pass_at_k(table, PAIRS)
    assert said == (
        "On average RL raises success in one of one model with one sample, and in none of one model with "
        "eight samples."
    )
    assert captions.of_pass_at_k(table[:0], PAIRS) == captions.NOTHING


def test_curves_are_read_where_they_end() -> None:
    steps = pd.DataFrame(
        [
            {
                "arm": arm,
                "seed": seed,
                "step": step,
                "frac_searches": 0.9 if (step == 20) == (arm == "grpo_rich") else 0.1,
            }
            for arm in ("grpo_rich", "grpo_absent")
            for seed in (0, 1)
            for step in range(1, 21)
        ]
    )
    said = captions.of_steps(steps, ["grpo_rich", "grpo_absent"], "frac_searches", "the share that searches")
    # The last two of twenty steps: one at either value.
    assert said == "In the last tenth of steps the share that searches is 50.0 % for all."
    late = captions.of_steps(steps.replace({"step": {20: 200}}), ["grpo_rich"], "frac_searches", "the share")
    assert late == f"In the last tenth of steps the share is 90.0 % for “{RICH}”."
    assert captions.of_steps(steps, ["grpo_latent"], "frac_searches", "the share") == captions.NOTHING
    losses = steps.rename(columns={"frac_searches": "loss"}).replace({"step": {20: 200}})
    assert captions.of_losses(losses).endswith(f"highest for “{RICH}” (0.90), lowest for “{ABSENT}” (0.10).")
    assert captions.of_losses(losses[:0]) == captions.NOTHING


def test_bars_are_counted_by_base_and_the_worst_is_named() -> None:
    bars = pd.DataFrame(
        {
            "arm": ["rich", "rich", "absent"],
            "seed": [0, 0, 0],
            "bar": ["form", "verdicts", "form"],
            "passed": [False, True, True],
        }
    )
    assert captions.of_bars(bars) == (
        "One of two bases clear all of their bars; “form” is missed most often, by one base."
    )
    assert captions.of_bars(bars[1:]) == "Two of two bases clear all of their bars."
    assert captions.of_bars(bars[:0]) == captions.NOTHING


@pytest.mark.parametrize(("value", "factor"), [(0.2, "2.0"), (0.05, "2.0"), (0.1, "1.0")])
def test_a_dose_that_is_too_high_or_too_low_strays_alike(value: float, factor: str) -> None:
    rates = pd.DataFrame({"way": ["sampled", "teacher-forced"], "nominal": [0.1, 0.1], "value": [value, 0.9]})
    assert f"at most {factor} times the nominal one" in captions.of_doses(rates)
    assert captions.of_doses(rates.assign(nominal=0.0)) == captions.NOTHING
