"""What the same tokens buy: an arm that searches against rivals given as many tokens, at test and in training.

A search is long, and a rival that writes a short answer may write several for the price of one search. What it gets
then depends on who picks among them: `behaviours.rivals` has the ways. Here they are compared over seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from extrabitter.behaviours.rivals import legal_answers, rivals_table
from extrabitter.pages import plots
from extrabitter.pages.text import percent
from extrabitter.statistics import Estimate, over_seed_values
from extrabitter.tasks import Task

CHECKED, VOTED, ENUMERATOR = "outside checker", "majority", "enumerator"
PICKS = {CHECKED: "a checker picks", VOTED: "they vote"}
RUNNING = {
    "solved": "correct_reward",
    "informative": "frac_informative_groups",
}  # name -> column of table `steps`


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


def same_tokens_figure(
    table: pd.DataFrame,
    rivals: Mapping[str, Estimate | None],
    title: str,
    methods: Sequence[str] = tuple(PICKS),
) -> Figure:
    """Draw what a search's tokens buy: the searcher, each rival by each method, and no model at all.

    `rivals` are arms of `table`, each with what it solves by one answer at its own few tokens, or None to leave it out.
    """
    rows = [plots.Row("searcher", "searcher", over_seed_values(table[table["arm"] == "searcher"]["value"]))]
    for rival, one_answer in rivals.items():
        model = plots.describe(rival).words
        rows += [plots.Row(f"{model}, {PICKS[how]}", rival, solved(table, rival, how)) for how in methods]
        rows += [plots.Row(f"{model}, one answer", rival, one_answer)] if one_answer else []
    rows.append(plots.Row(f"a list, {PICKS[CHECKED]}", ENUMERATOR, solved(table, ENUMERATOR, CHECKED)))
    rows.sort(key=lambda row: -row.end.value)
    fig = plots.dot_rows(rows, title, "unseen problems solved")
    look: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "fontsize": plots.SMALL}
    for place, row in enumerate(rows):
        fig.axes[0].annotate(percent(row.end.value), (row.end.value, -place), (0, 6), **look)
    return fig


def training_curves(steps: pd.DataFrame, window: int = 5) -> pd.DataFrame:
    """Return table `steps` in the order of steps, with running means over the last `window` steps of a run.

    Added columns: solved, of training problems; informative, the share of groups that are not all right or all wrong.
    """
    curves = []
    for _, own in steps.groupby(["arm", "seed"], sort=False):
        own = own.sort_values("step")
        means = own[[*RUNNING.values()]].rolling(window, min_periods=1).mean()
        curves.append(own.assign(**{name: means[column] for name, column in RUNNING.items()}))
    return pd.concat(curves, ignore_index=True)


def on_tokens(curves: pd.DataFrame, num_points: int = 60) -> pd.DataFrame:
    """Return the running means of `training_curves` at the same numbers of tokens for all seeds of an arm.

    Columns: arm, seed, num_tokens, and the means; between two steps on a straight line, and no further than all seeds
    went.
    """
    found = []
    for arm, own in curves.groupby("arm", sort=False):
        ends = own.groupby("seed")["num_tokens"].agg(["min", "max"])
        grid = np.linspace(ends["min"].max(), ends["max"].min(), num_points).round()
        for seed, run in own.groupby("seed"):
            means = {name: np.interp(grid, run["num_tokens"], run[name]) for name in RUNNING}
            found.append(pd.DataFrame({"arm": arm, "seed": seed, "num_tokens": grid, **means}))
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
