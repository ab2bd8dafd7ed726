"""The store of results: added whole, never rewritten, bounded; and the headline recomputed from it by another path."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from extrabitter import store
from extrabitter.digests import REPOSITORY, file_sha256
from extrabitter.params import STAGES
from extrabitter.plan import make_book
from extrabitter.runs import SCHEMA_VERSION, Status, write_json, write_status
from extrabitter.store import StoreError, publish, read
from extrabitter.tables import SCHEMAS, count, write_table

STORE = REPOSITORY / make_book("").results_dir


def write_run(runs: Path, key: str, tables: dict[str, pd.DataFrame], **status: object) -> None:
    """Write a finished run, or with state "failed" the status of one, as the pipeline leaves it."""
    run_dir = runs / key
    _, stage, arm, seed = key.split("/")
    if status.get("state") != "failed":
        run_dir.mkdir(parents=True)
        for name, table in tables.items():
            write_table(run_dir / f"{name}.parquet", name, table)
        manifest = {
            **{"schema_version": SCHEMA_VERSION, "stage": stage, "arm": arm, "seed": int(seed[5:])},
            **{"parameters": {"learning_rate": 0.1}, "commit": "abc1234def", "dirty": False},
            **{"code_sha256": "c" * 64, "packages": {"python": "3.11"}},
            "machine": {"cpu": "a cpu", "gpu": ""},
            **{"threads": 1, "wall_s": 2.5, "peak_rss_mb": 100.0},
            "files": {path.name: file_sha256(path) for path in run_dir.iterdir()},
        }
        write_json(run_dir / "manifest.json", manifest)
        run_dir.with_name(f"{run_dir.name}.ipynb").write_text('{"cells": [], "metadata": {"papermill": {}}}')
    write_status(run_dir, Status(**{"state": "ok", "wall_s": 2.5, **status}))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A base, two evaluations of one experiment, one of another, one failed run; two seeds, of the published tables."""
    root = tmp_path / "runs" / "mine"
    summary, completions = (read(STORE, "countdown", name) for name in ("summary", "completions"))
    for seed in (0, 2):
        for arm, experiment in (("after_searcher", ""), ("before_mine", ""), ("after_mine", "priming")):
            tables = {}
            for name, table in (("completions", completions), ("summary", summary)):
                own = table[(table["seed"] == seed) & (table["arm"] == "after_searcher")].head(40)
                tables[name] = own[[column.name for column in SCHEMAS[name]]]
            key = f"countdown/behaviour_evaluation/{arm}/seed={seed}"
            write_run(root, key, tables, experiment=experiment)
    failed = {"state": "failed", "reason": "out of memory", "experiment": "priming"}
    write_run(root, "countdown/grpo/mine/seed=0", {}, **failed)
    return root


@pytest.fixture
def results(runs: Path, tmp_path: Path) -> Path:
    """A store to which all of these runs were added."""
    # Two seeds of two experiments: runs, summary and counts each, and completions of the headline's arm.
    assert publish(runs, tmp_path / "results") == 2 * 2 * 3 + 2
    return tmp_path / "results"


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_published_runs_come_back_with_seed_experiment_stage_and_arm_in_front(results: Path) -> None:
    summary = read(results, "countdown", "summary")
    assert list(summary.columns[:4]) == list(store.LEADING)
    assert set(summary["experiment"]) == {"taste_test", "priming"} and set(summary["seed"]) == {0, 2}
    assert set(read(results, "countdown", "summary", "priming")["arm"]) == {"after_mine"}
    counts = read(results, "countdown", "counts")
    assert set(counts["arm"]) == {"after_searcher", "before_mine", "after_mine"}
    assert (counts["num_samples"] == 8).all() and counts["num_correct"].between(0, 8).all()
    assert set(read(results, "countdown", "completions")["arm"]) == {"after_searcher"}
    kept = results / "worked" / "behaviour_evaluation.ipynb"
    assert json.loads(kept.read_text(encoding="utf-8")) == {"cells": [], "metadata": {}}


