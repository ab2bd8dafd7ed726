"""The taste test: the same RL on bases that differ in one habit, and what a gain is made of."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from extrabitter.pages.arms import words
from extrabitter.pages.text import decimal, percent
from extrabitter.statistics import Estimate, of_measure

# What a model writes: heading -> measure of table `summary`, and whether it is a share.
PARTS: dict[str, tuple[str, bool]] = {
    "solved": ("pass@1", True),
    "first attempt right": ("first_attempt_hit_rate", True),
    "searches": ("frac_searches", True),
    "attempts": ("mean_attempts", False),
    "verdicts true": ("verdict_accuracy", True),
    "tokens": ("mean_completion_tokens", False),
}


def anatomy(summary: pd.DataFrame, models: Sequence[str]) -> pd.DataFrame:
    """Say what each model writes before and after RL: a row a model and time, ready-made strings, means over seeds.

    What a model never does has no value, and the cell says so: a share of true verdicts where no verdict was given.
    """
    rows = []
    for arm in [f"{when}_{model}" for model in models for when in ("before", "after")]:
        found = {heading: of_measure(summary, arm, measure) for heading, (measure, _) in PARTS.items()}
        if found["solved"].measured:
            rows.append({"model": words(arm)} | {heading: _said(found[heading], heading) for heading in PARTS})
    return pd.DataFrame(rows, columns=["model", *PARTS])


def _said(estimate: Estimate, heading: str) -> str:
    if not estimate.measured:
        return "none given"
    return percent(estimate.value) if PARTS[heading][1] else decimal(estimate.value, 1)
