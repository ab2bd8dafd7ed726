"""The book's source: prose, executed chapters and one worked run a stage side by side; then its HTML.

Nothing is executed here. Chapters are the notebooks that papermill ran; one that is missing or damaged is refused.
Below every page stands where it comes from. Launch links appear only where the checkout comes from GitHub: no other
address of it is known here.

Models that run in a page lie beside it as scripts: a page read from a disk may fetch nothing, but it may add a script
to itself, as `play.js` does when a reader asks for a model. Which problems there are is decided by a seed, never by
what anybody makes of them.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from nbformat.v4 import new_markdown_cell

from extrabitter.digests import STAGE_NOTEBOOKS, git
from extrabitter.pages import plots
from extrabitter.pages.text import as_script, render
from extrabitter.params import STAGES
from extrabitter.plan import CHAPTER_NOTEBOOKS, Book
from extrabitter.runs import find_runs
from extrabitter.store import WORKED
from extrabitter.tasks import load_task

# The models that run in a page, by task, and the test problems that they are given there.
MODELS = {"countdown": ("guesser", "searcher"), "knights": ("guesser", "deriver", "searcher")}
NUM_PROBLEMS = {"countdown": 40, "knights": 20}
BANDS = {"countdown": "common", "knights": "people5"}

_SOURCE = Path("_build/source")
_RENDERED = Path("_build/jupyter_book")
_COMMITTED = "_committed"  # sources of pages, where only download links find them
# Pages of book/ that include a file of the tree's root.
_ROOT_PAGES = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}

_GITHUB = re.compile(r"(?:https://github\.com/|git@github\.com:)([\w.-]+/[\w.-]+?)(?:\.git)?/?")
_LABEL = re.compile(r"^\([\w:.-]+\)=\s*$", re.MULTILINE)
_TITLE = re.compile(r"^# .*$", re.MULTILINE)


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
        shutil.copytree(folder, source / "_extra" / folder.name, dirs_exist_ok=True)
    for name in _ROOT_PAGES.values():
        if (root / name).is_file():
            shutil.copy(root / name, source / name)
    stage_play(root, source / "_extra" / "play")
    (source / "_static" / "plots.css").write_text(plots.theme_css(), encoding="utf-8")
    shutil.copy(root / "_config.yml", source / "_config.yml")
    (source / WORKED).mkdir()
    stages, runs_dir = [], root / book.runs_dir if book.runs_dir else None
    for notebook, manifest in worked_runs(root / book.results_dir, runs_dir):
        stages.append(str(manifest["stage"]))
        page = source / WORKED / f"{stages[-1]}.ipynb"
        page.write_text(worked_page(notebook, manifest), encoding="utf-8")
    _write_toc(root, source, stages)
    _append_footers(book, source, stages)
    return source


def stage_play(root: Path, target: Path) -> None:
    """Write a script of problems, and one of weights for each model that a checkout holds, to a folder."""
    target.mkdir(parents=True, exist_ok=True)
    (target / "problems.js").write_text(as_script("window.ebProblems", problems()), encoding="ascii")
    for path in (Path(task, name) for task, names in MODELS.items() for name in names):
        folder = root / "models" / path
        if (folder / "model.safetensors").is_file():
            text = as_script(f'(window.ebModels ??= {{}})["{path}"]', _weights(folder))
            (target / f"{'-'.join(path.parts)}.js").write_text(text, encoding="ascii")


def problems() -> dict[str, list[Any]]:
    """Return test problems by task, each as the task puts it to the page's own judge."""
    found = {}
    for name, band in BANDS.items():
        task = load_task(name)
        drawn = task.problems("test", NUM_PROBLEMS[name], 0, band, distinct=True)
        found[name] = [task.for_page(problem) for problem in drawn]
    return found


def _weights(folder: Path) -> dict[str, Any]:
    """Return what the page's own forward pass reads of a checkpoint: configuration, words by id, weights in base64."""
    vocabulary = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    return {
        "config": json.loads((folder / "config.json").read_text(encoding="utf-8")),
        "words": sorted(vocabulary, key=vocabulary.get),
        "weights": base64.b64encode((folder / "model.safetensors").read_bytes()).decode("ascii"),
    }


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
        what = f"the book has {len(lines)} warnings, which count as errors"
        raise BookError(f"{what}; all are in {log}\n{shown}")
    # The theme's download button gives what lies here: the committed notebook instead of the executed one.
    for chapter in book.chapters:
        shutil.copy(root / CHAPTER_NOTEBOOKS / f"{chapter}.ipynb", pages / "_sources" / f"{chapter}.ipynb")
    for stage in STAGES:
        target = pages / "_sources" / WORKED / f"{stage}.ipynb"
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
        # The values that papermill gave say nothing to a reader.
        notebook["cells"] = [c for c in cells if "injected-parameters" not in c["metadata"].get("tags", [])]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BookError(f"chapter {target.stem} is damaged: {executed.name} is no notebook") from None
    target.write_text(json.dumps(notebook), encoding="utf-8")


def _write_toc(root: Path, source: Path, stages: list[str]) -> None:
    """Copy _toc.yml, with the worked runs as sections below its entry `runs`."""
    toc: dict[str, Any] = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    entries = [entry for part in toc.get("parts", [toc]) for entry in part.get("chapters", [])]
    parent = next(entry for entry in entries if entry["file"] == "runs")
    if stages:
        parent["sections"] = [{"file": f"{WORKED}/{stage}"} for stage in stages]
    (source / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False), encoding="utf-8")


