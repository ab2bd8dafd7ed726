"""The page of a run: what it was given, what it made, whether its code has changed; hostile values are text on it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

import miniature
from chromium import Page
from extrabitter import artifacts, fingerprints, pipeline, provenance, publishing, records, run_pages, staging
from extrabitter.completions_browser import browser_html, collect, save_script
from extrabitter.config import STAGES
from extrabitter.highlighting import completions_html
from extrabitter.provenance import REPOSITORY
from page_checks import SETTLED, UNRENDERED, reported
from synthetic_results import write_results
from test_book_safety import HOSTILE

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
NOTHING: dict[str, Any] = {
    "nbformat": 4,
    "nbformat_minor": 5,
    "metadata": {"kernelspec": KERNEL, "language_info": {"name": "python"}},
    "cells": [],
}


def rewrite(run: artifacts.Run, table: str, **columns: Any) -> None:
    """Replace columns of a run's table, and its hash in the manifest."""
    changed = run.table(table).assign(**columns)
    path = records.write_table(run.path / f"{table}.parquet", table, changed)
    run.manifest["files"][path.name] = provenance.file_sha256(path)
    artifacts.write_json(run.path / artifacts.MANIFEST, run.manifest)


def write_notebooks(results: Path, cells: list[dict[str, Any]] | None = None) -> None:
    """Give each run an executed notebook."""
    for run in artifacts.find_runs(results):
        notebook = run.path.with_name(f"{run.path.name}.ipynb")
        notebook.write_text(json.dumps({**NOTHING, "cells": cells or []}), encoding="utf-8")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    root = write_results(tmp_path / "results", num_problems=2, failed=[("grpo", "grpo_rich", 0)])
    write_notebooks(root)
    return root


def page(results: Path, source: Path, key: str) -> str:
    """Markdown that stands before the notebook on a run's page."""
    (found,) = [page for page in run_pages.find_pages(results, REPOSITORY) if page.key == key]
    run_pages.write_run_page(source, found, "made_up")
    return json.loads((source / f"{found.name}.ipynb").read_text(encoding="utf-8"))["cells"][0]["source"]


def test_the_hash_of_results_leaves_out_wall_times_and_nothing_else(results: Path) -> None:
    run = artifacts.find_runs(results, "grpo")[0]
    before = fingerprints.result_sha256(run.path, run.manifest)
    rewrite(run, "steps", rollout_s=9.0, train_s=9.0, step_s=18.0)
    assert fingerprints.result_sha256(run.path, run.manifest) == before
    reward = run.table("steps")["reward"]
    rewrite(run, "steps", reward=reward + 1e-15 * (reward.index == 3))
    assert fingerprints.result_sha256(run.path, run.manifest) != before


def test_a_page_shows_where_its_run_comes_from_and_what_it_was_given(results: Path, tmp_path: Path) -> None:
    text = page(results, tmp_path, "grpo/grpo_absent/seed=0")
    run = next(run for run in artifacts.find_runs(results, "grpo") if run.arm == "grpo_absent")
    rows = dict(re.findall(r"^\| ([\w ]+) \| `([^`]*)` \|$", text, re.MULTILINE))
    assert rows["results"] == fingerprints.result_sha256(run.path, run.manifest)[:12]
    assert (rows["profile"], rows["seed"], rows["commit"]) == ("made_up", "0", "0" * 12)
    assert (rows["wall time"], rows["peak memory"]) == ("90 s", "512 MB")
    assert commands(text) == [
        "git checkout 000000000000",
        "make setup",
        ".venv/bin/snakemake --cores all --config profile=made_up -- runs/made_up/grpo/grpo_absent/seed=0.status.json",
        "source .venv/bin/activate",
        "extrabitter run-job --profile made_up grpo/grpo_absent/seed=0",
    ]
    given = dict(re.findall(r"^\| `(\w+)` \| `([^`]*)` \| [^|]+ \|$", text, re.MULTILINE))
    assert given == {name: str(value).strip() or " " for name, value in run.manifest["parameters"].items()}
    assert given.keys() == STAGES["grpo"].model_fields.keys()


