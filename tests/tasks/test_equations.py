"""Equations in free text: what is read, how, and that nothing a model writes breaks the reader."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extrabitter.tasks.countdown.equations import MAX_CHARACTERS, MAX_MENTIONS, normalise, read_statements


def read(text: str) -> list[tuple[tuple[int, ...], str, int | None]]:
    """Numbers, operations and stated result of each equation."""
    found = read_statements(text).equations
    return [(e.numbers, e.operations, None if e.stated is None else int(e.stated)) for e in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("6 * 4 = 24", [((6, 4), "*", 24)]),
        ("6 × 4 = 24 and 24 − 3 = 21", [((6, 4), "*", 24), ((24, 3), "-", 21)]),
        (r"\( 6 \cdot 4 = 24 \)", [((6, 4), "*", 24)]),
        (r"\frac{24}{3} = 8", [((24, 3), "/", 8)]),
        ("**6 * 4** = **24**", [((6, 4), "*", 24)]),
        ("6x4=24", [((6, 4), "*", 24)]),
        ("six times four", []),
        ("6 times 4 is twenty-four", [((6, 4), "*", 24)]),
        ("multiply 6 and 4", [((6, 4), "*", None)]),
        ("subtract 3 from 24 to get 21", [((24, 3), "-", 21)]),
        ("24 = 6 * 4", [((6, 4), "*", 24)]),
        ("6 * 4 = 24 - 3 = 21", [((6, 4), "*", 24), ((24, 3), "-", 21)]),
        ("(6 * 4) - 3 = 24 - 3 = 21", [((6, 4, 3), "*-", 21)]),
        ("6 * 4 = 24, minus 3 gives 21", [((6, 4), "*", 24), ((24, 3), "-", 21)]),
        ("6 + 4 = 11", [((6, 4), "+", 11)]),
        ("1. 6 * 4 = 24\n2. 24 - 3 = 21", [((6, 4), "*", 24), ((24, 3), "-", 21)]),
        ("- 6 * 4 = 24\n- 24 - 3 = 21", [((6, 4), "*", 24), ((24, 3), "-", 21)]),
        ("pi is 3.14 and 2**3 = 8", []),
        ("six fours is 24", [((6, 4), "*", 24)]),
        ("12 nines make one hundred and eight", [((12, 9), "*", 108)]),
        ("nine twelves, one hundred eight", [((9, 12), "*", 108)]),
        ("there are two of them, and sixes and sevens", []),
        ("two hundred and ten plus 5 is 15", []),
        ("3*8→24→+9→33", [((3, 8), "*", 24), ((24, 9), "+", 33)]),
        ("6x4 -> 24 -> -3 -> 21", [((6, 4), "*", 24), ((24, 3), "-", 21)]),
        ("6 + 4 -> 10 -> x2 -> 20", [((6, 4), "+", 10), ((10, 2), "*", 20)]),
        (r"6 \times 4 &= 24 \checkmark", [((6, 4), "*", 24)]),
        ("24 minus the 3 is 21", [((24, 3), "-", 21)]),
        ("take away the 3 from 24, which is 21", [((24, 3), "-", 21)]),
        ("6 * 4 = 24, knock off three, 21", [((6, 4), "*", 24)]),
        ("6 * 4 = 24, knock off 3, 21", [((6, 4), "*", 24), ((24, 3), "-", 21)]),
        ("6 * 4 = 24 5 + 5 = 10", [((6, 4), "*", 24), ((5, 5), "+", 10)]),
    ],
)
def test_equations_are_read_in_many_spellings(text: str, expected: list[object]) -> None:
    assert read(text) == expected


def test_value_and_stated_result_are_told_apart() -> None:
    (equation,) = read_statements("6 * 7 = 43").equations
    assert (equation.value, equation.stated, equation.result) == (42, 43, 43)


def test_a_division_by_zero_has_no_value() -> None:
    (equation,) = read_statements("6 / 0 = 6").equations
    assert equation.value is None and equation.stated == Fraction(6)


def test_numbers_outside_equations_are_mentions() -> None:
    statements = read_statements("I need 24. 6 * 4 = 24. That leaves 3.")
    assert [mention.value for mention in statements.mentions] == [24, 3]


def test_places_are_those_of_the_original_text() -> None:
    text = r"So $6 \times 4$ makes 24: **yes**, and then 24 − 3 = 21."
    statements = read_statements(text)
    assert len(statements.text) == len(text)
    assert [text[e.start : e.end] for e in statements.equations] == [
        r"6 \times 4$ makes 24",
        "24 − 3 = 21",
    ]


@pytest.mark.parametrize("value", [None, 3, b"6 * 4 = 24", ["6 * 4 = 24"]])
def test_what_is_no_text_states_nothing(value: object) -> None:
    assert read_statements(value).equations == ()


@settings(max_examples=300, deadline=2_000)
@given(st.text(alphabet="0123456789+-*/=() .,x\n\\${}frac times and is", max_size=300))
def test_text_of_arithmetic_signs_never_raises(text: str) -> None:
    statements = read_statements(text)
    assert all(0 <= e.start < e.end <= len(text) for e in statements.equations)


PIECES = [
    *("→", "⇒", "->", ">>", "=", "&", "3", "90", "+", "-", "x", " ", "\\", "{", "}", "(", ".", "İ"),
    *(
        "hundred",
        "one hundred and ",
        "twelves",
        "six ",
        "by ",
        "ten",
        "take ",
        "off ",
        "from ",
        "the ",
        "frac",
    ),
]


@settings(max_examples=400, deadline=2_000)
@given(st.one_of(st.text(max_size=200), st.lists(st.sampled_from(PIECES), max_size=60).map("".join)))
def test_any_text_keeps_its_length(text: str) -> None:
    assert len(normalise(text)) == len(text)


@pytest.mark.parametrize(
    "piece", ["1", "(1", "1+", "1+1=", "9**9**9 ", "\\frac{1}{", "1 and ", "add 4 is ", " "]
)
def test_work_is_bounded_however_long_the_text(piece: str) -> None:
    statements = read_statements("3 + 4 = 7 " + piece * 100_000)
    assert statements.equations[0].stated == 7
    assert len(statements.text) <= MAX_CHARACTERS and len(statements.mentions) <= MAX_MENTIONS
