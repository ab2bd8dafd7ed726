"""The command line: extrabitter plan | build | run-job | run-chapter | render | publish | compare | ship | probe."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from extrabitter.provenance import REPOSITORY

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Run the experiments of the book and build it. Wrong input ends with one line and exit code 2; "
    "a run that failed with exit code 1.",
)

Root = Annotated[Path, typer.Option(help="Folder with profiles/, notebooks/ and book/.")]
ProfileName = Annotated[str, typer.Option(help="Name of a file in profiles/, without .yaml.")]
Published = Annotated[str, typer.Option(help="A committed results folder to render instead of own runs.")]
Cores = Annotated[int, typer.Option(help="CPU cores to use.", min=1)]

_CORES = len(os.sched_getaffinity(0))


@app.command()
def plan(root: Root = REPOSITORY, profile: ProfileName = "laptop", cores: Cores = _CORES) -> None:
    """Say what would run, what each run costs and how long all of it takes."""
    from extrabitter import pipeline, scheduling

    book = pipeline.make_book(profile, root.resolve())
    todo = [*scheduling.pending(book, cores), *dict(scheduling.failures(book.plan))]
    for key, job in book.plan.jobs.items():
        state = "to run" if key in todo else "up to date"
        reads = f" reads {', '.join(job.inputs)}" if job.inputs else ""
        print(f"{key}: {state}, about {scheduling.clock(job.estimate_s)}{reads}")
    seconds = book.plan.estimate(todo, cores)
    print(f"{len(book.plan.jobs)} runs, about {scheduling.clock(seconds)} to go on {cores} cores")


@app.command()
def build(
    root: Root = REPOSITORY, profile: ProfileName = "laptop", published: Published = "", cores: Cores = _CORES
) -> None:
    """Make what is missing or stale, then the book; failed runs are tried again."""
    from extrabitter import pipeline, scheduling

    book = pipeline.make_book(profile, root.resolve(), published)
    raise typer.Exit(scheduling.build(book, cores))


@app.command()
def run_job(
    job: Annotated[str, typer.Argument(help="stage/arm/seed=<k>, as `plan` lists them.")],
    root: Root = REPOSITORY,
    profile: ProfileName = "laptop",
) -> None:
    """Make one run, whether or not it is up to date."""
    from extrabitter import execution, pipeline

    status = execution.run_job(pipeline.make_plan(profile, root.resolve()), job)
    raise typer.Exit(0 if status.state == "ok" else 1)


@app.command()
def run_chapter(
    chapter: Annotated[str, typer.Argument(help="Name of a notebook in notebooks/chapters, without .ipynb.")],
    root: Root = REPOSITORY,
    profile: ProfileName = "laptop",
    published: Published = "",
) -> None:
    """Run one chapter notebook on the runs that are there."""
    from extrabitter import execution, pipeline

    book = pipeline.make_book(profile, root.resolve(), published)
    execution.run_chapter(book, chapter)


@app.command()
def render(root: Root = REPOSITORY, profile: ProfileName = "laptop", published: Published = "") -> None:
    """Build the book from runs and chapters that are there."""
    from extrabitter import pipeline, staging

    book = pipeline.make_book(profile, root.resolve(), published)
    staging.stage_source(book)
    print(staging.build_html(book).resolve().as_uri())


@app.command()
def publish(
    profile: ProfileName,
    root: Root = REPOSITORY,
    results: Annotated[
        Path, typer.Option(help="Folder to write; results/<profile> is the usual one.")
    ] = Path(),
    partial: Annotated[
        bool, typer.Option(help="Publish the runs that have ended, though not all have.")
    ] = False,
) -> None:
    """Copy the tables, manifests and executed notebooks of a profile's runs, without checkpoints.

    Failed runs are published as failed; missing ones must be made first.
    """
    from extrabitter import pipeline, publishing

    plan_ = pipeline.make_plan(profile, root.resolve())
    target = results if results != Path() else Path("results") / profile
    print(f"{publishing.publish(plan_, root.resolve() / target, partial)} runs in {target}")


@app.command()
def compare(
    root: Root = REPOSITORY,
    profile: ProfileName = "laptop",
    published: Annotated[
        str, typer.Option(help="The committed results to compare with; this edition has none yet.")
    ] = "results/reference",
) -> None:
    """Set the headline numbers of my runs beside the published ones: inside or outside their intervals."""
    from extrabitter import publishing

    print(publishing.compare(root.resolve() / "runs" / profile, root.resolve() / published))


@app.command()
def ship(
    run: Annotated[Path, typer.Argument(help="Folder of a finished base-model run that cleared every bar.")],
    folder: Annotated[Path, typer.Argument(help="Where the model goes, e.g. models/rich.")],
) -> None:
    """Copy a base model's checkpoint, with model card, record of training and hashes."""
    from extrabitter import shipping

    print(f"shipped as {shipping.ship(run.resolve(), folder.resolve())}")


