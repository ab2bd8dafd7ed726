"""Rewards in TRL's contract: completions and columns in, one float a completion out; a function a component.

What is rewarded is what the evaluation measures: both read a completion by the wording's own parser. Task and wording
are bound by `functools.partial`. Components are never mixed here: GRPO weighs them and logs each apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from extrabitter.tasks import Prompt, Task, Trace, Wording
from extrabitter.tasks.wording import read_completion, spoken


def correct_reward(completions: Sequence[Prompt], **columns: Any) -> list[float]:
    """Return 1.0 for each completion that hands in a solution, else 0.0.

    `completions` are strings, or turns of a conversation; column `problem` holds the identifiers of their problems,
    both of length B * G. Of other columns that TRL passes (prompts, token ids, trainer state) only `traces` is looked
    at: the completions as read, where someone has read them already.
    """
    return [float(trace.verdict.correct) for trace in read(completions, **columns)]


def format_reward(completions: Sequence[Prompt], **columns: Any) -> list[float]:
    """Return 1.0 for each completion that keeps the form that is asked for and hands something in, else 0.0."""
    return [float(trace.well_formed and trace.answered) for trace in read(completions, **columns)]


def read(
    completions: Sequence[Prompt],
    problem: Sequence[str],
    task: Task,
    wording: Wording,
    traces: Sequence[Trace] | None = None,
    **columns: Any,
) -> Sequence[Trace]:
    """Return what completions do, each judged by its own problem, or `traces` if there are any."""
    if traces is not None:
        return traces
    pairs = zip(completions, problem, strict=True)
    return [read_completion(wording, task.read_problem(name), spoken(text))[1] for text, name in pairs]
