"""A profile as jobs, and one command line: what is asked wrongly is one line, and nothing runs."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import miniature
from extrabitter import cli, digests, jobs, runs, schedule
from extrabitter import plan as pipeline
from miniature import BASE, GRPO, JOBS, PROFILE


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return miniature.make_miniature(tmp_path / "tree")


def run_cli(*arguments: str) -> int:
    """Run the command line in this process; returns its exit code."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(sys, "argv", ["extrabitter", *arguments])
        cli.main()
    return int(stop.value.code or 0)


# --- Jobs --------------------------------------------------------------------------------------------------------


def torch(command: str, line: str) -> Any:
    """A case whose command imports PyTorch before it is refused."""
    return pytest.param(command, line, marks=pytest.mark.slow)


def set_profile(tree: Path, **changes: Any) -> pipeline.Plan:
    miniature.write_yaml(tree / "profiles" / "mini.yaml", {**PROFILE, **changes})
    return pipeline.make_plan("mini", tree)


def test_jobs_come_after_what_they_read_and_lie_where_they_are_called(tree: Path) -> None:
    plan = pipeline.make_plan("mini", tree)
    assert tuple(plan.jobs) == JOBS
    job = plan.jobs[GRPO]
    assert job.run_dir == Path("runs/mini") / GRPO and job.inputs == (BASE,)
    assert job.source == f"runs/mini/{BASE}/checkpoint" and job.experiment == "taste_test"
    assert (job.parameters.task, job.parameters.arm, job.parameters.seed) == ("countdown", "guesser", 0)


def test_arm_may_have_seeds_and_an_experiment_of_its_own_and_read_a_middle_checkpoint(tree: Path) -> None:
    stages = json.loads(json.dumps(miniature.STAGE_RUNS))
    stages["grpo"]["arms"] = {
        "guesser": {"init_from": "base_model/guesser", "save_steps": "50", "experiment": "middles"},
        "late": {"init_from": "base_model/guesser", "seeds": [1]},
    }
    stages["behaviour_evaluation"]["arms"] = {"middle": {"checkpoint": "grpo/guesser/checkpoint-50"}}
    plan = set_profile(tree, seeds=[0, 1], tasks={"countdown": {"stages": stages}})
    assert [job.seed for job in plan.jobs.values() if job.arm == "late"] == [1]
    assert plan.jobs[GRPO].experiment == "middles"
    job = plan.jobs["countdown/behaviour_evaluation/middle/seed=1"]
    assert job.source == "runs/mini/countdown/grpo/guesser/seed=1/checkpoint-50"
    assert job.inputs == ("countdown/grpo/guesser/seed=1",)


def test_two_tasks_share_a_profile_and_read_own_runs(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "registered_tasks", lambda: {"countdown": "", "toy": ""})
    sections = {name: {"stages": miniature.STAGE_RUNS} for name in ("countdown", "toy")}
    plan = set_profile(tree, tasks=sections)
    assert len(plan.jobs) == 2 * len(JOBS)
    assert plan.jobs["toy/grpo/guesser/seed=0"].inputs == ("toy/base_model/guesser/seed=0",)


def test_estimate_is_a_sum_over_the_cores(tree: Path) -> None:
    plan = pipeline.make_plan("mini", tree)
    assert plan.estimate(plan.jobs, cores=1) == 20
    assert plan.estimate([BASE, GRPO], cores=2) == 4
    assert plan.estimate([], cores=2) == 0


