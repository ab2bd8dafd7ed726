"""`make book`: Snakemake does the work; this tells what will run, how it goes on, and where to look.

What has to be made is decided here, by content, before Snakemake starts: the status of all that is out of date is
removed, and Snakemake makes what has none. The times of files are set to one and the same, so that neither a clock set
back nor files from the future mean anything.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from extrabitter import runs
from extrabitter.params import STAGES, ParameterError
from extrabitter.plan import Book, Plan

_CHAPTER_S = 6.0
_RENDER_S = 40.0
_EPOCH = 946_684_800  # 2000-01-01: older than anything that is made from now on
_LOCK = "EXTRABITTER_LOCK"  # names the tree whose lock is held, to the Snakemake that works under it
_SAID = re.compile(r"^(  \w+/\w+/\w+/seed=\d+: |  chapter \w+: |finished chapter |error: )|WARNING: ")
_FINISHED = re.compile(r"^finished (\S+/\S+): ")


class ScheduleError(RuntimeError):
    """Snakemake cannot be started; the message is one line."""


def build(book: Book, cores: int) -> int:
    """Make all runs that are missing or stale, the chapters and the book; print progress.

    Returns: the exit code, 0 only when nothing failed. The last line printed is the path to open.
    """
    _check_gpus(book.plan)
    with only_one(book.root) as lock:
        todo = prepare(book)
        _announce(book, todo, cores)
        code = _run(book, [name for name in todo if name in book.plan.jobs], cores, lock) if todo else 0
    failed = failures(book.plan)
    for key, reason in failed:
        log = book.plan.jobs[key].run_dir.with_suffix(".log")
        print(f"failed: {key}: {reason}" + f"; see {log}" * (book.root / log).is_file())
    print(book.index.resolve().as_uri() if code == 0 else f"no book; see {_log(book)}")
    return 1 if failed or code else 0


def pending(book: Book) -> dict[str, str]:
    """Say what has to be made and why: keys of jobs, "chapter <name>", "book"."""
    states = book.plan.states()
    return {name: why for name, why in (states | book.states(states)).items() if why}


def prepare(book: Book) -> list[str]:
    """Remove the status of all that has to be made, so that Snakemake makes it; return its names.

    Says in one line for each run that was damaged what was found. Call it under the lock of `only_one`.
    """
    todo = pending(book)
    for key, job in book.plan.jobs.items():
        run_dir = book.root / job.run_dir
        if todo.get(key, "").startswith("damaged: "):
            print(f"{key}: {todo[key].removeprefix('damaged: ')}; it is made again", flush=True)
        status = runs.read_status(run_dir)
        if key in todo:
            runs.status_path(run_dir).unlink(missing_ok=True)
        elif status is not None and status.experiment != job.experiment:
            runs.write_status(run_dir, replace(status, experiment=job.experiment))
    pages = {f"chapter {name}": book.root / book.output_dir / name for name in book.chapters}
    pages["book"] = book.index.parent
    for name in pages.keys() & todo:
        runs.status_path(pages[name]).unlink(missing_ok=True)
    _set_aside_unplanned(book.plan)
    for folder in (book.root / book.plan.runs_dir, book.root / book.output_dir, book.index.parent.parent):
        for path in folder.rglob("*.status.json"):
            os.utime(path, (_EPOCH, _EPOCH))
    return list(todo)


def take_over(book: Book) -> None:
    """Do for a plain `snakemake` what `build` does before it starts one; the lock holds as long as the process."""
    if os.environ.get(_LOCK) != str(book.root):
        _HELD.append(only_one(book.root))
        prepare(book)


_HELD: list[TextIO] = []


def clock(seconds: float) -> str:
    """Show a duration as minutes and seconds, behind hours if it has any.

    >>> clock(75.4), clock(7275)
    ('1:15', '2:01:15')
    """
    hours, minutes = divmod(int(seconds) // 60, 60)
    return (f"{hours}:{minutes:02d}" if hours else str(minutes)) + f":{int(seconds) % 60:02d}"


def failures(plan: Plan) -> list[tuple[str, str]]:
    """List the jobs that failed, with their reasons."""
    statuses = {key: runs.read_status(plan.root / job.run_dir) for key, job in plan.jobs.items()}
    return [(key, status.reason) for key, status in statuses.items() if status and status.state == "failed"]


def only_one(root: Path) -> TextIO:
    """Hold the build lock of this tree while the returned file is open; the system drops it when its holders die."""
    try:
        (root / "_build").mkdir(parents=True, exist_ok=True)
        handle = open(root / "_build" / ".lock", "w")  # noqa: SIM115 (the caller's to close)
    except OSError as error:
        raise ParameterError(f"root = '{root}': its _build cannot be written ({error.strerror})") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        raise ScheduleError(f"another build is at work in {root}; wait for it, or stop it") from None
    return handle


def _command(book: Book, cores: int) -> list[str]:
    name = book.name if book.plan.jobs else ""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(book.root / "Snakefile")]
    if book.plan.jobs:
        # Runs with a GPU go one after another: nothing here would tell two of them to take different ones.
        command += ["--resources", f"gpu={max(job.resources.gpus for job in book.plan.jobs.values())}"]
        command += ["--prioritize", str(runs.status_path(book.plan.runs_dir / book.plan.last_of_longest()))]
    return [*command, "--cores", str(cores), "--config", f"root={book.root}", f"profile={name}"]


def _announce(book: Book, todo: list[str], cores: int) -> None:
    jobs = {key: job for key, job in book.plan.jobs.items() if key in todo}
    chapters = sum(name.startswith("chapter ") for name in todo)
    print(f"{book.name}: {book.plan.profile.description}")
    for task, stage in itertools.product(book.plan.profile.tasks, STAGES):
        if own := [job for job in jobs.values() if (job.task, job.stage) == (task, stage)]:
            arms = ", ".join(dict.fromkeys(job.arm for job in own))
            cost = clock(sum(job.estimate_s for job in own))
            print(f"  {task}: {stage}: {len(own)} runs, about {cost} ({arms})")
    if not todo:
        print("  all is up to date: nothing to do", flush=True)
        return
    seconds = book.plan.estimate(jobs, cores) + chapters * _CHAPTER_S / cores + _RENDER_S
    ready = f"{len(book.plan.jobs) - len(jobs)} of {len(book.plan.jobs)} runs are up to date"
    rest = f"{chapters} chapters and the book follow; about {clock(seconds)} in all on {cores} cores"
    print(f"  {ready}; {rest}", flush=True)


def _run(book: Book, todo: list[str], cores: int, lock: TextIO) -> int:
    """Run Snakemake; pass on what jobs say, add the time left to each finished one; the rest is logged."""
    plan, started = book.plan, time.monotonic()
    left = list(todo)
    command = [*_command(book, cores), "--quiet", "rules", "progress"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1", _LOCK: str(book.root)}
    _log(book).parent.mkdir(parents=True, exist_ok=True)
    # Snakemake inherits the lock: it holds for as long as it lives, even if this process is killed.
    options: dict[str, Any] = {"cwd": plan.root, "env": environment, "pass_fds": (lock.fileno(),)}
    options |= {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with (
        open(_log(book), "w", encoding="utf-8") as log,
        subprocess.Popen(command, encoding="utf-8", errors="replace", **options) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            log.flush()
            finished = _FINISHED.match(line)
            if finished and finished[1] in left:
                left.remove(finished[1])
                remaining = plan.estimate(left, cores) + _RENDER_S
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
    return book.root / "_build" / f"{book.name}.log"


def _check_gpus(plan: Plan) -> None:
    """Refuse a profile whose runs need more GPUs than this machine shows."""
    needed = max((job.resources.gpus for job in plan.jobs.values()), default=0)
    if needed and (found := _count_gpus()) < needed:
        hint = "see README.md for a cluster, or `make plan` for what would run"
        name = plan.profile.name
        raise ScheduleError(f"profile {name}: a run needs {needed} GPU(s), {found} found here; {hint}")


def _count_gpus() -> int:
    """Ask PyTorch, in a process of its own: importing it costs seconds, and would touch what it counts."""
    command = [sys.executable, "-c", "import torch; print(torch.cuda.device_count())"]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _set_aside_unplanned(plan: Plan) -> None:
    """Move runs that the profile no longer asks for out of the readers' sight, to removed/."""
    root = plan.root / plan.runs_dir
    planned = {plan.root / job.run_dir for job in plan.jobs.values()}
    for stage in STAGES:
        for path in root.glob(f"*/{stage}/*/seed=*"):
            if path.with_name(path.name.split(".")[0]) not in planned:
                target = root / "removed" / path.relative_to(root)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.rmtree(target, ignore_errors=True)
                path.replace(target)
