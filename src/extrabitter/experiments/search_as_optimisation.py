"""Search as optimisation: a problem small enough to list, four ways to solve it, and three ways to miss.

The problem asks for a square root: given x, name a y whose square leaves the remainder x when a prime divides it.
Relation, score and policy are then tables over all (x, y): nothing has to be sampled to be known. Below stand the laws
of a policy over a few habits, in closed form and by simulation; a habit's *pay* is the chance that a draw of it is
right. Rows of an array are independent runs, and one array operation moves all of them by one step.

Left out: function approximation. Each type here has a logit of its own, which no habit of a network has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import quad

from extrabitter.pages import plots
from extrabitter.seeding import derive_seed

Array = NDArray[np.float64]

STD_OFFSET = 1e-4  # added to a group's standard deviation. Source: TRL 1.16.0, `GRPOTrainer`
# Success given search and given a direct answer. Source: the first pilot's base models, rounded.
HABIT_PAY, RIVAL_PAY = 0.43, 0.17
BLUE, PURPLE, GREEN, RED = "#0072b2", "#7a3e9d", "#00735a", "#b84e00"  # of arms.yaml, so that dark pages know them
# Rare and best, common and decent, useless. Source: ours, a smallest case in which the best can shrink.
THREE_SHARES, THREE_PAY = np.array([0.01, 0.70, 0.29]), np.array([1.0, 0.5, 0.0])


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


def softmax_growth(shares: Array, pay: Array) -> Array:
    """Return d log(share) / dt under ascent on softmax logits: pi_b A_b - sum over j of pi_j² A_j.

    The advantage is weighted by the share, so that a rare best type can shrink. Source: chain rule.

    >>> softmax_growth(THREE_SHARES, THREE_PAY).round(3)
    array([-0.032,  0.06 , -0.143])
    """
    gradient = policy_gradient(shares, pay)
    return np.asarray(gradient - (shares * gradient).sum(axis=-1, keepdims=True))


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

    `pay` broadcasts to the shape of `shares`. ValueError for a replicator that samples: it divides by shares that may
    never be drawn. Source: gradient ascent; replicator equation, Taylor and Jonker 1978; Adam, arXiv 1412.6980.

    >>> steps = policy_steps(np.array([[0.5, 0.5]]), np.array([1.0, 0.0]), Learner(learning_rate=1.0))
    >>> next(steps).round(3), next(steps).round(3)
    (array([[0.5, 0.5]]), array([[0.622, 0.378]]))
    """
    if learner.rule == "replicator" and learner.sampled:
        raise ValueError("learner: the replicator needs the exact gradient")
    pay, rng = np.broadcast_to(pay, shares.shape), np.random.default_rng(seed)
    with np.errstate(divide="ignore"):
        logits = np.log(shares)
    first, second = np.zeros_like(logits), np.zeros_like(logits)
    step = 0
    while True:
        step += 1
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


def chance_of_a_hit(probability: ArrayLike, num_draws: ArrayLike) -> Array:
    """Return the chance that independent draws, each right with `probability`, hold a right one; shapes broadcast.

    Source: complement rule; pass@k of a problem whose success chance is known.

    >>> chance_of_a_hit(0.1, 8).round(4)
    np.float64(0.5695)
    """
    return np.asarray(1 - (1 - np.asarray(probability, dtype=float)) ** np.asarray(num_draws))[()]


def listing_chance(num_candidates: int, num_right: int, num_draws: int) -> float:
    """Return the chance that a list in random order, which repeats nothing, has met a right candidate.

    Source: hypergeometric distribution; the formula of pass@k, Chen et al., arXiv 2107.03374, equation 1.

    >>> listing_chance(10, 1, 5), listing_chance(10, 3, 8)
    (0.5, 1.0)
    """
    wrong = num_candidates - num_right
    tried = np.arange(min(num_draws, wrong + 1))
    return float(round(1 - np.prod((wrong - tried) / (num_candidates - tried)), 12))


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
    "GRPO draws groups of 8": (Learner(learning_rate=1.0, sampled=True, divide_by_std=True), 0.0, -1.0),
}


