"""Estimates and their intervals: over seeds where there are several, over problems where there is one.

Arms are compared by seed and by problem: the same seed asks every arm the same problems, and each seed asks problems
of its own. So the spread of seeds' paired differences holds both, what trunks and what problems differ in, and
Student's interval over it is one over seeds and problems.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

Values = npt.ArrayLike
Statistic = Callable[[npt.NDArray[np.float64]], float]
NUM_RESAMPLES = 1_000
_TAIL = 0.975  # of a distribution lies below the upper end of a 95 % interval


class Interval(NamedTuple):
    """An estimate with the ends of its interval; NaN where the data do not determine one."""

    value: float
    lower: float
    upper: float


_UNKNOWN = Interval(np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class Estimate:
    """A value over seeds and its 95 % interval, Student's; NaN where nothing was measured."""

    value: float
    lower: float
    upper: float
    num_seeds: int

    @property
    def measured(self) -> bool:
        """Whether any complete run stands behind the value."""
        return self.num_seeds > 0 and bool(np.isfinite(self.value))

    def p_value(self, bound: float, above: bool) -> float:
        """Return the chance of a mean over seeds this far above (or below) `bound` if the truth lay at it.

        One-sided: at most .025 exactly where the 95 % interval lies wholly on that side. NaN with fewer than two
        seeds, and where an interval over seeds was widened on one side.
        """
        below, over = self.value - self.lower, self.upper - self.value
        if not self.measured or self.num_seeds < 2 or abs(over - below) > 1e-9:
            return float("nan")
        freedom = self.num_seeds - 1
        error = (self.upper - self.lower) / 2 / float(stats.t.ppf(_TAIL, freedom))
        distance = (self.value - bound) if above else (bound - self.value)
        if error == 0:
            return 0.0 if distance >= 0 else 1.0
        return float(stats.t.sf(distance / error, freedom))


MISSING = Estimate(np.nan, np.nan, np.nan, 0)


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """Return the unbiased estimate of the chance that one of k samples is right, for one problem.

    ValueError unless 0 <= num_correct <= num_samples and 1 <= k <= num_samples.
    Source: Chen et al., arXiv 2107.03374, equation 1: 1 - C(n - c, k) / C(n, k).

    >>> pass_at_k(4, 1, 2)
    0.5
    """
    if not 0 <= num_correct <= num_samples:
        raise ValueError(f"num_correct: {num_correct} must be in 0..{num_samples}, the samples")
    if not 1 <= k <= num_samples:
        raise ValueError(f"k: {k} must be in 1..{num_samples}, the samples of a problem")
    # C(n - c, k) / C(n, k) as a product of k ratios: factorials would overflow.
    steps = np.arange(k)
    ratios = (num_samples - num_correct - steps) / (num_samples - steps)
    return float(1.0 - np.clip(ratios, 0.0, None).prod())


def t_interval(values: Values) -> Interval:
    """Return mean and Student's t interval of independent values, such as seeds' means; infinite for one."""
    sample = np.asarray(values, dtype=float)
    if sample.size == 0:
        return _UNKNOWN
    mean = float(sample.mean())
    if sample.size == 1:
        return Interval(mean, -np.inf, np.inf)
    half = float(stats.t.ppf(_TAIL, sample.size - 1) * sample.std(ddof=1) / np.sqrt(sample.size))
    return Interval(mean, mean - half, mean + half)


def wilson_interval(num_successes: float, num_trials: float) -> Interval:
    """Return a share and its Wilson score interval, which stays in [0, 1] and is honest at 0 of n.

    Successes may be a fraction where each trial is itself a mean, such as a problem's over its samples.
    Source: E. B. Wilson, JASA 22 (1927), 209-212.
    """
    if num_trials == 0:
        return _UNKNOWN
    share, z = num_successes / num_trials, float(stats.norm.ppf(_TAIL))
    centre = (share + z**2 / (2 * num_trials)) / (1 + z**2 / num_trials)
    spread = np.sqrt(share * (1 - share) / num_trials + z**2 / (4 * num_trials**2))
    half = float(z * spread / (1 + z**2 / num_trials))
    # At 0 and n the ends are exact; rounding must not put the share outside its interval.
    return Interval(share, min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half)))


