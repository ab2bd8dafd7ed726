"""Behind every figure of a chapter lies a table to download, and every such link leads to a table that is written."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = sorted((ROOT / "notebooks/chapters").glob("*.ipynb"))

FIGURE = re.compile(r"^`{3,}\{figure\} figures/(\S+)\.svg", re.MULTILINE)
LINK = re.compile(r"\{download\}`[^`<]*<tables/([^`>]+)\.csv>`")

WITHOUT_TABLE = {
    "completions": "shows completions themselves; they lie in the tables of each evaluation",
    "reproducing": "says which commands make the book again, and measures nothing",
}


def read(notebook: Path) -> tuple[list[str], str]:
    """Return a notebook's markdown cells in their order, and its code as one text."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    markdown, code = (
        ["".join(cell["source"]) for cell in cells if cell["cell_type"] == kind]
        for kind in ("markdown", "code")
    )
    return markdown, "\n".join(code)


def figures_without_table(markdown: list[str]) -> list[str]:
    """Name the figures after which neither their own cell nor a later one links to a table."""
    linked = [bool(LINK.search(cell)) for cell in markdown]
    return [
        figure
        for index, cell in enumerate(markdown)
        for figure in FIGURE.findall(cell)
        if not any(linked[index:])
    ]


def written_tables(code: str) -> list[re.Pattern[str]]:
    """Return a pattern for the key of each `save_table`; what an f-string fills in may be any word."""
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    patterns = []
    for call in calls:
        if isinstance(call.func, ast.Name) and call.func.id == "save_table":
            key = (
                call.args[2]
                if len(call.args) > 2
                else {word.arg: word.value for word in call.keywords}["key"]
            )
            parts = key.values if isinstance(key, ast.JoinedStr) else [key]
            texts = [re.escape(str(p.value)) if isinstance(p, ast.Constant) else r"\w+" for p in parts]
            patterns.append(re.compile("".join(texts)))
    return patterns


def links_to_nothing(markdown: list[str], code: str) -> list[str]:
    """Name the tables that a page offers and its code does not write."""
    written = written_tables(code)
    offered = LINK.findall("\n".join(markdown))
    return [key for key in offered if not any(pattern.fullmatch(key) for pattern in written)]


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_every_figure_is_followed_by_a_table_to_download(chapter: Path) -> None:
    markdown, _ = read(chapter)
    assert not figures_without_table(markdown)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_every_table_that_a_chapter_offers_is_written_by_it(chapter: Path) -> None:
    assert not links_to_nothing(*read(chapter))


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_every_chapter_offers_a_table_or_is_listed_with_a_reason(chapter: Path) -> None:
    markdown, _ = read(chapter)
    offers = bool(LINK.search("\n".join(markdown)))
    assert offers != (chapter.stem in WITHOUT_TABLE), (
        "the list is wrong where a chapter has come to offer one"
    )


def test_the_list_of_exceptions_names_chapters() -> None:
    assert WITHOUT_TABLE.keys() <= {path.stem for path in CHAPTERS} and all(WITHOUT_TABLE.values())


FIGURE_CELL = "```{figure} figures/a_b.svg\n:name: fig-a\n\nA caption.%s\n```"
GIVEN = " Table: {download}`a_b.csv <tables/a_b.csv>`."


@pytest.mark.parametrize(
    ("markdown", "missing"),
    [
        ([FIGURE_CELL % ""], ["a_b"]),
        ([FIGURE_CELL % GIVEN], []),
        ([FIGURE_CELL % "", "Prose." + GIVEN], []),
        (["Prose." + GIVEN, FIGURE_CELL % ""], ["a_b"]),
        ([FIGURE_CELL % GIVEN, FIGURE_CELL % ""], ["a_b"]),
    ],
)
def test_a_figure_without_a_table_is_seen(markdown: list[str], missing: list[str]) -> None:
    assert figures_without_table(markdown) == missing


@pytest.mark.parametrize(
    ("code", "missing"),
    [
        ('save_table(df, output_dir, "a_b")', []),
        ('save_table(\n    df[df["x"] == f(1)],\n    output_dir,\n    "a_b",\n)', []),
        ('save_table(df, output_dir, key="a_b")', []),
        ('save_table(df, output_dir, f"a_{name}")', []),
        ('save_table(df, output_dir, f"{NAME}_{key}")', []),
        ('save_table(df, output_dir, "a_c")', ["a_b"]),
        ('save_table(df, output_dir, f"b_{name}")', ["a_b"]),
        ('save_figure(fig, output_dir, "a_b")', ["a_b"]),
        ('# save_table(df, output_dir, "a_b")', ["a_b"]),
    ],
)
def test_a_link_to_a_table_that_nothing_writes_is_seen(code: str, missing: list[str]) -> None:
    assert links_to_nothing([FIGURE_CELL % GIVEN], code) == missing
