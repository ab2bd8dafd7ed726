"""What a model wrote reaches a page as text only, whatever it wrote."""

from __future__ import annotations

from html.parser import HTMLParser

import pandas as pd
import pytest

from extrabitter.behaviours.measures import measure_completion
from extrabitter.pages.highlighting import MAX_WORDS, completions_html, segments, text_markup
from extrabitter.behaviours.natural_measures import measure_natural
from extrabitter.pages.chapter import table_html
from extrabitter.tasks.countdown import Problem

HOSTILE = [
    "<script>alert(1)</script>",
    "</p></figure></div><script src=//x></script>",
    "<img src=x onerror=alert(1)> check 8 no",
    '"><svg/onload=alert(1)>',
    "{{ config }} {% raw %} {glue:text}`x`",
    "$$ \\href{javascript:alert(1)}{x} $$ \\( x \\) \\[ y \\]",
    "```{code-cell}\nimport os\n```",
    "&lt;b&gt; &amp; &#60;script&#62;",
    "check <b> no back <i> target : need </mark> aim <u> ,",
    "a\x00b\u202ec\u2028d\ufeffe",
    "<" * 3000,
]
ALLOWED = {"div", "figure", "p", "span", "mark", "figcaption", "table", "thead", "tbody", "tr", "th", "td"}


class Page(HTMLParser):
    """Collects tags, attributes and character data."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.text = ""
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(markup: str) -> Page:
    page = Page()
    page.feed(markup)
    page.close()
    assert page.open == []
    return page


def completions(text: str) -> pd.DataFrame:
    problem = Problem((6, 7, 9), 8)
    row = {"prompt": text, "completion": text, "truncated": True, **measure_completion(text, problem, True)}
    return pd.DataFrame([row])


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_adds_no_element_and_no_attribute(text: str) -> None:
    page = read(completions_html(completions(text), [text]).data)
    assert set(page.tags) <= ALLOWED
    assert set(page.attributes) <= {"class", "title"}


@pytest.mark.parametrize("text", HOSTILE[:9])
def test_hostile_text_is_shown_word_for_word(text: str) -> None:
    page = read(text_markup(text))
    assert page.text.split() == text.split()


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_english_is_as_inert_and_carries_no_marks(text: str) -> None:
    row = {"prompt": text, "completion": text, "truncated": True}
    table = pd.DataFrame([row | measure_natural(text, Problem((6, 7, 9), 8))])
    page = read(completions_html(table, [text], in_grammar=False).data)
    assert set(page.tags) <= ALLOWED - {"mark"}
    assert set(page.attributes) <= {"class", "title"}


def test_what_english_shows_is_said_without_a_word_on_function() -> None:
    text = "7 + 9 = 16. That is not 8. Let me try again: 6 + 9 - 7 = 8."
    row = {"prompt": "", "completion": text, "truncated": False}
    table = pd.DataFrame([row | measure_natural(text, Problem((6, 7, 9), 8))])
    assert table.at[0, "backtracking_count"] > 0
    shown = read(completions_html(table, [""], in_grammar=False).data).text
    assert "backtracking 1" in shown and "functional" not in shown


@pytest.mark.parametrize("text", HOSTILE)
def test_mathjax_is_told_to_leave_completions_alone(text: str) -> None:
    markup = completions_html(completions(text), [""]).data
    assert markup.startswith('<div class="tex2jax_ignore mathjax_ignore">') and markup.endswith("</div>")
    assert read(markup).tags[0] == "div"


def test_invisible_and_reordering_characters_are_made_visible() -> None:
    shown = text_markup("a\x00b\u202ec")
    assert shown == "a\ufffdb\ufffdc"


def test_endless_text_is_cut_and_says_so() -> None:
    shown = text_markup("yes " * (MAX_WORDS + 7))
    assert shown.count("yes") == MAX_WORDS and "cut: 7 more words" in shown
    assert len(text_markup("x" * 100_000)) < 100


def test_a_table_of_hostile_cells_is_inert() -> None:
    page = read(table_html(pd.DataFrame({text[:20]: [text] for text in HOSTILE[:6]}), HOSTILE[0]).data)
    assert set(page.tags) <= ALLOWED | {"br", "caption"}


@pytest.mark.parametrize(
    "text", [*HOSTILE, "back", "check", "need 1", "aim", "back 1 2 3 4 5 6 7 8 9 10 :", ""]
)
def test_cutting_into_behaviours_loses_no_word(text: str) -> None:
    assert [word for segment in segments(text) for word in segment.words] == text.split()
