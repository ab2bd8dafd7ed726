"""A profile becomes a list of jobs: which runs there are, what each reads, and whether it is stale."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from extrabitter.runs import CHECKSUMS, MANIFEST, read_status
from extrabitter.params import (
    STAGES,
    ParameterError,
    StageParameters,
    StrictModel,
    stage_parameters,
    validate,
)
from extrabitter.digests import REPOSITORY, STAGE_NOTEBOOKS, code_digest, file_sha256, package_versions

CHAPTER_NOTEBOOKS = Path("notebooks/chapters")
_CHAPTER_RUNS = Path("_build/chapters")
_GIVEN_BY_THE_JOB = {"run_dir", "arm", "seed"}
_WITHOUT_ESTIMATE_S = 60.0


class Resources(StrictModel):
    """What one run asks of a cluster, or of a machine with GPUs; cores are the profile's `threads`."""

    gpus: int = Field(0, ge=0, le=64, description="GPUs")
    memory_mb: int = Field(4_000, ge=100, description="main memory, in megabytes")
    minutes: int = Field(120, ge=1, description="wall time after which a cluster may stop it")


class Stage(StrictModel):
    """One stage of a profile: values all its arms share, and what each arm sets itself."""

    estimate_s: float = Field(
        _WITHOUT_ESTIMATE_S, gt=0, description="expected wall time of one run, in seconds"
    )
    resources: Resources = Field(default_factory=Resources, description="of one run")
    defaults: dict[str, Any] = Field(default_factory=dict, description="parameters of every arm")
    arms: dict[str, dict[str, Any] | None] = Field(
        min_length=1, description="arm: its own parameters, and seeds"
    )


class Stages(StrictModel):
    """The stages a profile may have."""

    base_model: Stage | None = None
    sft_priming: Stage | None = None
    grpo: Stage | None = None
    behaviour_evaluation: Stage | None = None
    will_it_choke: Stage | None = None


class Profile(StrictModel):
    """What to run: arms, seeds and sizes."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="the file's name without .yaml")
    description: str = Field(min_length=1, description="one sentence for the reader")
    seeds: list[int] = Field(min_length=1, description="root seeds of every arm that sets none itself")
    threads: int = Field(1, ge=1, le=64, description="CPU threads of a job")
    stages: Stages


@dataclass(frozen=True)
class Job:
    """One run to make; `inputs` are the keys of the jobs whose checkpoints it reads."""

    stage: str
    arm: str
    seed: int
    run_dir: Path
    parameters: StageParameters
    inputs: tuple[str, ...]
    estimate_s: float
    resources: Resources

    @property
    def key(self) -> str:
        """Name of the job: stage/arm/seed=<k>, which is also where its folder lies."""
        return f"{self.stage}/{self.arm}/seed={self.seed}"

    @property
    def notebook(self) -> Path:
        """The stage notebook, relative to the root."""
        return STAGE_NOTEBOOKS / f"{self.stage}.ipynb"


@dataclass(frozen=True)
class Plan:
    """A profile with its jobs in an order in which each comes after its inputs."""

    profile: Profile
    root: Path
    results_dir: Path
    jobs: dict[str, Job]

    def digests(self) -> dict[str, str]:
        """Hash, by job, what makes its run stale: parameters, code with its imports, packages, a given checkpoint."""
        packages = json.dumps(package_versions())
        notebooks = {job.notebook for job in self.jobs.values()}  # few, and each takes a moment to parse
        code = {notebook: code_digest(self.root / notebook) for notebook in notebooks}
        texts = {
            key: json.dumps(job.parameters.model_dump(), sort_keys=True)
            + code[job.notebook]
            + packages
            + _given_hashes(self.root, job)
            for key, job in self.jobs.items()
        }
        return {key: hashlib.sha256(text.encode()).hexdigest() for key, text in texts.items()}

    def estimate(self, keys: Iterable[str], cores: int) -> float:
        """Estimate the wall time of these jobs on `cores` cores, in seconds, by scheduling them greedily."""
        waiting = set(keys)
        ends: dict[str, float] = {}
        free = [0.0] * max(1, cores // self.profile.threads)
        for key, job in self.jobs.items():
            if key in waiting:
                ready = max((ends.get(name, 0.0) for name in job.inputs), default=0.0)
                core = min(range(len(free)), key=lambda index: free[index])
                free[core] = ends[key] = max(free[core], ready) + job.estimate_s
        return max(free)

    def last_of_longest_chain(self) -> str:
        """Return the key of the job that ends the longest chain of runs that wait for each other."""
        ends: dict[str, float] = {}
        for key, job in self.jobs.items():
            ends[key] = job.estimate_s + max((ends[name] for name in job.inputs), default=0.0)
        return max(ends, key=lambda key: ends[key])


def load_profile(name: str, root: Path = REPOSITORY) -> Profile:
    """Read profiles/<name>.yaml; raise ParameterError with one line when it is absent or wrong."""
    folder = root / "profiles"
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.yaml"))) or "none"
        raise ParameterError(f"profile = {name!r}: unknown; must be one of {known}")
    return read_profile(path, name)


def read_profile(path: Path, name: str) -> Profile:
    """Read a profile file that must carry the given name."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        first_line = " ".join(str(error).split())
        raise ParameterError(f"profile {name}: {path.name} is not YAML ({first_line})") from None
    if not isinstance(values, Mapping):
        raise ParameterError(f"profile {name}: {path.name} must be a mapping with name, seeds, stages ...")
    profile = validate(Profile, values, f"profile {name}")
    if profile.name != name:
        raise ParameterError(
            f"profile {name}: name = {profile.name!r}: must be {name!r}, as the file is called"
        )
    return profile