def clustered_share(tops: Values, bottoms: Values) -> Interval:
    """Return sum(tops) / sum(bottoms), a share, and its interval where units of a problem are not independent.

    Both have shape (B,), B problems, with 0 <= top <= bottom. Wilson's interval with as many trials as the spread
    between problems leaves of the units; where that spread is nought (all right, all wrong) as many as problems, so
    that 0 of B is never "0 to 0". NaN without a unit.
    Source: E. L. Korn and B. I. Graubard, Survey Methodology 24 (1998), 193-201, the number of trials.
    """
    top, bottom = np.asarray(tops, dtype=float), np.asarray(bottoms, dtype=float)
    top, bottom = top[bottom > 0], bottom[bottom > 0]
    total, problems = float(bottom.sum()), len(bottom)
    if problems == 0:
        return _UNKNOWN
    share = min(max(float(top.sum()) / total, 0.0), 1.0)
    spread = float(((top - share * bottom) ** 2).sum())
    if problems < 2 or spread < 1e-12 * total:
        return wilson_interval(share * problems, problems)
    variance = problems / (problems - 1) * spread / total**2
    few = float(stats.norm.ppf(_TAIL) / stats.t.ppf(_TAIL, problems - 1)) ** 2
    trials = min(share * (1 - share) / variance, total) * few
    return wilson_interval(share * trials, trials)


def bootstrap_interval(values: Values, rng: np.random.Generator, statistic: Statistic = np.mean) -> Interval:
    """Return a statistic (default: the mean) and its percentile interval, problems resampled.

    `values` has shape (B,) or (B, ...): whatever belongs to one problem stays together, as its samples are
    not independent. `statistic` takes an array of that shape.
    """
    sample = np.asarray(values, dtype=float)
    if len(sample) == 0:
        return _UNKNOWN
    draws = [statistic(sample[rng.integers(len(sample), size=len(sample))]) for _ in range(NUM_RESAMPLES)]
    lower, upper = np.quantile(draws, [1 - _TAIL, _TAIL])
    return Interval(float(statistic(sample)), float(lower), float(upper))


def holm_adjusted(p_values: Sequence[float], num_tests: int) -> npt.NDArray[np.float64]:
    """Return p-values adjusted for `num_tests` tests of one family, in the order given; shape (len(p_values),).

    Tests not given count as not rejected. Rejecting what is at most a level keeps the chance of any false
    rejection at or below that level.
    Source: S. Holm, Scandinavian Journal of Statistics 6 (1979), 65-70.

    >>> holm_adjusted([0.01, 0.04, 0.03], 3).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    given = np.asarray(p_values, dtype=float)
    order = np.argsort(given)
    steps = np.clip((num_tests - np.arange(len(given))) * given[order], 0.0, 1.0)
    adjusted = np.empty_like(given)
    adjusted[order] = np.maximum.accumulate(steps)
    return adjusted


def over_seeds(by_seed: pd.DataFrame) -> Estimate:
    """Combine one row a seed (value, lower, upper) into one estimate.

    With one seed the interval is that run's own, over problems; with more it is Student's t over seed means.
    """
    rows = by_seed[np.isfinite(by_seed["value"].to_numpy(float))]
    if len(rows) == 0:
        return MISSING
    if len(rows) == 1:
        row = rows.iloc[0]
        return Estimate(float(row["value"]), float(row["lower"]), float(row["upper"]), 1)
    return Estimate(*t_interval(rows["value"].to_numpy(float)), len(rows))


def over_seed_values(values: Iterable[float]) -> Estimate:
    """Combine one value a seed, none with an interval of its own; NaN where a seed has none."""
    rows = [(value, np.nan, np.nan) for value in values]
    return over_seeds(pd.DataFrame(rows, columns=["value", "lower", "upper"]))


def of_measure(summary: pd.DataFrame, arm: str, measure: str) -> Estimate:
    """Estimate a measure of an arm from table `summary` of the store (seed, arm, measure, value, ...)."""
    return over_seeds(summary[(summary["arm"] == arm) & (summary["measure"] == measure)])


def values_by_seed(summary: pd.DataFrame, measure: str, arms: Sequence[str]) -> pd.DataFrame:
    """Return a measure from table `summary`: a row a seed, a column an arm; seeds that all arms have.

    >>> table = pd.DataFrame({"arm": list("aba"), "seed": [1, 1, 2], "measure": "m", "value": [0.25, 0.5, 1.0]})
    >>> values_by_seed(table, "m", ["b", "a"]).to_dict("index")
    {1: {'b': 0.5, 'a': 0.25}}
    """
    rows = summary[(summary["measure"] == measure) & summary["arm"].isin(arms)]
    values = rows.pivot(index="seed", columns="arm", values="value")
    return values.reindex(columns=list(arms)).dropna().rename_axis(columns=None)


def of_difference(summary: pd.DataFrame, arm: str, baseline: str, measure: str = "pass@1") -> Estimate:
    """Estimate a measure's difference arm - baseline from table `summary`, paired by seed.

    Seeds that only one of the two arms completed are left out. One seed gives a value and no interval: a summary
    does not say which problems it is over.
    """
    values = values_by_seed(summary, measure, list(dict.fromkeys((arm, baseline))))
    return over_seed_values(values[arm] - values[baseline])
