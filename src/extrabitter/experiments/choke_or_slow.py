"""Choke or slow? The guesser run on to the searcher's training tokens, on common and on rare problems.

A base that is only slow closes the gap if it is given as many tokens; one that chokes does not, however many. A sigmoid
through each run says where it is heading, and how far that can be told; a line through its end what more would bring.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from extrabitter.experiments.equal_cost import end_slope
from extrabitter.experiments.extrapolation import Sigmoid, fit_sigmoid
from extrabitter.pages import plots
from extrabitter.pages.plots import Look, describe
from extrabitter.statistics import Estimate, of_difference, of_measure, over_seed_values

ENDINGS = {"": "common problems", "_rare": "rare problems"}
MODELS = ("searcher", "guesser", "silenced")


def findings(summary: pd.DataFrame, steps: pd.DataFrame) -> dict[str, Estimate]:
    """Return what is found by name, over seeds; a name ends in `_rare` where its problems are rare.

    `summary` and `steps` are the store's tables. `<model>` is what it solves after RL and `start_<model>` before,
    `gap` the searcher's lead over the guesser, `knock_out` that over itself silenced, `apart` silenced minus guesser,
    `more_<model>` what as many training tokens again would bring at the slope of its last quarter, and `end_<model>`
    where its sigmoid ends.
    """
    found = {}
    for ending in ENDINGS:
        after = {model: f"after_{model}{ending}" for model in MODELS}
        found[f"gap{ending}"] = of_difference(summary, after["searcher"], after["guesser"])
        found[f"knock_out{ending}"] = of_difference(summary, after["searcher"], after["silenced"])
        found[f"apart{ending}"] = of_difference(summary, after["silenced"], after["guesser"])
        for model, arm in after.items():
            own = steps[steps["arm"] == f"{model}{ending}"]
            found[f"{model}{ending}"] = of_measure(summary, arm, "pass@1")
            found[f"start_{model}{ending}"] = of_measure(summary, f"before_{model}{ending}", "pass@1")
            found[f"more_{model}{ending}"] = over_seed_values(more(run) for _, run in own.groupby("seed"))
            found[f"end_{model}{ending}"] = over_seed_values(ends(own)["end"])
    return found


def more(run: pd.DataFrame) -> float:
    """Return what as many tokens again would bring a run, in solved training problems, along a line through its end."""
    return end_slope(run, "num_tokens") * float(run["num_tokens"].max())


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
