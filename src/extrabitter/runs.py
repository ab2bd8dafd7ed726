"""Run folders: written under a temporary name, renamed when complete, invisible to readers until then."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from extrabitter import digests as provenance
from extrabitter import tables as records
from extrabitter.params import STAGES, StageParameters

# A model of a hub by its name, owner/model; a folder that is there goes before it.
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
CHECKSUMS = "SHA256SUMS"


class ArtifactError(RuntimeError):
    """A folder cannot be written, or what is read is absent or damaged; the message is one line."""


@dataclass
class RunFolder:
    """A run in the making; `path` is its temporary folder beside the final one."""

    stage: str
    parameters: StageParameters
    final: Path
    path: Path
    started: float = field(default_factory=time.monotonic)
    # What was resolved while it ran, such as a hub model's commit; it goes into the manifest.
    model: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def create(cls, stage: str, parameters: StageParameters) -> RunFolder:
        """Make the temporary folder next to `parameters.run_dir`.

        ArtifactError when it cannot be written, or when anything but a run stands at `run_dir`.
        """
        final = Path(parameters.run_dir).absolute()
        path = final.with_name(f".{final.name}.partial-{os.getpid()}")
        try:
            _check_replaceable(stage, parameters.run_dir, final)
            remove_partial(final)
            path.mkdir(parents=True)
        except OSError as error:
            raise ArtifactError(
                f"{stage}: run_dir = {parameters.run_dir!r}: cannot be written ({error.strerror}); "
                "give a folder that can be created"
            ) from None
        return cls(stage, parameters, final, path)

    @property
    def checkpoint_dir(self) -> Path:
        """Folder for the run's last checkpoint; checkpoint-<step> stands beside it for earlier ones."""
        return self.path / "checkpoint"

    def write_table(self, name: str, df: pd.DataFrame) -> Path:
        """Write one of the run's tables, checked against its schema."""
        return records.write_table(self.path / f"{name}.parquet", name, df)

    def finish(self) -> Path:
        """Write the manifest, flush everything to disk and rename the folder into place."""
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "stage": self.stage,
            "arm": self.parameters.arm,
            "seed": self.parameters.seed,
            "parameters": self.parameters.model_dump(),
            **_provenance(self.stage, self.parameters),
            "model": self.model,
            "wall_s": round(time.monotonic() - self.started, 3),
            "peak_rss_mb": round(provenance.peak_rss_mb(), 1),
            "files": _file_hashes(self.path),
        }
        write_json(self.path / MANIFEST, manifest)
        for path in self.path.rglob("*"):
            _fsync(path)
        _fsync(self.path)
        _check_replaceable(self.stage, self.parameters.run_dir, self.final)
        if self.final.exists():
            shutil.rmtree(self.final)
        os.rename(self.path, self.final)
        _fsync(self.final.parent)
        return self.final


@dataclass(frozen=True)
class Run:
    """A complete run as readers see it."""

    stage: str
    arm: str
    seed: int
    path: Path
    manifest: dict[str, Any]

    def table(self, name: str, without: Collection[str] = ()) -> pd.DataFrame:
        """Read one of the run's tables, but for the columns named in `without`."""
        return records.read_table(self.path / f"{name}.parquet", name, without)


@dataclass(frozen=True)
class Status:
    """How a job ended: state, a one-line reason when it failed, and its wall time."""

    state: Literal["ok", "failed"]
    reason: str = ""
    wall_s: float = 0.0


def find_runs(root: str | Path, stage: str | None = None) -> list[Run]:
    """List the complete runs below `root` (runs/<profile> or results/<name>), sorted by stage, arm, seed.

    A folder whose manifest is absent, of another schema version or in disagreement with its files does
    not exist here.
    """
    runs = []
    for name in [stage] if stage else STAGES:
        for path in Path(root).glob(f"{name}/*/seed=*/"):
            manifest = read_manifest(path)
            if manifest is not None and f"seed={manifest['seed']}" == path.name:
                runs.append(Run(name, manifest["arm"], manifest["seed"], path, manifest))
    return sorted(runs, key=lambda run: (list(STAGES).index(run.stage), run.arm, run.seed))


def read_manifest(path: Path) -> dict[str, Any] | None:
    """Read and check a run folder's manifest; None when the folder is no complete run."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        if manifest["schema_version"] != SCHEMA_VERSION:
            return None
        whole = all(provenance.file_sha256(path / name) == sha for name, sha in manifest["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return manifest if whole else None


def collect_table(root: str | Path, stage: str, name: str, without: Collection[str] = ()) -> pd.DataFrame:
    """Stack one table, but for columns `without`, over all complete runs of a stage; arm and seed in front.

    Runs that do not have the table are left out; without any, the result is empty but has its columns.
    """
    frames = []
    for run in find_runs(root, stage):
        if f"{name}.parquet" in run.manifest["files"]:
            df = run.table(name, without)
            df.insert(0, "arm", run.arm)
            df.insert(1, "seed", run.seed)
            frames.append(df)
    if not frames:
        columns = [column.name for column in records.SCHEMAS[name] if column.name not in without]
        return pd.DataFrame(columns=["arm", "seed", *columns])
    return pd.concat(frames, ignore_index=True)


def status_path(run_dir: Path) -> Path:
    """Path of a run's status file, which lies beside its folder."""
    return run_dir.with_name(f"{run_dir.name}.status.json")


