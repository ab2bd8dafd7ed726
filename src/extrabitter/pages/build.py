"""The book's source: prose, executed chapters and one worked run a stage side by side; then its HTML.

Nothing is executed here. Chapters are the notebooks that papermill ran; one that is missing, damaged or holds an
error is refused.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from extrabitter.digests import STAGE_NOTEBOOKS
from extrabitter.pages import plots, provenance
from extrabitter.params import STAGES
from extrabitter.plan import CHAPTER_NOTEBOOKS, Book

_SOURCE = Path("_build/source")
_RENDERED = Path("_build/jupyter_book")
_WORKED = "worked"  # folder of the book with a page a stage, below its page `runs`
_COMMITTED = "_committed"  # sources of pages, where only download links find them
# Pages of book/ that include a file of the tree's root.
_ROOT_PAGES = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}


class BookError(RuntimeError):
    """The book cannot be built; the message is one line."""


def stage_source(book: Book) -> Path:
    """Write the book's source afresh to _build/source/<name>; BookError when a page is missing or broken."""
    root = book.root
    source = root / _SOURCE / book.name
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(root / "book", source)
    output = root / book.output_dir
    for chapter in book.chapters:
        _copy_chapter(output / f"{chapter}.ipynb", source / f"{chapter}.ipynb")
    # What chapters save lies beside the pages in the HTML, where their own markup links to it.
    for folder in (path for path in output.glob("[!.]*") if path.is_dir()):
        target = source / "_extra" if folder.name == "_extra" else source / "_extra" / folder.name
        shutil.copytree(folder, target, dirs_exist_ok=True)
    for name in _ROOT_PAGES.values():
        if (root / name).is_file():
            shutil.copy(root / name, source / name)
    (source / "_static" / "plots.css").write_text(plots.theme_css(), encoding="utf-8")
    shutil.copy(root / "_config.yml", source / "_config.yml")
    stages = _write_worked_runs(book, source)
    _write_toc(root, source, stages)
    _append_footers(book, source, stages)
    return source


def build_html(book: Book) -> Path:
    """Build _build/html/<name> with warnings as errors; BookError when there is any, and no HTML is left."""
    root, index = book.root, book.root / book.index
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
        raise BookError(f"the book has {len(lines)} warnings, which count as errors; all are in {log}\n{shown}")
    # The theme's download button gives what lies here: the committed notebook instead of the executed one.
    for chapter in book.chapters:
        shutil.copy(root / CHAPTER_NOTEBOOKS / f"{chapter}.ipynb", pages / "_sources" / f"{chapter}.ipynb")
    for stage in STAGES:
        target = pages / "_sources" / _WORKED / f"{stage}.ipynb"
        if target.is_file():
            shutil.copy(root / STAGE_NOTEBOOKS / target.name, target)
    index.parent.parent.mkdir(parents=True, exist_ok=True)
    pages.replace(index.parent)
    return index


def _copy_chapter(executed: Path, target: Path) -> None:
    if not executed.is_file():
        raise BookError(f"chapter {target.stem} has not been run: no {executed.name}")
    try:
        notebook = json.loads(executed.read_text(encoding="utf-8"))
        cells = notebook["cells"]
        errors = [output for cell in cells for output in cell.get("outputs", []) if output["output_type"] == "error"]
        # The values that papermill gave say nothing to a reader.
        notebook["cells"] = [c for c in cells if "injected-parameters" not in c["metadata"].get("tags", [])]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BookError(f"chapter {target.stem} is damaged: {executed.name} is no notebook") from None
    for error in errors:
        raise BookError(f"chapter {target.stem} holds an error: {error['ename']}: {error['evalue']}")
    target.write_text(json.dumps(notebook), encoding="utf-8")


def _write_worked_runs(book: Book, source: Path) -> list[str]:
    """Write the page of each stage's worked run; return the stages that have one."""
    runs_dir = book.root / book.runs_dir if book.runs_dir else None
    stages = []
    (source / _WORKED).mkdir()
    for notebook, manifest in provenance.worked_runs(book.root / book.results_dir, runs_dir):
        stages.append(str(manifest["stage"]))
        page = source / _WORKED / f"{stages[-1]}.ipynb"
        page.write_text(provenance.worked_page(notebook, manifest), encoding="utf-8")
    return stages


def _write_toc(root: Path, source: Path, stages: list[str]) -> None:
    """Copy _toc.yml, with the worked runs as sections below its entry `runs`."""
    toc: dict[str, Any] = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    entries = [entry for part in toc.get("parts", [toc]) for entry in part.get("chapters", [])]
    parent = next((entry for entry in entries if entry["file"] == "runs"), None)
    if parent is None:
        raise BookError("_toc.yml has no page `runs`, below which the worked runs are listed")
    if stages:
        parent["sections"] = [{"file": f"{_WORKED}/{stage}"} for stage in stages]
    (source / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False), encoding="utf-8")


def _append_footers(book: Book, source: Path, stages: list[str]) -> None:
    """Say below each page where it comes from and, of a chapter, how it is made."""
    options = f" --profile {book.name}" if book.runs_dir else ""
    names = [path.name for path in (book.root / "book").glob("*.md")]
    pages = [(name, _ROOT_PAGES.get(name, f"book/{name}"), "") for name in names]
    pages += [(f"{_WORKED}/{stage}.ipynb", f"{STAGE_NOTEBOOKS}/{stage}.ipynb", "") for stage in stages]
    for chapter in book.chapters:
        command = f"extrabitter run-chapter{options} {chapter}"
        pages.append((f"{chapter}.ipynb", f"{CHAPTER_NOTEBOOKS}/{chapter}.ipynb", command))
    for name, committed, command in pages:
        # The committed file lies where only the footer's download link finds it.
        target = source / _COMMITTED / committed
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(book.root / committed, target)
        page, text = source / name, provenance.footer(book.root, Path(committed), command)
        if page.suffix == ".md":
            page.write_text(f"{page.read_text(encoding='utf-8').rstrip()}\n\n{text}", encoding="utf-8")
            continue
        notebook = json.loads(page.read_text(encoding="utf-8"))
        notebook["cells"].append({"cell_type": "markdown", "id": "page-footer", "metadata": {}, "source": text})
        page.write_text(json.dumps(notebook), encoding="utf-8")
