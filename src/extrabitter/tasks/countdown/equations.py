"""Equations and numbers that free text states: "3 × 7 = 21", "5 plus 9 is 14", "adding the 17 yields 38".

The text is a model's, so it is hostile: it is read once, up to MAX_CHARACTERS, by patterns that repeat within bounds,
and what is computed goes through `arithmetic`, which is exact and bounded. Nothing here raises on text.

Left out: powers, roots, percentages, decimals, and numbers in words below eleven ("two of our numbers" states
no 2) but for those that are plainly operands ("six sevens", "plus three").
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from itertools import islice
from typing import NamedTuple

from extrabitter.tasks.countdown.arithmetic import (
    NUMBER_WORDS,
    NUMBERS,
    PHRASES,
    SIGNS,
    compile_phrase,
    compile_phrases,
    evaluate_expression,
    number_in_words,
)
from extrabitter.tasks.free_text import MAX_CHARACTERS

MAX_EQUATIONS = 500
MAX_MENTIONS = 1_000


class Equation(NamedTuple):
    """A computation as written: `numbers` and `operations` of its left side, the value that has, the one stated.

    `value` is None where the left side has none (a division by zero), `stated` where no result is written.
    `result_first`: written as "24 = 3 * 8".
    """

    start: int
    end: int
    numbers: tuple[int, ...]
    operations: str
    value: Fraction | None
    stated: Fraction | None = None
    result_first: bool = False

    @property
    def result(self) -> Fraction | None:
        """Return what the writer goes on with: the stated result, else the value."""
        return self.value if self.stated is None else self.stated

    @property
    def key(self) -> tuple[tuple[int, ...], str, Fraction | None]:
        """Return what two ways of writing one computation share."""
        return tuple(sorted(self.numbers)), "".join(sorted(self.operations)), self.value


_NOTHING = Equation(0, 0, (), "", None)


class Mention(NamedTuple):
    """A number that stands outside equations."""

    start: int
    end: int
    value: int


class Statements(NamedTuple):
    """What was read: `text` is as long as the original, lower-case, with plain operators."""

    text: str
    equations: tuple[Equation, ...]
    mentions: tuple[Mention, ...]


_SIGNS = str.maketrans({**SIGNS, "$": " "})
_REPLACEMENTS: dict[str, Callable[[re.Match[str]], str]] = {
    "product": lambda match: f"{NUMBER_WORDS.get(match[1], match[1])} * {NUMBERS['plurals'][match[2]]}",
    "hundred": lambda match: str(100 + (number_in_words(match[1]) if match[1] else 0)),
    "operand": lambda match: f"{match[1]}{NUMBER_WORDS[match[2]]}",
    "number": lambda match: str(number_in_words(match[0])),
    "infix": lambda match: f" {PHRASES['infix'][match[1]]} ",
    "arrow": lambda match: match[1] + match[2].replace("x", "*"),
}
# What is rewritten before equations are looked for, each to at most its own length, so that places stay.
_REWRITES = [
    (compile_phrase(old, flags=re.MULTILINE), _REPLACEMENTS.get(new, new))
    for old, new in PHRASES["statements"]
]

# Rewriting leaves runs of spaces, hence the generous bounds.
_OPERAND = r"(?:\( {0,8}){0,8}\d{1,6}(?![\d.]*\d)(?: {0,8}\)){0,8}"
_EXPRESSION = re.compile(rf"(?<![\d.,]){_OPERAND}(?: {{0,40}}[-+*/] {{0,40}}{_OPERAND}){{0,12}}")
_EQUALS = re.compile(r" {0,16}(?:={1,3}|->|=>|→|⇒|≈) {0,16}")
_PATTERNS = compile_phrases("equations")
_LINK, _NO_WORDS, _RUNNING = (_PATTERNS[name] for name in ("link", "no_words", "running"))
_RUNNING_SIGN = {**dict.fromkeys("pa", "+"), **dict.fromkeys("mstlk", "-"), "d": "/"}  # by first letter
_NUMBER = re.compile(r"(?<![\d.])\d{1,6}(?![\d.]*\d)")


def normalise(text: str) -> str:
    """Return the first MAX_CHARACTERS in lower case with plain operators, every place where it was.

    >>> normalise(r"$3 \\times 7$ is twenty-one")
    ' 3 *      7  is 21        '
    """
    text = text[:MAX_CHARACTERS].translate(_SIGNS)
    # Lower-casing may lengthen a letter, such as a dotted capital i.
    text = "".join(letter if len(lower := letter.lower()) != 1 else lower for letter in text)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(lambda match, r=replacement: _padded(match, r), text)  # type: ignore[misc]
    return text


def _padded(match: re.Match[str], replacement: str | Callable[[re.Match[str]], str]) -> str:
    new = replacement(match) if callable(replacement) else match.expand(replacement)
    # What would not fit stays as it is: a place in the text must not move.
    return new.ljust(len(match[0])) if len(new) <= len(match[0]) else match[0]


def read_statements(text: str) -> Statements:
    """Read the equations that a text states, and the numbers outside them.

    >>> [(e.numbers, e.operations, e.stated) for e in read_statements("3 * 15 = 45 + 18 = 63").equations]
    [((3, 15), '*', Fraction(45, 1)), ((45, 18), '+', Fraction(63, 1))]
    """
    plain = normalise(text)
    equations: list[Equation] = []
    chain: list[Equation] = []
    for match in _EXPRESSION.finditer(plain):
        side = _read_side(match)
        if chain and not _joins(plain, chain[-1], side):
            equations += _read_chain(plain, chain)
            chain = []
            if len(equations) >= MAX_EQUATIONS:
                break
        chain.append(side)
    equations += _read_chain(plain, chain)
    _add_running(plain, equations)
    covered = bytearray(len(plain))
    for equation in equations:
        covered[equation.start : equation.end] = bytes([1]) * (equation.end - equation.start)
    numbers = (match for match in _NUMBER.finditer(plain) if not covered[match.start()])
    mentions = tuple(Mention(*match.span(), int(match[0])) for match in islice(numbers, MAX_MENTIONS))
    return Statements(plain, tuple(equations), mentions)


def _read_chain(plain: str, sides: list[Equation]) -> list[Equation]:
    """Read sides that equality signs or words join: expressions, perhaps one number alone, that state nothing."""
    found: list[Equation] = []
    around = zip([None, *sides], sides, [*sides[1:], None], strict=False)
    for number, (before, side, behind) in enumerate(around):
        if not side.operations:
            # "24 = 3 * 8": the side without operations stands in front.
            if before is None and behind and behind.operations:
                # "42, that's 3 times 14" names 42 before it computes it: a mention, and an equation.
                is_signed = _EQUALS.fullmatch(plain, side.end, behind.start)
                begin = side.start if is_signed else behind.start
                found.append(behind._replace(start=begin, stated=side.value, result_first=True))
        elif number == 1 and behind is None and found and found[0].result_first:
            continue
        elif before and before.operations and before.value == side.value is not None:
            # "6 * 6 + 10 = 36 + 10 = 46" is one computation, written out.
            found[-1] = found[-1]._replace(end=(behind or side).end)
        else:
            end, stated = (behind.end, behind.value) if behind else (side.end, None)
            # A run-on line, "3 * 15 = 45 + 18 = 63", goes on from the result.
            if behind and behind.operations and behind.value != side.value:
                end, stated = behind.start + len(str(behind.numbers[0])), Fraction(behind.numbers[0])
            found.append(side._replace(end=end, stated=stated))
    return found


def _joins(plain: str, left: Equation, right: Equation) -> bool:
    gap = plain[left.end : right.start]
    if _EQUALS.fullmatch(gap):
        return True
    if not left.operations and not right.operations:
        return False  # "6 is 7": no computation
    if _LINK.fullmatch(gap):
        return True
    matches = left.operations and not right.operations and left.value == right.value
    return bool(matches and _NO_WORDS.fullmatch(gap) and "." not in gap.strip(" ."))


def _read_side(match: re.Match[str]) -> Equation:
    """Read an expression; parentheses that do not close are dropped."""
    text = match[0] if match[0].count("(") == match[0].count(")") else re.sub(r"[()]", " ", match[0])
    evaluation = evaluate_expression(text)
    numbers = evaluation.numbers or tuple(int(number) for number in re.findall(r"\d+", text))
    return Equation(*match.span(), numbers, re.sub(r"[^-+*/]", "", text), evaluation.value)


def _add_running(plain: str, equations: list[Equation]) -> None:
    """Add steps that go on from the value reached last: "adding the 17 yields 38", "minus 9, 39"."""
    added: list[Equation] = []
    for match in _RUNNING.finditer(plain):
        inside = any(e.start <= match.start() < e.end for e in equations)
        if inside or len(added) + len(equations) >= MAX_EQUATIONS:
            continue
        before = (e for e in (*equations, *added) if e.end <= match.start() + 4)
        reached = max(before, key=lambda equation: equation.end, default=_NOTHING).result
        result = _NUMBER.search(plain, match.end(), match.end() + 40)
        if reached is None or result is None or reached.denominator != 1 or reached < 0:
            continue
        numbers = (int(reached), int(match[2] or match[3]))
        sign = "*" if match[0].startswith(("times", "mult")) else _RUNNING_SIGN[match[0][0]]
        value = evaluate_expression(f"{numbers[0]}{sign}{numbers[1]}").value
        gap = plain[match.end() : result.start()]
        stated = Fraction(int(result[0]))
        is_right = value == stated
        # "and 8 is 50" is a step only if it is right: "and" says nothing of adding.
        is_linked = _LINK.fullmatch(gap) or _EQUALS.fullmatch(gap)
        if (is_right and _NO_WORDS.fullmatch(gap)) or ((is_right or match[2]) and is_linked):
            added.append(Equation(match.start(), result.end(), numbers, sign, value, stated))
    # A lone expression that a running step goes on from was a side of no equation, and stays.
    equations[:] = sorted([*equations, *added], key=lambda equation: (equation.start, equation.end))
