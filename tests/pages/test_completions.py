"""What a model wrote reaches a page as text only, and what is shown is drawn without looking at it."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pandas as pd
import pytest

from extrabitter.behaviours.measures import measure_trace
from extrabitter.pages import completions as kit
from extrabitter.pages.chapter import Chapter, table_markup
from extrabitter.pages.completions import completion_markup, shown_stretches
from extrabitter.tasks import BEHAVIOURS, load_task

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
    "9**99**99 answer",
    "9 ** 99 ** 99 = 1 , check 8 yes answer",
    "a\x00b\u202ec\u2028d\ufeffe",
    "<" * 3000,
]
ALLOWED = {"div", "figure", "p", "span", "mark", "figcaption", "table", "thead", "tbody", "tr", "th", "td"}
TASK = load_task("countdown")
PROBLEM = "6-7-9:8"


class Markup(HTMLParser):
    """Collects tags, attributes and character data, and sees that what is opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.attributes, self.open = list[str](), list[str](), list[str]()
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def row(text: str, problem: str = PROBLEM) -> dict[str, Any]:
    """A row of table `completions` whose prompt and completion are `text`."""
    measured = measure_trace(TASK.parse(text, TASK.read_problem(PROBLEM), True))
    return {"problem": problem, "prompt": text, "completion": text, "truncated": True, **measured}


# --- Text ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", [PROBLEM, "<b>no problem</b>"])
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_adds_no_element_and_no_attribute(text: str, problem: str) -> None:
    markup = kit.completions_html(pd.DataFrame([row(text, problem)]), [text]).data
    page = Markup(markup)
    assert set(page.tags) <= ALLOWED and set(page.attributes) <= {"class", "title"}
    assert markup.startswith('<div class="tex2jax_ignore mathjax_ignore">') and markup.endswith("</div>")
    assert page.tags[0] == "div", "MathJax leaves all of it alone"


@pytest.mark.parametrize("text", HOSTILE[:11])
def test_hostile_text_is_shown_word_for_word(text: str) -> None:
    page = Markup(completion_markup("", shown_stretches(text, TASK, PROBLEM), ""))
    assert page.text.split() == text.split()


def test_a_search_is_cut_into_what_it_does_and_loses_no_word() -> None:
    expected = [
        (None, "6 + 7 = 13 , 13 - 9 = 4"),
        ("verification", "check 8 no"),
        ("backtracking", "back 6 7 9 target 8 :"),
        (None, "9 + 6 = 15 , 15 - 7 = 8"),
        ("verification", "check 8 yes"),
        (None, "answer"),
    ]
    text = " ".join(words for _, words in expected)
    assert shown_stretches(text, TASK, PROBLEM) == (expected, 0)
    assert shown_stretches(text, TASK, "no problem") == ([(None, text)], 0)


def test_characters_that_do_not_show_are_made_visible_and_endless_text_is_cut() -> None:
    assert shown_stretches("a\x00b\u202ec", TASK, PROBLEM) == ([(None, "a\ufffdb\ufffdc")], 0)
    shown = completion_markup("", shown_stretches("yes " * (kit.MAX_WORDS + 7), TASK, PROBLEM), "")
    assert shown.count("yes") == kit.MAX_WORDS and "cut: 7 more words" in shown
    assert len(completion_markup("", shown_stretches("x" * 100_000, TASK, PROBLEM), "")) < 300


def test_a_table_of_hostile_cells_is_inert() -> None:
    page = Markup(table_markup(pd.DataFrame({text[:20]: [text] for text in HOSTILE[:6]}), HOSTILE[0]))
    assert set(page.tags) <= ALLOWED | {"caption"}


def test_the_key_names_every_behaviour_that_a_task_can_show() -> None:
    assert set(kit.TITLES) == set(BEHAVIOURS)
    assert Markup(kit.key_html().data).tags.count("mark") == len(BEHAVIOURS)


# --- What is drawn ---------------------------------------------------------------------------------------------

ARMS = ["before_searcher", "after_searcher", "after_guesser"]


@pytest.fixture(scope="module")
def published() -> pd.DataFrame:
    """Two seeds of the published completions."""
    rows = Chapter("a_page").table("completions", experiment="choke")
    return rows[rows["seed"] < rows["seed"].min() + 2]


def test_the_draw_is_one_sample_an_arm_and_does_not_look_at_completions(published: pd.DataFrame) -> None:
    shown = kit.drawn(published, ARMS, 5)
    assert [list(rows.index) for rows in shown] == [ARMS] * 5
    assert all(rows[["seed", "problem", "sample"]].drop_duplicates().shape == (1, 3) for rows in shown)
    turned = published.assign(completion="answer", correct=~published["correct"])
    turned = turned.sample(frac=1, random_state=1)
    drawn = [[set(rows["problem"]) for rows in found] for found in (shown, kit.drawn(turned, ARMS, 5))]
    assert drawn[0] == drawn[1]
    fewer = kit.drawn(published[published["arm"] != "after_guesser"], ARMS, 5)
    assert [list(rows.index) for rows in fewer] == [ARMS[:2]] * 5


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_inert_in_what_is_drawn_and_in_its_headings(
    published: pd.DataFrame, text: str
) -> None:
    hostile = published[published["sample"] == 0].assign(completion=text, prompt=text, reason=text)
    page = Markup(kit.drawn_html(hostile, ARMS, 2).data)
    assert set(page.tags) <= ALLOWED | {"details", "summary"}
    assert set(page.attributes) <= {"class", "title", "open"} and page.tags.count("details") == 2
