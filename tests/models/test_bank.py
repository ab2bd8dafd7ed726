"""A base model is shipped with its card, record and hashes, or not at all; and the shipped ones are what they say."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pandas as pd
import pytest
import yaml

from extrabitter import tables as records
from extrabitter.models import bank as shipping
from extrabitter.runs import CHECKSUMS, ArtifactError, RunFolder
from extrabitter.params import stage_parameters
from extrabitter.digests import REPOSITORY
from extrabitter.tasks import countdown

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from transformers import PreTrainedModel, PreTrainedTokenizerFast

SHIPPED = sorted(path.parent.name for path in (REPOSITORY / "models").glob(f"*/{shipping.PROVENANCE}"))


def recorded_hashes(folder: Path) -> dict[str, str]:
    """The hashes that a shipped model came with, by file."""
    lines = (folder / CHECKSUMS).read_text(encoding="utf-8").splitlines()
    return {name: sha for sha, name in (line.split("  ") for line in lines)}


@pytest.fixture
def make_run(
    tmp_path: Path,
    tiny_tokenizer: PreTrainedTokenizerFast,
    build_tiny_model: Callable[..., PreTrainedModel],
) -> Callable[..., Path]:
    """A builder of finished base-model runs with a tiny model, which cleared its bar or missed it."""
    from extrabitter.models import tiny as models

    def make(passed: bool = True, **sizes: int) -> Path:
        values = {"run_dir": str(tmp_path / "run"), "arm": "rich", "seed": 0}
        run = RunFolder.create("base_model", stage_parameters("base_model", values))
        bar = {"bar": "3 numbers: well-formed", "value": 0.99, "lower": 0.98, "upper": 1.0}
        bar |= {"threshold": 0.98, "direction": ">=", "passed": passed}
        loss = {"step": 1, "loss": 2.0, "learning_rate": 0.02, "num_tokens": 10, "elapsed_s": 1.0}
        run.write_table("bars", pd.DataFrame([bar]))
        run.write_table("losses", pd.DataFrame([loss]))
        models.save_checkpoint(build_tiny_model(**sizes), tiny_tokenizer, run.checkpoint_dir)
        return run.finish()

    return make


def test_a_shipped_model_loads_and_tells_how_it_was_made(
    make_run: Callable[..., Path], tmp_path: Path
) -> None:
    from extrabitter.models import tiny as models
    from extrabitter.training import pretraining

    folder = shipping.ship(make_run(), tmp_path / "models" / "rich")
    models.load_checkpoint(folder)
    card = (folder / shipping.CARD).read_text(encoding="utf-8")
    sha = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert sha in card
    assert "AutoModelForCausalLM.from_pretrained" in card
    assert "0.98 to 1" in card
    assert json.loads((folder / shipping.PROVENANCE).read_text())["parameters"]["arm"] == "rich"
    assert pretraining.recorded_losses(folder)["num_tokens"].tolist() == [10]
    assert pretraining.recorded_losses(tmp_path).empty


def test_every_flipped_byte_of_a_shipped_file_is_noticed(
    make_run: Callable[..., Path], tmp_path: Path
) -> None:
    from extrabitter.models import tiny as models

    folder = shipping.ship(make_run(), tmp_path / "rich")
    for name in ("model.safetensors", "tokenizer.json", "config.json", "losses.parquet"):
        path = folder / name
        content = path.read_bytes()
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        with pytest.raises(models.CheckpointError, match=f"{name} is corrupted"):
            models.load_checkpoint(folder)
        path.write_bytes(content)


def test_a_model_below_a_bar_or_too_large_is_not_shipped(
    make_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "rich"
    with pytest.raises(ArtifactError, match="missed 3 numbers: well-formed"):
        shipping.ship(make_run(passed=False), folder)
    monkeypatch.setattr(shipping, "MAX_BYTES", 1_000)
    with pytest.raises(ArtifactError, match="bytes to ship; must be at most 1000"):
        shipping.ship(make_run(), folder)
    with pytest.raises(ArtifactError, match="must be a finished run of stage base_model"):
        shipping.ship(tmp_path, folder)
    assert not folder.exists()


def test_a_card_says_how_likely_the_model_searches_unasked_if_that_was_evaluated(tmp_path: Path) -> None:
    bank = REPOSITORY / "results" / "bases"
    assert shipping.chance_to_search(bank / "base_model" / "rich" / "seed=0") == "0.11 (0.109 to 0.111)"
    for stage, arm in (("base_model", "rich"), ("behaviour_evaluation", "base_rich")):
        shutil.copytree(bank / stage / arm / "seed=0", tmp_path / stage / arm / "seed=0")
    assert shipping.chance_to_search(tmp_path / "base_model" / "rich" / "seed=0") == "0.11 (0.109 to 0.111)"
    manifest = tmp_path / "behaviour_evaluation" / "base_rich" / "seed=0" / "manifest.json"
    of_others = json.loads(manifest.read_text()) | {"input_sha256": "0" * 64}
    manifest.write_text(json.dumps(of_others))
    assert shipping.chance_to_search(tmp_path / "base_model" / "rich" / "seed=0") == "not measured"
    manifest.unlink()
    assert shipping.chance_to_search(tmp_path / "base_model" / "rich" / "seed=0") == "not measured"


@pytest.mark.parametrize("name", SHIPPED)
def test_the_card_of_a_shipped_model_is_what_its_record_and_the_bank_make_of_it(name: str) -> None:
    folder = REPOSITORY / "models" / name
    manifest = json.loads((folder / shipping.PROVENANCE).read_text(encoding="utf-8"))
    bars = records.read_table(folder / "bars.parquet", "bars")
    hashes = recorded_hashes(folder)
    chance = shipping.chance_to_search(REPOSITORY / "results/bases/base_model" / name / "seed=0")
    assert chance != "not measured"
    card = shipping.model_card(name, manifest, bars, hashes, chance)
    assert (folder / shipping.CARD).read_text(encoding="utf-8") == card


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_models_are_whole_small_and_above_their_bars(name: str) -> None:
    folder = REPOSITORY / "models" / name
    hashes = recorded_hashes(folder)
    assert hashes == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.name not in (CHECKSUMS, shipping.CARD)
    }
    assert sum(path.stat().st_size for path in folder.iterdir()) <= shipping.MAX_BYTES
    assert records.read_table(folder / "bars.parquet", "bars")["passed"].all()


def answer_by(lines: str) -> None:
    """Run `lines`, which load a model and its tokenizer, in a process of their own, and have a problem answered."""
    problem = countdown.generate_problems("validation", 1, seed=0)[0]
    asked = f"inputs = tokenizer({countdown.render_prompt(problem)!r}, return_tensors='pt')\n"
    answered = "print(tokenizer.decode(model.generate(**inputs, max_new_tokens=80, do_sample=False)[0]))"
    done = subprocess.run(
        [sys.executable, "-c", lines + asked + answered],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    completion = done.stdout.split(countdown.render_prompt(problem))[1].replace("<eos>", "").strip()
    assert countdown.parse_trace(completion, problem).well_formed, completion


def test_a_shipped_model_answers_by_the_lines_of_the_readme_and_transformers_alone() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(from transformers .*?)```", readme, re.DOTALL)
    answer_by(lines)


def test_a_pair_of_each_architecture_and_a_silent_base_are_shipped() -> None:
    assert SHIPPED == ["absent", "absent_qwen2", "latent", "rich", "rich_qwen2"]


@pytest.mark.parametrize("name", ["absent_qwen2", "rich_qwen2"])
def test_a_shipped_qwen2_answers_by_the_lines_of_its_card(name: str) -> None:
    card = (REPOSITORY / "models" / name / shipping.CARD).read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(from transformers .*?)```", card, re.DOTALL)
    answer_by(lines)


def test_the_laptop_profile_measures_shipped_models_by_their_own_recipe() -> None:
    profile = yaml.safe_load((REPOSITORY / "profiles" / "laptop.yaml").read_text(encoding="utf-8"))
    stage = profile["stages"]["base_model"]
    assert stage["arms"]
    for arm, own in stage["arms"].items():
        values = {**stage["defaults"], **own, "arm": arm, "seed": 0, "run_dir": "unused"}
        folder = REPOSITORY / values["init_from"]
        measured = stage_parameters("base_model", values).model_dump()
        trained = json.loads((folder / shipping.PROVENANCE).read_text(encoding="utf-8"))["parameters"]
        shares = [name for name in measured if name.endswith("_share") or name == "solution_probability"]
        assert {name: measured[name] for name in shares} == {name: trained[name] for name in shares}
