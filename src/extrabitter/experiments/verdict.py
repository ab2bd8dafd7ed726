"""The predictions as data, and what came of them: each effect, its interval, its regions, and one word.

`book/predictions/<series>.yaml` is the only place where a region is written down. The rule is the same for all: an
effect has *held* where its whole interval lies in the predicted region, has *failed* where it lies in a falsifier's,
and is *undecided* otherwise, so that every possible interval has a verdict.

Primary predictions of a series are judged together by Holm's method, over all of them, run or not: an interval that
would decide alone may be too wide for that, and the verdict is then undecided. Those that are marked `apart` have no
null to be corrected for: they bet on a region with two ends, or on a count. Others are not corrected, and explore.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pydantic import Field, model_validator

from extrabitter.digests import REPOSITORY
from extrabitter.pages import plots
from extrabitter.pages.text import points_interval
from extrabitter.params import ParameterError, StrictModel, validate
from extrabitter.profiles import read_yaml
from extrabitter.statistics import Estimate, holm_adjusted, of_difference, of_measure

FOLDER = Path("book/predictions")
MAX_PRIMARY = 8  # of a series; more would dilute what Holm's correction leaves
Verdict = Literal["held", "failed", "undecided", "not measured"]
COLOURS = {"held": plots.GREEN, "failed": plots.RED, "undecided": plots.GREY}
LEVEL = 0.025  # on each side: that of a 95 % interval


class Region(StrictModel):
    """Values from `low` to `high`; the one that is not given is infinite."""

    low: float = Field(-np.inf, description="least value")
    high: float = Field(np.inf, description="greatest value")

    @model_validator(mode="after")
    def _bounded(self) -> Region:
        if np.isinf([self.low, self.high]).all():
            raise ValueError("region: must give low, high or both")
        return self

    def holds(self, estimate: Estimate) -> bool:
        """Return whether the whole interval of an estimate lies inside."""
        return self.low <= estimate.lower and estimate.upper <= self.high

    def p_value(self, estimate: Estimate) -> float:
        """Return the p-value of "not wholly inside", the larger of those at its bounds; NaN below two seeds."""
        bounds = [(self.low, True), (self.high, False)]
        return max(estimate.p_value(bound, above) for bound, above in bounds if np.isfinite(bound))


class Prediction(StrictModel):
    """One prediction: a claim, the effect that it is about, and the regions that judge it."""

    key: str = Field(pattern=r"^[a-z0-9_]+$", description="name of the prediction")
    series: str = Field(pattern=r"^[a-z]+$", description="runs that it was made for")
    task: str = Field("countdown", description="game that it is about")
    experiment: str = Field("", description="experiment of the store that holds its runs; empty: any")
    primary: bool = Field(description="counts towards Holm's correction in its series")
    apart: bool = Field(False, description="has no null, and is not corrected")
    claim: str = Field(min_length=1, description="the claim, in one plain sentence")
    effect: str = Field(min_length=1, description="what is measured")
    measure: str = Field("", description="measure of table `summary`; empty: not computed from it")
    arm: str = Field("", description="evaluation arm that it is measured on")
    minus: str = Field("", description="evaluation arm that is taken off; empty: none")
    computed: str = Field("", description="function, module:name, that computes it where no measure does")
    unit: Literal["points", "number"] = Field("points", description="points of a share, or a plain number")
    predicted: Region
    falsifier: list[Region] = Field(min_length=1, description="regions of which each overturns the claim")
    seeds: int = Field(ge=1, description="seeds planned")
    seen: str = Field("", description="what had been seen beforehand")

    @property
    def corrected(self) -> bool:
        """Whether Holm's correction counts it."""
        return self.primary and not self.apart

    def verdict(self, estimate: Estimate) -> Verdict:
        """Return what an estimate says of the claim, taken alone."""
        if not estimate.measured:
            return "not measured"
        if self.predicted.holds(estimate):
            return "held"
        return "failed" if any(region.holds(estimate) for region in self.falsifier) else "undecided"

    def p_value(self, estimate: Estimate) -> float:
        """Return the p-value of the decision that an interval takes, or would be nearest to taking."""
        return min(region.p_value(estimate) for region in (self.predicted, *self.falsifier))


def read_predictions(series: str, folder: Path = REPOSITORY / FOLDER) -> dict[str, Prediction]:
    """Read the predictions of a series by key; ParameterError with one line for an entry that is wrong."""
    found: dict[str, Prediction] = {}
    for values in read_yaml(folder / f"{series}.yaml", "predictions"):
        entry = validate(Prediction, values, "predictions")
        where = f"predictions: {entry.key}"
        if entry.key in found:
            raise ParameterError(f"predictions: key = {entry.key!r}: must be given once")
        if entry.series != series:
            rule = f"must be {series!r}, as the file is called"
            raise ParameterError(f"{where}: series = {entry.series!r}: {rule}")
        if bool(entry.measure) != bool(entry.arm):
            raise ParameterError(f"{where}: measure and arm must be given together, or neither")
        if entry.measure and entry.computed:
            raise ParameterError(f"{where}: computed = {entry.computed!r}: not where there is a measure")
        found[entry.key] = entry
    if (count := sum(entry.primary for entry in found.values())) > MAX_PRIMARY:
        raise ParameterError(f"predictions: series {series} has {count} primaries; at most {MAX_PRIMARY}")
    return found


