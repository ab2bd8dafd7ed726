"""What `make book PROFILE=smoke`, which `make test` runs first, has left: every run, every page, and the same again."""

from __future__ import annotations

import html
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from extrabitter import plan as pipeline
from extrabitter.runs import find_runs, find_statuses
from extrabitter.digests import REPOSITORY

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


def test_runs_are_listed_on_their_stages_page_and_not_in_the_navigation_of_every_page():
    navigations = []
    for page in [*HTML.glob("*.html"), *HTML.glob("run_pages/**/*.html")]:
        navigations += re.findall(
            r'<nav class="bd-links.*?</nav>', page.read_text(encoding="utf-8"), re.DOTALL
        )
    assert len(navigations) > len(PLAN.jobs) + 20  # of each run and of each chapter, but for a page or two
    assert not any("-seed-" in navigation for navigation in navigations)
    for stage in {job.stage for job in PLAN.jobs.values()}:
        text = (HTML / "run_pages" / f"{stage}.html").read_text(encoding="utf-8")
        for job in (job for job in PLAN.jobs.values() if job.stage == stage):
            assert f'href="{stage}/{job.arm}-seed-{job.seed}.html"' in text, job.key
    index = (HTML / "index.html").read_text(encoding="utf-8")
    assert all(f'href="run_pages/{job.stage}.html"' in index for job in PLAN.jobs.values())


def test_the_download_button_gives_the_committed_notebook():
    sources = HTML / "_sources"
    committed = {
        f"{path.stem}.ipynb": path for path in (REPOSITORY / "notebooks" / "chapters").glob("*.ipynb")
    }
    for job in PLAN.jobs.values():
        committed[f"run_pages/{job.stage}/{job.arm}-seed-{job.seed}.ipynb"] = REPOSITORY / job.notebook
    for name, path in committed.items():
        assert (sources / name).read_bytes() == path.read_bytes(), name
        assert (
            f'href="{"../" * name.count("/")}_sources/{name}"'
            in (HTML / name).with_suffix(".html").read_text()
        )


def test_every_page_names_its_source_and_when_it_last_changed():
    pages = [*(REPOSITORY / "notebooks" / "chapters").glob("*.ipynb"), *(REPOSITORY / "book").glob("*.md")]
    for path in pages:
        text = (HTML / f"{path.stem}.html").read_text(encoding="utf-8")
        foot = re.sub(r"<[^>]+>", "", text.split('class="eb-footer', 1)[1])
        included = re.search(r"\{include\} (\S+)", path.read_text(encoding="utf-8"))
        assert (included[1] if included else path.relative_to(REPOSITORY).as_posix()) in foot, path.name
        assert re.search(r"Last changed on \d+ \w+ \d{4}, commit [0-9a-f]{7,}", foot), path.name


def shown_on_page(key: str, pattern: str) -> str:
    """The one place on a run's page that a pattern's group finds."""
    job = PLAN.jobs[key]
    text = (HTML / "run_pages" / job.stage / f"{job.arm}-seed-{job.seed}.html").read_text(encoding="utf-8")
    (found,) = re.findall(pattern, html.unescape(re.sub(r"<[^>]+>", "", text)), re.MULTILINE)
    return found


@pytest.mark.parametrize("key", ["sft_priming/sft_verification_backtracking/seed=0", "grpo/grpo_rich/seed=0"])
def test_the_command_on_a_page_makes_its_results_again(key: str, tmp_path: Path) -> None:
    command = shown_on_page(key, r"^extrabitter (run-job .+)$")
    results = shown_on_page(key, r"^results\s+([0-9a-f]{12})$")
    # The same tree, but for runs of its own: making a run again replaces it.
    for name in ("profiles", "notebooks", "models"):
        if (REPOSITORY / name).exists():
            (tmp_path / name).symlink_to(REPOSITORY / name)
    shutil.copytree(RESULTS, tmp_path / PLAN.results_dir)
    program = [sys.executable, "-m", "extrabitter.cli", *shlex.split(command), "--root", str(tmp_path)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == f"results of {key}: {results}"


def test_the_command_on_a_page_makes_its_inputs_and_its_results_where_nothing_was_run(tmp_path: Path) -> None:
    key = "grpo/grpo_rich/seed=0"
    command = shown_on_page(key, r"^(\.venv/bin/snakemake .+)$")
    results = shown_on_page(key, r"^results\s+([0-9a-f]{12})$")
    # A clone with its set-up, and no run: the Snakefile is copied, as it takes its folder for the tree's.
    for name in ("profiles", "notebooks", "models", "src"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    shutil.copy(REPOSITORY / "Snakefile", tmp_path)
    done = subprocess.run(shlex.split(command), cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"results of {key}: {results}" in (done.stdout + done.stderr).splitlines()
    made = {
        f"{stage}/{arm}/seed={seed}" for stage, arm, seed, _ in find_statuses(tmp_path / PLAN.results_dir)
    }
    assert made == {"base_model/trunk/seed=0", "base_model/rich/seed=0", key}
