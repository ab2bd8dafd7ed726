"""Countdown in English: prompts for any language model, and its text read back as a trace.

The problems are those of the grammar, in its splits; the text is a person's. An answer is an expression that is
handed in (`tasks.free_text`) and read whole (`arithmetic`); the last line, or the last expression, is never taken for
one: it may be a check, a dead end, or the place where the text was cut. What else a completion does, the census finds.

What English cannot tell is left out, not guessed: whether a verdict in words is true (no attempt has one), and whether
a behaviour does its work; one counts where it is carried out.

The wording of the prompt is ours, in the manner of Gandhi et al. (arXiv 2503.01307) and TinyZero.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from typing import Literal

from extrabitter.tasks import Attempt, Trace, Use, Verdict, free_text, grammar
from extrabitter.tasks.countdown.arithmetic import PHRASES, evaluate_expression, read_answer
from extrabitter.tasks.countdown.census import take_census
from extrabitter.tasks.countdown.problems import Problem, Step
from extrabitter.tasks.countdown.traces import Script

REASONS: dict[str, str] = {**PHRASES["reasons"], **grammar.REASONS, **free_text.REASONS}
_WORD = re.compile(r"\S+")


class English(free_text.Asked):
    """The game in English."""

    def question(self, problem: Problem) -> str:
        """Return the task in words.

        >>> English("chat").question(Problem((3, 8, 9), 33))[:78]
        'Using the numbers 3, 8 and 9, each exactly once, write an expression that equa'
        """
        *most, last = map(str, problem.numbers)
        return (
            f"Using the numbers {', '.join(most)} and {last}, each exactly once, write an expression that equals "
            f"{problem.target}. You may use +, -, *, / and parentheses. Work it out first, then give the expression "
            "between <answer> and </answer>."
        )

    def solution(self, script: Script, problem: Problem) -> str:
        """Return a script in words, handed in at its end."""
        said, target = [], problem.target
        for position, (steps, need, aim, says_yes) in enumerate(script.attempts):
            if position:
                said.append(f"Let me try something else, from {' and '.join(map(str, problem.numbers))}.")
            if need is not None:
                said.append(f"Working back from {target}: {need}, so {need.result} is needed.")
            if aim is not None:
                said.append(f"First I want to make {aim}.")
            said.append(", then ".join(map(str, steps)) + ".")
            if says_yes is not None:
                said.append(f"That is {'' if says_yes else 'not '}the target {target}.")
        return f"{' '.join(said)} <answer> {_as_expression(problem.numbers, steps)} </answer>"

    def parse(self, text: object, problem: Problem, truncated: bool = False) -> Trace:
        """Read a completion up to where it goes on to another problem."""
        handed = free_text.hand_in(text, self.stops)
        attempts, uses = _read_working(handed.body, problem, truncated)
        if handed.reason != "ok":
            reason = "truncated" if truncated and handed.reason != "not_read" else handed.reason
            return Trace(attempts, uses, Verdict(False, reason), handed.reason, answered=False)
        expression, form = read_answer(handed.text)
        verdict = verify_expression(expression, problem) if form == "ok" else Verdict(False, form)
        return Trace(attempts, uses, verdict, form)


def verify_expression(text: str, problem: Problem) -> Verdict:
    """Judge an arithmetic expression such as `(9 - 7) + 6`; `reason` is a key of REASONS. Never raises.

    Values on the way are exact and unbounded: unlike steps, an expression may pass through 7 - 9 or 7 / 9.
    """
    reason, value, numbers = evaluate_expression(text)
    if reason != "ok":
        return Verdict(False, reason)
    used, given = Counter(numbers), Counter(problem.numbers)
    reason = "correct" if value == problem.target else "wrong_value"
    if used != given:
        reason = "numbers_unused" if used < given else "number_not_available"
    return Verdict(reason == "correct", reason, str(value))


def _as_expression(numbers: tuple[int, ...], steps: tuple[Step, ...]) -> str:
    """Return an attempt from the given numbers as one expression."""
    left: dict[int, list[str]] = defaultdict(list)  # each value as it was written, the oldest first
    for number in numbers:
        left[number].append(str(number))
    for first, operation, second, result in steps:
        left[result].append(f"({left[first].pop(0)} {operation} {left[second].pop(0)})")
    return left[steps[-1].result][-1][1:-1]


def _read_working(
    text: str, problem: Problem, truncated: bool
) -> tuple[tuple[Attempt, ...], tuple[Use, ...]]:
    """Return attempts and behaviours as the census finds them, places counted in words.

    An attempt that was given up on the way counts as made, and is illegal for the numbers left over, as in the
    grammar; only one that the cap cut off was not. An expression at the end without a result, of an attempt that was
    made before, hands that one in.
    """
    census = take_census(text, problem.numbers, problem.target)
    words = [match.span() for match in _WORD.finditer(text)] if census.attempts or census.findings else []
    starts, ends = [start for start, _ in words], [end for _, end in words]

    def place(start: int, end: int) -> tuple[int, int]:
        return bisect_right(ends, start), bisect_left(starts, end)

    attempts: list[Attempt] = []
    seen = set()
    for found in census.attempts:
        outcome: Literal["hit", "miss", "illegal"] = "illegal"
        if found.value is not None and found.is_true:
            outcome = "hit" if found.value == problem.target else "miss"
        is_last, repeated = found is census.attempts[-1], found.identity in seen
        if repeated and is_last and not found.num_steps:
            break
        seen.add(found.identity)
        span = place(found.equations[0].start, found.equations[-1].end)
        finished = not (truncated and is_last and found.value is None)
        counts = (found.num_steps, found.num_right_steps)
        attempts.append(Attempt(*span, outcome, finished, repeated, "", False, *counts))
    uses = tuple(Use(found.behaviour, *place(found.start, found.end), True) for found in census.findings)
    return tuple(attempts), uses
