"""Below a page: one row for each arm behind it, whatever its manifests hold, and commands that the program takes."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from snakemake.cli import get_argument_parser

import miniature
from extrabitter import (
    artifacts,
    cli,
    execution,
    fingerprints,
    page_footers,
    pipeline,
    provenance,
    provenance_tables,
    reporting,
)
from extrabitter.provenance import REPOSITORY
from synthetic_results import write_results

HOSTILE = "<script>alert(1)</script>\"' $$x$$ & \\( y \\)"

OURS = {"div", "details", "summary", "p", "b", "br", "pre", "code", "a", "span", "strong"}
OURS |= {"table", "caption", "thead", "tbody", "tr", "th", "td"}


@pytest.fixture(autouse=True)
def no_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(provenance_tables.COMMANDS, raising=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_results(
        tmp_path_factory.mktemp("made") / "results", seeds=(0, 1, 2), num_problems=2, num_samples=2
    )


@pytest.fixture
def results(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "results")


def change(results: Path, key: str, without: tuple[str, ...] = (), **values: Any) -> None:
    """Change a run's manifest; in `parameters`, only those named."""
    path = results / key
    manifest = artifacts.read_manifest(path)
    assert manifest is not None
    values["parameters"] = manifest.get("parameters", {}) | values.get("parameters", {})
    manifest = {name: value for name, value in (manifest | values).items() if name not in without}
    artifacts.write_json(path / artifacts.MANIFEST, manifest)


