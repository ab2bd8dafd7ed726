"""The pages of single runs: where a run comes from, what it was given, what it made, and how to make it again."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from extrabitter import artifacts, page_footers, provenance
from extrabitter.artifacts import Status
from extrabitter.config import STAGES
from extrabitter.fingerprints import model_sha256, result_sha256
from extrabitter.lineage import standing_elsewhere
from extrabitter.shipping import markdown_table

FOLDER = "run_pages"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_AGAIN = (
    "The run prints the hash of its results: every table it wrote, without wall times. With the same code, versions, "
    "machine and number of threads that is the hash above. Code older than that line prints none."
)
_LABEL = re.compile(r"^\([\w:.-]+\)=\s*$", re.MULTILINE)
_TITLE = re.compile(r"^# .*$", re.MULTILINE)


class DamagedRunError(RuntimeError):
    """A run that ended well has no whole folder or no notebook; the message is one line."""


@dataclass(frozen=True)
class RunPage:
    """What the book shows of one run; `manifest` is None when the run failed."""

    stage: str
    arm: str
    seed: int
    status: Status
    run_dir: Path
    manifest: dict[str, Any] | None
    # The stage's code now differs from the code that the run was made with.
    code_changed: bool
    # Key of the run whose weights this one, or one that it was made from, should have begun with and did not, or none.
    other_draw: str
    # Commit to check out before the run is made again; empty where it is checked out now, or none is known.
    checkout: str

    @property
    def name(self) -> str:
        """Path of the page in the book, without suffix."""
        return f"{FOLDER}/{self.stage}/{self.arm}-seed-{self.seed}"

    @property
    def key(self) -> str:
        """Key of the run's job."""
        return f"{self.stage}/{self.arm}/seed={self.seed}"


def find_pages(results: Path, root: Path) -> list[RunPage]:
    """List the runs below a results folder that ended, in order; DamagedRunError when one is not whole."""
    pages, code_now, head = [], {}, provenance.git_state(root)["commit"]
    for stage, arm, seed, status in artifacts.find_statuses(results):
        run_dir = results / stage / arm / f"seed={seed}"
        manifest = artifacts.read_manifest(run_dir) if status.state == "ok" else None
        if status.state == "ok" and (manifest is None or not _notebook(run_dir).is_file()):
            raise DamagedRunError(f"run {stage}/{arm}/seed={seed}: its folder or notebook is damaged")
        if manifest and stage not in code_now:
            code_now[stage] = provenance.code_digest(root / provenance.STAGE_NOTEBOOKS / f"{stage}.ipynb")
        changed = manifest is not None and manifest["code_sha256"] != code_now[stage]
        commit = str(manifest["commit"]) if manifest else ""
        checkout = commit[:12] if _COMMIT.fullmatch(commit) and commit != head else ""
        pages.append(RunPage(stage, arm, seed, status, run_dir, manifest, changed, "", checkout))
    elsewhere = standing_elsewhere({page.key: page.manifest for page in pages if page.manifest})
    return [replace(page, other_draw=elsewhere.get(page.key, "")) for page in pages]


def write_run_page(source: Path, page: RunPage, profile: str) -> None:
    """Write a run's page: its provenance, then its executed notebook; or, of a failed run, the reason."""
    target = source / page.name
    target.parent.mkdir(parents=True, exist_ok=True)
    title = f"# {page.arm}, seed {page.seed}"
    if page.manifest is None:
        text = f"{title}: failed\n\nThis run failed, and nothing in the book rests on it.\n\n"
        text += f"{_fence(page.status.reason)}\n\n{_commands(page, profile)}\n"
        target.with_suffix(".md").write_text(text, encoding="utf-8")
        return
    head = [
        title,
        *([_changed(page)] if page.code_changed else []),
        *([_other_draw(page)] if page.other_draw else []),
        "\n".join(markdown_table(("of this run", "value"), _provenance(page, page.manifest, profile))),
        _commands(page, profile),
        _AGAIN,
        f":::{{dropdown}} All parameters\n{_parameters(page.stage, page.manifest['parameters'])}\n:::",
    ]
    notebook = json.loads(_notebook(page.run_dir).read_text(encoding="utf-8"))
    notebook["cells"] = [_tidy(cell) for cell in notebook["cells"]]
    cell = {
        "cell_type": "markdown",
        "id": "provenance",
        "metadata": {},
        "source": "\n\n".join(filter(None, head)),
    }
    notebook["cells"].insert(0, cell)
    target.with_suffix(".ipynb").write_text(json.dumps(notebook), encoding="utf-8")


def write_stage_page(source: Path, stage: str, pages: list[RunPage]) -> None:
    """Write the page that lists a stage's runs."""
    rows = []
    for page in pages:
        result = result_sha256(page.run_dir, page.manifest)[:12] if page.manifest else ""
        state = page.status.state + ", code changed since" * page.code_changed
        link = f"[{page.arm}, seed {page.seed}](/{page.name})"
        rows.append((link, state, f"{page.status.wall_s:.0f}", _code(result) if result else ""))
    text = f"# Runs: {stage.replace('_', ' ')}\n\n"
    if any(page.code_changed for page in pages):
        text += "Where the code has changed since a run, the same command may now give other numbers.\n\n"
    text += "\n".join(markdown_table(("run", "status", "wall time / s", "results"), rows)) + "\n"
    (source / FOLDER / f"{stage}.md").write_text(text, encoding="utf-8")


