"""`make book`: Snakemake does the work; this tells what will run, how it goes on, and where to look."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from extrabitter import runs as artifacts
from extrabitter.params import STAGES
from extrabitter.plan import Book, Plan
from extrabitter.pages.build import index_page

_CHAPTER_S = 6.0
_RENDER_S = 40.0
_MESSAGE = re.compile(r"^Job \d+: (.+?)\s*$")
_SAID = re.compile(r"^(  \w+/\w+/seed=\d+: |  chapter \w+: |finished chapter |error: )|WARNING: ")
_FINISHED = re.compile(r"^finished (\S+/\S+): ")


class ScheduleError(RuntimeError):
    """Snakemake cannot be started; the message is one line."""


def build(book: Book, cores: int) -> int:
    """Make all runs that are missing or stale, the chapters and the book; print progress.

    Returns: the exit code, 0 only when nothing failed. The last line printed is the path to open.
    """
    root = book.plan.root
    with _only_one(root) as lock:
        if not book.published:
            _forget_failures(book.plan)
            _set_aside_unplanned(book.plan)
            _check_gpus(book.plan)
        _unlock(book, cores)
        todo = pending(book, cores)
        _announce(book, todo, cores)
        code = _run(book, [name for name in todo if name in book.plan.jobs], cores, lock)
    failed = [] if book.published else failures(book.plan)
    for key, reason in failed:
        print(f"failed: {key}: {reason}")
    print(index_page(book).resolve().as_uri() if code == 0 else f"no book; see {_log(book)}")
    return 1 if failed or code else 0


def pending(book: Book, cores: int) -> list[str]:
    """Ask Snakemake what would run: keys of jobs, "chapter <name>", "book"."""
    done = subprocess.run(
        [*_command(book, cores), "--dry-run"], cwd=book.plan.root, capture_output=True, text=True
    )
    if done.returncode:
        raise ScheduleError((done.stderr or done.stdout).strip().splitlines()[-1])
    found = [_MESSAGE.match(line) for line in (done.stdout + done.stderr).splitlines()]
    return list(dict.fromkeys(match[1] for match in found if match))


def clock(seconds: float) -> str:
    """Show a duration as minutes and seconds.

    >>> clock(75.4)
    '1:15'
    """
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _command(book: Book, cores: int) -> list[str]:
    config = [f"root={book.plan.root}", f"profile={book.profile.name}"]
    if book.published:
        config.append(f"published={book.results_dir}")
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(book.plan.root / "Snakefile")]
    if not book.published:
        # What the longest chain waits for goes first; started last, it would run on alone with one core idle.
        last = artifacts.status_path(book.results_dir / book.plan.last_of_longest_chain())
        command += ["--prioritize", str(last)]
        # Runs with a GPU go one after another: nothing here would tell two of them to take different ones.
        command += ["--resources", f"gpu={max(job.resources.gpus for job in book.plan.jobs.values())}"]
    return [*command, "--cores", str(cores), "--keep-going", "--rerun-incomplete", "--config", *config]


def _announce(book: Book, todo: list[str], cores: int) -> None:
    jobs = [key for key in book.plan.jobs if key in todo]
    chapters = sum(name.startswith("chapter ") for name in todo)
    seconds = book.plan.estimate(jobs, cores) + chapters * _CHAPTER_S / cores + _RENDER_S
    print(f"{book.profile.name}: {book.profile.description}")
    for stage in STAGES:
        own = [book.plan.jobs[name] for name in jobs if book.plan.jobs[name].stage == stage]
        if own:
            arms = ", ".join(dict.fromkeys(job.arm for job in own))
            print(f"  {stage}: {len(own)} runs, about {clock(sum(job.estimate_s for job in own))} ({arms})")
    print(f"  {len(book.plan.jobs) - len(jobs)} of {len(book.plan.jobs)} runs are up to date", end="; ")
    print(
        f"{chapters} chapters and the book follow; about {clock(seconds)} in all on {cores} cores", flush=True
    )


def _run(book: Book, todo: list[str], cores: int, lock: int) -> int:
    """Run Snakemake; pass on what jobs say, add the time left to each finished one; the rest is logged."""
    plan, started = book.plan, time.monotonic()
    left, spent, expected = list(todo), 0.0, 0.0
    command = [*_command(book, cores), "--quiet", "rules", "progress"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    _log(book).parent.mkdir(parents=True, exist_ok=True)
    with (
        open(_log(book), "w", encoding="utf-8") as log,
        subprocess.Popen(
            command,
            cwd=plan.root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Snakemake inherits the lock: it holds for as long as it lives, even if this process is killed.
            pass_fds=(lock,),
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            log.flush()
            finished = _FINISHED.match(line)
            if finished and finished[1] in left:
                key = finished[1]
                left.remove(key)
                status = artifacts.read_status(plan.root / plan.jobs[key].run_dir)
                spent += status.wall_s if status else 0.0
                expected += plan.jobs[key].estimate_s
                pace = min(5.0, max(0.2, spent / expected))
                remaining = pace * plan.estimate(left, cores) + _RENDER_S
                line = (
                    f"{line.rstrip()}; {len(todo) - len(left)} of {len(todo)} runs, elapsed "
                    f"{clock(time.monotonic() - started)}, about {clock(remaining)} left\n"
                )
            if finished or _SAID.search(line):
                print(line, end="", flush=True)
    if process.returncode:
        print(f"snakemake ended with code {process.returncode}; its log is {_log(book)}")
    return process.returncode


def _log(book: Book) -> Path:
    return book.plan.root / "_build" / f"{book.profile.name}.log"


def failures(plan: Plan) -> list[tuple[str, str]]:
    statuses = {key: artifacts.read_status(plan.root / job.run_dir) for key, job in plan.jobs.items()}
    return [(key, status.reason) for key, status in statuses.items() if status and status.state == "failed"]


def _check_gpus(plan: Plan) -> None:
    """Refuse a profile whose runs need more GPUs than this machine shows."""
    needed = max(job.resources.gpus for job in plan.jobs.values())
    if needed and (found := _count_gpus()) < needed:
        raise ScheduleError(
            f"profile {plan.profile.name}: a run needs {needed} GPU(s), {found} found here; "
            "see README.md for a cluster, or `make plan` for what would run"
        )


def _count_gpus() -> int:
    """Ask PyTorch, in a process of its own: importing it costs seconds, and would touch what it counts."""
    command = [sys.executable, "-c", "import torch; print(torch.cuda.device_count())"]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _forget_failures(plan: Plan) -> None:
    """Delete failed statuses, so that those runs, and no others, are tried again."""
    for key, _ in failures(plan):
        artifacts.status_path(plan.root / plan.jobs[key].run_dir).unlink()


def _set_aside_unplanned(plan: Plan) -> None:
    """Move runs that the profile no longer asks for out of the readers' sight, to removed/."""
    results = plan.root / plan.results_dir
    planned = {plan.root / job.run_dir for job in plan.jobs.values()}
    for stage in STAGES:
        for arm in results.glob(f"{stage}/*/"):
            for path in arm.glob("seed=*"):
                if path.with_name(path.name.split(".")[0]) not in planned:
                    target = results / "removed" / path.relative_to(results)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.rmtree(target, ignore_errors=True)
                    path.replace(target)


@contextlib.contextmanager
def _only_one(root: Path) -> Iterator[int]:
    """Hold the build lock of this tree; yields its descriptor. The system drops it when its holders die."""
    folder = root / "_build"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ScheduleError(f"another build is at work in {root}; wait for it, or stop it") from None
        yield handle.fileno()


def _unlock(book: Book, cores: int) -> None:
    """Remove the lock a killed Snakemake left, but never that of one that is alive."""
    if not any((book.plan.root / ".snakemake" / "locks").glob("*")):
        return
    for process in psutil.process_iter(["cmdline", "cwd"]):
        command = " ".join(process.info["cmdline"] or [])
        if "snakemake" in command and process.info["cwd"] == str(book.plan.root):
            raise ScheduleError(f"snakemake is at work here (process {process.pid}); wait for it, or stop it")
    subprocess.run([*_command(book, cores), "--unlock"], cwd=book.plan.root, capture_output=True, check=True)
