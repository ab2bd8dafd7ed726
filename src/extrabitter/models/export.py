"""Export a run: its model as a folder that the hub's own command line uploads, with a card that says what it is.

The card holds recipe, origin, bars, results with intervals, data and limits, and is made of the folder alone, so that
it can be made again. Results are those of evaluations that read the very weights exported: they are found by hash,
not by name. Nothing is uploaded here.

The bank, `models/<task>/<arm>`, holds exports of bases that cleared every bar. A base *is* its float16-rounded
checkpoint, rounded before it was measured: what is trained from a clone is bit for bit what was measured.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from safetensors.torch import load_file

from extrabitter import tables as records
from extrabitter.digests import file_sha256, files_sha256
from extrabitter.models.tiny import read_json
from extrabitter.runs import CHECKSUMS, MANIFEST, ArtifactError, read_manifest, write_json

CARD = "README.md"
PROVENANCE = "provenance.json"  # the run's manifest: parameters, input, commit, machine, versions
WEIGHTS = "model.safetensors"
TEMPLATE = Path(__file__).parent / "templates" / "card.md.jinja"
MAX_BYTES = 3_000_000  # of a base in the bank: every clone pays for it
STAGES = ("base_model", "sft_priming", "grpo")
# What a card shows of an evaluation; all measures lie beside it as parquet.
MEASURES = ["pass@1", "search_probability", "frac_searches", "mean_attempts", "hit_rate"]
MEASURES += ["verdict_accuracy", "mean_completion_tokens", "frac_truncated"]


def export_model(run_dir: Path, folder: Path, name: str = "", path: str = "", max_bytes: int = 0) -> Path:
    """Write the checkpoint of a finished run, its tables, evaluations and card to `folder`.

    The card calls the model `name` and has its reader load it from `path`; both are the folder's name if empty.
    Raises ArtifactError where the run is not complete or made no checkpoint, is larger than `max_bytes` (0: any
    size), or where `folder` holds anything but an earlier export; then `folder` stays as it was.
    """
    manifest = read_manifest(run_dir)
    if manifest is None or manifest["stage"] not in STAGES:
        raise ArtifactError(f"run {run_dir}: must be a finished run of stage {', '.join(STAGES)}")
    if not (run_dir / "checkpoint" / WEIGHTS).is_file():
        raise ArtifactError(f"run {run_dir}: has no {WEIGHTS} in checkpoint/; there is nothing to export")

    def fill(partial: Path) -> None:
        shutil.copytree(run_dir / "checkpoint", partial, dirs_exist_ok=True)
        for table in sorted(run_dir.glob("*.parquet")):
            shutil.copy(table, partial / table.name)
        for run in _evaluations(run_dir, file_sha256(partial / WEIGHTS)):
            target = partial / "evaluations" / run.parent.name / run.name
            target.mkdir(parents=True)
            for file in (MANIFEST, "summary.parquet", "pass_at_k.parquet"):
                shutil.copy(run / file, target / file)
        write_json(partial / PROVENANCE, {key: value for key, value in manifest.items() if key != "files"})
        text = card(partial, name or folder.name, path or folder.name)
        (partial / CARD).write_text(text, encoding="utf-8")
        size = sum(file.stat().st_size for file in partial.rglob("*"))
        if max_bytes and size > max_bytes:
            raise ArtifactError(f"run {run_dir}: has {size} bytes to ship; must be at most {max_bytes}")

    return write_folder(folder, fill)


def ship(run_dir: Path, folder: Path) -> Path:
    """Copy the base of a finished run to `folder`, in the bank `models/<task>/<arm>`, with card, tables and hashes.

    Raises ArtifactError when the run is not complete, missed a bar, is not rounded to float16, or is too large; then
    `folder` stays as it was.
    """
    manifest = read_manifest(run_dir)
    if manifest is None or manifest["stage"] != "base_model":
        raise ArtifactError(f"run {run_dir}: must be a finished run of stage base_model")
    bars = records.read_table(run_dir / "bars.parquet", "bars")
    if bars.empty or not bars["passed"].all():
        missed = ", ".join(bars.loc[~bars["passed"], "bar"]) or "all, as none was measured"
        raise ArtifactError(f"run {run_dir}: missed {missed}; a base is shipped when it cleared every bar")
    dtypes = {str(weights.dtype) for weights in load_file(run_dir / "checkpoint" / WEIGHTS).values()}
    if other := ", ".join(sorted(dtypes - {"torch.float16"})):
        raise ArtifactError(f"run {run_dir}: has weights of {other}; a base is rounded to float16 first")
    task = manifest["parameters"]["task"]
    path = f"models/{task}/{folder.name}"
    return export_model(run_dir, folder, name=f"{task}-{folder.name}", path=path, max_bytes=MAX_BYTES)


def write_folder(folder: Path, fill: Callable[[Path], None]) -> Path:
    """Fill a new folder beside `folder`, write its SHA-256 sums, and put it in place of an earlier export.

    The sums leave out the card, which may be made again. Raises ArtifactError where `folder` is no export, or cannot
    be written.
    """
    is_new = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    if not (is_new or (folder / PROVENANCE).is_file()):
        raise ArtifactError(f"folder {folder}: holds something that is no export; give a new or empty folder")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        fill(partial)
        hashes = files_sha256(partial).items()
        lines = [f"{sha}  {name}\n" for name, sha in hashes if name not in (CARD, CHECKSUMS)]
        (partial / CHECKSUMS).write_text("".join(lines), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    except OSError as error:
        raise ArtifactError(f"folder {folder}: cannot be written ({error.strerror or error})") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def card(folder: Path, name: str, path: str) -> str:
    """Return the model card, in Markdown, of an exported or shipped folder; `path` is where its reader finds it."""
    manifest = read_json(folder / PROVENANCE)
    task = manifest["parameters"].get("task", "countdown")
    bars = folder / "bars.parquet"
    # What AutoTokenizer reads rightly.
    generic = read_json(folder / "config.json").get("model_type") == "llama"
    tags = [task, "toy", "reinforcement-learning"]
    library: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    shown: dict[str, Any] = {
        "tokenizer_class": "AutoTokenizer" if generic else "PreTrainedTokenizerFast",
        "bars": records.read_table(bars, "bars").to_dict("records") if bars.is_file() else [],
        "evaluations": [_shown(run) for run in sorted(folder.glob("evaluations/*/seed=*"))],
    }
    shown |= {"name": name, "path": path, "task": task, "manifest": manifest}
    data = ModelCardData(license="mit", tags=tags, **library)
    return f"{ModelCard.from_template(data, template_path=str(TEMPLATE), **shown)}\n"


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