def test_runs_hold_what_manifests_held_and_why_a_run_failed(results: Path) -> None:
    rows = read(results, "countdown", "runs").set_index(["seed", "stage", "arm"])
    good = rows.loc[(0, "behaviour_evaluation", "after_searcher")]
    assert (good["state"], good["commit"], good["seconds"]) == ("ok", "abc1234def", 2.5)
    assert json.loads(good["parameters"]) == {"learning_rate": 0.1}
    assert json.loads(good["machine"])["cpu"] == "a cpu"
    failed = rows.loc[(0, "grpo", "mine")]
    assert (failed["state"], failed["reason"], failed["experiment"]) == ("failed", "out of memory", "priming")


def test_own_runs_are_read_as_the_store_is(runs: Path, results: Path) -> None:
    order = ["seed", "experiment", "stage", "arm"]
    for name in ("summary", "counts", "runs"):
        tables = (read(root, "countdown", name) for root in (runs, results))
        own, stored = (table.sort_values(order, kind="stable", ignore_index=True) for table in tables)
        pd.testing.assert_frame_equal(own, stored)
    nothing = read("", "countdown", "summary")
    assert nothing.empty and list(nothing.columns) == list(read(runs, "countdown", "summary").columns)


def test_adding_the_same_again_changes_nothing(runs: Path, results: Path) -> None:
    before = contents(results)
    assert publish(runs, results) == 0
    assert contents(results) == before


def other_content(runs: Path) -> None:
    key = "countdown/behaviour_evaluation/after_mine/seed=2"
    summary = pd.read_parquet(runs / key / "summary.parquet").assign(value=0.5)
    shutil.rmtree(runs / key)
    write_run(runs, key, {"summary": summary}, experiment="priming")


def another_arm(runs: Path) -> None:
    write_run(runs, "countdown/grpo/other/seed=2", {}, state="failed", experiment="priming")


@pytest.mark.parametrize("change", [other_content, another_arm])
def test_what_was_added_is_never_rewritten(change: Callable[[Path], None], runs: Path, results: Path) -> None:
    before = contents(results)
    change(runs)
    with pytest.raises(StoreError, match=r"never rewritten|what was added stays") as error:
        publish(runs, results)
    assert "\n" not in str(error.value) and "seed=2" in str(error.value)
    assert contents(results) == before


def test_a_planned_run_that_has_not_ended_keeps_its_experiment_out_or_all(runs: Path, tmp_path: Path) -> None:
    planned = {"countdown/grpo/late/seed=2": "priming", "countdown/grpo/mine/seed=0": "priming"}
    with pytest.raises(StoreError, match="1 of 2 runs have not ended: countdown/grpo/late/seed=2"):
        publish(runs, tmp_path / "results", planned)
    assert not (tmp_path / "results").exists()
    publish(runs, tmp_path / "results", planned, partial=True)
    there = {"/".join(path.parts[-3:-1]) for path in tmp_path.glob("results/countdown/*/*/runs.parquet")}
    assert there == {"seed=0/priming", "seed=0/taste_test", "seed=2/taste_test"}


# --- The published store ---------------------------------------------------------------------------------------


def test_the_published_store_is_small_and_whole() -> None:
    files = list(STORE.rglob("*.parquet"))
    assert len(files) <= 400 and sum(path.stat().st_size for path in files) <= 60 * 2**20
    runs = read(STORE, "countdown", "runs")
    assert (
        set(runs["stage"]) <= set(STAGES)
        and (runs["state"] == "ok")[runs["experiment"] != "bank"].all()
        and not runs["dirty"].any()
    )
    evaluated = runs[runs["stage"] == "behaviour_evaluation"].groupby("arm")["seed"].nunique()
    for name in ("summary", "counts", "pass_at_k"):
        assert read(STORE, "countdown", name).groupby("arm")["seed"].nunique().equals(evaluated), name
    completions, counts = read(STORE, "countdown", "completions"), read(STORE, "countdown", "counts")
    again = completions.groupby(["seed", "arm"]).apply(count, include_groups=False).sort_index()
    columns = list(again.columns)
    same = counts[counts["arm"].isin(set(completions["arm"]))].set_index(["seed", "arm"])[columns]
    assert again.reset_index(drop=True).equals(same.sort_index(kind="stable").reset_index(drop=True))
