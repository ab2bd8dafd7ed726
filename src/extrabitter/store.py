"""The store of results: one parquet file a table of each task, seed and experiment, added once and never rewritten.

    results/<edition>/<task>/seed=<k>/<experiment>/<table>.parquet

A file stacks a table over the runs of its experiment and seed, `stage` and `arm` in front. `runs` holds what
manifests hold, and of a failed run why it failed. Completions are kept of the headline's arms after their last step;
of all arms there are `counts`, a row a problem. Own runs below runs/<profile> are read by the same `read`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from extrabitter.runs import EXPERIMENT, Run, find_runs, write_json
from extrabitter.tables import SCHEMAS, count, read_table, write_table

LEADING = ("seed", "experiment", "stage", "arm")
WORKED = "worked"  # folder of a store with one executed notebook a stage
_HEADLINE = re.compile(r"(before|after)_(searcher|guesser|deriver|silenced)(_[a-z]+\d*)?")  # of any band
# Losses and documents are a run's own record; nothing is argued from them.
_NOT_KEPT = ("losses", "documents")


class StoreError(ValueError):
    """Results cannot be added to a store; the message is one line."""


def read(results_dir: str | Path, task: str, table: str, experiment: str | None = None) -> pd.DataFrame:
    """Read one table of a task over all its seeds, and of one experiment if given; seed, experiment, stage, arm lead.

    `results_dir` is a store or a folder of runs; where it has no such table, or is "", the result is empty and has
    its columns. KeyError for a table that no schema knows; TableError for a damaged one.
    """
    frames, columns = [], [*LEADING, *(column.name for column in SCHEMAS[table])]
    if not str(results_dir):
        return pd.DataFrame(columns=columns)
    for path in sorted(Path(results_dir, task).glob(f"seed=*/{experiment or '*'}/{table}.parquet")):
        stored = read_table(path, table, leading=("stage", "arm"))
        frames.append((int(path.parts[-3].removeprefix("seed=")), path.parts[-2], stored))
    for one in _ended(results_dir, task):
        if experiment in (None, _experiment(one)) and (own := _table_of(one, table)) is not None:
            frames.append((one.seed, _experiment(one), own))
    for seed, name, df in frames:
        df.insert(0, "seed", seed)
        df.insert(1, "experiment", name)
    parts = [df for _, _, df in frames] or [pd.DataFrame(columns=columns)]
    return pd.concat(parts, ignore_index=True)


def publish(
    runs_dir: str | Path, results_dir: str | Path, planned: Mapping[str, str] = {}, partial: bool = False
) -> int:
    """Add what has ended below `runs_dir` to a store, each experiment of a seed whole; return the files added.

    `planned` maps the keys of jobs, task/stage/arm/seed=<k>, to their experiments. With `partial` an experiment of a
    seed waits where one of its jobs has not ended; otherwise, and where a file of the store would change, nothing is
    written and StoreError says why in one line. What the store has already, with the same content, stays as it is.
    """
    groups: dict[Path, list[Run]] = {}
    for one in _ended(runs_dir):
        groups.setdefault(Path(results_dir, one.task, f"seed={one.seed}", _experiment(one)), []).append(one)
    ended = {one.key for own in groups.values() for one in own}
    missing = {key: experiment for key, experiment in planned.items() if key not in ended}
    if missing and not partial:
        shown = ", ".join(sorted(missing)[:5])
        raise StoreError(f"publish: {len(missing)} of {len(planned)} runs have not ended: {shown}")
    for key, experiment in missing.items():
        task, *_, seed = key.split("/")
        groups.pop(Path(results_dir, task, seed, experiment), None)
    made: list[tuple[Path, Path]] = []
    try:
        for folder, members in sorted(groups.items()):
            written = _write(folder, members)
            if folder.exists():
                _check_same(folder, written)
                shutil.rmtree(written)
            else:
                made.append((written, folder))
        num_files = sum(len(list(written.iterdir())) for written, _ in made)
        for written, folder in made:
            os.rename(written, folder)
        _keep_worked([one for own in groups.values() for one in own], Path(results_dir) / WORKED)
        return num_files
    finally:
        for folder in groups:
            shutil.rmtree(_partial(folder), ignore_errors=True)


def _keep_worked(ended: list[Run], folder: Path) -> None:
    """Keep one executed notebook a stage, and its manifest, for the book's pages of worked runs; what is kept stays."""
    for one in ended:
        notebook, kept = one.path.with_name(f"{one.path.name}.ipynb"), folder / f"{one.stage}.ipynb"
        if one.manifest is not None and notebook.is_file() and not kept.exists():
            content = json.loads(notebook.read_text(encoding="utf-8"))
            # Paths of the machine that ran it, in the metadata and in what libraries say.
            content["metadata"].pop("papermill", None)
            for cell in content["cells"]:
                if "outputs" in cell:
                    cell["outputs"] = [output for output in cell["outputs"] if output.get("name") != "stderr"]
            write_json(kept.with_suffix(".json"), one.manifest)
            write_json(kept, content)


