"""The bank: base models that cleared every bar, shipped as `models/<task>/<arm>` with card, record and hashes.

A base *is* its float16-rounded checkpoint: rounded before it was measured, and shipped in float16, so that what is
trained from a clone is bit for bit what was measured.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from extrabitter import tables as records
from extrabitter.models.export import WEIGHTS, export_model
from extrabitter.runs import ArtifactError, read_manifest

MAX_BYTES = 3_000_000  # of a shipped base: every clone pays for it
NEEDED = ("losses.parquet", "bars.parquet")  # how it was trained, and what it was measured to do then


def ship(run_dir: Path, folder: Path) -> Path:
    """Copy the base of a finished run to `folder`, in the bank `models/<task>/<arm>`, with card, tables and hashes.

    Raises ArtifactError when the run is not complete, missed a bar, is not rounded to float16, or is too large; then
    `folder` stays as it was.
    """
    manifest = read_manifest(run_dir)
    if manifest is None or manifest["stage"] != "base_model":
        raise ArtifactError(f"run {run_dir}: must be a finished run of stage base_model")
    for name in NEEDED:
        if not (run_dir / name).is_file():
            raise ArtifactError(f"run {run_dir}: has no {name}")
    bars = records.read_table(run_dir / "bars.parquet", "bars")
    if bars.empty or not bars["passed"].all():
        missed = ", ".join(bars.loc[~bars["passed"], "bar"]) or "all, as none was measured"
        raise ArtifactError(f"run {run_dir}: missed {missed}; a base is shipped when it cleared every bar")
    other = sorted(set(weight_dtypes(run_dir / "checkpoint" / WEIGHTS)) - {"F16"})
    if other:
        raise ArtifactError(f"run {run_dir}: has weights of {', '.join(other)}; a base is rounded to float16 first")
    task = manifest["parameters"]["task"]
    path = f"models/{task}/{folder.name}"
    return export_model(run_dir, folder, name=f"{task}-{folder.name}", path=path, max_bytes=MAX_BYTES)


def weight_dtypes(path: Path) -> dict[str, int]:
    """Count the weights of a safetensors file by dtype, from its header alone."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header: dict[str, Any] = json.loads(file.read(length))
    found: dict[str, int] = {}
    for name, entry in header.items():
        if name != "__metadata__":
            found[entry["dtype"]] = found.get(entry["dtype"], 0) + 1
    return found
