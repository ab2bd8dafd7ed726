"""A miniature of the repository: the real pipeline, with stub notebooks and pages that finish in a second."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from extrabitter import digests
from extrabitter.digests import PACKAGE, REPOSITORY
from extrabitter.params import STAGES, stage_parameters

REQUIRED: dict[str, dict[str, Any]] = {
    "base_model": {},
    "sft_priming": {"init_from": "models/guesser", "condition": "direct"},
    "grpo": {"init_from": "models/guesser"},
    "behaviour_evaluation": {"checkpoint": "models/guesser"},
    "will_it_choke": {"checkpoint": "models/guesser"},
}
STAGE_RUNS: dict[str, Any] = {
    "base_model": {"estimate_s": 4, "defaults": {"num_tokens": 10}, "arms": {"guesser": None}},
    "grpo": {
        "estimate_s": 4,
        "arms": {
            "guesser": {"init_from": "base_model/guesser", "learning_rate": 0.001},
            "broken": {"init_from": "base_model/guesser"},
        },
    },
    "behaviour_evaluation": {
        "estimate_s": 4,
        "arms": {f"after_{arm}": {"checkpoint": f"grpo/{arm}"} for arm in ("guesser", "broken")},
    },
}
PROFILE: dict[str, Any] = {
    "name": "mini",
    "description": "Stub runs for the tests.",
    "seeds": [0],
    "tasks": {"countdown": {"stages": STAGE_RUNS}},
}
_ARMS = ("base_model/guesser", "grpo/guesser", "grpo/broken")
BASE, GRPO, BROKEN = (f"countdown/{arm}/seed=0" for arm in _ARMS)
READERS = tuple(f"countdown/behaviour_evaluation/after_{arm}/seed=0" for arm in ("guesser", "broken"))
JOBS = (BASE, GRPO, BROKEN, *READERS)
CHAPTER = "what_came_out"

_STAGE_CODE = """\
import pandas as pd
from extrabitter import runs
from extrabitter.params import notebook_parameters

parameters = notebook_parameters("{stage}", globals())
run = runs.RunFolder.create("{stage}", parameters)
"""

_WORK = """\
print("step 1 of", parameters.arm)
if parameters.arm == "broken" and parameters.stage == "grpo":
    raise ValueError("it broke | on purpose\\nsecond line")
if parameters.stage == "behaviour_evaluation":
    values = {"measure": ["pass@1"], "value": [0.5], "lower": [0.4], "upper": [0.6], "count": [10]}
    run.write_table("summary", pd.DataFrame(values))
else:
    run.checkpoint_dir.mkdir()
    (run.checkpoint_dir / "config.json").write_text("{}")
    (run.checkpoint_dir / "model.safetensors").write_bytes(parameters.arm.encode())
    runs.write_checksums(run.checkpoint_dir)
run.finish()
"""

_CHAPTER = """\
from pathlib import Path

from extrabitter import runs
from extrabitter.experiments import figure

(Path(output_dir) / "figures").mkdir(parents=True, exist_ok=True)
(Path(output_dir) / "figures" / "one.txt").write_text("a figure")
print(figure.CAPTION, sum(run.manifest is not None for run in runs.find_runs(runs_dir)), runs_dir, results_dir)
"""

# The book is a copy of what its chapters printed: building the real one takes half a minute, and is tested elsewhere.
_PAGES = """\
import json

class BookError(RuntimeError):
    pass

def stage_source(book):
    pass

def build_html(book):
    cells = json.loads((book.root / book.output_dir / "what_came_out.ipynb").read_text())["cells"]
    book.index.parent.mkdir(parents=True, exist_ok=True)
    outputs = cells[-1]["outputs"]
    texts = [one.get("text") or one.get("data", {}).get("text/plain", "") for one in outputs]
    book.index.write_text("".join("".join(text) for text in texts))
    return book.index
