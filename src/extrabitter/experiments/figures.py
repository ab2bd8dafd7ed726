"""Figures of the base-model and evaluation chapters: one function a figure, table in, Figure out.

Tables are collected ones (`artifacts.collect_table`): a run's table with columns arm and seed in front. Bars
and bands are 95 % intervals; with one seed they are over problems, with more over seeds. `training_figures`
holds the curves over GRPO steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from extrabitter.estimates import Estimate, of_measure, of_pass_at_k
from extrabitter.pages.plots import (
    GREY,
    INK,
    arm_label,
    arm_style,
    empty_figure,
    legend_above,
    new_figure,
    style,
)
from extrabitter.tables import BEHAVIOURS

AFTER = 0.18  # how far below the mark of before, in rows, the mark of after stands: intervals may overlap


def loss_curves(losses: pd.DataFrame) -> Figure:
    """Loss against tokens seen, one thin line a run, smoothed over fifty steps."""
    if losses.empty:
        return empty_figure("No complete training run")
    with style():
        fig = new_figure(3.6)
        axes = fig.subplots()
        entries: dict[str, Artist] = {}
        for (arm, _), run in losses.groupby(["arm", "seed"], sort=False):
            arm = str(arm)
            look = arm_style(arm)
            run = run.sort_values("step")
            smooth = run["loss"].rolling(50, min_periods=1).mean()
            (line,) = axes.plot(run["num_tokens"] / 1e6, smooth, color=look.colour, ls=look.line, lw=1.4)
            entries.setdefault(arm_label(arm), line)
        axes.set_xlabel("tokens seen (millions)")
        axes.set_ylabel("loss (nats per token)")
        legend_above(fig, entries)
    return fig


def bar_values(bars: pd.DataFrame) -> Figure:
    """Each competence bar's value (dot, interval) and threshold (line), one row a bar, one dot an arm and seed."""
    if bars.empty:
        return empty_figure("No complete base model")
    names = list(dict.fromkeys(bars["bar"] + " " + bars["direction"]))
    with style():
        fig = new_figure(0.6 * len(names) + 0.9 + 0.26 * bars["arm"].nunique())
        axes = fig.subplots()
        entries: dict[str, Artist] = {}
        arms = list(dict.fromkeys(bars["arm"]))
        for row, name in enumerate(names):
            here = bars[bars["bar"] + " " + bars["direction"] == name]
            # The scales differ, so each row is drawn as a ratio to its own threshold.
            for arm in dict.fromkeys(here["arm"]):
                runs = here[here["arm"] == arm]
                look = arm_style(arm)
                places = row + 0.4 * (arms.index(arm) + 0.5) / len(arms)
                ratio = runs[["value", "lower", "upper"]].div(runs["threshold"], axis=0)
                axes.hlines([places] * len(runs), ratio["lower"], ratio["upper"], color=look.colour, lw=1.2)
                dots = axes.scatter(
                    ratio["value"], [places] * len(runs), color=look.colour, marker=look.marker, s=26
                )
                entries.setdefault(arm_label(arm), dots)
        axes.axvline(1, color=INK, lw=1.2)
        _name_rows(axes, [name.replace(">=", "≥").replace("<=", "≤") for name in names])
        axes.set_xlabel("value / threshold")
        legend_above(fig, entries)
    return fig


