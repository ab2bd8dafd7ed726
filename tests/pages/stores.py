"""Stores in which the book's effects are not there, and chapters run on a store in this process, without papermill."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pandas as pd

from extrabitter.digests import REPOSITORY
from extrabitter.plan import CHAPTER_NOTEBOOKS
from extrabitter.store import EXPERIMENT

CHAPTERS = sorted((REPOSITORY / CHAPTER_NOTEBOOKS).glob("*.ipynb"))
_REFERENCE = "searcher"  # whose results all arms have where nothing has an effect


def permuted(source: Path, target: Path) -> Path:
    """Copy a store with the arms' labels of each experiment and stage rotated, by another step in each seed.

    With as many seeds as arms each label stands once on each arm's results, so that labels say nothing of them.
    """
    for task in _tasks(source):
        for shift, seed in enumerate(_seeds(task)):
            for path in sorted(seed.glob("*/*.parquet")):
                table = pd.read_parquet(path)
                if path.stem != "runs":
                    for _, own in table.groupby("stage"):
                        arms = sorted(own["arm"].unique())
                        to = {arm: arms[(place + shift) % len(arms)] for place, arm in enumerate(arms)}
                        table.loc[own.index, "arm"] = own["arm"].map(to)
                _write(table, target / path.relative_to(source))
    return target


def without_effects(source: Path, target: Path) -> Path:
    """Copy a store in which every arm of a stage has the results of one of them, and bases can do nothing."""
    for task in _tasks(source):
        for seed in _seeds(task):
            for path in sorted(seed.glob("*/*.parquet")):
                table = pd.read_parquet(path)
                if path.stem != "runs":
                    taste_test = seed / EXPERIMENT / path.name
                    origin = pd.read_parquet(taste_test) if taste_test.is_file() else table
                    table = pd.concat(
                        _reference(
                            origin[origin["stage"] == stage] if stage in set(origin["stage"]) else own
                        ).assign(arm=arm)
                        for (stage, arm), own in table.groupby(["stage", "arm"], sort=False)
                    )
                if (
                    path.stem == "bars"
                ):  # each measures what one base can do, and compares it with no other arm
                    table = table.assign(value=0.0, lower=0.0, upper=0.0, passed=False)
                _write(table, target / path.relative_to(source))
    return target


def _reference(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the reference, before RL if it was measured then, or of the first arm."""
    order = sorted(
        rows["arm"].unique(), key=lambda arm: (not arm.endswith(_REFERENCE), arm.startswith("after_"), arm)
    )
    return rows[rows["arm"] == order[0]]


def _tasks(source: Path) -> list[Path]:
    return sorted({path.parent for path in source.glob("*/seed=*/")})


def _seeds(task: Path) -> list[Path]:
    return sorted(task.glob("seed=*/"), key=lambda path: int(path.name.removeprefix("seed=")))


def _write(table: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path, index=False)


def run_chapter(notebook: Path, **parameters: str) -> dict[str, Any]:
    """Run a chapter's code cells one after the other with these parameters; return what they leave defined."""
    namespace: dict[str, Any] = {"__name__": notebook.stem}
    for number, cell in enumerate(json.loads(notebook.read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] == "code":
            with contextlib.redirect_stdout(io.StringIO()):  # what it displays
                exec(compile("".join(cell["source"]), f"{notebook.name}, cell {number}", "exec"), namespace)
            if "parameters" in cell["metadata"].get("tags", []):
                assert set(parameters) <= set(namespace), (
                    f"{notebook.name} has not the parameters of a chapter"
                )
                namespace |= parameters
    return namespace
