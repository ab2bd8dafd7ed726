"""Figures of single experiments: dose, take-off, decoders and selection; table in, Figure out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from extrabitter.dose import fit_logistic, has_every_rung
from extrabitter.figure_style import (
    GREY,
    INK,
    arm_label,
    arm_style,
    empty_figure,
    legend_above,
    new_figure,
    style,
)
from extrabitter.fitted_dynamics import DYNAMICS, predicted
from extrabitter.measured_shares import MeasuredRun

_STEP_LOOKS = (("#56b4e9", "o", ":"), ("#009e73", "s", "--"), ("#332288", "^", "-"))
_DYNAMICS_LOOKS = (("#767676", "-."), ("#0072b2", "--"), ("#d55e00", "-"))
_BEHAVIOUR_LOOKS = {
    "search": ("#222222", "o"),
    "verification": ("#0072b2", "s"),
    "backtracking": ("#d55e00", "^"),
    "subgoal_setting": ("#009e73", "D"),
    "backward_chaining": ("#cc79a7", "v"),
}


def dose_curves(read: pd.DataFrame) -> Figure:
    """Accuracy in training against the measured chance to search before it, one colour and mark a step.

    `read` is of `dose.readings`. Each mark is a run; a curve is the logistic through all seeds' marks of a step,
    drawn where every rung is there.
    """
    if read.empty:
        return empty_figure("No complete run of the ladder")
    with style():
        fig = new_figure(4.4)
        axes = fig.subplots()
        entries: dict[str, Artist] = {}
        steps = sorted(read["step"].unique())
        for step, (colour, marker, line) in zip(steps, _STEP_LOOKS, strict=False):
            rows = read[read["step"] == step]
            x, y = np.log10(rows["chance"].to_numpy(float)), rows["accuracy"].to_numpy(float)
            marks = axes.scatter(10**x, y, color=colour, marker=marker, s=26)
            if has_every_rung(rows):
                curve = np.linspace(x.min(), x.max(), 200)
                axes.plot(10**curve, fit_logistic(x, y)(curve), color=colour, ls=line)
            entries[f"GRPO step {step}"] = marks
        axes.set_xscale("log")
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set_xlabel("chance to begin a search before RL (measured)")
        axes.set_ylabel("training problems solved")
        legend_above(fig, entries)
    return fig


def take_off_times(found: pd.DataFrame) -> Figure:
    """Step at which search takes off against the chance before RL, log axes; a hollow triangle: not within the run.

    `found` is of `dose.take_off`. The grey line goes through the middle of the runs that took off, with the slope of a
    constant product of step and chance.
    """
    if found.empty:
        return empty_figure("No complete run")
    with style():
        fig = new_figure(3.8 + 0.24 * found["arm"].nunique())
        axes = fig.subplots()
        entries: dict[str, Artist] = {}
        for arm in found["arm"].unique():
            look, runs = arm_style(arm), found[found["arm"] == arm]
            off = runs["step"].notna()
            for rows, column, marker, face in (
                (runs[off], "step", look.marker, look.colour),
                (runs[~off], "last_step", "^", "white"),  # some arms' own marks have no inside to leave empty
            ):
                axes.plot(
                    rows["chance"], rows[column], ls="", marker=marker, ms=7, color=look.colour, mfc=face
                )
            entries[arm_label(arm)] = Line2D([], [], color=look.colour, marker=look.marker, ls="")
        reached = found[found["step"].notna()]
        if len(reached) < len(found):
            entries["not within the run"] = Line2D([], [], color=INK, marker="^", mfc="white", ls="")
        if len(reached):
            ends = np.array([found["chance"].min(), found["chance"].max()])
            middle = float(np.exp(np.log(reached["step"] * reached["chance"]).mean()))
            axes.plot(ends, middle / ends, color=GREY, lw=1)
            steps = found["step"].fillna(found["last_step"])
            axes.set_ylim(steps.min() / 2, steps.max() * 2)  # of the runs: the line goes far beyond them
            entries["constant product of step and chance"] = Line2D([], [], color=GREY, lw=1)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("chance to begin a search before RL (measured)")
        axes.set_ylabel("GRPO step at which most search")
        legend_above(fig, entries)
    return fig


def decoder_chances(decoding: pd.DataFrame, arms: Sequence[str]) -> Figure:
    """Chance to begin a search under each decoder, one row a decoder, one mark an arm; noughts at the left edge.

    `decoding` are collected tables of probes. Marks are means over seeds.
    """
    present = [arm for arm in arms if (decoding["arm"] == arm).any()]
    if not present:
        return empty_figure("No complete probe")
    decoders = list(dict.fromkeys(decoding["decoder"]))
    means = decoding[decoding["arm"].isin(present)].groupby(["arm", "decoder"])["value"].mean()
    shown = means[means > 0]
    floor = 10 ** np.floor(np.log10(shown.min())) / 10 if len(shown) else 1e-9
    with style():
        fig = new_figure(0.42 * len(decoders) + 0.9 + 0.26 * len(present))
        axes = fig.subplots()
        entries: dict[str, Artist] = {}
        for index, arm in enumerate(present):
            model = arm.removeprefix("probe_")
            look = arm_style(model)
            for row, decoder in enumerate(decoders):
                value = float(means[arm, decoder])
                place = row + 0.5 * ((index + 0.5) / len(present) - 0.5)
                mark = axes.scatter(max(value, floor), place, marker=look.marker, s=34, color=look.colour)
                entries.setdefault(arm_label(model), mark)
        axes.set_xscale("log")
        axes.set_xlim(floor / 1.6, 1.5)
        axes.axvline(floor * 2.5, color=GREY, lw=1, ls=":")
        axes.set_yticks(range(len(decoders)), decoders)
        axes.set_ylim(len(decoders) - 0.5, -0.5)
        axes.set_xlabel("chance to begin a search (left of the dotted line: nought)")
        legend_above(fig, entries)
    return fig


def advantage_and_change(pairs: pd.DataFrame) -> Figure:
    """Change of a behaviour's share under RL against its advantage before; hollow: a pair that does not count.

    `pairs` is of `selection.all_pairs`. In the two shaded quarters the advantage had the direction right.
    """
    known = pairs[np.isfinite(pairs["advantage"].to_numpy(float))]
    if known.empty:
        return empty_figure("No complete pair of probe and evaluations")
    with style():
        fig = new_figure(4.9)
        axes = fig.subplots()
        entries: dict[str, Artist] = {}
        for behaviour, (colour, marker) in _BEHAVIOUR_LOOKS.items():
            rows = known[known["behaviour"] == behaviour]
            counts = rows["counts"].astype(bool)
            axes.hlines(rows["change"], rows["lower"], rows["upper"], color=colour, lw=0.8, alpha=0.5)
            axes.scatter(
                rows.loc[~counts, "advantage"],
                rows.loc[~counts, "change"],
                marker=marker,
                s=30,
                color=colour,
                facecolors="white",
            )
            mark = axes.scatter(
                rows.loc[counts, "advantage"], rows.loc[counts, "change"], marker=marker, s=30, color=colour
            )
            entries[behaviour.replace("_", " ")] = mark
        axes.set_xlim(-1.02, 1.02)
        axes.set_ylim(-1.05, 1.05)
        axes.fill_between([0, 1.02], 0, 1.05, color="#e9f2ec", zorder=0)
        axes.fill_between([-1.02, 0], -1.05, 0, color="#e9f2ec", zorder=0)
        axes.axhline(0, color=INK, lw=0.8)
        axes.axvline(0, color=INK, lw=0.8)
        axes.set_xlabel("advantage before RL (success forced, minus otherwise)")
        axes.set_ylabel("change of its share under RL")
        legend_above(fig, entries)
    return fig


def forecasts(forecast: pd.DataFrame) -> Figure:
    """Accuracy after RL against its forecast before, one mark a model and seed; the diagonal is agreement.

    Columns: model, forecast, outcome. Rows without a forecast are left out.
    """
    known = forecast.dropna(subset="forecast")
    if known.empty:
        return empty_figure("Too few models were probed and trained for a forecast")
    with style():
        fig = new_figure(3.8 + 0.22 * known["model"].nunique())
        axes = fig.subplots()
        entries: dict[str, Artist] = {}
        for model, rows in known.groupby("model", sort=False):
            look = arm_style(str(model))
            mark = axes.scatter(
                rows["forecast"], rows["outcome"], marker=look.marker, s=34, color=look.colour
            )
            entries[arm_label(str(model))] = mark
        axes.axline((0, 0), slope=1, color=GREY, lw=1)
        axes.set_xlim(0, 1.02)
        axes.set_ylim(0, 1.02)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set_xlabel("forecast from the probe, model left out")
        axes.set_ylabel("solved after RL")
        legend_above(fig, entries)
    return fig


def fitted_shares(
    runs: Sequence[MeasuredRun], table: pd.DataFrame, arms: Sequence[str], fitted: float
) -> Figure:
    """Share that searches over steps with each dynamics' fitted curve, means over seeds, a panel an arm.

    `table` is of `fitted_dynamics.judged`; a panel shows the runs for which all dynamics have an error. Thin lines
    are seeds. The dotted line ends the steps that were fitted.
    """
    rates = table[table["dynamics"].isin(list(DYNAMICS)) & table["error"].notna()]
    rates = rates.set_index(["arm", "seed", "dynamics"])["rate"].astype(float).unstack("dynamics").dropna()
    shown = {arm: [run for run in runs if run.arm == arm and (arm, run.seed) in rates.index] for arm in arms}
    shown = {arm: found for arm, found in shown.items() if found}
    if not shown:
        return empty_figure("No run to which all three dynamics could be fitted")
    with style():
        fig = new_figure(2.1 * len(shown) + 1.5)
        panels = np.atleast_1d(fig.subplots(len(shown), sharex=True))
        entries: dict[str, Artist] = {}
        for axes, (arm, found) in zip(panels, shown.items(), strict=True):
            for run in found:
                axes.plot(run.step, run.share, color=INK, lw=0.5, alpha=0.35)
            mean = pd.concat([pd.Series(run.share, run.step) for run in found], axis=1).mean(axis=1)
            entries["measured"] = axes.plot(mean.index, mean, ".", ms=5, color=INK)[0]
            for (name, update), (colour, line) in zip(DYNAMICS.items(), _DYNAMICS_LOOKS, strict=True):
                curves = [
                    pd.Series(
                        predicted(run, update, np.array([rates.loc[(arm, run.seed), name]]))[:, 0], run.step
                    )
                    for run in found
                ]
                curve = pd.concat(curves, axis=1).mean(axis=1)
                entries[name] = axes.plot(curve.index, curve, ls=line, color=colour)[0]
            axes.axvline(fitted * max(int(run.step.max()) for run in found) + 0.5, color=INK, lw=1, ls=":")
            axes.set_title(arm_label(arm))
            axes.set_ylim(-0.03, 1.03)
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            axes.set_ylabel("searches")
        panels[-1].set_xlabel("GRPO step")
        legend_above(fig, entries)
    return fig