def test_another_version_of_a_package_makes_all_stale(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, versions = pipeline.make_plan("mini", tree), digests.package_versions()
    before = {key: plan.made_from(job) for key, job in plan.jobs.items()}
    packages = {"torch", "trl", "transformers", "datasets", "accelerate", "numpy"}
    assert packages <= versions.keys()
    for package, (key, job) in itertools.product(packages, plan.jobs.items()):
        monkeypatch.setattr(digests, "package_versions", lambda: {**versions, package: "0.0.1"})  # noqa: B023
        after = plan.made_from(job)
        assert [name for name in after if after[name] != before[key][name]] == ["packages"]


def test_the_shipped_checkpoint_counts_and_one_that_a_job_makes_is_held_to_its_weights(tree: Path) -> None:
    stages = json.loads(json.dumps(miniature.STAGE_RUNS))
    stages["base_model"]["arms"]["guesser"] = {"init_from": "models/given"}
    plan = set_profile(tree, tasks={"countdown": {"stages": stages}})
    before = plan.made_from(plan.jobs[BASE])
    (tree / "models" / "given").mkdir(parents=True)
    (tree / "models" / "given" / "SHA256SUMS").write_text("a  model.safetensors\n")
    after = plan.made_from(plan.jobs[BASE])
    assert [name for name in after if after[name] != before[name]] == ["checkpoint"]
    assert plan.weights(plan.jobs[BASE]) == {} and plan.weights(plan.jobs[GRPO]) == {BASE: ""}


def test_the_longest_chain_is_the_one_that_takes_most_time_from_its_start_to_its_end(tree: Path) -> None:
    plan = pipeline.make_plan("mini", tree)
    assert plan.last_of_longest() in miniature.READERS  # a base, RL and what evaluates it


def test_each_seed_starts_from_the_base_of_its_own_trunk(tree: Path) -> None:
    stages = json.loads(json.dumps(miniature.STAGE_RUNS))
    stages["base_model"]["arms"]["late"] = {"init_from": "bank/guesser/seed={seed}", "seeds": [3, 4]}
    plan = set_profile(tree, tasks={"countdown": {"stages": stages}})
    late = [job for job in plan.jobs.values() if job.arm == "late"]
    assert [job.parameters.init_from for job in late] == ["bank/guesser/seed=3", "bank/guesser/seed=4"]
    assert all(job.inputs == () for job in late)


# --- Books -------------------------------------------------------------------------------------------------------


def test_the_published_book_has_no_runs_and_no_two_books_share_a_folder(tree: Path) -> None:
    mine, published = pipeline.make_book("mini", tree), pipeline.make_book("", tree)
    assert published.plan.jobs == {} and published.runs_dir == "" and published.name == "published"
    assert mine.runs_dir == "runs/mini"
    assert mine.output_dir != published.output_dir and mine.index != published.index
    assert set(schedule.pending(published)) == {f"chapter {miniature.CHAPTER}", "book"}


def test_a_chapter_hangs_on_its_source_and_on_whatever_chapters_may_read(tree: Path) -> None:
    chapter = tree / "notebooks" / "chapters" / f"{miniature.CHAPTER}.ipynb"
    states = []
    read = ["results/edition/a.parquet", "benchmarks/a.csv"]
    read += ["book/predictions/first.yaml", "profiles/other.yaml"]
    for path in (None, *(tree / name for name in read), chapter):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{path.read_text()} " if path.exists() else "a")
        pipeline._read_by_chapters.cache_clear()
        states.append(pipeline.make_book("mini", tree).chapter_made_from(miniature.CHAPTER))
    changed = [[name for name in a if a[name] != b[name]] for a, b in itertools.pairwise(states)]
    assert changed == [["files"]] * 4 + [["notebook"]]


# --- Notebooks ---------------------------------------------------------------------------------------------------


def test_failed_chapter_is_one_line_and_leaves_no_page(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = pipeline.make_book("mini", tree)
    folder = tree / book.output_dir
    folder.mkdir(parents=True)
    (folder / f"{miniature.CHAPTER}.ipynb").write_text("an earlier one")
    runs.write_status(folder / miniature.CHAPTER, runs.Status("ok"))

    def execute(notebook: str, executed: str, *_: object, **__: object) -> None:
        Path(executed).write_text("{}")
        raise RuntimeError("Kernel died before replying to kernel_info")

    monkeypatch.setattr(jobs.papermill, "execute_notebook", execute)
    with pytest.raises(jobs.NotebookError, match=r"^chapter what_came_out: .*: RuntimeError: Kernel died"):
        jobs.run_chapter(book, miniature.CHAPTER)
    assert [path.name for path in folder.glob("*")] == [f"{miniature.CHAPTER}.log"]


def finished_input(tree: Path) -> Path:
    """Pretend that the base's run is finished; returns its checkpoint."""
    checkpoint = tree / "runs" / "mini" / BASE / "checkpoint"
    checkpoint.mkdir(parents=True)
    (checkpoint / "config.json").write_text("{}")
    (checkpoint / "model.safetensors").write_bytes(b"weights")
    runs.write_checksums(checkpoint)
    runs.write_status(checkpoint.parent, runs.Status("ok"))
    return checkpoint


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: (path / "model.safetensors").write_bytes(b"wEights"), "model.safetensors is altered"),
        (lambda path: (path / "config.json").unlink(), "no checkpoint there"),
        (lambda path: runs.status_path(path.parent).unlink(), f"input not made yet: {BASE}"),
    ],
    ids=["flipped byte", "no checkpoint", "not made"],
)
def test_bad_checkpoint_fails_the_run_with_one_line_and_leaves_no_result(
    tree: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], Any], reason: str
) -> None:
    damage(finished_input(tree))
    assert run_cli("run-job", GRPO, "--profile", "mini", "--root", str(tree)) == 1
    run_dir = tree / "runs" / "mini" / GRPO
    status = runs.read_status(run_dir)
    assert status is not None and status.state == "failed" and not run_dir.exists()
    assert reason in status.reason and "\n" not in status.reason
    assert f"finished {GRPO}: failed" in capsys.readouterr().out


