"""Rewards in TRL's contract: completions and columns in, one float a completion out; a function a component.

What is rewarded is what the evaluation measures: both read a completion by the wording's own parser. Task and wording
are bound by `functools.partial`. Components are never mixed here: GRPO weighs them and logs each apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from extrabitter.tasks import Prompt, Task, Trace, Wording
from extrabitter.tasks.wording import read_completion, spoken


def correct_reward(
    completions: Sequence[Prompt],
    problem: Sequence[str],
    task: Task,
    wording: Wording,
    traces: Sequence[Trace] | None = None,
    **columns: Any,
) -> list[float]:
    """Return 1.0 for each completion that hands in a solution, else 0.0.

    `completions` are strings, or turns of a conversation; `problem` holds the identifiers of their problems; both
    have length B * G. `traces` are the completions as read, where someone has read them already. Other columns that
    TRL passes (prompts, token ids, trainer state) are not looked at.
    """
    traces = traces if traces is not None else _read(completions, problem, task, wording)
    return [float(trace.verdict.correct) for trace in traces]


def format_reward(
    completions: Sequence[Prompt],
    problem: Sequence[str],
    task: Task,
    wording: Wording,
    traces: Sequence[Trace] | None = None,
    **columns: Any,
) -> list[float]:
    """Return 1.0 for each completion that keeps the form that is asked for and hands something in, else 0.0."""
    traces = traces if traces is not None else _read(completions, problem, task, wording)
    return [float(trace.well_formed and trace.answered) for trace in traces]


def _read(completions: Sequence[Prompt], problem: Sequence[str], task: Task, wording: Wording) -> list[Trace]:
    return [
        read_completion(wording, task.read_problem(name), spoken(completion))[1]
        for completion, name in zip(completions, problem, strict=True)
    ]