class Rows(HTMLParser):
    """The rows of a page's markup as texts, by arm."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.rows: list[str] = []
        self.feed(markup)
        self.by_arm = {row.split("seed")[0]: row for row in self.rows}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag == "tr":
            self.rows.append("")
        elif tag in ("td", "br") and self.rows:
            self.rows[-1] += "\n"

    def handle_data(self, data: str) -> None:
        if self.rows:
            self.rows[-1] += data

    def fact(self, arm: str, label: str) -> str:
        """What a row says after a label."""
        (line,) = [line for line in self.by_arm[arm].splitlines() if line.startswith(f"{label} ")]
        return line.removeprefix(f"{label} ")


def shown(results: Path, stages: tuple[str, ...] = ("grpo",), have_pages: bool = True) -> Rows:
    return Rows(reporting.provenance_html(results, "made_up", stages, have_pages).data)


def test_an_arm_has_one_row_with_its_seeds_hashes_times_and_memory(results: Path) -> None:
    change(results, "grpo/grpo_rich/seed=1", wall_s=300.0, peak_rss_mb=900.4)
    stages = ("base_model", "sft_priming", "grpo", "behaviour_evaluation")
    rows = shown(results, stages)
    runs = artifacts.find_runs(results)
    arms = {(run.stage, run.arm) for run in runs if run.stage in stages}
    assert len(rows.rows) == 1 + len(stages) + len(arms)
    rows = shown(results)
    assert "seeds 0, 1, 2" in rows.by_arm["grpo_rich"]
    own = [run for run in runs if (run.stage, run.arm) == ("grpo", "grpo_rich")]
    hashes = [fingerprints.result_sha256(run.path, run.manifest)[:8] for run in own]
    assert rows.fact("grpo_rich", "results") == ", ".join(hashes) and len(set(hashes)) == 3
    assert rows.fact("grpo_rich", "wall time") == "90 s to 5.0 min each, 8.0 min in all; peak memory 900 MB"
    assert rows.fact("grpo_rich", "commit") == "0" * 10
    assert rows.fact("grpo_rich", "weights made") == "not recorded"


def test_what_all_runs_share_is_said_once_and_differences_are_counted(results: Path) -> None:
    text = reporting.provenance_html(results, "made_up", ["grpo"]).data
    assert text.count("made-up processor, 2 cores, Linux") == 1 and "<b>threads of a run</b> 1<br>" in text
    change(results, "grpo/grpo_rich/seed=1", packages={"python": "3.12", "tea": "1"})
    change(
        results, "grpo/grpo_rich/seed=2", machine={"cpu": "", "num_cores": 1, "gpu": "a card", "system": ""}
    )
    text = reporting.provenance_html(results, "made_up", ["grpo"]).data
    assert "python 3.11 (11 runs), 3.12 (1 run), tea not recorded (11 runs), 1 (1 run)" in text
    assert "made-up processor, 2 cores, Linux (11 runs), a card, 1 core (1 run)" in text
    assert shown(results).fact("grpo_rich", "machine") == (
        "made-up processor, 2 cores, Linux (seeds 0, 1), a card, 1 core (seed 2)"
    )


def test_parameters_are_shown_where_they_differ_from_the_defaults(results: Path) -> None:
    for seed in (0, 1, 2):
        start = f"runs/made_up/base_model/rich/seed={seed}/checkpoint"
        change(results, f"grpo/grpo_rich/seed={seed}", parameters={"init_from": start, "threads": 1})
    assert shown(results).fact("grpo_rich", "parameters") == "init_from = base_model/rich; num_steps = 40"
    change(results, "grpo/grpo_rich/seed=1", parameters={"learning_rate": 0.5, "gone": "x", "threads": 3})
    text = shown(results).fact("grpo_rich", "parameters")
    assert "threads = 1 (seeds 0, 2), 3 (seed 1)" in text
    assert "learning_rate = 0.00015 (seeds 0, 2), 0.5 (seed 1)" in text
    assert "gone = not recorded (seeds 0, 2), x (seed 1)" in text
    # A checkpoint of another seed, or on the way, is not called by the arm alone.
    start = "runs/made_up/base_model/rich/seed={}/checkpoint-40"
    change(results, "grpo/grpo_rich/seed=0", parameters={"init_from": start.format(0)})
    change(results, "grpo/grpo_rich/seed=1", parameters={"init_from": start.format(0)})
    text = shown(results).fact("grpo_rich", "parameters")
    assert (
        f"base_model/rich/checkpoint-40 (seed 0), {start.format(0)} (seed 1), base_model/rich (seed 2)"
        in text
    )


def test_values_that_differ_between_seeds_are_listed_and_many_are_counted() -> None:
    assert provenance_tables.by_seed(["a", "b", "a"], [4, 5, 6]) == "a (seeds 4, 6), b (seed 5)"
    assert provenance_tables.by_seed([str(n) for n in range(9)], list(range(9))) == "9 different values"


def test_old_manifests_lack_fields_and_the_row_says_so(results: Path) -> None:
    lacking = ("commit", "dirty", "code_sha256", "input_sha256", "packages", "machine", "threads", "wall_s")
    lacking += ("peak_rss_mb", "parameters")
    for seed in (0, 1, 2):
        change(results, f"grpo/grpo_rich/seed={seed}", lacking)
    rows = shown(results)
    for label in ("parameters", "code", "weights made"):
        assert rows.fact("grpo_rich", label) == "not recorded"
    assert rows.fact("grpo_rich", "wall time") == "not recorded; peak memory not recorded"
    assert rows.fact("grpo_rich", "commit") == "unknown"
    change(results, "grpo/grpo_rich/seed=1", model_sha256="ab" * 32, wall_s="soon", peak_rss_mb=float("nan"))
    change(results, "grpo/grpo_rich/seed=2", model_sha256=None, wall_s=7.0)
    rows = shown(results)
    assert rows.fact("grpo_rich", "weights made") == "not recorded, abababab, not recorded"
    assert rows.fact("grpo_rich", "wall time") == "7 s (2 not recorded); peak memory not recorded"


def test_hostile_values_are_text(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(provenance_tables.COMMANDS, HOSTILE)
    change(
        results,
        "grpo/grpo_rich/seed=0",
        arm=HOSTILE,
        commit=HOSTILE,
        code_sha256=HOSTILE,
        input_sha256=HOSTILE,
        model_sha256=HOSTILE,
        threads=HOSTILE,
        wall_s=HOSTILE,
        packages={HOSTILE: HOSTILE},
        machine={"cpu": HOSTILE, "num_cores": HOSTILE, "system": HOSTILE},
        parameters={HOSTILE: HOSTILE, "masked_words": HOSTILE * 9},
    )
    for damaged in ({"packages": 1, "machine": [HOSTILE]}, {"machine": None, "code_sha256": [HOSTILE]}):
        change(results, "grpo/grpo_rich/seed=1", **damaged)
        text = reporting.provenance_html(results, "made_up", ["grpo"]).data
        assert "<script" not in text and "tex2jax_ignore mathjax_ignore" in text
        rows = Rows(text)
        assert rows.tags <= OURS
        assert HOSTILE in "".join(rows.rows)
        assert all(
            link.startswith(("run_pages/", "runs.html")) for link in re.findall(r'href="([^"]*)"', text)
        )


def test_arms_are_linked_to_the_pages_of_runs_that_ended_and_where_there_are_pages(results: Path) -> None:
    artifacts.status_path(results / "grpo/grpo_rich/seed=1").unlink()
    text = reporting.provenance_html(results, "made_up", ["grpo"]).data
    assert 'href="run_pages/grpo.html"' in text and 'href="run_pages/grpo/grpo_rich-seed-0.html"' in text
    assert "grpo_rich-seed-1" not in text
    assert "href" not in reporting.provenance_html(results, "made_up", ["grpo"], have_pages=False).data


def test_a_published_run_is_shown_with_the_hash_that_it_was_published_with(results: Path) -> None:
    run = artifacts.find_runs(results, "grpo")[0]
    made = fingerprints.result_sha256(run.path, run.manifest)
    assert fingerprints.recorded_result_sha256(run) == made
    run.manifest["result_sha256"] = "kept"
    assert fingerprints.recorded_result_sha256(run) == "kept"


@pytest.mark.parametrize("profile", ["reference", "smollm2", "bases"])
def test_published_hashes_are_those_of_the_published_tables(profile: str) -> None:
    runs = artifacts.find_runs(REPOSITORY / "results" / profile)
    ended = artifacts.find_statuses(REPOSITORY / "results" / profile)
    assert len(runs) == sum(status.state == "ok" for *_, status in ended)  # none was left out as damaged
    assert runs and all(run.manifest["result_sha256"] for run in runs)
    for run in runs[:: max(1, len(runs) // 12)]:  # all of them take half a minute
        assert run.manifest["result_sha256"] == fingerprints.result_sha256(run.path, run.manifest)


def test_a_table_that_no_one_reads_any_more_has_no_hash(results: Path) -> None:
    run = artifacts.find_runs(results, "grpo")[0]
    run.manifest["files"]["forgotten.parquet"] = "0" * 64
    assert fingerprints.recorded_result_sha256(run) == ""


# --- The commands ----------------------------------------------------------------------------------------------


def parsed(line: str) -> tuple[str, dict[str, Any]]:
    """What the program's own parser makes of a command line."""
    program, *arguments = shlex.split(line)
    assert Path(program).name == "extrabitter"
    group = typer.main.get_command(cli.app)
    context = group.make_context("extrabitter", list(arguments))
    name, command, rest = group.resolve_command(context, arguments)  # type: ignore[attr-defined]
    return name, command.make_context(name, rest, parent=context).params


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    root = miniature.make_miniature(tmp_path / "tree")
    published = root / "results" / "mini"
    published.mkdir(parents=True)
    (published / "profile.yaml").write_text(yaml.safe_dump(miniature.PROFILE), encoding="utf-8")
    yield root