def escape_table(starts: Sequence[float], num_runs: int = 16, max_steps: int = 20_000) -> pd.DataFrame:
    """Return escape times by law and start: law, start, steps (median), lower, upper (middle 80 %), closed_form.

    A run that never escaped counts as `max_steps`; `closed_form` is NaN where there is none.
    """
    rows: list[tuple[Any, ...]] = []
    for law, (learner, rival_pay, _) in ESCAPES.items():
        runs = num_runs if learner.sampled else 1
        times = np.nan_to_num(escape_times(np.asarray(starts), rival_pay, learner, runs, max_steps), nan=max_steps)
        exact = learner.rule == "sgd" and not learner.sampled
        for start, run_times in zip(starts, times, strict=True):
            form = escape_steps(start, learner.learning_rate, rival_pay, learner.divide_by_std) if exact else np.nan
            rows.append((law, start, *np.quantile(run_times, [0.5, 0.1, 0.9]), form))
    return pd.DataFrame(rows, columns=["law", "start", "steps", "lower", "upper", "closed_form"])


def escape_slopes(table: pd.DataFrame) -> pd.Series:
    """Return each law's slope of log steps on log start, by least squares; index law."""
    slopes = {
        law: float(np.polyfit(np.log(rows["start"]), np.log(rows["steps"]), 1)[0])
        for law, rows in table.groupby("law", sort=False)
    }
    return pd.Series(slopes, name="slope")


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
            listed = listing_chance(right.size, int(right.sum()), budget)
            blind = float(chance_of_a_hit(start, budget))
            rows += [(start, way, budget, p, p, p) for way, p in (("a list", listed), ("blind draws", blind))]
        for way, sampled, runs in (("exact policy gradient", False, 1), ("sampled GRPO", True, num_runs)):
            learner = Learner(learning_rate=2.0, sampled=sampled, divide_by_std=True)
            cost = learner.num_generations if sampled else right.size
            steps = policy_steps(
                np.repeat(shares, runs, axis=0), right.astype(float), learner, derive_seed(0, way, str(start))
            )
            success, done = next(steps)[:, right].sum(axis=1), 0
            for budget in budgets:
                while (done + 1) * cost <= budget:
                    success, done = next(steps)[:, right].sum(axis=1), done + 1
                rows.append((start, way, budget, success.mean(), *np.quantile(success, [0.1, 0.9])))
    return pd.DataFrame(rows, columns=["start", "way", "num_scored", "value", "lower", "upper"])


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


def problem_figure(problem: SearchProblem, policy: Array, title: str) -> Figure:
    """Draw the same problem three times, x downwards and y to the right: relation, score, and a policy's shares."""
    with plots.style():
        fig = plots.new_figure(title, 2.1)
        panels = {"right or wrong": problem.relation, "how near": problem.score, "how likely": policy}
        for ax, (name, values) in zip(fig.subplots(1, 3, sharey=True), panels.items(), strict=True):
            image = np.tile(to_rgba(RED), (*values.shape, 1))  # opaque where a cell is lit, on any background
            image[..., 3] = np.asarray(values, dtype=float) / np.max(values)
            ax.imshow(image, interpolation="none", aspect="equal")
            ax.set_title(name, fontsize=10)
            ax.set_xticks([0, 10, 20])
            ax.set_yticks([0, 9, 19], ["1", "10", "20"])
            ax.grid(visible=False)
            ax.set_xlabel("candidate y")
        fig.axes[0].set_ylabel("instance x")
    return fig


