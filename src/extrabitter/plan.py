"""A profile becomes jobs: which runs there are, what each reads, and whether it has to be made.

A job's key is <task>/<stage>/<arm>/seed=<k>, which is also where its run lies below runs/<profile>. Whether a run is up
to date hangs on content alone: what it was made from, what it left, and the weights that it read.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from extrabitter import digests, runs
from extrabitter.digests import PACKAGE, REPOSITORY, RESULTS, STAGE_NOTEBOOKS, files_sha256, sha256_if_there
from extrabitter.params import STAGES, ParameterError, StageParameters, validate
from extrabitter.profiles import Profile, Resources, Stage, load_profile
from extrabitter.runs import CHECKSUMS, EXPERIMENT, read_status, status_path

CHAPTER_NOTEBOOKS = Path("notebooks/chapters")
_READ = ("results", "profiles", "benchmarks", "book/predictions")
_CHAPTER_RUNS = Path("_build/chapters")
_HTML = Path("_build/html")
_SETTINGS = ("_toc.yml", "_config.yml", "CHANGELOG.md", "CONTRIBUTING.md", "README.md")


@dataclass(frozen=True)
class Job:
    """One run to make; `inputs` are the keys of the jobs whose checkpoints it reads."""

    task: str
    stage: str
    arm: str
    seed: int
    run_dir: Path
    parameters: StageParameters
    inputs: tuple[str, ...]
    estimate_s: float
    resources: Resources
    experiment: str = EXPERIMENT

    @property
    def key(self) -> str:
        """Name of the job: task/stage/arm/seed=<k>."""
        return f"{self.task}/{self.stage}/{self.arm}/seed={self.seed}"

    @property
    def notebook(self) -> Path:
        """The stage notebook, relative to the root."""
        return STAGE_NOTEBOOKS / f"{self.stage}.ipynb"

    @property
    def source(self) -> str:
        """The checkpoint that it starts from or measures; empty if none."""
        return str(getattr(self.parameters, "init_from", "") or getattr(self.parameters, "checkpoint", ""))


@dataclass(frozen=True)
class Plan:
    """A profile with its jobs in an order in which each comes after its inputs."""

    profile: Profile
    root: Path
    runs_dir: Path
    jobs: dict[str, Job]

    def made_from(self, job: Job) -> dict[str, str]:
        """Return hashes of what makes a job's run stale: parameters, code, packages, a checkpoint that no job makes."""
        parameters = job.parameters.model_dump(exclude={"overwrite"})
        given = self.root / job.source / CHECKSUMS
        return {
            "parameters": _sha256(parameters),
            "code": _code_once(self.root / job.notebook, job.task),
            "packages": _sha256(digests.package_versions()),
            "checkpoint": sha256_if_there(given) if job.source and not job.inputs else "",
        }

    def weights(self, job: Job) -> dict[str, str]:
        """Return the hashes of the weights that a job reads, as they are now, by the key of the job that made them."""
        return {key: runs.weights_sha256(self.root / job.source) for key in job.inputs}

    def states(self) -> dict[str, str]:
        """Say of each job why it has to be made, in one line; empty if its run is up to date and whole."""
        found: dict[str, str] = {}
        for key, job in self.jobs.items():
            again = [name for name in job.inputs if found[name]]
            found[key] = self._state(job) or (f"reads {again[0]}, which is made again" if again else "")
        return found

    def estimate(self, keys: Iterable[str], cores: int) -> float:
        """Estimate the wall time of these jobs, in seconds, as if they kept `cores` cores busy to the end."""
        return sum(self.jobs[key].estimate_s for key in keys) / max(1, cores // self.profile.threads)

    def last_of_longest(self) -> str:
        """Return the job that ends the chain of jobs that takes longest: begun late, it would be waited for alone."""
        ends: dict[str, float] = {}
        for key, job in self.jobs.items():
            ends[key] = job.estimate_s + max((ends[name] for name in job.inputs), default=0.0)
        return max(ends, key=ends.__getitem__)

    def _state(self, job: Job) -> str:
        run_dir = self.root / job.run_dir
        status = read_status(run_dir)
        if status is None:
            return "not finished" if run_dir.exists() else "not made"
        if changed := _other(status, self.made_from(job)):
            return changed
        if status.state == "failed":
            return f"failed: {status.reason}"
        if what := runs.damage(run_dir, status):
            return f"damaged: {what}"
        weights = self.weights(job)
        other = [key for key in weights if status.inputs.get(key) != weights[key]]
        return f"read other weights of {other[0]}" if other else ""


@dataclass(frozen=True)
class Book:
    """A book to build: chapters that read committed results, and the runs of a plan, if it has any, beside them."""

    plan: Plan
    results_dir: Path

    @property
    def name(self) -> str:
        """What the book's folders below _build are called."""
        return self.plan.profile.name

    @property
    def root(self) -> Path:
        """Folder that all other paths are relative to."""
        return self.plan.root

    @property
    def runs_dir(self) -> str:
        """Folder of the reader's own runs; empty for the published book."""
        return str(self.plan.runs_dir) if self.plan.jobs else ""

    @property
    def output_dir(self) -> Path:
        """Where executed chapters lie, with the figures and tables that they made."""
        return _CHAPTER_RUNS / self.name

    @property
    def index(self) -> Path:
        """Where the book's first page lies: each book has a folder of its own, so that none overwrites another."""
        return self.root / _HTML / self.name / "index.html"

    @property
    def chapters(self) -> list[str]:
        """Names of the chapter notebooks; every book has all of them."""
        return sorted(path.stem for path in (self.root / CHAPTER_NOTEBOOKS).glob("*.ipynb"))

    def chapter_made_from(self, chapter: str) -> dict[str, str]:
        """Return hashes of a chapter's source, prose too, of its code, and of all that chapters may read."""
        notebook = self.root / CHAPTER_NOTEBOOKS / f"{chapter}.ipynb"
        ended = [read_status(self.root / job.run_dir) for job in self.plan.jobs.values()]
        return {
            "notebook": digests.file_sha256(notebook),
            "code": _code_once(notebook, *digests.registered_tasks()),
            "packages": _sha256(digests.package_versions()),
            "files": _read_by_chapters(self.root),
            "runs": _sha256([one and [one.reason, *one.files.values()] for one in ended]),
        }

    def made_from(self) -> dict[str, str]:
        """Return hashes of what the built book is made from: pages, settings, executed chapters, the code of pages."""
        chapters = [status_path(self.root / self.output_dir / name) for name in self.chapters]
        pages = (self.root / "book", PACKAGE / "pages/templates")
        return {
            "pages": _sha256([files_sha256(folder) for folder in pages]),
            "settings": _sha256([sha256_if_there(self.root / name) for name in _SETTINGS]),
            "chapters": _sha256({path.name: sha256_if_there(path) for path in chapters}),
            "code": digests.module_digest("extrabitter.pages.build"),
        }

    def states(self, jobs: Mapping[str, str]) -> dict[str, str]:
        """Say of each chapter, and of "book", why it has to be made; `jobs` says so of the runs."""
        found, waits = {}, any(jobs.values())
        for chapter in self.chapters:
            base = self.root / self.output_dir / chapter
            made_from = functools.partial(self.chapter_made_from, chapter)
            found[f"chapter {chapter}"] = "runs are made again" if waits else _page_state(base, made_from)
        again = any(found.values())
        found["book"] = "chapters are made again" if again else _page_state(self.index.parent, self.made_from)
        return found


def make_plan(name: str, root: Path = REPOSITORY) -> Plan:
    """Turn a profile into jobs; raise ParameterError with one line for anything in it that cannot be run."""
    profile = load_profile(name, root)
    runs_dir = Path("runs") / name
    jobs = {job.key: _with_known_time(job, root) for job in _planned_jobs(profile, runs_dir)}
    return Plan(profile, root, runs_dir, _inputs_first(name, jobs))


def make_book(name: str, root: Path = REPOSITORY) -> Book:
    """Describe the book of a profile, or for "" the published one, for which nothing is run."""
    if name:
        return Book(make_plan(name, root), RESULTS)
    # Not validated: a profile without tasks is no file that anyone could write.
    said = {"name": "published", "description": "The committed results, with no run of your own."}
    profile = Profile.model_construct(None, **said, seeds=[], threads=1, tasks={})
    return Book(Plan(profile, root, Path("runs/published"), {}), RESULTS)


def _planned_jobs(profile: Profile, runs_dir: Path) -> Iterator[Job]:
    """Yield the jobs that a profile asks for; ParameterError with one line for one that cannot be run."""
    where, known = f"profile {profile.name}", digests.registered_tasks()
    for task, section in profile.tasks.items():
        if task not in known:
            raise ParameterError(f"{where}: task = {task!r}: unknown; must be one of {', '.join(known)}")
        for name, stage in section.stages:
            for arm, own in (stage.arms if stage else {}).items():
                values = {"seeds": profile.seeds, "threads": profile.threads, **stage.defaults, **(own or {})}
                yield from _jobs_of(where, runs_dir, stage, (task, name, arm), values)


def _jobs_of(
    where: str, runs_dir: Path, section: Stage, names: tuple[str, str, str], values: dict[str, Any]
) -> Iterator[Job]:
    """Yield the jobs of an arm, one a seed; the line of an error begins with `where`."""
    task, stage, arm = names
    where += f": {task}.{stage}.{arm}"
    # What the pipeline says of an arm, and no stage is told.
    seeds, experiment = values.pop("seeds"), values.pop("experiment", EXPERIMENT)
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int for seed in seeds):
        raise ParameterError(f"{where}: seeds = {seeds!r}: must be a list of integers")
    if len(set(seeds)) < len(seeds):
        raise ParameterError(f"{where}: seeds = {seeds!r}: each must be given once")
    if not (isinstance(experiment, str) and experiment.isidentifier()):
        raise ParameterError(f"{where}: experiment = {experiment!r}: must be a name of letters, digits and _")
    for name in ("run_dir", "task", "arm", "seed", "overwrite"):
        if name in values:
            raise ParameterError(f"{where}: {name} = {values[name]!r}: is set by the pipeline; remove it")
    for seed in seeds:
        run_dir = runs_dir / task / stage / arm / f"seed={seed}"
        given = {**values, "run_dir": str(run_dir), "task": task, "arm": arm, "seed": seed}
        inputs = []
        for name in ("init_from", "checkpoint"):
            path, key = _resolve(values.get(name), runs_dir, task, seed)
            if path is not None:
                given[name] = path
            if key is not None:
                if revision := values.get("revision"):
                    wrong = f"only of a hub id; {values[name]} is another arm"
                    raise ParameterError(f"{where}: revision = {revision!r}: {wrong}")
                inputs.append(key)
        parameters = validate(STAGES[stage], given, where)
        cost = (section.estimate_s, section.resources)
        yield Job(task, stage, arm, seed, run_dir, parameters, tuple(inputs), *cost, experiment)


