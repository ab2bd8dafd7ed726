"""The verifier of Countdown: one check for step-form completions and for expressions, with named reasons.

Model output is hostile input (see `arithmetic`): nothing here raises on text, and work is linear in a bounded
input.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from extrabitter.tasks import Verdict
from extrabitter.tasks.countdown.arithmetic import REASONS as EXPRESSION_REASONS
from extrabitter.tasks.countdown.arithmetic import evaluate_expression
from extrabitter.tasks.countdown.parser import TRACE_REASONS, parse_trace
from extrabitter.tasks.countdown.problems import OPERATIONS, TRUE_EQUATIONS, Problem, Step
from extrabitter.tasks.countdown.traces import Trace, TraceAttempt

REASONS = {
    "correct": "the answer uses each given number once and reaches the target",
    "wrong_value": "the numbers are used as they should be, the value is not the target",
    "number_not_available": "a number is used that is not given, not reached, or used up",
    "numbers_unused": "a given number is left over",
    "wrong_arithmetic": "a step's equation is false",
    "operation_not_allowed": "an operation that the task does not have",
    "numbers_not_reached": "an attempt restarts from numbers that no legal step had left",
    "truncated": "cut at the length cap before 'answer'",
    **{reason: meaning for reason, meaning in (EXPRESSION_REASONS | TRACE_REASONS).items() if reason != "ok"},
    # Both readers have these two, with bounds and words of their own.
    "too_long": "longer than the verifier reads",
    "not_text": "the answer is not a string",
}


class Replay(NamedTuple):
    """What an attempt amounts to: a reason, the value reached (None unless legal), and its identity.

    `key` is the same for two attempts that make the same computation: their steps, also those made before a
    restart, in an order that does not depend on how they were written down.
    """

    reason: str
    value: int | None
    key: tuple[Step, ...]

    @property
    def hits(self) -> bool:
        """Return whether the attempt solves the problem."""
        return self.reason == "correct"

    @property
    def legal(self) -> bool:
        """Return whether the attempt follows the rules, whatever it reaches."""
        return self.value is not None


def _canonical(step: Step) -> Step:
    left, operation, right, result = step
    return Step(right, operation, left, result) if operation in "+*" and left < right else step


def replay_attempts(trace: Trace, problem: Problem, operations: str = OPERATIONS) -> list[Replay]:
    """Carry out each attempt of a trace by the rules.

    An attempt may start from the given numbers or from numbers that legal steps of an earlier attempt had
    left.
    """
    paths: dict[tuple[int, ...], tuple[Step, ...]] = {problem.numbers: ()}
    return [_replay(attempt, problem, operations, paths) for attempt in trace.attempts]


def _replay(
    attempt: TraceAttempt, problem: Problem, operations: str, paths: dict[tuple[int, ...], tuple[Step, ...]]
) -> Replay:
    """Carry out one attempt and enter the numbers it leaves, and the way there, into `paths`."""
    left = list(attempt.numbers)
    path = paths.get(tuple(sorted(left)))
    steps = [_canonical(step) for step in attempt.steps]
    if path is None:
        return Replay("numbers_not_reached", None, tuple(sorted(steps)))
    key = tuple(sorted([*path, *steps]))
    for count, step in enumerate(steps, 1):
        if step.operation not in operations:
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


def judge_trace(trace: Trace, replays: list[Replay]) -> Verdict:
    """Judge the attempt a completion submits; an ill-formed completion submits none."""
    if not trace.well_formed:
        return Verdict(False, trace.reason)
    last = replays[-1]
    return Verdict(last.hits, last.reason, None if last.value is None else Fraction(last.value))


def verify_completion(text: object, problem: Problem, operations: str = OPERATIONS) -> Verdict:
    """Judge a completion in the grammar of `countdown_traces`; `reason` is a key of REASONS. Never raises.

    >>> verify_completion("9 - 7 = 2 , 6 + 2 = 8 answer", Problem((6, 7, 9), 8)).reason
    'correct'
    """
    trace = parse_trace(text, problem)
    return judge_trace(trace, replay_attempts(trace, problem, operations))


def verify_expression(text: object, problem: Problem, operations: str = OPERATIONS) -> Verdict:
    """Judge an arithmetic expression such as `(9 - 7) + 6`; `reason` is a key of REASONS. Never raises.

    Values on the way are exact and unbounded: unlike a trace, an expression may pass through 7 - 9 or, with
    `/` among the operations, 7 / 9.
    """
    reason, value, numbers = evaluate_expression(text, operations)
    if reason != "ok":
        return Verdict(False, reason)
    left = list(problem.numbers)
    for number in numbers:
        if number not in left:
            return Verdict(False, "number_not_available", value)
        left.remove(number)
    if left:
        return Verdict(False, "numbers_unused", value)
    return Verdict(value == problem.target, "correct" if value == problem.target else "wrong_value", value)
