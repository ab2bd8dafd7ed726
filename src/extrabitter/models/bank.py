"""Ship a finished base model: its checkpoint with model card and record of training, as `models/<name>`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from extrabitter import tables as records
from extrabitter.runs import CHECKSUMS, ArtifactError, read_manifest, write_json
from extrabitter.params import BaseModelParameters
from extrabitter.fingerprints import model_sha256
from extrabitter.digests import file_sha256

MAX_BYTES = 5_000_000  # of a shipped checkpoint: every clone pays for it
CARD = "README.md"
PROVENANCE = "provenance.json"  # the run's manifest: parameters, commit, machine, versions
# Tables of the run that stay with the model: how it was trained, and what it was measured to do then.
TABLES = ("losses", "bars")
_RECIPE = (
    "architecture",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "init_from",
    "num_tokens",
    "documents_per_step",
    "drill_share",
    "four_number_share",
    "cued_share",
    "search_share",
    "cosmetic_share",
    "solution_probability",
    "optimizer",
    "learning_rate",
    "adamw_learning_rate",
    "schedule",
    "seed",
)
LIMITS = """\
A toy: about a million parameters, a few dozen words, one kind of problem. It knows nothing of language and says
nothing about model families. It is made to be trained further and looked into, not to be used."""
_LOADING = """\
```python
from transformers import AutoModelForCausalLM, {tokenizer}

model = AutoModelForCausalLM.from_pretrained("{path}")
{why}tokenizer = {tokenizer}.from_pretrained("{path}")
```"""
_NOT_AUTO = "# AutoTokenizer would cut words by Qwen's own rules.\n"


def ship(run_dir: Path, folder: Path) -> Path:
    """Copy the checkpoint of a finished base-model run to `folder`, with model card, tables and hashes.

    Raises `ArtifactError` when the run is not complete, missed a bar, or is too large; then `folder` stays as
    it was.
    """
    manifest = read_manifest(run_dir)
    if manifest is None or manifest["stage"] != "base_model":
        raise ArtifactError(f"run {run_dir}: must be a finished run of stage base_model")
    bars = records.read_table(run_dir / "bars.parquet", "bars")
    missed = ", ".join(bars.loc[~bars["passed"], "bar"])
    if missed:
        raise ArtifactError(f"run {run_dir}: missed {missed}; a model is shipped when it cleared every bar")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(run_dir / "checkpoint", partial)
    for name in TABLES:
        shutil.copy(run_dir / f"{name}.parquet", partial / f"{name}.parquet")
    write_json(partial / PROVENANCE, {key: value for key, value in manifest.items() if key != "files"})
    hashed = sorted(path for path in partial.iterdir() if path.name != CHECKSUMS)
    hashes = {path.name: file_sha256(path) for path in hashed}
    (partial / CHECKSUMS).write_text(
        "".join(f"{sha}  {name}\n" for name, sha in hashes.items()), encoding="utf-8"
    )
    card = model_card(folder.name, manifest, bars, hashes, chance_to_search(run_dir))
    (partial / CARD).write_text(card, encoding="utf-8")
    size = sum(path.stat().st_size for path in partial.iterdir())
    if size > MAX_BYTES:
        shutil.rmtree(partial)
        raise ArtifactError(f"run {run_dir}: has {size} bytes to ship; must be at most {MAX_BYTES}")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return folder


def chance_to_search(run_dir: Path) -> str:
    """Say how likely the base of a run searches unasked, by an evaluation of these very weights beside it, if any."""
    *_, arm, seed = run_dir.parts
    evaluation = run_dir.parents[2] / "behaviour_evaluation" / f"base_{arm}" / seed
    trained, evaluated = read_manifest(run_dir), read_manifest(evaluation)
    if trained is None or evaluated is None or evaluated.get("input_sha256") != model_sha256(trained):
        return "not measured"
    summary = records.read_table(evaluation / "summary.parquet", "summary").set_index("measure")
    chance = summary.loc["search_probability"]
    return f"{chance['value']:.3g} ({chance['lower']:.3g} to {chance['upper']:.3g})"


def model_card(
    name: str, manifest: dict[str, Any], bars: pd.DataFrame, hashes: dict[str, str], chance: str
) -> str:
    """Return a model card in Markdown: what it is, recipe, data, bars and `chance` with intervals, limits, hashes."""
    # What a run of before a parameter was one did not write down had the value that is its default now.
    parameters = BaseModelParameters(**manifest["parameters"]).model_dump()
    measured = [
        (
            row.bar,
            f"{row.value:.3g}",
            f"{row.lower:.3g} to {row.upper:.3g}",
            f"{row.direction} {row.threshold:g}",
        )
        for row in bars.itertuples()
    ]
    origin = (
        "from random weights" if not parameters["init_from"] else "from a trunk trained on direct answers"
    )
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
            "are known: its documents were generated, and how many of them search was chosen.",
            "",
            loading_snippet(f"models/{name}", parameters["architecture"]),
            "",
            "## Recipe",
            "",
            f"Trained {origin}, at commit `{manifest['commit'][:12]}`, by the notebook `base_model` with",
            "",
            *markdown_table(("parameter", "value"), [(key, f"`{parameters[key]}`") for key in _RECIPE]),
            "",
            "## Data",
            "",
            "Documents drawn by `extrabitter.training.pretraining` from training problems: drills in arithmetic and",
            "comparison, and worked problems, direct or with search. No text by people, no other data.",
            "",
            "## Bars",
            "",
            "Measured on validation problems at temperature 1, with 95 % intervals over problems.",
            "",
            *markdown_table(("bar", "measured", "interval", "asked for"), measured),
            "",
            "## Habit",
            "",
            f"Chance to begin a search where no cue asks for one, by the softmax, a mean over problems: {chance}.",
            "",
            "## Limits",
            "",
            LIMITS,
            "",
            "## SHA-256",
            "",
            *markdown_table(("file", "sha256"), [(file, f"`{sha}`") for file, sha in hashes.items()]),
            "",
        ]
    )


def loading_snippet(path: str, architecture: str) -> str:
    """Return code that loads the model at `path`; `architecture` is "llama" or "qwen2"."""
    if architecture == "llama":
        return _LOADING.format(path=path, tokenizer="AutoTokenizer", why="")
    # Whoever copies the lines would put AutoTokenizer back, which takes this tokenizer for Qwen's.
    return _LOADING.format(path=path, tokenizer="PreTrainedTokenizerFast", why=_NOT_AUTO)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Return the lines of a table in Markdown."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
