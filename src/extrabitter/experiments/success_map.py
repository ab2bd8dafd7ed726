"""Mroueh's map: what one GRPO iteration does to the success chance when its inner problem is solved.

The opposite limit from ``dynamics``: there every gradient step is a new batch, here a batch is milked until
the KL-regularised objective has nothing more to give. Expectations are exact, so no sampling barrier appears.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize

from extrabitter.experiments.dynamics import softmax

Array = NDArray[np.float64]


def solve_inner_loop(
    old: Array, reference: Array, rewards: Array, beta: float, epsilon: float = 1e-6
) -> Array:
    """Return the shares that maximise E_old[ratio x advantage] - beta KL(policy, reference).

    ``old``, ``reference`` and ``rewards`` (0 or 1) have shape (types,). Found by L-BFGS on the logits of
    the reference's support, to about 1e-4 (the maximum is flat where almost everything is right). Source:
    objective of Mroueh 2025, arXiv 2503.06639, without clipping; compare ``success_map``.

    >>> half = np.array([0.5, 0.5])
    >>> solve_inner_loop(half, half, np.array([1.0, 0.0]), beta=1.0).round(3)
    array([0.881, 0.119])
    """
    support = reference > 0
    start = np.log(reference[support])
    success = float((old * rewards).sum())
    advantage = (rewards[support] - success) / np.sqrt(success * (1 - success) + epsilon)

    def negative_objective(logits: Array) -> tuple[float, Array]:
        log_policy = logits - np.logaddexp.reduce(logits)
        policy = np.exp(log_policy)
        score = advantage - beta * (log_policy - start)
        value = (policy * score).sum()
        return -float(value), -policy * (score - value)

    found = minimize(
        negative_objective, start, jac=True, method="L-BFGS-B", options={"gtol": 1e-12, "ftol": 0.0}
    )
    policy = np.zeros_like(reference)
    policy[support] = softmax(found.x)
    return policy


def success_map(probability: float, reference: float, beta: float, epsilon: float = 1e-6) -> float:
    """Return h(p): the success chance after one outer GRPO iteration with its inner problem solved.

    The maximiser of E_old[ratio x advantage] - beta KL(pi, reference) is reference x exp(advantage / beta),
    so right and wrong answers are tilted apart by 1/(beta sqrt(p(1-p) + epsilon)). Needs beta > 0, no
    clipping, exact expectations. Reference 0 stays 0, 1 stays 1.
    Source: Mroueh 2025, arXiv 2503.06639, theorem on the recurrence p_n = h(p_{n-1}); derived again in the
    chapter.

    >>> round(success_map(0.2, 0.2, beta=1.0), 3)
    0.753
    >>> success_map(0.5, 0.0, beta=1.0)
    0.0
    """
    if reference in (0.0, 1.0):
        return reference
    tilt = 1 / (beta * np.sqrt(probability * (1 - probability) + epsilon))
    return float(1 / (1 + (1 - reference) / reference * np.exp(-tilt)))


def success_map_slope(probability: float, reference: float, beta: float, epsilon: float = 1e-6) -> float:
    """Return h'(p); a fixed point attracts when its absolute value is below one.

    Source: derivative of ``success_map``: -h(1-h)(1-2p) / (2 beta (p(1-p) + epsilon)^(3/2)).

    >>> success_map_slope(0.5, 0.2, beta=1.0)
    -0.0
    """
    h = success_map(probability, reference, beta, epsilon)
    variance = probability * (1 - probability) + epsilon
    return float(-h * (1 - h) * (1 - 2 * probability) / (2 * beta * variance**1.5))


def success_map_fixed_points(reference: float, beta: float, epsilon: float = 1e-6) -> list[float]:
    """Return every p with h(p) = p found on a fine logit grid, ascending.

    Source: Mroueh 2025, arXiv 2503.06639: p* exceeds the reference for beta > 0.

    >>> [round(p, 3) for p in success_map_fixed_points(0.2, beta=2.0)]
    [0.409, 0.994, 1.0]
    """
    if reference in (0.0, 1.0):
        return [reference]

    def gap(logit: float) -> float:
        # compared as logits: close to one, h(p) - p itself would drown in rounding
        share = 1 / (1 + np.exp(-logit))
        tilt = 1 / (beta * np.sqrt(share * (1 - share) + epsilon))
        return float(np.log(reference / (1 - reference)) + tilt - logit)

    largest_tilt = 1.01 / (beta * np.sqrt(epsilon))
    grid = np.log(reference / (1 - reference)) + np.geomspace(1e-3, largest_tilt, 20001)
    values = np.array([gap(x) for x in grid])
    crossings = np.flatnonzero(np.diff(np.sign(values)))
    return [float(1 / (1 + np.exp(-brentq(gap, grid[i], grid[i + 1])))) for i in crossings]
