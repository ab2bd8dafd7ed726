"""What `make book PROFILE=smoke`, which `make test` runs first, has left: every run, every page, and the same again."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import papermill
import pytest
import yaml

from extrabitter import pipeline
from extrabitter.artifacts import find_runs, find_statuses
from extrabitter.provenance import REPOSITORY

PLAN = pipeline.make_plan("smoke", REPOSITORY)
RESULTS = REPOSITORY / PLAN.results_dir
HTML = REPOSITORY / "_build" / "html" / "smoke"


@pytest.fixture(scope="module", autouse=True)
def smoke_book() -> None:
    """Say what is missing instead of failing in some odd way."""
    if not RESULTS.is_dir() or not HTML.is_dir():
        pytest.fail("no smoke book here: `make test` builds it first, or run `make book PROFILE=smoke`")


def test_every_run_of_the_profile_is_there_and_whole():
    assert {f"{run.stage}/{run.arm}/seed={run.seed}" for run in find_runs(RESULTS)} == set(PLAN.jobs)
    assert [status.reason for *_, status in find_statuses(RESULTS) if status.state != "ok"] == []


def test_every_page_of_the_table_of_contents_is_built_and_names_the_profile():
    toc = yaml.safe_load((REPOSITORY / "_toc.yml").read_text(encoding="utf-8"))
    pages = [toc["root"], *(entry["file"] for part in toc["parts"] for entry in part["chapters"])]
    for page in pages:
        text = (HTML / f"{page}.html").read_text(encoding="utf-8")
        assert "smoke" in text, page


def test_every_run_has_a_page_of_its_own():
    for job in PLAN.jobs.values():
        page = HTML / "run_pages" / job.stage / f"{job.arm}-seed-{job.seed}.html"
        assert page.is_file(), page


@pytest.mark.parametrize("key", ["sft_priming/sft_verification_backtracking/seed=0", "grpo/grpo_rich/seed=0"])
def test_the_same_parameters_give_the_same_tables_again(key: str, tmp_path: Path):
    job = PLAN.jobs[key]
    again = tmp_path / "seed=0"
    papermill.execute_notebook(
        str(REPOSITORY / job.notebook),
        str(tmp_path / "out.ipynb"),
        job.parameters.model_dump() | {"run_dir": str(again)},
        cwd=str(REPOSITORY),
        progress_bar=False,
    )
    tables = sorted((REPOSITORY / job.run_dir).glob("*.parquet"))
    assert tables
    for path in tables:
        first, second = pd.read_parquet(path), pd.read_parquet(again / path.name)
        timings = [column for column in first if column.endswith("_s")]
        pd.testing.assert_frame_equal(first.drop(columns=timings), second.drop(columns=timings))
