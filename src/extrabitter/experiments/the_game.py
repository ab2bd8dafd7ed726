"""The game: what a blind guess is worth, and how much one gains by trying again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from extrabitter.experiments.search_as_optimisation import listing_chance
from extrabitter.pages import plots
from extrabitter.tasks import Task


def tries_table(task: Task, bands: Sequence[str], max_tries: int, num_problems: int, seed: int = 0) -> pd.DataFrame:
    """Return by band and number of tries the chance that as many different legal answers hold a right one.

    Answers are taken in random order and none twice; a mean over test problems. Columns: band, num_tries, value.
    """
    rows = []
    for band in bands:
        problems = task.problems("test", num_problems, seed, band)
        sizes = [(task.count_answers(problem), len(task.solve(problem))) for problem in problems]
        for tries in range(1, max_tries + 1):
            found = [listing_chance(total, right, min(tries, total)) for total, right in sizes]
            rows.append((band, tries, float(np.mean(found))))
    return pd.DataFrame(rows, columns=["band", "num_tries", "value"])


def tries_figure(table: pd.DataFrame, title: str, looks: Mapping[str, str]) -> Figure:
    """Draw the chance of a right answer against different answers tried, a named line a band of colour `looks`."""
    with plots.style():
        fig = plots.new_figure(title, 2.3)
        ax = fig.subplots()
        ends = {}
        for band, rows in table.groupby("band", sort=False):
            ax.plot(rows["num_tries"], rows["value"], color=looks[str(band)])
            ends[str(band)] = (float(rows["num_tries"].iloc[-1]), float(rows["value"].iloc[-1]), looks[str(band)])
        ax.set(xlabel="different answers tried", ylabel="chance that one is right", ylim=(0, 1.02), xlim=(0.5, None))
        ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        plots.name_ends(ax, ends)
    return fig