"""


def make_miniature(root: Path, profile: dict[str, Any] | None = None) -> Path:
    """Lay out a tree with its own copy of the package, so that tests may edit its code."""
    shutil.copytree(PACKAGE, root / "src" / "extrabitter", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "src" / "extrabitter" / "experiments" / "figure.py").write_text('CAPTION = "runs:"\n')
    (root / "src" / "extrabitter" / "pages" / "build.py").write_text(_PAGES)
    shutil.copy(REPOSITORY / "Snakefile", root / "Snakefile")
    shutil.copytree(REPOSITORY / "profiles" / "default", root / "profiles" / "default")
    for stage in STAGES:
        cells = [markdown(f"# Stage {stage}\n\nA stub."), _parameters(stage)]
        cells += [code(_STAGE_CODE.replace("{stage}", stage)), code(_WORK)]
        write_notebook(root / "notebooks" / "stages" / f"{stage}.ipynb", cells)
    literals = 'results_dir: str = "results"\nruns_dir: str = ""\n'
    literals += 'output_dir: str = "out"\nprofile: str = ""\n'
    chapter = [markdown("# What came out"), code(literals, "parameters"), code(_CHAPTER)]
    write_notebook(root / "notebooks" / "chapters" / f"{CHAPTER}.ipynb", chapter)
    (root / "book").mkdir()
    (root / "book" / "index.md").write_text("# A miniature book\n")
    write_yaml(root / "profiles" / "mini.yaml", profile or PROFILE)
    return root


def take_stages(root: Path) -> None:
    """Put the real stage notebooks in the place of the stubs."""
    shutil.rmtree(root / "notebooks" / "stages")
    shutil.copytree(REPOSITORY / "notebooks" / "stages", root / "notebooks" / "stages")


def start(root: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start `extrabitter` on a tree, with the tree's own code, as the leader of a process group."""
    return subprocess.Popen(
        [sys.executable, "-m", "extrabitter.cli", *arguments, "--root", str(root)],
        env=os.environ | {"PYTHONPATH": str(root / "src")} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(root: Path, *arguments: str, code: int | None = 0, **environment: str) -> str:
    """Run `extrabitter` on a tree to its end and return what it said; `code` is the exit code that must come."""
    process = start(root, *arguments, **environment)
    output, _ = process.communicate(timeout=900)
    assert code in (None, process.returncode), output
    return output


def to_run(root: Path) -> dict[str, str]:
    """Say by job what `plan` says: why it has to be made, for those that have to."""
    lines = (line.partition(": to run (") for line in run(root, "plan", "--profile", "mini").splitlines())
    return {key: rest.rpartition("), about")[0] for key, _, rest in lines if rest}


def results(root: Path, profile: str = "mini") -> dict[str, str]:
    """Hash what a tree's runs hold but for clock times: tables and weights by file, by the manifests' own account."""
    found = {}
    for path in sorted((root / "runs" / profile).glob("*/*/*/seed=*/manifest.json")):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        name = path.parent.relative_to(root).as_posix()
        found[name] = manifest["result_sha256"]
        others = [file for file in manifest["files"] if not file.endswith(".parquet")]
        found |= {f"{name}/{file}": digests.file_sha256(path.parent / file) for file in others}
    return found


def write_yaml(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(value, sort_keys=False), encoding="utf-8")


def write_notebook(path: Path, cells: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(notebook), encoding="utf-8")


def edited(path: Path, old: str, new: str) -> Any:
    """Replace text in a file; returns what undoes it."""
    before = path.read_text(encoding="utf-8")
    assert old in before
    path.write_text(before.replace(old, new), encoding="utf-8")
    return lambda: path.write_text(before, encoding="utf-8")


def _parameters(stage: str) -> dict[str, Any]:
    values = {"run_dir": "runs/alone", "arm": "alone", "seed": 0, **REQUIRED[stage]}
    dump = stage_parameters(stage, values).model_dump()
    lines = [f"{name}: {type(value).__name__} = {value!r}" for name, value in dump.items()]
    return code("\n".join(lines), "parameters")


def markdown(source: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def code(source: str, *tags: str) -> dict[str, Any]:
    cell = {"cell_type": "code", "metadata": {"tags": list(tags)}, "source": source}
    return {**cell, "outputs": [], "execution_count": None}
