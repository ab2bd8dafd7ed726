"""Search as optimisation: a problem small enough to list, four ways to solve it, and what a list does on a game.

The problem asks for a square root: given x, name a y whose square leaves the remainder x when a prime divides it.
Relation, score and policy are then tables over all (x, y): nothing has to be sampled to be known. The policies are
softmaxes over types, here candidates, in `three_barriers` habits; a type's *pay* is the chance that a draw of it is
right. Rows of an array are independent runs, and one array operation moves all of them by one step.

Left out: function approximation. Each type here has a logit of its own, which no habit of a network has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from numpy.typing import NDArray

from extrabitter.pages import plots
from extrabitter.pages.plots import Look
from extrabitter.pages.text import percent
from extrabitter.seeding import derive_seed
from extrabitter.statistics import pass_at_k
from extrabitter.tasks import Task

Array = NDArray[np.float64]

STD_OFFSET = 1e-4  # added to a group's standard deviation. Source: TRL 1.16.0, `GRPOTrainer`


class SearchProblem(NamedTuple):
    """A search problem as tables: which (x, y) are right, and how near each comes; both of shape (X, Y)."""

    relation: NDArray[np.bool_]
    score: Array


def square_roots(prime: int = 23) -> SearchProblem:
    """Return the problem of square roots modulo a prime: x from 1 to prime - 1, y from 0 to prime - 1.

    The score is 1 where y is a root and falls with the distance of y² from x on the circle of remainders. Half of
    all x have two roots, and half have none.

    >>> problem = square_roots(7)
    >>> np.flatnonzero(problem.relation[1]), problem.relation.sum(axis=1)
    (array([3, 4]), array([2, 2, 0, 2, 0, 0]))
    """
    x, y = np.arange(1, prime)[:, None], np.arange(prime)[None, :]
    apart = (y * y - x) % prime
    distance = np.minimum(apart, prime - apart)
    return SearchProblem(distance == 0, 1 - distance / (prime // 2))


@dataclass(frozen=True)
class Learner:
    """How a policy moves: the rule, its step size, and whether it sees all answers or draws a group of them.

    Adam's constants are those of Transformers 5.23.0.
    """

    rule: Literal["replicator", "sgd", "adam"] = "sgd"
    learning_rate: float = 0.5
    sampled: bool = False
    divide_by_std: bool = False
    num_generations: int = 8
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8


def softmax(logits: Array) -> Array:
    """Return softmax probabilities over the last axis; a logit of minus infinity is a share of zero.

    >>> softmax(np.array([0.0, 0.0, -np.inf]))
    array([0.5, 0.5, 0. ])
    """
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def policy_gradient(shares: Array, pay: Array) -> Array:
    """Return the gradient of the expected reward in the logits, shape of `shares`: pi_j (r_j - mean r).

    Source: policy gradient theorem, Sutton et al. 1999, for a softmax with a logit a type.

    >>> policy_gradient(np.array([0.5, 0.5]), np.array([1.0, 0.0]))
    array([ 0.25, -0.25])
    """
    return np.asarray(shares * (pay - (shares * pay).sum(axis=-1, keepdims=True)))


def group_gradient(shares: Array, pay: Array, learner: Learner, rng: np.random.Generator) -> Array:
    """Return GRPO's gradient from one freshly drawn group a run, shape of `shares` (runs, types).

    Advantages of a group sum to zero, so that the softmax's own term vanishes and a type that was not drawn stays
    where it is. Source: DeepSeekMath, arXiv 2402.03300, section 4.1.2; standard deviation with n - 1, as in TRL.
    """
    size = learner.num_generations
    cumulative = np.cumsum(shares, axis=-1)[:, None, :]
    points = rng.random((len(shares), size, 1)) * cumulative[..., -1:]
    drawn = (points > cumulative).sum(axis=-1)  # (runs, G)
    rewards = (rng.random(drawn.shape) < np.take_along_axis(pay, drawn, axis=1)).astype(float)
    advantages = rewards - rewards.mean(axis=1, keepdims=True)
    if learner.divide_by_std:
        advantages /= rewards.std(axis=1, ddof=1, keepdims=True) + STD_OFFSET
    total = np.zeros_like(shares)
    np.add.at(total, (np.arange(len(shares))[:, None], drawn), advantages)
    return np.asarray(total / size)


def policy_steps(shares: Array, pay: Array, learner: Learner, seed: int = 0) -> Iterator[Array]:
    """Yield the shares (runs, types) before the first step, after it, and so on, without end.

    `pay` broadcasts to the shape of `shares`. A replicator never samples: it divides by shares that may not be drawn.
    Source: gradient ascent; replicator equation, Taylor and Jonker 1978; Adam, arXiv 1412.6980.

    >>> steps = policy_steps(np.array([[0.5, 0.5]]), np.array([1.0, 0.0]), Learner(learning_rate=1.0))
    >>> next(steps).round(3), next(steps).round(3)
    (array([[0.5, 0.5]]), array([[0.622, 0.378]]))
    """
    pay, rng = np.broadcast_to(pay, shares.shape), np.random.default_rng(seed)
    with np.errstate(divide="ignore"):
        logits = np.log(shares)
    first, second = np.zeros_like(logits), np.zeros_like(logits)
    for step in count(1):
        shares = softmax(logits)
        yield shares
        mean = (shares * pay).sum(axis=-1, keepdims=True)
        if learner.rule == "replicator":
            logits = logits + learner.learning_rate * (pay - mean)
            continue
        if learner.sampled:
            gradient = group_gradient(shares, pay, learner, rng)
        else:
            gradient = policy_gradient(shares, pay)
            if learner.divide_by_std:
                gradient = gradient / (np.sqrt(np.clip(mean * (1 - mean), 0, None)) + STD_OFFSET)
        if learner.rule == "adam":
            first = learner.beta1 * first + (1 - learner.beta1) * gradient
            second = learner.beta2 * second + (1 - learner.beta2) * gradient**2
            scale = np.sqrt(second / (1 - learner.beta2**step)) + learner.epsilon
            gradient = first / (1 - learner.beta1**step) / scale
        logits = logits + learner.learning_rate * gradient


def tries_table(task: Task, bands: Sequence[str], max_tries: int, num_problems: int) -> pd.DataFrame:
    """Return by band and number of tries the chance that as many different legal answers hold a right one.

    Answers are taken in random order and none twice; a mean over test problems. Columns: band, num_tries, value.
    """
    rows = []
    for band in bands:
        problems = task.problems("test", num_problems, 0, band)
        sizes = [(task.count_answers(problem), len(task.solve(problem))) for problem in problems]
        for tries in range(1, max_tries + 1):
            found = [pass_at_k(total, right, min(tries, total)) for total, right in sizes]
            rows.append((band, tries, float(np.mean(found))))
    return pd.DataFrame(rows, columns=["band", "num_tries", "value"])


def race_table(
    problem: SearchProblem, row: int, starts: Sequence[float], budgets: Sequence[int], num_runs: int = 32
) -> pd.DataFrame:
    """Return the chance of a right answer after so many scored candidates, for four ways of searching one row.

    Columns: start (the policy's share on right answers), way, num_scored, value, lower, upper (middle 80 % of runs).
    For a list and for blind draws it is the chance to have met a right answer, for the two policies the chance that
    their next draw is right. An exact gradient scores all candidates a step, a group its own.
    """
    right = problem.relation[row]
    rows: list[tuple[Any, ...]] = []
    for start in starts:
        shares = np.where(right, start / right.sum(), (1 - start) / (~right).sum())[None, :]
        for budget in budgets:
            # A list in random order repeats nothing: it is pass@k of all candidates.
            listed = pass_at_k(right.size, int(right.sum()), min(budget, right.size))
            blind = 1 - (1 - start) ** budget
            rows += [(start, way, budget, p, p, p) for way, p in (("a list", listed), ("blind draws", blind))]
        for way, sampled, runs in (("exact policy gradient", False, 1), ("sampled GRPO", True, num_runs)):
            learner = Learner(learning_rate=2.0, sampled=sampled, divide_by_std=True)
            cost = learner.num_generations if sampled else right.size
            own, seed = np.repeat(shares, runs, axis=0), derive_seed(0, way, str(start))
            steps = policy_steps(own, right.astype(float), learner, seed)
            success, done = next(steps)[:, right].sum(axis=1), 0
            for budget in budgets:
                while (done + 1) * cost <= budget:
                    success, done = next(steps)[:, right].sum(axis=1), done + 1
                rows.append((start, way, budget, success.mean(), *np.quantile(success, [0.1, 0.9])))
    return pd.DataFrame(rows, columns=["start", "way", "num_scored", "value", "lower", "upper"])


def tries_figure(table: pd.DataFrame, title: str, looks: Mapping[str, str]) -> Figure:
    """Draw the chance of a right answer against different answers tried, a named line a band of colour `looks`."""
    with plots.drawing(title, 2.3) as (fig, ax):
        ax.set(xlabel="different answers tried", ylabel="chance that one is right", ylim=(0, 1.02))
        named = {band: Look(colour) for band, colour in looks.items()}
        plots.lines(ax, table, "band", "num_tries", "value", named)
        ax.yaxis.set_major_formatter(lambda value, _: percent(value))
    return fig


def problem_figure(problem: SearchProblem, policy: Array, title: str) -> Figure:
    """Draw the same problem three times, x downwards and y to the right: relation, score, and a policy's shares."""
    panels = {"right or wrong": problem.relation, "how near": problem.score, "how likely": policy}
    with plots.drawing(title, 2.1, ncols=3, sharey=True) as (fig, axes):
        for ax, (name, values) in zip(axes, panels.items(), strict=True):
            # Opaque where a cell is lit, on any background.
            image = np.tile(to_rgba(plots.RED), (*values.shape, 1))
            image[..., 3] = np.asarray(values, dtype=float) / np.max(values)
            ax.imshow(image, interpolation="none", aspect="equal")
            ax.set_title(name, fontsize=10)
            ax.set(xticks=[0, 10, 20], yticks=[0, 9, 19], yticklabels=["1", "10", "20"], xlabel="candidate y")
            ax.grid(visible=False)
        axes[0].set_ylabel("instance x")
    return fig


def race_figure(table: pd.DataFrame, title: str) -> Figure:
    """Draw the chance of a right answer against candidates scored, one panel a starting share, lines named."""
    looks = {
        "a list": Look(plots.GREY, 0.5),
        "blind draws": Look(plots.GREEN, 0.5, "right"),
        "exact policy gradient": Look(plots.BLUE, 0.85, "right"),
        "sampled GRPO": Look(plots.RED, 0.5),
    }
    starts = sorted(table["start"].unique(), reverse=True)
    with plots.drawing(title, 1.7 * len(starts), nrows=len(starts), sharex=True) as (fig, axes):
        for ax, start in zip(axes, starts, strict=True):
            rows = table[table["start"] == start]
            plots.lines(ax, rows, "way", "num_scored", "value", looks)
            if at_nought := [way for way in looks if rows[rows["way"] == way]["value"].max() == 0]:
                said = f"all at 0: {', '.join(at_nought)}"
                ax.annotate(said, (0.98, 0.08), xycoords="axes fraction", ha="right")
            ax.set_title(f"share on right answers at the start: {start:g}", fontsize=10)
            ax.set(xscale="log", ylim=(-0.04, 1.04), yticks=[0, 0.5, 1], ylabel="chance")
        axes[-1].set_xlabel("candidates scored")
    return fig
