"""Countdown in natural English: prompts for any language model, and answers read back from free text.

The problems are those of `tasks.countdown`, in its splits; the text is a person's. An answer is an expression that
is *handed in*: between <answer> and </answer>, in a LaTeX box, or behind "answer:" or "the answer is". The last line,
or the last expression, is never taken for an answer: it may be a check, a dead end, a polite question, or the place
where the text was cut.

Model output is hostile: text and patterns are bounded, and what is handed in goes through the task's own verifier.
The wording of the prompt is ours, in the manner of Gandhi et al. (arXiv 2503.01307) and TinyZero.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from extrabitter.seeding import derive_seed
from extrabitter.tasks.countdown.equations import MAX_CHARACTERS, normalise
from extrabitter.tasks import Verdict, countdown
from extrabitter.tasks.countdown import Problem, Trace, TraceCondition
from extrabitter.tasks.countdown.verifier import REASONS as EXPRESSION_REASONS

OPERATIONS = "+-*/"  # people divide, too
QUESTION = "Problem:"  # opens each problem of a plain prompt; a completion that writes it again has gone on to another
SOLUTION = "Solution:"

REASONS = {
    **EXPRESSION_REASONS,
    "no_answer": "no expression is handed in",
    "open_answer": "an answer is opened and not closed",
    "not_read": f"no text, or over {MAX_CHARACTERS} characters",
}

_TAGGED = re.compile(r"<answer>((?:(?!<answer>).){0,400}?)</answer>", re.IGNORECASE | re.DOTALL)
_OPENED = re.compile(r"<answer>(?!.{0,400}?</answer>)", re.IGNORECASE | re.DOTALL)
_BOXED = re.compile(r"\\boxed\s{0,3}\{([^{}\n]{0,200}(?:\{[^{}\n]{0,40}\}[^{}\n]{0,100}){0,6})\}")
_SAID = re.compile(r"\banswer\b\**(?: is|:| =)[ \t]{0,3}:?[ \t]{0,3}([^\n]{1,200})", re.IGNORECASE)
_EXPRESSION = re.compile(r"[\d(][\d+\-*/() ]{0,200}")
_END_OF_THOUGHT = re.compile(r"</think>", re.IGNORECASE)


class Answer(NamedTuple):
    """What is handed in: an expression for the verifier, or empty and the reason (a key of REASONS)."""

    expression: str
    reason: str


def render_question(problem: Problem) -> str:
    """Return the task in words.

    >>> render_question(Problem((3, 8, 9), 33))[:78]
    'Using the numbers 3, 8 and 9, each exactly once, write an expression that equa'
    """
    *most, last = map(str, problem.numbers)
    return (
        f"Using the numbers {', '.join(most)} and {last}, each exactly once, write an expression that equals "
        f"{problem.target}. You may use +, -, *, / and parentheses. Work it out first, then give the expression "
        "between <answer> and </answer>."
    )


def examples(count: int, seed: int, condition: TraceCondition, num_numbers: int = 3) -> list[tuple[str, str]]:
    """Draw worked training problems as (question, solution) pairs, each solved; for prompts and for priming."""
    rng = random.Random(derive_seed(seed, "examples"))
    solved = replace(
        condition, ending="right", solution_probability=1.0 if not condition.backtracking else 0.0
    )
    problems = countdown.generate_problems("train", count, derive_seed(seed, "examples"), num_numbers)
    return [
        (render_question(problem), render_solution(countdown.write_trace(problem, solved, rng), problem))
        for problem in problems
    ]


def plain_prompt(problem: Problem, shots: Sequence[tuple[str, str]] = ()) -> str:
    """Return a prompt for a base model: worked examples, then the problem, ready to be continued."""
    parts = [f"{QUESTION} {question}\n{SOLUTION} {solution}\n" for question, solution in shots]
    return "\n".join([*parts, f"{QUESTION} {render_question(problem)}\n{SOLUTION}"])


def chat_messages(problem: Problem, shots: Sequence[tuple[str, str]] = ()) -> list[dict[str, str]]:
    """Return a conversation for a chat template: worked examples as earlier turns, then the problem."""
    messages = []
    for question, solution in shots:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": solution}]
    return [*messages, {"role": "user", "content": render_question(problem)}]


def cut_completion(text: str) -> str:
    """Return a completion up to where it goes on to a problem of its own."""
    return text.split(f"\n{QUESTION}", 1)[0]


def extract_answer(text: object) -> Answer:
    """Find the expression that a completion hands in; never raises.

    Tags go before boxes, boxes before words; of each kind the last counts, and only behind </think> where there is one.
    An answer that is opened and never closed was cut, and is none.

    >>> extract_answer("3 * 8 = 24, so <answer> 3 * 8 + 9 = 33 </answer>. Is 4 * 4 nicer?")
    Answer(expression='3 * 8 + 9', reason='ok')
    """
    if not isinstance(text, str) or len(text) > MAX_CHARACTERS:
        return Answer("", "not_read")
    text = _END_OF_THOUGHT.split(cut_completion(text))[-1]
    if _OPENED.search(text):
        return Answer("", "open_answer")
    for pattern in (_TAGGED, _BOXED, _SAID):
        handed_in = pattern.findall(text)
        if handed_in:
            expression = _as_expression(handed_in[-1])
            return Answer(expression, "ok") if expression else Answer("", "no_answer")
    return Answer("", "no_answer")


def _as_expression(text: str) -> str:
    """Return the side of an equation that computes, in plain signs; empty where none does."""
    plain = normalise(text)
    sides = [side.strip() for side in plain.split("=")]
    found = []
    for side in sides:
        match = _EXPRESSION.match(side)
        # All of the side, but for a full stop or words behind a comma.
        if match and re.fullmatch(r"[.,;!]?(?:\s.*)?", side[match.end() :], re.DOTALL):
            found.append(" ".join(match[0].split()))
    computing = [side for side in found if re.search(r"[-+*/]", side)]
    return computing[0] if computing else (found[0] if found else "")


def verify_completion(text: object, problem: Problem) -> Verdict:
    """Judge a completion by the expression that it hands in; `reason` is a key of REASONS. Never raises.

    >>> verify_completion("The answer is 3 * 8 + 9.", Problem((3, 8, 9), 33)).reason
    'correct'
    """
    expression, reason = extract_answer(text)
    if reason != "ok":
        return Verdict(False, reason)
    return countdown.verify_expression(expression, problem, OPERATIONS)


def render_solution(trace: Trace, problem: Problem) -> str:
    """Return a trace of `tasks.countdown` in words, handed in at its end; ValueError if it makes no attempt."""
    if not trace.attempts:
        raise ValueError(f"trace of {problem.identifier}: has no attempt to put into words")
    sentences = []
    for position, attempt in enumerate(trace.attempts):
        if position:
            start = " and ".join(map(str, attempt.numbers))
            sentences.append(f"Let me try something else, from {start}.")
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
    return f"{' '.join(sentences)} <answer> {_as_one(trace, problem)} </answer>"


def _as_one(trace: Trace, problem: Problem) -> str:
    """Return the submitted attempt as one expression; a restart takes over the steps that led to its numbers."""
    written: dict[tuple[int, ...], list[tuple[int, str]]] = {
        problem.numbers: [(number, str(number)) for number in problem.numbers]
    }
    left: list[tuple[int, str]] = []
    for attempt in trace.attempts:
        left = list(written.get(tuple(sorted(attempt.numbers)), [(n, str(n)) for n in attempt.numbers]))
        for first, operation, second, result in attempt.steps:
            parts = []
            for value in (first, second):
                found = next((pair for pair in left if pair[0] == value), (value, str(value)))
                if found in left:
                    left.remove(found)
                parts.append(found[1])
            left.append((result, f"({parts[0]} {operation} {parts[1]})"))
            written[tuple(sorted(value for value, _ in left))] = list(left)
    text = left[-1][1]
    return text[1:-1] if text.startswith("(") else text
