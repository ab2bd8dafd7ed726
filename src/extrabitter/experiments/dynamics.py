"""Tabular policies that learn: the replicator, plain ascent and Adam, from exact or sampled gradients.

Rows are independent runs, columns are types; one array operation moves all runs by one step. Advantages are
those of GRPO on 0/1 rewards without clipping or KL penalty: one on-policy update per batch, where the
probability ratio is 1. Beside them stands Mroueh's map, the other limit, where each inner problem is solved
to the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import linregress
from scipy.stats import t as student_t

from extrabitter.experiments.theory import expected_reward_gradient

Array = NDArray[np.float64]
Update = Literal["replicator", "sgd", "adam"]

STD_OFFSET = 1e-4
"""Added to the group's standard deviation. Source: TRL 1.16.0, ``GRPOTrainer``."""


@dataclass(frozen=True)
class Learner:
    """How a policy moves: ``update`` rule, step size and the gradient it is given.

    The step size is one number for all runs, or one a run, shape (runs, 1). ``sampled`` draws ``num_groups``
    groups of ``num_generations`` completions a step. Adam's defaults are those of Transformers 5.23.0
    (``adam_beta1``, ``adam_beta2``, ``adam_epsilon``).
    """

    update: Update = "sgd"
    learning_rate: float | Array = 0.5
    sampled: bool = False
    divide_by_std: bool = False
    num_generations: int = 8
    num_groups: int = 1
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8


def softmax(logits: Array) -> Array:
    """Return softmax probabilities over the last axis; a logit of minus infinity is a share of zero.

    Source: definition.

    >>> softmax(np.array([[0.0, 0.0, -np.inf]]))
    array([[0.5, 0.5, 0. ]])
    """
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def exact_gradient(shares: Array, pay: Array, divide_by_std: bool) -> Array:
    """Return the policy gradient under full enumeration, shape of ``shares`` (runs, types).

    Source: ``theory.expected_reward_gradient``; divided by the standard deviation of a 0/1 reward if asked.

    >>> exact_gradient(np.array([[0.5, 0.5]]), np.array([1.0, 0.0]), divide_by_std=True).round(3)
    array([[ 0.5, -0.5]])
    """
    gradient = expected_reward_gradient(shares, pay)
    if divide_by_std:
        mean_pay = (shares * pay).sum(axis=-1, keepdims=True)
        gradient = gradient / (np.sqrt(np.clip(mean_pay * (1 - mean_pay), 0, None)) + STD_OFFSET)
    return np.asarray(gradient)


def sampled_gradient(shares: Array, pay: Array, learner: Learner, rng: np.random.Generator) -> Array:
    """Return GRPO's gradient from freshly drawn groups, shape of ``shares`` (runs, types).

    Advantages sum to zero within a group, so the softmax term -pi_k sum(A) vanishes and a type that was not
    drawn does not move at all. Source: DeepSeekMath, arXiv 2402.03300, section 4.1.2; std with n - 1 as in
    TRL 1.16.0.

    >>> rng = np.random.default_rng(0)
    >>> sampled_gradient(np.array([[0.0, 1.0]]), np.array([1.0, 0.5]), Learner(num_generations=4), rng)
    array([[0., 0.]])
    """
    runs, types = shares.shape
    size = learner.num_groups * learner.num_generations
    cumulative = np.cumsum(shares, axis=1)
    cumulative = (cumulative / cumulative[:, -1:] + np.arange(runs)[:, None]).ravel()
    points = rng.random((runs, size)) + np.arange(runs)[:, None]
    drawn = np.searchsorted(cumulative, points.ravel(), side="right").reshape(runs, size)
    last = (np.arange(runs)[:, None] + 1) * types - 1
    drawn = np.minimum(drawn, last)  # a point may round up to the next run's zero
    rewards = (rng.random((runs, size)) < pay[drawn % types]).astype(float)
    grouped = rewards.reshape(runs, learner.num_groups, learner.num_generations)
    advantages = grouped - grouped.mean(axis=2, keepdims=True)
    if learner.divide_by_std:
        advantages = advantages / (grouped.std(axis=2, ddof=1, keepdims=True) + STD_OFFSET)
    total = np.bincount(drawn.ravel(), weights=advantages.ravel(), minlength=runs * types)
    return np.asarray(total.reshape(runs, types) / size)


