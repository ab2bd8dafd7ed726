"""A parser and evaluator for arithmetic written by a model: exact, bounded, and never raising.

What a model writes is hostile input: with `eval`, or sympy's `parse_expr`, the given numbers 9, 99, 99 allow
`9**99**99`, which hangs a trainer. Here an expression is ASCII digits, `+ - * /`, parentheses and spaces,
read once from left to right with two explicit stacks (E. W. Dijkstra's shunting yard, MR 34/61, 1961), in
`fractions.Fraction`. Length, nesting and digits are bounded, so that time and memory are. A sign
in front of a number or parenthesis is read (`-7 + 15`): with a positive target it reaches nothing that
subtraction does not.
"""

from __future__ import annotations

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

_NEGATE = "~"  # a minus sign in front of an operand, on the stack
_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2, _NEGATE: 3}
_OPERATIONS = frozenset("+-*/")
_DIGITS = frozenset("0123456789")


class Evaluation(NamedTuple):
    """What an expression comes to: `value` is None unless `reason` is "ok"; `numbers` as they appear."""

    reason: str
    value: Fraction | None = None
    numbers: tuple[int, ...] = ()


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
    values: list[Fraction] = []
    pending: list[str] = []  # operations and open parentheses not yet applied
    numbers: list[int] = []
    depth = 0
    operand_expected = True
    position = 0
    while position < len(text):
        character = text[position]
        if character == " ":
            position += 1
            continue
        if character in _DIGITS:
            end = position + 1
            while end < len(text) and text[end] in _DIGITS:
                end += 1
            if not operand_expected or (character == "0" and end - position > 1):
                return Evaluation("syntax_error")
            if end - position > MAX_DIGITS:
                return Evaluation("number_too_long")
            numbers.append(int(text[position:end]))
            values.append(Fraction(numbers[-1]))
            operand_expected = False
            position = end
            continue
        position += 1
        if character == "(":
            if not operand_expected:
                return Evaluation("syntax_error")
            depth += 1
            if depth > MAX_DEPTH:
                return Evaluation("too_deep")
            pending.append(character)
        elif character == ")":
            if operand_expected or depth == 0:
                return Evaluation("syntax_error")
            while pending[-1] != "(":
                if not _apply(pending.pop(), values):
                    return Evaluation("division_by_zero")
            pending.pop()
            depth -= 1
        elif character in _OPERATIONS:
            if operand_expected:
                if character in "*/":
                    return Evaluation("syntax_error")
                if character == "-":
                    pending.append(_NEGATE)
                continue
            if character not in operations:
                return Evaluation("operation_not_allowed")
            while pending and pending[-1] != "(" and _PRECEDENCE[pending[-1]] >= _PRECEDENCE[character]:
                if not _apply(pending.pop(), values):
                    return Evaluation("division_by_zero")
            pending.append(character)
            operand_expected = True
        else:
            return Evaluation("bad_character")
    if not numbers:
        return Evaluation("syntax_error" if pending else "empty")
    if operand_expected or depth:
        return Evaluation("syntax_error")
    while pending:
        if not _apply(pending.pop(), values):
            return Evaluation("division_by_zero")
    return Evaluation("ok", values[0], tuple(numbers))


def _apply(operation: str, values: list[Fraction]) -> bool:
    """Replace the last values by what the operation makes of them; False for a division by zero."""
    right = values.pop()
    if operation == _NEGATE:
        values.append(-right)
        return True
    left = values.pop()
    if operation == "+":
        values.append(left + right)
    elif operation == "-":
        values.append(left - right)
    elif operation == "*":
        values.append(left * right)
    elif right == 0:
        return False
    else:
        values.append(left / right)
    return True
