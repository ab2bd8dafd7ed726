"""Arithmetic as models write it: an exact and bounded evaluator, the table of spellings, the reader of whole answers.

What a model writes is hostile input: with `eval`, or sympy's `parse_expr`, the given numbers 9, 99, 99 allow
`9**99**99`, which hangs a trainer. Here an expression is ASCII digits, `+ - * /`, parentheses and spaces; Python's own
grammar makes a tree of it, of which only these four operations and signs are carried out, in `fractions.Fraction`.
Length, nesting and digits are bounded, so that time and memory are. A sign in front of a number or parenthesis is read
(`-7 + 15`): with a positive target it reaches nothing that subtraction does not.

What is handed in, in any spelling of one table of signs, words and LaTeX, is an answer only if *all* of it is read:
`expression [= value]`, or a chain of sides that are equal. Nothing in front of it or behind it is passed over but a
full stop, a check mark, and marks that close (bold, quotes, mathematics). So "3 * 8 + 9, - 5", "9!", "The expression is
3 * 8 + 9" and a line of arithmetic below the answer are no answers.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import yaml

MAX_LENGTH = 256  # characters; the longest expression on six numbers of three digits has about 40
MAX_DEPTH = 16  # open parentheses
MAX_DIGITS = 6  # digits of one number

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


def evaluate_expression(text: str) -> Evaluation:
    """Evaluate an arithmetic expression exactly.

    >>> evaluate_expression("(9 - 7) + 6 / 4").value
    Fraction(7, 2)
    >>> evaluate_expression("9**99**99").reason
    'syntax_error'
    """
    if len(text) > MAX_LENGTH:
        return Evaluation("too_long")
    if _FOREIGN.search(text):
        return Evaluation("bad_character")
    numbers = _NUMBER.findall(text)
    if any(number != "0" and number.startswith("0") for number in numbers):  # Python reads 00, but not 07
        return Evaluation("syntax_error")
    if max(map(len, numbers), default=0) > MAX_DIGITS:
        return Evaluation("number_too_long")
    depths = accumulate((character == "(") - (character == ")") for character in text)
    if max(depths, default=0) > MAX_DEPTH:
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


# Spellings.

PHRASES: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "phrases.yaml").read_text(encoding="utf-8"))
SIGNS = {each: sign for sign, others in PHRASES["signs"].items() for each in others}
NUMBERS: dict[str, dict[str, int]] = PHRASES["numbers"]
NUMBER_WORDS = NUMBERS["small"] | NUMBERS["teens"] | NUMBERS["tens"]
# What stands for a name in a pattern; units are what may follow tens.
KNOWN = {name: "|".join(words) for name, words in {**NUMBERS, "infix": PHRASES["infix"]}.items()}
KNOWN["units"] = "|".join(word for word, value in NUMBERS["small"].items() if value < 10)


def compile_phrase(lines: str, known: Mapping[str, str] = KNOWN, flags: int = 0) -> re.Pattern[str]:
    """Compile a pattern of `phrases.yaml`: its lines joined, and each @name@ replaced by what is known under it."""
    joined = "".join(lines.splitlines())
    return re.compile(re.sub(r"@(\w+)@", lambda match: known[match[1]], joined), flags)


def compile_phrases(section: str) -> dict[str, re.Pattern[str]]:
    """Compile a section's patterns by name; each is known to those below it."""
    found: dict[str, re.Pattern[str]] = {}
    for name, lines in PHRASES[section].items():
        above = {each: pattern.pattern for each, pattern in found.items()}
        found[name] = compile_phrase(lines, {**KNOWN, **above})
    return found


def number_in_words(text: str) -> int:
    """Return the number that words such as "twenty-one" name."""
    return sum(NUMBER_WORDS[word] for word in re.split("[- ]", text))


MAX_SIDES = 8
MAX_GROUPS = 16  # levels of LaTeX groups
MAX_READ = 2_000  # characters

_ANSWER_SIGNS = str.maketrans(
    {
        **SIGNS,
        **{each: sign for sign, others in PHRASES["answer_signs"].items() for each in others},
        **{chr(0xFF10 + digit): str(digit) for digit in range(10)},
        **{chr(0x1D7CE + place): str(place % 10) for place in range(50)},
    }
)
_GROUP = compile_phrase(PHRASES["groups"]["any"])
_NUMBER_WORD = compile_phrase(r"\b(?:(?:@tens@)(?:[- ](?:@units@))?|@teens@|@small@)\b")
_BEFORE_GROUPS = [(compile_phrase(old), new) for old, new in PHRASES["groups"]["before"]]
_BEHIND_GROUPS = [(compile_phrase(old), new) for old, new in PHRASES["answer"]]
_QUOTES = " \"'“”‘’"  # noqa: RUF001


def read_answer(text: str) -> tuple[str, str]:
    """Read all of what is handed in; return the expression in plain signs, and "ok" or why there is none.

    >>> read_answer(r"$\\frac{\\frac{12}{2}}{3}$ = 2.")
    ('((((12)/(2)))/(3))', 'ok')
    >>> read_answer("3 * 8 + 9, - 5")
    ('', 'bad_character')
    """
    if len(text) > MAX_READ:
        return "", "too_long"
    *front, last = _plain(text).split("=")
    sides = [*map(_bare, front), _bare(last, full_stop=True)]
    if len(sides) > MAX_SIDES:
        return "", "too_long"
    values = set[Fraction | None]()
    for side in sides:
        reason, value, _ = evaluate_expression(side)
        if reason != "ok":
            return "", "syntax_error" if reason == "empty" and len(sides) > 1 else reason
        values.add(value)
    if len(values) > 1:
        return "", "wrong_arithmetic"
    return next((side for side in sides if re.search(r"[-+*/]", side)), sides[0]), "ok"


def _plain(text: str) -> str:
    """Return an answer in plain signs; what the table does not know is left as it is, and is no arithmetic."""
    # Runs of spaces would make patterns slow.
    text = _bare(" ".join(text.translate(_ANSWER_SIGNS).lower().split()))
    for pattern, replacement in _BEFORE_GROUPS:
        text = pattern.sub(replacement, text)
    for _ in range(MAX_GROUPS):
        text, count = _GROUP.subn(_open_group, text)
        if not count:
            break
    text = _NUMBER_WORD.sub(lambda match: str(number_in_words(match[0])), text)
    for pattern, replacement in _BEHIND_GROUPS:
        text = pattern.sub(replacement, text)
    return text


def _open_group(match: re.Match[str]) -> str:
    if match["top"] is not None:
        return f"(({match['top']})/({match['bottom']}))"
    return f" {match['inner'] if match['inner'] is not None else match['number']} "


def _bare(text: str, full_stop: bool = False) -> str:
    """Take off marks that close, and one full stop behind all."""
    for _ in range(4):
        text = text.strip(_QUOTES)
        if full_stop and text.endswith("."):
            text, full_stop = text[:-1], False
        text = text.removesuffix("**").removesuffix("__").removeprefix("**").removeprefix("__")
    return text.strip(_QUOTES)
