"""Hashes by which a run is told from another: of the weights that it made, and of its results."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from extrabitter import tables as records
from extrabitter.runs import Run

WEIGHTS = "checkpoint/model.safetensors"


def result_sha256(run_dir: Path, manifest: Mapping[str, Any]) -> str:
    """Hash a run's tables without their wall times: the same parameters, machine and threads give the same hash."""
    digest = hashlib.sha256()
    for file in sorted(name for name in manifest["files"] if name.endswith(".parquet")):
        name = file.removesuffix(".parquet")
        timings = [column.name for column in records.SCHEMAS[name] if column.unit == "s"]
        table = records.read_table(run_dir / file, name).drop(columns=timings)
        digest.update(f"{name}\n{table.to_csv(index=False)}".encode())
    return digest.hexdigest()


def recorded_result_sha256(run: Run) -> str:
    """Return the hash that publishing kept, or else make it; "" where the tables cannot be read as they are today."""
    if kept := str(run.manifest.get("result_sha256") or ""):
        return kept
    try:
        return result_sha256(run.path, run.manifest)
    except (OSError, KeyError, records.TableError):
        return ""


def model_sha256(manifest: Mapping[str, Any]) -> str:
    """Hash of the weights that a run made; empty if it made none. Published runs keep the hash without the weights."""
    return str(manifest["files"].get(WEIGHTS) or manifest.get("model_sha256") or "")
