"""The verifier of Countdown: attempts carried out by the rules, and one judgement for a script and for an expression.

Model output is hostile input (see `arithmetic`): nothing here raises on text, and work is linear in a bounded input.

When a use of a behaviour is functional, in the grammar:
- *verification* ("check 8 no"): it names the problem's target and says "yes" behind an attempt that hits, "no" behind
  one that does not; an attempt that breaks the rules does not hit.
- *backtracking* ("back ..."): what follows is legal and new. Legal: it restates the target and either the given
  numbers or numbers that legal steps of an earlier attempt had left, and its own steps follow the rules to the end.
  New: no earlier attempt made the same computation, order of operands and of independent steps aside.
- *subgoal setting* ("aim 16"): a step of that attempt other than its last reaches it, by legal steps.
- *backward chaining* ("need 8 - 6 = 2"): the equation is true, one operand is the target, the other a number that the
  attempt starts from.

An attempt is finished when a verdict, "back" or "answer" follows, or when it has used up its numbers by the rules.
"""

from __future__ import annotations

from typing import NamedTuple

from extrabitter.tasks import Attempt, Trace, Use, Verdict
from extrabitter.tasks.countdown.arithmetic import REASONS as EXPRESSION_REASONS
from extrabitter.tasks.countdown.arithmetic import evaluate_expression
from extrabitter.tasks.countdown.parser import FORMS, parse_script
from extrabitter.tasks.countdown.problems import OPERATIONS, TRUE_EQUATIONS, Problem, Step
from extrabitter.tasks.countdown.traces import Script, ScriptAttempt

REASONS = {
    "correct": "the answer uses each given number once and reaches the target",
    "wrong_value": "the numbers are used as they should be, the value is not the target",
    "number_not_available": "a number is used that is not given, not reached, or used up",
    "numbers_unused": "a given number is left over",
    "wrong_arithmetic": "an equation is false",
    "operation_not_allowed": "an operation that the task does not have",
    "numbers_not_reached": "an attempt restarts from numbers that no legal step had left",
    "truncated": "cut at the length cap before an answer",
    **{reason: meaning for reason, meaning in (EXPRESSION_REASONS | FORMS).items() if reason != "ok"},
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


def _canonical(step: Step) -> Step:
    left, operation, right, result = step
    return Step(right, operation, left, result) if operation in "+*" and left < right else step


def replay_attempts(script: Script, problem: Problem) -> list[Replay]:
    """Carry out each attempt by the rules, from the given numbers or from what earlier legal steps had left."""
    paths: dict[tuple[int, ...], tuple[Step, ...]] = {problem.numbers: ()}
    return [_replay(attempt, problem, paths) for attempt in script.attempts]


def _replay(attempt: ScriptAttempt, problem: Problem, paths: dict[tuple[int, ...], tuple[Step, ...]]) -> Replay:
    """Carry out one attempt and enter the numbers it leaves, and the way there, into `paths`."""
    left = list(attempt.numbers)
    path = paths.get(tuple(sorted(left)))
    steps = [_canonical(step) for step in attempt.steps]
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


def _judge(script: Script, replays: list[Replay], truncated: bool) -> Verdict:
    """Judge the attempt a completion hands in; an ill-formed completion hands in none."""
    if script.reason != "ok":
        return Verdict(False, "truncated" if truncated and script.reason == "unfinished" else script.reason)
    reason, value, _ = replays[-1]
    return Verdict(reason == "correct", reason, "" if value is None else str(value))


def verify(text: object, problem: Problem) -> Verdict:
    """Judge a completion in the grammar; `reason` is a key of REASONS. Never raises.

    >>> verify("9 - 7 = 2 , 6 + 2 = 8 answer", Problem((6, 7, 9), 8))
    Verdict(correct=True, reason='correct', value='8')
    """
    script = parse_script(text, problem)
    return _judge(script, replay_attempts(script, problem), truncated=False)


def parse(text: object, problem: Problem, truncated: bool = False) -> Trace:
    """Read a completion in the grammar as a generic trace; never raises."""
    script = parse_script(text, problem)
    replays = replay_attempts(script, problem)
    attempts: list[Attempt] = []
    uses: list[Use] = []
    seen: set[tuple[Step, ...]] = set()
    target = problem.target
    last = len(script.attempts) - 1
    at = script.num_filler  # the word that is looked at; words of a script stand where its parts say
    for index, (written, (reason, value, key)) in enumerate(zip(script.attempts, replays, strict=True)):
        numbers, steps, restated, need, aim, check = written
        legal = value is not None
        hits = reason == "correct"
        repeated = key in seen
        finished = legal or (bool(steps) and (index < last or script.answered or check is not None))
        if finished:
            seen.add(key)
        if index:
            behind = at + 4 + len(numbers)
            functional = legal and not repeated and restated == target
            uses.append(Use("backtracking", at, min(behind, script.num_words), functional))
            at = behind
        start = at
        if need is not None:
            uses.append(Use("backward_chaining", at, at + 6, _works_back(need, numbers, target)))
            at += 7
        if aim is not None:
            reached = legal and any(step.result == aim for step in steps[:-1])
            uses.append(Use("subgoal_setting", at, at + 2, reached))
            at += 3
        if steps:
            at += 6 * len(steps) - 1
        said, is_true, end = "", False, at
        if check is not None:
            said = "yes" if check.says_yes else "no"
            is_true = check.number == target and check.says_yes == hits
            uses.append(Use("verification", at, at + 3, is_true))
            at += 3
        right = sum([step in TRUE_EQUATIONS for step in steps])
        outcome = "hit" if hits else "miss" if legal else "illegal"
        if index == last:
            start, end = min(start, script.num_words), min(end, script.num_words)
        attempts.append(
            Attempt(start, end, outcome, finished, finished and repeated, said, is_true, len(steps), right)
        )
    verdict = _judge(script, replays, truncated)
    return Trace(tuple(attempts), tuple(uses), verdict, script.reason, script.answered, script.num_filler)


def _works_back(need: Step, numbers: tuple[int, ...], target: int) -> bool:
    """Return whether a backward step is true, and leads from the target by a number that the attempt starts from."""
    left, _, right, _ = need
    return need in TRUE_EQUATIONS and (
        (left == target and right in numbers) or (right == target and left in numbers)
    )


def verify_expression(text: object, problem: Problem, operations: str = OPERATIONS) -> Verdict:
    """Judge an arithmetic expression such as `(9 - 7) + 6`; `reason` is a key of REASONS. Never raises.

    Values on the way are exact and unbounded: unlike a trace, an expression may pass through 7 - 9 or, with `/` among
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
    if left:
        return Verdict(False, "numbers_unused", str(value))
    return Verdict(value == problem.target, "correct" if value == problem.target else "wrong_value", str(value))
