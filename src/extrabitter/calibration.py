"""Can the outcome of RL be told before paying for it? A regression on what a probe finds, each base predicted unseen.

The features are four that the book's argument names: how good a guess is, how good a search is (both with the choice
taken out of the model's hands), how likely the model is to begin one, and how often it is right as it is. The fit is
ridge regression on standardised features. One base at a time, with all its seeds, is left out and predicted by the
others. Rivals are the same regression on one feature alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import spearmanr

from extrabitter.artifacts import collect_table
from extrabitter.estimates import Estimate, over_seed_values

FEATURES = ("success_without", "success_with", "log_chance", "pass@1")
RIVALS = {"pass@1 before": ("pass@1",), "pass@8 before": ("pass@8",), "chance to search": ("log_chance",)}
PROBE = "probe"
LEAST_CHANCE = 1e-6  # below, a chance is nought for any affordable RL
RIDGE = 1.0  # weight of the squared coefficients, features standardised
MARGIN = 0.1  # of the span of a feature, by which a forecast may lie outside it
LEAST_BASES = 4  # with fewer, leaving one out leaves nothing to learn from

Array = NDArray[np.float64]


def outcomes(probed: pd.DataFrame, pass_at_k: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """Set what a probe found beside what RL reached; one row a model and seed.

    `probed` are collected tables `probe_behaviours`, `pass_at_k` those of probes, `summary` those of evaluations.
    Columns: model, seed, the features, pass@8, outcome (pass@1 after RL on test problems). Where the model never
    says a search word, searching could not be forced: it is then worth what guessing is worth.
    """
    reached = summary[summary["measure"] == "pass@1"].set_index(["arm", "seed"])["value"]
    solved = pass_at_k.set_index(["arm", "seed", "k"])["value"]
    rows = []
    for (name, number), found in probed.groupby(["arm", "seed"], sort=False):
        arm, seed = str(name), int(str(number))
        model = arm.removeprefix("probe_")
        search = found[found["behaviour"] == "search"]
        keys = [(arm, seed, 1), (arm, seed, 8)]
        if (f"grpo_{model}", seed) not in reached.index or search.empty:
            continue
        if not all(key in solved.index for key in keys):
            continue
        first, eighth = (float(solved[key]) for key in keys)
        found_here = {"model": model, "seed": seed, **features_of(search.iloc[0], first), "pass@8": eighth}
        rows.append(found_here | {"outcome": float(reached[f"grpo_{model}", seed])})
    return pd.DataFrame(rows, columns=["model", "seed", *FEATURES, "pass@8", "outcome"])


def finished_runs(results_dir: str | Path) -> pd.DataFrame:
    """Read `outcomes` off a results folder; empty where it has no probes, or is not there."""
    probed = collect_table(results_dir, "will_it_choke", "probe_behaviours")
    pass_at_k = collect_table(results_dir, "will_it_choke", "pass_at_k")
    return outcomes(probed, pass_at_k, collect_table(results_dir, "behaviour_evaluation", "summary"))


def features_of(search: Mapping[Any, Any] | pd.Series, pass_at_1: float) -> dict[str, float]:
    """Return `FEATURES` from the row "search" of table `probe_behaviours` and success as it is."""
    guess, searching = float(search["success_without"]), float(search["success_with"])
    guess = pass_at_1 if np.isnan(guess) else guess
    return {
        "success_without": guess,
        "success_with": guess if np.isnan(searching) else searching,
        "log_chance": float(np.log10(max(float(search["p0_forced"]), LEAST_CHANCE))),
        "pass@1": pass_at_1,
    }


def ridge(features: Array, outcome: Array, unseen: Array) -> Array:
    """Fit outcome (N,) on features (N, F) and return predictions (M,) for unseen rows (M, F), cut to [0, 1].

    Features are standardised by the rows of the fit; one that does not vary there is left out.
    """
    mean, spread = features.mean(axis=0), features.std(axis=0)
    varies = spread > 1e-12
    x = (features[:, varies] - mean[varies]) / spread[varies]
    weights = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ (outcome - outcome.mean()))
    predicted = outcome.mean() + (unseen[:, varies] - mean[varies]) / spread[varies] @ weights
    return np.asarray(np.clip(predicted, 0, 1), dtype=float)


def left_out(table: pd.DataFrame, features: Sequence[str] = FEATURES) -> pd.Series:
    """Predict each row of `outcomes` from the other models' rows; NaN throughout with too few models."""
    predicted = pd.Series(np.nan, index=table.index, dtype=float)
    if table["model"].nunique() < LEAST_BASES:
        return predicted
    x, y = table[list(features)].to_numpy(float), table["outcome"].to_numpy(float)
    for model in table["model"].unique():
        out = (table["model"] == model).to_numpy()
        predicted[out] = ridge(x[~out], y[~out], x[out])
    return predicted


