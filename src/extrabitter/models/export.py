"""Bases that cleared every bar, as folders: in `models/<task>/<arm>` those that the book shows, each with a card.

All trunks of the series lie in `bank/<task>/<arm>/seed=<k>`, bare: a checkpoint and its hashes. A card holds recipe,
origin, bars, results with intervals, data and limits, and is made of the folder alone, so that it can be made again.
Results are those of evaluations that read the very weights shipped: they are found by hash, not by name. Nothing is
uploaded here.

A base *is* its float16-rounded checkpoint, rounded before it was measured: what is trained from a clone is bit for
bit what was measured.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
from safetensors.torch import load_file

from extrabitter import tables as records
from extrabitter.digests import file_sha256
from extrabitter.models.tiny import read_json
from extrabitter.runs import (
    CHECKSUMS,
    MANIFEST,
    ArtifactError,
    altered,
    read_manifest,
    write_checksums,
    write_json,
)

CARD = "README.md"
PROVENANCE = "provenance.json"  # the run's manifest: parameters, input, commit, machine, versions
WEIGHTS = "model.safetensors"
TEMPLATE = Path(__file__).parent / "templates" / "card.md.jinja"
MAX_BYTES = 3_000_000  # every clone pays for it
# What a card shows of an evaluation; all measures lie beside it as parquet.
MEASURES = ["pass@1", "search_probability", "frac_searches", "mean_attempts", "hit_rate"]
MEASURES += ["verdict_accuracy", "mean_completion_tokens", "frac_truncated"]


def ship(run_dir: Path, folder: Path, bare: bool = False) -> Path:
    """Copy the base of a finished run to `folder`, with card, tables and hashes, or with hashes alone if `bare`.

    The hashes leave out the card, which may be made again. Raises ArtifactError when the run is not complete, missed
    a bar or is too large, and when `folder` holds anything but a base shipped earlier or cannot be written; then
    `folder` stays as it was.
    """
    manifest = _check_run(run_dir)
    is_new = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    if not (is_new or (folder / CHECKSUMS).is_file()):
        raise ArtifactError(f"folder {folder}: holds something that is no model; give a new or empty folder")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        shutil.copytree(run_dir / "checkpoint", partial)
        if bare:
            write_checksums(partial)
        else:
            _describe(run_dir, partial, manifest, folder.name)
        size = sum(file.stat().st_size for file in partial.rglob("*"))
        if size > MAX_BYTES:
            raise ArtifactError(f"run {run_dir}: has {size} bytes to ship; must be at most {MAX_BYTES}")
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    except OSError as error:
        raise ArtifactError(f"folder {folder}: cannot be written ({error.strerror or error})") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _describe(run_dir: Path, folder: Path, manifest: dict[str, Any], arm: str) -> None:
    """Put tables, evaluations, origin, hashes and card beside a checkpoint that was copied to `folder`."""
    for table in sorted(run_dir.glob("*.parquet")):
        shutil.copy(table, folder / table.name)
    for run in _evaluations(run_dir, file_sha256(folder / WEIGHTS)):
        target = folder / "evaluations" / run.parent.name / run.name
        target.mkdir(parents=True)
        for file in (MANIFEST, "summary.parquet", "pass_at_k.parquet"):
            shutil.copy(run / file, target / file)
    write_json(folder / PROVENANCE, {key: value for key, value in manifest.items() if key != "files"})
    write_checksums(folder)
    (folder / CARD).write_text(card(folder, arm), encoding="utf-8")


def card(folder: Path, arm: str) -> str:
    """Return the model card, in Markdown, of a shipped folder that is or becomes `models/<task>/<arm>`."""
    manifest = read_json(folder / PROVENANCE)
    task = manifest["parameters"]["task"]
    # What AutoTokenizer reads rightly.
    generic = read_json(folder / "config.json").get("model_type") == "llama"
    shown: dict[str, Any] = {
        "tokenizer_class": "AutoTokenizer" if generic else "PreTrainedTokenizerFast",
        "bars": records.read_table(folder / "bars.parquet", "bars").to_dict("records"),
        "evaluations": [_shown(run) for run in sorted(folder.glob("evaluations/*/seed=*"))],
    }
    shown |= {"name": f"{task}-{arm}", "path": f"models/{task}/{arm}", "task": task, "manifest": manifest}
    return f"{jinja2.Template(TEMPLATE.read_text(encoding='utf-8')).render(**shown)}\n"


def _check_run(run_dir: Path) -> dict[str, Any]:
    """Return the manifest of a whole base-model run that may be shipped; ArtifactError says why another may not."""
    manifest = read_manifest(run_dir)
    if manifest is None or manifest["stage"] != "base_model":
        raise ArtifactError(f"run {run_dir}: must be a finished run of stage base_model")
    if damaged := altered(run_dir, manifest["files"]):
        raise ArtifactError(f"run {run_dir}: {damaged}")
    bars = records.read_table(run_dir / "bars.parquet", "bars")
    if bars.empty or not bars["passed"].all():
        missed = ", ".join(bars.loc[~bars["passed"], "bar"]) or "all, as none was measured"
        raise ArtifactError(f"run {run_dir}: missed {missed}; a base is shipped when it cleared every bar")
    dtypes = {str(weights.dtype) for weights in load_file(run_dir / "checkpoint" / WEIGHTS).values()}
    if other := ", ".join(sorted(dtypes - {"torch.float16"})):
        raise ArtifactError(f"run {run_dir}: has weights of {other}; a base is rounded to float16 first")
    return manifest


def _evaluations(run_dir: Path, weights_sha256: str) -> Iterator[Path]:
    """Yield the folders of evaluations of exactly these weights, of the task that the run belongs to."""
    for path in sorted(run_dir.parent.parent.parent.glob("behaviour_evaluation/*/seed=*/")):
        if (manifest := read_manifest(path)) and manifest["input_sha256"] == weights_sha256:
            yield path


def _shown(run: Path) -> dict[str, Any]:
    """Return what a card says of an evaluation; a measure without denominator is missing, not zero."""
    manifest = read_json(run / MANIFEST)
    rows = records.read_table(run / "summary.parquet", "summary").to_dict("records")
    rows = [row for row in rows if row["measure"] in MEASURES]
    rows.sort(key=lambda row: MEASURES.index(row["measure"]))
    of_k = records.read_table(run / "pass_at_k.parquet", "pass_at_k").to_dict("records")
    rows += [{**row, "measure": f"pass@{row['k']}"} for row in of_k if row["k"] > 1]
    return {**manifest["parameters"], "arm": manifest["arm"], "seed": manifest["seed"], "rows": rows}
