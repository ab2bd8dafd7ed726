"""The book's source: whole chapters only, one worked run a stage, and below each page where it comes from."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_store import write_run

from extrabitter.digests import STAGE_NOTEBOOKS, git_state
from extrabitter.pages.build import BookError, footer, stage_source, worked_runs
from extrabitter.plan import CHAPTER_NOTEBOOKS, Book, make_book

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
    toc = {"format": "jb-book", "root": "index", "parts": [{"caption": "c", "chapters": [{"file": "runs"}]}]}
    given = {name: code(f"{name} = 1", tags=("injected-parameters",)) for name in "ax"}
    printed = [stream("stdout", "step 1\n"), stream("stderr", "warning\n"), stream("stdout", "step 2\n")]
    manifest = {
        **{"stage": "grpo", "arm": "searcher", "seed": 3, "commit": "a" * 40, "code_sha256": "c" * 64},
        **{"input_sha256": "", "machine": {"cpu": HOSTILE, "gpu": ""}, "threads": 1, "wall_s": 2.0},
        **{"peak_rss_mb": 10.0, "packages": {"python": "3.11"}},
        **{"parameters": {"num_steps": 80, "retired": HOSTILE}},
    }
    worked = [markdown("(grpo)=\n# GRPO\n\nText."), given["a"], code("train()", *printed)]
    files = {
        "book/runs.md": "# Runs\n",
        "book/_static/book.css": "",
        "profiles/README": "",
        "_config.yml": "title: t\n",
        "_toc.yml": yaml.safe_dump(toc),
        f"{CHAPTER_NOTEBOOKS}/index.ipynb": notebook(markdown("# A book")),
        f"{STAGE_NOTEBOOKS}/grpo.ipynb": notebook(markdown("# GRPO")),
        "results/edition/worked/grpo.ipynb": notebook(*worked),
        "results/edition/worked/grpo.json": json.dumps(manifest),
    }
    write(tmp_path, files)
    made = make_book("", tmp_path)
    page = notebook(markdown("# A book"), given["x"], code("x", stream("stdout", "1")))
    write(tmp_path / made.output_dir, {"index.ipynb": page, "figures/key.svg": "<svg/>"})
    return made


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def cells(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def test_a_staged_book_has_its_chapters_without_papermills_cell_and_what_they_saved(book: Book) -> None:
    source = stage_source(book)
    staged = cells(source / "index.ipynb")
    assert [cell["source"] for cell in staged[:2]] == ["# A book", "x"]
    below = staged[-1]["source"]
    assert below.startswith("```{div} eb-footer\nSource: {download}`notebooks/chapters/index.ipynb")
    assert "Made by `extrabitter run-chapter index`." in below
    assert (source / "_extra" / "figures" / "key.svg").is_file()
    assert "--eb-" in (source / "_static" / "plots.css").read_text(encoding="utf-8")
    assert "eb-footer" in (source / "runs.md").read_text(encoding="utf-8")
    assert (source / "_committed" / "book" / "runs.md").is_file()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (None, "has not been run: no index.ipynb"),
        ("{", "is damaged: index.ipynb is no notebook"),
        ("[]", "is damaged: index.ipynb is no notebook"),
    ],
)
def test_a_chapter_that_is_missing_or_damaged_is_refused(text: Any, line: str, book: Book) -> None:
    path = book.root / book.output_dir / "index.ipynb"
    path.write_text(text, encoding="utf-8") if text is not None else path.unlink()
    with pytest.raises(BookError) as error:
        stage_source(book)
    assert str(error.value) == f"chapter index {line}"


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
    cell = "`/ 'x' <script>alert(1)</script> {{ y }}`"
    assert rows == [f"| machine | {cell} |", f"| `retired` | {cell} |  |"]


def test_your_own_run_is_the_worked_one_where_there_is_one(tmp_path: Path, book: Book) -> None:
    kept = list(worked_runs(book.root / book.results_dir, None))
    assert [manifest["stage"] for _, manifest in kept] == ["grpo"]
    write_run(tmp_path / "runs/mine", "countdown/grpo/guesser/seed=0", {})
    ((notebook_, found),) = worked_runs(book.root / book.results_dir, tmp_path / "runs/mine")
    assert (found["arm"], notebook_.parent.name) == ("guesser", "guesser")


def test_a_footer_names_the_last_change_and_links_only_to_a_known_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    state = git_state(tmp_path)
    assert len(state["commit"]) == 40 and state["commit"] in text and not state["dirty"]
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # as if the tree were somebody else's
    assert (footer(tmp_path, path), git_state(tmp_path)) == (text, state)
    (tmp_path / path).write_text("{ }", encoding="utf-8")
    assert git_state(tmp_path) == state | {"dirty": True}
