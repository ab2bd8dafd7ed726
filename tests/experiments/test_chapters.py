"""The form of a chapter: question, answer, a picture, what would overturn it, what stays open, three exercises."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
import yaml

from extrabitter.digests import REPOSITORY

CHAPTERS = sorted((REPOSITORY / "notebooks" / "chapters").glob("*.ipynb"))
OTHERS = [path for path in CHAPTERS if path.stem != "index"]
MAX_WORDS = 1_200
_GLUE = re.compile(r"\{glue:text\}`[^`]+`")


def prose(path: Path) -> str:
    """The text of a chapter, without its code and without what its models write."""
    texts = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
    return "\n\n".join(text for text in texts if "eb-play" not in text)


def test_every_page_is_in_the_order_and_every_entry_has_its_page() -> None:
    toc = yaml.safe_load((REPOSITORY / "_toc.yml").read_text(encoding="utf-8"))
    ordered = [toc["root"], *(entry["file"] for part in toc["parts"] for entry in part["chapters"])]
    pages = [path.stem for path in (*CHAPTERS, *(REPOSITORY / "book").glob("*.md"))]
    assert sorted(ordered) == sorted(pages)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_asks_and_answers_in_its_first_screen_is_short_and_types_no_result(path: Path) -> None:
    first = nbformat.read(path, as_version=4).cells[0].source
    title, subtitle, question, answer = [part for part in first.split("\n\n") if part][:4]
    assert title.startswith("# ") and re.fullmatch(r"\*[^*]+\*", subtitle)
    assert question.startswith("**The question.** ") and answer.startswith("**The answer.** ")
    text = prose(path)
    without_formulae = re.sub(r"\$\$.*?\$\$", "", text, flags=re.DOTALL)
    assert len(_GLUE.sub("N", without_formulae).split()) <= MAX_WORDS
    argued = text.split("## Exercises")[0]
    # An interval's level, and what the theory's own example is set up with, are no results.
    for given in ("95 %", "1, 70 and 29 %", "from 1 %"):
        argued = argued.replace(given, "")
    assert re.findall(r"\b\d+(?:\.\d+)? (?:%|points)", argued) == []


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.stem)
def test_a_chapter_says_what_would_overturn_it_and_has_three_exercises_with_solutions(path: Path) -> None:
    text = prose(path)
    sections = {part.partition("\n")[0]: part for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]}
    assert len(re.findall(r"^- ", sections["What would have overturned it"], re.MULTILINE)) == 3
    assert sections["What stays open"]
    exercises = sections["Exercises"]
    assert re.findall(r"^(\d)\. ", exercises, re.MULTILINE) == ["1", "2", "3"]
    assert exercises.count(":::{dropdown} Solution") == 3