# --- Wrong input: one line, whatever it is --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("plan --profile labtop", "profile = 'labtop': unknown; must be one of mini"),
        ("build --profile labtop", "profile = 'labtop': unknown"),
        (f"run-job {GRPO[:-1]}1 --profile mini", f"not in profile mini; did you mean {GRPO}, "),
        ("run-job grpo --profile mini", "job = 'grpo': not in profile mini; `extrabitter plan` lists them"),
        ("run-chapter one --profile mini", f"chapter = 'one': unknown; must be one of {miniature.CHAPTER}"),
        ("publish --profile mini", "publish: 5 of 5 runs have not ended: "),
    ],
)
def test_wrong_input_is_one_line_and_nothing_runs(
    tree: Path, capsys: pytest.CaptureFixture[str], command: str, line: str
) -> None:
    assert run_cli(*command.split(), "--root", str(tree)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and line in error and error.count("\n") == 1
    assert not (tree / "runs").exists() and not (tree / "_build").exists() and not (tree / "results").exists()


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("ship chess", "Missing argument 'folder'."),
        ("publish", "Missing option '--profile'."),
        ("plan --cores 0", "Invalid value for '--cores'"),
        ("plam", "No such command 'plam'."),
        torch("ship {tmp} {tmp}/out", "must be a finished run of stage base_model"),
        torch("probe {tmp}/nowhere", "nowhere"),
        ("probe {tmp} --prompt loud", "probe: prompt = 'loud': must be 'grammar', 'plain' or 'chat'"),
        ("probe {tmp} --task chess", "task = 'chess': unknown"),
        ("probe {tmp} --problems 0", "probe: num_problems = 0: must be greater than or equal to 2"),
        ("probe {tmp} --few-shot 2", "few_shot = 2: only with prompt 'plain' or 'chat'"),
    ],
)
def test_wrong_input_to_what_needs_no_profile_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, line: str
) -> None:
    (tmp_path / "file").write_text("a file where a folder should be")
    assert run_cli(*command.format(tmp=tmp_path).split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and line in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_unwritable_output_is_one_line(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = {
        "runs": (f"run-job {BASE}", f"run_dir = 'runs/mini/{BASE}': cannot be written (Not a directory)"),
        "_build": ("build", f"root = '{tree}': its _build cannot be written (File exists)"),
    }
    for name, (command, line) in told.items():
        (tree / name).write_text("a file where a folder should be")
        assert run_cli(*command.split(), "--profile", "mini", "--root", str(tree)) == 2
        error = capsys.readouterr().err
        assert line in error and error.count("\n") == 1


def test_the_whole_traceback_of_an_unforeseen_error_lies_in_a_log_that_the_line_names(
    tree: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cli, "REPOSITORY", tmp_path / "here")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", str(tree))

    monkeypatch.setattr(schedule, "build", full)
    assert run_cli("build", "--profile", "mini", "--root", str(tree)) == 1
    error = capsys.readouterr().err
    log = tmp_path / "here" / "_build" / "error.log"
    assert error.startswith("error: OSError: [Errno 28] No space left on device: ") and error.count("\n") == 1
    assert error.endswith(f"the whole traceback is in {log}\n")
    assert "Traceback (most recent call last)" in log.read_text() and "in full" in log.read_text()


def test_a_band_or_a_condition_that_the_task_lacks_is_found_before_anything_runs(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value, stage in (("habit", "dancing", "base_model"), ("band", "easy", "grpo")):
        stages = json.loads(json.dumps(miniature.STAGE_RUNS))
        stages[stage]["arms"]["guesser"] = {**(stages[stage]["arms"]["guesser"] or {}), name: value}
        set_profile(tree, tasks={"countdown": {"stages": stages}})
        assert run_cli("build", "--profile", "mini", "--root", str(tree)) == 2
        error = capsys.readouterr().err
        assert f"profile mini: countdown.{stage}.guesser: {name} = '{value}': " in error
        assert error.count("\n") == 1
