"""Choke or slow? The guesser run on to the searcher's training tokens, on common and on rare problems.

A base that is only slow closes the gap if it is given as many tokens; one that chokes does not, however many. A sigmoid
through each run says where it is heading, and how far that can be told; a line through its end what more would bring.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from extrabitter.experiments import taste_test
from extrabitter.experiments.equal_cost import end_slope, training_curves
from extrabitter.experiments.extrapolation import Sigmoid, fit_sigmoid
from extrabitter.pages import plots
from extrabitter.pages.plots import Look, describe
from extrabitter.statistics import Estimate, over_seed_values

ENDINGS = ("", "_rare")
MODELS = ("searcher", "guesser", "silenced")


def findings(summary: pd.DataFrame, steps: pd.DataFrame) -> dict[str, Estimate]:
    """Return what is found by name, over seeds; a name ends in `_rare` where its problems are rare.

    `summary` and `steps` are the store's tables. To `taste_test.findings` come `more_<model>`, what as many training
    tokens again would bring at the slope of its last quarter; `end_<model>`, where its sigmoid ends; and `sooner`, how
    many times sooner the searcher solved what the guesser solves at its end.
    """
    found: dict[str, Estimate] = {}
    for ending in ENDINGS:
        found |= taste_test.findings(summary, ending)
        for model in MODELS:
            own = steps[steps["arm"] == f"{model}{ending}"]
            found[f"more_{model}{ending}"] = over_seed_values(more(run) for _, run in own.groupby("seed"))
            found[f"end_{model}{ending}"] = over_seed_values(ends(own)["end"])
        found[f"sooner{ending}"] = over_seed_values(sooner(steps, f"searcher{ending}", f"guesser{ending}"))
    return found


def more(run: pd.DataFrame) -> float:
    """Return what as many tokens again would bring a run, in solved training problems, along a line through its end."""
    return end_slope(run, "num_tokens") * float(run["num_tokens"].max())


def sooner(steps: pd.DataFrame, arm: str, rival: str, window: int = 20) -> list[float]:
    """Return by seed the tokens of `rival` at its end over those after which `arm` had solved as much.

    Both are means over `window` steps. Where `arm` never got there, it is taken to have done so at its own end.
    """
    ratios = []
    for _, run in training_curves(steps[steps["arm"].isin([arm, rival])], window).groupby("seed"):
        own, other = run[run["arm"] == arm], run[run["arm"] == rival]
        if len(own) and len(other):
            there = own["num_tokens"][own["solved"] >= other["solved"].iloc[-1]]
            ratios.append(
                other["num_tokens"].max() / (there.min() if len(there) else own["num_tokens"].max())
            )
    return ratios


def ends(steps: pd.DataFrame) -> pd.DataFrame:
    """Return the sigmoid through each run of table `steps`: columns arm, seed, start, end, middle, steepness."""
    rows = []
    for (arm, seed), run in steps.groupby(["arm", "seed"], sort=False):
        own = run.sort_values("step")
        rows.append((arm, seed, *fit_sigmoid(own["num_tokens"], own["correct_reward"])))
    return pd.DataFrame(rows, columns=["arm", "seed", *Sigmoid._fields])


def figure(
    curves: pd.DataFrame, fitted: pd.DataFrame, title: str, models: Sequence[str] = MODELS[:2]
) -> Figure:
    """Draw what is solved against tokens, on a logarithmic scale, and at the right where sigmoids end.

    `curves` is of `equal_cost.on_tokens`, `fitted` of `ends`; the bars at the right are intervals over seeds.
    """
    looks: Mapping[str, Look] = {describe(model).words: Look(describe(model).colour) for model in models}
    with plots.drawing(title, 2.5) as (fig, ax):
        parts = []
        for model in models:
            parts.append(plots.mean_over_seeds(curves, model, "solved", "num_tokens", 1))
        table = pd.concat(parts)
        ax.set(xscale="log", xlabel="tokens written in training")
        ax.set(ylim=(-0.02, 1.02), ylabel="training problems solved")
        last = float(table["x"].max())
        for place, model in enumerate(models):
            end, colour = over_seed_values(fitted.loc[fitted["arm"] == model, "end"]), describe(model).colour
            x = last * (1.5 + 0.25 * place)
            ax.plot([x, x], np.clip([end.lower, end.upper], 0, 1), color=colour, linewidth=3.2, alpha=0.45)
            ax.plot(x, end.value, describe(model).marker, color=colour, markersize=6)
        ax.set_xlim(float(table["x"].min()), last * 3)
        plots.lines(ax, table, "words", "x", "value", looks)
    return fig