def write_status(run_dir: Path, status: Status) -> None:
    """Record how a job ended; written last, all or nothing."""
    write_json(status_path(run_dir), vars(status))


def read_status(run_dir: Path) -> Status | None:
    """Read how a job ended; None when it has not ended."""
    try:
        values = json.loads(status_path(run_dir).read_text(encoding="utf-8"))
        return Status(values["state"], values["reason"], values["wall_s"])
    except (OSError, ValueError, KeyError):
        return None


def find_statuses(root: str | Path) -> Iterator[tuple[str, str, int, Status]]:
    """Yield stage, arm, seed and status of every job that ended below `root`, in order."""
    for stage in STAGES:
        for path in sorted(Path(root).glob(f"{stage}/*/seed=*.status.json")):
            run_dir = path.with_name(path.name.removesuffix(".status.json"))
            status = read_status(run_dir)
            if status is not None:
                yield stage, path.parent.name, int(run_dir.name.removeprefix("seed=")), status


def find_checkpoint(name: str, text: str) -> Path:
    """Find a checkpoint folder and check its hashes; `name` is the parameter that gave it.

    A relative path is looked for below the working folder, then below the repository, so that
    "models/absent" works from anywhere. ArtifactError with one line when it is missing or damaged.
    """
    candidates = [Path(text), provenance.REPOSITORY / text]
    folder = next((path for path in candidates if (path / "config.json").is_file()), None)
    if folder is None:
        fetch = "; `make smollm2` fetches it" if "smollm2" in text else ""
        raise ArtifactError(
            f"{name} = {text!r}: no checkpoint there; it must be a folder with config.json{fetch}"
        )
    checksums = folder / CHECKSUMS
    if checksums.is_file():
        for line in checksums.read_text(encoding="utf-8").splitlines():
            expected, _, file = line.partition("  ")
            path = folder / file
            if not path.is_file():
                raise ArtifactError(f"{name} = {text!r}: {file} is missing; {CHECKSUMS} lists it")
            if provenance.file_sha256(path) != expected:
                raise ArtifactError(
                    f"{name} = {text!r}: {file} is corrupted; its hash must be {expected[:12]}..."
                )
    return folder


def is_hub_id(parameters: StageParameters, text: str) -> bool:
    """Tell whether a checkpoint is asked for by its name on a hub: never where it has to speak our grammar."""
    return getattr(parameters, "prompt", "grammar") != "grammar" and names_hub_model(text)


def names_hub_model(text: str) -> bool:
    """Tell whether a text is owner/model and no folder of ours, be it there or missing."""
    candidates = (Path(text), provenance.REPOSITORY / text)
    ours = text.partition("/")[0] in ("models", "results", "runs")
    return bool(HUB_ID.fullmatch(text)) and not ours and not any(path.is_dir() for path in candidates)


def write_checksums(folder: Path) -> None:
    """Write the hashes of a checkpoint folder's files, which find_checkpoint holds against them."""
    hashes = _file_hashes(folder)
    hashes.pop(CHECKSUMS, None)
    text = "".join(f"{sha}  {name}\n" for name, sha in hashes.items())
    (folder / CHECKSUMS).write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that the file is either whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    partial.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    _fsync(partial)
    os.replace(partial, path)


def remove_partial(final: Path) -> None:
    """Remove what killed runs left of a run folder; those of live processes stay."""
    for path in final.parent.glob(f".{final.name}.partial-*"):
        pid = path.name.rpartition("-")[2]
        if not Path(f"/proc/{pid}").exists() or pid == str(os.getpid()):
            shutil.rmtree(path, ignore_errors=True)


def _check_replaceable(stage: str, run_dir: str, final: Path) -> None:
    """Refuse a run folder that would take the place of something else: it is deleted when the run ends."""
    if not final.exists() or (final.is_dir() and (_holds_run(final) or not any(final.iterdir()))):
        return
    raise ArtifactError(
        f"{stage}: run_dir = {run_dir!r}: holds something that is no run; "
        "must be a new or empty folder, or an earlier run's with its manifest.json"
    )


def _holds_run(folder: Path) -> bool:
    """Whether a stage's manifest lies there; the run's files need not be whole."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return manifest["stage"] in STAGES
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _provenance(stage: str, parameters: StageParameters) -> dict[str, Any]:
    root = provenance.REPOSITORY
    notebook = root / provenance.STAGE_NOTEBOOKS / f"{stage}.ipynb"
    predictions = root / "book" / "predictions.md"
    source = getattr(parameters, "init_from", "") or getattr(parameters, "checkpoint", "")
    local = source and not is_hub_id(parameters, source)
    weights = find_checkpoint("init_from", source) / "model.safetensors" if local else None
    return {
        **provenance.git_state(),
        "code_sha256": provenance.code_digest(notebook) if notebook.is_file() else "",
        "input_sha256": provenance.file_sha256(weights) if weights and weights.is_file() else "",
        "predictions_sha256": provenance.file_sha256(predictions) if predictions.is_file() else "",
        "packages": provenance.package_versions(),
        "machine": provenance.machine(),
        "threads": parameters.threads,
    }


def _file_hashes(folder: Path) -> dict[str, str]:
    """Hashes of all files below a folder, by path relative to it, sorted."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): provenance.file_sha256(path) for path in files}


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