def search_rate_by_dose(rates: pd.DataFrame) -> Figure:
    """Measured uncued search against the nominal share, log axes; bases of nominal share 0 stand at the left.

    Filled: teacher-forced; hollow: sampled. Where no sample searched there is an interval and no mark. Columns of
    `rates`: arm, seed, nominal, way ("teacher-forced" or "sampled"), value, lower, upper.
    """
    if rates.empty:
        return empty_figure("No base model with a measured search rate")
    doses = rates.loc[rates["nominal"] > 0, "nominal"]
    lowest = doses.min() if len(doses) else 0.01
    floor = rates.loc[rates["value"] > 0, "value"].min() / 10  # what is below cannot be told from it
    nought = lowest / 10  # where a share of 0 stands on a log axis
    with style():
        fig = new_figure(3.4 + 0.24 * rates["arm"].nunique())
        axes = fig.subplots()
        entries: dict[str, Artist] = {}
        arms = list(dict.fromkeys(rates["arm"]))
        columns = ("arm", "nominal", "way", "value", "lower", "upper")
        for arm, dose, way, value, lower, upper in zip(*(rates[name] for name in columns), strict=True):
            look, filled = arm_style(arm), way == "teacher-forced"
            place = (dose or nought) * 1.12 ** (arms.index(arm) - len(arms) / 2) * (1.0 if filled else 1.06)
            ends = (max(lower, floor), max(upper, floor))
            axes.vlines(place, *ends, color=look.colour, lw=1.4, ls="-" if filled else ":")
            if value > 0:
                face = look.colour if filled else "white"
                mark = axes.scatter(
                    place, value, s=42, marker=look.marker, edgecolors=look.colour, color=face, zorder=3
                )
                entries.setdefault(arm_label(arm), mark)
        line = np.array([lowest / 2, max(doses.max() if len(doses) else lowest, lowest) * 2])
        axes.plot(line, line, color=GREY, lw=1)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(bottom=floor)
        ticks = [nought, *sorted(set(doses))]
        axes.set_xticks(ticks, ["0", *(f"{100 * dose:g} %" for dose in ticks[1:])])
        axes.minorticks_off()
        axes.set_xlabel("uncued documents that search (nominal)")
        axes.set_ylabel("measured chance to search")
        legend_above(fig, entries)
    return fig


def search_rates(summary: pd.DataFrame, arms: Sequence[str]) -> Figure:
    """Share of completions that search, one row an arm (evaluation arms, e.g. base_rich)."""
    return _dots(summary, arms, "frac_searches", "completions that search")


def accuracies(summary: pd.DataFrame, arms: Sequence[str]) -> Figure:
    """Pass@1, one row an arm."""
    return _dots(summary, arms, "pass@1", "pass@1")


def _dots(summary: pd.DataFrame, arms: Sequence[str], measure: str, label: str) -> Figure:
    found = [(arm, of_measure(summary, arm, measure)) for arm in arms]
    found = [(arm, estimate) for arm, estimate in found if estimate.measured]
    if not found:
        return empty_figure("No complete evaluation")
    with style():
        fig = new_figure(0.62 * len(found) + 0.8)
        axes = fig.subplots()
        for row, (arm, estimate) in enumerate(found):
            _mark(axes, estimate, row, arm)
            seeds = summary[(summary["arm"] == arm) & (summary["measure"] == measure)]
            if estimate.num_seeds > 1:
                axes.scatter(seeds["value"], [row + 0.22] * len(seeds), color=GREY, s=9)
        _name_rows(axes, [arm_label(arm) for arm, _ in found])
        _in_percent(axes)
        _from_zero(axes)
        axes.set_xlabel(label)
    return fig


def _from_zero(axes: Axes) -> None:
    """Begin the axis at nought, with room for a mark that stands there."""
    right = axes.get_xlim()[1]
    axes.set_xlim(-0.025 * right, right)


def _in_percent(axes: Axes) -> None:
    """Write whole percentages below the axis, and let shares of a few per cent look as small as they are.

    The axis ends where shares do: an interval over few seeds may be wider than all that there is, and leaves the panel.
    """
    axes.set_xlim(right=min(max(axes.get_xlim()[1], 0.1), 1.02))
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Write each row's name above its marks, inside the panel: beside it, it would take half the width."""
    for row, name in enumerate(names):
        axes.text(0.01, row - 0.3, name, va="center", transform=axes.get_yaxis_transform(), fontsize=10.5)
    axes.set_yticks([])
    axes.set_ylim(len(names) - 0.55, -0.65)


def _mark(axes: Axes, estimate: Estimate, row: float, arm: str, filled: bool = True) -> None:
    look = arm_style(arm)
    axes.hlines(row, estimate.lower, estimate.upper, color=look.colour, lw=2)
    axes.plot(
        estimate.value, row, look.marker, color=look.colour, mfc=look.colour if filled else "white", ms=8
    )


