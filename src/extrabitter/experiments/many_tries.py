"""Sharper or broader? What RL adds to one try and to many, and what many tries of an untouched base cost instead.

With a checker beside it a model may draw k answers, and is right if one of them is. RL that only moves probability to
answers that the base drew anyway lifts k = 1 and lowers large k; what lifts both has found something. Source: Yue et
al., arXiv 2504.13837, for the comparison.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from extrabitter.pages import plots
from extrabitter.statistics import Estimate, of_measure, over_seed_values

MODELS = ("searcher", "guesser")
MOST = 8  # tries of every arm
# A training token is drawn once, and gone through forth and back. Source: 2 N operations a parameter forth, 4 N back.
TRAINING_COST = 4


def findings(tries: pd.DataFrame, ending: str = "") -> dict[str, Estimate]:
    """Return by name what k tries solve, each over seeds; `tries` is the store's table pass_at_k of one game.

    `<when>_<model>_<k>` is what is solved before or after RL, `gain_<model>_<k>` the difference, paired by seed; names
    end in `ending`, that of the band's arms.
    """
    found = {}
    for k in (1, MOST):
        wide = tries[tries["k"] == k].pivot(index="seed", columns="arm", values="value")
        for model in MODELS:
            after, before = wide[f"after_{model}{ending}"], wide[f"before_{model}{ending}"]
            found[f"after_{model}_{k}{ending}"] = over_seed_values(after)
            found[f"before_{model}_{k}{ending}"] = over_seed_values(before)
            found[f"gain_{model}_{k}{ending}"] = over_seed_values(after - before)
    return found


def break_even(summary: pd.DataFrame, training_tokens: float, ending: str = "") -> float:
    """Return the number of queries at which RL of the searcher has paid for itself against many tries without it.

    Against MOST tries of the untouched searcher, all of them drawn, which need a checker; RL's one answer needs none.
    Tokens of training count TRAINING_COST times. Infinite where an answer after RL is longer than all tries before.
    """
    lengths = [
        of_measure(summary, f"{when}_searcher{ending}", "mean_completion_tokens").value
        for when in ("before", "after")
    ]
    saved = MOST * lengths[0] - lengths[1]
    return TRAINING_COST * training_tokens / saved if saved > 0 else float("inf")


def figure(tables: Mapping[str, tuple[pd.DataFrame, str]], title: str) -> Figure:
    """Draw what k tries solve before RL, dotted, and after it, a panel a band: its words -> pass_at_k and ending."""
    shape = {"nrows": len(tables), "sharex": True, "squeeze": False}
    with plots.drawing(title, 0.4 + 1.9 * len(tables), **shape) as (fig, axes):
        for ax, (words, (tries, ending)) in zip(axes[:, 0], tables.items(), strict=True):
            ax.set_title(words, loc="left", fontsize=plots.SMALL, pad=3)
            ax.set(xscale="log", ylim=(0, 1.04), ylabel="solved")
            means = tries[tries["k"] <= MOST].groupby(["arm", "k"])["value"].mean()
            drawn, looks = [], {}
            for model in MODELS:
                name, line = plots.describe(model), means[f"before_{model}{ending}"]
                ax.plot(line.index, line, color=name.colour, linestyle=":", linewidth=1.8)
                drawn.append(means[f"after_{model}{ending}"].reset_index().assign(line=name.words))
                looks[name.words] = plots.Look(name.colour)
            plots.lines(ax, pd.concat(drawn), "line", "k", "value", looks)
            ax.set_xticks([1, 2, 4, 8], ["1", "2", "4", "8"])
            ax.minorticks_off()
        axes[-1, 0].set_xlabel("tries, of which one has to be right")
    return fig
