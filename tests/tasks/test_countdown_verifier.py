"""The verifier: named reasons, agreement with another scorer, and calm under hostile input."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from random import Random
from types import FrameType
from typing import Any

import pytest

from extrabitter.behaviours.measures import measure_completion
from extrabitter.tasks.countdown.arithmetic import MAX_DEPTH, MAX_DIGITS, MAX_LENGTH, evaluate_expression
from extrabitter.tasks.countdown import (
    REASONS,
    VOCABULARY,
    Attempt,
    Problem,
    TraceCondition,
    generate_problems,
    parse_trace,
    render_trace,
    solve,
    verify_completion,
    verify_expression,
    write_trace,
)

PROBLEM = Problem((6, 7, 9), 8)
GOOD = "9 - 7 = 2 , 6 + 2 = 8"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"{GOOD} answer", "correct"),
        ("9 - 7 = 2 , 2 + 6 = 8 answer", "correct"),
        (f". . . {GOOD} check 8 yes answer", "correct"),
        (f"need 9 - 9 = 5 , aim 40 , {GOOD} check 3 no answer", "correct"),
        (f"9 * 6 = 54 , 54 - 7 = 47 check 8 no back 6 7 9 target 8 : {GOOD} answer", "correct"),
        (f"9 * 6 = 60 , 1 - 1 = 0 back 9 7 6 target 8 : {GOOD} answer", "correct"),
        ("9 - 7 = 2 , 6 * 2 = 12 check 8 no back 2 6 target 8 : 6 + 2 = 8 answer", "correct"),
        (
            "9 - 7 = 2 , 6 * 2 = 12 back 6 2 target 8 : 6 - 2 = 4 back 2 6 target 8 : 6 + 2 = 8 answer",
            "correct",
        ),
        ("9 + 7 = 16 , 16 - 6 = 10 answer", "wrong_value"),
        (f"{GOOD} check 8 yes back 6 7 9 target 8 : 9 + 7 = 16 , 16 - 6 = 10 answer", "wrong_value"),
        ("9 + 7 = 16 , 16 - 8 = 8 answer", "number_not_available"),
        ("9 - 9 = 0 , 8 + 0 = 8 answer", "number_not_available"),
        (f"{GOOD} , 8 - 0 = 8 answer", "number_not_available"),
        ("8 * 1 = 8 answer", "number_not_available"),
        ("9 - 7 = 2 answer", "numbers_unused"),
        ("9 - 7 = 1 , 7 + 1 = 8 answer", "wrong_arithmetic"),
        ("7 - 9 = 2 , 6 + 2 = 8 answer", "wrong_arithmetic"),
        ("9 / 7 = 2 , 6 + 2 = 8 answer", "operation_not_allowed"),
        (f"{GOOD} back 2 7 target 8 : 7 + 2 = 9 answer", "numbers_not_reached"),
        (f"{GOOD} back 8 8 target 8 : 8 - 8 = 0 answer", "numbers_not_reached"),
        ("9 - 7 = 3 , 6 + 3 = 9 back 3 6 target 8 : 6 + 3 = 9 answer", "numbers_not_reached"),
        (f"{GOOD} back 3 5 target 8 : 5 + 3 = 8 answer", "numbers_not_reached"),
        (f"{GOOD} back 8 target 8 : 8 + 0 = 8 answer", "numbers_not_reached"),
        (GOOD, "unfinished"),
        ("answer", "unexpected_word"),
        (f"{GOOD} answer answer", "trailing_words"),
        ("(9 - 7) + 6", "unknown_word"),
        ("", "unfinished"),
        ("8 " * 15_000, "too_long"),
        (8, "not_text"),
    ],
)
def test_completions_are_judged_with_a_named_reason(text: object, reason: str) -> None:
    verdict = verify_completion(text, PROBLEM)
    assert (verdict.reason, verdict.correct) == (reason, reason == "correct")
    assert reason in REASONS


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("(9 - 7) + 6", "correct"),
        ("6+9-7", "correct"),
        ("  ( ( 6 ) ) - ( 7 - 9 )  ", "correct"),
        ("-7 + 9 + 6", "correct"),
        ("6 - -9 - 7", "correct"),
        ("9 + 7 - 6", "wrong_value"),
        ("9 - 7 + 6 * 1", "number_not_available"),
        ("8", "number_not_available"),
        ("2 + 6", "number_not_available"),
        ("9 + 9 - 7 - 6", "number_not_available"),
        ("6", "numbers_unused"),
        ("9 - 7", "numbers_unused"),
        ("", "empty"),
        ("   ", "empty"),
        ("(", "syntax_error"),
        ("()", "syntax_error"),
        ("-", "syntax_error"),
        (")9 - 7(", "syntax_error"),
        ("(9 - 7 + 6", "syntax_error"),
        ("9 - 7) + 6", "syntax_error"),
        ("9 7 6", "syntax_error"),
        ("9 (7) 6", "syntax_error"),
        ("9 - 7 +", "syntax_error"),
        ("9**99**99", "syntax_error"),
        ("09 - 7 + 6", "syntax_error"),
        ("9 / (7 - 7) + 6", "operation_not_allowed"),
        ("1234567", "number_too_long"),
        ("(" * 10_000 + "9", "too_long"),
        ("(" * (MAX_DEPTH + 1) + "9" + ")" * (MAX_DEPTH + 1), "too_deep"),
        ("9 - 7 + 6 = 8", "bad_character"),
        ("9 \u2212 7 + 6", "bad_character"),
        ("\uff19 - 7 + 6", "bad_character"),
        ("\u0669 - 7 + 6", "bad_character"),
        ("9 - 7 + 6\n", "bad_character"),
        ("9 - 7 + 6\x00", "bad_character"),
        ("9 - 7 + 6 # 8", "bad_character"),
        ("9_0", "bad_character"),
        ("9.0 - 7 + 6", "bad_character"),
        ("__import__('os')", "bad_character"),
        (None, "not_text"),
        (["9 - 7 + 6"], "not_text"),
    ],
)
def test_expressions_are_judged_with_a_named_reason(text: object, reason: str) -> None:
    verdict = verify_expression(text, PROBLEM)
    assert (verdict.reason, verdict.correct) == (reason, reason == "correct")
    assert reason in REASONS


def test_division_is_exact_and_only_on_request() -> None:
    problem = Problem((3, 8, 8), 3)
    assert verify_expression("3 / 8 * 8", problem).reason == "operation_not_allowed"
    assert verify_expression("3 / 8 * 8", problem, "+-*/").correct
    assert verify_expression("8 / 3 + 8", problem, "+-*/").value == Fraction(32, 3)
    assert verify_expression("3 / (8 - 8)", problem, "+-*/").reason == "division_by_zero"
    steps = "8 / 8 = 1 , 3 * 1 = 3 answer"
    assert verify_completion(steps, problem).reason == "operation_not_allowed"
    assert verify_completion(steps, problem, "+-*/").correct


def test_operations_bind_as_in_arithmetic() -> None:
    rng = Random(0)
    for _ in range(3000):
        text = random_expression([str(rng.randint(1, 30)) for _ in range(rng.randint(1, 6))], rng)
        evaluation = evaluate_expression(text)
        try:
            expected = eval_with_fractions(text)
        except ZeroDivisionError:
            assert evaluation.reason == "division_by_zero"
        else:
            assert (evaluation.reason, evaluation.value) == ("ok", expected)


def eval_with_fractions(text: str) -> Fraction:
    """Python's own grammar as the oracle, on text that this file has written."""
    import ast

    def value(node: ast.expr) -> Fraction:
        if isinstance(node, ast.Constant):
            return Fraction(node.value)
        if isinstance(node, ast.UnaryOp):
            return -value(node.operand)
        assert isinstance(node, ast.BinOp)
        left, right = value(node.left), value(node.right)
        match node.op:
            case ast.Add():
                return left + right
            case ast.Sub():
                return left - right
            case ast.Mult():
                return left * right
            case _:
                return left / right

    return value(ast.parse(text, mode="eval").body)


