"""The rules of Countdown: what an attempt in steps amounts to, and what an expression does.

Model output is hostile input (see `arithmetic`): nothing here raises on text, and work is linear in a bounded input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from extrabitter.tasks import Verdict
from extrabitter.tasks.countdown.arithmetic import REASONS as EXPRESSION_REASONS
from extrabitter.tasks.countdown.arithmetic import evaluate_expression
from extrabitter.tasks.countdown.problems import OPERATIONS, TRUE_EQUATIONS, Problem, Step

REASONS = {
    "correct": "the answer uses each given number once and reaches the target",
    "wrong_value": "the numbers are used as they should be, the value is not the target",
    "number_not_available": "a number is used that is not given, not reached, or used up",
    "numbers_unused": "a given number is left over",
    "wrong_arithmetic": "an equation is false",
    "operation_not_allowed": "an operation that the task does not have",
    "numbers_not_reached": "an attempt restarts from numbers that no legal step had left",
    "truncated": "cut at the length cap before an answer",
    **{reason: meaning for reason, meaning in EXPRESSION_REASONS.items() if reason != "ok"},
}
# Numbers left -> the legal steps that led there; filled by `replay`.
Paths = dict[tuple[int, ...], tuple[Step, ...]]


class Replay(NamedTuple):
    """What an attempt amounts to: a reason, the value reached (None unless legal), and its identity.

    `key` is the same for two attempts that make the same computation: their steps, also those made before a
    restart, in an order that does not depend on how they were written down.
    """

    reason: str
    value: int | None
    key: tuple[Step, ...]


def _canonical(step: Step) -> Step:
    left, operation, right, result = step
    return Step(right, operation, left, result) if operation in "+*" and left < right else step


def replay(numbers: Sequence[int], steps: Sequence[Step], problem: Problem, paths: Paths) -> Replay:
    """Carry out an attempt; enter the numbers it leaves on its way, and the way there, into `paths`."""
    left = list(numbers)
    path = paths.get(tuple(sorted(left)))
    steps = [_canonical(step) for step in steps]
    if path is None:
        return Replay("numbers_not_reached", None, tuple(sorted(steps)))
    key = tuple(sorted([*path, *steps]))
    for count, step in enumerate(steps, 1):
        if step.operation not in OPERATIONS:
            return Replay("operation_not_allowed", None, key)
        if step.left in left:
            left.remove(step.left)
            if step.right in left:
                left.remove(step.right)
                if step not in TRUE_EQUATIONS:
                    return Replay("wrong_arithmetic", None, key)
                left.append(step.result)
                if len(left) > 1:
                    paths[tuple(sorted(left))] = (*path, *steps[:count])
                continue
        return Replay("number_not_available", None, key)
    if len(left) > 1:
        return Replay("numbers_unused", None, key)
    return Replay("correct" if left[0] == problem.target else "wrong_value", left[0], key)


def verify_expression(text: object, problem: Problem, operations: str = OPERATIONS) -> Verdict:
    """Judge an arithmetic expression such as `(9 - 7) + 6`; `reason` is a key of REASONS. Never raises.

    Values on the way are exact and unbounded: unlike steps, an expression may pass through 7 - 9 or, with `/` among
    the operations, 7 / 9.
    """
    reason, value, numbers = evaluate_expression(text, operations)
    if reason != "ok":
        return Verdict(False, reason)
    left = list(problem.numbers)
    for number in numbers:
        if number not in left:
            return Verdict(False, "number_not_available", str(value))
        left.remove(number)
    reason = "numbers_unused" if left else "correct" if value == problem.target else "wrong_value"
    return Verdict(reason == "correct", reason, str(value))
