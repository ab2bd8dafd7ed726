"""The book's source: prose and executed notebooks side by side, with a page for every run; then its HTML.

Nothing is executed here. Chapters are the notebooks that papermill ran; a chapter that holds an error is
refused. A run that failed gets a page that says so.
"""

from __future__ import annotations

import html
import json
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from extrabitter import page_footers
from extrabitter import run_pages
from extrabitter.runs import find_statuses
from extrabitter.params import STAGES
from extrabitter.plan import CHAPTER_NOTEBOOKS, Book, planned_jobs
from extrabitter.digests import STAGE_NOTEBOOKS
from extrabitter.run_pages import RunPage

_SOURCE = Path("_build/source")
_HTML = Path("_build/html")
_RENDERED = Path("_build/jupyter_book")
# A published book is made from this profile; all others say on each page what they are made from.
REFERENCE = "reference"
# Pages of book/ that include a file of the tree's root.
_ROOT_PAGES = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}


class BookError(RuntimeError):
    """The book cannot be built; the message is one line."""


def index_page(book: Book) -> Path:
    """Where a book's first page lies: each book has a folder of its own, so that none overwrites another."""
    return book.plan.root / _HTML / book.name / "index.html"


def stage_source(book: Book) -> Path:
    """Write the book's source afresh to _build/source/<name>; BookError when a page is missing or broken."""
    root = book.plan.root
    source = root / _SOURCE / book.name
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(root / "book", source)
    for chapter in book.chapters:
        _copy_chapter(root / book.output_dir / f"{chapter}.ipynb", source / f"{chapter}.ipynb")
    # What chapters save (figures/, tables/) lies beside them in the book, as it does in their output folder.
    for folder in (path for path in (root / book.output_dir).glob("*/") if path.is_dir()):
        shutil.copytree(folder, source / folder.name, dirs_exist_ok=True)
    for name in _ROOT_PAGES.values():
        if (root / name).is_file():
            shutil.copy(root / name, source / name)
    pages = _find_pages(root / book.results_dir, root)
    for page in pages:
        run_pages.write_run_page(source, page, book.profile.name)
    for stage in STAGES:
        own = [page for page in pages if page.stage == stage]
        if own:
            run_pages.write_stage_page(source, stage, own)
    _append_footers(root, source, book, pages)
    _write_config(root, source, book)
    _write_toc(root, source, pages)
    return source


def build_html(book: Book) -> Path:
    """Build _build/html/<name> with warnings as errors; BookError when there is any, and no HTML is left."""
    root, index = book.plan.root, index_page(book)
    rendered = root / _RENDERED / book.name
    for folder in (index.parent, rendered):
        shutil.rmtree(folder, ignore_errors=True)
    rendered.mkdir(parents=True)
    program = Path(sys.executable).with_name("jupyter-book")
    command = [str(program), "build", str(root / _SOURCE / book.name)]
    command += ["--path-output", str(rendered), "-W", "-n", "--keep-going", "--all", "--quiet"]
    log = rendered / "book.log"
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    log.write_text(done.stdout, encoding="utf-8")
    pages = rendered / "_build" / "html"  # Jupyter Book's own names
    if done.returncode or not (pages / "index.html").is_file():
        lines = [line for line in done.stdout.splitlines() if "WARNING" in line or "ERROR" in line]
        shown = "\n".join(lines[:20] or done.stdout.splitlines()[-5:])
        raise BookError(
            f"the book has {len(lines)} warnings, which count as errors; all are in {log}\n{shown}"
        )
    # The theme's download button gives what lies here: the committed notebook instead of the executed one.
    for chapter in book.chapters:
        committed = root / CHAPTER_NOTEBOOKS / f"{chapter}.ipynb"
        shutil.copy(committed, pages / "_sources" / committed.name)
    for page in (pages / "_sources" / run_pages.FOLDER).glob("*/*.ipynb"):
        shutil.copy(root / STAGE_NOTEBOOKS / f"{page.parent.name}.ipynb", page)
    index.parent.parent.mkdir(parents=True, exist_ok=True)
    pages.replace(index.parent)
    return index


