"""What stands below each page: its committed source, the command that makes it, and when it last changed.

Launch links appear only where the checkout comes from GitHub: no other address of it is known here.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from datetime import date
from pathlib import Path

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
