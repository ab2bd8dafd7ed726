"""Numbers as ready-made strings, and templates, in whose HTML all that is filled in is escaped."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from typing import Any

import jinja2

from extrabitter.statistics import Estimate

NOT_MEASURED = "not measured"
_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def number_word(count: int) -> str:
    """Write a count as a word where it has a short one: "two", "12"."""
    return _WORDS[count] if count < len(_WORDS) else f"{count:,}"


def spell(count: int, noun: str) -> str:
    """Count things in words: `spell(1, "seed")` is "one seed", `spell(12, "run")` is "12 runs"."""
    return f"{number_word(count)} {noun}" if count == 1 else f"{number_word(count)} {noun}s"


def decimal(value: float, digits: int = 2) -> str:
    """Write a number with a true minus sign; "not measured" where it is missing.

    >>> decimal(-1.234), decimal(float("nan"))
    ('−1.23', 'not measured')
    """
    if not math.isfinite(value):
        return NOT_MEASURED
    return f"{value:.{digits}f}".replace("-", "−") if round(value, digits) else f"{0:.{digits}f}"


def percent(value: float, digits: int = 0) -> str:
    """Write a share as a percentage.

    >>> percent(0.6349), percent(0.6349, 1)
    ('63 %', '63.5 %')
    """
    return f"{decimal(100 * value, digits)} %" if math.isfinite(value) else NOT_MEASURED


def points(value: float, digits: int = 0) -> str:
    """Write a difference of shares in percentage points, signed where it is below nought.

    >>> points(0.308), points(-0.02), points(0.01)
    ('31 points', '−2 points', '1 point')
    """
    if not math.isfinite(value):
        return NOT_MEASURED
    number = decimal(100 * value, digits)
    return f"{number} point" if number in ("1", "−1") else f"{number} points"


def percent_interval(estimate: Estimate, digits: int = 0) -> str:
    """Write a share with its 95 % interval, cut at the ends of what a share can be: "63 % (60 to 67)"."""
    if math.isfinite(estimate.lower):
        estimate = replace(estimate, lower=max(estimate.lower, 0.0), upper=min(estimate.upper, 1.0))
    return _with_interval(estimate, percent(estimate.value, digits), 100, digits)


def points_interval(estimate: Estimate, digits: int = 0) -> str:
    """Write a difference of shares with its 95 % interval: "31 points (28 to 33)"."""
    return _with_interval(estimate, points(estimate.value, digits), 100, digits)


def decimal_interval(estimate: Estimate, digits: int = 2) -> str:
    """Write a number with its 95 % interval: "2.31 (2.20 to 2.42)"."""
    return _with_interval(estimate, decimal(estimate.value, digits), 1, digits)


def _with_interval(estimate: Estimate, value: str, factor: float, digits: int) -> str:
    if not estimate.measured:
        return NOT_MEASURED
    if not (math.isfinite(estimate.lower) and math.isfinite(estimate.upper)):
        return value
    lower, upper = (decimal(factor * end, digits) for end in (estimate.lower, estimate.upper))
    return f"{value} ({lower} to {upper})"


def as_script(name: str, content: Any) -> str:
    """Write data as a script in ASCII without <, > and &: nothing in it can open or end a tag."""
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return f"{name} = {text};\n"


def render(template: str, **values: Any) -> str:
    """Fill a template of this package; a value that it asks for and is not given is an error."""
    return _environment().get_template(f"{template}.jinja").render(**values)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("extrabitter.pages"),
        undefined=jinja2.StrictUndefined,
        autoescape=lambda name: name is not None and ".html." in name,
        keep_trailing_newline=True,
    )
    environment.filters |= {"code": _code, "cell": lambda text: text.replace("|", "/").replace("*", r"\*")}
    return environment


def _code(value: object) -> str:
    """Show a value in a table's cell without any meaning to Markdown."""
    text = "".join(char if char.isprintable() else " " for char in str(value))
    return "`" + (text.replace("`", "'").replace("|", "/").strip() or " ") + "`"