@app.command()
def probe(
    model: Annotated[
        str, typer.Argument(help="Folder of a checkpoint: config.json, safetensors, tokenizer.")
    ],
    num_problems: Annotated[int, typer.Option("--problems", help="Validation problems.")] = 100,
    num_samples: Annotated[
        int, typer.Option("--samples", help="Completions of each; the largest k and G that can be read off.")
    ] = 64,
    num_numbers: Annotated[int, typer.Option("--numbers", help="Given numbers in a problem, 3 or 4.")] = 3,
    cap: Annotated[int, typer.Option(help="Cap of a completion, in tokens.")] = 288,
    gpu: Annotated[str, typer.Option(help="Card whose cost is estimated, e.g. L4, A100 or H100.")] = "A100",
    steps: Annotated[int, typer.Option(help="GRPO steps whose cost is estimated.")] = 100,
    seed: Annotated[int, typer.Option(help="Root of every random number.")] = 0,
    threads: Annotated[
        int, typer.Option(help="CPU threads; reruns agree only at the same number.", min=1)
    ] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    gate: Annotated[
        bool, typer.Option("--gate", help="Exit with code 3 unless the advice is that no priming is needed.")
    ] = False,
) -> None:
    """Say what GRPO would find in a checkpoint, before paying for it.

    Samples validation problems and prints pass@k; the share of groups of 8 to 64 completions that would carry signal;
    how often each behaviour occurs, how likely its first word is where it may stand, and what forcing that word
    changes; whether verdicts are true; which priming to try, by a stated rule; what GRPO would cost on a card.
    It predicts no outcome, and says so: no predictor is calibrated yet.

    Checkpoints are those of this book's own kind (word-level vocabulary, Countdown grammar): a million parameters take
    one to two minutes on one core.

    Exit codes: 0 probed; 1 the probe failed; 2 wrong input (no such checkpoint, unknown card, a value out of
    bounds), in one line on stderr; 3 probed, and with --gate the advice is to prime or to train the base further.
    """
    import json

    from extrabitter import models, probe_report
    from extrabitter import probe as probing
    from extrabitter.config import validate

    given = {
        "checkpoint": model,
        "num_problems": num_problems,
        "num_samples": num_samples,
        "gpu": gpu,
        "seed": seed,
    }
    given |= {"num_numbers": num_numbers, "max_completion_length": cap, "num_steps": steps}
    parameters = validate(probing.ProbeParameters, given, "probe")
    models.set_threads(threads)
    found = probing.probe(parameters, *models.load_checkpoint(model))
    if as_json:
        print(json.dumps({"checkpoint": model, **found.as_json()}, indent=1, allow_nan=False))
    else:
        print(probe_report.describe(found, model))
    if gate and found.advice.verdict != "ready":
        raise typer.Exit(3)


def main() -> None:
    """Run the command line; an error of ours is one line on stderr, without a traceback."""
    from extrabitter.artifacts import ArtifactError
    from extrabitter.config import ParameterError
    from extrabitter.records import TableError

    try:
        app()
    except (ArtifactError, ParameterError, TableError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except (RuntimeError, ValueError) as error:
        # CheckpointError (wrong input), NotebookError, BookError and ScheduleError: raised by modules too slow to
        # import for a --help.
        if type(error).__module__.partition(".")[0] != "extrabitter":
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ValueError) else 1)


if __name__ == "__main__":
    main()
