"""The census's scores as a table to stand beside what it found in a real model."""

from __future__ import annotations

import pandas as pd

from extrabitter.estimates import Estimate
from extrabitter.reporting import percent_interval


def scores_on_test(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the published scores on test traces, where the census had not been tuned."""
    return scores[(scores["set"] == "test") & (scores["detector"] == "census")]


def agreement_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Set precision, recall and F1 side by side, one row a behaviour, as strings with 95 % intervals."""
    columns = ["measure", "value", "lower", "upper"]
    rows = []
    for behaviour, found in scores.groupby("behaviour", sort=False):
        row = {"behaviour": str(behaviour).replace("_", " ")}
        for measure, value, lower, upper in found[columns].itertuples(index=False, name=None):
            row[measure] = percent_interval(Estimate(value, lower, upper, 1))
        rows.append(row)
    return pd.DataFrame(rows)