def _find_pages(results: Path, root: Path) -> list[RunPage]:
    try:
        return run_pages.find_pages(results, root)
    except run_pages.DamagedRunError as error:
        raise BookError(str(error)) from None


def _copy_chapter(executed: Path, target: Path) -> None:
    if not executed.is_file():
        raise BookError(f"chapter {target.stem} has not been run: no {executed.name}")
    for cell in json.loads(executed.read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", []):
            if output["output_type"] == "error":
                raise BookError(
                    f"chapter {target.stem} holds an error: {output['ename']}: {output['evalue']}"
                )
    shutil.copy(executed, target)


def _append_footers(root: Path, source: Path, book: Book, pages: list[RunPage]) -> None:
    """Say below each page where it comes from, and below chapters that read runs, whose code has changed since."""
    checkout = page_footers.find_checkout(root)
    changed = sorted({page.stage for page in pages if page.code_changed}, key=list(STAGES).index)
    warning = ""
    if changed:
        names = ", ".join(f"[{stage.replace('_', ' ')}](/{run_pages.FOLDER}/{stage})" for stage in changed)
        said = f"The code of a stage has changed since runs of this book were made: {names}."
        warning = f"```{{warning}}\n{said}\n```\n\n"
    for chapter in book.chapters:
        path = CHAPTER_NOTEBOOKS / f"{chapter}.ipynb"
        text = page_footers.footer(checkout, source, path, page_footers.command(book, chapter))
        page_footers.append(source / path.name, warning * book.reads_runs(chapter) + text)
    for path in sorted((root / "book").glob("*.md")):
        committed = Path(_ROOT_PAGES.get(path.name, path.relative_to(root)))
        page_footers.append(source / path.name, page_footers.footer(checkout, source, committed))
    for page in pages:
        if page.manifest is not None:
            text = page_footers.footer(checkout, source, STAGE_NOTEBOOKS / f"{page.stage}.ipynb")
            page_footers.append(source / f"{page.name}.ipynb", text)


def banner(book: Book) -> str:
    """Say what a book is made from, for the head of each page; nothing for a whole reference."""
    profile = book.profile
    if profile.name != REFERENCE:
        return f"Built from the profile “{profile.name}”: {profile.description}"
    planned = len(planned_jobs(profile, book.results_dir))
    ended = sum(1 for _ in find_statuses(book.plan.root / book.results_dir))
    if ended >= planned:
        return ""
    return (
        f"Built from the profile “{profile.name}” while its runs come in: {ended} of {planned} have ended. "
        "What is not run yet is shown as not run."
    )


def _write_config(root: Path, source: Path, book: Book) -> None:
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    if line := banner(book):
        # Jupyter Book drops html.announcement where sphinx.config sets theme options: so it is one of them.
        options = (
            config.setdefault("sphinx", {}).setdefault("config", {}).setdefault("html_theme_options", {})
        )
        options["announcement"] = html.escape(line)
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    (source / "_config.yml").write_text(text, encoding="utf-8")


def _write_toc(root: Path, source: Path, pages: list[RunPage]) -> None:
    """Copy _toc.yml, with the pages of the runs as sections below its entry `runs`."""
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    sections = []
    for stage in STAGES:
        files = [{"file": page.name} for page in pages if page.stage == stage]
        if files:
            sections.append({"file": f"{run_pages.FOLDER}/{stage}", "sections": files})
    entries = [entry for part in toc.get("parts", [toc]) for entry in part.get("chapters", [])]
    parent = next((entry for entry in entries if entry["file"] == "runs"), None)
    if parent is None:
        raise BookError("_toc.yml has no page `runs`, below which the runs are listed")
    if sections:
        parent["sections"] = sections
    (source / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False), encoding="utf-8")
