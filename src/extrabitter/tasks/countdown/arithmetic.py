"""An evaluator of arithmetic written by a model: exact, bounded, and never raising.

What a model writes is hostile input: with `eval`, or sympy's `parse_expr`, the given numbers 9, 99, 99 allow
`9**99**99`, which hangs a trainer. Here an expression is ASCII digits, `+ - * /`, parentheses and spaces; Python's own
grammar makes a tree of it, of which only these four operations and signs are carried out, in `fractions.Fraction`.
Length, nesting and digits are bounded, so that time and memory are. A sign in front of a number or parenthesis is read
(`-7 + 15`): with a positive target it reaches nothing that subtraction does not.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
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
}

_FOREIGN = re.compile(r"[^0-9+\-*/() ]")
_NUMBER = re.compile(r"[0-9]+")
_CARRY_OUT: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    **{ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
}


class Evaluation(NamedTuple):
    """What an expression comes to: `value` is None unless `reason` is "ok"; `numbers` as they appear."""

    reason: str
    value: Fraction | None = None
    numbers: tuple[int, ...] = ()


def evaluate_expression(text: object) -> Evaluation:
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
    if _FOREIGN.search(text):
        return Evaluation("bad_character")
    numbers = _NUMBER.findall(text)
    if any(number != "0" and number.startswith("0") for number in numbers):  # Python reads 00, but not 07
        return Evaluation("syntax_error")
    if max(map(len, numbers), default=0) > MAX_DIGITS:
        return Evaluation("number_too_long")
    depth = deepest = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH:
        return Evaluation("too_deep")
    try:
        value = _value(ast.parse(text.strip(" "), mode="eval").body)
    except SyntaxError:
        return Evaluation("syntax_error" if text.strip(" ") else "empty")
    except ZeroDivisionError:
        return Evaluation("division_by_zero")
    return Evaluation("ok", value, tuple(map(int, numbers)))


def _value(node: ast.expr) -> Fraction:
    if isinstance(node, ast.Constant):
        return Fraction(node.value)  # type: ignore[arg-type]  # digits only
    if isinstance(node, ast.UnaryOp):
        value = _value(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if not isinstance(node, ast.BinOp) or type(node.op) not in _CARRY_OUT:  # a call, a tuple, a power
        raise SyntaxError
    return _CARRY_OUT[type(node.op)](_value(node.left), _value(node.right))