def random_expression(terms: list[str], rng: Random, operations: str = "+-*/") -> str:
    """Join terms two at a time with random operations, parentheses and signs."""
    terms = terms[:]
    while len(terms) > 1:
        right = terms.pop(rng.randrange(len(terms)))
        left = terms.pop(rng.randrange(len(terms)))
        joined = f"{left} {rng.choice(operations)} {right}"
        terms.append(f"({joined})" if rng.random() < 0.7 else joined)
        if rng.random() < 0.1:
            terms[-1] = f"-{terms[-1]}"
    return terms[0]


def as_expression(attempt: Attempt) -> str:
    """Write a solution as one expression."""
    terms: list[tuple[int, str]] = []

    def take(value: int) -> str:
        for entry in terms:
            if entry[0] == value:
                terms.remove(entry)
                return entry[1]
        return str(value)

    for left, operation, right, result in attempt:
        terms.append((result, f"({take(left)} {operation} {take(right)})"))
    return terms[-1][1]


def test_each_solution_written_as_an_expression_is_right() -> None:
    for problem in [*generate_problems("test", 100, 0), *generate_problems("test", 60, 0, num_numbers=4)]:
        for attempt in solve(problem, "+-*/"):
            text = as_expression(attempt)
            # The words do not tell a given number from an equal value on the way, so that a text may use it twice.
            if Counter(evaluate_expression(text).numbers) == Counter(problem.numbers):
                assert verify_expression(text, problem, "+-*/").correct


