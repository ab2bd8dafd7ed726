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
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from extrabitter.runs import Status, find_statuses, read_manifest, write_json
from extrabitter.tables import SCHEMAS, read_table, validate_table

EXPERIMENT = "taste_test"  # of an arm that names none
LEADING = ("seed", "experiment", "stage", "arm")
MAX_FILES = 400
MAX_BYTES = 60 * 2**20
WORKED = "worked"  # folder of a store with one executed notebook a stage
_HEADLINE = re.compile(r"(before|after)_(searcher|guesser|deriver|silenced)")
# Losses and documents are a run's own record; nothing is argued from them.
_NOT_KEPT = ("losses", "documents")


class StoreError(ValueError):
    """Results cannot be added to a store; the message is one line."""


class _Ended(NamedTuple):
    """A job that ended: where its run lies, and the run's manifest, None where it failed."""

    task: str
    stage: str
    arm: str
    seed: int
    path: Path
    manifest: dict[str, Any] | None
    status: Status

    @property
    def experiment(self) -> str:
        return self.status.experiment or EXPERIMENT


def read(results_dir: str | Path, task: str, table: str, experiment: str | None = None) -> pd.DataFrame:
    """Read one table of a task over all its seeds, and of one experiment if given; seed, experiment, stage, arm lead.

    `results_dir` is a store or a folder of runs; where it has no such table, or is "", the result is empty and has
    its columns. KeyError for a table that no schema knows; TableError for a damaged one.
    """
    schema = SCHEMAS[table]
    frames = []
    root = Path(results_dir) / task
    if str(results_dir):
        for path in sorted(root.glob(f"seed=*/{experiment or '*'}/{table}.parquet")):
            stored = read_table(path, table, leading=("stage", "arm"))
            stored.insert(0, "seed", int(path.parts[-3].removeprefix("seed=")))
            stored.insert(1, "experiment", path.parts[-2])
            frames.append(stored)
        for one in _ended(Path(results_dir), task):
            if experiment in (None, one.experiment) and (own := _table_of(one, table)) is not None:
                own.insert(0, "seed", one.seed)
                own.insert(1, "experiment", one.experiment)
                frames.append(own)
    if not frames:
        return pd.DataFrame(columns=[*LEADING, *(column.name for column in schema)])
    return pd.concat(frames, ignore_index=True)


def tasks_of(results_dir: str | Path) -> list[str]:
    """List the tasks that a store, or a folder of runs, has results of."""
    found = {path.parent.name for path in Path(results_dir).glob("*/seed=*") if path.is_dir()}
    return sorted(found | {one.task for one in _ended(Path(results_dir), "*")})


def publish(runs_dir: str | Path, results_dir: str | Path, planned: Collection[str] = ()) -> int:
    """Add what has ended below `runs_dir` to a store, each experiment of a seed whole; return the files added.

    `planned` holds keys of jobs, task/stage/arm/seed=<k>, that must have ended. Nothing is written and StoreError
    says why in one line where one of them has not, where a file of the store would change, or where the store would
    grow past MAX_FILES or MAX_BYTES. What the store has already, with the same content, stays as it is.
    """
    groups: dict[Path, list[_Ended]] = {}
    ended = _ended(Path(runs_dir), "*")
    keys = {f"{one.task}/{one.stage}/{one.arm}/seed={one.seed}" for one in ended}
    if missing := sorted(set(planned) - keys):
        raise StoreError(f"publish: {len(missing)} of {len(planned)} runs have not ended: {', '.join(missing[:5])}")
    for one in ended:
        folder = Path(results_dir) / one.task / f"seed={one.seed}" / one.experiment
        groups.setdefault(folder, []).append(one)
    made: list[tuple[Path, Path]] = []
    try:
        for folder, members in sorted(groups.items()):
            tables = {name: _stack(members, name) for name in SCHEMAS if name not in _NOT_KEPT}
            partial = _write(folder, {name: df for name, df in tables.items() if df is not None})
            if folder.exists():
                _check_same(folder, partial)
                shutil.rmtree(partial)
            else:
                made.append((partial, folder))
        _check_size(Path(results_dir), [partial for partial, _ in made])
        num_files = sum(len(list(partial.iterdir())) for partial, _ in made)
        for partial, folder in made:
            os.rename(partial, folder)
        _keep_worked(ended, Path(results_dir) / WORKED)
        return num_files
    finally:
        for folder in groups:
            shutil.rmtree(_partial(folder), ignore_errors=True)


