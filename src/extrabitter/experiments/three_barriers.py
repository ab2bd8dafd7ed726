"""Three barriers between a habit and the policy that would profit from it, in closed form and by simulation.

Zero support: what has no share never moves. A slow gradient: a softmax moves what is rare slowly, by laws that hang on
the optimiser and on rivals. Finite sampling: a group teaches nothing unless some of it is right and some wrong. Beside
them stands what selection does among several habits, where the best may shrink before it wins. A habit's *pay* is the
chance that a completion which shows it is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from scipy.integrate import quad

from extrabitter.experiments.search_as_optimisation import Array, Learner, policy_steps
from extrabitter.pages import plots
from extrabitter.pages.plots import BLUE, GREEN, GREY, PURPLE, RED, Look
from extrabitter.seeding import derive_seed

# Success given search and given a direct answer. Source: the first pilot's base models, rounded.
HABIT_PAY, RIVAL_PAY = 0.43, 0.17
# Rare and best, common and decent, useless. Source: ours, a smallest case in which the best can shrink.
THREE_SHARES, THREE_PAY = np.array([0.01, 0.70, 0.29]), np.array([1.0, 0.5, 0.0])


def informative_chance(probability: ArrayLike, num_generations: ArrayLike) -> Array:
    """Return the chance that a group of 0/1 rewards is neither all wrong nor all right: 1 - (1-p)^G - p^G.

    >>> informative_chance(0.5, 2), informative_chance(0.0, 8)
    (np.float64(0.5), np.float64(0.0))
    """
    p, size = np.asarray(probability, dtype=float), np.asarray(num_generations)
    return np.asarray(1 - (1 - p) ** size - p**size)[()]


def escape_steps(
    start: float, learning_rate: float, rival_pay: float, divide_by_std: bool, pay: float = HABIT_PAY
) -> float:
    """Return the steps that plain ascent on the exact gradient needs from share `start` to one half; inf at 0.

    Two types with a logit each: the logit of the share moves by 2 lr p(1-p) (pay - rival_pay) w a step, where w is 1,
    or 1/sqrt(r(1-r)) with division, r the mean pay. Source: ours, d p = p(1-p) d logit, integrated.

    >>> round(escape_steps(0.001, 0.1, 0.0, divide_by_std=False, pay=1.0))
    5064
    """
    if start == 0:
        return float("inf")

    def steps_a_logit(logit: float) -> float:
        share = 1 / (1 + np.exp(-logit))
        mean = share * pay + (1 - share) * rival_pay
        weight = 1 / np.sqrt(mean * (1 - mean)) if divide_by_std else 1.0
        return float(1 / (2 * learning_rate * share * (1 - share) * (pay - rival_pay) * weight))

    return float(quad(steps_a_logit, np.log(start / (1 - start)), 0.0, limit=200)[0])


def escape_times(starts: Array, rival_pay: float, learner: Learner, num_runs: int, max_steps: int) -> Array:
    """Return the simulated steps until a habit of share `starts` has one half, shape (starts, runs); NaN if never.

    Beside it stands a rival, and the two share all probability.
    """
    share = np.repeat(starts, num_runs)
    times = np.full(share.size, np.nan)
    seed = derive_seed(0, "escape", learner.rule, str(learner), str(rival_pay))
    steps = policy_steps(np.column_stack([share, 1 - share]), np.array([HABIT_PAY, rival_pay]), learner, seed)
    for step in range(max_steps + 1):
        times[np.isnan(times) & (next(steps)[:, 0] >= 0.5)] = step
        if not np.isnan(times).any():
            break
    return times.reshape(len(starts), num_runs)


# Name of a law -> learner, pay of the rival, exponent a of "time grows like start^a" as start -> 0 (0: a logarithm).
ESCAPES: dict[str, tuple[Learner, float, float]] = {
    "SGD": (Learner(learning_rate=1.0), 0.0, -1.0),
    "SGD, divided by std": (Learner(learning_rate=1.0, divide_by_std=True), 0.0, -0.5),
    "the same, a rival pays": (Learner(learning_rate=1.0, divide_by_std=True), RIVAL_PAY, -1.0),
    "Adam": (Learner("adam", 0.02), 0.0, 0.0),
    "GRPO, groups of 8": (Learner(learning_rate=1.0, sampled=True, divide_by_std=True), 0.0, -1.0),
}


def escape_table(starts: Sequence[float], num_runs: int = 16, max_steps: int = 20_000) -> pd.DataFrame:
    """Return escape times by law and start: law, start, steps (median), lower, upper (middle 80 %), closed_form.

    A run that never escaped counts as `max_steps`; `closed_form` is NaN where there is none.
    """
    rows: list[tuple[Any, ...]] = []
    for law, (learner, rival_pay, _) in ESCAPES.items():
        runs = num_runs if learner.sampled else 1
        times = escape_times(np.asarray(starts), rival_pay, learner, runs, max_steps)
        for start, run_times in zip(starts, np.nan_to_num(times, nan=max_steps), strict=True):
            form = np.nan
            if learner.rule == "sgd" and not learner.sampled:
                form = escape_steps(start, learner.learning_rate, rival_pay, learner.divide_by_std)
            rows.append((law, start, *np.quantile(run_times, [0.5, 0.1, 0.9]), form))
    return pd.DataFrame(rows, columns=["law", "start", "steps", "lower", "upper", "closed_form"])


def escape_slopes(table: pd.DataFrame) -> pd.Series:
    """Return each law's slope of log steps on log start, by least squares; index law."""
    logs = table.assign(start=np.log(table["start"]), steps=np.log(table["steps"])).groupby("law", sort=False)
    slopes = {law: float(np.polyfit(own["start"], own["steps"], 1)[0]) for law, own in logs}
    return pd.Series(slopes, name="slope")


