"""One job: papermill runs one notebook, in a kernel of this very interpreter, and its status is written last."""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import papermill
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from papermill.exceptions import PapermillExecutionError

from extrabitter import runs
from extrabitter.digests import file_sha256, files_sha256
from extrabitter.params import ParameterError
from extrabitter.plan import CHAPTER_NOTEBOOKS, Book, Job, Plan
from extrabitter.runs import Status

# Errors of ours are one line already; the name of any other is needed to understand its message.
_SELF_EXPLAINING = {"ParameterError", "TableError", "ArtifactError", "CheckpointError", "CompetenceError"}
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# Settings of the person whose machine this is, which could change a result: a notebook finds none of them.
_FORGOTTEN = ("JUPYTER_PATH", "JUPYTER_CONFIG_DIR", "PYTHONSTARTUP", "MATPLOTLIBRC", "MPLBACKEND")


class NotebookError(RuntimeError):
    """A notebook stopped with an error; the message is one line."""


class OwnKernel(AsyncKernelManager):
    """Starts notebooks in the interpreter that runs this program, whatever kernels are installed beside it."""

    @property
    def kernel_spec(self) -> KernelSpec:
        """The only kernel there is."""
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        command += ["--HistoryManager.enabled=False"]
        return KernelSpec(argv=command, display_name="Python 3", language="python")


def _find_job(plan: Plan, key: str) -> Job:
    """Return the job of that name; ParameterError names the nearest where there is none."""
    if key in plan.jobs:
        return plan.jobs[key]
    near = difflib.get_close_matches(key, plan.jobs, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else "`extrabitter plan` lists them"
    raise ParameterError(f"job = {key!r}: not in profile {plan.profile.name}; {hint}")


def run_job(plan: Plan, key: str) -> Status:
    """Run one job of a plan: check its parameters and inputs, run its notebook, write its status.

    Whatever an earlier attempt left is removed first, so that a failure leaves nothing that looks finished.
    Returns the status; an error of this program itself is raised instead, and no status is written.
    """
    job = _find_job(plan, key)
    run_dir = plan.root / job.run_dir
    started = time.monotonic()
    try:
        with _exclusive(run_dir):
            _clear(run_dir)
            made_from = plan.made_from(job)
            inputs: dict[str, str] = {}
            try:
                _check_inputs(plan, job)
                inputs = plan.weights(job)
                _show_gpus(job.resources.gpus)
                executed = run_dir.with_name(f"{run_dir.name}.ipynb")
                log = executed.with_suffix(".log")
                _papermill(plan.root, job.notebook, executed, log, job.parameters.model_dump(), key)
                if runs.read_manifest(run_dir) is None:
                    raise NotebookError(f"{job.notebook} ended without a complete run in {job.run_dir}")
                left = (run_dir / runs.MANIFEST, executed)
                files = {path.relative_to(run_dir.parent).as_posix(): file_sha256(path) for path in left}
                status = Status("ok", "", _since(started), job.experiment, made_from, inputs, files)
            except (NotebookError, ParameterError, runs.ArtifactError) as error:
                _clear(run_dir)
                status = Status("failed", str(error), _since(started), job.experiment, made_from, inputs)
            runs.write_status(run_dir, status)
    except OSError as error:
        raise runs.unwritable(str(job.run_dir), error) from None
    why = f" ({status.reason})" * bool(status.reason)
    print(f"finished {key}: {status.state} in {status.wall_s:.1f} s{why}")
    return status


def run_chapter(book: Book, chapter: str) -> None:
    """Run one chapter notebook of a book; NotebookError when it fails, and then there is no page of it.

    It works in a folder of its own. When it is whole, its page, figures and tables take their names, and its status
    is written last, so that a killed run leaves nothing that looks finished.
    """
    root, folder = book.root, book.root / book.output_dir
    notebook = CHAPTER_NOTEBOOKS / f"{chapter}.ipynb"
    if not (root / notebook).is_file():
        raise ParameterError(f"chapter = {chapter!r}: unknown; must be one of {', '.join(book.chapters)}")
    started = time.monotonic()
    partial = book.output_dir / f".{chapter}.partial"
    parameters = {"results_dir": str(book.results_dir), "runs_dir": book.runs_dir, "output_dir": str(partial)}
    parameters["profile"] = book.name if book.runs_dir else ""
    page = folder / f"{chapter}.ipynb"
    for left_over in (runs.status_path(folder / chapter), page):
        left_over.unlink(missing_ok=True)
    shutil.rmtree(root / partial, ignore_errors=True)
    (root / partial).mkdir(parents=True)
    made_from = book.chapter_made_from(chapter)
    executed = root / partial / page.name
    try:
        _papermill(root, notebook, executed, folder / f"{chapter}.log", parameters, f"chapter {chapter}")
    except NotebookError as error:
        shutil.rmtree(root / partial)
        raise NotebookError(f"chapter {chapter}: {error}") from None
    files = files_sha256(root / partial)
    shutil.copytree(root / partial, folder, dirs_exist_ok=True, copy_function=os.replace)
    shutil.rmtree(root / partial)
    runs.write_status(folder / chapter, Status("ok", "", _since(started), made_from=made_from, files=files))
    print(f"finished chapter {chapter}: ok in {_since(started):.1f} s")


def _since(started: float) -> float:
    return round(time.monotonic() - started, 1)


def _show_gpus(count: int) -> None:
    """Let a job see as many GPUs as it asked for: with more, a trainer of one process would spread over them.

    A cluster, or whoever set CUDA_VISIBLE_DEVICES, has chosen already.
    """
    if count:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(count))))


