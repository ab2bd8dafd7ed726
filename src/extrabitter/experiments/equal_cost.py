"""What the same tokens buy: an arm that searches against rivals given as many tokens, at test and in training.

A search is long, and a rival that writes a short answer may write several for the price of one search. What it gets
then depends on who picks among them: `behaviours.rivals` has the ways. Here they are compared over seeds.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from extrabitter.behaviours.rivals import legal_answers, rivals_table
from extrabitter.pages import plots
from extrabitter.pages.text import percent
from extrabitter.statistics import Estimate, over_seed_values
from extrabitter.tasks import Task

CHECKED, VOTED, ENUMERATOR = "outside checker", "majority", "enumerator"


def equal_cost(completions: pd.DataFrame, task: Task, searcher: str, rivals: list[str]) -> pd.DataFrame:
    """Compare a searching arm's one answer with rivals at its tokens, problem by problem; a row a seed, arm and method.

    `completions` is the store's table; seeds that lack one of the arms are left out. Columns: seed, and those of
    `behaviours.rivals.rivals_table`, where the searching arm is called "searcher" and "enumerator" has no model.
    """
    tables = []
    for seed, own in completions.groupby("seed"):
        arms = {arm: own[own["arm"] == arm] for arm in (searcher, *rivals)}
        if not any(samples.empty for samples in arms.values()):
            names = [str(name) for name in arms[searcher]["problem"].unique()]
            others = {arm: arms[arm] for arm in rivals}
            table = rivals_table(arms[searcher], others, legal_answers(task, names), int(str(seed)))
            tables.append(table.assign(seed=seed))
    return pd.concat(tables, ignore_index=True)


def solved(table: pd.DataFrame, arm: str, method: str) -> Estimate:
    """Estimate the share of problems that a rival solves by some method at the searcher's tokens, over seeds."""
    return over_seed_values(_rows(table, arm, method)["value"])


def lead(table: pd.DataFrame, arm: str, method: str) -> Estimate:
    """Estimate what the searcher solves minus what a rival does by some method, paired by problem, over seeds."""
    return over_seed_values(_rows(table, arm, method)["gap"])


def _rows(table: pd.DataFrame, arm: str, method: str) -> pd.DataFrame:
    return table[(table["arm"] == arm) & (table["method"] == method)]


def same_tokens_figure(table: pd.DataFrame, one_answer: Estimate, rival: str, title: str) -> Figure:
    """Draw what a search's tokens buy: the searcher, a rival by each method and with one answer, and no model at all.

    `rival` is the arm of `table` that is drawn; `one_answer` is what it solves with one, at its own few tokens.
    """
    model = rival.partition("_")[2]
    rows = [
        plots.Row("searcher", "searcher", over_seed_values(table[table["arm"] == "searcher"]["value"])),
        plots.Row(f"{model}, a checker picks", model, solved(table, rival, CHECKED)),
        plots.Row(f"{model}, they vote", model, solved(table, rival, VOTED)),
        plots.Row(f"{model}, one answer", model, one_answer),
        plots.Row("a list, a checker picks", ENUMERATOR, solved(table, ENUMERATOR, CHECKED)),
    ]
    rows.sort(key=lambda row: -row.end.value)
    fig = plots.dot_rows(rows, title, "unseen problems solved")
    for place, row in enumerate(rows):
        said, at = percent(row.end.value), (row.end.value, -place)
        fig.axes[0].annotate(
            said, at, (-9, 0), textcoords="offset points", ha="right", va="center", fontsize=9.5
        )
    return fig


def training_curves(steps: pd.DataFrame, window: int = 5) -> pd.DataFrame:
    """Return table `steps` in the order of steps, with the running mean of training problems solved.

    Added column: solved, the mean of `correct_reward` over the last `window` steps of a run.
    """
    curves = []
    for _, own in steps.groupby(["arm", "seed"], sort=False):
        own = own.sort_values("step")
        curves.append(own.assign(solved=own["correct_reward"].rolling(window, min_periods=1).mean()))
    return pd.concat(curves, ignore_index=True)


def on_tokens(curves: pd.DataFrame, num_points: int = 60) -> pd.DataFrame:
    """Return the running means of `training_curves` at the same numbers of tokens for all seeds of an arm.

    Columns: arm, seed, num_tokens, solved; between two steps on a straight line, and no further than all seeds went.
    """
    found = []
    for arm, own in curves.groupby("arm", sort=False):
        ends = own.groupby("seed")["num_tokens"].agg(["min", "max"])
        grid = np.linspace(ends["min"].max(), ends["max"].min(), num_points).round()
        for seed, run in own.groupby("seed"):
            solved = np.interp(grid, run["num_tokens"], run["solved"])
            found.append(pd.DataFrame({"arm": arm, "seed": seed, "num_tokens": grid, "solved": solved}))
    return pd.concat(found, ignore_index=True)


def lead_in_training(curves: pd.DataFrame, arm: str, rival: str) -> tuple[Estimate, Estimate]:
    """Estimate the lead of `arm` in training problems solved where it has spent what `rival` spent in all.

    Returns that lead, and the step at which `arm` stands then. Paired by seed.
    """
    leads, steps = [], []
    for _, own in curves[curves["arm"].isin([arm, rival])].groupby("seed"):
        first, second = own[own["arm"] == arm], own[own["arm"] == rival]
        if len(first) and len(second):
            then = first[first["num_tokens"] <= second["num_tokens"].iloc[-1]].iloc[-1]
            leads.append(then["solved"] - second["solved"].iloc[-1])
            steps.append(then["step"])
    return over_seed_values(leads), over_seed_values(steps)


def late_slope(curves: pd.DataFrame, arm: str, part: float = 0.25) -> Estimate:
    """Estimate how much an arm gains a step, in training problems solved, over the last part of its run.

    A straight line by least squares for each seed, through single steps and not their running mean.
    """
    slopes = []
    for _, own in curves[curves["arm"] == arm].groupby("seed"):
        late = own[own["step"] > (1 - part) * own["step"].max()]
        slopes.append(float(np.polyfit(late["step"], late["correct_reward"], 1)[0]))
    return over_seed_values(slopes)
