"""Below each page: its committed source, its command, when it last changed; launch links only where GitHub is known."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from extrabitter import page_footers

PAGE, NOTEBOOK = Path("book/glossary.md"), Path("notebooks/chapters/taste.ipynb")


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    command = ["git", "-C", str(root), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with two pages, the second changed a year after the first."""
    root = tmp_path / "tree"
    for path in (PAGE, NOTEBOOK):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / PAGE).write_text("# Glossary\n", encoding="utf-8")
    (root / NOTEBOOK).write_text('{"cells": []}', encoding="utf-8")
    git(tmp_path, "init", "-q", str(root))
    for day, path in (("2025-03-04", PAGE), ("2026-05-06", NOTEBOOK)):
        git(root, "add", str(path))
        date = f"{day}T12:00:00"
        subprocess.run(
            [
                "git",
                "-C",
                str(root),
                "-c",
                "user.name=a",
                "-c",
                "user.email=a@b.c",
                "commit",
                "-qm",
                "a page",
            ],
            check=True,
            env={"PATH": "/usr/bin:/bin", "GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date},
        )
    return root


def footer(root: Path, source: Path, path: Path) -> str:
    return page_footers.footer(page_footers.find_checkout(root), source, path, "make tea")


def test_a_footer_dates_its_own_page_and_links_to_its_committed_source(root: Path, tmp_path: Path) -> None:
    first, second = (footer(root, tmp_path / "source", path) for path in (PAGE, NOTEBOOK))
    assert "Last changed on 4 March 2025, commit `" in first
    assert "Last changed on 6 May 2026, commit `" + git(root, "rev-parse", "--short", "HEAD") in second
    assert "Made by `make tea`." in second
    assert "{download}`notebooks/chapters/taste.ipynb </_committed/notebooks/chapters/taste.ipynb>`" in second
    copied = tmp_path / "source" / page_footers.FOLDER / NOTEBOOK
    assert copied.read_bytes() == (root / NOTEBOOK).read_bytes()
    assert "https://" not in first + second


def test_what_is_not_committed_is_said(root: Path, tmp_path: Path) -> None:
    (root / PAGE).write_text("# Glossary, edited\n", encoding="utf-8")
    assert "and since then in ways not committed" in footer(root, tmp_path / "source", PAGE)
    assert "not committed" not in footer(root, tmp_path / "source", NOTEBOOK)


@pytest.mark.parametrize(
    "remote", ["https://github.com/some-one/a.book.git", "git@github.com:some-one/a.book.git"]
)
def test_a_checkout_from_github_gives_launch_links_at_its_commit(
    remote: str, root: Path, tmp_path: Path
) -> None:
    git(root, "remote", "add", "origin", remote)
    head = git(root, "rev-parse", "HEAD")
    text = footer(root, tmp_path / "source", NOTEBOOK)
    assert f"(https://github.com/some-one/a.book/blob/{head}/notebooks/chapters/taste.ipynb)" in text
    assert (
        f"(https://mybinder.org/v2/gh/some-one/a.book/{head}?labpath=notebooks/chapters/taste.ipynb)" in text
    )
    assert "mybinder" not in footer(root, tmp_path / "source", PAGE), "prose is not launched"


@pytest.mark.parametrize(
    "remote", ["/srv/book", "https://elsewhere.org/a/b", "https://github.com/a/b)[x](javascript:alert(1)"]
)
def test_any_other_remote_gives_no_links(remote: str, root: Path, tmp_path: Path) -> None:
    git(root, "remote", "add", "origin", remote)
    text = footer(root, tmp_path / "source", NOTEBOOK)
    assert "](" not in text and "javascript" not in text


def test_outside_a_checkout_there_is_no_date(root: Path, tmp_path: Path) -> None:
    below = root / "copied"
    (below / PAGE).parent.mkdir(parents=True)
    (below / PAGE).write_text("# Glossary\n", encoding="utf-8")
    text = footer(below, tmp_path / "source", PAGE)
    assert "Source: " in text and "Last changed" not in text


def test_a_footer_is_a_cell_of_a_notebook_and_a_paragraph_of_prose(root: Path) -> None:
    page_footers.append(root / PAGE, "the foot")
    assert (root / PAGE).read_text(encoding="utf-8") == "# Glossary\n\nthe foot\n"
    page_footers.append(root / NOTEBOOK, "the foot")
    (cell,) = json.loads((root / NOTEBOOK).read_text(encoding="utf-8"))["cells"]
    assert (cell["cell_type"], cell["source"]) == ("markdown", "the foot")
