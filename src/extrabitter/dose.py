"""How much is enough: accuracy after RL against the chance to search before it, and when search takes off.

The horizontal axis is always measured: the chance of beginning a search behind an own first attempt, read off the
softmax. Two curves are fitted by least squares on its logarithm, a line and a logistic, and compared by leaving
one rung of the ladder out at a time. Fits are made seed by seed, so that intervals are over seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import least_squares

from extrabitter.estimates import MISSING, Estimate, over_seeds

RUNGS = ("ladder_003", "ladder_01", "ladder_03", "ladder_1", "ladder_3", "rich")
READ_AT = (20, 40, 80)  # GRPO steps
WINDOW = 10  # steps before and with the one that is read
LEAST_RUNGS = 5  # a logistic has four parameters
TAKEN_OFF = 0.5  # share of completions that search
SMOOTH = 5  # steps, for the take-off

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Logistic:
    """`low + (high - low) / (1 + exp(-(x - midpoint) / scale))`; x in decades."""

    low: float
    high: float
    midpoint: float
    scale: float

    def __call__(self, x: npt.ArrayLike) -> Values:
        """Return the curve at x."""
        return self.low + (self.high - self.low) * _sigmoid(
            (np.asarray(x, float) - self.midpoint) / self.scale
        )

    @property
    def width(self) -> float:
        """Decades between 10 % and 90 % of the rise.

        >>> round(Logistic(0.0, 1.0, -2.0, 0.25).width, 3)
        1.099
        """
        return 2 * float(np.log(9)) * self.scale


def fit_logistic(x: npt.ArrayLike, y: npt.ArrayLike) -> Logistic:
    """Fit a rising logistic to points by least squares; the best of several starts.

    Ends stay in [0, 1], the midpoint within a decade of the data, the scale between a twentieth of a decade and two
    decades: sharper or flatter than that cannot be told from a step or a line by rungs half a decade apart.
    """
    xs, ys = np.asarray(x, float), np.asarray(y, float)
    bounds = ([0.0, 0.0, xs.min() - 1, 0.05], [1.0, 1.0, xs.max() + 1, 2.0])

    def residuals(values: Values) -> Values:
        low, rise, midpoint, scale = values
        return low + rise * _sigmoid((xs - midpoint) / scale) - ys

    starts = product((ys.min(),), (np.ptp(ys),), np.linspace(xs.min(), xs.max(), 5), (0.1, 0.4))
    fits = [
        least_squares(residuals, np.clip(start, *(np.add(bounds, [[1e-9], [-1e-9]]))), bounds=bounds)
        for start in starts
    ]
    low, rise, midpoint, scale = min(fits, key=lambda fit: fit.cost).x
    return Logistic(float(low), float(low + rise), float(midpoint), float(scale))


def readings(steps: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """Read accuracy off training at the steps of `READ_AT`, beside the measured chance before RL.

    Columns: seed, rung, chance, step, accuracy (mean over the `WINDOW` steps that end there). From collected tables
    `steps` of GRPO and `summary` of evaluations; a rung needs both. A run that ended before a step has no reading.
    """
    chances = summary[summary["measure"] == "search_probability"].set_index(["arm", "seed"])["value"]
    rows = []
    for rung in RUNGS:
        for seed, run in steps[steps["arm"] == f"grpo_{rung}"].groupby("seed"):
            if (f"base_{rung}", seed) not in chances.index:
                continue
            accuracy = run.set_index("step")["correct_reward"].sort_index()
            for step in READ_AT:
                if accuracy.index.max() >= step:
                    value = float(accuracy.loc[step - WINDOW + 1 : step].mean())
                    rows.append((seed, rung, float(chances[f"base_{rung}", seed]), step, value))
    return pd.DataFrame(rows, columns=["seed", "rung", "chance", "step", "accuracy"])


def of_left_out_gain(read: pd.DataFrame, step: int = READ_AT[-1]) -> Estimate:
    """Estimate by how much the logistic's left-out squared error is below the line's, as a share of the line's."""
    return _by_seed(read, lambda run: _left_out_gain(run[run["step"] == step]))


