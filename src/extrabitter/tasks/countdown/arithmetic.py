"""A parser and evaluator for arithmetic written by a model: exact, bounded, and never raising.

What a model writes is hostile input: with `eval`, or sympy's `parse_expr`, the given numbers 9, 99, 99 allow
`9**99**99`, which hangs a trainer. Here an expression is ASCII digits, `+ - * /`, parentheses and spaces, read once
from left to right with two explicit stacks (E. W. Dijkstra's shunting yard, MR 34/61, 1961), in `fractions.Fraction`.
Length, nesting and digits are bounded, so that time and memory are. A sign in front of a number or parenthesis is read
(`-7 + 15`): with a positive target it reaches nothing that subtraction does not.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

MAX_LENGTH = 256  # characters; the longest expression on six numbers of three digits has about 40
MAX_DEPTH = 16  # open parentheses
MAX_DIGITS = 6  # digits of one number

REASONS = {
    "ok": "a value was found",
    "not_text": "the answer is not a string",
    "empty": "nothing but spaces",
    "too_long": f"over {MAX_LENGTH} characters",
    "bad_character": "a character other than ASCII digits, + - * / ( ) and space",
    "number_too_long": f"a number of more than {MAX_DIGITS} digits",
    "too_deep": f"over {MAX_DEPTH} open parentheses",
    "syntax_error": "numbers, operations and parentheses in no order that makes an expression",
    "division_by_zero": "a division by zero",
    "operation_not_allowed": "an operation that the task does not have",
}

_TOKEN = re.compile(r"[0-9]+|[^ ]")
_NEGATE = "~"  # a minus sign in front of an operand, on the stack
_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2, _NEGATE: 3}


class Evaluation(NamedTuple):
    """What an expression comes to: `value` is None unless `reason` is "ok"; `numbers` as they appear."""

    reason: str
    value: Fraction | None = None
    numbers: tuple[int, ...] = ()


class _Wrong(Exception):
    """The expression has no value, for the reason given; caught inside `evaluate_expression`."""


def evaluate_expression(text: object, operations: str = "+-*/") -> Evaluation:
    """Evaluate an arithmetic expression exactly.

    >>> evaluate_expression("(9 - 7) + 6 / 4").value
    Fraction(7, 2)
    >>> evaluate_expression("9**99**99").reason
    'syntax_error'
    """
    if not isinstance(text, str):
        return Evaluation("not_text")
    if len(text) > MAX_LENGTH:
        return Evaluation("too_long")
    numbers: list[int] = []
    try:
        value = _evaluate(_TOKEN.findall(text), numbers, operations)
    except _Wrong as error:
        return Evaluation(str(error))
    return Evaluation("ok", value, tuple(numbers))


def _evaluate(tokens: list[str], numbers: list[int], operations: str) -> Fraction:
    values: list[Fraction] = []
    pending: list[str] = []  # operations and open parentheses not yet applied
    depth = 0
    operand_expected = True
    for token in tokens:
        if token[0] in "0123456789":
            if not operand_expected or (token[0] == "0" and len(token) > 1):
                raise _Wrong("syntax_error")
            if len(token) > MAX_DIGITS:
                raise _Wrong("number_too_long")
            numbers.append(int(token))
            values.append(Fraction(numbers[-1]))
            operand_expected = False
        elif token == "(":
            if not operand_expected:
                raise _Wrong("syntax_error")
            depth += 1
            if depth > MAX_DEPTH:
                raise _Wrong("too_deep")
            pending.append(token)
        elif token == ")":
            if operand_expected or depth == 0:
                raise _Wrong("syntax_error")
            while pending[-1] != "(":
                _apply(pending.pop(), values)
            pending.pop()
            depth -= 1
        elif token not in "+-*/":
            raise _Wrong("bad_character")
        elif operand_expected:
            if token in "*/":
                raise _Wrong("syntax_error")
            if token == "-":
                pending.append(_NEGATE)
        else:
            if token not in operations:
                raise _Wrong("operation_not_allowed")
            while pending and pending[-1] != "(" and _PRECEDENCE[pending[-1]] >= _PRECEDENCE[token]:
                _apply(pending.pop(), values)
            pending.append(token)
            operand_expected = True
    if operand_expected or depth:
        raise _Wrong("syntax_error" if tokens else "empty")
    while pending:
        _apply(pending.pop(), values)
    return values[0]


def _apply(operation: str, values: list[Fraction]) -> None:
    """Replace the last values by what the operation makes of them."""
    right = values.pop()
    left = Fraction(0) if operation == _NEGATE else values.pop()
    if operation == "+":
        values.append(left + right)
    elif operation == "*":
        values.append(left * right)
    elif operation == "/":
        if right == 0:
            raise _Wrong("division_by_zero")
        values.append(left / right)
    else:
        values.append(left - right)
