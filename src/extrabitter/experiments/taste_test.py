"""The taste test: the same RL on bases that differ in one habit, what came of it, and what a gain is made of."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from extrabitter.experiments.equal_cost import CHECKED, VOTED, late_slope, lead, lead_in_training
from extrabitter.pages.plots import words
from extrabitter.pages.text import decimal, percent
from extrabitter.seeding import derive_seed
from extrabitter.statistics import Estimate, of_difference, of_measure

# What a model writes: heading -> measure of table `summary`; a mean is a number, all others are shares.
PARTS = {
    **{"solved": "pass@1", "first attempt right": "first_attempt_hit_rate", "searches": "frac_searches"},
    **{"attempts": "mean_attempts", "verdicts true": "verdict_accuracy", "tokens": "mean_completion_tokens"},
}


def findings(summary: pd.DataFrame, curves: pd.DataFrame, costs: pd.DataFrame) -> dict[str, Estimate]:
    """Return the effects of the taste test by name, each over seeds.

    `summary` is the store's table, `curves` that of `equal_cost.training_curves`, `costs` that of
    `equal_cost.equal_cost` for searcher and guesser after RL. A name that ends in a model is that model's own value.
    """
    found = {
        "gap": of_difference(summary, "after_searcher", "after_guesser"),
        "knock_out": of_difference(summary, "after_searcher", "after_silenced"),
        "apart": of_difference(summary, "after_silenced", "after_guesser"),
        "habit": of_difference(summary, "after_searcher", "before_searcher", "frac_searches"),
        "searched_before": of_measure(summary, "before_searcher", "frac_searches"),
        "verdicts": of_measure(summary, "after_searcher", "verdict_accuracy"),
        "checked": lead(costs, "after_guesser", CHECKED),
        "voted": lead(costs, "after_guesser", VOTED),
        "climb": late_slope(curves, "guesser"),
    }
    found["in_training"], found["at_step"] = lead_in_training(curves, "searcher", "guesser")
    for model in ("searcher", "guesser"):
        after, before = f"after_{model}", f"before_{model}"
        found |= {
            model: of_measure(summary, after, "pass@1"),
            f"gain_{model}": of_difference(summary, after, before),
            f"searches_{model}": of_measure(summary, after, "frac_searches"),
            f"first_{model}": of_measure(summary, after, "first_attempt_hit_rate"),
            f"better_{model}": of_difference(summary, after, before, "first_attempt_hit_rate"),
            f"tokens_{model}": of_measure(summary, after, "mean_completion_tokens"),
        }
    return found


def anatomy(summary: pd.DataFrame, models: Sequence[str]) -> pd.DataFrame:
    """Say what each model writes before and after RL: a row a model and time, ready-made strings, means over seeds.

    What a model never does has no value, and the cell says so: a share of true verdicts where no verdict was given.
    """
    rows = []
    for arm in [f"{when}_{model}" for model in models for when in ("before", "after")]:
        found = {measure: of_measure(summary, arm, measure) for measure in PARTS.values()}
        if found["pass@1"].measured:
            rows.append((words(arm), *(_said(estimate, measure) for measure, estimate in found.items())))
    return pd.DataFrame(rows, columns=["model", *PARTS])


def _said(estimate: Estimate, measure: str) -> str:
    if not estimate.measured:
        return "none given"
    return decimal(estimate.value, 1) if measure.startswith("mean_") else percent(estimate.value)


def traced(completions: pd.DataFrame, arms: Sequence[str], searching: str = "after_searcher") -> pd.DataFrame:
    """Return one row an arm, its first sample of one problem, drawn by a hash where `searching` went back.

    `completions` is the store's table; of its lowest seed, and of the problems with a single step back, so that the
    text is short enough to be read.
    """
    first = completions[(completions["seed"] == completions["seed"].min()) & (completions["sample"] == 0)]
    back = first[(first["arm"] == searching) & (first["backtracking_count"] == 1)]
    problem = min(back["problem"], key=lambda name: derive_seed(0, "traced", str(name)))
    return first[first["problem"] == problem].set_index("arm").loc[list(arms)]
