"""What a completion does, measured: counts of one trace, and measures over a table of them.

One path for every task, and for grammar and English: all is computed from a `Trace`, whose reader says what an attempt
and a behaviour are. A behaviour *occurs* where its words stand; it is *functional* where it does its work; what occurs
and is not functional is cosmetic. Dropping an attempt implies a verdict on it; a trace that goes back without a check
says so in no word, and is counted under backtracking only. Attempts count once they are finished.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from extrabitter.tasks import BEHAVIOURS, Trace

SEARCH_COUNTS = ("backtracking_count", "verification_count")  # a completion with either of them searches


def measure_trace(trace: Trace) -> dict[str, bool | int | str]:
    """Return the columns of table `completions` that derive from a trace."""
    attempts = [attempt for attempt in trace.attempts if attempt.finished]
    judged = [attempt for attempt in trace.attempts if attempt.said]
    verdicts = {
        "": judged,
        "yes_": [attempt for attempt in judged if attempt.said == "yes"],
        "hit_": [attempt for attempt in judged if attempt.outcome == "hit"],
        "miss_": [attempt for attempt in judged if attempt.outcome != "hit"],
    }
    columns: dict[str, bool | int | str] = {
        **trace.verdict._asdict(),
        "well_formed": trace.well_formed,
        "answered": trace.answered,
        "num_filler": trace.num_filler,
        "num_attempts": len(attempts),
        "num_hits": sum([attempt.outcome == "hit" for attempt in attempts]),
        "first_attempt_hit": any(each.finished and each.outcome == "hit" for each in trace.attempts[:1]),
        "num_repeated_attempts": sum([attempt.repeated for attempt in attempts]),
        "num_steps": sum([attempt.num_steps for attempt in trace.attempts]),
        "num_right_steps": sum([attempt.num_right_steps for attempt in trace.attempts]),
    }
    for kind, found in verdicts.items():
        columns[f"num_{kind}verdicts"] = len(found)
        columns[f"num_true_{kind}verdicts"] = sum([attempt.verdict_true for attempt in found])
    for behaviour in BEHAVIOURS:
        uses = [use.functional for use in trace.uses if use.behaviour == behaviour]
        columns[f"{behaviour}_count"], columns[f"{behaviour}_functional_count"] = len(uses), sum(uses)
    return columns


Column = Callable[[pd.DataFrame], pd.Series]


class Measure(NamedTuple):
    """A ratio of two sums over completions; both parts are Series over the rows of table `completions`."""

    numerator: Column
    denominator: Column


def column(name: str) -> Column:
    """Return the reader of one column."""
    return lambda completions: completions[name].astype(float)


def positive(*names: str) -> Column:
    """Return what tells the rows in which any of these columns is above zero."""
    return lambda completions: (completions[list(names)] > 0).any(axis=1).astype(float)


def works(*behaviours: str) -> Column:
    """Return what tells the rows in which any of these behaviours does its work."""
    return positive(*(f"{behaviour}_functional_count" for behaviour in behaviours))


def constant(completions: pd.DataFrame) -> pd.Series:
    """Return one for each row."""
    return pd.Series(1.0, index=completions.index)


_searches = positive(*SEARCH_COUNTS)

MEASURES: dict[str, Measure] = {
    "pass@1": Measure(column("correct"), constant),
    "first_attempt_hit_rate": Measure(column("first_attempt_hit"), constant),
    "mean_attempts": Measure(column("num_attempts"), constant),
    "hit_rate": Measure(column("num_hits"), column("num_attempts")),
    "repeated_attempt_rate": Measure(column("num_repeated_attempts"), column("num_attempts")),
    "verdict_accuracy": Measure(column("num_true_verdicts"), column("num_verdicts")),
    "yes_verdict_accuracy": Measure(column("num_true_yes_verdicts"), column("num_yes_verdicts")),
    "hit_verdict_accuracy": Measure(column("num_true_hit_verdicts"), column("num_hit_verdicts")),
    "miss_verdict_accuracy": Measure(column("num_true_miss_verdicts"), column("num_miss_verdicts")),
    "frac_right_steps": Measure(column("num_right_steps"), column("num_steps")),
    "frac_searches": Measure(_searches, constant),
    "frac_working_search": Measure(works("backtracking", "verification"), constant),
    # Which completions search is the model's own choice, so their difference is no effect of searching.
    "success_given_search": Measure(lambda df: df["correct"] * _searches(df), _searches),
    "success_given_direct": Measure(
        lambda df: df["correct"] * (1 - _searches(df)), lambda df: 1 - _searches(df)
    ),
    "frac_well_formed": Measure(column("well_formed"), constant),
    "frac_answered": Measure(column("answered"), constant),
    "frac_truncated": Measure(column("truncated"), constant),
    "mean_completion_tokens": Measure(column("num_completion_tokens"), constant),
}
for _behaviour in BEHAVIOURS:
    _count, _functional = f"{_behaviour}_count", f"{_behaviour}_functional_count"
    MEASURES[f"mean_{_count}"] = Measure(column(_count), constant)
    MEASURES[f"frac_with_{_behaviour}"] = Measure(positive(_count), constant)
    # Of the times it occurs, not of the completions.
    MEASURES[f"frac_functional_{_behaviour}"] = Measure(column(_functional), column(_count))


def summarise(completions: pd.DataFrame, measures: Mapping[str, Measure] = MEASURES) -> dict[str, float]:
    """Return each measure over all rows of a table of completions; NaN where nothing is to be divided by."""
    sums = {name: [float(part(completions).sum()) for part in measure] for name, measure in measures.items()}
    return {name: total / count if count else np.nan for name, (total, count) in sums.items()}