def _check_inputs(plan: Plan, job: Job) -> None:
    for key in job.inputs:
        status = runs.read_status(plan.root / plan.jobs[key].run_dir)
        if status is None:
            raise ParameterError(f"input not made yet: {key}")
        if status.state == "failed":
            raise NotebookError(f"input failed: {key}")
    for name in ("init_from", "checkpoint"):
        if given := getattr(job.parameters, name, ""):
            with contextlib.chdir(plan.root):
                if not runs.is_hub_id(job.parameters, given):
                    runs.find_checkpoint(name, given)


def _papermill(
    root: Path, notebook: Path, executed: Path, log_path: Path, parameters: dict[str, Any], label: str
) -> None:
    """Run root/notebook with the root as working folder; leave the executed notebook and a log of its output.

    The log ends with the whole traceback of an error, of which the NotebookError is one line.
    """
    threads = str(parameters.get("threads", 1))
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "PYTHONHASHSEED": "0"}
    for name, folder in (("MPLCONFIGDIR", "matplotlib"), ("IPYTHONDIR", "ipython")):
        os.environ[name] = str(root / "_build" / folder)
        (root / "_build" / folder).mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    for name in _FORGOTTEN:
        os.environ.pop(name, None)
    with contextlib.chdir(root), open(log_path, "w", encoding="utf-8") as log:
        try:
            streams = {"stdout_file": _Tee(log, label), "stderr_file": log, "progress_bar": False}
            kernel = {"kernel_name": "python3", "kernel_manager_class": OwnKernel}
            papermill.execute_notebook(str(notebook), str(executed), parameters, **kernel, **streams)
        except PapermillExecutionError as error:
            log.write("\n" + _COLOURS.sub("", "\n".join(error.traceback)) + "\n")
            raise NotebookError(_one_line(error)) from None
        except (RuntimeError, OSError) as error:  # the kernel died, or did not start
            log.write(f"\n{type(error).__name__}: {error}\n")
            raise NotebookError(f"{notebook}: {type(error).__name__}: {error}".splitlines()[0]) from None


def _one_line(error: PapermillExecutionError) -> str:
    message = _COLOURS.sub("", str(error.evalue)).strip() or "no message"
    first_line = message.splitlines()[0]
    name = error.ename.rpartition(".")[2]
    return first_line if name in _SELF_EXPLAINING else f"{name}: {first_line}"


class _Tee:
    """Writes what a notebook prints to its log, and line by line, under the job's name, to the terminal."""

    def __init__(self, log: TextIO, label: str) -> None:
        self._log, self._label, self._line = log, label, ""

    def write(self, text: str) -> None:
        self._log.write(text)
        *lines, self._line = (self._line + text).split("\n")
        with contextlib.suppress(BrokenPipeError):  # whoever listened has gone; the run goes on
            for line in filter(str.strip, lines):
                print(f"  {self._label}: {line}", flush=True)

    def flush(self) -> None:
        self._log.flush()


@contextlib.contextmanager
def _exclusive(run_dir: Path) -> Iterator[None]:
    """Hold the run's lock: a job orphaned by a kill may still be at work on the same folder."""
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    with open(run_dir.with_name(f".{run_dir.name}.lock"), "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _clear(run_dir: Path) -> None:
    """Remove a run's folder, its status and what killed attempts left; log and notebook stay to be read."""
    runs.status_path(run_dir).unlink(missing_ok=True)
    if run_dir.exists():
        shutil.rmtree(run_dir)
    runs.remove_partial(run_dir)
