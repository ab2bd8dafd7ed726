"""Estimates and their intervals: pass@k, t, Wilson, bootstrap over problems, paired differences; Holm's method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

Values = npt.ArrayLike


class Interval(NamedTuple):
    """An estimate with the ends of its interval; NaN where the data do not determine one."""

    value: float
    lower: float
    upper: float


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """Return the unbiased estimate of the chance that one of k samples is right, for one problem.

    ValueError unless 0 <= num_correct <= num_samples and 1 <= k <= num_samples.
    Source: Chen et al., arXiv 2107.03374, equation 1: 1 - C(n - c, k) / C(n, k).

    >>> pass_at_k(4, 1, 2)
    0.5
    """
    return float(pass_at_k_curve([num_samples], [num_correct], [k])[0])


def pass_at_k_curve(num_samples: Values, num_correct: Values, ks: Sequence[int]) -> npt.NDArray[np.float64]:
    """Return pass@k averaged over problems, for each k; shape (len(ks),).

    `num_samples` and `num_correct` have shape (B,), B problems. ValueError where k is over a problem's
    samples.
    """
    samples, correct = np.broadcast_arrays(np.asarray(num_samples), np.asarray(num_correct))
    if samples.size == 0 or (correct < 0).any() or (correct > samples).any():
        raise ValueError("num_correct: must be in 0..num_samples, for one problem or more")
    curve = np.empty(len(ks))
    for position, k in enumerate(ks):
        if not 1 <= k <= samples.min():
            raise ValueError(f"k: {k} must be in 1..{samples.min()}, the samples of a problem")
        # C(n - c, k) / C(n, k) as a product of k ratios: factorials would overflow.
        steps = np.arange(k)
        ratios = (samples[..., None] - correct[..., None] - steps) / (samples[..., None] - steps)  # (B, k)
        curve[position] = 1.0 - np.clip(ratios, 0.0, None).prod(axis=-1).mean()
    return curve


def t_interval(values: Values, level: float = 0.95) -> Interval:
    """Return mean and Student's t interval of independent values, such as seeds' means; infinite for one."""
    sample = np.asarray(values, dtype=float)
    if sample.size == 0:
        return Interval(np.nan, np.nan, np.nan)
    mean = float(sample.mean())
    if sample.size == 1:
        return Interval(mean, -np.inf, np.inf)
    half = float(stats.t.ppf((1 + level) / 2, sample.size - 1) * sample.std(ddof=1) / np.sqrt(sample.size))
    return Interval(mean, mean - half, mean + half)


def wilson_interval(num_successes: float, num_trials: int, level: float = 0.95) -> Interval:
    """Return a share and its Wilson score interval, which stays in [0, 1] and is honest at 0 of n.

    Successes may be a fraction where each trial is itself a mean, such as a problem's over its samples.
    Source: E. B. Wilson, JASA 22 (1927), 209-212.
    """
    if not 0 <= num_successes <= num_trials:
        raise ValueError(f"num_successes: {num_successes} must be in 0..{num_trials}")
    if num_trials == 0:
        return Interval(np.nan, np.nan, np.nan)
    z = float(stats.norm.ppf((1 + level) / 2))
    share = num_successes / num_trials
    centre = (share + z**2 / (2 * num_trials)) / (1 + z**2 / num_trials)
    spread = np.sqrt(share * (1 - share) / num_trials + z**2 / (4 * num_trials**2))
    half = float(z * spread / (1 + z**2 / num_trials))
    # At 0 and n the ends are exact; rounding must not put the share outside its interval.
    return Interval(share, min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half)))


def bootstrap_interval(
    values: Values,
    rng: np.random.Generator,
    statistic: Callable[[npt.NDArray[np.float64]], float] | None = None,
    level: float = 0.95,
    num_resamples: int = 1000,
) -> Interval:
    """Return a statistic (default: the mean) and its percentile interval, problems resampled.

    `values` has shape (B,) or (B, ...): whatever belongs to one problem stays together, as its samples are
    not independent. `statistic` takes an array of that shape.
    """
    sample = np.asarray(values, dtype=float)
    if len(sample) == 0:
        return Interval(np.nan, np.nan, np.nan)
    measure = statistic if statistic is not None else lambda resample: float(resample.mean())
    draws = [measure(sample[rng.integers(len(sample), size=len(sample))]) for _ in range(num_resamples)]
    lower, upper = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(measure(sample)), float(lower), float(upper))


def paired_difference(first: Values, second: Values, level: float = 0.95) -> Interval:
    """Return the mean of first - second and its t interval; the i-th values share a seed (or problem).

    Pairing takes out what both arms of a seed have in common. ValueError unless both have shape (S,), S
    seeds.
    """
    one, other = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if one.shape != other.shape or one.ndim != 1:
        raise ValueError(
            f"paired values: shapes {one.shape} and {other.shape} must be equal, one-dimensional"
        )
    return t_interval(one - other, level)


def holm_adjusted(p_values: Sequence[float], num_tests: int) -> npt.NDArray[np.float64]:
    """Return p-values adjusted for `num_tests` tests of one family, in the order given; shape (len(p_values),).

    Tests not given count as not rejected. Rejecting what is at most a level keeps the chance of any false
    rejection at or below that level. ValueError where fewer tests than p-values are named.
    Source: S. Holm, Scandinavian Journal of Statistics 6 (1979), 65-70.

    >>> holm_adjusted([0.01, 0.04, 0.03], 3).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    if num_tests < len(p_values):
        raise ValueError(f"num_tests: {num_tests} must be at least {len(p_values)}, the p-values given")
    given = np.asarray(p_values, dtype=float)
    order = np.argsort(given)
    steps = np.clip((num_tests - np.arange(len(given))) * given[order], 0.0, 1.0)
    adjusted = np.empty_like(given)
    adjusted[order] = np.maximum.accumulate(steps)
    return adjusted
