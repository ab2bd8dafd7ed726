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
from typing import NamedTuple

from extrabitter.tasks.countdown.arithmetic import (
    SIGNS,
    SMALL_NUMBERS,
    TEENS,
    TENS,
    UNITS,
    evaluate_expression,
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
    stated: Fraction | None
    result_first: bool = False

    @property
    def result(self) -> Fraction | None:
        """Return what the writer goes on with: the stated result, else the value."""
        return self.value if self.stated is None else self.stated

    @property
    def key(self) -> tuple[tuple[int, ...], str, Fraction | None]:
        """Return what two ways of writing one computation share."""
        return tuple(sorted(self.numbers)), "".join(sorted(self.operations)), self.value


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
_INFIX = {
    **{"plus": "+", "added to": "+", "add": "+", "minus": "-", "less": "-", "take away": "-", "take off": "-"},
    **{"times": "*", "multiplied by": "*", "multiply": "*", "divided by": "/", "over": "/"},
}
# "six sevens", "nine twelves", "three tens": a product, its second factor in the plural
_PLURALS = {
    **{f"{word}s": value for word, value in {**SMALL_NUMBERS, **TEENS}.items() if word != "six"},
    **{"sixes": 6, "twenties": 20, "thirties": 30, "forties": 40, "fifties": 50},
}


def _number_word(match: re.Match[str]) -> str:
    return str(TEENS.get(match[0]) or TENS[match[1]] + UNITS.get(match[2] or "", 0))


def _hundred(match: re.Match[str]) -> str:
    tens, unit = [*re.split("[- ]", match[1] or ""), ""][:2]
    return str(100 + ({**TENS, **TEENS, **SMALL_NUMBERS}.get(tens, 0)) + UNITS.get(unit, 0))


def _product(match: re.Match[str]) -> str:
    factor = match[1] if match[1].isdigit() else str({**SMALL_NUMBERS, **TEENS}[match[1]])
    return f"{factor} * {_PLURALS[match[2]]}"


def _small_operand(match: re.Match[str]) -> str:
    return f"{match[1]}{SMALL_NUMBERS[match[2]]}"


_ANY_TENS, _ANY_TEENS, _ANY_UNIT, _ANY_SMALL = map("|".join, (TENS, TEENS, UNITS, SMALL_NUMBERS))
# What is rewritten before equations are looked for, each to at most its own length, so that places stay.
_REWRITES: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = tuple(
    (re.compile(pattern, re.MULTILINE), replacement)
    for pattern, replacement in (
        (r"\\frac\{([^{}]{1,40})\}\{([^{}]{1,40})\}", r"(\1)/(\2)"),
        (r"\\(?:times|cdot)(?![a-z])", "*"),
        (r"\\div(?![a-z])", "/"),
        (r"\\neq?(?![a-z])", "≠"),
        (r"\\checkmark(?![a-z])", "✓"),
        (r"&(?==)|(?<==)&|\\(?:left|right)(?![a-z])", ""),  # columns of aligned equations
        (r"\\(?:boxed|text|textbf|emph|mathbf)\{|\\[()\[\],;! ]|[{}`]", ""),
        (r"(?<!\d)\*\*|\*\*(?!\d)", ""),  # bold; between digits it is a power, which no equation has
        (r"^ *(?:[-*•>]|\d{1,2}[.)]) (?=.{2})", ""),  # marks of a list
        (r"(?<=[\d)]) ?x ?(?=[\d(])", "*"),
        (rf"\b(\d{{1,3}}|{_ANY_SMALL}|{_ANY_TEENS}) ({'|'.join(_PLURALS)})\b", _product),
        (  # "two hundred" is no hundred
            r"(?<!\d )(?<!two )(?<!three )(?<!four )(?<!five )(?<!six )(?<!seven )(?<!eight )(?<!nine )"
            rf"\b(?:(?:an?|one) )?hundred(?: and)?"
            rf"(?: ((?:{_ANY_TENS})(?:[- ](?:{_ANY_UNIT}))?|{_ANY_TEENS}|{_ANY_SMALL}))?\b",
            _hundred,
        ),
        (rf"\b((?:plus|minus|less|times|add|subtract|by) )({_ANY_SMALL})\b", _small_operand),
        (rf"\b(?:{_ANY_TEENS})\b", _number_word),
        (rf"\b({_ANY_TENS})(?:[- ]({_ANY_UNIT}))?\b", _number_word),
        (rf"(?<=[\d)]) ({'|'.join(_INFIX)}) (?:the |my )?(?=[\d(])", lambda match: f" {_INFIX[match[1]]} "),
        (
            r"(?<![\d.])(?<!is )(?<!are )(?<!make )(?<!makes )(?<!= )(\d{1,6}) and "
            r"(?=\d{1,6}(?: and \d{1,6}){0,4} (?:make|is|are|give|equal|come|total|add))",
            r"\1 + ",
        ),
        # "multiply 4 and 9", "the sum of 3 and 8", "subtracting 15 from 50"
        (r"\b(?:multipl(?:y|ying)|(?:the )?product of) (\d{1,6}) {1,16}(?:and|by|with|times) {1,16}(?=\d)", r"\1 * "),
        (r"\b(?:add(?:ing)?|(?:the )?sum of) (\d{1,6}) {1,16}(?:and|to|with|plus) {1,16}(?=\d)", r"\1 + "),
        (r"\bdivid(?:e|ing) (\d{1,6}) {1,16}by {1,16}(?=\d)", r"\1 / "),
        (r"\b(?:the )?difference (?:of|between) (\d{1,6}) {1,16}and {1,16}(?=\d)", r"\1 - "),
        (
            r"\b(?:subtract(?:ing)?|take|taking)(?: away| off)?(?: the)? (\d{1,6}) (?:away )?(?:from|off)(?: the)? "
            r"(\d{1,6})\b",
            r"\2 - \1",
        ),
        (  # "15 * 6 -> 90 -> -24 -> 66" goes on from its result
            r"((?:->|=>|→|⇒|>>) {0,3}\d{1,6}) {0,3}(?:->|=>|→|⇒|>>) {0,3}([-+*/x]) {0,3}(?=\d)",
            lambda match: match[1] + match[2].replace("x", "*"),
        ),
    )
)

# Rewriting leaves runs of spaces, hence the generous bounds.
_OPERAND = r"(?:\( {0,8}){0,8}\d{1,6}(?![\d.]*\d)(?: {0,8}\)){0,8}"
_EXPRESSION = re.compile(rf"(?<![\d.,]){_OPERAND}(?: {{0,40}}[-+*/] {{0,40}}{_OPERAND}){{0,12}}")
_EQUALS = re.compile(r" {0,16}(?:={1,3}|->|=>|→|⇒|≈) {0,16}")
_VERB = (
    r"is|are|was|equals?|gives?|gave|giving|makes?|made|yields?|yielding|leaves?|leaving|produces?"
    r"|results? in|comes? to|evaluates? to|totals?|gets?|got|have|has|becomes?|takes? (?:us|me|you) to"
    r"|for|to get|to reach|to make|'s"
)
_LINK = re.compile(
    r"[ ,;:)]{0,24}(?:and |so |then |now ){0,2}(?:that|this|which|it|we|you|u|i|they|there)?"
    rf" ?(?:do|does|will|would|'ll|really|indeed)? ?(?:{_VERB}|(?<=that)s)"
    r"(?: (?:me|us|you|a|an|the|to|only|just|exactly|really|indeed|a total of|now)){0,2} {1,16}"
)
_NO_WORDS = re.compile(r"[ ,;:.(]{0,16}(?:and |so )?")  # enough of a link where the arithmetic is right
_RUNNING = re.compile(
    r"\b(plus|add(?:ing)?|minus|subtract(?:ing)?|take (?:away|off)|tak(?:ing|e)(?: away| off)?|less|times|knock off"
    r"|multipl(?:y|ying) by|divid(?:e|ing) by)(?: the| a| my| on| it by)? {1,16}(\d{1,6})\b"
    r"|\band (\d{1,6})\b(?: more\b| on top\b)?"
)
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


def read_statements(text: object) -> Statements:
    """Read the equations that a text states, and the numbers outside them; of no text, nothing.

    >>> [(e.numbers, e.operations, e.stated) for e in read_statements("3 * 15 = 45 + 18 = 63").equations]
    [((3, 15), '*', Fraction(45, 1)), ((45, 18), '+', Fraction(63, 1))]
    """
    if not isinstance(text, str):
        return Statements("", (), ())
    plain = normalise(text)
    found = [(match.start(), match.end()) for match in _EXPRESSION.finditer(plain)]
    equations: list[Equation] = []
    position = 0
    while position < len(found) and len(equations) < MAX_EQUATIONS:
        position = _read_chain(plain, found, position, equations)
    _add_running(plain, equations)
    taken = sorted((equation.start, equation.end) for equation in equations)
    mentions = []
    index = 0
    for match in _NUMBER.finditer(plain):
        while index < len(taken) and taken[index][1] <= match.start():
            index += 1
        if index == len(taken) or match.start() < taken[index][0]:
            mentions.append(Mention(match.start(), match.end(), int(match[0])))
            if len(mentions) == MAX_MENTIONS:
                break
    return Statements(plain, tuple(equations), tuple(mentions))


def _read_chain(plain: str, found: list[tuple[int, int]], position: int, equations: list[Equation]) -> int:
    """Read sides that equality signs or words join, from `position` on; return where the next chain begins."""
    sides = [found[position]]
    position += 1
    while position < len(found):
        gap = plain[sides[-1][1] : found[position][0]]
        if not _joins(plain, sides[-1], gap, found[position]):
            break
        sides.append(found[position])
        position += 1
    parsed = [(*side, *_parse(plain[slice(*side)])) for side in sides]
    for number, (start, end, numbers, operations, value) in enumerate(parsed):
        last = number == len(parsed) - 1
        if not operations:
            # "24 = 3 * 8": the side without operations stands in front.
            if not last and number == 0 and parsed[1][3]:
                next_start, next_end, next_numbers, next_operations, next_value = parsed[1]
                # "42, that's 3 times 14" names 42 before it computes it: a mention, and an equation.
                begin = start if _EQUALS.fullmatch(plain[end:next_start]) else next_start
                read = (next_numbers, next_operations, next_value, value, True)
                equations.append(Equation(begin, next_end, *read))
                if len(parsed) == 2:
                    break
            continue
        if number == 1 and not parsed[0][3] and last:
            continue
        if number and parsed[number - 1][3] and parsed[number - 1][4] == value and value is not None:
            # "6 * 6 + 10 = 36 + 10 = 46" is one computation, written out.
            equations[-1] = equations[-1]._replace(end=end if last else parsed[number + 1][1])
            continue
        stated = None
        if not last:
            next_start, next_end, next_numbers, next_operations, next_value = parsed[number + 1]
            end, stated = next_end, next_value
            # A run-on line, "3 * 15 = 45 + 18 = 63", goes on from the result.
            if next_operations and next_value != value:
                end, stated = next_start + len(str(next_numbers[0])), Fraction(next_numbers[0])
        equations.append(Equation(start, end, numbers, operations, value, stated))
    return position


def _joins(plain: str, left: tuple[int, int], gap: str, right: tuple[int, int]) -> bool:
    if _EQUALS.fullmatch(gap):
        return True
    left_parts, right_parts = _parse(plain[slice(*left)]), _parse(plain[slice(*right)])
    if bool(left_parts[1]) == bool(right_parts[1]) and not left_parts[1]:
        return False  # "6 is 7": no computation
    if _LINK.fullmatch(gap):
        return True
    matches = left_parts[1] and not right_parts[1] and left_parts[2] == right_parts[2]
    return bool(matches and _NO_WORDS.fullmatch(gap) and "." not in gap.strip(" ."))


def _parse(side: str) -> tuple[tuple[int, ...], str, Fraction | None]:
    """Return a side's numbers, operations and value; parentheses that do not close are dropped."""
    balanced = side if side.count("(") == side.count(")") else re.sub(r"[()]", " ", side)
    evaluation = evaluate_expression(balanced)
    numbers = evaluation.numbers or tuple(int(number) for number in re.findall(r"\d+", side))
    return numbers, re.sub(r"[^-+*/]", "", side), evaluation.value


def _add_running(plain: str, equations: list[Equation]) -> None:
    """Add steps that go on from the value reached last: "adding the 17 yields 38", "minus 9, 39"."""
    starts = [equation.start for equation in equations]
    added: list[Equation] = []
    for match in _RUNNING.finditer(plain):
        before = [e for e in (*equations, *added) if e.end <= match.start() + 4]
        inside = any(e.start <= match.start() < e.end for e in equations)
        if not before or inside or len(added) + len(starts) >= MAX_EQUATIONS:
            continue
        latest = max(before, key=lambda equation: equation.end)
        result = _NUMBER.search(plain, match.end(), match.end() + 40)
        if latest.result is None or result is None or latest.result.denominator != 1 or latest.result < 0:
            continue
        operand = int(match[2] or match[3])
        sign = "*" if match[0].startswith(("times", "mult")) else _RUNNING_SIGN[match[0][0]]
        numbers = (int(latest.result), operand)
        value = evaluate_expression(f"{numbers[0]}{sign}{operand}").value
        gap = plain[match.end() : result.start()]
        stated = Fraction(int(result[0]))
        is_right = value == stated
        # "and 8 is 50" is a step only if it is right: "and" says nothing of adding.
        is_linked = _LINK.fullmatch(gap) or _EQUALS.fullmatch(gap)
        if (is_right and _NO_WORDS.fullmatch(gap)) or ((is_right or match[2]) and is_linked):
            added.append(Equation(match.start(), result.end(), numbers, sign, value, stated))
    # A lone expression that a running step goes on from was a side of no equation, and stays.
    equations[:] = sorted([*equations, *added], key=lambda equation: (equation.start, equation.end))
