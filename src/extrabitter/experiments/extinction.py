"""Absent, or extinct? What Four Habits logged, and a searcher whose habit was starved before it could pay.

The phase that starves it pays for form under a cap that no search fits in: what stops early is paid, what searches is
cut off. The habit's use plays no part, since nothing is right.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from extrabitter.digests import REPOSITORY
from extrabitter.pages import plots
from extrabitter.pages.plots import BLUE, GREEN, GREY, RED, Look
from extrabitter.statistics import Estimate, of_difference, of_measure, over_seed_values

THEIRS = REPOSITORY / "results"
PHASE = "format_phase"  # the arm of GRPO
# Column of table `steps` -> what a line is called, and its colour.
PARTS = {
    "format_reward": ("keeps the form", GREEN),
    "frac_searches": ("searches", BLUE),
    "correct_reward": ("is right", RED),
}
# What lessons showed -> colour and words.
KINDS = {
    "search": (BLUE, "lessons that search"),
    "nothing": (GREY, "none, or without search"),
    "natural": (GREEN, "texts by people"),
    "qwen": (RED, "Qwen, untaught"),
}


def four_habits() -> pd.DataFrame:
    """Return what Four Habits reports: columns arm, shows (of KINDS), start and end, accuracy at RL steps 0 and 250.

    Source: Gandhi et al., arXiv 2503.01307, as logged in its repository.
    """
    return pd.read_csv(THEIRS / "four_habits.csv")


def four_habits_log() -> dict[str, float]:
    """Return how often a completion goes back in their log, by model and step: llama_0, llama_30 and qwen_0."""
    log = pd.read_csv(THEIRS / "four_habits_log.csv")
    return dict(zip(log["name"], log["steps_back"], strict=True))


def rank_correlation(arms: pd.DataFrame) -> float:
    """Return Spearman's rank correlation of start and end over the arms that had lessons."""
    taught = arms[arms["arm"].str.startswith("taught")]
    return float(stats.spearmanr(taught["start"], taught["end"]).statistic)


def findings(summary: pd.DataFrame, steps: pd.DataFrame) -> dict[str, Estimate]:
    """Return what is found by name, each over seeds; `summary` has the arms of choke and of extinction.

    `first` and `left` are the chances that a completion begins to search before the phase and after it, on rare
    problems, and `absent` that of a guesser; `right` is the share right in the phase's training; `woke` the share that
    searches after RL on rare problems; `lost` what is solved then, starved minus searcher, `ahead` minus guesser.
    """
    phase = steps[steps["arm"] == PHASE].groupby("seed")["correct_reward"].mean()
    found = {"right": over_seed_values(phase)}
    for name, arm in {"first": "searcher", "left": "starved", "absent": "guesser"}.items():
        found[name] = of_measure(summary, f"before_{arm}_rare", "search_probability")
    found["woke"] = of_measure(summary, "after_starved_rare", "frac_searches")
    for name, arm in {"lost": "searcher", "ahead": "guesser"}.items():
        found[name] = of_difference(summary, "after_starved_rare", f"after_{arm}_rare")
    return found


def phase_figure(steps: pd.DataFrame, title: str) -> Figure:
    """Draw what the completions of the phase are like against generated tokens, means over seeds, lines named."""
    own = steps[steps["arm"] == PHASE].groupby("step")[["num_tokens", *PARTS]].mean()
    lines = [
        pd.DataFrame({"line": words, "num_tokens": own["num_tokens"], "value": own[column]})
        for column, (words, _) in PARTS.items()
    ]
    with plots.drawing(title, 2.3) as (fig, ax):
        ax.set(xlabel="tokens generated in training", ylabel="share of completions", ylim=(-0.02, 1.02))
        looks = {words: Look(colour) for words, colour in PARTS.values()}
        plots.lines(ax, pd.concat(lines), "line", "num_tokens", "value", looks)
    return fig


def their_figure(arms: pd.DataFrame, title: str) -> Figure:
    """Draw Four Habits' arms, accuracy before RL and after it, coloured by what their lessons showed."""
    with plots.drawing(title, 2.5) as (fig, ax):
        ax.set(xlabel="accuracy before RL", ylabel="accuracy after it")
        for kind, (colour, words) in KINDS.items():
            own = arms[arms["shows"] == kind]
            ax.plot(own["start"], own["end"], "o", color=colour, markersize=6)
            place = (own["start"].max(), own["end"].max())
            plots.write_small(ax, words, place, (7, 2), va="bottom", color=colour)
    return fig
