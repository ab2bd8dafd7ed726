"""The kit of a chapter: numbers in words, claims, glue, tables, figures in light and dark, and your run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import pytest
from test_store import write_run

from extrabitter.pages import chapter, plots, text
from extrabitter.pages.chapter import Chapter, ClaimError
from extrabitter.pages.plots import Row, dot_rows
from extrabitter.statistics import MISSING, Estimate
from extrabitter.store import read

SHARE = Estimate(0.6349, 0.6012, 0.6684, 5)
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a chapter displays, in order."""
    found: list[Any] = []

    def display(value: Any, **options: Any) -> None:
        found.append({"value": value, **options} if options else getattr(value, "data", value))

    monkeypatch.setattr(chapter, "display", display)
    return found


@pytest.fixture
def page(tmp_path: Path) -> Chapter:
    return Chapter("a_page", output_dir=tmp_path)


@pytest.fixture
def own_runs(tmp_path: Path) -> Path:
    """Your run: one seed of the searcher after RL, nine in ten solved, and a run that failed."""
    columns, root = ["measure", "value", "lower", "upper", "count"], tmp_path / "own"
    summary = pd.DataFrame([("pass@1", 0.91, 0.88, 0.94, 2400)], columns=columns)
    write_run(root, "countdown/behaviour_evaluation/after_searcher/seed=0", {"summary": summary})
    write_run(root, "countdown/grpo/guesser/seed=0", {}, state="failed", reason="<b>no memory</b>")
    return root


# --- Text ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (text.decimal(-0.0001), "0.00"),
        (text.points(-0.014), "−1 point"),
        (text.percent_interval(SHARE), "63 % (60 to 67)"),
        (text.percent_interval(Estimate(0.99, 0.97, 1.01, 5)), "99 % (97 to 100)"),
        (text.points_interval(Estimate(0.308, 0.281, 0.335, 5)), "31 points (28 to 34)"),
        (text.decimal_interval(Estimate(2.31, 2.2, 2.42, 5)), "2.31 (2.20 to 2.42)"),
        (text.percent_interval(Estimate(0.5, -np.inf, np.inf, 1)), "50 %"),
        (text.percent_interval(MISSING), "not measured"),
        (text.points(float("nan")), "not measured"),
        (text.spell(1, "seed"), "one seed"),
        (text.spell(1200, "run"), "1,200 runs"),
    ],
)
def test_numbers_are_written_with_sign_unit_and_interval(written: str, expected: str) -> None:
    assert written == expected


# --- Claims and glue -------------------------------------------------------------------------------------------


def test_a_claim_that_does_not_hold_stops_with_page_sentence_and_values(page: Chapter) -> None:
    page.claim(True, "one and one is two", fact=True)
    with pytest.raises(ClaimError) as error:
        page.claim(SHARE.lower > 0.7, "It solves most", solved=SHARE, problems=300)
    found = "solved = 0.6349 (0.6012 to 0.6684), problems = 300"
    assert str(error.value) == f"page a_page: “It solves most” is not what the results say; found: {found}"


def test_glue_has_the_form_that_the_book_reads(page: Chapter, shown: list[Any]) -> None:
    page.glue("gap", "31 points")
    prefix = "application/papermill.record/"
    metadata = {"scrapbook": {"name": "gap", "mime_prefix": prefix}}
    assert shown == [{"value": {f"{prefix}text/plain": "'31 points'"}, "raw": True, "metadata": metadata}]


# --- What a page reads -----------------------------------------------------------------------------------------


def test_a_page_reads_the_store_and_your_runs_by_the_same_names(tmp_path: Path, own_runs: Path) -> None:
    page = Chapter("a_page", runs_dir=own_runs, output_dir=tmp_path)
    published, own = page.table("summary"), page.own("summary")
    assert list(published.columns) == list(own.columns)
    assert published["seed"].nunique() >= 5 and list(own["value"]) == [0.91]
    assert Chapter("a_page", output_dir=tmp_path).own("summary").empty
    with pytest.raises(FileNotFoundError, match="results_dir = 'nowhere': no such folder"):
        Chapter("a_page", "nowhere")


def test_your_run_is_one_box_with_published_values_and_what_failed(own_runs: Path, shown: list[Any]) -> None:
    asked = ("solved", "pass@1", ["after_searcher", "after_guesser"])
    Chapter("a_page").your_run(*asked)
    assert shown == [], "without own runs there is no box"
    Chapter("a_page", runs_dir=own_runs, profile="mine").your_run(*asked)
    (box,) = shown
    assert "Your run (mine): solved" in box
    mine = r"searcher after RL: yours 91 % \(88 to 94\), one seed"
    assert re.search(rf"{mine}; published \d\d % \(\d\d to \d\d\)", box)
    assert "guesser after RL: not in your run; published" in box
    assert "grpo of guesser, seed 0, failed: &lt;b&gt;no memory&lt;/b&gt;" in box


def test_the_line_below_a_figure_says_seeds_commit_table_and_runs(page: Chapter, shown: list[Any]) -> None:
    summary = page.table("summary", experiment="choke")
    fig = dot_rows(ROWS, "A message", "solved")
    page.figure("key", fig, alt='Dots & "lines"', caption="300 problems a seed; a < b", table=summary.head(3))
    (markup,) = shown
    runs = read(page.results_dir, "countdown", "runs", "choke")
    assert f"commit {', '.join(sorted(set(runs['commit'].str[:7])))}" in markup and " seeds" in markup
    assert 'aria-label="Dots &amp; &quot;lines&quot;"' in markup and "a &lt; b" in markup
    for target in ("tables/key.csv", "runs.html", "reproducing.html"):
        assert f'href="{target}"' in markup
    assert len(pd.read_csv(page.output_dir / "tables" / "key.csv")) == 3
    assert (page.output_dir / "figures" / "key.svg").is_file()


