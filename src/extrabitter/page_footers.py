"""What stands below each page: its committed source, the commands that make it, and when it last changed.

Launch links appear only where the checkout comes from GitHub: no other address of it is known here.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from extrabitter import provenance
from extrabitter.pipeline import Book

# Environment variable that gives a running chapter `commands_from_clone`; provenance_tables.COMMANDS is the same.
COMMANDS = "EXTRABITTER_PAGE_COMMANDS"
# What a profile's runs begin with that no clone holds, and the command that brings it.
FETCHED = {"smollm2": "make smollm2"}
# Committed sources lie in this folder of the book's source, where only download links find them.
FOLDER = "_committed"
_GITHUB = re.compile(r"(?:https://github\.com/|git@github\.com:)([\w.-]+/[\w.-]+?)(?:\.git)?/?")


@dataclass(frozen=True)
class Checkout:
    """Where the book's source comes from; `github` is "owner/name" or empty, `commit` empty outside a checkout."""

    root: Path
    github: str
    commit: str


def find_checkout(root: Path) -> Checkout:
    """Describe the git checkout at `root`; without one there are no dates and no launch links."""
    remote = _GITHUB.fullmatch(_git(root, "config", "--get", "remote.origin.url"))
    inside = _git(root, "rev-parse", "--show-toplevel")
    if not inside or Path(inside).resolve() != root.resolve():
        return Checkout(root, "", "")
    return Checkout(root, remote[1] if remote else "", _git(root, "rev-parse", "HEAD"))


def command(book: Book, chapter: str) -> str:
    """Return the command that runs a chapter of a book, where its runs are there."""
    return f"extrabitter run-chapter {_options(book)} {shlex.quote(chapter)}"


def commands_from_clone(book: Book, chapter: str) -> str:
    """Return the lines that make a chapter's page from a fresh clone: notebook, figures and tables, then the HTML.

    The commit is named only where it holds all that the page is made from: code, profiles and published results.
    """
    root, state = book.plan.root, provenance.git_state(book.plan.root)
    made_from = ["src", "notebooks", "profiles", *([str(book.results_dir)] if book.published else [])]
    status = ("status", "--porcelain", "--untracked-files=all", "--", *made_from)
    if not find_checkout(root).commit:
        first = "# in this tree, which is no clone"
    elif book.published and not _git(root, "ls-files", "--", str(book.results_dir)):
        first = "# with results that no clone holds"
    elif state["dirty"] or _git(root, *status):
        first = f"# commit {state['commit'][:12]}, with changes that are not committed: a clone may give other numbers"
    else:
        first = f"git checkout {state['commit'][:12]}"
    if book.published:
        fetch, make = "make setup", f".venv/bin/{command(book, chapter)}"
    else:
        fetch = FETCHED.get(book.profile.name, "make setup")
        page = shlex.quote(f"{book.output_dir.as_posix()}/{chapter}.ipynb")
        make = f".venv/bin/snakemake --cores all --config profile={book.profile.name} -- {page}"
    return "\n".join(
        [
            first,
            fetch,
            "# the page with its figures and tables" + ", and the runs that it reads" * (not book.published),
            make,
            "# the same as HTML, with the whole book",
            f".venv/bin/extrabitter build {_options(book)}",
        ]
    )


def _options(book: Book) -> str:
    if book.published:
        return f"--published {shlex.quote(book.results_dir.as_posix())}"
    return f"--profile {book.profile.name}"


def footer(checkout: Checkout, source: Path, path: Path, command: str = "") -> str:
    """Write a page's footer in MyST, and put its committed source `path` where the footer's link finds it.

    `source` is the book's source folder, `path` is relative to the checkout's root.
    """
    parts = [f"Source: {link_to_source(checkout.root, source, path)}."]
    if command:
        parts.append(f"Made by `{command}`.")
    changed = _last_change(checkout, path)
    if changed:
        parts.append(f"Last changed on {changed}.")
    if checkout.github and checkout.commit:
        address = f"https://github.com/{checkout.github}/blob/{checkout.commit}/{path.as_posix()}"
        parts.append(f"[View on GitHub]({address}).")
        if path.suffix == ".ipynb":
            binder = (
                f"https://mybinder.org/v2/gh/{checkout.github}/{checkout.commit}?labpath={path.as_posix()}"
            )
            parts.append(f"[Launch on Binder]({binder}).")
    return f"```{{div}} eb-footer\n{' '.join(parts)}\n```"


def link_to_source(root: Path, source: Path, path: Path) -> str:
    """Copy a committed file into the book's source and return a download link to it."""
    target = source / FOLDER / path
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(root / path, target)
    return f"{{download}}`{path.as_posix()} </{FOLDER}/{path.as_posix()}>`"


def append(page: Path, text: str) -> None:
    """Put a footer below a staged page, a notebook's in a cell of its own."""
    if page.suffix == ".md":
        page.write_text(f"{page.read_text(encoding='utf-8').rstrip()}\n\n{text}\n", encoding="utf-8")
        return
    notebook = json.loads(page.read_text(encoding="utf-8"))
    notebook["cells"].append({"cell_type": "markdown", "id": "page-footer", "metadata": {}, "source": text})
    page.write_text(json.dumps(notebook), encoding="utf-8")


def _last_change(checkout: Checkout, path: Path) -> str:
    """Day and commit of a file's last committed change, as text; empty if it has none."""
    found = (
        _git(checkout.root, "log", "-1", "--format=%cs %h", "--", path.as_posix()) if checkout.commit else ""
    )
    if not found:
        return ""
    day, _, commit = found.partition(" ")
    text = f"{date.fromisoformat(day):%-d %B %Y}, commit `{commit}`"
    return text + ", and since then in ways not committed" * bool(
        _git(checkout.root, "status", "--porcelain", "--", path.as_posix())
    )


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
