"""The bank: a folder that loads and says what it is and how it was made, or nothing at all."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

from extrabitter import tables
from extrabitter.digests import REPOSITORY, file_sha256, files_sha256
from extrabitter.models import export
from extrabitter.models.tiny import CheckpointError, load_checkpoint, save_checkpoint
from extrabitter.params import stage_parameters
from extrabitter.runs import CHECKSUMS, ArtifactError, RunFolder
from extrabitter.tasks import REGISTRY, load_task

MODELS = REPOSITORY / "models"
BANK = sorted(path.parent for task in REGISTRY for path in MODELS.glob(f"{task}/*/config.json"))


@pytest.fixture
def make_run(tmp_path: Path, tiny_tokenizer, build_tiny_model):
    """A builder of finished runs with a tiny model, in the layout of runs/<profile>."""

    def make(
        stage: str, arm: str, model_seed: int = 0, passed: bool = True, float16: bool = True, **values: Any
    ) -> Path:
        run_dir = tmp_path / "runs" / "mini" / "countdown" / stage / arm / "seed=0"
        given = {"run_dir": str(run_dir), "arm": arm, "seed": 0, **values}
        run = RunFolder.create(stage, stage_parameters(stage, given))
        interval = {"value": 0.25, "lower": 0.2, "upper": 0.3}
        if stage == "behaviour_evaluation":
            rows = [{"measure": "pass@1", **interval, "count": 80}, {"measure": "hit_rate", "count": 0}]
            run.write_table("summary", pd.DataFrame(rows))
            run.write_table("pass_at_k", pd.DataFrame([{"k": 1, **interval}, {"k": 4, **interval}]))
        else:
            loss = {"step": 1, "loss": 2.0, "learning_rate": 0.02, "num_tokens": 10, "elapsed_s": 1.0}
            run.write_table("losses", pd.DataFrame([loss]))
            model = build_tiny_model(run.parameters.architecture, seed=model_seed)
            save_checkpoint(model, tiny_tokenizer, run.checkpoint_dir, float16=float16)
            bar = {"bar": "well-formed", **interval, "threshold": 0.2, "direction": ">=", "passed": passed}
            run.write_table("bars", pd.DataFrame([bar]))
        return run.finish()

    return make


def card_of(folder: Path) -> tuple[dict[str, Any], str]:
    """The front matter of a card, and its text."""
    _, header, text = (folder / export.CARD).read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(header), text


def assert_hashes_hold(folder: Path) -> None:
    listed = {name: sha for sha, _, name in (line.partition("  ") for line in (folder / CHECKSUMS).open())}
    found = files_sha256(folder)
    assert listed == {f"{name}\n": found[name] for name in found.keys() - {CHECKSUMS, export.CARD}}


def test_a_base_is_shipped_with_its_origin_its_bars_and_the_results_of_its_very_weights(
    make_run, tmp_path: Path
) -> None:
    trunk = make_run("base_model", "trunk", model_seed=1)
    base = make_run("base_model", "searcher", init_from=str(trunk / "checkpoint"))
    asked = {"num_problems": 10, "band": "common"}
    make_run("behaviour_evaluation", "before_searcher", checkpoint=str(base / "checkpoint"), **asked)
    make_run("behaviour_evaluation", "other", checkpoint=str(trunk / "checkpoint"), num_problems=10)
    folder = export.ship(base, tmp_path / "models" / "countdown" / "searcher")
    assert_hashes_hold(folder)
    assert {weights.dtype for weights in load_file(folder / export.WEIGHTS).values()} == {torch.float16}
    measured, _ = load_checkpoint(base / "checkpoint")
    loaded, _ = load_checkpoint(folder)
    assert loaded.dtype == torch.float32 and torch.equal(loaded.lm_head.weight, measured.lm_head.weight)
    header, text = card_of(folder)
    assert (header["license"], header["library_name"]) == ("mit", "transformers")
    assert "countdown" in header["tags"]
    assert "# countdown-searcher" in text and 'from_pretrained("models/countdown/searcher")' in text
    assert "| well-formed | 0.25 | 0.2 to 0.3 | >= 0.2 |" in text
    assert "| pass@1 | 0.25 | 0.2 to 0.3 | 80 |" in text and "| pass@4 | 0.25 | 0.2 to 0.3 |  |" in text
    assert "| hit_rate | missing |  | 0 |" in text
    said = "Evaluation `before_searcher`, seed 0: 10 test problems of band common, 8 completions each"
    assert said in text and "Evaluation `other`" not in text
    origin = file_sha256(trunk / "checkpoint" / export.WEIGHTS)
    assert f"weights with SHA-256 `{origin}`" in text and "| arm | `searcher` |" in text
    assert not re.search(r"\n{3}|[ \t]\n|{[{%]", text)
    record = json.loads((folder / export.PROVENANCE).read_text())
    assert record["stage"] == "base_model" and record["input_sha256"] == origin
    summary = folder / "evaluations/before_searcher/seed=0/summary.parquet"
    assert tables.read_table(summary, "summary")["count"].sum() == 80
    assert tables.read_table(folder / "losses.parquet", "losses")["step"].tolist() == [1]


def test_a_bare_base_is_its_checkpoint_and_its_hashes(make_run, tmp_path: Path) -> None:
    base = make_run("base_model", "guesser")
    folder = export.ship(base, tmp_path / "bank" / "seed=0", bare=True)
    names = {path.name for path in (base / "checkpoint").iterdir()}
    assert {path.name for path in folder.iterdir()} == names | {"SHA256SUMS"}
    assert_hashes_hold(folder)
    assert export.ship(base, folder, bare=True) == folder  # again


def test_a_base_replaces_one_shipped_earlier_and_nothing_else(make_run, tmp_path: Path, monkeypatch) -> None:
    base = make_run("base_model", "guesser")
    folder = export.ship(base, tmp_path / "out")
    (folder / "stale").write_text("x")
    assert not (export.ship(base, folder) / "stale").exists()
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter").write_text("years of work")
    (tmp_path / "file").write_text("x")
    for place in (other, tmp_path / "file"):
        with pytest.raises(ArtifactError, match="holds something that is no model"):
            export.ship(base, place)
    with pytest.raises(ArtifactError, match="cannot be written"):
        export.ship(base, tmp_path / "file" / "below")
    assert (other / "chapter").read_text() == "years of work"
    monkeypatch.setattr(export, "card", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export.ship(base, folder)
    assert_hashes_hold(folder)
    assert not list(tmp_path.glob(".*partial"))


def test_what_is_no_whole_run_of_a_base_is_not_shipped(make_run, tmp_path: Path) -> None:
    base = make_run("base_model", "guesser")
    evaluation = make_run("behaviour_evaluation", "before_guesser", checkpoint=str(base / "checkpoint"))
    for run in (evaluation, tmp_path):
        with pytest.raises(ArtifactError, match="must be a finished run of stage base_model"):
            export.ship(run, tmp_path / "out")
    (base / "checkpoint" / export.WEIGHTS).unlink()
    with pytest.raises(ArtifactError, match=f"checkpoint/{export.WEIGHTS} is missing"):
        export.ship(base, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_every_flipped_byte_of_a_shipped_file_is_noticed(make_run, tmp_path: Path) -> None:
    folder = export.ship(make_run("base_model", "searcher"), tmp_path / "searcher")
    for name in (export.WEIGHTS, "tokenizer.json", "config.json", "losses.parquet"):
        path = folder / name
        content = path.read_bytes()
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        with pytest.raises(CheckpointError, match=f"{name} is"):
            load_checkpoint(folder)
        path.write_bytes(content)


@pytest.mark.parametrize(
    ("changes", "max_bytes", "message"),
    [
        ({"passed": False}, export.MAX_BYTES, "missed well-formed"),
        ({"float16": False}, export.MAX_BYTES, "of torch.float32; a base is rounded to float16 first"),
        ({}, 1_000, "bytes to ship; must be at most 1000"),
    ],
)
def test_a_base_below_a_bar_not_rounded_or_too_large_is_not_shipped(
    make_run, tmp_path: Path, monkeypatch, changes: dict[str, bool], max_bytes: int, message: str
) -> None:
    monkeypatch.setattr(export, "MAX_BYTES", max_bytes)
    with pytest.raises(ArtifactError, match=message):
        export.ship(make_run("base_model", "searcher", **changes), tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_a_model_answers_by_the_lines_of_its_card(
    architecture: str, make_run, tmp_path: Path, tiny_tokenizer, build_tiny_model
) -> None:
    base = make_run("base_model", "searcher", architecture=architecture)
    folder = export.ship(base, tmp_path / "models" / "countdown" / "searcher")
    (lines,) = re.findall(r"```python\n(from transformers .*?)```", card_of(folder)[1], re.DOTALL)
    asked = "inputs = tokenizer('numbers 6 7 9 target 8 :', return_tensors='pt')\n"
    answered = "print(model.generate(**inputs, max_new_tokens=9, do_sample=False)[0].tolist())"
    program = [sys.executable, "-c", lines + asked + answered]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    ids = tiny_tokenizer("numbers 6 7 9 target 8 :", return_tensors="pt")
    model, _ = load_checkpoint(folder)
    expected = model.generate(**ids, max_new_tokens=9, do_sample=False)[0].tolist()
    assert json.loads(done.stdout) == expected


# The bank that is committed.


@pytest.mark.parametrize("folder", BANK, ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_each_base_of_the_bank_is_whole_above_its_bars_and_what_its_card_says(folder: Path) -> None:
    assert_hashes_hold(folder)
    assert sum(path.stat().st_size for path in folder.rglob("*")) <= export.MAX_BYTES
    assert {weights.dtype for weights in load_file(folder / export.WEIGHTS).values()} == {torch.float16}
    assert tables.read_table(folder / "bars.parquet", "bars")["passed"].all()
    assert (folder / export.CARD).read_text(encoding="utf-8") == export.card(folder, folder.name)
    model, tokenizer = load_checkpoint(folder)
    words = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    assert words == list(load_task(folder.parent.name).vocabulary)
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer)


@pytest.mark.parametrize("task", sorted({folder.parent.name for folder in BANK}))
def test_searcher_and_guesser_of_a_game_differ_in_their_habit_and_in_nothing_else(task: str) -> None:
    def recipe(arm: str) -> dict[str, Any]:
        path = REPOSITORY / "models" / task / arm / export.PROVENANCE
        parameters = dict(json.loads(path.read_text(encoding="utf-8"))["parameters"])
        return parameters | dict.fromkeys(("arm", "run_dir", "habit_share"))

    assert recipe("searcher") == recipe("guesser")
