"""The pipeline on a miniature tree: one build is killed, resumed, and looked at from all sides."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import miniature
from extrabitter import runs as artifacts
from extrabitter import cli
from extrabitter import jobs as execution
from extrabitter import plan as pipeline
from extrabitter import digests as provenance
from extrabitter import publish as publishing
from extrabitter import schedule as scheduling
from extrabitter.pages import build as staging
from extrabitter.params import STAGES, ParameterError, stage_parameters
from extrabitter.digests import REPOSITORY

ABSENT = "base_model/absent/seed=0"
GRPO, BROKEN = "grpo/grpo_absent/seed=0", "grpo/grpo_broken/seed=0"
READERS = ("behaviour_evaluation/grpo_absent/seed=0", "behaviour_evaluation/grpo_broken/seed=0")
CHAPTER = "chapter what_came_out"
ALL = {ABSENT, GRPO, BROKEN, *READERS}


def start(root: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(root / "src")}
    command = [sys.executable, "-m", "extrabitter.cli", *arguments, "--root", str(root)]
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def to_run(root: Path) -> set[str]:
    """What a build would run, apart from the book itself, which it always renders."""
    return set(scheduling.pending(pipeline.make_book("mini", root), cores=1)) - {"book"}


def statuses(root: Path) -> dict[str, int]:
    """When each job ended, by key."""
    results = root / "runs" / "mini"
    return {
        f"{path.parent.parent.name}/{path.parent.name}/{path.name.removesuffix('.status.json')}": (
            path.stat().st_mtime_ns
        )
        for path in results.glob("*/*/seed=*.status.json")
    }


class Story:
    """A build that was killed with -9 after its first runs, and the one that went on from there."""

    def __init__(self, root: Path) -> None:
        self.root = miniature.make_miniature(root)
        killed = start(self.root, "build", "--profile", "mini", "--cores", "2")
        deadline = time.monotonic() + 60
        # Snakemake counts a run as finished once it has started its readers.
        while not (self.root / "runs" / "mini" / f"{GRPO}.log").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.communicate()
        self.done_before_kill = statuses(self.root)
        resumed = start(self.root, "build", "--profile", "mini", "--cores", "2")
        self.output, _ = resumed.communicate(timeout=150)
        self.code = resumed.returncode


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return Story(tmp_path_factory.mktemp("story") / "tree")


def test_after_a_kill_only_the_unfinished_runs_again(story: Story) -> None:
    assert story.done_before_kill.keys() == {ABSENT}
    after = statuses(story.root)
    assert after.keys() == ALL, story.output
    assert {key: after[key] for key in story.done_before_kill} == story.done_before_kill
    assert "1 of 5 runs are up to date" in story.output
    assert to_run(story.root) == set()
    leftovers = [path for path in story.root.rglob(".*.partial-*") if "build" not in str(path)]
    assert not leftovers


def test_failed_arm_stops_nothing_but_its_readers(story: Story) -> None:
    results = story.root / "runs" / "mini"
    found = {f"{s}/{a}/seed={k}": status for s, a, k, status in artifacts.find_statuses(results)}
    assert {key for key, status in found.items() if status.state == "failed"} == {BROKEN, READERS[1]}
    assert found[BROKEN].reason == "ValueError: it broke | on purpose"
    assert found[READERS[1]].reason == f"input failed: {BROKEN}"
    assert not (results / BROKEN).exists()
    assert {run.arm for run in artifacts.find_runs(results, "grpo")} == {"grpo_absent"}


def test_build_with_a_failure_says_so_and_its_exit_code_too(story: Story) -> None:
    assert story.code == 1
    assert f"failed: {BROKEN}: ValueError: it broke | on purpose" in story.output


def test_progress_names_jobs_what_they_say_and_the_time_left(story: Story) -> None:
    lines = story.output.splitlines()
    assert any(
        re.match(r"  grpo: 2 runs, about \d:\d\d \(grpo_absent, grpo_broken\)", line) for line in lines
    )
    assert "  grpo/grpo_absent/seed=0: step 1 of grpo_absent" in lines
    pattern = r"finished grpo/\S+: ok in [\d.]+ s; \d of 4 runs, elapsed \d+:\d\d, about \d+:\d\d left"
    assert any(re.match(pattern, line) for line in lines), story.output
    assert lines[-1] == (story.root / "_build/html/mini/index.html").as_uri()


def test_book_shows_every_run_and_the_failed_one_as_failed(story: Story) -> None:
    html = story.root / "_build" / "html" / "mini"
    failed = (html / "run_pages" / "grpo" / "grpo_broken-seed-0.html").read_text()
    assert "failed" in failed and "it broke | on purpose" in failed
    finished = (html / "run_pages" / "grpo" / "grpo_absent-seed-0.html").read_text()
    manifest = json.loads((story.root / "runs" / "mini" / GRPO / "manifest.json").read_text())
    assert manifest["code_sha256"][:12] in finished
    command = f"source .venv/bin/activate\nextrabitter run-job --profile mini {GRPO}"
    assert command in re.sub(r"<[^>]+>", "", finished)
    assert "runs: 3 mini" in (html / "what_came_out.html").read_text()
    assert all(
        "profile “mini”" in page.read_text() for page in html.glob("*.html") if page.stem != "genindex"
    )


def edited(path: Path, old: str, new: str) -> Callable[[], None]:
    """Replace text in a file; returns what undoes it."""
    before = path.read_text()
    assert old in before
    path.write_text(before.replace(old, new))
    return lambda: path.write_text(before) and None


def test_another_learning_rate_runs_that_arm_and_its_readers_only(story: Story) -> None:
    undo = edited(story.root / "profiles" / "mini.yaml", "learning_rate: 0.001", "learning_rate: 0.002")
    try:
        assert to_run(story.root) == {GRPO, READERS[0], CHAPTER}
    finally:
        undo()


def test_another_figure_runs_the_chapter_and_no_training(story: Story) -> None:
    undo = edited(story.root / "src" / "extrabitter" / "figures.py", "runs:", "finished runs:")
    try:
        assert to_run(story.root) == {CHAPTER}
    finally:
        undo()


def test_second_build_beside_a_running_one_is_refused(story: Story) -> None:
    import fcntl

    with open(story.root / "_build" / ".lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        output, _ = (process := start(story.root, "build", "--profile", "mini")).communicate(timeout=60)
    assert process.returncode == 1
    assert "error: another build is at work" in output.strip().splitlines()[-1]


def test_chapter_with_an_error_is_refused(story: Story, tmp_path: Path) -> None:
    executed = story.root / "_build" / "chapters" / "mini" / "what_came_out.ipynb"
    notebook = json.loads(executed.read_text())
    error = {"output_type": "error", "ename": "KeyError", "evalue": "'arm'", "traceback": []}
    notebook["cells"][-1]["outputs"] = [error]
    undo = edited(executed, executed.read_text(), json.dumps(notebook))
    try:
        with pytest.raises(staging.BookError, match="chapter what_came_out holds an error: KeyError: 'arm'"):
            staging.stage_source(pipeline.make_book("mini", story.root))
    finally:
        undo()


def test_published_results_render_and_compare_without_checkpoints(story: Story) -> None:
    plan = pipeline.make_plan("mini", story.root)
    results = story.root / "results" / "mini"
    assert publishing.publish(plan, results) == 3
    notebooks = [path.read_text(encoding="utf-8") for path in results.glob("*/*/*.ipynb")]
    assert len(notebooks) == 3
    assert not any(str(story.root) in text for text in notebooks)
    assert not list(results.rglob("checkpoint"))
    assert len(artifacts.find_runs(results)) == 3
    failed = {arm for _, arm, _, status in artifacts.find_statuses(results) if status.state == "failed"}
    assert failed == {"grpo_broken"}
    table = publishing.compare(story.root / "runs" / "mini", results)
    assert re.search(
        r"^grpo_absent +pass@1 +0.5 \[0.4, 0.6\] +0.5 \[0.4, 0.6\]  inside$", table, re.MULTILINE
    )
    output, _ = (process := start(story.root, "build", "--published", "results/mini")).communicate(
        timeout=120
    )
    assert process.returncode == 0, output
    assert output.strip().splitlines()[-1] == (story.root / "_build/html/mini/index.html").as_uri()
    assert "0 of 0 runs" in output


def test_book_of_one_profile_leaves_that_of_another_alone(story: Story) -> None:
    readers = story.root / "_build" / "html" / "laptop" / "index.html"
    readers.parent.mkdir(parents=True)
    readers.write_text("the reader's book")
    book = pipeline.make_book("mini", story.root)
    staging.stage_source(book)
    index = staging.build_html(book)
    assert index == staging.index_page(book) and index.is_file()
    assert index.parent == story.root / "_build" / "html" / "mini"
    assert readers.read_text() == "the reader's book"
    assert {path.name for path in (story.root / "_build" / "source").iterdir()} == {"mini"}


def test_compare_tells_inside_from_overlapping_and_outside() -> None:
    def row(value: float, half: float) -> dict[str, float]:
        return {
            "value_mine": value,
            "lower_mine": value - half,
            "upper_mine": value + half,
            "value_published": 0.5,
            "lower_published": 0.4,
            "upper_published": 0.6,
        }

    assert publishing._verdict(dict(row(0.55, 0.01))) == "inside"
    assert publishing._verdict(dict(row(0.65, 0.1))) == "overlaps"
    assert publishing._verdict(dict(row(0.75, 0.1))) == "outside"


def test_compare_without_results_is_one_line(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("compare", "--profile", "mini", "--root", str(tree)) == 2
    assert "profile: no finished behaviour_evaluation run in" in capsys.readouterr().err


# Bad input: no kernel is started for any of these, so they share one quick tree.


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return miniature.make_miniature(tmp_path / "tree")


def set_profile(tree: Path, **changes: Any) -> None:
    miniature.write_yaml(tree / "profiles" / "mini.yaml", {**miniature.PROFILE, **changes})


def stages_with(stage: str, arm: str, **values: Any) -> dict[str, Any]:
    stages = json.loads(json.dumps(miniature.PROFILE["stages"]))
    stages[stage]["arms"][arm] = {**(stages[stage]["arms"].get(arm) or {}), **values}
    return stages


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"sedes": [0]},
            "profile mini: sedes = [0]: unknown name; did you mean seeds? allowed: description, name, seeds, stages",
        ),
        ({"seeds": 3}, "profile mini: seeds = 3: must be a valid list"),
        ({"name": "other"}, "profile mini: name = 'other': must be 'mini', as the file is called"),
        (
            {"stages": {"gpro": {}}},
            "stages.gpro = {}: unknown name; did you mean grpo? allowed: base_model, behaviour_evaluation",
        ),
        (
            {"stages": {"grpo": {"arms": {"a": {}}, "arm": {}}}},
            "profile mini: stages.grpo.arm = {}: unknown name; did you mean arms? allowed: arms, defaults, estimate_s",
        ),
        (
            {"stages": stages_with("grpo", "grpo_absent", prompt="plain", revision="v1")},
            "profile mini: grpo.grpo_absent: revision = 'v1': only of a hub id; base_model/absent is another arm",
        ),
        (
            {"stages": stages_with("grpo", "grpo_absent", learnin_rate=1)},
            "profile mini: grpo.grpo_absent: learnin_rate = 1: unknown name; did you mean learning_rate? allowed: ",
        ),
        (
            {"stages": stages_with("grpo", "grpo_absent", num_steps="ten")},
            "profile mini: grpo.grpo_absent: num_steps = 'ten': must be a valid integer",
        ),
        (
            {"stages": stages_with("base_model", "absent", search_share=-1)},
            "base_model.absent: search_share = -1: must be greater than or equal to 0",
        ),
        (
            {"stages": stages_with("base_model", "absent", search_share=2)},
            "base_model.absent: search_share = 2: must be less than or equal to 1",
        ),
        (
            {"stages": stages_with("grpo", "grpo_absent", run_dir="x")},
            "grpo.grpo_absent: run_dir = 'x': is set by the pipeline; remove it",
        ),
        (
            {"stages": stages_with("grpo", "grpo_absent", init_from="base_model/absnet")},
            "grpo.grpo_absent reads base_model/absnet/seed=0, which no other arm makes; there are base_model/absent",
        ),
        (
            {"stages": stages_with("base_model", "absent", init_from="grpo/grpo_absent")},
            "these arms read each other in a circle: base_model/absent/seed=0, grpo/grpo_absent/seed=0",
        ),
        (
            {"stages": stages_with("grpo", "grpo_absent", seeds="all")},
            "grpo.grpo_absent: seeds = 'all': must be a list of integers",
        ),
    ],
)
def test_bad_profile_is_one_line_and_nothing_runs(
    tree: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], line: str
) -> None:
    set_profile(tree, **changes)
    code = run_cli("build", "--profile", "mini", "--root", str(tree))
    printed = capsys.readouterr()
    assert code == 2
    assert line in printed.err
    assert len(printed.err.strip().splitlines()) == 1
    assert not (tree / "runs").exists() and not (tree / "_build").exists()


def run_cli(*arguments: str) -> int:
    """Run the command line in this process; returns its exit code."""
    before, sys.argv = sys.argv, ["extrabitter", *arguments]
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = before
    return 0


def test_unknown_profile_lists_the_known_ones(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("plan", "--profile", "labtop", "--root", str(tree)) == 2
    assert capsys.readouterr().err == "error: profile = 'labtop': unknown; must be one of mini\n"


def test_unknown_job_and_unknown_chapter_are_one_line(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("run-job", "grpo/x/seed=0", "--profile", "mini", "--root", str(tree)) == 2
    assert "job = 'grpo/x/seed=0': not in profile mini; it has base_model/absent" in capsys.readouterr().err
    assert run_cli("run-chapter", "one", "--profile", "mini", "--root", str(tree)) == 2
    assert "chapter = 'one': unknown; must be one of what_came_out" in capsys.readouterr().err


def finished_input(tree: Path) -> Path:
    """Pretend that absent's run is finished; returns its checkpoint."""
    checkpoint = tree / "runs" / "mini" / ABSENT / "checkpoint"
    checkpoint.mkdir(parents=True)
    (checkpoint / "config.json").write_text("{}")
    (checkpoint / "model.safetensors").write_bytes(b"weights")
    artifacts.write_checksums(checkpoint)
    artifacts.write_status(checkpoint.parent, artifacts.Status("ok"))
    return checkpoint


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: (path / "model.safetensors").write_bytes(b"wEights"), "model.safetensors is corrupted"),
        (lambda path: (path / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda path: (path / "config.json").unlink(), "no checkpoint there"),
        (lambda path: artifacts.status_path(path.parent).unlink(), f"input not made yet: {ABSENT}"),
    ],
    ids=["flipped byte", "no weights", "no checkpoint", "not made"],
)
def test_bad_checkpoint_fails_the_run_with_one_line_and_leaves_no_result(
    tree: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], Any], reason: str
) -> None:
    damage(finished_input(tree))
    assert run_cli("run-job", GRPO, "--profile", "mini", "--root", str(tree)) == 1
    run_dir = tree / "runs" / "mini" / GRPO
    status = artifacts.read_status(run_dir)
    assert status is not None and status.state == "failed"
    assert reason in status.reason and "\n" not in status.reason
    assert not run_dir.exists()
    assert f"finished {GRPO}: failed" in capsys.readouterr().out


