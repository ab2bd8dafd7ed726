"""Builds of a miniature: one in odd surroundings, one killed again and again; both must come to the same bytes."""

from __future__ import annotations

import copy
import dataclasses
import fcntl
import json
import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import kills
import miniature
from extrabitter import plan as pipeline
from extrabitter import runs, schedule
from extrabitter.digests import file_sha256
from miniature import BASE, BROKEN, CHAPTER, GRPO, JOBS, READERS, edited, to_run

pytestmark = pytest.mark.slow

BUILD = ("build", "--profile", "mini", "--cores", "2")
PROGRAMS = ("bash", "sh", "env", "git", "uname", "test", "ls", "rm", "mkdir", "cat")


def odd_surroundings(folder: Path) -> dict[str, str]:
    """Variables of an account without a home and without `which`, whose settings would spoil whatever heeds them."""
    programs, kernel = folder / "bin", folder / "jupyter" / "kernels" / "python3"
    for path in (programs, kernel):
        path.mkdir(parents=True)
    for name in PROGRAMS:
        if found := shutil.which(name):
            (programs / name).symlink_to(found)
    spec = {"argv": ["false", "{connection_file}"], "display_name": "Another", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    poison = folder / "poison.py"
    poison.write_text("raise SystemExit('a start-up file was run')\n")
    (folder / "matplotlibrc").write_text("text.usetex: True\n")
    variables = {"HOME": "/proc/none", "PATH": str(programs), "JUPYTER_PATH": str(folder / "jupyter")}
    variables |= {"PYTHONSTARTUP": str(poison), "MATPLOTLIBRC": str(folder), "TZ": "Pacific/Kiritimati"}
    return variables | {"LC_ALL": "C", "XDG_CACHE_HOME": "", "IPYTHONDIR": "/proc/none"}


class Calm:
    """An undisturbed build, in odd surroundings."""

    def __init__(self, folder: Path) -> None:
        self.root = miniature.make_miniature(folder / "tree")
        self.output = miniature.run(self.root, *BUILD, code=1, **odd_surroundings(folder / "odd"))
        self.results = miniature.results(self.root)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Calm:
    return Calm(tmp_path_factory.mktemp("calm"))


def test_surroundings_change_nothing_and_a_failed_arm_stops_nothing_but_its_readers(calm: Calm) -> None:
    found = {run.key: run.status for run in runs.find_runs(calm.root / "runs" / "mini")}
    assert found.keys() == set(JOBS), calm.output
    failed = {key for key, status in found.items() if status.state == "failed"}
    assert failed == {BROKEN, READERS[1]}, calm.output
    assert found[BROKEN].reason == "ValueError: it broke | on purpose"
    assert found[READERS[1]].reason == f"input failed: {BROKEN}"
    assert not (calm.root / "runs" / "mini" / BROKEN).exists()
    log = (calm.root / "runs" / "mini" / f"{BROKEN}.log").read_text()
    assert "step 1 of broken" in log and "Traceback (most recent call last)" in log


def test_progress_names_jobs_what_they_say_the_time_left_and_where_an_error_is_told_whole(calm: Calm) -> None:
    lines = calm.output.splitlines()
    assert f"  {GRPO}: step 1 of guesser" in lines
    clock = r"(\d+:)*\d+:\d\d"
    ended = rf"finished countdown/grpo/\S+: ok in [\d.]+ s; \d of 5 runs, elapsed {clock}, about {clock} left"
    for pattern in (rf"  countdown: grpo: 2 runs, about {clock} \(guesser, broken\)", ended):
        assert any(re.match(pattern, line) for line in lines), calm.output
    line = f"failed: {BROKEN}: ValueError: it broke | on purpose; see runs/mini/{BROKEN}.log"
    assert line in lines
    index = calm.root / "_build" / "html" / "mini" / "index.html"
    assert lines[-1] == index.as_uri() and index.read_text() == "runs: 3 runs/mini results/edition\n"


def test_kills_lose_nothing_and_snakemake_ends_with_the_same_bytes(calm: Calm, tmp_path: Path) -> None:
    root = miniature.make_miniature(tmp_path / "killed, à la Bohème")
    assert kills.disturb(root, "mini", 3, random.Random(1), 9.0) == []
    done = kills.snakemake(root, "mini")
    assert done.returncode == 0, done.stderr
    assert miniature.results(root) == calm.results
    assert kills.leftovers(root) == []


def test_what_is_up_to_date_stays_so_whatever_the_clock_says(calm: Calm) -> None:
    before = kills.finished(calm.root, "mini")
    for path in calm.root.rglob("*"):
        os.utime(path, (1_900_000_000, 1_900_000_000))  # 2030
    assert to_run(calm.root).keys() == {BROKEN, READERS[1]}
    shutil.rmtree(calm.root / "runs" / "mini" / READERS[0])
    runs.status_path(calm.root / "runs" / "mini" / READERS[0]).unlink()
    miniature.run(calm.root, *BUILD, code=1)
    after = kills.finished(calm.root, "mini")
    assert [key for key in before if after[key] != before[key]] == [READERS[0]]
    assert miniature.results(calm.root) == calm.results


# Of runs/mini: what is done to it, what is said of it, and what is made again.
_GRPO = {GRPO, READERS[0]}
DAMAGES: dict[str, tuple[Callable[[Path], object], str, set[str]]] = {
    "truncated weights": (
        lambda path: os.truncate(path / BASE / "checkpoint" / "model.safetensors", 2),
        "damaged: checkpoint/model.safetensors is altered",
        {BASE} | _GRPO,
    ),
    "empty table": (
        lambda path: os.truncate(path / READERS[0] / "summary.parquet", 0),
        "damaged: summary.parquet is empty",
        {READERS[0]},
    ),
    "altered manifest": (
        lambda path: (path / GRPO / "manifest.json").open("a").write(" "),
        "damaged: seed=0/manifest.json is altered",
        _GRPO,
    ),
    "notebook": (lambda path: (path / f"{GRPO}.ipynb").unlink(), "damaged: seed=0.ipynb is missing", _GRPO),
    "folder gone": (lambda path: shutil.rmtree(path / GRPO), "damaged: seed=0/manifest.json", _GRPO),
    "cut status": (lambda path: os.truncate(path / f"{GRPO}.status.json", 9), "not finished", _GRPO),
    "stage gone": (lambda path: shutil.rmtree(path / Path(GRPO).parents[1]), "not made", _GRPO),
    "another run's weights": (
        lambda path: _exchange_weights(path / BASE),
        f"read other weights of {BASE}",
        _GRPO,
    ),
}


def _exchange_weights(run_dir: Path) -> None:
    """Put another whole run of the same parameters in the place of one, as another machine would have made it."""
    (run_dir / "checkpoint" / "model.safetensors").write_bytes(b"other weights")
    runs.write_checksums(run_dir / "checkpoint")
    manifest = json.loads((run_dir / "manifest.json").read_text())
    manifest["files"] = {name: file_sha256(run_dir / name) for name in manifest["files"]}
    runs.write_json(run_dir / "manifest.json", manifest)
    status = runs.read_status(run_dir)
    assert status is not None
    files = {name: file_sha256(run_dir.parent / name) for name in status.files}
    runs.write_status(run_dir, dataclasses.replace(status, files=files))


@pytest.mark.parametrize(("damage", "reason", "expected"), DAMAGES.values(), ids=DAMAGES)
def test_plan_names_damage_and_what_hangs_on_it(
    calm: Calm, tmp_path: Path, damage: Callable[[Path], object], reason: str, expected: set[str]
) -> None:
    kept = tmp_path / "kept"
    shutil.copytree(calm.root / "runs", kept)
    damage(calm.root / "runs" / "mini")
    try:
        found = to_run(calm.root)
    finally:
        shutil.rmtree(calm.root / "runs")
        kept.rename(calm.root / "runs")
    assert found.keys() - {BROKEN, READERS[1]} == expected
    assert any(why.startswith(reason) for why in found.values()), found


def test_the_same_command_mends_damage_and_says_so_in_one_line(calm: Calm) -> None:
    os.truncate(calm.root / "runs" / "mini" / GRPO / "checkpoint" / "model.safetensors", 2)
    shutil.rmtree(calm.root / "_build" / "chapters" / "mini" / "figures")
    output = miniature.run(calm.root, *BUILD, code=1)
    line = f"{GRPO}: checkpoint/model.safetensors is altered; it is made again"
    assert line in output.splitlines() and output.count("is altered") == 1
    assert miniature.results(calm.root) == calm.results
    assert (calm.root / "_build" / "chapters" / "mini" / "figures" / "one.txt").read_text() == "a figure"


def test_what_is_up_to_date_stays_so_after_touch_and_other_words(calm: Calm, tmp_path: Path) -> None:
    root = tmp_path / "tree"
    shutil.copytree(calm.root, root)
    stages = copy.deepcopy(miniature.STAGE_RUNS)
    for stage, arm in (("grpo", "broken"), ("behaviour_evaluation", "after_broken")):
        del stages[stage]["arms"][arm]
    profile = {**miniature.PROFILE, "tasks": {"countdown": {"stages": stages}}}
    miniature.write_yaml(root / "profiles" / "mini.yaml", profile)
    miniature.run(root, *BUILD)
    aside = root / "runs" / "mini" / "removed" / f"{BROKEN}.status.json"
    assert aside.is_file(), "out of readers' sight"
    for path in root.rglob("*"):
        path.touch()
    edited(root / "src/extrabitter/runs.py", '"""Run folders: ', '"""Folders of runs: ')
    output = miniature.run(root, *BUILD)
    assert "nothing to do" in output and "finished" not in output
    shutil.rmtree(root / "_build" / "html")
    assert "finished" not in miniature.run(root, *BUILD) and (root / "_build/html/mini/index.html").is_file()
    undo = edited(root / "src/extrabitter/experiments/figure.py", "runs:", "finished runs:")
    output = miniature.run(root, *BUILD)
    assert f"finished chapter {CHAPTER}" in output and "finished countdown" not in output
    undo()
    edited(root / "profiles/mini.yaml", "learning_rate: 0.001", "learning_rate: 0.002")
    assert to_run(root) == {GRPO: "other parameters", READERS[0]: f"reads {GRPO}, which is made again"}


@pytest.mark.parametrize("command", ["make", "snakemake"])
def test_second_build_beside_a_running_one_is_refused_in_one_line(tmp_path: Path, command: str) -> None:
    root = miniature.make_miniature(tmp_path)
    (root / "_build").mkdir()
    with open(root / "_build" / ".lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if command == "snakemake":
            done = kills.snakemake(root, "mini")
            code, output = done.returncode, done.stderr
        else:
            code, output = 1, miniature.run(root, *BUILD, code=1)
    lines = output.splitlines()
    assert code == 1 and any(f"another build is at work in {root}" in line for line in lines), output
    assert not (root / "runs").exists() and "Traceback" not in output


def test_a_job_sees_as_many_gpus_as_it_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from extrabitter import jobs

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    jobs._show_gpus(0)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    jobs._show_gpus(2)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    jobs._show_gpus(1)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3", "a cluster has chosen"


def test_without_a_gpu_the_build_says_so_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "_count_gpus", lambda: 0)
    root = miniature.make_miniature(tmp_path)
    edited(root / "profiles/mini.yaml", "      grpo:\n", "      grpo:\n        resources: {gpus: 1}\n")
    with pytest.raises(schedule.ScheduleError, match=r"a run needs 1 GPU\(s\), 0 found here"):
        schedule.build(pipeline.make_book("mini", root), 2)