def test_a_long_table_is_folded_and_every_cell_escaped(page: Chapter, shown: list[Any]) -> None:
    page.show(pd.DataFrame({"<th>": ["<td>"]}), "a <caption>")
    page.show(pd.DataFrame({"n": range(chapter.MAX_ROWS + 1)}), "long")
    assert '<th scope="row">&lt;td&gt;</th>' in shown[0]
    assert '<th scope="col">&lt;th&gt;</th>' in shown[0] and "a &lt;caption&gt;" in shown[0]
    assert "<details>" not in shown[0]
    assert shown[1].count("<details>") == 1 and "13 rows" in shown[1]


# --- Models and figures ----------------------------------------------------------------------------------------


def test_a_model_has_one_look_before_and_after_and_others_keep_their_name() -> None:
    arms = ("before_searcher", "after_searcher_rare", "searcher")
    assert len(set(map(plots.describe, arms))) == 1
    assert plots.words("after_taught_search") == "taught to search after RL"
    assert len({arm.marker for arm in list(plots.known_arms().values())[:9]}) == 9


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb, by WCAG 2.1."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


@pytest.mark.parametrize("name", [*plots.known_arms(), "ink", "grey"])
def test_names_in_figures_can_be_read_on_light_and_on_dark_pages(name: str) -> None:
    light = {"ink": plots.INK, "grey": plots.GREY}.get(name) or plots.known_arms()[name].colour
    on_white = 1.05 / (luminance(light) + 0.05)
    on_dark = (luminance(plots.theme()[light]) + 0.05) / (luminance("#14181e") + 0.05)
    assert on_white >= 4.5 and on_dark >= 4.5


BEFORE, OWN = Estimate(0.36, 0.33, 0.38, 5), Estimate(0.9, 0.8, 1, 1)
GUESSER = Row("guesser", "guesser", Estimate(0.63, 0.6, 0.65, 5))
ROWS = [Row("searcher", "searcher", Estimate(0.93, 0.92, 0.95, 5), BEFORE, OWN), GUESSER]
MODELS = ["guesser", "searcher", "silenced"]


def drawn(name: str) -> str:
    """Return an SVG of one kind of figure with your run in it."""
    if name == "rows":
        return plots.to_svg(dot_rows(ROWS, "Searching pays", "solved"))
    table = Chapter("a_page").table("steps" if name == "curves" else "summary")
    own = table[table["seed"] == table["seed"].min()]
    if name == "curves":
        return plots.to_svg(plots.curves(table, MODELS, "correct_reward", "A searcher climbs", "solved", own))
    return plots.to_svg(dot_rows(plots.rows_of(table, MODELS, "pass@1", own), "Searching pays", "solved"))


@pytest.mark.parametrize("name", ["rows", "before_and_after", "curves"])
def test_a_figure_has_its_message_names_and_your_run_in_text_that_can_be_read(name: str) -> None:
    svg = drawn(name)
    root = ElementTree.fromstring(svg)
    width = float(root.attrib["viewBox"].split()[2])
    texts = {"".join(text.itertext()).strip(): text for text in root.iter(f"{SVG}text")}
    for words in ("searcher", "guesser", "your run"):
        assert words in texts
    assert any("earch" in words for words in texts if len(words) > 12), "the message is the title"
    sizes = [float(size) for size in re.findall(r"font(?:-size)?:[^;\"]*?([\d.]+)px", svg)]
    assert sizes and min(sizes) * 350 / width >= 9, "at least 9 px where the page is 390 px wide"


def test_rows_are_sorted_by_outcome_and_too_many_arms_are_refused() -> None:
    summary = Chapter("a_page").table("summary")
    fig = dot_rows(plots.rows_of(summary, MODELS, "pass@1"), "t", "a")
    labels = [label.get_text() for label in fig.axes[0].get_yticklabels()]
    assert labels[0] == "searcher" and len(labels) == 3
    with pytest.raises(ValueError, match="at most 5"):
        dot_rows([ROWS[0]] * 6, "t", "a")


def test_a_figure_has_the_same_bytes_each_time_whatever_the_readers_settings() -> None:
    first = drawn("rows")
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "axes.facecolor": "red"}):
        assert drawn("rows") == first


def test_inline_figures_have_ids_of_their_own_and_colours_of_the_page() -> None:
    svg = drawn("curves")
    markup = plots.inline(svg, "one", "alt") + plots.inline(svg, "two", "alt")
    ids = re.findall(r'\bid="([^"]+)"', markup)
    assert len(ids) == len(set(ids)) and all(name.startswith(("one-", "two-")) for name in ids)
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', markup))
    assert used and used <= set(ids)
    styles = " ".join(re.findall(r'style="([^"]*)"', markup))
    assert set(re.findall(r": (#\w{6})", styles)) == set(), "every colour has a partner for dark pages"
    for colour in re.findall(r"var\(--eb-(\w{6}),", styles):
        assert f"--eb-{colour}:" in plots.theme_css()