def test_publishing_is_refused_while_planned_runs_are_missing(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished_input(tree)  # "ok", but without a manifest: that is no run either
    artifacts.write_status(tree / "runs" / "mini" / BROKEN, artifacts.Status("failed", "it broke"))
    assert run_cli("publish", "--profile", "mini", "--root", str(tree)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: publish: 4 of 5 runs of profile mini are missing; make them first, or ")
    assert len(error.strip().splitlines()) == 1 and ABSENT in error and BROKEN not in error
    assert not (tree / "results").exists()


def test_what_has_ended_can_be_published_while_the_rest_is_missing(tree: Path, tmp_path: Path) -> None:
    plan = pipeline.make_plan("mini", tree)
    first = next(iter(plan.jobs))
    artifacts.write_status(tree / plan.jobs[first].run_dir, artifacts.Status("failed", "it broke"))
    results = tmp_path / "results"
    assert publishing.publish(plan, results, partial=True) == 0
    assert [f"{s}/{a}/seed={k}" for s, a, k, _ in artifacts.find_statuses(results)] == [first]
    assert (results / "profile.yaml").is_file()


def test_failed_runs_are_published_as_failed(tree: Path) -> None:
    plan = pipeline.make_plan("mini", tree)
    for job in plan.jobs.values():
        artifacts.write_status(tree / job.run_dir, artifacts.Status("failed", f"{job.arm} broke"))
    results = tree / "results" / "mini"
    stale = results / GRPO / "manifest.json"
    artifacts.write_json(stale, {"files": {}})
    assert publishing.publish(plan, results) == 0
    published = {f"{s}/{a}/seed={k}": status.reason for s, a, k, status in artifacts.find_statuses(results)}
    assert published == {key: f"{job.arm} broke" for key, job in plan.jobs.items()}
    assert not stale.parent.exists()


def test_unwritable_output_is_one_line(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "runs").write_text("a file where a folder should be")
    assert run_cli("run-job", ABSENT, "--profile", "mini", "--root", str(tree)) == 2
    error = capsys.readouterr().err
    assert f"run_dir = 'runs/mini/{ABSENT}': cannot be written (Not a directory)" in error
    assert len(error.strip().splitlines()) == 1


def test_chapter_has_no_page_until_it_is_whole(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = pipeline.make_book("mini", tree)
    folder = tree / book.output_dir
    while_running: list[list[str]] = []

    def execute(notebook: str, executed: str, *_: object, **__: object) -> None:
        Path(executed).write_text("{}")
        while_running.append(sorted(path.name for path in folder.glob("*.ipynb")))

    monkeypatch.setattr(execution.papermill, "execute_notebook", execute)
    execution.run_chapter(book, "what_came_out")
    assert while_running == [[".what_came_out.partial.ipynb"]]
    assert [path.name for path in folder.glob("*.ipynb")] == ["what_came_out.ipynb"]


@pytest.mark.parametrize("written", [True, False])
def test_failed_chapter_is_one_line_and_leaves_no_page(
    tree: Path, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    book = pipeline.make_book("mini", tree)
    folder = tree / book.output_dir
    folder.mkdir(parents=True)
    (folder / "what_came_out.ipynb").write_text("an earlier page")
    (folder / "what_came_out.failed.ipynb").write_text("an earlier failure")

    def execute(notebook: str, executed: str, *_: object, **__: object) -> None:
        if written:
            Path(executed).write_text("{}")
        raise RuntimeError("Kernel died before replying to kernel_info")

    monkeypatch.setattr(execution.papermill, "execute_notebook", execute)
    with pytest.raises(
        execution.NotebookError, match=r"^chapter what_came_out: .*: RuntimeError: Kernel died"
    ):
        execution.run_chapter(book, "what_came_out")
    left = {path.name: path.read_text() for path in folder.glob("*.ipynb")}
    assert left == ({"what_came_out.failed.ipynb": "{}"} if written else {})


def test_published_folder_without_results_is_one_line(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("build", "--published", "results/reference", "--root", str(tree)) == 2
    assert "published = 'results/reference': no results there" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["torch", "trl", "transformers", "datasets", "accelerate", "numpy"])
def test_another_version_of_a_package_makes_every_run_stale(
    tree: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    plan = pipeline.make_plan("mini", tree)
    before = plan.digests()
    versions = {**provenance.package_versions(), package: "0.0.1"}
    monkeypatch.setattr(pipeline, "package_versions", lambda: versions)
    after = plan.digests()
    assert before.keys() == after.keys() == ALL
    assert all(before[key] != after[key] for key in ALL)


def test_the_code_of_a_stage_is_read_once_for_all_of_its_runs(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    monkeypatch.setattr(pipeline, "code_digest", lambda notebook: str(read.append(notebook)))
    plan = pipeline.make_plan("mini", tree)
    assert plan.digests().keys() == ALL
    assert len(read) == len(set(read)) == len({job.stage for job in plan.jobs.values()}) < len(ALL)


def published_results(tree: Path, name: str = "mini") -> Path:
    """Lay out a results folder with one made-up run; returns it."""
    results = tree / "results" / name
    miniature.write_yaml(results / "profile.yaml", {**miniature.PROFILE, "name": name})
    artifacts.write_json(results / ABSENT / "manifest.json", {"files": {}})
    return results


def test_a_book_says_what_it_is_made_from_and_a_reference_how_much_is_missing(tree: Path) -> None:
    assert staging.banner(pipeline.make_book("mini", tree)).startswith("Built from the profile “mini”: ")
    results = published_results(tree, "reference")
    book = pipeline.make_book("", tree, published="results/reference")
    planned = pipeline.make_plan("mini", tree).jobs
    assert f"0 of {len(planned)} have ended" in staging.banner(book)
    for key in planned:
        assert "come in" in staging.banner(book)
        artifacts.write_status(results / key, artifacts.Status("failed" if key == BROKEN else "ok"))
    assert staging.banner(book) == ""


@pytest.mark.parametrize(
    "change",
    [
        lambda results: artifacts.write_json(results / ABSENT / "manifest.json", {"files": {"a": "b"}}),
        lambda results: artifacts.write_json(results / GRPO / "manifest.json", {"files": {}}),
        lambda results: artifacts.write_status(results / BROKEN, artifacts.Status("failed", "it broke")),
        lambda results: (results / "profile.yaml").open("a").write("# another\n"),
    ],
    ids=["other tables", "another run", "a failed run", "another profile"],
)
def test_other_published_results_run_their_chapters_again(tree: Path, change: Callable[[Path], Any]) -> None:
    results = published_results(tree)
    book = pipeline.make_book("", tree, published="results/mini")
    before = pipeline.chapter_digest(book, "what_came_out")
    assert pipeline.chapter_digest(book, "what_came_out") == before
    change(results)
    assert pipeline.chapter_digest(book, "what_came_out") != before


def test_a_file_that_a_chapter_names_runs_it_again_when_it_comes_changes_or_goes(tree: Path) -> None:
    chapter = tree / "notebooks" / "chapters" / "what_came_out.ipynb"
    notebook = json.loads(chapter.read_text())
    notebook["metadata"]["extrabitter"] = {"reads_files": ["measured/results.csv"]}
    chapter.write_text(json.dumps(notebook))
    book = pipeline.make_book("mini", tree)
    assert book.chapter_inputs("what_came_out") == list(book.plan.jobs)
    absent = pipeline.chapter_digest(book, "what_came_out")
    given = tree / "measured" / "results.csv"
    given.parent.mkdir()
    digests = [absent]
    for text in ("a", "b"):
        given.write_text(text)
        digests.append(pipeline.chapter_digest(book, "what_came_out"))
    assert len(set(digests)) == 3
    given.unlink()
    assert pipeline.chapter_digest(book, "what_came_out") == absent


def test_no_two_books_share_the_folder_of_their_chapters(tree: Path) -> None:
    published_results(tree)
    published_results(tree, "other")
    books = [pipeline.make_book("mini", tree)]
    books += [pipeline.make_book("", tree, f"results/{name}") for name in ("mini", "other")]
    assert len({book.output_dir for book in books}) == 3
    assert [book.output_dir.name for book in books] == ["mini", "mini", "other"]


@pytest.mark.parametrize("page", ["README.md", "notebooks/chapters/reproducing.ipynb"])
def test_papermill_is_shown_with_the_activation_of_its_environment(page: str) -> None:
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    if page.endswith(".ipynb"):
        text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
    blocks = [
        block for block in re.findall(r"```text\n(.*?)```", text, re.DOTALL) if "papermill notebooks" in block
    ]
    assert len(blocks) == 2
    assert all(block.startswith("source .venv/bin/activate\n") for block in blocks)


def test_help_says_whether_this_edition_has_published_results() -> None:
    has_none = not (REPOSITORY / "results" / "reference" / "profile.yaml").is_file()
    shown = subprocess.run(
        ["make", "help"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    for target in ("make published", "make compare"):
        line = next(line for line in shown.splitlines() if line.startswith(target))
        assert ("this edition has none yet" in line) == has_none


def test_publish_has_no_profile_unless_one_is_named(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("publish", "--root", str(tree)) == 2
    error = " ".join(re.sub(r"[^\w -]", " ", capsys.readouterr().err).split())
    assert "Missing option --profile" in error


def test_notebook_that_differs_from_the_model_is_refused(tree: Path) -> None:
    notebook = tree / "notebooks" / "stages" / "grpo.ipynb"
    parameters = pipeline.make_plan("mini", tree).jobs[GRPO].parameters
    execution.check_notebook(notebook, parameters)
    for old, new, line in (
        ("beta: float = 0.0", "betta: float = 0.0", "parameter beta is in the model only"),
        ("beta: float = 0.0", "beta: float = 1.0 - 1.0", "beta = 1.0 - 1.0: must be a literal"),
        ("num_steps: int = 100", "num_steps: int = 2.5", "num_steps = 2.5: must be of type int"),
    ):
        undo = edited(notebook, old, new)
        with pytest.raises(ParameterError, match=re.escape(line)):
            execution.check_notebook(notebook, parameters)
        undo()


def test_the_longest_chain_is_asked_for_first(tree: Path) -> None:
    book = pipeline.make_book("mini", tree)
    longest = book.plan.last_of_longest_chain()
    assert longest == f"behaviour_evaluation/{GRPO.split('/', 1)[1]}", "a base, its RL, its evaluation"
    command = scheduling._command(book, cores=2)
    assert command[command.index("--prioritize") + 1].endswith(f"{longest}.status.json")
    laptop = pipeline.make_plan("laptop")
    assert "sft_" in laptop.last_of_longest_chain(), "priming, then RL, then its evaluation"


def test_estimate_respects_cores_and_order(tree: Path) -> None:
    plan = pipeline.make_plan("mini", tree)
    assert plan.estimate([ABSENT, GRPO], cores=2) == 8
    assert plan.estimate([GRPO, BROKEN], cores=2) == 4
    assert plan.estimate(plan.jobs, cores=1) == 20
    assert plan.estimate([], cores=2) == 0


def test_a_chapter_that_reads_no_runs_waits_for_none() -> None:
    book = pipeline.make_book("smoke", REPOSITORY)
    assert book.chapter_inputs("why_rl_is_search") == []
    assert book.chapter_inputs("taste_test") == list(book.plan.jobs)


def test_arm_may_have_seeds_of_its_own_and_read_a_middle_checkpoint(tree: Path) -> None:
    stages = stages_with("grpo", "grpo_broken", seeds=[1])
    stages["behaviour_evaluation"]["arms"] = {"middle": {"checkpoint": "grpo/grpo_absent/checkpoint-50"}}
    stages["grpo"]["arms"]["grpo_absent"]["save_steps"] = "50"
    set_profile(tree, seeds=[0, 1], stages=stages)
    plan = pipeline.make_plan("mini", tree)
    assert [job.seed for job in plan.jobs.values() if job.arm == "grpo_broken"] == [1]
    job = plan.jobs["behaviour_evaluation/middle/seed=1"]
    assert job.parameters.model_dump()["checkpoint"] == "runs/mini/grpo/grpo_absent/seed=1/checkpoint-50"
    assert job.inputs == ("grpo/grpo_absent/seed=1",)


@pytest.mark.parametrize("path", sorted((REPOSITORY / "profiles").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_profile_can_be_planned(path: Path) -> None:
    plan = pipeline.make_plan(path.stem)
    assert plan.jobs
    assert set(yaml.safe_load(path.read_text())["stages"]) <= set(STAGES)


@pytest.mark.parametrize("stage", list(STAGES))
def test_shipped_stage_notebook_matches_its_model(stage: str) -> None:
    values = {"run_dir": "runs/a", "arm": "a", "seed": 0, **miniature.REQUIRED[stage]}
    notebook = REPOSITORY / "notebooks" / "stages" / f"{stage}.ipynb"
    execution.check_notebook(notebook, stage_parameters(stage, values))
    cells = json.loads(notebook.read_text())["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