def _keep_worked(ended: list[_Ended], folder: Path) -> None:
    """Keep one executed notebook a stage, and its manifest, for the book's pages of worked runs; what is kept stays."""
    for one in ended:
        notebook, kept = one.path.with_name(f"{one.path.name}.ipynb"), folder / f"{one.stage}.ipynb"
        if one.manifest is not None and notebook.is_file() and not kept.exists():
            write_json(kept.with_suffix(".json"), one.manifest)
            shutil.copyfile(notebook, kept)


def _ended(runs_dir: Path, task: str) -> list[_Ended]:
    """List the jobs below a folder of runs that failed, or ended well and left a whole run, by stage and arm."""
    found = []
    for its_task, stage, arm, seed, status in find_statuses(runs_dir):
        run_dir = runs_dir / its_task / stage / arm / f"seed={seed}"
        manifest = read_manifest(run_dir) if status.state == "ok" else None
        if task in ("*", its_task) and (manifest is not None or status.state == "failed"):
            found.append(_Ended(its_task, stage, arm, seed, run_dir, manifest, status))
    return found


def _stack(members: list[_Ended], table: str) -> pd.DataFrame | None:
    """Stack a table over runs; None where none has it."""
    kept = [one for one in members if table != "completions" or _HEADLINE.fullmatch(one.arm)]
    frames = [own for one in kept if (own := _table_of(one, table)) is not None]
    return pd.concat(frames, ignore_index=True) if frames else None


def _table_of(one: _Ended, table: str) -> pd.DataFrame | None:
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


def count(completions: pd.DataFrame) -> pd.DataFrame:
    """Turn a table of completions into table `counts`: a row a problem, in the order of their first samples."""
    sampled = completions.groupby("problem", sort=False)
    counts = sampled.agg(
        num_samples=("correct", "size"), num_correct=("correct", "sum"), num_tokens=("num_completion_tokens", "sum")
    )
    return counts.astype("int64").reset_index()


def _run_row(one: _Ended) -> pd.DataFrame:
    """Return the one row of table `runs` that says where a run comes from."""
    manifest = one.manifest or {}
    texts = {name: str(manifest.get(name) or "") for name in ("commit", "code_sha256", "input_sha256")}
    hashes = {name: str(manifest.get(name) or "") for name in ("predictions_sha256", "result_sha256")}
    parts = {"parameters": "parameters", "machine": "machine", "versions": "packages", "model": "model"}
    row = {
        "state": one.status.state,
        "reason": one.status.reason,
        **{name: json.dumps(manifest.get(key) or {}, sort_keys=True) for name, key in parts.items()},
        **texts,
        **hashes,
        "dirty": bool(manifest.get("dirty", False)),
        "threads": int(manifest.get("threads") or 0),
        "seconds": float(manifest.get("wall_s") or one.status.wall_s),
        "peak_rss_mb": float(manifest.get("peak_rss_mb") or 0.0),
    }
    return pd.DataFrame([row], columns=[column.name for column in SCHEMAS["runs"]])


def _partial(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.partial-{os.getpid()}")


def _write(folder: Path, tables: dict[str, pd.DataFrame]) -> Path:
    """Write an experiment's tables into a temporary folder beside its own."""
    partial = _partial(folder)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, df in tables.items():
        validate_table(name, df.drop(columns=["stage", "arm"]))
        path = partial / f"{name}.parquet"
        # Committed for good: completions shrink to half of what the default codec leaves of them.
        df.to_parquet(path, index=False, compression="zstd", compression_level=9)
        with open(path, "rb") as handle:
            os.fsync(handle.fileno())
    return partial


def _check_same(folder: Path, partial: Path) -> None:
    """Refuse to change an experiment of a seed that the store has."""
    old, new = ({path.name for path in where.glob("*.parquet")} for where in (folder, partial))
    for name in sorted(old | new):
        if name not in old or name not in new:
            raise StoreError(f"publish: {folder} has other tables, of which {name} is one; what was added stays")
        if not pd.read_parquet(folder / name).equals(pd.read_parquet(partial / name)):
            raise StoreError(f"publish: {folder / name} has other content; what was added is never rewritten")


def _check_size(results_dir: Path, added: list[Path]) -> None:
    """Refuse a store that would be too large to be committed."""
    there = [path for path in results_dir.rglob("*.parquet") if ".partial-" not in path.parent.name]
    files = there + [path for partial in added for path in partial.iterdir()]
    size = sum(path.stat().st_size for path in files)
    if len(files) > MAX_FILES or size > MAX_BYTES:
        raise StoreError(
            f"publish: the store would have {len(files)} files and {size / 2**20:.1f} MB; "
            f"at most {MAX_FILES} and {MAX_BYTES // 2**20} MB are allowed"
        )