def before_and_after(
    summary: pd.DataFrame, pairs: Sequence[tuple[str, str]], measure: str, label: str
) -> Figure:
    """A measure before (hollow) and after RL (filled), one row a pair of evaluation arms (before, after).

    Of a pair with one side missing the other is shown; a pair without any is named as missing.
    """
    with style():
        fig = new_figure(0.66 * max(len(pairs), 1) + 1.3)
        axes = fig.subplots()
        for row, (before, after) in enumerate(pairs):
            start, end = of_measure(summary, before, measure), of_measure(summary, after, measure)
            if start.measured and end.measured:
                axes.annotate(
                    "",
                    (end.value, row + AFTER),
                    (start.value, row),
                    arrowprops={
                        "arrowstyle": "->",
                        "color": arm_style(after).colour,
                        "lw": 1.2,
                        "shrinkA": 6,
                    },
                )
            if start.measured:
                _mark(axes, start, row, before, filled=False)
            if end.measured:
                _mark(axes, end, row + AFTER, after)
            else:
                axes.text(
                    0.99,
                    row + 1.6 * AFTER,  # below the mark of before, which may stand at the edge
                    "not run, or failed",
                    color=GREY,
                    ha="right",
                    va="center",
                    transform=axes.get_yaxis_transform(),
                )
        _name_rows(axes, [arm_label(after) for _, after in pairs])
        if measure.startswith(("pass", "frac")) or measure.endswith(("rate", "accuracy")):
            _in_percent(axes)
        _from_zero(axes)
        axes.set_xlabel(label)
        hollow = Line2D([], [], color=INK, marker="o", mfc="white", ls="", ms=8)
        solid = Line2D([], [], color=INK, marker="o", ls="", ms=8)
        legend_above(fig, {"before RL": hollow, "after RL": solid})
    return fig


def start_and_end(starts_and_ends: pd.DataFrame) -> Figure:
    """Accuracy after RL against accuracy before, one panel a group, one mark a condition; the diagonal is no gain.

    Columns: group (panel), arm (for the mark), name, start, end. Marks are numbered, and named below the panel.
    """
    if starts_and_ends.empty:
        return empty_figure("No complete evaluation")
    groups = list(dict.fromkeys(starts_and_ends["group"]))
    with style():
        fig = new_figure(3.4 * len(groups) + 0.21 * len(starts_and_ends))
        panels = fig.subplots(len(groups), squeeze=False)[:, 0]
        for axes, group in zip(panels, groups, strict=True):
            rows = starts_and_ends[starts_and_ends["group"] == group]
            axes.axline((0, 0), slope=1, color=GREY, lw=1)
            for number, row in enumerate(rows.itertuples(), start=1):
                look = arm_style(str(row.arm))
                label = f"{number}  {row.name}"
                axes.plot(row.start, row.end, look.marker, color=look.colour, ms=8, ls="", label=label)
                axes.annotate(
                    str(number), (row.start, row.end), xytext=(6, 4), textcoords="offset points", fontsize=10
                )
            axes.set_title(group)
            axes.set_xlim(-0.03, 1.03)
            axes.set_ylim(-0.03, 1.08)
            axes.set_xlabel("accuracy before RL")
            axes.set_ylabel("accuracy after RL")
            axes.legend(loc="upper left", bbox_to_anchor=(-0.12, -0.2), fontsize=9.5, labelspacing=0.25)
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter(PercentFormatter(1, decimals=0))
    return fig