def _notebook(run_dir: Path) -> Path:
    return run_dir.with_name(f"{run_dir.name}.ipynb")


def _changed(page: RunPage) -> str:
    return (
        ":::{warning}\nThe code of this stage has changed since this run was made. The numbers here are those of the "
        "code named below; made again, the run may give others.\n:::"
    )


def _other_draw(page: RunPage) -> str:
    before = f"{FOLDER}/{page.other_draw.replace('/seed=', '-seed-')}"
    return (
        f":::{{note}}\nThis run, or one that it was made from, began with other weights than those that "
        f"[{page.other_draw}](/{before}) made: that one was trained again, or changed since.\n:::"
    )


def _commands(page: RunPage, profile: str) -> str:
    """Say how a run is made again: from a fresh clone with all that it begins with, or alone where that is there."""
    status = artifacts.status_path(Path("runs") / profile / page.key).as_posix()
    fresh = [
        *([f"git checkout {page.checkout}"] if page.checkout else []),
        page_footers.FETCHED.get(profile, "make setup"),
        f".venv/bin/snakemake --cores all --config profile={profile} -- {status}",
    ]
    alone = ["source .venv/bin/activate", f"extrabitter run-job --profile {profile} {page.key}"]
    back = "`git checkout -` and `make setup` then lead back to the code of this book. " * bool(page.checkout)
    return (
        "In a fresh clone, make this page's run with all the runs that it begins with:\n\n"
        + _fence("\n".join(fresh))
        + f"\n\n{back}Where what it begins with is there, make it alone, and again if it is there itself:\n\n"
        + _fence("\n".join(alone))
    )


def _provenance(page: RunPage, manifest: Mapping[str, Any], profile: str) -> list[tuple[str, str]]:
    machine, predictions = manifest["machine"], manifest["predictions_sha256"]
    evaluates = page.stage == "behaviour_evaluation"
    rows = {
        "profile": profile,
        "stage": page.stage.replace("_", " "),
        "arm": page.arm,
        "seed": page.seed,
        "commit": manifest["commit"][:12] + " (with uncommitted changes)" * manifest["dirty"],
        "code": manifest["code_sha256"][:12] + " (changed since)" * page.code_changed,
        "weights it began with": manifest["input_sha256"][:12] or "none",
        # Results published before their manifests kept the hash have none.
        **({} if evaluates else {"weights it made": model_sha256(manifest)[:12] or "not recorded"}),
        **({"predictions then": predictions[:12]} if predictions else {}),
        "results": _results(page, manifest)[:12],
        "machine": machine["gpu"] or machine["cpu"],
        "threads": manifest["threads"],
        "wall time": f"{manifest['wall_s']:.0f} s",
        "peak memory": f"{manifest['peak_rss_mb']:.0f} MB",
        "versions": ", ".join(f"{name} {version}" for name, version in manifest["packages"].items()),
    }
    return [(name, _code(value)) for name, value in rows.items()]


def _results(page: RunPage, manifest: Mapping[str, Any]) -> str:
    """Hash a run's results again; DamagedRunError where they are not those that were published."""
    made = result_sha256(page.run_dir, manifest)
    if manifest.get("result_sha256") not in (None, "", made):
        raise DamagedRunError(f"run {page.key}: its tables are not those that it was published with")
    return made


def _parameters(stage: str, values: Mapping[str, Any]) -> str:
    """Table of a run's parameters; those that the stage no longer has keep their value and have no meaning."""
    fields = STAGES[stage].model_fields
    meanings = {name: field.description or "" for name, field in fields.items()}
    rows = [(_code(name), _code(value), _cell(meanings.get(name, ""))) for name, value in values.items()]
    return "\n".join(markdown_table(("parameter", "value", "meaning"), rows))


def _tidy(cell: dict[str, Any]) -> dict[str, Any]:
    """Fit a stage notebook's cell into its run's page.

    One notebook is many pages here: its labels would clash, and its title says too little. The parameters stand
    in a table already. What libraries say on stderr stays in the run's log, and what was printed line by line
    is one block.
    """
    if cell["cell_type"] == "markdown":
        return {**cell, "source": _TITLE.sub("", _LABEL.sub("", "".join(cell["source"])), count=1).strip()}
    if cell["cell_type"] != "code":
        return cell
    tags = cell["metadata"].get("tags", [])
    if {"parameters", "injected-parameters"} & set(tags):
        cell = {**cell, "metadata": {**cell["metadata"], "tags": [*tags, "hide-input"]}}
    outputs: list[dict[str, Any]] = []
    for output in cell["outputs"]:
        if output["output_type"] != "stream":
            outputs.append(output)
        elif output["name"] == "stdout":
            text = "".join(output["text"])
            if outputs and outputs[-1]["output_type"] == "stream":
                outputs[-1] = {**outputs[-1], "text": outputs[-1]["text"] + text}
            elif text.strip():
                outputs.append({**output, "text": text})
    return {**cell, "outputs": outputs}


def _fence(text: str) -> str:
    """Show text as it is, whatever it contains: the fence is longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def _code(value: Any) -> str:
    """Show a value in a table cell without any meaning to Markdown."""
    text = "".join(char if char.isprintable() else " " for char in str(value))
    return "`" + (text.replace("`", "'").replace("|", "/").strip() or " ") + "`"


def _cell(text: str) -> str:
    """Show a sentence of ours in a table cell."""
    return text.replace("|", "/").replace("*", r"\*")
