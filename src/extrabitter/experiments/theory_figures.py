"""Figures of the theory chapter: a table of ``theory_tables`` in, a Figure out."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from extrabitter.pages.plots import GREY, legend_above, new_figure, style
from extrabitter.experiments.success_map import success_map, success_map_fixed_points, success_map_slope

# Okabe and Ito's colours, as on the other pages.
BLUE, ORANGE, GREEN, RED, PURPLE = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7"

METHODS = {
    "exhaustive search": (GREY, "-."),
    "random search": (GREEN, "--"),
    "exact policy gradient": (BLUE, ":"),
    "sampled GRPO": (RED, "-"),
}
CONDITIONS = {
    (False, False): (BLUE, "o", "no division, only path to success"),
    (True, False): (RED, "s", "divided by std, only path to success"),
    (False, True): (GREEN, "^", "no division, rival pays"),
    (True, True): (ORANGE, "v", "divided by std, rival pays"),
}
DYNAMICS = {
    "replicator": (GREY, "-."),
    "SGD, exact": (BLUE, "-"),
    "SGD, sampled": (BLUE, "--"),
    "Adam, exact": (RED, "-"),
    "Adam, sampled": (RED, "--"),
}


def _stacked(rows: int, height_in: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure of the book's width with its panels, to be called inside ``style()``."""
    figure = new_figure(height_in)
    return figure, [figure.add_subplot(rows, columns, 1 + index) for index in range(rows * columns)]


def four_ways_figure(table: pd.DataFrame, num_candidates: int) -> Figure:
    """Draw chance of a right answer against evaluated candidates, one panel a starting mass."""
    masses = sorted(table["start_mass"].unique())
    with style():
        figure, axes = _stacked(len(masses), 2.3 * len(masses) + 1.2)
        for ax, mass in zip(axes, masses, strict=True):
            for method, (colour, line) in METHODS.items():
                rows = table[(table["start_mass"] == mass) & (table["method"] == method)]
                ax.plot(rows["num_evaluations"], rows["value"], line, color=colour, label=method)
                if method == "sampled GRPO":
                    x, low, high = rows["num_evaluations"], rows["lower"], rows["upper"]
                    ax.fill_between(x, low, high, color=colour, alpha=0.2, lw=0)
            ax.axvline(num_candidates, color="black", lw=0.8, ls=":")
            ax.set(xscale="log", ylim=(-0.04, 1.04), ylabel="chance of a\nright answer")
            start = "0" if mass == 0 else f"$10^{{{np.log10(mass):.0f}}}$"
            ax.set_title(f"starting share of the solution: {start}")
        axes[-1].set_xlabel("candidates evaluated")
        legend_above(figure, dict(zip(METHODS, axes[0].get_lines(), strict=False)))
    return figure


def escape_figure(times: pd.DataFrame) -> Figure:
    """Draw escape steps against the starting share, closed forms as lines; a panel a learner and gradient."""
    with style():
        figure, axes = _stacked(2, 7.4, columns=2)
        handles: dict[str, Artist] = {}
        panels = [(optimiser, gradient) for optimiser in ("sgd", "adam") for gradient in ("exact", "sampled")]
        for ax, (optimiser, gradient) in zip(axes, panels, strict=True):
            panel = times[(times["optimiser"] == optimiser) & (times["gradient"] == gradient)]
            for (std, rival), (colour, marker, label) in CONDITIONS.items():
                rows = panel[(panel["divide_by_std"] == std) & ((panel["rival_pay"] > 0) == rival)]
                x, y = rows["start"], rows["median"]
                ax.vlines(x, rows["lower"], rows["upper"], color=colour, lw=1)
                (handles[label],) = ax.plot(x, y, marker, ms=5, color=colour, mfc="none")
                if optimiser == "sgd":
                    ax.plot(x, rows["predicted"], "-", color=colour, lw=1)
            if optimiser == "adam" and gradient == "exact":
                rows = panel.drop_duplicates("start")
                (handles["Adam's bound: ascent by sign"],) = ax.plot(
                    rows["start"], rows["predicted"], "k--", lw=1
                )
            ax.set_title(f"{'SGD' if optimiser == 'sgd' else 'Adam'}, {gradient}")
            ax.set(xscale="log", yscale="log", ylim=(3, 1e5), xlim=(5e-5, 0.2))
        for ax in axes[2:]:
            ax.set_xlabel("starting share")
        for ax in (axes[0], axes[2]):
            ax.set_ylabel("steps to one half")
        legend_above(figure, handles)
    return figure


