"""Rewards in TRL's contract: completions and columns in, one float a completion out; a function a component.

What is rewarded is what the evaluation measures: both read a completion by the wording's own parser. Task and wording
are bound by `functools.partial`. Components are never mixed here: GRPO weighs them and logs each apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from extrabitter.tasks import Prompt, Task, Trace, Wording


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
    if traces is None:
        traces = read_completions(completions, problem, task, wording)
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
    if traces is None:
        traces = read_completions(completions, problem, task, wording)
    return [float(trace.well_formed and trace.answered) for trace in traces]


def read_completions(
    completions: Sequence[Prompt],
    problem: Sequence[str],
    task: Task,
    wording: Wording,
    truncated: Sequence[bool] | None = None,
) -> list[Trace]:
    """Return each completion as the wording reads it, by its own problem; cut at the cap where `truncated`."""
    cut = [False] * len(completions) if truncated is None else truncated
    return [
        wording.parse(spoken(completion), task.read_problem(name), is_cut)
        for completion, name, is_cut in zip(completions, problem, cut, strict=True)
    ]


def spoken(completion: Prompt) -> str:
    """Return a completion's text, which TRL hands over as turns where the prompt was a conversation.

    >>> spoken([{"role": "assistant", "content": "3"}]), spoken("3")
    ('3', '3')
    """
    if isinstance(completion, str):
        return completion
    return "".join(str(turn.get("content") or "") for turn in completion)
