"""Run folders: whole or not at all, never replaced in silence, and every later damage found by content."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from extrabitter import digests, runs
from extrabitter.params import stage_parameters
from extrabitter.runs import ArtifactError, RunFolder, Status, find_checkpoint


def start_run(root: Path, seed: int = 0, arm: str = "trunk", **values: Any) -> RunFolder:
    run_dir = root / "countdown" / "base_model" / arm / f"seed={seed}"
    given = {"run_dir": str(run_dir), "arm": arm, "seed": seed, **values}
    return RunFolder.create("base_model", stage_parameters("base_model", given))


def losses() -> pd.DataFrame:
    values = {"step": [1, 2], "loss": [2.0, 1.0], "learning_rate": 0.1, "num_tokens": [10, 20]}
    return pd.DataFrame({**values, "elapsed_s": [0.1, 0.2]})


def finish_run(root: Path, seed: int = 0, arm: str = "trunk", **values: Any) -> Path:
    folder = start_run(root, seed, arm, **values)
    folder.write_table("losses", losses())
    path = folder.finish()
    runs.write_status(path, Status("ok"))
    return path


def refused(stage: str, why: str) -> Any:
    return pytest.raises(ArtifactError, match=rf"^{stage}: run_dir = '.*': {why}")


def whole(root: Path) -> list[runs.Run]:
    return [run for run in runs.find_runs(root) if run.manifest is not None]


def test_run_is_invisible_until_it_is_finished(tmp_path: Path) -> None:
    folder = start_run(tmp_path)
    folder.write_table("losses", losses())
    runs.write_status(folder.final, Status("ok"))
    assert whole(tmp_path) == [] and not folder.final.exists()
    path = folder.finish()
    (run,) = whole(tmp_path)
    assert (run.key, run.path) == ("countdown/base_model/trunk/seed=0", path)
    assert sorted(os.listdir(path.parent)) == ["seed=0", "seed=0.status.json"]


def test_manifest_tells_where_the_run_comes_from(tmp_path: Path) -> None:
    path = finish_run(tmp_path, seed=3)
    manifest = json.loads((path / "manifest.json").read_text())
    assert (manifest["stage"], manifest["task"], manifest["seed"]) == ("base_model", "countdown", 3)
    assert manifest["parameters"]["hidden_size"] == 128 and "overwrite" not in manifest["parameters"]
    assert manifest["files"] == {"losses.parquet": digests.file_sha256(path / "losses.parquet")}
    assert manifest["wall_s"] >= 0 and manifest["peak_rss_mb"] > 10 and manifest["threads"] == 1
    assert manifest["machine"]["cpu"] and manifest["packages"]["torch"].startswith("2.13.0")
    assert len(manifest["commit"]) == 40 or manifest["commit"] == "unknown"


def test_results_hash_tells_other_results_and_not_other_times(tmp_path: Path) -> None:
    hashes = {}
    for arm, column, value in (("a", "elapsed_s", 0.1), ("b", "elapsed_s", 9.0), ("c", "loss", 9.0)):
        folder = start_run(tmp_path, arm=arm)
        folder.write_table("losses", losses().assign(**{column: value}))
        hashes[arm] = json.loads((folder.finish() / "manifest.json").read_text())["result_sha256"]
    assert hashes["a"] == hashes["b"] != hashes["c"]


Damage = Callable[[Path], object]
DAMAGES: dict[str, Damage] = {
    "no manifest": lambda path: (path / "manifest.json").unlink(),
    "cut manifest": lambda path: (path / "manifest.json").write_text("{"),
    "no object": lambda path: (path / "manifest.json").write_text("[]"),
    "table gone": lambda path: (path / "losses.parquet").unlink(),
    "table altered": lambda path: (path / "losses.parquet").write_bytes(b"other"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_run_is_named_and_is_none_for_readers(tmp_path: Path, damage: Damage) -> None:
    path = finish_run(tmp_path)
    status = Status("ok", files={"seed=0/manifest.json": digests.file_sha256(path / "manifest.json")})
    assert runs.damage(path, status) == ""
    damage(path)
    assert whole(tmp_path) == []
    assert runs.damage(path, status).endswith(("is missing", "is altered"))


def test_a_run_folder_that_exists_is_never_replaced_in_silence(tmp_path: Path) -> None:
    first = finish_run(tmp_path, num_tokens=10)
    (first / "left_over").write_text("x")
    with pytest.raises(ArtifactError) as caught:
        start_run(tmp_path, num_tokens=20)
    line = str(caught.value)
    assert "holds a run with other parameters (num_tokens = 10, not 20); give another folder, or " in line
    assert "\n" not in line and (first / "left_over").exists()
    assert finish_run(tmp_path, num_tokens=10) == first, "the same run goes on"
    assert not (first / "left_over").exists()
    finish_run(tmp_path, num_tokens=20, overwrite=True)
    assert (whole(tmp_path)[0].manifest or {})["parameters"]["num_tokens"] == 20
    assert sorted(os.listdir(first.parent)) == ["seed=0", "seed=0.status.json"]
    other = stage_parameters("grpo", {"run_dir": str(first), "arm": "trunk", "seed": 0, "init_from": "x"})
    with refused("grpo", "holds a run of base_model; give another folder"):
        RunFolder.create("grpo", other)


@pytest.mark.parametrize("manifest", [None, "{", "[]", '{"name": "an extension of a browser"}'])
def test_run_dir_that_holds_something_else_is_refused_and_stays(tmp_path: Path, manifest: str | None) -> None:
    precious = tmp_path / "countdown" / "base_model" / "trunk" / "seed=0" / "notes.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("mine")
    if manifest is not None:
        precious.with_name("manifest.json").write_text(manifest)
    for overwrite in (False, True):
        with refused("base_model", "holds something that is no run"):
            start_run(tmp_path, overwrite=overwrite)
    assert precious.read_text() == "mine" and len(list(precious.parent.parent.iterdir())) == 1


def test_file_put_at_run_dir_while_the_run_goes_on_is_kept(tmp_path: Path) -> None:
    folder = start_run(tmp_path)
    folder.final.mkdir()
    (folder.final / "notes.txt").write_text("mine")
    with refused("base_model", "holds something that is no run"):
        folder.finish()
    assert (folder.final / "notes.txt").read_text() == "mine"


def test_empty_run_dir_is_taken_and_one_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "countdown" / "base_model" / "trunk" / "seed=0").mkdir(parents=True)
    assert finish_run(tmp_path).is_dir()
    (tmp_path / "countdown" / "base_model" / "file").write_text("a file where a folder should be")
    with refused("base_model", r"cannot be written \(Not a directory\)"):
        start_run(tmp_path, arm="file")


@pytest.mark.parametrize("written", ["write_table", "write_json"])
def test_a_full_disk_is_one_line(written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs if written == "write_json" else runs.tables, written, full)
    with refused("base_model", r"cannot be written \(No space left on device\)"):
        finish_run(tmp_path)
    assert whole(tmp_path) == []


def test_what_dead_runs_left_goes_and_what_live_ones_write_stays(tmp_path: Path) -> None:
    parent = tmp_path / "countdown" / "base_model" / "trunk"
    dead, replaced = parent / ".seed=0.partial-999999999", parent / ".seed=0.partial-999999999-replaced"
    live = parent / ".seed=0.partial-1"  # of the first process, which is always there
    for path in (dead, replaced, live):
        path.mkdir(parents=True)
    finish_run(tmp_path)
    assert not dead.exists() and not replaced.exists() and live.is_dir()


def test_status_is_none_until_the_job_ended_and_when_its_record_is_damaged(tmp_path: Path) -> None:
    run_dir = tmp_path / "countdown" / "grpo" / "guesser" / "seed=0"
    assert runs.read_status(run_dir) is None
    status = Status("failed", "grpo: it broke", 2.5, "taste_test", {"code": "a"}, {"b": "c"}, {"d": "e"})
    runs.write_status(run_dir, status)
    assert runs.read_status(run_dir) == status
    (run,) = runs.find_runs(tmp_path)
    assert (run.key, run.status) == ("countdown/grpo/guesser/seed=0", status)
    assert os.listdir(run_dir.parent) == ["seed=0.status.json"]
    unknown = ('{"state": "ok"}', '{"state": "fine", "wall_s": 1}', '{"state": "ok", "wall_s": 1, "x": 2}')
    for text in ("", "{", "[]", *unknown):
        runs.status_path(run_dir).write_text(text)
        assert runs.read_status(run_dir) is None


def test_whole_checkpoint_is_found_and_a_damaged_one_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    weights = folder / "model.safetensors"
    weights.write_bytes(bytes(100))
    runs.write_checksums(folder)
    assert find_checkpoint("init_from", str(folder)) == folder
    for damage, line in (
        (lambda: weights.write_bytes(b"1" + bytes(99)), r"model.safetensors is altered, by its SHA256SUMS"),
        (lambda: weights.write_bytes(b""), r"model.safetensors is empty"),
        (weights.unlink, r"model.safetensors is missing"),
        ((folder / "config.json").unlink, r"no checkpoint there; it must be a folder with config.json"),
    ):
        damage()
        with pytest.raises(ArtifactError, match=rf"^init_from = '.*': {line}"):
            find_checkpoint("init_from", str(folder))


def test_a_hub_id_is_none_of_our_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert runs.names_hub_model("Qwen/Qwen2.5-3B")
    assert not any(map(runs.names_hub_model, ("models/searcher", "runs/a", "a", "a/b/c", "../a")))
    (tmp_path / "own" / "model").mkdir(parents=True)
    assert not runs.names_hub_model("own/model")
