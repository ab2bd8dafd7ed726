"""How much is enough: accuracy after RL against the chance to search before it, and when search takes off.

The horizontal axis is always measured: the chance of beginning a search behind an own first attempt, read off the
softmax. Two curves are fitted by least squares on its logarithm, a line and a logistic, and compared by leaving
one rung of the ladder out at a time. Fits are made seed by seed, so that intervals are over seeds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from extrabitter.artifacts import find_runs
from extrabitter.config import completions_per_step
from extrabitter.estimates import Estimate, over_seed_values

RUNGS = ("ladder_003", "ladder_01", "ladder_03", "ladder_1", "ladder_3", "rich")
READ_AT = (20, 40, 80)  # GRPO steps
WINDOW = 10  # steps before and with the one that is read
LEAST_RISE = 0.1  # of accuracy over the rungs; below, a curve has no middle and no width
TAKEN_OFF = 0.5  # share of completions that search
SMOOTH = 5  # steps, for the take-off
NUM_MIDPOINTS = 241
SCALES = np.geomspace(0.05, 2.0, 48)  # decades

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

    def identified(self, x: npt.ArrayLike) -> bool:
        """Whether points at x determine midpoint and scale: a rise to speak of, its middle among them, no bound hit."""
        xs = np.asarray(x, float)
        rises = float(self(xs.max()) - self(xs.min())) >= LEAST_RISE
        inside = xs.min() < self.midpoint < xs.max()
        return rises and inside and SCALES[0] < self.scale < SCALES[-1]

    @property
    def width(self) -> float:
        """Decades between 10 % and 90 % of the rise.

        >>> round(Logistic(0.0, 1.0, -2.0, 0.25).width, 3)
        1.099
        """
        return 2 * float(np.log(9)) * self.scale


def fit_logistic(x: npt.ArrayLike, y: npt.ArrayLike) -> Logistic:
    """Fit a rising logistic to points by least squares, on a grid of midpoints and scales and a finer one at its best.

    For each of them the best ends in [0, 1] follow in closed form. Midpoints reach half a decade beyond the data;
    scales are those of `SCALES`: sharper or flatter cannot be told from a step or a line by rungs half a decade apart.
    """
    xs, ys = np.asarray(x, float), np.asarray(y, float)
    midpoints, scales = np.linspace(xs.min() - 0.5, xs.max() + 0.5, NUM_MIDPOINTS), SCALES
    fit = _best_of_grid(xs, ys, midpoints, scales)
    step, ratio = midpoints[1] - midpoints[0], scales[1] / scales[0]
    finer = np.clip(np.geomspace(fit.scale / ratio, fit.scale * ratio, 41), SCALES[0], SCALES[-1])
    return _best_of_grid(xs, ys, np.linspace(fit.midpoint - step, fit.midpoint + step, 41), finer)


def _best_of_grid(xs: Values, ys: Values, midpoints: Values, scales: Values) -> Logistic:
    shape = _sigmoid((xs - midpoints[:, None, None]) / scales[:, None])  # (M, S, N): what is between the ends
    # Ends by least squares; where the lower one would leave [0, 1], the rise is the best that goes with the edge.
    mean_shape, mean_y = shape.mean(axis=-1), ys.mean()
    centred = shape - mean_shape[..., None]
    rise = (centred * (ys - mean_y)).sum(axis=-1) / np.maximum((centred**2).sum(axis=-1), 1e-12)
    rise = np.clip(rise, 0.0, 1.0)
    low = np.clip(mean_y - rise * mean_shape, 0.0, 1.0 - rise)
    rest = ((ys - low[..., None]) * shape).sum(axis=-1) / np.maximum((shape**2).sum(axis=-1), 1e-12)
    rise = np.clip(rest, 0.0, 1.0 - low)
    errors = ((low[..., None] + rise[..., None] * shape - ys) ** 2).sum(axis=-1)
    row, column = np.unravel_index(int(errors.argmin()), errors.shape)
    bottom = float(low[row, column])
    return Logistic(bottom, bottom + float(rise[row, column]), float(midpoints[row]), float(scales[column]))


def batch_sizes(results_dir: str | Path) -> dict[str, int]:
    """Read completions a step of each GRPO arm off the manifests of a results folder."""
    return {
        run.arm: completions_per_step(run.manifest["parameters"]) for run in find_runs(results_dir, "grpo")
    }


def readings(steps: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """Read accuracy off training at the steps of `READ_AT`, beside the measured chance before RL.

    Columns: seed, rung, chance, step, accuracy (mean over the `WINDOW` steps that end there). From collected tables
    `steps` of GRPO and `summary` of evaluations; a rung needs both. A run that ended before a step has no reading.
    """
    chances = _chances(summary)
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


def has_every_rung(read: pd.DataFrame) -> bool:
    """Tell whether rows of `readings` hold each rung of the ladder."""
    return set(read["rung"]) == set(RUNGS)


def of_left_out_gain(read: pd.DataFrame, step: int = READ_AT[-1]) -> Estimate:
    """Estimate by how much the logistic's left-out squared error is below the line's, as a share of the line's."""
    return _by_seed(read, lambda run: _left_out_gain(run[run["step"] == step]))


