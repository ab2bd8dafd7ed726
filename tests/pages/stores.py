"""Stores in which the book's effects are not there, and chapters run on a store in this process, without papermill."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from extrabitter.digests import REPOSITORY
from extrabitter.pages.plots import model_of
from extrabitter.plan import CHAPTER_NOTEBOOKS

CHAPTERS = sorted((REPOSITORY / CHAPTER_NOTEBOOKS).glob("*.ipynb"))
_REFERENCE = "searcher"  # whose results all arms have where nothing has an effect


def permuted(source: Path, target: Path) -> Path:
    """Copy a store with the arms' labels of each experiment, stage and band rotated, by another step in each seed.

    With as many seeds as arms each label stands once on each arm's results, so that labels say nothing of them.
    """

    def rotated(table: pd.DataFrame, path: Path, shift: int) -> pd.DataFrame:
        for _, own in table.groupby(["stage", _endings(table)]):
            arms = sorted(own["arm"].unique())
            to = {arm: arms[(place + shift) % len(arms)] for place, arm in enumerate(arms)}
            table.loc[own.index, "arm"] = own["arm"].map(to)
        return table

    return _changed(source, target, rotated)


def without_effects(source: Path, target: Path) -> Path:
    """Copy a store in which every arm of a stage has the results of one of them, and bases can do nothing."""

    def levelled(table: pd.DataFrame, path: Path, shift: int) -> pd.DataFrame:
        rows, alike = [], {key: _reference(rows) for key, rows in table.groupby(["stage", _endings(table)])}
        for (stage, arm), own in table.groupby(["stage", "arm"], sort=False):
            rows.append(alike.get((stage, _ending(arm)), own).assign(arm=arm))
        # Each bar measures what one base can do, and compares it with no other arm.
        nothing = {"value": 0.0, "lower": 0.0, "upper": 0.0, "passed": False} if path.stem == "bars" else {}
        return pd.concat(rows).assign(**nothing)

    return _changed(source, target, levelled)


def _reference(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the reference, before RL if it was measured then, or of the first arm."""
    arms = rows["arm"].unique()
    first = min(arms, key=lambda arm: (model_of(arm) != _REFERENCE, arm.startswith("after_"), arm))
    return rows[rows["arm"] == first]


def _ending(arm: str) -> str:
    """Return what stands behind a model's name: arms of other endings have answered other problems."""
    return arm[arm.index(model_of(arm)) + len(model_of(arm)) :]


def _endings(table: pd.DataFrame) -> pd.Series:
    return table["arm"].map({arm: _ending(arm) for arm in table["arm"].unique()}).rename("ending")


def _changed(source: Path, target: Path, change: Callable[[pd.DataFrame, Path, int], pd.DataFrame]) -> Path:
    """Copy a store, each table but `runs` changed; `change` is told its path too, and the place of its seed."""
    for task in sorted({path.parent for path in source.glob("*/seed=*/")}):
        seeds = sorted(task.glob("seed=*/"), key=lambda path: int(path.name.removeprefix("seed=")))
        paths = [(place, path) for place, seed in enumerate(seeds) for path in seed.glob("*/*.parquet")]
        for place, path in paths:
            table, copy = pd.read_parquet(path), target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            (table if path.stem == "runs" else change(table, path, place)).to_parquet(copy, index=False)
    return target


def run_chapter(notebook: Path, **parameters: str) -> dict[str, Any]:
    """Run a chapter's code cells one after the other with these parameters; return what they leave defined."""
    namespace: dict[str, Any] = {"__name__": notebook.stem}
    for number, cell in enumerate(json.loads(notebook.read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] == "code":
            with contextlib.redirect_stdout(io.StringIO()):  # what it displays
                exec(compile("".join(cell["source"]), f"{notebook.name}, cell {number}", "exec"), namespace)
            if "parameters" in cell["metadata"].get("tags", []):
                assert set(parameters) <= set(namespace), f"{notebook.name} lacks parameters of a chapter"
                namespace |= parameters
    return namespace
