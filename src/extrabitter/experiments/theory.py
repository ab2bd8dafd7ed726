"""Closed forms for search, policy gradients and selection among a handful of behaviours.

Everything here is tabular: a policy is a vector of shares over types (whole attempts, or behaviours), and a
type's pay is the chance that one draw of it is right. ``dynamics`` holds the simulations these formulae are
tested against. Left out: function approximation. A type here has a logit of its own, which no behaviour of
a neural network has.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.stats import binom

Array = NDArray[np.float64]


def chance_of_a_hit(probability: float | Array, num_draws: float | Array) -> Any:
    """Return the chance that independent draws, each right with ``probability``, contain a right one.

    Shapes broadcast. This is pass@k for one problem whose success chance is known.
    Source: complement rule; pass@k as in Chen et al. 2021, arXiv 2107.03374, section 2.1.

    >>> round(chance_of_a_hit(0.1, 8), 4)
    0.5695
    """
    value = -np.expm1(num_draws * np.log1p(-np.minimum(probability, 1 - 1e-16)))
    return float(value) if np.ndim(value) == 0 else value


def exhaustive_chance_of_a_hit(num_candidates: int, num_solutions: int, num_draws: int) -> float:
    """Return the chance that a search which never repeats a candidate has met a solution.

    The candidates come in random order, so this is sampling without replacement.
    Source: hypergeometric distribution; Chen et al. 2021, arXiv 2107.03374, equation 1.

    >>> exhaustive_chance_of_a_hit(10, 1, 5)
    0.5
    >>> exhaustive_chance_of_a_hit(10, 3, 8)
    1.0
    """
    misses = num_candidates - num_solutions
    if num_draws > misses:
        return 1.0
    tried = np.arange(num_draws)
    return float(round(1 - np.prod((misses - tried) / (num_candidates - tried)), 12))


def informative_group_probability(probability: float | Array, num_generations: int) -> Any:
    """Return the chance that a group of 0/1 rewards is neither all wrong nor all right.

    Only such a group has advantages other than zero.
    Source: complement rule; the essay's second hypothesis as an equation.

    >>> informative_group_probability(0.5, 2)
    0.5
    >>> informative_group_probability(0.0, 8)
    0.0
    """
    p = np.asarray(probability, dtype=float)
    value = 1 - (1 - p) ** num_generations - p**num_generations
    return float(value) if value.ndim == 0 else value


def expected_reward_gradient(shares: Array, pay: Array) -> Array:
    """Return the gradient of a softmax policy's expected reward in its logits, shape of ``shares``.

    Component j is pi_j (r_j - r), where r is the mean pay.
    Source: policy gradient theorem, Sutton et al. 1999.

    >>> expected_reward_gradient(np.array([0.5, 0.5]), np.array([1.0, 0.0]))
    array([ 0.25, -0.25])
    """
    return shares * (pay - (shares * pay).sum(axis=-1, keepdims=True))


def replicator_growth(shares: Array, pay: Array) -> Array:
    """Return d log(share) / dt under the natural gradient: each type grows by its advantage, however rare.

    Source: replicator equation, Taylor and Jonker 1978; natural policy gradient, Kakade 2001.

    >>> replicator_growth(np.array([0.01, 0.70, 0.29]), np.array([1.0, 0.5, 0.0])).round(2)
    array([ 0.64,  0.14, -0.36])
    """
    return pay - (shares * pay).sum(axis=-1, keepdims=True)


def softmax_growth(shares: Array, pay: Array) -> Array:
    """Return d log(share) / dt under gradient ascent on softmax logits.

    d log pi_b = pi_b A_b - sum_j pi_j^2 A_j: the advantage is weighted by the share, so a rare best type
    can shrink.
    Source: chain rule through the softmax applied to ``expected_reward_gradient``.

    >>> softmax_growth(np.array([0.01, 0.70, 0.29]), np.array([1.0, 0.5, 0.0])).round(3)
    array([-0.032,  0.06 , -0.143])
    """
    gradient = expected_reward_gradient(shares, pay)
    return gradient - (shares * gradient).sum(axis=-1, keepdims=True)


def group_gain(probability: float, num_generations: int, divide_by_std: bool) -> float:
    """Return the factor by which a sampled group scales the exact policy gradient on average.

    With 0/1 rewards drawn on-policy, the expected GRPO gradient is this factor times the gradient of the
    expected reward, for any policy with success chance ``probability``. Without division it is 1 - 1/G (the
    group mean contains the completion itself). With division by the sample standard deviation s (n - 1, as
    TRL) it is E[K(G-K) / (G^2 s_K)] / (p(1-p)), K binomial: about 1/sqrt(p(1-p)) for large groups, but
    (G-1)/sqrt(G) as p -> 0. That cap is why sampling undoes what the division promises to rare successes.
    Source: ours, by exchangeability of the group; estimator as in DeepSeekMath, arXiv 2402.03300, section
    4.1.2.

    >>> group_gain(0.3, 8, divide_by_std=False)
    0.875
    >>> round(group_gain(1e-9, 8, divide_by_std=True), 4), round(7 / 8**0.5, 4)
    (2.4749, 2.4749)
    """
    g = num_generations
    if not divide_by_std:
        return 1 - 1 / g
    num_right = np.arange(1, g)
    variance = num_right * (g - num_right) / g**2
    weight = binom.pmf(num_right, g, probability) / (probability * (1 - probability))
    return float((weight * np.sqrt(variance) * np.sqrt((g - 1) / g)).sum())


def escape_steps(
    start: float,
    learning_rate: float,
    pay: float,
    rival_pay: float,
    divide_by_std: bool,
    num_generations: int | None = None,
    end: float = 0.5,
) -> float:
    """Return the steps plain gradient ascent needs to take a behaviour from share ``start`` to ``end``.

    Two types, a logit each, small steps: the logit of the share moves by 2 lr p(1-p) (pay - rival_pay) w a
    step, with w = 1 without division, 1/sqrt(r(1-r)) with it (r the mean pay), or ``group_gain`` when
    ``num_generations`` is given (then it is the mean drift; the noise is left out). Infinite at ``start``
    0.
    Source: ours, d p = p(1-p) d logit, integrated.

    >>> round(escape_steps(0.001, 0.1, 1.0, 0.0, divide_by_std=False))
    5064
    >>> escape_steps(0.0, 0.1, 1.0, 0.0, divide_by_std=True)
    inf
    """
    if start == 0:
        return float("inf")

    def steps_per_logit(logit: float) -> float:
        share = 1 / (1 + np.exp(-logit))
        mean_pay = share * pay + (1 - share) * rival_pay
        if num_generations is not None:
            gain = group_gain(mean_pay, num_generations, divide_by_std)
        else:
            gain = 1 / np.sqrt(mean_pay * (1 - mean_pay)) if divide_by_std else 1.0
        return float(1 / (2 * learning_rate * share * (1 - share) * (pay - rival_pay) * gain))

    bounds = [float(np.log(share / (1 - share))) for share in (start, end)]
    return float(quad(steps_per_logit, bounds[0], bounds[1], limit=200)[0])


def escape_exponent(optimiser: str, gradient: str, divide_by_std: bool, rival_pays: bool) -> float:
    """Return the predicted exponent a in "escape time grows like p0^a" as p0 -> 0.

    -1 is the rule. -1/2 needs four conditions at once: plain ascent, exact gradient, division by the
    standard deviation, and no rival that pays (so that the deviation itself falls like sqrt(p)). 0, slower
    than any power, needs Adam with the exact gradient and a logit of its own.
    Source: ours, the leading term of ``escape_steps``; ``sign_ascent_steps``.

    >>> escape_exponent("sgd", "exact", divide_by_std=True, rival_pays=False)
    -0.5
    >>> escape_exponent("sgd", "sampled", divide_by_std=True, rival_pays=False)
    -1.0
    """
    if gradient == "exact" and optimiser == "adam":
        return 0.0
    return -0.5 if gradient == "exact" and divide_by_std and not rival_pays else -1.0


def sign_ascent_steps(start: float, learning_rate: float, end: float = 0.5) -> float:
    """Return the steps from share ``start`` to ``end`` if both logits move by the rate, by sign.

    The log law of Adam with an exact gradient, if its normalised step is one. While a gradient grows, the
    second moment lags behind it and Adam steps faster, so for small rates this is an upper bound.
    Source: ours; sign view of Adam, Balles and Hennig 2018, arXiv 1705.07774.

    >>> round(sign_ascent_steps(0.001, 0.1), 1)
    34.5
    """
    return float((np.log(end / (1 - end)) - np.log(start / (1 - start))) / (2 * learning_rate))


def adam_kick(learning_rate: float, beta1: float = 0.9, beta2: float = 0.999) -> float:
    """Return how far one lone gradient moves a logit under Adam after a long silence, whatever its size.

    The moments decay geometrically, so the steps sum to lr (1-b1) / (sqrt(1-b2) (1 - b1/sqrt(b2))); Adam's
    epsilon is neglected and the silence must be longer than 1/(1-b2) steps.
    Source: ours, from Kingma and Ba 2015, arXiv 1412.6980, algorithm 1.

    >>> round(adam_kick(1.0), 1)
    31.8
    """
    ratio = beta1 / np.sqrt(beta2)
    return float(learning_rate * (1 - beta1) / (np.sqrt(1 - beta2) * (1 - ratio)))
