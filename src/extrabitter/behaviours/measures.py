"""What a completion does: its attempts, verdicts and the four behaviours, functional and cosmetic told apart.

A behaviour *occurs* where its words stand; it is *functional* where it does its work:
- **verification** (a verdict, "check 8 no"): it is true. A verdict is true if it names the problem's target
  and says "yes" after an attempt that hits, "no" after one that misses; an attempt that breaks the rules
  misses.
- **backtracking** ("back ..."): what follows is legal and new. Legal: it restates the target and either the
  given numbers or numbers that legal steps of an earlier attempt had left, and its own steps follow the rules
  to the end. New: no earlier attempt made the same computation (order of operands and of independent steps
  aside).
- **subgoal setting** ("aim 16"): a step of that attempt other than its last reaches it, by legal steps.
- **backward chaining** ("need 8 - 6 = 2"): the equation is true, one operand is the target, the other a
  number that the attempt starts from.

What occurs and is not functional is cosmetic. Dropping an attempt implies a verdict on it; a trace that
backtracks without verification says so in no word, and is counted under backtracking only.

An attempt counts as made when it is finished: a verdict, "back" or "answer" follows, or it has used up its
numbers. A text cut in the middle of an attempt did not make that attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from extrabitter.tables import BEHAVIOURS
from extrabitter.tasks.countdown.parser import parse_trace
from extrabitter.tasks.countdown.problems import TRUE_EQUATIONS, Problem
from extrabitter.tasks.countdown.traces import TraceAttempt
from extrabitter.tasks.countdown.verifier import Replay, judge_trace, replay_attempts

__all__ = [
    "BEHAVIOURS",
    "DIRECT_SKILL",
    "MEASURES",
    "Measure",
    "column",
    "constant",
    "measure_completion",
    "positive",
    "summarise",
]

SEARCH_COUNTS = ("backtracking_count", "verification_count")  # a completion with either of them searches
# What bases of one trunk may lie apart in `success_given_direct`; it compares two runs, so that none stops at it.
DIRECT_SKILL = 0.03


def measure_completion(text: str, problem: Problem, truncated: bool) -> dict[str, bool | int | str]:
    """Return the columns of table `completions` that derive from a completion's text; never raises.

    `truncated`: the text was cut at the length cap. It then has reason "truncated" where it would be
    "unfinished".
    """
    trace = parse_trace(text, problem)
    replays = replay_attempts(trace, problem)
    verdict = judge_trace(trace, replays)
    num_attempts = num_hits = num_repeated = num_steps = num_right_steps = 0
    num_backtracks = num_functional_backtracks = 0
    num_aims = num_functional_aims = num_needs = num_functional_needs = 0
    # [misses, hits] x [says no, says yes]; only a verdict that names the target can be true.
    verdicts = [[0, 0], [0, 0]]
    true_verdicts = [0, 0]
    first_attempt_hit = False
    seen = set()
    last_position = len(trace.attempts) - 1
    for position, (attempt, replay) in enumerate(zip(trace.attempts, replays, strict=True)):
        hits = replay.hits
        num_steps += len(attempt.steps)
        num_right_steps += sum([step in TRUE_EQUATIONS for step in attempt.steps])
        followed = position < last_position or trace.answered or attempt.check is not None
        finished = replay.legal or (followed and len(attempt.steps) > 0)
        new = replay.key not in seen
        if finished:
            seen.add(replay.key)
            num_attempts += 1
            num_hits += hits
            num_repeated += not new
            if position == 0:
                first_attempt_hit = hits
        if position:
            num_backtracks += 1
            num_functional_backtracks += replay.legal and new and attempt.target == problem.target
        if attempt.check is not None:
            number, says_yes = attempt.check
            verdicts[hits][says_yes] += 1
            true_verdicts[hits] += number == problem.target and says_yes == hits
        if attempt.aim is not None:
            num_aims += 1
            num_functional_aims += _is_used(attempt, replay)
        if attempt.need is not None:
            num_needs += 1
            num_functional_needs += _works_back(attempt, problem)
    num_miss_verdicts, num_hit_verdicts = map(sum, verdicts)
    num_verdicts = num_miss_verdicts + num_hit_verdicts
    return {
        "correct": verdict.correct,
        "reason": "truncated" if truncated and verdict.reason == "unfinished" else verdict.reason,
        "well_formed": trace.well_formed,
        "answered": trace.answered,
        "num_attempts": num_attempts,
        "num_hits": num_hits,
        "first_attempt_hit": first_attempt_hit,
        "num_repeated_attempts": num_repeated,
        "num_steps": num_steps,
        "num_right_steps": num_right_steps,
        "num_verdicts": num_verdicts,
        "num_true_verdicts": sum(true_verdicts),
        "num_yes_verdicts": verdicts[0][1] + verdicts[1][1],
        "num_true_yes_verdicts": true_verdicts[1],
        "num_hit_verdicts": num_hit_verdicts,
        "num_true_hit_verdicts": true_verdicts[1],
        "num_miss_verdicts": num_miss_verdicts,
        "num_true_miss_verdicts": true_verdicts[0],
        "verification_count": num_verdicts,
        "verification_functional_count": sum(true_verdicts),
        "backtracking_count": num_backtracks,
        "backtracking_functional_count": num_functional_backtracks,
        "subgoal_setting_count": num_aims,
        "subgoal_setting_functional_count": num_functional_aims,
        "backward_chaining_count": num_needs,
        "backward_chaining_functional_count": num_functional_needs,
    }


def _is_used(attempt: TraceAttempt, replay: Replay) -> bool:
    """Return whether the attempt reaches its subgoal on the way to a legal end."""
    return replay.legal and any(step.result == attempt.aim for step in attempt.steps[:-1])


def _works_back(attempt: TraceAttempt, problem: Problem) -> bool:
    """Return whether the backward step is right."""
    need = attempt.need
    if need not in TRUE_EQUATIONS:
        return False
    assert need is not None
    return (need.left == problem.target and need.right in attempt.numbers) or (
        need.right == problem.target and need.left in attempt.numbers
    )


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


def constant(completions: pd.DataFrame) -> pd.Series:
    """Return one for each row."""
    return pd.Series(1.0, index=completions.index)


def _searches(completions: pd.DataFrame) -> pd.Series:
    return positive(*SEARCH_COUNTS)(completions)


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
    summary = {}
    for name, measure in measures.items():
        count = float(measure.denominator(completions).sum())
        summary[name] = float(measure.numerator(completions).sum()) / count if count else np.nan
    return summary