def corruptions(text: str, rng: Random) -> list[str]:
    """Return variants of an expression: another number, operation, order or bracket, one too many or too few."""
    position = rng.randrange(len(text))
    digits = [i for i, character in enumerate(text) if character.isdigit()]
    signs = [i for i, character in enumerate(text) if character in "+-*/"]
    digit, sign = rng.choice(digits), rng.choice(signs)
    return [
        text[:digit] + rng.choice("123456789") + text[digit + 1 :],
        text[:digit] + text[digit] + text[digit:],
        text[:sign] + rng.choice("+-*/") + text[sign + 1 :],
        text[:position] + text[position + 1 :],
        text.replace("(", "").replace(")", ""),
        f"{text} {rng.choice('+-*/')} {rng.randint(1, 15)}",
        f"0 + {text}",
        f"-({text})",
        f"({text}",
        text[::-1].translate(str.maketrans("()", ")(")),
    ]


# What reasoning-gym 0.1.25 scores 1.0 and this verifier rejects, with the reason. It hands the text to sympy's
# `parse_expr`, which runs it as Python, looks for the numbers in the text only, and compares floats.
ACCEPTED_BY_SYMPY_ONLY = [
    ("2**3", (2, 3), 8, "syntax_error"),  # powers
    ("17//2", (2, 17), 8, "syntax_error"),  # floor division
    ("17 % 9", (9, 17), 8, "bad_character"),  # remainder
    ("3! + 2", (2, 3), 8, "bad_character"),  # factorial
    ("sqrt(9) + 5", (5, 9), 8, "bad_character"),  # functions
    ("x - x + 8", (8,), 8, "bad_character"),  # unknowns that cancel
    ("8 # 7", (7, 8), 8, "bad_character"),  # a number in a comment counts as used
    ("100*200/20.0", (0, 20, 100, 200), 1000, "bad_character"),  # 20.0 counts as 20 and 0
    ("9\t-1", (1, 9), 8, "bad_character"),  # white space other than spaces
    ("100000/100001*500", (500, 100000, 100001), 500, "wrong_value"),  # close in floats is not equal
]


def test_agrees_with_reasoning_gym_on_right_and_corrupted_answers_but_for_pinned_differences() -> None:
    countdown = pytest.importorskip("reasoning_gym.games.countdown")
    dataset = countdown.CountdownDataset(countdown.CountdownConfig(seed=0, size=40))
    rng = Random(0)
    answers: list[tuple[str, Problem]] = []
    for entry in dataset:
        numbers, target = entry["metadata"]["numbers"], entry["metadata"]["target"]
        problem = Problem(tuple(sorted(numbers)), target)
        variants = [v for _ in range(2) for v in corruptions(entry["answer"], rng)]
        answers += [(text, problem) for text in [entry["answer"], *variants]]
    for num_numbers in (3, 4):
        for problem in generate_problems("test", 430, 0, num_numbers):
            right = as_expression(rng.choice(solve(problem)))
            guess = random_expression(list(map(str, problem.numbers)), rng)
            answers += [(text, problem) for text in [right, *corruptions(right, rng), guess]]
    # A doubled sign of the corrupted texts makes a power or a floor division: see the list of differences.
    answers = [(text, problem) for text, problem in answers if "**" not in text and "//" not in text]
    assert len(answers) >= 10_000
    counts: Counter[bool] = Counter()
    for text, problem in answers:
        ours = verify_expression(text, problem, "+-*/").correct
        entry = {"metadata": {"numbers": list(problem.numbers), "target": problem.target}}
        assert ours == (dataset.score_answer(text, entry) == 1.0), (text, problem)
        counts[ours] += 1
    assert min(counts.values()) > 1500
    for text, given, target, reason in ACCEPTED_BY_SYMPY_ONLY:
        assert dataset.score_answer(text, {"metadata": {"numbers": list(given), "target": target}}) == 1.0
        assert verify_expression(text, Problem(given, target), "+-*/").reason == reason