def test_the_page_of_published_results_is_made_by_a_command_that_there_is(tree: Path) -> None:
    book = pipeline.make_book("laptop", tree, "results/mini")
    lines = page_footers.commands_from_clone(book, "what_came_out").splitlines()
    (fetch, make, build) = [line for line in lines if not line.startswith("#")]
    assert fetch == "make setup"
    name, given = parsed(make)
    assert (name, given["chapter"], given["published"]) == ("run-chapter", "what_came_out", "results/mini")
    again = pipeline.make_book(given["profile"], tree, given["published"])
    assert again == book and given["chapter"] in again.chapters
    assert parsed(build) == ("build", {**parsed("extrabitter build")[1], "published": "results/mini"})
    assert parsed(page_footers.command(book, "what_came_out")) == (name, given)


def test_the_page_of_own_runs_is_made_with_the_runs_that_it_reads(tree: Path) -> None:
    book = pipeline.make_book("mini", tree)
    lines = page_footers.commands_from_clone(book, "what_came_out").splitlines()
    (_, make, build) = [line for line in lines if not line.startswith("#")]
    program, *arguments = shlex.split(make)
    given = get_argument_parser().parse_args(arguments)
    assert program == ".venv/bin/snakemake" and given.config == ["profile=mini"]
    assert given.targets == [str(book.output_dir / "what_came_out.ipynb")]
    assert parsed(build)[1]["profile"] == "mini"
    assert parsed(page_footers.command(book, "what_came_out"))[1]["profile"] == "mini"