@dataclass(frozen=True)
class Forecast:
    """What GRPO would reach, or why nothing is predicted (`reason`; the numbers are then NaN).

    `lower` and `upper` are as far from `value` as the forecast of any model was that was left out of the fit; `rank`
    is the correlation, over seeds, of such forecasts with what RL reached: at nought they do not tell models apart.
    """

    value: float = np.nan
    lower: float = np.nan
    upper: float = np.nan
    num_models: int = 0
    rank: float = np.nan
    rank_lower: float = np.nan
    rank_upper: float = np.nan
    reason: str = ""


def forecast(table: pd.DataFrame, found: Mapping[str, float]) -> Forecast:
    """Predict the outcome of GRPO from a probe's `FEATURES`, by the models of a table of `outcomes`.

    Nothing is predicted with fewer models than `LEAST_BASES`, nor outside what they span: a line goes on for ever,
    and what it was fitted to does not.
    """
    num_models = int(table["model"].nunique())
    if num_models < LEAST_BASES:
        return Forecast(
            num_models=num_models,
            reason=f"{num_models} probed models with a finished run, and it takes {LEAST_BASES}",
        )
    for name in FEATURES:
        lower, upper = float(table[name].min()), float(table[name].max())
        margin = MARGIN * (upper - lower)
        if not lower - margin <= found[name] <= upper + margin:
            reason = f"{name} is {found[name]:.3g}, and the models that calibrate it span {lower:.3g} to {upper:.3g}"
            return Forecast(num_models=num_models, reason=reason)
    x, y = table[list(FEATURES)].to_numpy(float), table["outcome"].to_numpy(float)
    (value,) = ridge(x, y, np.array([[found[name] for name in FEATURES]]))
    error = float((left_out(table) - table["outcome"]).abs().max())
    rank = of_rank_correlation(table)
    return Forecast(
        float(value),
        max(0.0, float(value) - error),
        min(1.0, float(value) + error),
        num_models,
        rank.value,
        rank.lower,
        rank.upper,
    )


def as_json(found: Forecast) -> dict[str, Any]:
    """Return a forecast as plain values; missing is None."""
    return {
        name: None if isinstance(value, float) and np.isnan(value) else value
        for name, value in vars(found).items()
    }


def of_rank_correlation(table: pd.DataFrame, features: Sequence[str] = FEATURES) -> Estimate:
    """Estimate Spearman's correlation of left-out predictions and outcomes, over seeds; within a seed over models."""
    forecast = table.assign(predicted=left_out(table, features)).dropna(subset="predicted")
    return over_seed_values(
        float(spearmanr(run["predicted"], run["outcome"]).statistic)
        for _, run in forecast.groupby("seed")
        if len(run) >= LEAST_BASES
    )


def scores(table: pd.DataFrame) -> pd.DataFrame:
    """Score the probe and each rival: columns predictor, error (mean absolute, left out), correlation."""
    rows = []
    for name, features in ((PROBE, FEATURES), *RIVALS.items()):
        error = (left_out(table, features) - table["outcome"]).abs().mean()
        rows.append((name, float(error), of_rank_correlation(table, features)))
    return pd.DataFrame(rows, columns=["predictor", "error", "correlation"])