def behaviour_shares(summary: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> Figure:
    """Share of completions with each behaviour before (hollow) and after RL (filled), one panel a behaviour."""
    with style():
        fig = new_figure(0.58 * max(len(pairs), 1) * len(BEHAVIOURS) + 2.4)
        panels = fig.subplots(len(BEHAVIOURS), sharex=True)
        for axes, behaviour in zip(panels, BEHAVIOURS, strict=True):
            for row, (before, after) in enumerate(pairs):
                for arm, place, filled in ((before, row, False), (after, row + AFTER, True)):
                    estimate = of_measure(summary, arm, f"frac_with_{behaviour}")
                    if estimate.measured:
                        _mark(axes, estimate, place, arm, filled)
            axes.set_title(behaviour.replace("_", " "))
            _name_rows(axes, [arm_label(after) for _, after in pairs])
            axes.set_xlim(-0.02, 1.02)
        panels[-1].xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        panels[-1].set_xlabel("completions with the behaviour")
        hollow = Line2D([], [], color=INK, marker="o", mfc="white", ls="", ms=8)
        solid = Line2D([], [], color=INK, marker="o", ls="", ms=8)
        legend_above(fig, {"before RL": hollow, "after RL": solid})
    return fig


def pass_at_k_curves(
    pass_at_k: pd.DataFrame, pairs: Sequence[tuple[str, str]], titles: Sequence[str] = ()
) -> Figure:
    """pass@k against k, before (dashed) and after RL (solid), one panel a pair of evaluation arms.

    A panel's title is the model's name, unless `titles` has one for each pair.
    """
    named = [
        (pair, title)
        for pair, title in zip(pairs, titles or [arm_label(after) for _, after in pairs], strict=True)
        if pass_at_k["arm"].isin(pair).any()
    ]
    if not named:
        return empty_figure("No complete evaluation")
    with style():
        fig = new_figure(1.75 * len(named) + 1.0)
        panels = np.atleast_1d(fig.subplots(len(named), sharex=True, sharey=True))
        for axes, ((before, after), title) in zip(panels, named, strict=True):
            for arm, line, fill in ((before, "--", 0.12), (after, "-", 0.22)):
                ks = sorted(pass_at_k.loc[pass_at_k["arm"] == arm, "k"].unique())
                estimates = [of_pass_at_k(pass_at_k, arm, int(k)) for k in ks]
                look = arm_style(arm)
                axes.plot(
                    ks, [e.value for e in estimates], ls=line, marker=look.marker, ms=5, color=look.colour
                )
                axes.fill_between(
                    ks,
                    [e.lower for e in estimates],
                    [e.upper for e in estimates],
                    color=look.colour,
                    alpha=fill,
                    lw=0,
                )
            axes.set_title(title)
            axes.set_ylim(0, 1.02)
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set_xscale("log", base=2)
        ticks = sorted(
            pass_at_k.loc[pass_at_k["arm"].isin([a for pair, _ in named for a in pair]), "k"].unique()
        )
        axes.set_xticks(ticks, [str(k) for k in ticks])
        axes.set_xlabel("k, samples allowed")
        fig.supylabel("pass@k", fontsize=11)
        dashed, solid = Line2D([], [], color=INK, ls="--"), Line2D([], [], color=INK, ls="-")
        legend_above(fig, {"before RL": dashed, "after RL": solid})
    return fig


def solved_by_tokens(
    pass_at_k: pd.DataFrame,
    summary: pd.DataFrame,
    panels: Sequence[tuple[str, Sequence[tuple[str, str]]]],
) -> Figure:
    """pass@k against the tokens that k samples take on average; before (dashed) and after RL (solid).

    `panels`: title, and pairs of evaluation arms (before, after) in one panel, so that models can be compared at
    equal cost.
    """
    arms = [arm for _, pairs in panels for pair in pairs for arm in pair]
    if not pass_at_k["arm"].isin(arms).any():
        return empty_figure("No complete evaluation")
    with style():
        fig = new_figure(2.6 * len(panels) + 1.4)
        entries: dict[str, Artist] = {}
        for axes, (title, pairs) in zip(
            np.atleast_1d(fig.subplots(len(panels), sharex=True, sharey=True)), panels, strict=True
        ):
            for before, after in pairs:
                for arm, line in ((before, "--"), (after, "-")):
                    look = arm_style(arm)
                    tokens = of_measure(summary, arm, "mean_completion_tokens").value
                    ks = sorted(pass_at_k.loc[pass_at_k["arm"] == arm, "k"].unique())
                    if not ks:
                        continue
                    values = [of_pass_at_k(pass_at_k, arm, int(k)).value for k in ks]
                    when = "before" if arm == before else "after"
                    (drawn,) = axes.plot(
                        np.multiply(ks, tokens), values, ls=line, marker=look.marker, ms=5, color=look.colour
                    )
                    entries.setdefault(f"{arm_label(arm)}, {when} RL", drawn)
            axes.set_title(title)
            axes.set_ylim(0, 1.02)
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set_xscale("log")
        axes.set_xlabel("tokens generated for a problem (mean)")
        fig.supylabel("solved", fontsize=11)
        legend_above(fig, entries)
    return fig