def _ended(runs_dir: str | Path, task: str = "*") -> list[Run]:
    """List the jobs below a folder of runs that failed, or ended well and left a whole run."""
    found = find_runs(runs_dir, task)
    return [one for one in found if one.manifest is not None or one.status.state == "failed"]


def _experiment(one: Run) -> str:
    return one.status.experiment or EXPERIMENT


def _table_of(one: Run, table: str) -> pd.DataFrame | None:
    """Return a run's table with stage and arm in front, None if it has none; `runs` and `counts` are made here."""
    if table == "runs":
        own = _run_row(one)
    elif one.manifest is None:
        return None
    elif f"{table}.parquet" in one.manifest["files"]:
        own = read_table(one.path / f"{table}.parquet", table)
    elif table == "counts" and "completions.parquet" in one.manifest["files"]:
        own = count(read_table(one.path / "completions.parquet", "completions"))
    else:
        return None
    own.insert(0, "stage", one.stage)
    own.insert(1, "arm", one.arm)
    return own


def _run_row(one: Run) -> pd.DataFrame:
    """Return the one row of table `runs` that says where a run comes from; of what a failed run lacks, nothing."""
    manifest = one.manifest or {}
    texts = ("commit", "code_sha256", "input_sha256", "predictions_sha256", "result_sha256")
    parts = {"parameters": "parameters", "machine": "machine", "versions": "packages", "model": "model"}
    row = {
        **{name: json.dumps(manifest.get(key) or {}, sort_keys=True) for name, key in parts.items()},
        **{name: str(manifest.get(name) or "") for name in texts},
        "state": one.status.state,
        "reason": one.status.reason,
        "dirty": bool(manifest.get("dirty", False)),
        "threads": int(manifest.get("threads") or 0),
        "seconds": float(manifest.get("wall_s") or one.status.wall_s),
        "peak_rss_mb": float(manifest.get("peak_rss_mb") or 0.0),
    }
    return pd.DataFrame([row], columns=[column.name for column in SCHEMAS["runs"]])


def _partial(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.partial-{os.getpid()}")


def _write(folder: Path, members: list[Run]) -> Path:
    """Write the tables of an experiment's runs, stacked, into a temporary folder beside its own."""
    written = _partial(folder)
    shutil.rmtree(written, ignore_errors=True)
    written.mkdir(parents=True)
    for name in [name for name in SCHEMAS if name not in _NOT_KEPT]:
        kept = [one for one in members if name != "completions" or _HEADLINE.fullmatch(one.arm)]
        if frames := [own for one in kept if (own := _table_of(one, name)) is not None]:
            stacked = pd.concat(frames, ignore_index=True)
            write_table(written / f"{name}.parquet", name, stacked, leading=("stage", "arm"))
    return written


def _check_same(folder: Path, written: Path) -> None:
    """Refuse to change an experiment of a seed that the store has."""
    old, new = ({path.name for path in where.glob("*.parquet")} for where in (folder, written))
    for name in sorted(old | new):
        if name not in old & new:
            raise StoreError(f"publish: {folder} has other tables, one is {name}; what was added stays")
        if not pd.read_parquet(folder / name).equals(pd.read_parquet(written / name)):
            raise StoreError(f"publish: {folder / name} has other content; what was added is never rewritten")