SELECTIONS = {
    "replicator": Learner("replicator", 0.02),
    "SGD, exact": Learner(learning_rate=0.5),
    "SGD, sampled": Learner(learning_rate=0.5, sampled=True),
    "Adam, exact": Learner("adam", 0.02),
}


def selection_table(num_steps: int, num_runs: int = 20) -> pd.DataFrame:
    """Return the share of the rare best of three types over steps, by dynamics of `SELECTIONS`.

    Columns: dynamics, step, value (median over runs), lower, upper (middle 80 %), num_below (runs below their start).
    """
    frames = []
    for name, learner in SELECTIONS.items():
        start = np.tile(THREE_SHARES, (num_runs if learner.sampled else 1, 1))
        steps = policy_steps(start, THREE_PAY, learner, derive_seed(0, "selection", name))
        best = np.array([next(steps)[:, 0] for _ in range(num_steps + 1)])  # (steps, runs)
        lower, middle, upper = np.quantile(best, [0.1, 0.5, 0.9], axis=1)
        below = (best < THREE_SHARES[0]).sum(axis=1)
        columns = {"step": np.arange(num_steps + 1), "value": middle, "lower": lower, "upper": upper}
        frames.append(pd.DataFrame({"dynamics": name, **columns, "num_below": below}))
    return pd.concat(frames, ignore_index=True)


def escape_figure(table: pd.DataFrame, title: str) -> Figure:
    """Draw the steps until a habit has half of all probability against its share at the start; lines named."""
    looks = dict(zip(ESCAPES, map(Look, (BLUE, GREEN, PURPLE, GREY, RED)), strict=True))
    with plots.drawing(title, 3.0) as (fig, ax):
        ax.set(xlabel="share of the habit at the start", ylabel="steps to one half")
        ax.set(xscale="log", yscale="log")
        ax.invert_xaxis()
        plots.lines(ax, table.sort_values("start", ascending=False), "law", "start", "steps", looks)
    return fig


def selection_figure(table: pd.DataFrame, title: str) -> Figure:
    """Draw the share of the rare best of three types over steps, by dynamics; dotted, the share that it began with."""
    places = (Look(GREY, 0.1), Look(BLUE, 0.05, "right"), Look(RED, 0.02), Look(GREEN, 0.7))
    with plots.drawing(title, 2.8) as (fig, ax):
        plots.lines(ax, table, "dynamics", "step", "value", dict(zip(SELECTIONS, places, strict=True)))
        ax.axhline(THREE_SHARES[0], color=GREY, linewidth=0.8, linestyle=":")
        ax.set(yscale="log", ylim=(5e-4, 1.5), xlabel="step", ylabel="share of the best habit")
    return fig