def of_width(read: pd.DataFrame, step: int = READ_AT[-1]) -> Estimate:
    """Estimate the decades between 10 % and 90 % of the logistic's rise."""
    return _by_seed(read, lambda run: _fit(run[run["step"] == step]).width)


def of_midpoint(read: pd.DataFrame, step: int = READ_AT[-1]) -> Estimate:
    """Estimate where the logistic has risen by half, as the decimal logarithm of the chance."""
    return _by_seed(read, lambda run: _fit(run[run["step"] == step]).midpoint)


def of_shift(read: pd.DataFrame) -> Estimate:
    """Estimate the decades by which the logistic's midpoint falls for each doubling of steps."""

    def shift(run: pd.DataFrame) -> float:
        steps = sorted(run["step"].unique())
        if len(steps) < 2:
            return float("nan")
        midpoints = [_fit(run[run["step"] == step]).midpoint for step in steps]
        return -float(np.polyfit(np.log2(steps), midpoints, 1)[0])

    return _by_seed(read, shift)


def take_off(steps: pd.DataFrame, summary: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """Find when search takes off: the first step at which the mean over `SMOOTH` steps passes `TAKEN_OFF`.

    Columns: arm, seed, chance (before RL), step (missing where search did not take off), last_step. Arms are those
    of GRPO; the base of `grpo_rich_g32` is `rich`.
    """
    chances = summary[summary["measure"] == "search_probability"].set_index(["arm", "seed"])["value"]
    rows = []
    for arm in arms:
        base = arm.removeprefix("grpo_").partition("_g")[0]
        for seed, run in steps[steps["arm"] == arm].groupby("seed"):
            if (f"base_{base}", seed) not in chances.index:
                continue
            share = run.set_index("step")["frac_searches"].sort_index().rolling(SMOOTH).mean()
            above = share.index[share >= TAKEN_OFF]
            first = float(above.min()) if len(above) else np.nan
            rows.append((arm, seed, float(chances[f"base_{base}", seed]), first, int(share.index.max())))
    return pd.DataFrame(rows, columns=["arm", "seed", "chance", "step", "last_step"])


def of_collapse(found: pd.DataFrame, completions_per_step: int) -> Estimate:
    """Estimate the largest over the smallest product of take-off step, chance and completions a step, within a seed.

    `found` is of `take_off`. A run that did not take off counts with its last step, so that its product, and the
    ratio, is at least what is shown. Seeds with fewer than two arms are left out.
    """

    def ratio(run: pd.DataFrame) -> float:
        products = run["step"].fillna(run["last_step"]) * run["chance"] * completions_per_step
        return float(products.max() / products.min()) if len(products) > 1 else float("nan")

    return _by_seed(found, ratio)


def _by_seed(table: pd.DataFrame, measure: Callable[[pd.DataFrame], float]) -> Estimate:
    rows = []
    for _, run in table.groupby("seed"):
        try:
            rows.append((measure(run), np.nan, np.nan))
        except _TooFewRungs:
            continue
    return over_seeds(pd.DataFrame(rows, columns=["value", "lower", "upper"])) if rows else MISSING


class _TooFewRungs(ValueError):
    """A seed has too few rungs for a fit."""


def _points(run: pd.DataFrame, least: int) -> tuple[Values, Values]:
    if len(run) < least:
        raise _TooFewRungs
    return np.log10(run["chance"].to_numpy(float)), run["accuracy"].to_numpy(float)


def _fit(run: pd.DataFrame) -> Logistic:
    return fit_logistic(*_points(run, LEAST_RUNGS))


def _left_out_gain(run: pd.DataFrame) -> float:
    x, y = _points(run, LEAST_RUNGS + 1)
    errors: dict[str, float] = {"line": 0.0, "logistic": 0.0}
    for left_out in range(len(x)):
        kept = np.arange(len(x)) != left_out
        line = np.polyval(np.polyfit(x[kept], y[kept], 1), x[left_out])
        logistic = fit_logistic(x[kept], y[kept])(x[left_out])
        errors["line"] += float(line - y[left_out]) ** 2
        errors["logistic"] += float(logistic - y[left_out]) ** 2
    return 1 - errors["logistic"] / errors["line"]


def _sigmoid(x: npt.ArrayLike) -> Values:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -50, 50))), dtype=float)
