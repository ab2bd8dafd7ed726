"""What a model wrote reaches a page as text only; the browser of completions is recorded, bounded, and keys suffice."""

from __future__ import annotations

import html
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from chromium import Page
from page_checks import findings, reported

from extrabitter.behaviours.measures import measure_trace
from extrabitter.digests import REPOSITORY
from extrabitter.pages import completions as kit
from extrabitter.pages.chapter import Chapter, table_markup
from extrabitter.pages.completions import BrowserData, collect, completion_markup, shown_stretches
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


# --- Data of the browser ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published() -> pd.DataFrame:
    """Two seeds of the published completions, 50 problems each."""
    rows = Chapter("a_page").table("completions")
    rows = rows[rows["seed"] < rows["seed"].min() + 2]
    kept = rows.groupby("seed")["problem"].transform(lambda names: names.isin(sorted(set(names))[:50]))
    return rows[kept.astype(bool)]


@pytest.fixture(scope="module")
def drawn(published: pd.DataFrame) -> BrowserData:
    """What the browser shows of them."""
    return collect(published)


@pytest.fixture(scope="module")
def hostile(published: pd.DataFrame) -> pd.DataFrame:
    """The same, every completion and prompt hostile, one of HOSTILE after the other."""
    rows = published[published["sample"] < 4].groupby(["seed", "arm"]).head(4 * len(HOSTILE)).copy()
    rows["completion"] = [HOSTILE[index % len(HOSTILE)] for index in range(len(rows))]
    rows["prompt"], rows["correct"] = rows["completion"], False
    return rows.assign(reason="<script>window.hacked = true</script>")


def test_every_model_is_paired_with_where_it_began(drawn: BrowserData) -> None:
    content = drawn.content
    runs = content["runs"]
    names = {label: (runs[before][1:3], runs[after][1:3]) for label, _, before, after in content["pairs"]}
    assert names["searcher"] == (["searcher", "before RL"], ["searcher", "after RL"])
    assert names["silenced"] == (["searcher", "before RL"], ["silenced", "after RL"])
    assert content["pairs"][0][0] == "searcher", "the page opens with the model that the argument is about"


def test_what_is_drawn_is_counted_bounded_and_the_same_each_time(
    published: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kit, "MAX_PROBLEMS", problems := 20)
    data = collect(published)
    assert (data.num_problems_shown, data.num_problems) == (problems, 100)
    assert data.num_shown == problems * published["arm"].nunique() * kit.MAX_SAMPLES
    assert data.num_completions == len(published)
    assert collect(published.sample(frac=1, random_state=1)).content == data.content
    seeds = [seed for seed, _, _ in data.content["problems"]]
    assert seeds.count(min(seeds)) == problems / 2, "seeds come in turn"


def test_the_draw_does_not_look_at_completions(published: pd.DataFrame, drawn: BrowserData) -> None:
    turned = collect(published.assign(completion="answer", correct=~published["correct"]))
    names = [[name for _, name, _ in data.content["problems"]] for data in (turned, drawn)]
    assert names[0] == names[1]


def test_a_book_without_completions_says_so(published: pd.DataFrame) -> None:
    data = collect(published[:0])
    assert (data.num_shown, data.num_problems) == (0, 0)
    assert "No completions were evaluated." in kit.browser_html(data).data


def test_the_script_holds_no_character_that_html_knows(hostile: pd.DataFrame, tmp_path: Path) -> None:
    text = kit.save_script(collect(hostile), tmp_path).read_text(encoding="ascii")
    assert not set(text) & set("<>&") and all(char.isprintable() for char in text.rstrip("\n"))
    content = json.loads(text.removeprefix("window.completionsBrowser = ").removesuffix(";\n"))
    samples = [sample for entry in content["completions"] for own in entry.values() for sample in own]
    shown = {" ".join(words for _, words in sample[3]) for sample in samples}
    assert {"<script>alert(1)</script>", "{{ config }} {% raw %} {glue:text}`x`"} <= shown


# --- The browser in a browser ----------------------------------------------------------------------------------


def page_of(data: BrowserData, folder: Path) -> str:
    """Write a page with the browser and nothing else; return its address."""
    kit.save_script(data, folder)
    shutil.copytree(REPOSITORY / "book" / "_extra", folder / "_extra", dirs_exist_ok=True)
    (folder / "_extra" / "runs.html").write_text("runs", encoding="utf-8")
    style = (REPOSITORY / "book/_static/book.css").read_text(encoding="utf-8")
    (folder / "_extra" / "page.html").write_text(
        '<!doctype html><html lang="en-GB"><head><meta charset="utf-8"><title>t</title>'
        '<meta name="viewport" content="width=device-width">'
        "<style>html[data-theme=dark] { background: #111; color: #ddd; } html[data-theme=dark] a { color: #6cf; }"
        f"{style}</style></head><body><main><h1>Completions</h1>{kit.browser_html(data).data}</main></body></html>",
        encoding="utf-8",
    )
    return (folder / "_extra" / "page.html").as_uri()