HOSTILE = [
    "9**99**99",
    "9" * 1_000_000,
    "(" * 1_000_000,
    "9 - " * 250_000,
    "answer " * 140_000,
    "\x00" * 1_000_000,
    "(" * 10_000 + "9" + ")" * 10_000,
    "-" * 200 + "9",
    "\ud800",
    "9 - 7 = 2\x00 answer",
    "\u0663 + \uff15 = \uff18 answer",
    "1e999",
    "back " * 3000,
    "back 6 7 9 target 8 : " * 800,
    "9 - 7 = 2 back 6 7 9 target 8 : " * 600,
    " ".join(["6 + 7 = 13 ,"] * 1400),
    "9" * MAX_DIGITS + "*999999" * 30,
]


def test_two_hundred_thousand_hostile_inputs_are_judged_and_none_raises() -> None:
    rng = Random(0)
    problems = [*generate_problems("test", 40, 0), *generate_problems("test", 40, 0, num_numbers=4)]
    condition = TraceCondition(True, True, True, True, restart_probability=0.3)
    written = [render_trace(write_trace(problem, condition, rng), problem).split() for problem in problems]
    characters = "0123456789+-*/() =.,\u0663\uff15\xb2\u2167\xbd\x00\x1c\u200b\ud800éx"
    reasons: Counter[str] = Counter()

    def judge(text: object, problem: Problem) -> None:
        measured = measure_completion(text, problem, False)  # type: ignore[arg-type]
        expression = verify_expression(text, problem, "+-*/")
        assert measured["reason"] in REASONS and expression.reason in REASONS
        assert expression.correct == (expression.reason == "correct")
        reasons.update((measured["reason"], expression.reason))

    count = 0
    for text in [*HOSTILE, None, 8, b"8", ["8"], float("nan")]:
        for problem in problems[:2]:
            judge(text, problem)
            count += 1
    while count < 200_000:
        index = rng.randrange(len(problems))
        problem, words = problems[index], written[index]
        kind = count % 4
        if kind == 0:  # any characters
            text = "".join(rng.choices(characters, k=rng.randrange(24)))
        elif kind == 1:  # any words of the vocabulary
            text = " ".join(rng.choices(VOCABULARY, k=rng.randrange(16)))
        elif kind == 2:  # a written trace with one word changed, cut short
            place = rng.randrange(len(words))
            text = " ".join([*words[:place], rng.choice(VOCABULARY), *words[place + 1 : place + 8]])
        else:  # what expressions are made of, in any order
            text = "".join(rng.choices([*map(str, problem.numbers), *"+-*/()"], k=rng.randrange(16)))
        judge(text, problem)
        count += 1
    assert reasons.keys() >= {
        "correct",
        "wrong_value",
        "division_by_zero",
        "too_long",
        "not_text",
        "unknown_word",
    }


def count_lines(function: Callable[..., Any], *arguments: Any) -> int:
    """Return how many lines of Python a call executes."""
    lines = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function(*arguments)
    finally:
        sys.settrace(before)
    return lines


PATTERNS = [
    "9",
    "(",
    "()",
    "9+",
    "9*(",
    "-",
    "(9-",
    "9/",
    " ",
    ". ",
    "answer ",
    "9 - 7 = 2 , ",
    "9 - 7 = 2 back 6 7 9 target 8 : ",
    "9 - 7 = 2 , 6 * 2 = 12 check 8 no back 2 6 target 8 : ",
    "6 + 7 = 13 back ",
    "1 ",
    "need 8 - 6 = 2 , aim 2 , ",
]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("judge", [verify_expression, verify_completion, parse_trace, measure_completion])
def test_work_grows_no_faster_than_a_bounded_text(pattern: str, judge: Callable[..., Any]) -> None:
    arguments = (PROBLEM, False) if judge is measure_completion else (PROBLEM,)
    limit = MAX_LENGTH if judge is verify_expression else 20_000
    judge(pattern, *arguments)  # fills caches
    sizes = [limit // 8, limit // 4, limit // 2, limit]
    work = [count_lines(judge, (pattern * limit)[:size], *arguments) for size in sizes]
    for size, lines in zip(sizes, work, strict=True):
        assert lines <= 40 * size + 200
    for half, whole in pairwise(work):
        assert whole <= 2.1 * half + 200
    assert count_lines(judge, pattern * 1_000_000, *arguments) <= 100


def test_numbers_in_an_expression_stay_of_bounded_size() -> None:
    text = ("*" + "9" * MAX_DIGITS) * (MAX_LENGTH // (MAX_DIGITS + 1))
    value = evaluate_expression(text[1:]).value
    assert value is not None and value < 10**MAX_LENGTH