def _append_footers(book: Book, source: Path, stages: list[str]) -> None:
    """Say below each page where it comes from and, of a chapter, how it is made."""
    options = f" --profile {book.name}" if book.runs_dir else ""
    names = [path.name for path in (book.root / "book").glob("*.md")]
    pages = [(name, _ROOT_PAGES.get(name, f"book/{name}"), "") for name in names]
    pages += [(f"{WORKED}/{stage}.ipynb", f"{STAGE_NOTEBOOKS}/{stage}.ipynb", "") for stage in stages]
    for chapter in book.chapters:
        command = f"extrabitter run-chapter{options} {chapter}"
        pages.append((f"{chapter}.ipynb", f"{CHAPTER_NOTEBOOKS}/{chapter}.ipynb", command))
    for name, committed, command in pages:
        # The committed file lies where only the footer's download link finds it.
        target = source / _COMMITTED / committed
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(book.root / committed, target)
        page, text = source / name, footer(book.root, Path(committed), command)
        if page.suffix == ".md":
            page.write_text(f"{page.read_text(encoding='utf-8').rstrip()}\n\n{text}", encoding="utf-8")
            continue
        notebook = json.loads(page.read_text(encoding="utf-8"))
        notebook["cells"].append(new_markdown_cell(text, id="page-footer"))
        page.write_text(json.dumps(notebook), encoding="utf-8")


def worked_runs(results_dir: Path, runs_dir: Path | None) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield one executed notebook and manifest a stage: of your own runs where there are some, else the store's."""
    own = find_runs(runs_dir) if runs_dir else []
    for stage in STAGES:
        ended = [(run.path, run.manifest) for run in own if run.stage == stage and run.manifest]
        found = [(path.with_name(f"{path.name}.ipynb"), manifest) for path, manifest in ended]
        kept = results_dir / WORKED / f"{stage}.ipynb"
        if kept.is_file():
            found.append((kept, json.loads(kept.with_suffix(".json").read_text(encoding="utf-8"))))
        yield from [(notebook, manifest) for notebook, manifest in found if notebook.is_file()][:1]


def worked_page(notebook: Path, manifest: Mapping[str, Any]) -> str:
    """Return a worked run's page: what it was, then its executed notebook, as the text of a notebook."""
    fields = STAGES[manifest["stage"]].model_fields
    meanings = {name: field.description or "" for name, field in fields.items()}
    machine = manifest["machine"]
    rows = {
        "commit": manifest["commit"][:12],
        "code": manifest["code_sha256"][:12],
        "weights that it began with": manifest["input_sha256"][:12] or "none",
        "machine": machine.get("gpu") or machine.get("cpu", ""),
        "threads": manifest["threads"],
        "wall time": f"{manifest['wall_s']:.0f} s",
        "peak memory": f"{manifest['peak_rss_mb']:.0f} MB",
        "versions": ", ".join(f"{name} {version}" for name, version in manifest["packages"].items()),
    }
    parameters = [(name, value, meanings.get(name, "")) for name, value in manifest["parameters"].items()]
    named = {name: manifest[name] for name in ("stage", "arm", "seed")}
    head = render("worked_run.md", **named, rows=rows.items(), parameters=parameters)
    content = json.loads(notebook.read_text(encoding="utf-8"))
    content["cells"] = [new_markdown_cell(head, id="provenance"), *map(_tidy, content["cells"])]
    return json.dumps(content)


def _tidy(cell: dict[str, Any]) -> dict[str, Any]:
    """Fit a stage notebook's cell into a page: no label and title of its own, printed lines in one block, no stderr."""
    if cell["cell_type"] != "code":
        return {**cell, "source": _TITLE.sub("", _LABEL.sub("", "".join(cell["source"])), count=1).strip()}
    streams = [output for output in cell["outputs"] if output["output_type"] == "stream"]
    printed = "".join("".join(output["text"]) for output in streams if output["name"] == "stdout")
    outputs = [output for output in cell["outputs"] if output["output_type"] != "stream"]
    if printed.strip():
        outputs.insert(0, {"output_type": "stream", "name": "stdout", "text": printed})
    tags = cell["metadata"].get("tags", [])
    if "injected-parameters" in tags:
        tags = [*tags, "hide-input"]
    return {**cell, "outputs": outputs, "metadata": {**cell["metadata"], "tags": tags}}


def footer(root: Path, path: Path, command: str = "") -> str:
    """Return in MyST what stands below the page made of `path`, relative to the root of a checkout or a mere folder."""
    if Path(git(root, "rev-parse", "--show-toplevel") or "/").resolve() != root.resolve():
        return render("footer.md", path=path.as_posix(), command=command, changed="", github="", commit="")
    github = _GITHUB.fullmatch(git(root, "config", "--get", "remote.origin.url") or "")
    day, _, commit = (git(root, "log", "-1", "--format=%cs %h", "--", path.as_posix()) or "").partition(" ")
    changed = f"{date.fromisoformat(day):%-d %B %Y}, commit `{commit}`" if commit else ""
    where = {"github": github[1] if github else "", "commit": git(root, "rev-parse", "HEAD") or ""}
    return render("footer.md", path=path.as_posix(), command=command, changed=changed, **where)