def make_plan(name: str, root: Path = REPOSITORY) -> Plan:
    """Turn a profile into jobs; raise ParameterError with one line for anything in it that cannot be run."""
    profile = load_profile(name, root)
    results_dir = Path("runs") / name
    jobs = {key: _with_known_time(job, root) for key, job in planned_jobs(profile, results_dir).items()}
    return Plan(profile, root, results_dir, _inputs_first(name, jobs))


def planned_jobs(profile: Profile, results_dir: Path) -> dict[str, Job]:
    """Return the jobs that a profile asks for, by key; ParameterError with one line for one that cannot be run."""
    jobs: dict[str, Job] = {}
    for stage in STAGES:
        section: Stage | None = getattr(profile.stages, stage)
        for arm, own in (section.arms if section else {}).items():
            for seed in _seeds(profile, stage, arm, own or {}):
                assert section is not None
                job = _make_job(profile, results_dir, section, stage, arm, own or {}, seed)
                jobs[job.key] = job
    return jobs


@dataclass(frozen=True)
class Book:
    """A book to build: its plan, the results its chapters read, and where the chapters' runs go."""

    plan: Plan
    results_dir: Path
    output_dir: Path
    published: bool

    @property
    def name(self) -> str:
        """What the book's folders below _build are called: its results' folder, so that no two share one."""
        return self.results_dir.name

    @property
    def chapters(self) -> list[str]:
        """Names of the chapter notebooks; every book has all of them."""
        return sorted(path.stem for path in (self.plan.root / CHAPTER_NOTEBOOKS).glob("*.ipynb"))

    @property
    def profile(self) -> Profile:
        """The profile the book is built from."""
        return self.plan.profile

    def chapter_inputs(self, chapter: str) -> list[str]:
        """Keys of the jobs a chapter waits for: all of them, or none if it reads no runs."""
        return list(self.plan.jobs) if self.reads_runs(chapter) else []

    def reads_runs(self, chapter: str) -> bool:
        """Whether a chapter reads runs; its notebook's metadata say so where it does not."""
        notebook = self.plan.root / CHAPTER_NOTEBOOKS / f"{chapter}.ipynb"
        return bool(_metadata(notebook).get("reads_runs", True))


def make_book(name: str, root: Path = REPOSITORY, published: str = "") -> Book:
    """Describe the book of a profile, or with `published` that of a committed results folder.

    A published folder, e.g. results/reference, has the layout of runs/<profile> and the profile it was
    made from beside its runs, as profile.yaml; nothing is trained for it.
    """
    if not published:
        plan = make_plan(name, root)
        return Book(plan, plan.results_dir, _CHAPTER_RUNS / name, published=False)
    results_dir = Path(published)
    path = root / results_dir / "profile.yaml"
    if not path.is_file():
        raise ParameterError(
            f"published = {published!r}: no results there; it must hold profile.yaml and runs"
        )
    profile = read_profile(path, results_dir.name)
    plan = Plan(profile, root, results_dir, {})
    return Book(plan, results_dir, _CHAPTER_RUNS / "published" / results_dir.name, published=True)


def chapter_digest(book: Book, chapter: str) -> str:
    """Hash the whole source of a chapter notebook, prose too, the code it imports, and files its metadata name.

    No job makes published results, so that of those the hashes of profile, manifests and statuses count too.
    """
    root = book.plan.root
    notebook = root / CHAPTER_NOTEBOOKS / f"{chapter}.ipynb"
    digest = hashlib.sha256(notebook.read_bytes() + code_digest(notebook).encode())
    for name in _metadata(notebook).get("reads_files", []):
        given = sorted(path for path in root.glob(name) if path.is_file())
        digest.update(f"{name} {[file_sha256(path) for path in given] or 'absent'}\n".encode())
    if book.published:
        results = root / book.results_dir
        for pattern in ("profile.yaml", f"*/*/seed=*/{MANIFEST}", "*/*/seed=*.status.json"):
            for path in sorted(results.glob(pattern)):
                digest.update(f"{path.relative_to(results)} {file_sha256(path)}\n".encode())
    return digest.hexdigest()