def measure(summary: pd.DataFrame, prediction: Prediction) -> Estimate:
    """Estimate a prediction's effect from table `summary` of the store, paired by seed where two arms differ."""
    if prediction.experiment:
        summary = summary[summary["experiment"] == prediction.experiment]
    if prediction.minus:
        return of_difference(summary, prediction.arm, prediction.minus, prediction.measure)
    return of_measure(summary, prediction.arm, prediction.measure)


def judge(
    summary: pd.DataFrame | Mapping[str, pd.DataFrame],
    predictions: Mapping[str, Prediction],
    computed: Mapping[str, Estimate] = {},
) -> pd.DataFrame:
    """Judge the predictions of one series that can be computed, a row each in their order.

    `summary` is the store's table, or that of each task; `computed` holds estimates of entries without a measure.
    Columns: key, claim, effect, unit, primary, value, lower, upper, num_seeds, held_in and failed_in (lists of regions
    as pairs, infinite where open), alone (the verdict of the interval alone), verdict. The correction counts every
    primary of `predictions` that has a null.
    """
    estimates = dict(computed)
    for key, entry in predictions.items():
        if entry.measure:
            estimates[key] = measure(summary[entry.task] if isinstance(summary, Mapping) else summary, entry)
    shown = {key: entry for key, entry in predictions.items() if key in estimates}
    tested = {key: entry.p_value(estimates[key]) for key, entry in shown.items() if entry.corrected}
    tested = {key: p for key, p in tested.items() if np.isfinite(p)}
    num_primary = sum(entry.corrected for entry in predictions.values())
    adjusted = dict(zip(tested, holm_adjusted(list(tested.values()), num_primary), strict=True))
    rows = []
    for key, entry in shown.items():
        found = estimates[key]
        alone = entry.verdict(found)
        withdrawn = alone in ("held", "failed") and adjusted.get(key, 0.0) > LEVEL
        said = {name: getattr(entry, name) for name in ("key", "claim", "effect", "unit", "primary")}
        regions = {"held_in": [entry.predicted], "failed_in": entry.falsifier}
        ends = {name: [(each.low, each.high) for each in judges] for name, judges in regions.items()}
        verdicts = {"alone": alone, "verdict": "undecided" if withdrawn else alone}
        rows.append(said | asdict(found) | ends | verdicts)
    return pd.DataFrame(rows)


def primaries(predictions: Mapping[str, Prediction], judged: pd.DataFrame) -> pd.DataFrame:
    """Say of each primary what it claims, what came of it, and on how many of its trunks: ready-made strings."""
    found, rows = judged.set_index("key"), []
    for key, entry in predictions.items():
        if entry.primary and key not in found.index:
            rows.append((entry.claim, "", "not run yet"))
        elif entry.primary:
            row = found.loc[key]
            value = points_interval(Estimate(*row[["value", "lower", "upper", "num_seeds"]]))
            rows.append((entry.claim, value, f"{row['verdict']}, {row['num_seeds']} of {entry.seeds} trunks"))
    return pd.DataFrame(rows, columns=["claim", "effect", "verdict"])


def forest(judged: pd.DataFrame, title: str, earlier: Mapping[str, Estimate] = {}) -> Figure:
    """Draw the effects in points, a claim a row: interval, where it would have held and where it would have failed.

    `earlier` holds by key what another series found of the same claim, drawn hollow below it.
    """
    shown = judged[(judged["unit"] == "points") & (judged["num_seeds"] > 0)]
    ends = (min(-0.2, shown["lower"].min() - 0.05), max(0.2, shown["upper"].max() + 0.05))
    with plots.drawing(title, 0.5 * len(shown) + 0.5) as (fig, ax):
        for place, row in enumerate(shown.to_dict("records")):
            for verdict, regions in (("held", row["held_in"]), ("failed", row["failed_in"])):
                look = {"color": COLOURS[verdict], "alpha": 0.3, "linewidth": 0}
                for low, high in np.clip(regions, *ends):
                    ax.barh(-place, high - low, left=low, height=0.36, **look)
            colour, above = COLOURS[row["verdict"]], {"fontsize": 9, "va": "center"}
            interval = [row["lower"], row["upper"]]
            ax.plot(interval, [-place, -place], color=colour, linewidth=3, solid_capstyle="butt")
            ax.plot(row["value"], -place, "o", color=colour, markersize=6)
            ax.annotate(row["claim"], (ends[0], 0.32 - place), **above)
            ax.annotate(row["verdict"], (ends[1], 0.32 - place), ha="right", color=colour, **above)
            if old := earlier.get(row["key"]):
                ax.plot([old.lower, old.upper], [-place - 0.28] * 2, color=plots.GREY, linewidth=1.5)
                ax.plot(
                    old.value, -place - 0.28, "o", color=plots.GREY, markerfacecolor=plots.PAPER, markersize=5
                )
        ax.axvline(0, color=plots.GREY, linewidth=0.8)
        ax.set(xlim=ends, ylim=(0.4 - len(shown), 0.6), yticks=[])
        ax.set_xlabel("effect in points; green: predicted, orange: would have overturned it")
        ax.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}".replace("-", "−"))
        ax.grid(axis="y", visible=False)
    return fig