def _resolve(reference: Any, runs_dir: Path, task: str, seed: int) -> tuple[Any, str | None]:
    """Turn "<stage>/<arm>[/checkpoint-<step>]" into a path and the job behind it; in all else {seed} is the seed."""
    stage, _, rest = str(reference).partition("/")
    if stage not in STAGES:
        return reference.replace("{seed}", str(seed)) if isinstance(reference, str) else reference, None
    arm, _, checkpoint = rest.partition("/")
    key = f"{task}/{stage}/{arm}/seed={seed}"
    return str(runs_dir / key / (checkpoint or "checkpoint")), key


def _inputs_first(name: str, jobs: dict[str, Job]) -> dict[str, Job]:
    """Order jobs so that inputs come first; complain about inputs that are not there, and circles."""
    trained = {key: job for key, job in jobs.items() if "init_from" in type(job.parameters).model_fields}
    for job in jobs.values():
        for key in job.inputs:
            if key not in trained or job.inputs == (job.key,):
                where = f"profile {name}: {job.task}.{job.stage}.{job.arm}"
                arms = ", ".join(sorted({f"{other.stage}/{other.arm}" for other in trained.values()}))
                raise ParameterError(f"{where} reads {key}, which no other arm makes; there are {arms}")
    inputs = {key: job.inputs for key, job in jobs.items()}
    try:
        return {key: jobs[key] for key in TopologicalSorter(inputs).static_order()}
    except CycleError as error:
        circle = ", ".join(dict.fromkeys(error.args[1]))
        raise ParameterError(f"profile {name}: these arms read each other in a circle: {circle}") from None


def _with_known_time(job: Job, root: Path) -> Job:
    """Replace the profile's guess by the wall time of the run's last execution, where there was one."""
    status = read_status(root / job.run_dir)
    return replace(job, estimate_s=status.wall_s) if status and status.state == "ok" else job


def _page_state(base: Path, made_from: Callable[[], dict[str, str]]) -> str:
    """Say why a chapter or a book, whose status lies beside `base`, has to be made; empty if it has not."""
    status = read_status(base)
    if status is None:
        return "not made"
    return _other(status, made_from()) or runs.altered(base.parent, status.files)


def _other(status: runs.Status, made_from: Mapping[str, str]) -> str:
    """Say what is not as when a status was written: "other code, packages"; empty if all is."""
    changed = [name for name, now in made_from.items() if status.made_from.get(name) != now]
    return f"other {', '.join(changed)}" * bool(changed)


# Once for all runs of a notebook: each takes a moment to parse.
_code_once = functools.cache(digests.code_digest)


@functools.cache
def _read_by_chapters(root: Path) -> str:
    return _sha256([files_sha256(root / name) for name in _READ])


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