def commands(text: str) -> list[str]:
    """Lines of the blocks of a page that hold commands."""
    return [
        line
        for block in re.findall(r"^```text\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        for line in block.split("\n")
        if line
    ]


@pytest.mark.parametrize(
    ("commit", "checked_out"),
    [
        ("1" * 40, []),
        ("unknown", []),
        ("1" * 12, []),
        ("0" * 40 + "; rm", []),
        ("2" * 40, ["git checkout 222222222222"]),
    ],
    ids=["checked out now", "unknown", "short", "hostile", "another"],
)
def test_a_page_checks_out_its_commit_only_where_that_is_known_and_another(
    commit: str, checked_out: list[str], results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "git_state", lambda root: {"commit": "1" * 40, "dirty": False})
    run = next(run for run in artifacts.find_runs(results, "grpo") if run.arm == "grpo_absent")
    run.manifest["commit"] = commit
    artifacts.write_json(run.path / artifacts.MANIFEST, run.manifest)
    shown = commands(page(results, tmp_path, "grpo/grpo_absent/seed=0"))
    assert [line for line in shown if line.startswith("git")] == checked_out


def test_a_failed_run_is_made_from_a_fresh_clone_too_with_what_its_profile_fetches(
    results: Path, tmp_path: Path
) -> None:
    (failed,) = [page for page in run_pages.find_pages(results, REPOSITORY) if page.status.state == "failed"]
    run_pages.write_run_page(tmp_path, failed, "smollm2")
    text = (tmp_path / f"{failed.name}.md").read_text(encoding="utf-8")
    target = "runs/smollm2/grpo/grpo_rich/seed=0.status.json"
    assert commands(text)[1:3] == [
        "make smollm2",
        f".venv/bin/snakemake --cores all --config profile=smollm2 -- {target}",
    ]
    assert (REPOSITORY / "profiles" / "smollm2.yaml").is_file()
    assert re.search(r"^smollm2: setup$", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def test_a_page_whose_code_has_changed_says_so_and_another_does_not(results: Path, tmp_path: Path) -> None:
    notebook = REPOSITORY / provenance.STAGE_NOTEBOOKS / "grpo.ipynb"
    run = next(run for run in artifacts.find_runs(results, "grpo") if run.arm == "grpo_absent")
    run.manifest["code_sha256"] = provenance.code_digest(notebook)
    artifacts.write_json(run.path / artifacts.MANIFEST, run.manifest)
    assert "changed since" not in page(results, tmp_path, "grpo/grpo_absent/seed=0")
    changed = page(results, tmp_path, "grpo/grpo_sft_direct/seed=0")
    assert "has changed since this run was made" in changed and "(changed since)" in changed
    pages = [page for page in run_pages.find_pages(results, REPOSITORY) if page.stage == "grpo"]
    run_pages.write_stage_page(tmp_path, "grpo", pages)
    rows = (tmp_path / "run_pages" / "grpo.md").read_text(encoding="utf-8").splitlines()
    assert [name for row in rows if "code changed since" in row for name in re.findall(r"\[(\w+),", row)] == [
        "grpo_sft_direct",
        "grpo_sft_verification_backtracking",
    ]
    assert any("| failed |" in row and "grpo_rich" in row for row in rows)


def test_a_page_whose_run_began_with_another_draw_names_the_one_that_is_shown(
    results: Path, tmp_path: Path
) -> None:
    """Both hashes are made up; see test_lineage.py for when two runs meet."""

    def record(key: str, name: str, sha256: str) -> None:
        path = results / key / artifacts.MANIFEST
        manifest = json.loads(path.read_text(encoding="utf-8")) | {name: sha256}
        manifest["parameters"]["run_dir"] = f"runs/made_up/{key}"
        artifacts.write_json(path, manifest)

    record("base_model/absent/seed=0", "model_sha256", "1" * 64)
    for sha256, differs in (("1" * 64, False), ("2" * 64, True)):
        record("grpo/grpo_absent/seed=0", "input_sha256", sha256)
        text = page(results, tmp_path, "grpo/grpo_absent/seed=0")
        link = "[base_model/absent/seed=0](/run_pages/base_model/absent-seed-0)"
        assert (f"other weights than those that {link} made" in text) == differs


def test_the_hash_of_published_weights_outlives_the_weights(tmp_path: Path) -> None:
    write_results(tmp_path / "results", num_problems=2)
    run = artifacts.find_runs(tmp_path / "results", "grpo")[0]
    assert fingerprints.model_sha256(run.manifest) == ""
    (run.path / "checkpoint").mkdir()
    (run.path / fingerprints.WEIGHTS).write_bytes(b"weights")
    sha = provenance.file_sha256(run.path / fingerprints.WEIGHTS)
    run.manifest["files"][fingerprints.WEIGHTS] = sha
    artifacts.write_json(run.path / artifacts.MANIFEST, run.manifest)
    write_notebooks(tmp_path / "results")
    publishing._copy_run(run, tmp_path / "published", tmp_path)
    manifest = artifacts.read_manifest(tmp_path / "published")
    assert manifest is not None and fingerprints.WEIGHTS not in manifest["files"]
    assert fingerprints.model_sha256(manifest) == sha


def test_published_tables_that_were_exchanged_stop_the_book(results: Path, tmp_path: Path) -> None:
    run = next(run for run in artifacts.find_runs(results, "grpo") if run.arm == "grpo_absent")
    run.manifest["result_sha256"] = fingerprints.result_sha256(run.path, run.manifest)
    artifacts.write_json(run.path / artifacts.MANIFEST, run.manifest)
    assert page(results, tmp_path, "grpo/grpo_absent/seed=0")
    rewrite(run, "steps", reward=0.5)  # with its hash in the manifest
    with pytest.raises(run_pages.DamagedRunError, match="grpo_absent/seed=0: its tables are not those"):
        page(results, tmp_path, "grpo/grpo_absent/seed=0")


def test_a_damaged_run_stops_the_book(results: Path) -> None:
    next((results / "grpo" / "grpo_absent").glob("seed=0.ipynb")).unlink()
    with pytest.raises(
        run_pages.DamagedRunError, match="grpo/grpo_absent/seed=0: its folder or notebook is damaged"
    ):
        run_pages.find_pages(results, REPOSITORY)


def test_what_was_printed_is_one_block_and_what_libraries_complain_of_is_left_out(tmp_path: Path) -> None:
    root = write_results(tmp_path / "results", num_problems=2)
    streams = [("stdout", "step 1\n"), ("stderr", "/home/someone/x.py: Warning"), ("stdout", "step 2\n")]
    outputs = [{"output_type": "stream", "name": name, "text": [text]} for name, text in streams]
    cell = {
        "cell_type": "code",
        "id": "a",
        "metadata": {},
        "execution_count": 1,
        "source": "",
        "outputs": outputs,
    }
    write_notebooks(root, [cell])
    found = run_pages.find_pages(root, REPOSITORY)[0]
    run_pages.write_run_page(tmp_path, found, "made_up")
    cells = json.loads((tmp_path / f"{found.name}.ipynb").read_text(encoding="utf-8"))["cells"]
    assert [output["text"] for output in cells[1]["outputs"]] == ["step 1\nstep 2\n"]


# --- Hostile values, through the whole build -------------------------------------------------------------------

HOSTILE_VALUE = (
    "<script>window.hacked = 1</script> {{ x }} {glue:text}`x` $$y$$ `z` | * _a_ [b](javascript:c)\n::: \n# d"
)


@pytest.fixture(scope="module")
def hostile_book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A book, built by Jupyter Book, whose completions, reasons and parameters are hostile."""
    root = miniature.make_miniature(tmp_path_factory.mktemp("hostile") / "tree")
    shutil.copytree(
        REPOSITORY / "book", root / "book", dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.md")
    )
    config = yaml.safe_load((REPOSITORY / "_config.yml").read_text(encoding="utf-8"))
    miniature.write_yaml(root / "_config.yml", config)
    results = write_results(root / "runs" / "mini", num_problems=3)
    kept = {
        ("behaviour_evaluation", "base_rich"),
        ("behaviour_evaluation", "grpo_rich"),
        ("grpo", "grpo_rich"),
    }
    for run in artifacts.find_runs(results):
        if (run.stage, run.arm) not in kept:
            shutil.rmtree(run.path)
            artifacts.status_path(run.path).unlink()
            continue
        run.manifest["parameters"]["masked_words"] = HOSTILE_VALUE
        run.manifest["machine"]["cpu"] = HOSTILE_VALUE
        artifacts.write_json(run.path / artifacts.MANIFEST, run.manifest)
        if run.stage == "behaviour_evaluation":
            texts = [HOSTILE[index % len(HOSTILE)] for index in range(len(run.table("completions")))]
            rewrite(run, "completions", completion=texts, prompt=texts, reason=HOSTILE_VALUE)
    failed = results / "grpo" / "grpo_absent" / "seed=0"
    artifacts.write_status(failed, artifacts.Status("failed", HOSTILE_VALUE + " ```", 1.0))
    write_notebooks(results)
    output = root / "_build" / "chapters" / "mini"
    data = collect(results)
    save_script(data, output)
    table = artifacts.collect_table(results, "behaviour_evaluation", "completions")
    shown = [browser_html(data).data, completions_html(table, list(table["completion"])).data]
    cells = [{"cell_type": "markdown", "id": "title", "metadata": {}, "source": "# What came out"}]
    for number, markup in enumerate(shown):
        displayed = {"output_type": "display_data", "metadata": {}, "data": {"text/html": markup}}
        cell = {
            "cell_type": "code",
            "id": f"c{number}",
            "metadata": {},
            "execution_count": 1,
            "source": "data",
        }
        cells.append({**cell, "outputs": [displayed]})
    output.mkdir(parents=True, exist_ok=True)
    chapter = output / "what_came_out.ipynb"
    chapter.write_text(json.dumps({**NOTHING, "cells": cells}), encoding="utf-8")
    book = pipeline.make_book("mini", root)
    staging.stage_source(book)
    return staging.build_html(book).parent


@pytest.mark.browser
@pytest.mark.parametrize(
    "name",
    [
        "what_came_out",
        "run_pages/grpo/grpo_rich-seed-0",
        "run_pages/grpo/grpo_absent-seed-0",
        "run_pages/behaviour_evaluation/grpo_rich-seed-0",
    ],
)
def test_hostile_text_is_inert_on_a_built_page(name: str, hostile_book: Path, browser: Page) -> None:
    browser.open((hostile_book / f"{name}.html").as_uri())
    browser.evaluate(SETTLED)
    assert browser.evaluate("window.hacked") is None
    assert reported(browser) == []
    links = "[...document.querySelectorAll('article a')].map((link) => link.href)"
    assert not [link for link in browser.evaluate(links) if link.startswith("javascript:")]
    assert browser.evaluate("document.querySelectorAll('article mjx-container').length") == 0
    text = browser.evaluate("document.querySelector('article').textContent")
    if name == "what_came_out":
        assert "$$ \\href{javascript:alert(1)}{x} $$ \\( x \\) \\[ y \\]" in " ".join(text.split())
        assert "<script>alert(1)</script>" in text and "{{ config }} {% raw %} {glue:text}`x`" in text
        assert "The code of a stage has changed since runs of this book were made: grpo" in text
    else:
        assert "<script>window.hacked = 1</script> {{ x }} {glue:text}" in text
        assert browser.evaluate(UNRENDERED) == []
        assert browser.evaluate("document.querySelectorAll('article h1').length") == 1
