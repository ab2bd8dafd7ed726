"""Where the pages come from: one worked run a stage as a page of its own, and what stands below every page.

Launch links appear only where the checkout comes from GitHub: no other address of it is known here.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import jinja2

from extrabitter.params import STAGES
from extrabitter.runs import find_runs
from extrabitter.store import WORKED

_GITHUB = re.compile(r"(?:https://github\.com/|git@github\.com:)([\w.-]+/[\w.-]+?)(?:\.git)?/?")
_LABEL = re.compile(r"^\([\w:.-]+\)=\s*$", re.MULTILINE)
_TITLE = re.compile(r"^# .*$", re.MULTILINE)


def worked_runs(results_dir: Path, runs_dir: Path | None) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield one executed notebook and manifest a stage: of your own runs where there are some, else the store's."""
    own = find_runs(runs_dir) if runs_dir else []
    for stage in STAGES:
        found = [(run.path.with_name(f"{run.path.name}.ipynb"), run.manifest) for run in own if run.stage == stage]
        kept = results_dir / WORKED / f"{stage}.ipynb"
        if kept.is_file():
            found.append((kept, json.loads(kept.with_suffix(".json").read_text(encoding="utf-8"))))
        yield from [(notebook, manifest) for notebook, manifest in found if notebook.is_file()][:1]


def worked_page(notebook: Path, manifest: Mapping[str, Any]) -> str:
    """Return a worked run's page: what it was, then its executed notebook, as the text of a notebook."""
    stage = manifest["stage"]
    fields = STAGES[stage].model_fields
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
    cells = [_tidy(cell) for cell in content["cells"]]
    content["cells"] = [{"cell_type": "markdown", "id": "provenance", "metadata": {}, "source": head}, *cells]
    return json.dumps(content)


def _tidy(cell: dict[str, Any]) -> dict[str, Any]:
    """Fit a stage notebook's cell into a page: no label and title of its own, printed lines in one block, no stderr."""
    if cell["cell_type"] != "code":
        return {**cell, "source": _TITLE.sub("", _LABEL.sub("", "".join(cell["source"])), count=1).strip()}
    printed = "".join(
        "".join(output["text"])
        for output in cell["outputs"]
        if output["output_type"] == "stream" and output["name"] == "stdout"
    )
    outputs = [output for output in cell["outputs"] if output["output_type"] != "stream"]
    if printed.strip():
        outputs.insert(0, {"output_type": "stream", "name": "stdout", "text": printed})
    tags = cell["metadata"].get("tags", [])
    if "injected-parameters" in tags:
        tags = [*tags, "hide-input"]
    return {**cell, "outputs": outputs, "metadata": {**cell["metadata"], "tags": tags}}


def footer(root: Path, path: Path, command: str = "") -> str:
    """Return in MyST what stands below the page made of `path`, relative to the root of a checkout or a mere folder."""
    if Path(_git(root, "rev-parse", "--show-toplevel") or "/").resolve() != root.resolve():
        return render("footer.md", path=path.as_posix(), command=command, changed="", github="", commit="")
    github = _GITHUB.fullmatch(_git(root, "config", "--get", "remote.origin.url"))
    day, _, commit = _git(root, "log", "-1", "--format=%cs %h", "--", path.as_posix()).partition(" ")
    changed = f"{date.fromisoformat(day):%-d %B %Y}, commit `{commit}`" if commit else ""
    where = {"github": github[1] if github else "", "commit": _git(root, "rev-parse", "HEAD")}
    return render("footer.md", path=path.as_posix(), command=command, changed=changed, **where)


def render(template: str, **values: Any) -> str:
    """Fill a template of this package; a value that it asks for and is not given is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("extrabitter.pages"), undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    environment.filters |= {"code": _code, "cell": lambda text: text.replace("|", "/").replace("*", r"\*")}
    return environment.get_template(f"{template}.jinja").render(**values)


def _code(value: object) -> str:
    """Show a value in a table's cell without any meaning to Markdown."""
    text = "".join(char if char.isprintable() else " " for char in str(value))
    return "`" + (text.replace("`", "'").replace("|", "/").strip() or " ") + "`"


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
