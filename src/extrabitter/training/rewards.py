"""Rewards in TRL's contract: completions and columns in, one float a completion out; a function a component.

The verifier is the evaluation's own, in the words that the model is spoken to. Components are never mixed here:
GRPO weighs them and logs each apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from extrabitter.tasks.countdown.problems import Problem
from extrabitter.tasks.wording import GRAMMAR, Prompt, Wording, spoken


def correct_reward(
    completions: Sequence[Prompt],
    numbers: Sequence[Sequence[int]],
    target: Sequence[int],
    wording: Wording = GRAMMAR,
    **columns: Any,
) -> list[float]:
    """Return 1.0 for each completion that submits a solution, else 0.0.

    `completions` are strings, or turns of a conversation; `numbers` and `target` the problems' columns, all of
    length B * G. Other columns that TRL passes (prompts, token ids, trainer state) are not looked at.

    >>> correct_reward(["9 - 7 = 2 , 6 + 2 = 8 answer", "9 + 7 = 16 answer"], [[6, 7, 9]] * 2, [8, 8])
    [1.0, 0.0]
    """
    return [
        float(wording.verify(spoken(completion), problem).correct)
        for completion, problem in zip(completions, _problems(numbers, target), strict=True)
    ]


def format_reward(
    completions: Sequence[Prompt],
    numbers: Sequence[Sequence[int]],
    target: Sequence[int],
    wording: Wording = GRAMMAR,
    **columns: Any,
) -> list[float]:
    """Return 1.0 for each completion that keeps the form that is asked for, right or wrong, else 0.0.

    >>> format_reward(["9 + 7 = 16 answer", "9 + 7 = 16"], [[6, 7, 9]] * 2, [8, 8])
    [1.0, 0.0]
    """
    return [
        float(wording.is_formatted(spoken(completion), problem))
        for completion, problem in zip(completions, _problems(numbers, target), strict=True)
    ]


def _problems(numbers: Sequence[Sequence[int]], target: Sequence[int]) -> list[Problem]:
    return [Problem(tuple(sorted(given)), value) for given, value in zip(numbers, target, strict=True)]
