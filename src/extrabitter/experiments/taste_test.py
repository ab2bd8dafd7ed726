"""The taste test: the same RL on bases that differ in one habit, what came of it, and what a gain is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from extrabitter.pages import plots
from extrabitter.pages.plots import words
from extrabitter.pages.text import decimal, percent
from extrabitter.seeding import derive_seed
from extrabitter.statistics import Estimate, of_difference, of_measure

MODELS = ("searcher", "deriver", "guesser", "silenced")
# What a model writes: heading -> measure of table `summary`; a mean is a number, all others are shares.
PARTS = {
    **{"solved": "pass@1", "first attempt right": "first_attempt_hit_rate", "searches": "frac_searches"},
    **{"attempts": "mean_attempts", "verdicts true": "verdict_accuracy", "tokens": "mean_completion_tokens"},
}
# Name -> the same of a single model, after RL.
_AFTER = {
    "": "pass@1",
    "searches_": "frac_searches",
    "first_": "first_attempt_hit_rate",
}


def findings(summary: pd.DataFrame, ending: str = "") -> dict[str, Estimate]:
    """Return the effects of the taste test on one band of problems by name, each over seeds.

    `summary` is the store's table of a game, `ending` that of the band's arms; names end in it too. `<model>` is what
    it solves after RL, `start_…` before it, `gain_…` the difference, `over_…` the searcher's lead after RL,
    `searches_…` and `first_…` what it writes then; `apart` is silenced minus guesser, `searched` how often
    the searcher searched before, `verdicts` how often it judges rightly after.
    """
    found: dict[str, Estimate] = {}
    for model in MODELS:
        after, before = f"after_{model}{ending}", f"before_{model}{ending}"
        found |= {f"{name}{model}": of_measure(summary, after, measure) for name, measure in _AFTER.items()}
        found[f"start_{model}"] = of_measure(summary, before, "pass@1")
        found[f"gain_{model}"] = of_difference(summary, after, before)
        found[f"over_{model}"] = of_difference(summary, f"after_searcher{ending}", after)
    found["apart"] = of_difference(summary, f"after_silenced{ending}", f"after_guesser{ending}")
    found["searched"] = of_measure(summary, f"before_searcher{ending}", "frac_searches")
    found["verdicts"] = of_measure(summary, f"after_searcher{ending}", "verdict_accuracy")
    return {f"{name}{ending}": estimate for name, estimate in found.items()}


class Band(NamedTuple):
    """Problems of one kind: what a figure calls them, the game, the ending of arms, and the models asked."""

    words: str
    task: str
    ending: str
    models: tuple[str, ...] = MODELS


COMMON = Band("Countdown, common problems", "countdown", "", ("searcher", "guesser", "silenced"))
RARE = Band("Countdown, rare problems", "countdown", "_rare", ("searcher", "guesser", "silenced"))
ISLANDS = Band("Knights & Knaves, two islands", "knights", "_islands44")


def figure(
    summaries: Mapping[str, pd.DataFrame],
    bands: Sequence[Band],
    title: str,
    own: Mapping[str, pd.DataFrame] = {},
) -> Figure:
    """Draw what is solved before RL and after it, a panel a band; `summaries` and `own` (your run) are by game."""
    panels = {}
    for band in bands:
        tables = summaries[band.task], own.get(band.task)
        panels[band.words] = plots.rows_of(tables[0], band.models, "pass@1", tables[1], band.ending)
    return plots.dot_panels(panels, title, "unseen problems solved")


def anatomy(summary: pd.DataFrame, models: Sequence[str], ending: str = "") -> pd.DataFrame:
    """Say what each model writes before and after RL: a row a model and time, ready-made strings, means over seeds.

    What a model never does has no value, and the cell says so: a share of true verdicts where no verdict was given.
    """
    rows = []
    for arm in [f"{when}_{model}{ending}" for model in models for when in ("before", "after")]:
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
