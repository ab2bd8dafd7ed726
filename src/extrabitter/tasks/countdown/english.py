"""Countdown in English: prompts for any language model, and its text read back as a trace.

The problems are those of the grammar, in its splits; the text is a person's. An answer is an expression that is
handed in (`tasks.free_text`) and read whole (`spelling`); the last line, or the last expression, is never taken for
one: it may be a check, a dead end, or the place where the text was cut. What else a completion does, the census finds.

What English cannot tell is left out, not guessed: whether a verdict in words is true (no attempt has one), and whether
a behaviour does its work; one counts where it is carried out.

The wording of the prompt is ours, in the manner of Gandhi et al. (arXiv 2503.01307) and TinyZero.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from extrabitter.params import ParameterError
from extrabitter.tasks import Attempt, Prompt, Trace, Use, Verdict, free_text
from extrabitter.tasks.countdown.census import take_census
from extrabitter.tasks.countdown.parser import FORMS
from extrabitter.tasks.countdown.problems import Problem
from extrabitter.tasks.countdown.spelling import read_answer
from extrabitter.tasks.countdown.traces import Script
from extrabitter.tasks.countdown.verifier import REASONS as RULES
from extrabitter.tasks.countdown.verifier import verify_expression

OPERATIONS = "+-*/"  # people divide, too
QUESTION, SOLUTION = "Problem:", "Solution:"
REASONS = {**RULES, **FORMS, **free_text.REASONS}
_WORD = re.compile(r"\S+")


@dataclass(frozen=True)
class English:
    """The game in English: plain text to be continued, or a conversation, behind worked examples."""

    style: Literal["plain", "chat"]
    shots: Sequence[tuple[Problem, Script]] = ()

    @property
    def stops(self) -> tuple[str, ...]:
        """Return what opens another problem where a plain prompt has shown how that goes."""
        return (f"\n{QUESTION}",) if self.style == "plain" else ()

    def prompt(self, problem: Problem, cue: bool = False) -> Prompt:
        """Return what the model is asked; English has no cue."""
        shown = [(question(each), solution(script, each)) for each, script in self.shots]
        if self.style == "plain":
            parts = [f"{QUESTION} {asked}\n{SOLUTION} {answered}\n" for asked, answered in shown]
            return "\n".join([*parts, f"{QUESTION} {question(problem)}\n{SOLUTION}"])
        messages = []
        for asked, answered in shown:
            messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
        return [*messages, {"role": "user", "content": question(problem)}]

    def demonstration(self, script: Script, problem: Problem) -> Prompt:
        """Return a script in words: a text that follows its prompt, or the next turn of the conversation."""
        text = solution(script, problem)
        return [{"role": "assistant", "content": text}] if self.style == "chat" else f" {text}"

    def parse(self, text: object, problem: Problem, truncated: bool = False) -> Trace:
        """Read a completion up to where it goes on to another problem."""
        handed = free_text.hand_in(text, self.stops)
        if handed.reason == "not_read":
            return Trace((), (), Verdict(False, "not_read"), "not_read", answered=False)
        attempts, uses = _read_working(handed.body, problem, truncated)
        if handed.reason != "ok":
            reason = "truncated" if truncated else handed.reason
            return Trace(attempts, uses, Verdict(False, reason), handed.reason, answered=False)
        expression, form = read_answer(handed.text)
        verdict = verify_expression(expression, problem, OPERATIONS) if form == "ok" else Verdict(False, form)
        return Trace(attempts, uses, verdict, form)


def question(problem: Problem) -> str:
    """Return the task in words.

    >>> question(Problem((3, 8, 9), 33))[:78]
    'Using the numbers 3, 8 and 9, each exactly once, write an expression that equa'
    """
    *most, last = map(str, problem.numbers)
    return (
        f"Using the numbers {', '.join(most)} and {last}, each exactly once, write an expression that equals "
        f"{problem.target}. You may use +, -, *, / and parentheses. Work it out first, then give the expression "
        "between <answer> and </answer>."
    )


def solution(script: Script, problem: Problem) -> str:
    """Return a script in words, handed in at its end; ParameterError for filler, which has none."""
    if script.num_filler:
        raise ParameterError("condition = 'filler': dots have no words; only with prompt 'grammar'")
    sentences = []
    for position, attempt in enumerate(script.attempts):
        if position:
            sentences.append(f"Let me try something else, from {' and '.join(map(str, attempt.numbers))}.")
        if attempt.need is not None:
            left, operation, right, result = attempt.need
            sentences.append(
                f"Working back from {problem.target}: {left} {operation} {right} = {result}, so {result} is needed."
            )
        if attempt.aim is not None:
            sentences.append(f"First I want to make {attempt.aim}.")
        steps = ", then ".join(f"{left} {op} {right} = {result}" for left, op, right, result in attempt.steps)
        sentences.append(f"{steps}.")
        if attempt.check is not None:
            number, says_yes = attempt.check
            sentences.append(f"That is {'' if says_yes else 'not '}the target {number}.")
    return f"{' '.join(sentences)} <answer> {_as_one(script, problem)} </answer>"


def _as_one(script: Script, problem: Problem) -> str:
    """Return the attempt handed in as one expression; a restart takes over the steps that led to its numbers."""
    written: dict[tuple[int, ...], list[tuple[int, str]]] = {
        problem.numbers: [(number, str(number)) for number in problem.numbers]
    }
    left: list[tuple[int, str]] = []
    for attempt in script.attempts:
        left = list(written[tuple(sorted(attempt.numbers))])
        for first, operation, second, result in attempt.steps:
            parts = []
            for value in (first, second):
                found = next(pair for pair in left if pair[0] == value)
                left.remove(found)
                parts.append(found[1])
            left.append((result, f"({parts[0]} {operation} {parts[1]})"))
            written[tuple(sorted(value for value, _ in left))] = list(left)
    text = left[-1][1]
    return text[1:-1] if text.startswith("(") else text


def _read_working(text: str, problem: Problem, truncated: bool) -> tuple[tuple[Attempt, ...], tuple[Use, ...]]:
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

    attempts = []
    seen = set()
    for number, found in enumerate(census.attempts):
        outcome: Literal["hit", "miss", "illegal"] = "illegal"
        if found.value is not None and found.is_true:
            outcome = "hit" if found.value == problem.target else "miss"
        is_last = number == len(census.attempts) - 1
        is_cut = truncated and found.value is None and is_last
        repeated = found.identity in seen
        if repeated and is_last and not found.num_steps:
            break
        seen.add(found.identity)
        span = place(found.equations[0].start, found.equations[-1].end)
        attempts.append(
            Attempt(
                *span, outcome, not is_cut, repeated, num_steps=found.num_steps, num_right_steps=found.num_right_steps
            )
        )
    uses = tuple(Use(found.behaviour, *place(found.start, found.end), True) for found in census.findings)
    return tuple(attempts), uses


