"""The book's source: whole chapters only, one worked run a stage, and below each page where it comes from."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from extrabitter.digests import REPOSITORY, STAGE_NOTEBOOKS
from extrabitter.pages.build import BookError, footer, stage_source, worked_runs
from extrabitter.plan import CHAPTER_NOTEBOOKS, Book, make_book
from extrabitter.runs import Status, write_json, write_status

HOSTILE = "| `x` <script>alert(1)</script> {{ y }}"


def notebook(*cells: dict[str, Any]) -> str:
    return json.dumps({"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


def code(source: str, *outputs: dict[str, Any], tags: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"cell_type": "code", "source": source, "metadata": {"tags": list(tags)}, "outputs": list(outputs)}


def markdown(source: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "source": source, "metadata": {}}


def stream(name: str, text: str) -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": [text]}


@pytest.fixture
def book(tmp_path: Path) -> Book:
    """A book of two pages, one of them a chapter that has been run, with a store that keeps one worked run."""
    for folder in (
        "book/_static",
        "notebooks/chapters",
        "notebooks/stages",
        "results/interim/worked",
        "profiles",
    ):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "book" / "runs.md").write_text("# Runs\n", encoding="utf-8")
    (tmp_path / "_config.yml").write_text("title: t\n", encoding="utf-8")
    toc = {"format": "jb-book", "root": "index", "parts": [{"caption": "c", "chapters": [{"file": "runs"}]}]}
    (tmp_path / "_toc.yml").write_text(yaml.safe_dump(toc), encoding="utf-8")
    (tmp_path / CHAPTER_NOTEBOOKS / "index.ipynb").write_text(
        notebook(markdown("# A book")), encoding="utf-8"
    )
    (tmp_path / STAGE_NOTEBOOKS / "grpo.ipynb").write_text(notebook(markdown("# GRPO")), encoding="utf-8")
    worked = tmp_path / "results/interim/worked/grpo.ipynb"
    worked.write_text(
        notebook(
            markdown("(grpo)=\n# GRPO\n\nText."),
            code("a = 1", tags=("injected-parameters",)),
            code(
                "train()",
                stream("stdout", "step 1\n"),
                stream("stderr", "warning\n"),
                stream("stdout", "step 2\n"),
            ),
        ),
        encoding="utf-8",
    )
    manifest = {
        **{"stage": "grpo", "arm": "searcher", "seed": 3, "commit": "a" * 40, "code_sha256": "c" * 64},
        **{"input_sha256": "", "machine": {"cpu": HOSTILE, "gpu": ""}, "threads": 1, "wall_s": 2.0},
        **{
            "peak_rss_mb": 10.0,
            "packages": {"python": "3.11"},
            "parameters": {"num_steps": 80, "retired": HOSTILE},
        },
    }
    write_json(worked.with_suffix(".json"), manifest)
    made = make_book("", tmp_path)
    output = tmp_path / made.output_dir
    (output / "figures").mkdir(parents=True)
    (output / "figures" / "key.svg").write_text("<svg/>", encoding="utf-8")
    given = code("x = 1", tags=("injected-parameters",))
    page = notebook(markdown("# A book"), given, code("x", stream("stdout", "1")))
    (output / "index.ipynb").write_text(page, encoding="utf-8")
    return made


def cells(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return found


def test_a_staged_book_has_its_chapters_without_papermills_cell_and_what_they_saved(book: Book) -> None:
    source = stage_source(book)
    staged = cells(source / "index.ipynb")
    assert [cell["source"] for cell in staged[:2]] == ["# A book", "x"]
    assert staged[-1]["source"].startswith(
        "```{div} eb-footer\nSource: {download}`notebooks/chapters/index.ipynb"
    )
    assert "Made by `extrabitter run-chapter index`." in staged[-1]["source"]
    assert (source / "_extra" / "figures" / "key.svg").is_file()
    assert "--eb-" in (source / "_static" / "plots.css").read_text(encoding="utf-8")
    assert "eb-footer" in (source / "runs.md").read_text(encoding="utf-8")
    assert (source / "_committed" / "book" / "runs.md").is_file()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (None, "chapter index has not been run: no index.ipynb"),
        ("{", "chapter index is damaged: index.ipynb is no notebook"),
        ("[]", "chapter index is damaged: index.ipynb is no notebook"),
        (
            notebook(
                code(
                    "1/0", {"output_type": "error", "ename": "ClaimError", "evalue": "page index: “x” is not"}
                )
            ),
            "chapter index holds an error: ClaimError: page index: “x” is not",
        ),
    ],
)
def test_a_chapter_that_is_missing_damaged_or_wrong_is_refused(
    text: str | None, line: str, book: Book
) -> None:
    path = book.root / book.output_dir / "index.ipynb"
    path.write_text(text, encoding="utf-8") if text is not None else path.unlink()
    with pytest.raises(BookError) as error:
        stage_source(book)
    assert str(error.value) == line


def test_a_book_without_a_page_of_runs_is_refused(book: Book) -> None:
    (book.root / "_toc.yml").write_text("format: jb-book\nroot: index\n", encoding="utf-8")
    with pytest.raises(BookError, match=r"_toc\.yml has no page `runs`"):
        stage_source(book)


def test_a_stage_has_one_worked_run_with_its_parameters_and_what_it_printed(book: Book) -> None:
    source = stage_source(book)
    toc = yaml.safe_load((source / "_toc.yml").read_text(encoding="utf-8"))
    assert toc["parts"][0]["chapters"][0] == {"file": "runs", "sections": [{"file": "worked/grpo"}]}
    head, text, parameters, train, footer = cells(source / "worked" / "grpo.ipynb")
    assert head["source"].startswith("# A worked run: grpo\n") and "`searcher`, seed 3" in head["source"]
    assert "| `num_steps` | `80` | optimiser steps, each on freshly sampled completions |" in head["source"]
    assert "notebooks/stages/grpo.ipynb" in footer["source"]
    assert text["source"] == "Text.", "its label and title are those of every run of the stage"
    assert "hide-input" in parameters["metadata"]["tags"]
    assert train["outputs"] == [{"output_type": "stream", "name": "stdout", "text": "step 1\nstep 2\n"}]


def test_values_of_a_run_cannot_break_out_of_their_cell(book: Book) -> None:
    head = cells(stage_source(book) / "worked" / "grpo.ipynb")[0]["source"]
    rows = [line for line in head.splitlines() if "script" in line]
    assert rows == [
        "| machine | `/ 'x' <script>alert(1)</script> {{ y }}` |",
        "| `retired` | `/ 'x' <script>alert(1)</script> {{ y }}` |  |",
    ]


def test_your_own_run_is_the_worked_one_where_there_is_one(tmp_path: Path, book: Book) -> None:
    kept = list(worked_runs(book.root / book.results_dir, None))
    assert [manifest["stage"] for _, manifest in kept] == ["grpo"]
    run = tmp_path / "runs/mine/countdown/grpo/guesser/seed=0"
    run.mkdir(parents=True)
    manifest = {"schema_version": 2, "stage": "grpo", "arm": "guesser", "seed": 0, "files": {}}
    manifest["parameters"] = {"arm": "guesser"}
    write_json(run / "manifest.json", manifest)
    write_status(run, Status("ok"))
    shutil.copy(kept[0][0], run.with_name("seed=0.ipynb"))
    ((notebook_, found),) = worked_runs(book.root / book.results_dir, tmp_path / "runs/mine")
    assert (found["arm"], notebook_.parent.name) == ("guesser", "guesser")


def test_a_footer_names_the_last_change_and_links_only_to_a_known_home(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    path = Path("notebooks/a.ipynb")
    (tmp_path / "notebooks").mkdir()
    (tmp_path / path).write_text("{}", encoding="utf-8")
    assert "Last changed" not in footer(tmp_path, path)
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "Begin", "--date", "2026-01-02T00:00:00")
    text = footer(tmp_path, path, "extrabitter run-chapter a")
    assert "Last changed on " in text and "http" not in text and "`extrabitter run-chapter a`" in text
    git("remote", "add", "origin", "git@github.com:someone/something.git")
    text = footer(tmp_path, path)
    assert re.search(rf"https://github\.com/someone/something/blob/[0-9a-f]{{40}}/{path}", text)
    assert re.search(rf"https://mybinder\.org/v2/gh/someone/something/[0-9a-f]{{40}}\?labpath={path}", text)


def test_the_committed_books_table_of_contents_names_what_is_there() -> None:
    toc = yaml.safe_load((REPOSITORY / "_toc.yml").read_text(encoding="utf-8"))
    pages = [toc["root"], *(entry["file"] for part in toc["parts"] for entry in part["chapters"])]
    there = {path.stem for path in (REPOSITORY / "book").glob("*.md")}
    there |= {path.stem for path in (REPOSITORY / CHAPTER_NOTEBOOKS).glob("*.ipynb")}
    assert sorted(pages) == sorted(there), "a page is neither read nor listed, or listed and not there"
