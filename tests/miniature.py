"""A miniature of the repository: the real pipeline, with stub stage notebooks that finish in a second."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from extrabitter.params import STAGES, stage_parameters
from extrabitter.digests import PACKAGE, REPOSITORY

REQUIRED: dict[str, dict[str, Any]] = {
    "base_model": {},
    "sft_priming": {"init_from": "models/absent", "condition": "direct"},
    "grpo": {"init_from": "models/absent"},
    "behaviour_evaluation": {"checkpoint": "models/absent"},
    "will_it_choke": {"checkpoint": "models/absent"},
}

PROFILE: dict[str, Any] = {
    "name": "mini",
    "description": "Stub runs for the tests.",
    "seeds": [0],
    "stages": {
        "base_model": {
            "estimate_s": 4,
            "defaults": {"num_tokens": 10},
            "arms": {"absent": None},
        },
        "grpo": {
            "estimate_s": 4,
            "arms": {
                "grpo_absent": {"init_from": "base_model/absent", "learning_rate": 0.001},
                "grpo_broken": {"init_from": "base_model/absent"},
            },
        },
        "behaviour_evaluation": {
            "estimate_s": 4,
            "arms": {
                "grpo_absent": {"checkpoint": "grpo/grpo_absent"},
                "grpo_broken": {"checkpoint": "grpo/grpo_broken"},
            },
        },
    },
}

_STAGE_CODE = """\
import pandas as pd
from extrabitter import runs as artifacts
from extrabitter.params import notebook_parameters

parameters = notebook_parameters("{stage}", globals())
run = artifacts.RunFolder.create("{stage}", parameters)
"""

_WORK = """\
print("step 1 of", parameters.arm)
if parameters.arm == "grpo_broken" and parameters.stage == "grpo":
    raise ValueError("it broke | on purpose\\nsecond line")
if parameters.stage == "behaviour_evaluation":
    values = {"measure": ["pass@1"], "value": [0.5], "lower": [0.4], "upper": [0.6], "count": [10]}
    run.write_table("summary", pd.DataFrame(values))
else:
    run.checkpoint_dir.mkdir()
    (run.checkpoint_dir / "config.json").write_text("{}")
    (run.checkpoint_dir / "model.safetensors").write_bytes(parameters.arm.encode())
    artifacts.write_checksums(run.checkpoint_dir)
run.finish()
"""

_CHAPTER = """\
from pathlib import Path

from extrabitter import runs as artifacts
from extrabitter.experiments import figures

(Path(output_dir) / "figures").mkdir(parents=True, exist_ok=True)
(Path(output_dir) / "figures" / "one.txt").write_text("a figure")
print(figures.CAPTION, len(artifacts.find_runs(results_dir)), profile)
"""


def make_miniature(root: Path) -> Path:
    """Lay out a tree with its own copy of the package, so that tests may edit its code."""
    shutil.copytree(PACKAGE, root / "src" / "extrabitter", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "src" / "extrabitter" / "figures.py").write_text('CAPTION = "runs:"\n')
    shutil.copy(REPOSITORY / "Snakefile", root / "Snakefile")
    for stage in STAGES:
        cells = [_markdown(f"(the-stage)=\n# Stage {stage}\n\nA stub."), _parameters(stage)]
        cells += [_code(_STAGE_CODE.replace("{stage}", stage)), _code(_WORK)]
        write_notebook(root / "notebooks" / "stages" / f"{stage}.ipynb", cells)
    literals = 'results_dir: str = "runs/mini"\noutput_dir: str = "out"\nprofile: str = "mini"\n'
    chapter = [_markdown("# What came out"), _code(literals, "parameters"), _code(_CHAPTER)]
    write_notebook(root / "notebooks" / "chapters" / "what_came_out.ipynb", chapter)
    (root / "book").mkdir()
    (root / "book" / "index.md").write_text("# A miniature book\n\nSee {doc}`what_came_out`.\n")
    (root / "book" / "runs.md").write_text("# Runs\n\nOne page each.\n")
    toc = {"format": "jb-book", "root": "index", "chapters": [{"file": "what_came_out"}, {"file": "runs"}]}
    write_yaml(root / "_toc.yml", toc)
    config = {"title": "Mini", "execute": {"execute_notebooks": "off"}, "only_build_toc_files": True}
    config["sphinx"] = {"config": {"html_theme_options": {"home_page_in_toc": True}}}
    write_yaml(root / "_config.yml", config)
    write_yaml(root / "profiles" / "mini.yaml", PROFILE)
    return root


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


def _parameters(stage: str) -> dict[str, Any]:
    values = {"run_dir": "runs/alone", "arm": "alone", "seed": 0, **REQUIRED[stage]}
    dump = stage_parameters(stage, values).model_dump()
    lines = [f"{name}: {type(value).__name__} = {value!r}" for name, value in dump.items()]
    return _code("\n".join(lines), "parameters")


def _markdown(source: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def _code(source: str, *tags: str) -> dict[str, Any]:
    metadata = {"tags": list(tags)}
    return {
        "cell_type": "code",
        "metadata": metadata,
        "source": source,
        "outputs": [],
        "execution_count": None,
    }
