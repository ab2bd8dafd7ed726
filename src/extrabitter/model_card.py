"""Turn a finished base-model run into a folder that can be shipped: checkpoint, model card, hashes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd

from extrabitter.artifacts import ArtifactError, read_manifest
from extrabitter.records import read_table

MAX_BYTES = 5_000_000  # of a shipped checkpoint: every clone pays for it
RECIPE = (
    "architecture",
    "num_tokens",
    "documents_per_step",
    "drill_share",
    "four_number_share",
    "cued_share",
    "search_share",
    "cosmetic_share",
    "solution_probability",
    "learning_rate",
    "adamw_learning_rate",
    "schedule",
    "seed",
)
LIMITS = """\
A toy: about a million parameters, a few dozen words, one kind of problem. It says nothing about language, and
nothing about model families. It is made to be trained further and looked into, not to be used.
"""


def ship(run_dir: str | Path, folder: str | Path) -> Path:
    """Copy the checkpoint of a complete base-model run to `folder` and write its model card.

    Raises `ArtifactError` when the run is not complete, was made below a bar, or is too large.
    """
    run_dir, folder = Path(run_dir), Path(folder)
    manifest = read_manifest(run_dir)
    if manifest is None or manifest["stage"] != "base_model":
        raise ArtifactError(f"run {run_dir}: is not a complete run of stage base_model")
    bars = read_table(run_dir / "bars.parquet", "bars")
    if not bars["passed"].all():
        missed = ", ".join(bars.loc[~bars["passed"], "bar"])
        raise ArtifactError(f"run {run_dir}: missed {missed}; not shipped")
    checkpoint = run_dir / "checkpoint"
    size = sum(path.stat().st_size for path in checkpoint.iterdir())
    if size > MAX_BYTES:
        raise ArtifactError(f"run {run_dir}: checkpoint has {size} bytes; at most {MAX_BYTES} are shipped")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(checkpoint, partial)
    (partial / "README.md").write_text(model_card(folder.name, manifest, bars), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return folder


def model_card(name: str, manifest: dict, bars: pd.DataFrame) -> str:
    """Return the model card of a base model: what it is, recipe, data, bars with intervals, limits, hashes."""
    recipe = [(key, manifest["parameters"][key]) for key in RECIPE]
    measured = [
        (
            row.bar,
            f"{row.value:.3g}",
            f"{row.lower:.3g} to {row.upper:.3g}",
            f"{row.direction} {row.threshold:g}",
        )
        for row in bars.itertuples()
    ]
    files = sorted(manifest["files"].items())
    hashes = [(file, sha) for file, sha in files if file.startswith("checkpoint/")]
    return "\n".join(
        [
            "---",
            "license: mit",
            "library_name: transformers",
            "tags: [countdown, toy, reinforcement-learning]",
            "---",
            f"# {name}",
            "",
            "A tiny causal language model over Countdown problems, made to be a base model for GRPO whose habits",
            "are known exactly: its documents were generated, and how many of them search was chosen.",
            "",
            "```python",
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "",
            f'model = AutoModelForCausalLM.from_pretrained("models/{name}")',
            f'tokenizer = AutoTokenizer.from_pretrained("models/{name}")',
            "```",
            "",
            "## Recipe",
            "",
            *_table(("parameter", "value"), recipe),
            "",
            "A base goes on from a trunk that was trained on drills and direct answers only; the recipe above is",
            "that of the mixture stage. The documents are drawn by `extrabitter.pretraining` from training problems.",
            "",
            "## Bars",
            "",
            "Measured on validation problems at temperature 1, with 95 % intervals over problems.",
            "",
            *_table(("bar", "measured", "interval", "asked for"), measured),
            "",
            "## Limits",
            "",
            LIMITS,
            "## SHA-256",
            "",
            *_table(("file", "sha256"), hashes),
            "",
        ]
    )


def _table(header: tuple[str, ...], rows: list[tuple]) -> list[str]:
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