def policy_steps(
    shares: Array, pay: Array | Iterable[Array], learner: Learner, rng: np.random.Generator | None = None
) -> Iterator[Array]:
    """Yield the shares (runs, types) before the first step, after it, and so on, as long as there is pay.

    Pay is one array of shape (types,) for good, or an iterable of them, one a step. Raises ValueError for a
    replicator with sampled groups: it divides by shares that may never be drawn.
    Source: ``theory.replicator_growth``; gradient ascent; Kingma and Ba 2015, arXiv 1412.6980, algorithm 1.

    >>> steps = policy_steps(np.array([[0.5, 0.5]]), np.array([1.0, 0.0]), Learner(learning_rate=1.0))
    >>> next(steps).round(3), next(steps).round(3)
    (array([[0.5, 0.5]]), array([[0.622, 0.378]]))
    """
    if learner.update == "replicator" and learner.sampled:
        raise ValueError("the replicator needs the exact gradient")
    if learner.sampled and rng is None:
        raise ValueError("sampled groups need a random generator")
    with np.errstate(divide="ignore"):
        logits = np.log(shares)
    first, second = np.zeros_like(logits), np.zeros_like(logits)
    for step, now in enumerate(repeat(pay) if isinstance(pay, np.ndarray) else pay, start=1):
        current = softmax(logits)
        yield current
        if learner.update == "replicator":
            logits = logits + learner.learning_rate * (now - (current * now).sum(axis=1, keepdims=True))
            continue
        if rng is not None and learner.sampled:
            gradient = sampled_gradient(current, now, learner, rng)
        else:
            gradient = exact_gradient(current, now, learner.divide_by_std)
        if learner.update == "sgd":
            logits = logits + learner.learning_rate * gradient
            continue
        first = learner.beta1 * first + (1 - learner.beta1) * gradient
        second = learner.beta2 * second + (1 - learner.beta2) * gradient**2
        corrected = np.sqrt(second / (1 - learner.beta2**step)) + learner.epsilon
        logits = logits + learner.learning_rate * first / (1 - learner.beta1**step) / corrected


def simulated_escape_steps(
    starts: Array, pay: Array, learner: Learner, num_runs: int, max_steps: int, seed: int, end: float = 0.5
) -> Array:
    """Return the steps until type 0 of two first reaches share ``end``, shape (starts, runs).

    NaN if it has not within ``max_steps``.
    Source: simulation; compare ``theory.escape_steps``.

    >>> learner = Learner(update="replicator", learning_rate=0.1)
    >>> simulated_escape_steps(np.array([0.1]), np.array([1.0, 0.0]), learner, 1, 100, seed=0)
    array([[22.]])
    """
    share = np.repeat(starts, num_runs)
    times = np.full(share.size, np.nan)
    steps = policy_steps(np.column_stack([share, 1 - share]), pay, learner, np.random.default_rng(seed))
    for step in range(max_steps + 1):
        arrived = np.isnan(times) & (next(steps)[:, 0] >= end)
        times[arrived] = step
        if not np.isnan(times).any():
            break
    return times.reshape(len(starts), num_runs)


def log_log_slope(starts: Array, times: Array, level: float = 0.95) -> tuple[float, float, float]:
    """Return slope, lower and upper bound of log(times), shape (starts, runs), on log(starts).

    NaN if any run was censored, since dropping the slow ones would flatten the slope. For noiseless times the
    interval measures curvature only. Source: ordinary least squares with a t interval.

    >>> log_log_slope(np.array([0.1, 0.01, 0.001]), np.array([[10.0], [100.0], [1000.0]]))[0]
    -1.0
    """
    if np.isnan(times).any():
        return float("nan"), float("nan"), float("nan")
    x = np.repeat(np.log(starts), times.shape[1])
    fit = linregress(x, np.log(times.ravel()))
    margin = float(fit.stderr) * float(student_t.ppf((1 + level) / 2, len(x) - 2))
    return round(float(fit.slope), 12), float(fit.slope) - margin, float(fit.slope) + margin