def test_targets_of_make_that_commands_name_are_there() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for command in ("make setup", *page_footers.FETCHED.values()):
        assert re.search(rf"^{command.removeprefix('make ')}:", makefile, re.MULTILINE)
    assert all((REPOSITORY / "profiles" / f"{name}.yaml").is_file() for name in page_footers.FETCHED)


@pytest.mark.parametrize(
    ("dirty", "status", "first"),
    [
        (False, "", "git checkout 111111111111"),
        (
            True,
            "",
            "# commit 111111111111, with changes that are not committed: a clone may give other numbers",
        ),
        (
            False,
            "?? src/x.py",
            "# commit 111111111111, with changes that are not committed: a clone may give other numbers",
        ),
    ],
    ids=["clean", "changed", "new file"],
)
def test_a_commit_is_checked_out_only_where_it_holds_all_that_the_page_is_made_from(
    dirty: bool, status: str, first: str, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "git_state", lambda root: {"commit": "1" * 40, "dirty": dirty})
    monkeypatch.setattr(page_footers, "find_checkout", lambda root: page_footers.Checkout(root, "", "1" * 40))
    monkeypatch.setattr(page_footers, "_git", lambda root, *arguments: status)
    book = pipeline.make_book("mini", tree)
    assert page_footers.commands_from_clone(book, "what_came_out").splitlines()[0] == first


@pytest.mark.parametrize("fails", [False, True])
def test_a_running_chapter_is_told_its_commands_and_no_other_is(
    fails: bool, tree: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []

    def papermill(root: Path, notebook: Path, executed: Path, *_: object) -> None:
        told.append(reporting.provenance_html(results, "mini", ["grpo"]).data)
        if fails:
            raise execution.NotebookError("on purpose")
        (root / executed).write_text("{}", encoding="utf-8")

    monkeypatch.setattr(execution, "_papermill", papermill)
    book = pipeline.make_book("mini", tree)
    try:
        execution.run_chapter(book, "what_came_out")
    except execution.NotebookError:
        assert fails
    assert "_build/chapters/mini/what_came_out.ipynb" in told[0]
    without = reporting.provenance_html(results, "mini", []).data
    assert "snakemake" not in without and "was not made by" in without


def test_who_runs_a_chapter_and_who_writes_its_page_mean_one_variable() -> None:
    """The floors of the package keep the two from importing one another."""
    assert page_footers.COMMANDS == provenance_tables.COMMANDS