def of_width(read: pd.DataFrame, step: int = READ_AT[-1]) -> Estimate:
    """Estimate the decades between 10 % and 90 % of the logistic's rise; a seed that does not tell has none."""
    return _of_fit(read, step, lambda fit: fit.width)


def of_midpoint(read: pd.DataFrame, step: int = READ_AT[-1]) -> Estimate:
    """Estimate where the logistic has risen by half, as the decimal logarithm of the chance; as of_width."""
    return _of_fit(read, step, lambda fit: fit.midpoint)


def of_shift(read: pd.DataFrame) -> Estimate:
    """Estimate the decades by which the midpoint falls for each doubling of steps, from steps that have one."""

    def shift(run: pd.DataFrame) -> float:
        fits = {step: _identified(group) for step, group in run.groupby("step")}
        found = {float(str(step)): fit.midpoint for step, fit in fits.items() if fit}
        if len(found) < 2:
            return float("nan")
        return -float(np.polyfit(np.log2(list(found)), list(found.values()), 1)[0])

    return _by_seed(read, shift)


def brackets(read: pd.DataFrame) -> pd.DataFrame:
    """Find between which two chances accuracy passes the middle of its own rise, for each seed that has every rung.

    No curve is fitted. Columns: seed, step, below, above. From `above` upwards every rung is past the middle between
    the lowest and the highest accuracy of that seed and step; `below` is the next lower chance, missing where there is
    none. Where accuracy spans less than `LEAST_RISE`, or the highest chance is not past the middle, both are missing.
    """
    rows = []
    for (seed, step), run in read.groupby(["seed", "step"]):
        if not has_every_rung(run):
            continue
        ordered = run.sort_values("chance")
        chance, accuracy = ordered["chance"].to_numpy(float), ordered["accuracy"].to_numpy(float)
        first = len(chance) - int(np.cumprod(accuracy[::-1] > (accuracy.min() + accuracy.max()) / 2).sum())
        rises = accuracy.max() - accuracy.min() >= LEAST_RISE and first < len(chance)
        below = chance[first - 1] if rises and first else np.nan
        rows.append((seed, step, below, chance[first] if rises else np.nan))
    return pd.DataFrame(rows, columns=["seed", "step", "below", "above"])


def take_off(
    steps: pd.DataFrame, summary: pd.DataFrame, batch_sizes: Mapping[str, int], arms: Sequence[str]
) -> pd.DataFrame:
    """Find when search takes off: the first step at which the mean over `SMOOTH` steps passes `TAKEN_OFF`.

    `batch_sizes`: completions a step of each arm. Columns: arm, seed, chance (before RL), step (missing where search
    did not take off), last_step, product (chance x completions drawn until then, or until the end). Arms are those of
    GRPO; the start of grpo_rich_g32 is evaluated as base_rich_g32 or, where that is missing, as base_rich.
    """
    chances = _chances(summary)
    rows = []
    for arm in arms:
        for seed, run in steps[steps["arm"] == arm].groupby("seed"):
            starts = [start for start in starts_of(arm) if (start, seed) in chances.index]
            if not starts:
                continue
            chance = float(chances[starts[0], seed])
            share = run.set_index("step")["frac_searches"].sort_index().rolling(SMOOTH).mean()
            above = share.index[share >= TAKEN_OFF]
            first, last = (float(above.min()) if len(above) else np.nan), int(share.index.max())
            drawn = (last if np.isnan(first) else first) * batch_sizes[arm]
            rows.append((arm, seed, chance, first, last, chance * drawn))
    return pd.DataFrame(rows, columns=["arm", "seed", "chance", "step", "last_step", "product"])


