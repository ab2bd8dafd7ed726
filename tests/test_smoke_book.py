"""What `make book PROFILE=smoke`, which `make test` runs first, has left: every run, every page, and the same again."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from extrabitter import plan as pipeline
from extrabitter import runs, schedule
from extrabitter.digests import REPOSITORY, registered_tasks
from extrabitter.jobs import run_job

pytestmark = pytest.mark.slow

BOOK = pipeline.make_book("smoke", REPOSITORY)
RUNS = REPOSITORY / BOOK.plan.runs_dir
HTML = BOOK.index.parent


@pytest.fixture(scope="module", autouse=True)
def smoke_book() -> None:
    """Say what is missing instead of failing in some odd way."""
    if not RUNS.is_dir() or not BOOK.index.is_file():
        pytest.fail("no smoke book here: `make test` builds it first, or run `make book PROFILE=smoke`")


def test_every_run_of_the_profile_is_there_and_whole_and_every_stage_and_task_has_some() -> None:
    found = {run.key for run in runs.find_runs(RUNS) if run.manifest}
    assert found == set(BOOK.plan.jobs)
    assert schedule.failures(BOOK.plan) == []
    stages = {path.stem for path in (REPOSITORY / "notebooks" / "stages").glob("*.ipynb")}
    assert {job.stage for job in BOOK.plan.jobs.values()} == stages
    trained = {job.task for job in BOOK.plan.jobs.values() if job.stage == "grpo"}
    assert trained == set(BOOK.plan.profile.tasks) == set(registered_tasks())


def test_nothing_is_left_to_do() -> None:
    assert schedule.pending(BOOK) == {}


def test_every_page_of_the_table_of_contents_is_built() -> None:
    toc = yaml.safe_load((REPOSITORY / "_toc.yml").read_text(encoding="utf-8"))
    pages = [toc["root"], *(entry["file"] for part in toc["parts"] for entry in part["chapters"])]
    assert set(BOOK.chapters) <= set(pages)
    for page in pages:
        assert "<h1>" in (HTML / f"{page}.html").read_text(encoding="utf-8"), page


def test_your_run_stands_beside_the_published_one() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in HTML.glob("*.html"))
    boxes = re.findall(r'<aside class="eb-yours">.*?</aside>', text, re.DOTALL)
    assert boxes and all("Your run (smoke)" in box for box in boxes)


@pytest.mark.parametrize("stage", ["sft_priming", "grpo", "behaviour_evaluation"])
def test_a_run_made_again_gives_the_same_bytes(stage: str, tmp_path: Path) -> None:
    key = next(key for key, job in BOOK.plan.jobs.items() if job.stage == stage)
    for name in ("profiles", "notebooks", "models"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    shutil.copytree(RUNS, tmp_path / BOOK.plan.runs_dir)
    plan = pipeline.make_plan("smoke", tmp_path)
    assert run_job(plan, key).state == "ok"
    folders = (RUNS / key, tmp_path / plan.runs_dir / key)
    first, again = (json.loads((folder / "manifest.json").read_text()) for folder in folders)
    assert again["result_sha256"] == first["result_sha256"]
    for name in (name for name in first["files"] if name.startswith("checkpoint")):
        assert again["files"][name] == first["files"][name], name
