"""Measured values with their uncertainty: over seeds where there are several, over problems where there is one.

Arms are compared by seed and by problem: the same seed asks every arm the same problems.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from extrabitter.behaviours.measures import MEASURES
from extrabitter.statistics import t_interval
from extrabitter.seeding import derive_seed

NUM_RESAMPLES = 1_000


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval; NaN where nothing was measured.

    The interval is Student's over seeds ("t"), or has a normal tail on each side by itself ("normal"), as one that is
    bootstrapped over clusters and widened where they all agree.
    """

    value: float
    lower: float
    upper: float
    num_seeds: int
    tails: Literal["t", "normal"] = "t"

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
        if self.tails == "normal" and self.measured:
            distance, room = (self.value - bound, below) if above else (bound - self.value, over)
            return float(stats.norm.sf(distance / max(room, 1e-12) * stats.norm.ppf(0.975)))
        if not self.measured or self.num_seeds < 2 or abs(over - below) > 1e-9:
            return float("nan")
        freedom = self.num_seeds - 1
        error = (self.upper - self.lower) / 2 / float(stats.t.ppf(0.975, freedom))
        distance = (self.value - bound) if above else (bound - self.value)
        if error == 0:
            return 0.0 if distance >= 0 else 1.0
        return float(stats.t.sf(distance / error, freedom))


MISSING = Estimate(np.nan, np.nan, np.nan, 0)


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
    mean, lower, upper = t_interval(rows["value"].to_numpy(float))
    return Estimate(float(mean), float(lower), float(upper), len(rows))


def over_seed_values(values: Iterable[float]) -> Estimate:
    """Combine one value a seed, none with an interval of its own; NaN where a seed has none."""
    rows = [(value, np.nan, np.nan) for value in values]
    return over_seeds(pd.DataFrame(rows, columns=["value", "lower", "upper"]))


def of_measure(summary: pd.DataFrame, arm: str, measure: str) -> Estimate:
    """Estimate a measure of an arm from collected `summary` tables (arm, seed, measure, value, ...)."""
    return over_seeds(summary[(summary["arm"] == arm) & (summary["measure"] == measure)])


def values_by_seed(summary: pd.DataFrame, measure: str, arms: Sequence[str]) -> pd.DataFrame:
    """Return a measure from collected `summary` tables: a row a seed, a column an arm; seeds that all arms have.

    >>> table = pd.DataFrame({"arm": list("aba"), "seed": [1, 1, 2], "measure": "m", "value": [0.25, 0.5, 1.0]})
    >>> values_by_seed(table, "m", ["b", "a"]).to_dict("index")
    {1: {'b': 0.5, 'a': 0.25}}
    """
    rows = summary[(summary["measure"] == measure) & summary["arm"].isin(arms)]
    values = rows.pivot(index="seed", columns="arm", values="value")
    return values.reindex(columns=list(arms)).dropna().rename_axis(columns=None)


def of_pass_at_k(pass_at_k: pd.DataFrame, arm: str, k: int) -> Estimate:
    """Estimate pass@k of an arm from collected `pass_at_k` tables."""
    return over_seeds(pass_at_k[(pass_at_k["arm"] == arm) & (pass_at_k["k"] == k)])


def of_difference(completions: pd.DataFrame, arm: str, baseline: str, measure: str) -> Estimate:
    """Estimate a measure's difference arm - baseline, paired by seed and by problem.

    `completions` are collected tables. Seeds that only one of the two arms completed are left out.
    """
    first, second = (
        {int(str(seed)): rows for seed, rows in completions[completions["arm"] == name].groupby("seed")}
        for name in (arm, baseline)
    )
    seeds = sorted(set(first) & set(second))
    parts = [
        pd.merge(
            _sums(first[seed], measure), _sums(second[seed], measure), on="problem", suffixes=("_1", "_2")
        ).to_numpy(float)
        for seed in seeds
    ]
    values = [difference_of_ratios(part.sum(axis=0)) for part in parts]
    known = np.flatnonzero(np.isfinite(values))
    # Resampling takes longer than all else, and only a single seed's interval is over problems.
    ends = (np.nan, np.nan)
    if len(known) == 1:
        rng = np.random.default_rng(derive_seed(seeds[known[0]], "paired difference"))
        ends = resampled_difference(parts[known[0]], rng)
    rows = [(value, *ends) for value in values]
    return over_seeds(pd.DataFrame(rows, columns=["value", "lower", "upper"]))


def difference_of_ratios(sums: NDArray[np.float64]) -> float:
    """Return top_1 / bottom_1 - top_2 / bottom_2; NaN where a denominator is nought."""
    top_1, bottom_1, top_2, bottom_2 = sums
    return float(top_1 / bottom_1 - top_2 / bottom_2) if bottom_1 and bottom_2 else float("nan")


def resampled_difference(parts: NDArray[np.float64], rng: np.random.Generator) -> tuple[float, float]:
    """Return the ends of the bootstrap interval over problems; `parts` (P, 4) has a problem's four sums a row.

    Resamples that happen to leave a side empty say nothing.
    """
    weights = rng.multinomial(len(parts), np.full(len(parts), 1 / len(parts)), size=NUM_RESAMPLES)  # (R, P)
    draws = np.array([difference_of_ratios(sums) for sums in weights @ parts])
    lower, upper = np.quantile(draws[np.isfinite(draws)], [0.025, 0.975])
    return float(lower), float(upper)


def _sums(completions: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Numerator and denominator of a measure, summed per problem."""
    kind = MEASURES[measure]
    parts = pd.DataFrame(
        {
            "problem": completions["problem"],
            "top": np.asarray(kind.numerator(completions), dtype=float),
            "bottom": np.asarray(kind.denominator(completions), dtype=float),
        }
    )
    return parts.groupby("problem", sort=True)[["top", "bottom"]].sum()
