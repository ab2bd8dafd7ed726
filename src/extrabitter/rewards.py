"""Rewards in TRL's contract: completions and columns in, one float a completion out; a function a component.

The verifier is the evaluation's own. Components are never mixed here: GRPO weighs them and logs each apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from extrabitter.tasks.countdown_parser import parse_trace
from extrabitter.tasks.countdown_problems import Problem
from extrabitter.tasks.countdown_verifier import verify_completion


def correct_reward(
    completions: Sequence[str], numbers: Sequence[Sequence[int]], target: Sequence[int], **columns: Any
) -> list[float]:
    """Return 1.0 for each completion that submits a solution, else 0.0.

    `completions` are plain strings, `numbers` and `target` the problems' columns, all of length B * G. Other
    columns that TRL passes (prompts, token ids, trainer state) are not looked at.

    >>> correct_reward(["9 - 7 = 2 , 6 + 2 = 8 answer", "9 + 7 = 16 answer"], [[6, 7, 9]] * 2, [8, 8])
    [1.0, 0.0]
    """
    return [
        float(verify_completion(completion, problem).correct)
        for completion, problem in zip(completions, _problems(numbers, target), strict=True)
    ]


def format_reward(
    completions: Sequence[str], numbers: Sequence[Sequence[int]], target: Sequence[int], **columns: Any
) -> list[float]:
    """Return 1.0 for each completion that parses to its end, right or wrong, else 0.0.

    >>> format_reward(["9 + 7 = 16 answer", "9 + 7 = 16"], [[6, 7, 9]] * 2, [8, 8])
    [1.0, 0.0]
    """
    return [
        float(parse_trace(completion, problem).well_formed)
        for completion, problem in zip(completions, _problems(numbers, target), strict=True)
    ]


def _problems(numbers: Sequence[Sequence[int]], target: Sequence[int]) -> list[Problem]:
    return [Problem(tuple(sorted(given)), value) for given, value in zip(numbers, target, strict=True)]
