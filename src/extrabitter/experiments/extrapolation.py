"""From the first quarter of a run to its end: a sigmoid in the tokens generated, against a power law and no change.

    R(C) = R0 + (A - R0) / (1 + (Cmid / C)^B)

R0 is where a run begins, A where it would end with unlimited compute, Cmid the compute at which half of that gain is
made. Source: ScaleRL, arXiv 2510.13786, equation 1; the power law R = A - D C^-B is what the form is compared with.
What differs there: compute is GPU hours, and R is measured on held-out prompts. A run whose bend has not been seen
tells nothing of A.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

from extrabitter.statistics import Estimate

Array = NDArray[np.float64]
CUT = 0.25  # share of a run's tokens that a forecast may see
LEAST_GAIN = 0.10  # from the cut to the end: where nothing happens any forecast is right
CLOSE = 0.05  # a forecast is right within this
STARTS = 3  # first rows whose mean is R0
WINDOW = 5  # steps of a running mean


class Sigmoid(NamedTuple):
    """The fitted curve: start R0, end A, half-way point Cmid in tokens, and steepness B."""

    start: float
    end: float
    middle: float
    steepness: float

    def at(self, tokens: ArrayLike) -> Array:
        """Return the curve at so many generated tokens, all above 0."""
        ratio = (self.middle / np.asarray(tokens, dtype=float)) ** self.steepness
        return self.start + (self.end - self.start) / (1 + ratio)


def fit_sigmoid(tokens: ArrayLike, values: ArrayLike) -> Sigmoid:
    """Fit the curve to a share by least squares, A between R0 and 1; ValueError for fewer than eight rows."""
    x, y = np.asarray(tokens, dtype=float), np.asarray(values, dtype=float)
    if len(x) < 2 * STARTS + 2:
        raise ValueError(f"tokens: {len(x)} rows are too few to fit a curve of three unknowns to; at least 8")
    start = float(y[:STARTS].mean())
    scale = float(x[-1])
    low, high = [start, 1e-3, 0.3], [1.0, 1e3, 8.0]

    def residuals(unknowns: Array) -> Array:
        end, middle, steepness = unknowns
        return Sigmoid(start, end, middle * scale, steepness).at(x) - y

    begun = [(min(1.0, start + gain), middle, 1.5) for gain in (0.1, 0.4, 0.8) for middle in (0.3, 1.0, 4.0)]
    inside = [np.clip(each, np.add(low, 1e-6), np.subtract(high, 1e-6)) for each in begun]
    found = [optimize.least_squares(residuals, each, bounds=(low, high)) for each in inside]
    end, middle, steepness = min(found, key=lambda each: each.cost).x
    return Sigmoid(start, float(end), float(middle) * scale, float(steepness))


def fit_power_law(tokens: ArrayLike, values: ArrayLike) -> tuple[float, float, float]:
    """Fit R = A - D (C / C_last)^-B by least squares, A at most 1; return A, D and B."""
    x, y = np.asarray(tokens, dtype=float), np.asarray(values, dtype=float)

    def residuals(unknowns: Array) -> Array:
        end, distance, power = unknowns
        return end - distance * (x / x[-1]) ** -power - y

    begun = [(min(1.0, y[-1] + gap), gap, power) for gap in (0.1, 0.4) for power in (0.2, 1.0)]
    bounds = ([0.0, 0.0, 0.01], [1.0, 5.0, 4.0])
    found = [optimize.least_squares(residuals, np.clip(each, *bounds), bounds=bounds) for each in begun]
    end, distance, power = min(found, key=lambda each: each.cost).x
    return float(end), float(distance), float(power)


def foretell(steps: pd.DataFrame, column: str = "correct_reward") -> pd.DataFrame:
    """Foretell the end of each run of table `steps` from its first quarter of tokens, a row a run.

    Columns: arm, seed, cut and end, the running means there; sigmoid, power_law and last, what was foretold; scored,
    whether the end lies LEAST_GAIN or more above the cut.
    """
    rows = []
    for (arm, seed), own in steps.groupby(["arm", "seed"], sort=False):
        own = own.sort_values("step")
        tokens = own["num_tokens"].to_numpy(float)
        means = own[column].rolling(WINDOW, min_periods=1).mean().to_numpy()
        seen = tokens <= CUT * tokens[-1]
        early = tokens[seen], own[column].to_numpy(float)[seen]
        end, distance, power = fit_power_law(*early)
        by_power = end - distance * (tokens[-1] / early[0][-1]) ** -power
        told = (float(fit_sigmoid(*early).at(tokens[-1])), by_power, means[seen][-1])
        scored = means[-1] - means[seen][-1] >= LEAST_GAIN
        rows.append((arm, seed, means[seen][-1], means[-1], *told, scored))
    columns = ["arm", "seed", "cut", "end", "sigmoid", "power_law", "last", "scored"]
    return pd.DataFrame(rows, columns=columns)


def of_arms(foretold: pd.DataFrame, by: str = "sigmoid") -> Estimate:
    """Return the share of arms whose mean forecast over seeds lies within CLOSE of their mean end, a count of arms.

    An arm counts where all of its runs are scored. There is no interval: the unit is the arm, and these are all.
    """
    arms = foretold.groupby("arm").agg({by: "mean", "end": "mean", "scored": "all"}).query("scored")
    share = float((arms[by].sub(arms["end"]).abs() <= CLOSE).mean()) if len(arms) else float("nan")
    return Estimate(share, share, share, foretold["seed"].nunique() if len(arms) else 0)