def race_figure(table: pd.DataFrame, title: str) -> Figure:
    """Draw the chance of a right answer against candidates scored, one panel a starting share, lines named."""
    looks = {"a list": plots.GREY, "blind draws": GREEN, "exact policy gradient": BLUE, "sampled GRPO": RED}
    starts = sorted(table["start"].unique(), reverse=True)
    with plots.style():
        fig = plots.new_figure(title, 1.7 * len(starts))
        for ax, start in zip(fig.subplots(len(starts), sharex=True), starts, strict=True):
            at_nought = []
            for way, rows in table[table["start"] == start].groupby("way", sort=False):
                colour, x, y = looks[str(way)], rows["num_scored"].to_numpy(float), rows["value"].to_numpy(float)
                _line(ax, rows, "num_scored", "value", colour)
                if y.max() == 0:
                    at_nought.append(str(way))
                else:  # beside the point where it passes one half, outside the bundle
                    half, before = int((y >= 0.5).argmax()), way in ("blind draws", "exact policy gradient")
                    _name(ax, str(way), (x[half], y[half]), colour, "right" if before else "left")
            if at_nought:
                ax.annotate(f"all at 0: {', '.join(at_nought)}", (0.98, 0.08), xycoords="axes fraction", ha="right")
            ax.set_title(f"share on right answers at the start: {start:g}", fontsize=10)
            ax.set(xscale="log", ylim=(-0.04, 1.04), yticks=[0, 0.5, 1], ylabel="chance")
        fig.axes[-1].set_xlabel("candidates scored")
    return fig


def escape_figure(table: pd.DataFrame, title: str) -> Figure:
    """Draw the steps until a habit has half of all probability against its share at the start; lines named."""
    looks = dict(zip(ESCAPES, (BLUE, GREEN, PURPLE, plots.GREY, RED), strict=True))
    with plots.style():
        fig = plots.new_figure(title, 3.0)
        ax = fig.subplots()
        ends = []
        for law, rows in table.sort_values("start", ascending=False).groupby("law", sort=False):
            _line(ax, rows, "start", "steps", looks[str(law)])
            ends.append((float(rows["steps"].iloc[-1]), str(law)))
        ax.set(xscale="log", yscale="log", xlabel="share of the habit at the start", ylabel="steps to one half")
        ax.invert_xaxis()
        at = 0.0
        for steps, law in sorted(ends):
            at = max(steps, at * 1.8)  # far enough apart to be read
            _name(ax, law, (float(table["start"].min()), at), looks[law])
    return fig


def selection_figure(table: pd.DataFrame, title: str) -> Figure:
    """Draw the share of the rare best of three types over steps, by dynamics; dotted, the share that it began with."""
    # Colour, and where its name stands: the share at which it is beside the line, on which side of it.
    looks = dict(
        zip(
            SELECTIONS,
            ((plots.GREY, 0.1, "left"), (BLUE, 0.05, "right"), (RED, 0.02, "left"), (GREEN, 0.7, "left")),
            strict=True,
        )
    )
    with plots.style():
        fig = plots.new_figure(title, 2.8)
        ax = fig.subplots()
        for name, rows in table.groupby("dynamics", sort=False):
            colour, height, side = looks[str(name)]
            _line(ax, rows, "step", "value", colour)
            step = float(rows["step"].iloc[int((rows["value"] >= height).to_numpy().argmax())])
            _name(ax, str(name), (step, height), colour, side)
        ax.axhline(THREE_SHARES[0], color=plots.GREY, linewidth=0.8, linestyle=":")
        ax.set(yscale="log", ylim=(5e-4, 1.5), xlabel="step", ylabel="share of the best habit")
    return fig


def _name(ax: Any, words: str, place: tuple[float, float], colour: str, side: str = "left") -> None:
    """Write a line's name beside a place on it: with its `side` there, so that "left" stands to the right."""
    shift = (6 if side == "left" else -6, -4)
    look = {"color": colour, "fontsize": 9.5, "ha": side, "annotation_clip": False}
    ax.annotate(words, place, shift, textcoords="offset points", **look)


def _line(ax: Any, rows: pd.DataFrame, x: str, y: str, colour: str) -> None:
    """Draw a line, and the middle 80 % of runs around it."""
    ax.plot(rows[x], rows[y], color=colour)
    ax.fill_between(rows[x], rows["lower"], rows["upper"], color=colour, alpha=0.18, linewidth=0)