def starts_of(arm: str) -> tuple[str, str]:
    """Name the evaluations of what a GRPO arm starts from: its own, and that of the base of its name.

    >>> starts_of("grpo_rich_g32"), starts_of("grpo_ladder_1")
    (('base_rich_g32', 'base_rich'), ('base_ladder_1', 'base_ladder_1'))
    """
    own = f"base_{arm.removeprefix('grpo_')}"
    return own, re.sub(r"_[gb]\d+$", "", own)


def between_draws(summary: pd.DataFrame, arms: Sequence[str]) -> list[float]:
    """Return how many times the chance of the base of its name is the chance of an arm's own start, seed by seed."""
    chances = _chances(summary).unstack("seed")  # (arms, seeds)
    pairs = [(own, base) for own, base in map(starts_of, arms) if own != base]
    ratios = [chances.loc[own] / chances.loc[base] for own, base in pairs if {own, base} <= {*chances.index}]
    return [float(ratio) for by_seed in ratios for ratio in by_seed.dropna().to_numpy(float)]


def of_collapse(found: pd.DataFrame, arms: Sequence[str]) -> Estimate:
    """Estimate the largest over the smallest `product` of `take_off` within a seed that has all the arms.

    A run that did not take off has at least the product that is shown: it can raise the largest and cannot be the
    smallest. The ratio is then a lower bound, and with any such run the interval has no upper end.
    """
    ratios, bounded = [], True
    for _, run in found.groupby("seed"):
        off = run[run["step"].notna()]
        if set(run["arm"]) != set(arms) or off.empty:
            continue
        bounded &= len(off) == len(run)
        ratios.append(max(1.0, float(run["product"].max() / off["product"].min())))
    estimate = over_seed_values(ratios)
    return estimate if bounded or not estimate.measured else replace(estimate, upper=np.inf)


def _by_seed(table: pd.DataFrame, measure: Callable[[pd.DataFrame], float]) -> Estimate:
    """Estimate over the seeds that have every rung."""
    return over_seed_values(measure(run) for _, run in table.groupby("seed") if has_every_rung(run))


def _of_fit(read: pd.DataFrame, step: int, measure: Callable[[Logistic], float]) -> Estimate:
    """Estimate a property of one step's logistic; a seed whose readings do not determine it has none."""

    def of_run(run: pd.DataFrame) -> float:
        fit = _identified(run[run["step"] == step])
        return measure(fit) if fit else float("nan")

    return _by_seed(read, of_run)


def _chances(summary: pd.DataFrame) -> pd.Series:
    """Chance to begin a search, by evaluated arm and seed."""
    return summary[summary["measure"] == "search_probability"].set_index(["arm", "seed"])["value"]


def _points(run: pd.DataFrame) -> tuple[Values, Values]:
    return np.log10(run["chance"].to_numpy(float)), run["accuracy"].to_numpy(float)


def _identified(run: pd.DataFrame) -> Logistic | None:
    """Fit a logistic to one step's readings; None where there are none, or they do not determine it."""
    x, y = _points(run)
    if len(x) < len(RUNGS):
        return None
    fit = fit_logistic(x, y)
    return fit if fit.identified(x) else None


def _left_out_gain(run: pd.DataFrame) -> float:
    x, y = _points(run)
    if len(x) < len(RUNGS):
        return float("nan")
    errors = {"line": 0.0, "logistic": 0.0}
    for left_out in range(len(x)):
        kept = np.arange(len(x)) != left_out
        line = np.polyval(np.polyfit(x[kept], y[kept], 1), x[left_out])
        logistic = fit_logistic(x[kept], y[kept])(x[left_out])
        errors["line"] += float(line - y[left_out]) ** 2
        errors["logistic"] += float(logistic - y[left_out]) ** 2
    return 1 - errors["logistic"] / errors["line"]


def _sigmoid(x: npt.ArrayLike) -> Values:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -50, 50))), dtype=float)
