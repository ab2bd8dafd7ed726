"""Exports: a model folder that loads and says what it is, a data folder that `datasets` reads; or nothing."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from extrabitter import cli
from extrabitter.tasks import export as dataset_export
from extrabitter.models import export as exporting
from extrabitter.models import tiny as models
from extrabitter import tables as records
from extrabitter.models import bank as shipping
from extrabitter.runs import CHECKSUMS, ArtifactError, RunFolder
from extrabitter.params import stage_parameters
from extrabitter.tasks.countdown.english import verify_completion
from extrabitter.training.priming import CONDITIONS
from extrabitter.tasks import countdown
from extrabitter.tasks.countdown import Problem


@pytest.fixture
def make_run(tmp_path: Path, tiny_tokenizer, build_tiny_model):
    """A builder of finished runs with a tiny model, in the layout of runs/<profile>."""

    def make(stage: str, arm: str, model_seed: int = 0, **values: object) -> Path:
        run_dir = tmp_path / "runs" / "mini" / stage / arm / "seed=0"
        given = {"run_dir": str(run_dir), "arm": arm, "seed": 0, **values}
        run = RunFolder.create(stage, stage_parameters(stage, given))
        if stage == "behaviour_evaluation":
            interval = {"value": 0.25, "lower": 0.2, "upper": 0.3}
            missing = {"value": float("nan"), "lower": float("nan"), "upper": float("nan")}
            rows = [
                {"measure": "pass@1", **interval, "count": 80},
                {"measure": "verdict_accuracy", **missing, "count": 0},
            ]
            run.write_table("summary", pd.DataFrame(rows))
            run.write_table("pass_at_k", pd.DataFrame([{"k": 1, **interval}, {"k": 4, **interval}]))
        else:
            loss = {"step": 1, "loss": 2.0, "learning_rate": 0.02, "num_tokens": 10, "elapsed_s": 1.0}
            run.write_table("losses", pd.DataFrame([loss]))
            models.save_checkpoint(build_tiny_model(seed=model_seed), tiny_tokenizer, run.checkpoint_dir)
        return run.finish()

    return make


def card_of(folder: Path) -> tuple[dict[str, object], str]:
    """The front matter of a card, and its text."""
    _, header, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(header), text


def assert_hashes_hold(folder: Path) -> None:
    lines = (folder / CHECKSUMS).read_text().splitlines()
    listed = {name: sha for sha, _, name in (line.partition("  ") for line in lines)}
    found = {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.rglob("*")
        if p.is_file()
    }
    found.pop(CHECKSUMS)
    assert listed == found


def test_a_model_is_exported_with_lineage_and_the_results_of_its_very_weights(
    make_run, tmp_path: Path
) -> None:
    base = make_run("base_model", "rich")
    primed = make_run("sft_priming", "sft_direct", 1, init_from=str(base / "checkpoint"), condition="direct")
    make_run("behaviour_evaluation", "sft_direct", checkpoint=str(primed / "checkpoint"), num_problems=10)
    make_run("behaviour_evaluation", "other", checkpoint=str(base / "checkpoint"), num_problems=10)
    folder = exporting.export_model(primed, tmp_path / "out" / "primed")
    models.load_checkpoint(folder)
    assert_hashes_hold(folder)
    header, text = card_of(folder)
    assert header["license"] == "mit" and header["library_name"] == "transformers"
    assert "| pass@1 | 0.25 | 0.2 to 0.3 | 80 |" in text and "| pass@4 | 0.25 | 0.2 to 0.3 |  |" in text
    assert "| verdict_accuracy | missing |  | 0 |" in text
    assert "Evaluation `sft_direct`" in text and "Evaluation `other`" not in text
    assert "1. `base_model`, arm `rich`" in text and "| condition | `direct` |" in text
    record = json.loads((folder / "provenance.json").read_text())
    assert record["stage"] == "sft_priming" and [p["arm"] for p in record["lineage"]] == ["rich"]
    assert (
        records.read_table(folder / "evaluations/sft_direct/seed=0/summary.parquet", "summary")["count"].sum()
        == 80
    )
    assert records.read_table(folder / "losses.parquet", "losses")["step"].tolist() == [1]


def test_a_parent_that_changed_since_is_no_lineage(make_run, tmp_path: Path) -> None:
    base = make_run("base_model", "rich")
    primed = make_run("sft_priming", "sft_direct", 1, init_from=str(base / "checkpoint"), condition="direct")
    make_run("base_model", "rich", 2)
    _, text = card_of(exporting.export_model(primed, tmp_path / "out"))
    assert "whose record is not at hand" in text and "No evaluation of these weights is at hand." in text


def test_a_shipped_model_is_a_parent(make_run, tmp_path: Path) -> None:
    base = make_run("base_model", "rich")
    bar = {
        "bar": "b",
        "value": 1.0,
        "lower": 1.0,
        "upper": 1.0,
        "threshold": 0.9,
        "direction": ">=",
        "passed": True,
    }
    records.write_table(base / "bars.parquet", "bars", pd.DataFrame([bar]))
    shipped = shipping.ship(base, tmp_path / "models" / "rich")
    primed = make_run("sft_priming", "sft_direct", 1, init_from=str(shipped), condition="direct")
    _, text = card_of(exporting.export_model(primed, tmp_path / "out"))
    assert "1. `base_model`, arm `rich`" in text


def test_an_export_replaces_an_earlier_one_and_nothing_else(make_run, tmp_path: Path) -> None:
    base = make_run("base_model", "rich")
    folder = exporting.export_model(base, tmp_path / "out")
    (folder / "stale").write_text("x")
    assert not (exporting.export_model(base, folder) / "stale").exists()
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter").write_text("years of work")
    with pytest.raises(ArtifactError, match="holds something that is no export"):
        exporting.export_model(base, other)
    assert (other / "chapter").read_text() == "years of work"
    assert not list(tmp_path.glob(".*partial"))


def test_what_cannot_be_exported_is_refused_in_one_line(make_run, tmp_path: Path) -> None:
    base = make_run("base_model", "rich")
    evaluation = make_run("behaviour_evaluation", "rich", checkpoint=str(base / "checkpoint"))
    for run, message in ((evaluation, "must be a finished run"), (tmp_path, "must be a finished run")):
        with pytest.raises(ArtifactError, match=message):
            exporting.export_model(run, tmp_path / "out")
    (base / "checkpoint" / "model.safetensors").write_bytes(b"")
    with pytest.raises(ArtifactError, match="must be a finished run"):
        exporting.export_model(base, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_failure_on_the_way_leaves_the_old_export(make_run, tmp_path: Path, monkeypatch) -> None:
    base = make_run("base_model", "rich")
    folder = exporting.export_model(base, tmp_path / "out")
    monkeypatch.setattr(exporting, "_card", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        exporting.export_model(base, folder)
    assert_hashes_hold(folder)
    assert not list(tmp_path.glob(".*partial"))


# Data.


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "countdown"
    return exporting.write_folder(folder, lambda p: dataset_export.write_data(p, "countdown", [2], 12, 0))


def test_datasets_reads_every_configuration(data: Path, tmp_path: Path) -> None:
    from datasets import get_dataset_config_names, load_dataset

    names = get_dataset_config_names(str(data))
    assert set(names) == {"problems", *(f"traces_{condition}" for condition in CONDITIONS)}
    problems = load_dataset(str(data), cache_dir=str(tmp_path))
    assert set(problems) == {"train", "validation", "test"}
    expected = len(countdown.all_problems("validation", 2))
    assert problems["validation"].num_rows == expected > 0
    traces = load_dataset(
        str(data), "traces_verification_backtracking", split="train", cache_dir=str(tmp_path)
    )
    assert traces.num_rows == 12 and traces[0]["numbers"] == sorted(traces[0]["numbers"])


def test_splits_share_no_numbers_and_counts_are_those_of_the_solver(data: Path) -> None:
    splits = {path.stem: pd.read_parquet(path) for path in (data / "data/problems").glob("*.parquet")}
    seen = {split: {tuple(numbers) for numbers in table["numbers"]} for split, table in splits.items()}
    assert not seen["train"] & seen["test"] and not seen["train"] & seen["validation"]
    for row in splits["test"].to_dict(orient="records"):
        assert (
            row["num_solutions"]
            == len(countdown.solve(Problem.from_identifier(row["problem"])))
            <= row["num_attempts"]
        )


def test_both_spellings_of_a_trace_are_judged_alike(data: Path) -> None:
    for path in (data / "data").glob("traces_*/train.parquet"):
        for row in pd.read_parquet(path).to_dict(orient="records"):
            problem = Problem.from_identifier(row["problem"])
            assert countdown.split_of(problem.numbers) == "train"
            grammar = countdown.verify_completion(row["completion"], problem)
            assert verify_completion(row["completion_in_words"], problem).correct == grammar.correct


def test_the_data_card_names_its_files_fields_and_commit(data: Path) -> None:
    header, text = card_of(data)
    assert_hashes_hold(data)
    paths = [file["path"] for config in header["configs"] for file in config["data_files"]]
    assert sorted(paths) == sorted(p.relative_to(data).as_posix() for p in (data / "data").rglob("*.parquet"))
    columns = {c for p in (data / "data").rglob("*.parquet") for c in pd.read_parquet(p).columns}
    assert columns == set(dataset_export.FIELDS) and "`num_traces` = `12`" in text
    assert {"commit", "dirty", "parameters"} < set(json.loads((data / "provenance.json").read_text()))


# The command.


def run_command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["extrabitter", "export", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_the_commands_export_and_refuse(make_run, tmp_path: Path, monkeypatch, capsys) -> None:
    base = make_run("base_model", "rich")
    assert run_command(monkeypatch, "model", str(base), str(tmp_path / "m")) == 0
    assert run_command(monkeypatch, "data", str(tmp_path / "d"), "--numbers", "2", "--traces", "3") == 0
    assert (tmp_path / "m/README.md").is_file() and (tmp_path / "d/README.md").is_file()
    assert "# d" in (tmp_path / "d/README.md").read_text()
    capsys.readouterr()
    assert run_command(monkeypatch, "model", str(tmp_path), str(tmp_path / "m2")) == 2
    assert run_command(monkeypatch, "data", str(tmp_path / "d2"), "--numbers", "9") == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 2 and "must be 2, 3 or 4" in errors
