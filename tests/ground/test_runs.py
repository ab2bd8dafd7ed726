from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from extrabitter import runs as artifacts
from extrabitter.runs import ArtifactError, RunFolder, Status, collect_table, find_checkpoint, find_runs
from extrabitter.params import stage_parameters


def start_run(root: Path, seed: int = 0, arm: str = "trunk") -> RunFolder:
    run_dir = root / "base_model" / arm / f"seed={seed}"
    values = {"run_dir": str(run_dir), "arm": arm, "seed": seed}
    return RunFolder.create("base_model", stage_parameters("base_model", values))


def losses() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "step": [1, 2],
            "loss": [2.0, 1.0],
            "learning_rate": 0.1,
            "num_tokens": [10, 20],
            "elapsed_s": [0.1, 0.2],
        }
    )


def finish_run(root: Path, seed: int = 0, arm: str = "trunk") -> Path:
    folder = start_run(root, seed, arm)
    folder.write_table("losses", losses())
    return folder.finish()


def test_run_is_invisible_until_it_is_finished(tmp_path: Path) -> None:
    folder = start_run(tmp_path)
    folder.write_table("losses", losses())
    assert find_runs(tmp_path) == []
    assert not folder.final.exists()
    path = folder.finish()
    assert [run.path for run in find_runs(tmp_path)] == [path]
    assert [entry.name for entry in path.parent.iterdir()] == ["seed=0"]


def test_manifest_tells_where_the_run_comes_from(tmp_path: Path) -> None:
    manifest = json.loads((finish_run(tmp_path, seed=3) / "manifest.json").read_text())
    assert manifest["stage"] == "base_model"
    assert manifest["seed"] == 3
    assert manifest["parameters"]["hidden_size"] == 128
    assert set(manifest["files"]) == {"losses.parquet"}
    assert manifest["wall_s"] >= 0
    assert manifest["peak_rss_mb"] > 10
    assert manifest["threads"] == 1
    assert manifest["machine"]["cpu"]
    assert manifest["packages"]["torch"].startswith("2.13.0")
    assert len(manifest["commit"]) == 40 or manifest["commit"] == "unknown"


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / "manifest.json").unlink(),
        lambda path: (path / "manifest.json").write_text("{"),
        lambda path: (path / "manifest.json").write_text("[]"),
        lambda path: (path / "losses.parquet").unlink(),
        lambda path: (path / "losses.parquet").write_bytes(b"other"),
        lambda path: path.rename(path.with_name("seed=7")),
    ],
    ids=["no manifest", "cut manifest", "no object", "file gone", "file changed", "folder renamed"],
)
def test_damaged_run_does_not_exist_for_readers(tmp_path: Path, damage) -> None:
    damage(finish_run(tmp_path))
    assert find_runs(tmp_path) == []
    assert collect_table(tmp_path, "base_model", "losses").empty


def test_second_run_replaces_the_first(tmp_path: Path) -> None:
    first = finish_run(tmp_path)
    (first / "left_over").write_text("x")
    second = finish_run(tmp_path)
    assert first == second
    assert not (second / "left_over").exists()


@pytest.mark.parametrize("manifest", [None, "{", "[]", '{"name": "an extension of a browser"}'])
def test_run_dir_that_holds_something_else_is_refused_and_stays(tmp_path: Path, manifest: str | None) -> None:
    precious = tmp_path / "base_model" / "trunk" / "seed=0" / "notes.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("mine")
    if manifest is not None:
        precious.with_name("manifest.json").write_text(manifest)
    with pytest.raises(ArtifactError, match=r"base_model: run_dir = '.*': holds .*; must be a new or empty"):
        start_run(tmp_path)
    assert precious.read_text() == "mine"
    assert len(list(precious.parent.parent.iterdir())) == 1


def test_file_put_at_run_dir_while_the_run_goes_on_is_kept(tmp_path: Path) -> None:
    folder = start_run(tmp_path)
    folder.final.mkdir()
    (folder.final / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match=r"must be a new or empty folder, or an earlier run's"):
        folder.finish()
    assert (folder.final / "notes.txt").read_text() == "mine"


def test_empty_run_dir_is_taken(tmp_path: Path) -> None:
    (tmp_path / "base_model" / "trunk" / "seed=0").mkdir(parents=True)
    path = finish_run(tmp_path)
    assert [run.path for run in find_runs(tmp_path)] == [path]


def test_leftovers_of_killed_runs_are_removed(tmp_path: Path) -> None:
    dead = tmp_path / "base_model" / "trunk" / ".seed=0.partial-999999999"
    dead.mkdir(parents=True)
    finish_run(tmp_path)
    assert not dead.exists()


def test_unwritable_run_dir_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "base_model").write_text("a file where a folder should be")
    with pytest.raises(
        ArtifactError, match=r"base_model: run_dir = '.*': cannot be written \(Not a directory\)"
    ):
        start_run(tmp_path)


def test_tables_of_all_runs_stack_with_arm_and_seed_in_front(tmp_path: Path) -> None:
    for arm, seed in (("trunk", 1), ("trunk", 0), ("absent", 0)):
        finish_run(tmp_path, seed, arm)
    stacked = collect_table(tmp_path, "base_model", "losses")
    assert list(stacked.columns[:3]) == ["arm", "seed", "step"]
    pairs = list(stacked[["arm", "seed"]].drop_duplicates().itertuples(index=False, name=None))
    assert pairs == [("absent", 0), ("trunk", 0), ("trunk", 1)]
    assert list(collect_table(tmp_path, "base_model", "bars").columns)[:3] == ["arm", "seed", "bar"]


def test_status_is_none_until_the_job_ended(tmp_path: Path) -> None:
    run_dir = tmp_path / "grpo" / "grpo_absent" / "seed=0"
    assert artifacts.read_status(run_dir) is None
    artifacts.write_status(run_dir, Status("failed", "grpo: it broke", 2.5))
    assert artifacts.read_status(run_dir) == Status("failed", "grpo: it broke", 2.5)
    assert list(artifacts.find_statuses(tmp_path)) == [
        ("grpo", "grpo_absent", 0, Status("failed", "grpo: it broke", 2.5))
    ]


def checkpoint(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(100))
    artifacts.write_checksums(folder)
    return folder


def test_whole_checkpoint_is_found(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "checkpoint")
    assert find_checkpoint("init_from", str(folder)) == folder


def test_flipped_byte_missing_file_and_missing_folder_are_one_line_each(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "checkpoint")
    weights = folder / "model.safetensors"
    weights.write_bytes(b"\x01" + weights.read_bytes()[1:])
    with pytest.raises(
        ArtifactError, match=r"init_from = .*: model.safetensors is corrupted; its hash must be"
    ):
        find_checkpoint("init_from", str(folder))
    weights.unlink()
    with pytest.raises(ArtifactError, match=r"init_from = .*: model.safetensors is missing"):
        find_checkpoint("init_from", str(folder))
    with pytest.raises(
        ArtifactError, match=r"checkpoint = 'nowhere': no checkpoint there; it must be a folder"
    ):
        find_checkpoint("checkpoint", "nowhere")
