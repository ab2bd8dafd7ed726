"""The Countdown task: everything the stages and chapters need of it, under one name."""

from __future__ import annotations

from extrabitter.tasks import SupportsRandom, Verdict
from extrabitter.tasks.countdown.parser import parse_trace
from extrabitter.tasks.countdown.problems import (
    MAX_VALUE,
    OPERATIONS,
    Attempt,
    Problem,
    Step,
    all_problems,
    combine,
    generate_problems,
    solve,
    split_of,
)
from extrabitter.tasks.countdown.traces import (
    SEARCH_WORDS,
    SUBMIT_WORD,
    VOCABULARY,
    Check,
    Trace,
    TraceAttempt,
    TraceCondition,
    render_trace,
    write_trace,
)
from extrabitter.tasks.countdown.verifier import REASONS, verify_completion, verify_expression

__all__ = [
    "OPERATIONS",
    "REASONS",
    "SEARCH_WORDS",
    "SUBMIT_WORD",
    "VOCABULARY",
    "Attempt",
    "Check",
    "Countdown",
    "Problem",
    "Step",
    "Trace",
    "TraceAttempt",
    "TraceCondition",
    "Verdict",
    "all_problems",
    "drill_document",
    "generate_problems",
    "parse_trace",
    "render_prompt",
    "render_trace",
    "solve",
    "split_of",
    "verify_completion",
    "verify_expression",
    "write_trace",
]

CUE = "think"
NUM_FACTS, NUM_COMPARISONS = 3, 4
EQUAL_SHARE, CLOSE_SHARE, MAX_CLOSE = 0.45, 0.20, 3  # Source: pilot, drills of four comparisons


def render_prompt(problem: Problem, cue: bool = False) -> str:
    """Return the prompt of a problem; the cue word in front asks for search.

    >>> render_prompt(Problem((6, 7, 9), 8))
    'numbers 6 7 9 target 8 :'
    """
    prompt = f"numbers {' '.join(map(str, problem.numbers))} target {problem.target} :"
    return f"{CUE} {prompt}" if cue else prompt


def drill_document(rng: SupportsRandom) -> str:
    """Draw three arithmetic facts or four comparisons, the atoms of every trace."""
    if rng.random() < 0.5:
        return " , ".join([_fact(rng) for _ in range(NUM_FACTS)])
    return " , ".join([_comparison(rng) for _ in range(NUM_COMPARISONS)])


def _below(rng: SupportsRandom, stop: int) -> int:
    return int(rng.random() * stop)


def _fact(rng: SupportsRandom) -> str:
    """Draw an operation, its smaller operand, then its larger one: every true equation can come."""
    operation = OPERATIONS[_below(rng, len(OPERATIONS))]
    # The largest smaller operand, so that a larger one with a result in range exists.
    bound = {"+": MAX_VALUE // 2, "-": MAX_VALUE, "*": int(MAX_VALUE**0.5)}[operation]
    right = _below(rng, bound + 1)
    largest = {"+": MAX_VALUE - right, "-": MAX_VALUE, "*": MAX_VALUE // max(right, 1)}[operation]
    left = right + _below(rng, largest - right + 1)
    return f"{left} {operation} {right} = {combine(left, operation, right)}"


def _comparison(rng: SupportsRandom) -> str:
    """Draw two values, equal, close or any, and say whether they are equal."""
    first = _below(rng, MAX_VALUE + 1)
    kind = rng.random()
    if kind < EQUAL_SHARE:
        second = first
    elif kind < EQUAL_SHARE + CLOSE_SHARE:
        distance = (1 + _below(rng, MAX_CLOSE)) * (1 if rng.random() < 0.5 else -1)
        second = first + distance if 0 <= first + distance <= MAX_VALUE else first - distance
    else:
        second = (first + 1 + _below(rng, MAX_VALUE)) % (MAX_VALUE + 1)
    return f"{first} check {second} {'yes' if first == second else 'no'}"


class Countdown:
    """The task as an object, for callers that take any `Task`."""

    name = "countdown"
    vocabulary = VOCABULARY
    generate_problems = staticmethod(generate_problems)
    render_prompt = staticmethod(render_prompt)
    solve = staticmethod(solve)
    verify_completion = staticmethod(verify_completion)
    write_trace = staticmethod(write_trace)
    render_trace = staticmethod(render_trace)
    parse_trace = staticmethod(parse_trace)