def success_map_figure(table: pd.DataFrame, curves: list[tuple[float, float]]) -> Figure:
    """Draw Mroueh's map for pairs (reference, beta) and, below, its iterates with converged inner loops."""
    edges = (3e-5, 1 - 3e-5)
    grid = 1 / (1 + np.exp(-np.linspace(-10.4, 10.4, 801)))
    with style():
        figure, (upper, lower) = _stacked(2, 7.6)
        looks = ((BLUE, "-"), (GREEN, "--"), (RED, "-."))
        upper.plot(grid, grid, color="black", lw=0.8, ls=":")
        handles: dict[str, Artist] = {}
        for (reference, beta), (colour, line) in zip(curves, looks, strict=True):
            upper.plot(grid, [success_map(p, reference, beta) for p in grid], line, color=colour)
            for point in success_map_fixed_points(reference, beta):
                if edges[0] < point < edges[1]:
                    attracts = abs(success_map_slope(point, reference, beta)) < 1
                    upper.plot(point, point, "o", ms=8, color=colour, mfc=colour if attracts else "white")
            rows = table[(table["reference"] == reference) & (table["beta"] == beta)]
            label = f"reference {reference:g}, $\\beta$ = {beta:g}"
            (handles[label],) = lower.plot(rows["iteration"], rows["map"], line, color=colour)
            lower.plot(rows["iteration"], rows["inner_loop"], "x", color=colour, ms=7)
        upper.set(xscale="logit", yscale="logit", xlim=edges, ylim=edges)
        places = [1e-4, 1e-2, 0.5, 0.99, 0.9999]
        upper.set_xticks(places, ["0.0001", "0.01", "0.5", "0.99", "0.9999"])
        upper.set_yticks(places, ["0.0001", "0.01", "0.5", "0.99", "0.9999"])
        upper.minorticks_off()
        upper.set(xlabel="success chance before, p", ylabel="after one iteration, h(p)")
        lower.set(xlabel="outer iteration", ylabel="success chance", ylim=(-0.04, 1.04))
        legend_above(figure, handles)
    return figure


def selection_figure(shares: pd.DataFrame, deaths: pd.DataFrame) -> Figure:
    """Draw the best type's share under five dynamics, and how often it shrank, by step size."""
    with style():
        figure, axes = _stacked(3, 10.4)
        best = shares[shares["type"] == 0]
        for name, (colour, line) in DYNAMICS.items():
            rows = best[best["dynamics"] == name]
            axes[0].plot(rows["step"], rows["value"], line, color=colour, label=name)
            if "sampled" in name:
                axes[0].fill_between(
                    rows["step"], rows["lower"], rows["upper"], color=colour, alpha=0.15, lw=0
                )
        axes[0].axhline(float(best["value"].iloc[0]), color="black", lw=0.8, ls=":")
        axes[0].set(yscale="log", xlabel="step", ylabel="share of the best type", ylim=(1e-3, 1.4))
        handles: dict[str, Artist] = dict(zip(DYNAMICS, axes[0].get_lines(), strict=False))
        for ax, optimiser, title in ((axes[1], "sgd", "SGD, sampled"), (axes[2], "adam", "Adam, sampled")):
            for groups, colour, marker in ((1, PURPLE, "o"), (8, GREEN, "s")):
                rows = deaths[(deaths["optimiser"] == optimiser) & (deaths["num_groups"] == groups)]
                rate = rows["learning_rate"]
                ax.vlines(rate, rows["lower"], rows["upper"], color=colour, lw=1)
                ax.plot(rate, rows["value"], marker + "-", ms=5, color=colour)
                ax.plot(rate, rows["frac_dead"], marker + ":", ms=5, mfc="white", color=colour)
                label = f"below its start, {groups} group{'s' if groups > 1 else ''} a step"
                handles[label] = Line2D([], [], color=colour, marker=marker)
            ax.set(xscale="log", ylim=(-0.04, 1.04), xlabel="learning rate", ylabel="share of runs")
            ax.set_title(title)
        handles["down to a tenth or less, later"] = Line2D(
            [], [], color=GREY, marker="o", mfc="white", ls=":"
        )
        legend_above(figure, handles)
    return figure


def group_figure(table: pd.DataFrame) -> Figure:
    """Draw the chance that a group is informative and the gain of dividing by its standard deviation."""
    with style():
        figure, (upper, lower) = _stacked(2, 6.6)
        handles: dict[str, Artist] = {}
        looks = ((BLUE, "-."), (RED, "-"), (GREEN, "--"))
        for (size, rows), (colour, line) in zip(table.groupby("num_generations"), looks, strict=True):
            (handles[f"G = {size}"],) = upper.plot(
                rows["probability"], rows["informative"], line, color=colour
            )
            lower.plot(rows["probability"], rows["gain"], line, color=colour)
            seen = rows[rows["probability"] >= 1e-3]  # below it a dot is a handful of lucky groups
            lower.plot(seen["probability"], seen["simulated"], "o", ms=5, mfc="none", color=colour)
        p = table["probability"].drop_duplicates()
        (handles["exact gradient: 1 / std"],) = lower.plot(p, 1 / np.sqrt(p * (1 - p)), "k:", lw=1.2)
        upper.set(xscale="log", yscale="log", ylabel="chance that a group\nis informative")
        lower.set(xscale="log", yscale="log", xlabel="success chance p", ylabel="gain on the gradient")
        legend_above(figure, handles)
    return figure
