"""What came of the predictions: each effect, its interval, its regions, and one word.

Primary predictions of a series are judged together by Holm's method, over all of them, run or not: an interval that
would decide alone may be too wide for that, and the verdict is then undecided. Others are not corrected, and explore.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from extrabitter.experiments.predictions import Prediction, Region
from extrabitter.pages import plots
from extrabitter.statistics import Estimate, holm_adjusted, of_difference, of_measure

HELD, FAILED, UNDECIDED = "#00735a", "#b84e00", plots.GREY
LEVEL = 0.025  # on each side: that of a 95 % interval


def measure(summary: pd.DataFrame, prediction: Prediction) -> Estimate:
    """Estimate a prediction's effect from table `summary` of the store, paired by seed where two arms differ."""
    if prediction.minus:
        return of_difference(summary, prediction.arm, prediction.minus, prediction.measure)
    return of_measure(summary, prediction.arm, prediction.measure)


def judge(summary: pd.DataFrame, predictions: Mapping[str, Prediction]) -> pd.DataFrame:
    """Judge the predictions of one series that can be computed, a row each in their order.

    Columns: key, claim, effect, unit, primary, value, lower, upper, num_seeds, held_in and failed_in (lists of regions
    as pairs, infinite where open), alone (the verdict of the interval alone), verdict. The correction counts every
    primary of `predictions`.
    """
    computed = {key: entry for key, entry in predictions.items() if entry.measure}
    estimates = {key: measure(summary, entry) for key, entry in computed.items()}
    primary = {key: entry.p_value(estimates[key]) for key, entry in computed.items() if entry.primary}
    tested = {key: p for key, p in primary.items() if np.isfinite(p)}
    num_primary = sum(entry.primary for entry in predictions.values())
    adjusted = dict(zip(tested, holm_adjusted(list(tested.values()), num_primary), strict=True))
    rows = []
    for key, entry in computed.items():
        found = estimates[key]
        alone = entry.verdict(found)
        withdrawn = alone in ("held", "failed") and adjusted.get(key, 0.0) > LEVEL
        rows.append(
            {
                **{name: getattr(entry, name) for name in ("key", "claim", "effect", "unit", "primary")},
                **{name: getattr(found, name) for name in ("value", "lower", "upper", "num_seeds")},
                "held_in": [_ends(entry.predicted)],
                "failed_in": [_ends(region) for region in entry.falsifier],
                "alone": alone,
                "verdict": "undecided" if withdrawn else alone,
            }
        )
    return pd.DataFrame(rows)


def _ends(region: Region) -> tuple[float, float]:
    return -np.inf if region.low is None else region.low, np.inf if region.high is None else region.high


def forest(judged: pd.DataFrame, title: str) -> Figure:
    """Draw the effects in points, a claim a row: interval, where it would have held and where it would have failed."""
    shown = judged[(judged["unit"] == "points") & (judged["num_seeds"] > 0)]
    colours = {"held": HELD, "failed": FAILED, "undecided": UNDECIDED}
    with plots.style():
        fig = plots.new_figure(title, 0.5 * len(shown) + 0.5)
        ax = fig.subplots()
        ends = (min(-0.2, shown["lower"].min() - 0.05), max(0.2, shown["upper"].max() + 0.05))
        for place, row in enumerate(shown.to_dict("records")):
            for regions, colour in ((row["held_in"], HELD), (row["failed_in"], FAILED)):
                for low, high in regions:
                    low, high = max(low, ends[0]), min(high, ends[1])
                    ax.barh(-place, high - low, left=low, height=0.36, color=colour, alpha=0.16, linewidth=0)
            colour = colours[str(row["verdict"])]
            ax.plot([row["lower"], row["upper"]], [-place, -place], color=colour, linewidth=3, solid_capstyle="butt")
            ax.plot(row["value"], -place, "o", color=colour, markersize=6)
            ax.annotate(str(row["claim"]), (ends[0], 0.32 - place), fontsize=9, va="center")
            ax.annotate(str(row["verdict"]), (ends[1], 0.32 - place), fontsize=9, va="center", ha="right", color=colour)
        ax.axvline(0, color=plots.GREY, linewidth=0.8)
        ax.set(xlim=ends, ylim=(0.4 - len(shown), 0.6), yticks=[])
        ax.set_xlabel("effect in points; green: predicted, orange: would have overturned it")
        ax.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}".replace("-", "−"))
        ax.grid(axis="y", visible=False)
    return fig
