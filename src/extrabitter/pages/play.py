"""The models that run in the page: their weights and the problems that they are given, as scripts.

A page read from a disk may fetch nothing, but it may add a script to itself: `play.js` does so when a reader asks for
a model. Which problems there are is decided by a seed, never by what anybody makes of them.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from extrabitter.pages.text import as_script
from extrabitter.tasks import load_task

FOLDER = "play"  # beside the pages; see html_extra_path in _config.yml
MODELS = {"countdown": ("guesser", "searcher"), "knights": ("guesser", "deriver", "searcher")}
NUM_PROBLEMS = {"countdown": 40, "knights": 20}
BANDS = {"countdown": "common", "knights": "people5"}
SEED = 0


def stage_play(root: Path, target: Path) -> None:
    """Write a script of problems, and one of weights for each model that a checkout holds, to a folder."""
    target.mkdir(parents=True, exist_ok=True)
    (target / "problems.js").write_text(as_script("window.ebProblems", problems()), encoding="ascii")
    for task, names in MODELS.items():
        for name in names:
            folder = root / "models" / task / name
            if (folder / "model.safetensors").is_file():
                text = as_script(f'(window.ebModels ??= {{}})["{task}/{name}"]', weights(folder))
                (target / f"{task}-{name}.js").write_text(text, encoding="ascii")


def weights(folder: Path) -> dict[str, Any]:
    """Return what the page's own forward pass reads of a checkpoint: configuration, words by id, weights in base64."""
    vocabulary = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    return {
        "config": json.loads((folder / "config.json").read_text(encoding="utf-8")),
        "words": sorted(vocabulary, key=vocabulary.get),
        "weights": base64.b64encode((folder / "model.safetensors").read_bytes()).decode("ascii"),
    }


def problems() -> dict[str, list[Any]]:
    """Return test problems by task, each as the task puts it to the page's own judge."""
    found = {}
    for name, count in NUM_PROBLEMS.items():
        task = load_task(name)
        drawn = task.problems("test", count, SEED, BANDS[name], distinct=True)
        found[name] = [task.for_page(problem) for problem in drawn]
    return found
