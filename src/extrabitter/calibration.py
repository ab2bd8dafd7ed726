"""Can the outcome of RL be told before paying for it? A regression on what a probe finds, each base predicted unseen.

The features are four that the book's argument names: how good a guess is, how good a search is (both with the choice
taken out of the model's hands), how likely the model is to begin one, and how often it is right as it is. The fit is
ridge regression on standardised features. One base at a time, with all its seeds, is left out and predicted by the
others. Rivals are the same regression on one feature alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import spearmanr

from extrabitter.estimates import Estimate, over_seed_values

FEATURES = ("success_without", "success_with", "log_chance", "pass@1")
RIVALS = {"pass@1 before": ("pass@1",), "pass@8 before": ("pass@8",), "chance to search": ("log_chance",)}
PROBE = "probe"
LEAST_CHANCE = 1e-6  # below, a chance is nought for any affordable RL
RIDGE = 1.0  # weight of the squared coefficients, features standardised
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
        row = search.iloc[0]
        first, eighth = (float(solved[key]) for key in keys)
        guess = float(row["success_without"])
        guess = first if np.isnan(guess) else guess
        searching = float(row["success_with"])
        rows.append(
            {
                "model": model,
                "seed": seed,
                "success_without": guess,
                "success_with": guess if np.isnan(searching) else searching,
                "log_chance": float(np.log10(max(float(row["p0_forced"]), LEAST_CHANCE))),
                "pass@1": first,
                "pass@8": eighth,
                "outcome": float(reached[f"grpo_{model}", seed]),
            }
        )
    return pd.DataFrame(rows, columns=["model", "seed", *FEATURES, "pass@8", "outcome"])


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