def choose(browser: Page, name: str, index: int) -> None:
    browser.evaluate(
        f"(() => {{ const select = document.getElementById('browser-{name}'); select.selectedIndex = {index};"
        "select.dispatchEvent(new Event('change', {bubbles: true})); })()"
    )


def shown(browser: Page) -> tuple[str, str]:
    """Problem and sample that the browser shows."""
    value = "document.getElementById('browser-{}').value"
    return browser.evaluate(value.format("problem")), browser.evaluate(value.format("sample"))


@pytest.mark.browser
def test_hostile_text_is_text_in_a_browser(hostile: pd.DataFrame, browser: Page, tmp_path: Path) -> None:
    browser.open(page_of(collect(hostile), tmp_path))
    seen, every = set[str](), "[...document.querySelectorAll('{}')].map((node) => node.{})"
    for problem in range(browser.evaluate("document.querySelectorAll('#browser-problem option').length")):
        for sample in range(4):
            choose(browser, "problem", problem)
            choose(browser, "sample", sample)
            tags = browser.evaluate(every.format(".eb-panes *", "localName"))
            assert set(tags) <= {"figure", "p", "span", "mark", "figcaption", "a"}
            seen |= set(browser.evaluate(every.format(".eb-text", "textContent")))
    for text in HOSTILE[:11]:
        words = " ".join(text.split())
        assert f"{words} {words}" in seen, text
    assert browser.evaluate("window.hacked") is None and reported(browser) == []


@pytest.mark.browser
def test_the_keyboard_suffices(drawn: BrowserData, browser: Page, tmp_path: Path) -> None:
    browser.open(page_of(drawn, tmp_path))
    reached = []
    while "eb-panes" not in reached and len(reached) < 20:
        browser.press("Tab", 9)
        reached.append(browser.evaluate("document.activeElement.id || document.activeElement.className"))
    names = ("pair", "seed", "left", "right", "filter", "problem", "sample")
    assert [name for name in reached if name.startswith("browser-")] == [f"browser-{name}" for name in names]
    start = shown(browser)
    browser.press("ArrowRight", 39, shift=True)
    assert shown(browser) == (start[0], "1")
    browser.press("ArrowRight", 39)
    assert shown(browser)[0] != start[0] and shown(browser)[1] == "0"
    assert browser.evaluate("document.activeElement.className") == "eb-panes", "the place is kept"
    browser.press("ArrowLeft", 37)
    assert shown(browser)[0] == start[0]


@pytest.mark.browser
def test_a_view_has_an_address(drawn: BrowserData, browser: Page, tmp_path: Path) -> None:
    address = page_of(drawn, tmp_path)
    browser.open(address)
    choose(browser, "pair", 2)
    view = "document.querySelector('.eb-panes').textContent"
    link, text = browser.evaluate("location.href"), browser.evaluate(view)
    browser.open("about:blank")
    browser.open(link)
    assert browser.evaluate(view) == text
    assert browser.evaluate("document.getElementById('browser-pair').selectedIndex") == 2
    image = "problem=<img src=x onerror=alert(1)>&left=0"
    for forged in ("left=x&right=__proto__", "left=-1&right=9999", image):
        browser.open("about:blank")
        browser.open(f"{address}#{forged}")
        assert browser.evaluate("document.getElementById('browser-pair').selectedIndex") == 0
        assert reported(browser) == []


@pytest.mark.browser
def test_problems_are_chosen_by_what_rl_did(drawn: BrowserData, browser: Page, tmp_path: Path) -> None:
    browser.open(page_of(drawn, tmp_path))
    counts = []
    for index in range(4):  # all, more often right, less often, equally often
        choose(browser, "filter", index)
        counts.append(browser.evaluate("document.getElementById('browser-problem').length"))
    content = drawn.content
    _, seed, before, after = content["pairs"][0]
    right = [
        tuple(sum(sample[0] for sample in entry[str(index)]) for index in (before, after))
        for (its_seed, _, _), entry in zip(content["problems"], content["completions"], strict=True)
        if its_seed == seed
    ]
    expected = [sum(b > a for a, b in right), sum(b < a for a, b in right), sum(a == b for a, b in right)]
    assert counts == [len(right), *expected] and expected[0] > expected[1]


@pytest.mark.browser
def test_it_reads_well(drawn: BrowserData, browser: Page, axe: str, tmp_path: Path) -> None:
    found = findings(browser, page_of(drawn, tmp_path), axe)
    assert not found, "\n".join(found)


def test_without_scripts_the_first_view_is_there(drawn: BrowserData) -> None:
    page = Markup(kit.browser_html(drawn).data)
    _, _, before, after = drawn.content["pairs"][0]
    for index in (before, after):
        _, note, prompt, marked, _ = drawn.content["completions"][0][str(index)][0]
        text = f"{prompt} {' '.join(words for _, words in marked)}"
        assert text in html.unescape(page.text) and note in page.text