def _metadata(chapter: Path) -> dict[str, Any]:
    """Return what a chapter says of itself: `reads_runs` (default true) and `reads_files`, patterns below the root."""
    metadata: dict[str, Any] = json.loads(chapter.read_text(encoding="utf-8"))["metadata"]
    return metadata.get("extrabitter", {})


def _given_hashes(root: Path, job: Job) -> str:
    """Return the hashes of a checkpoint that no job makes, such as a shipped model; empty without them."""
    given = getattr(job.parameters, "init_from", "") or getattr(job.parameters, "checkpoint", "")
    sums = root / given / CHECKSUMS
    return sums.read_text(encoding="utf-8") if given and not job.inputs and sums.is_file() else ""


def _seeds(profile: Profile, stage: str, arm: str, own: Mapping[str, Any]) -> list[int]:
    seeds = own.get("seeds", profile.seeds)
    where = f"profile {profile.name}: {stage}.{arm}"
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int for seed in seeds):
        raise ParameterError(f"{where}: seeds = {seeds!r}: must be a list of integers")
    return seeds


def _make_job(
    profile: Profile,
    results_dir: Path,
    section: Stage,
    stage: str,
    arm: str,
    own: Mapping[str, Any],
    seed: int,
) -> Job:
    where = f"profile {profile.name}: {stage}.{arm}"
    values = {"threads": profile.threads, **section.defaults, **own}
    values.pop("seeds", None)
    for name in _GIVEN_BY_THE_JOB & values.keys():
        raise ParameterError(f"{where}: {name} = {values[name]!r}: is set by the pipeline; remove it")
    inputs = []
    for name in ("init_from", "checkpoint"):
        path, key = _resolve(values.get(name), results_dir, seed)
        if key is not None:
            if values.get("revision"):
                raise ParameterError(
                    f"{where}: revision = {values['revision']!r}: only of a hub id; {values[name]} is another arm"
                )
            values[name] = path
            inputs.append(key)
    run_dir = results_dir / stage / arm / f"seed={seed}"
    try:
        parameters = stage_parameters(stage, {**values, "run_dir": str(run_dir), "arm": arm, "seed": seed})
    except ParameterError as error:
        line = str(error).removeprefix(f"{stage}: ")
        raise ParameterError(f"{where}: {line}") from None
    return Job(stage, arm, seed, run_dir, parameters, tuple(inputs), section.estimate_s, section.resources)


def _resolve(reference: Any, results_dir: Path, seed: int) -> tuple[Any, str | None]:
    """Turn "<stage>/<arm>[/checkpoint-<step>]" into a path and the job behind it; leave all else alone."""
    stage, _, rest = str(reference).partition("/")
    if stage not in STAGES:
        return reference, None
    arm, _, checkpoint = rest.partition("/")
    key = f"{stage}/{arm}/seed={seed}"
    return str(results_dir / key / (checkpoint or "checkpoint")), key


def _inputs_first(name: str, jobs: dict[str, Job]) -> dict[str, Job]:
    """Order jobs so that inputs come first; complain about inputs that are not there, and circles."""
    for job in jobs.values():
        for key in job.inputs:
            if key not in jobs or job.inputs == (job.key,) or not _trains(jobs[key]):
                arms = sorted({f"{other.stage}/{other.arm}" for other in jobs.values() if _trains(other)})
                raise ParameterError(
                    f"profile {name}: {job.stage}.{job.arm} reads {key}, which no other arm makes; "
                    f"there are {', '.join(arms)}"
                )
    ordered: dict[str, Job] = {}
    while len(ordered) < len(jobs):
        ready = [
            job for key, job in jobs.items() if key not in ordered and all(i in ordered for i in job.inputs)
        ]
        if not ready:
            circle = ", ".join(key for key in jobs if key not in ordered)
            raise ParameterError(f"profile {name}: these arms read each other in a circle: {circle}")
        ordered |= {job.key: job for job in ready}
    return ordered


def _trains(job: Job) -> bool:
    return job.stage not in ("behaviour_evaluation", "will_it_choke")


def _with_known_time(job: Job, root: Path) -> Job:
    """Replace the profile's guess by the wall time of the run's last execution, where there was one."""
    status = read_status(root / job.run_dir)
    if status is None or status.state != "ok":
        return job
    return Job(**{**vars(job), "estimate_s": status.wall_s})
