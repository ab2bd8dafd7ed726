"""Curves over GRPO steps: one function a figure, collected table `steps` in, Figure out.

The bold line is the mean over seeds; with two seeds each has a thin line, with more there is a band, Student's 95 %
interval over seeds. Steps are smoothed over a window of `SMOOTH` steps, which the axis label says.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from extrabitter.pages.plots import arm_label, arm_style, empty_figure, legend_above, new_figure, style
from extrabitter.statistics import t_interval
from extrabitter.tables import BEHAVIOURS

SMOOTH = 5
BAND_SEEDS = 3  # with fewer, an interval says less than the lines themselves

REWARDS = (("correct_reward", "reward: right answer"), ("format_reward", "reward: format"))
DECOMPOSITION = (
    ("mean_attempts", "attempts per completion, m"),
    ("hit_rate", "hits per attempt, h"),
    ("verdict_accuracy", "true verdicts, v"),
)
HEALTH = (
    ("mean_completion_tokens", "tokens per completion"),
    ("frac_truncated", "cut off at the cap"),
    ("frac_informative_groups", "informative groups"),
    ("entropy", "entropy (nats per token)"),
)
BEHAVIOUR_SHARES = tuple((f"frac_with_{b}", b.replace("_", " ")) for b in BEHAVIOURS)


def rewards(steps: pd.DataFrame, arms: Sequence[str]) -> Figure:
    """Reward parts against step; a part that no arm uses is left out."""
    used = [part for part in REWARDS if part[0] in steps and steps[part[0]].notna().any()]
    return curves(steps, arms, used)


def decomposition(steps: pd.DataFrame, arms: Sequence[str]) -> Figure:
    """Attempts per completion, hit rate per attempt and verdict accuracy against step."""
    return curves(steps, arms, DECOMPOSITION)


def health(steps: pd.DataFrame, arms: Sequence[str]) -> Figure:
    """Length, truncation, informative groups and entropy against step."""
    return curves(steps, arms, HEALTH)


def behaviour_curves(steps: pd.DataFrame, arms: Sequence[str]) -> Figure:
    """Share of completions with each behaviour against step."""
    return curves(steps, arms, BEHAVIOUR_SHARES)


def curves(
    steps: pd.DataFrame, arms: Sequence[str], measures: Sequence[tuple[str, str]], each_seed: bool = False
) -> Figure:
    """Draw (column, title) measures against step, one panel each, one colour and line style an arm.

    With `each_seed` seeds keep a thin line each, however many: where they part ways, a band would hide it.
    """
    present = [arm for arm in arms if (steps["arm"] == arm).any()]
    if not present or not measures:
        return empty_figure("No complete GRPO run")
    with style():
        fig = new_figure(1.75 * len(measures) + 0.6 + 0.26 * len(present))
        panels = np.atleast_1d(fig.subplots(len(measures), sharex=True))
        entries: dict[str, Artist] = {}
        for axes, (column, title) in zip(panels, measures, strict=True):
            for arm in present:
                line = _arm_curves(axes, steps[steps["arm"] == arm], column, arm, each_seed)
                entries.setdefault(arm_label(arm), line)
            axes.set_title(title)
            if is_share(column):
                axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
                # Whole percentages: ticks at 2.5 % would be written as 2 %.
                axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
                # A panel of noughts must not look like one of large shares.
                axes.set_ylim(top=max(axes.get_ylim()[1], 1.02 if column.startswith("frac_with") else 0.1))
            axes.set_ylim(bottom=0)
        window = f", mean over {SMOOTH}" if SMOOTH > 1 else ""
        panels[-1].set_xlabel(f"GRPO step{window}")
        legend_above(fig, entries)
    return fig


def band_note(steps: pd.DataFrame, arms: Sequence[str]) -> str:
    """Say what stands around the lines of a figure of these arms."""
    seeds = steps[steps["arm"].isin(arms)].groupby("arm")["seed"].nunique()
    if seeds.empty:
        return "no complete run"
    parts = ["lines of one seed"] if seeds.min() == 1 else []
    parts += ["thin lines: seeds"] if (seeds == 2).any() else []
    parts += ["bands: 95 % intervals over seeds"] if seeds.max() >= BAND_SEEDS else []
    return "; ".join(parts)


def is_share(column: str) -> bool:
    """Tell whether a column of `steps` holds shares, from 0 to 1."""
    return column.startswith("frac") or column in ("hit_rate", "verdict_accuracy", "correct_reward")


def _arm_curves(axes: Axes, steps: pd.DataFrame, column: str, arm: str, each_seed: bool) -> Artist:
    look = arm_style(arm)
    runs = steps.pivot_table(index="step", columns="seed", values=column, dropna=False).sort_index()
    smooth = runs.rolling(SMOOTH, min_periods=1).mean()
    if smooth.shape[1] >= BAND_SEEDS and not each_seed:
        # A step at which too few seeds have a value has no band: its interval would fill the panel.
        rows = [row[np.isfinite(row)] for row in smooth.to_numpy(float)]
        bands = [t_interval(row if len(row) >= BAND_SEEDS else []) for row in rows]
        ends = np.array([(band.lower, band.upper) for band in bands])
        lower, upper = (np.clip(ends, 0, 1) if is_share(column) else ends).T
        axes.fill_between(smooth.index, lower, upper, color=look.colour, alpha=0.22, lw=0)
    elif smooth.shape[1] > 1:
        axes.plot(smooth.index, smooth, color=look.colour, lw=0.7, alpha=0.55)
    (line,) = axes.plot(smooth.index, smooth.mean(axis=1), color=look.colour, ls=look.line, lw=2)
    return line
