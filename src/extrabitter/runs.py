"""Run folders: written under a temporary name, renamed when complete, invisible to readers until then.

A run lies at runs/<profile>/<task>/<stage>/<arm>/seed=<k>/; beside it lie its executed notebook, its log and its
status. The manifest holds a hash of each of its files, the status those of manifest and notebook and what the run was
made from: what is cut, altered or lost later is found by content, never by the time of a file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from extrabitter import digests, tables
from extrabitter.params import STAGES, OneLineError, StageParameters

# A model of a hub by its name, owner/model; a folder that is there goes before it.
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
SCHEMA_VERSION = 2
MANIFEST = "manifest.json"
CHECKSUMS = "SHA256SUMS"
EXPERIMENT = "taste_test"  # of an arm that names none


class ArtifactError(OneLineError, RuntimeError):
    """A folder cannot be written, or what is read is absent or damaged."""


def unwritable(run_dir: str, error: OSError) -> ArtifactError:
    """Return the error of a run whose folder the system does not let it write."""
    why = f"cannot be written ({error.strerror or error}); give a folder that can be, with room for it"
    return ArtifactError(f"run_dir = {run_dir!r}: {why}")


@contextlib.contextmanager
def _writing(stage: str, parameters: StageParameters) -> Iterator[None]:
    """Turn what the system says of a folder that it does not let be written, or of a full disk, into one line."""
    try:
        yield
    except OSError as error:
        raise ArtifactError(f"{stage}: {unwritable(parameters.run_dir, error)}") from None


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

        ArtifactError when it cannot be written, and when something stands at `run_dir` that this run may not
        replace: anything that is no run, and a run of other parameters unless `parameters.overwrite`.
        """
        final = Path(parameters.run_dir).absolute()
        path = final.with_name(f".{final.name}.partial-{os.getpid()}")
        with _writing(stage, parameters):
            _check_replaceable(stage, parameters, final)
            remove_partial(final)
            path.mkdir(parents=True)
        return cls(stage, parameters, final, path)

    @property
    def checkpoint_dir(self) -> Path:
        """Folder for the run's last checkpoint; checkpoint-<step> stands beside it for earlier ones."""
        return self.path / "checkpoint"

    def write_table(self, name: str, df: pd.DataFrame) -> Path:
        """Write one of the run's tables, checked against its schema."""
        with _writing(self.stage, self.parameters):
            return tables.write_table(self.path / f"{name}.parquet", name, df)

    def finish(self) -> Path:
        """Write the manifest, flush everything to disk and rename the folder into place."""
        files = digests.files_sha256(self.path)
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "stage": self.stage,
            **self.parameters.model_dump(include={"task", "arm", "seed"}),
            "parameters": self.parameters.model_dump(exclude={"overwrite"}),
            **_provenance(self.stage, self.parameters),
            "model": self.model,
            "wall_s": round(time.monotonic() - self.started, 3),
            "peak_rss_mb": round(digests.peak_rss_mb(), 1),
            "result_sha256": result_sha256(self.path, files),
            "files": files,
        }
        with _writing(self.stage, self.parameters):
            write_json(self.path / MANIFEST, manifest)
            for path in self.path.rglob("*"):
                _fsync(path)
            _fsync(self.path)
            _check_replaceable(self.stage, self.parameters, self.final)
            # The old run gives way by a rename too, so that a kill leaves one of them whole under some name.
            replaced = self.final.with_name(f".{self.final.name}.partial-{os.getpid()}-replaced")
            if self.final.exists():
                os.rename(self.final, replaced)
            os.rename(self.path, self.final)
            shutil.rmtree(replaced, ignore_errors=True)
            _fsync(self.final.parent)
        return self.final


@dataclass(frozen=True)
class Status:
    """How a job ended: state, a one-line reason when it failed, its wall time, and what it was made from.

    `made_from` holds hashes of its parameters, code, packages and so on by name, `inputs` those of the weights that
    it read, by the key of the job that made them, `files` those of what it left, by path relative to the status.
    """

    state: Literal["ok", "failed"]
    reason: str = ""
    wall_s: float = 0.0
    experiment: str = ""
    made_from: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """A job that ended: where its run lies, its status, and the run's manifest; None where it failed or is damaged."""

    task: str
    stage: str
    arm: str
    seed: int
    path: Path
    status: Status
    manifest: dict[str, Any] | None

    @property
    def key(self) -> str:
        """Name of the job: task/stage/arm/seed=<k>."""
        return f"{self.task}/{self.stage}/{self.arm}/seed={self.seed}"


def read_manifest(path: Path) -> dict[str, Any] | None:
    """Read a run folder's manifest and check its tables; None when the folder is no complete run."""
    manifest = _manifest(path)
    hashes = manifest["files"].items() if manifest else ()
    of_tables = {name: sha for name, sha in hashes if name.endswith(".parquet")}
    return None if altered(path, of_tables) else manifest


def altered(folder: Path, files: Mapping[str, str]) -> str:
    """Say which of these files, given with their hashes, is not as it was: "x is missing"; empty when all are."""
    for name, sha in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if digests.file_sha256(path) != sha:
            return f"{name} is {'empty' if not path.stat().st_size else 'altered'}"
    return ""


def damage(run_dir: Path, status: Status) -> str:
    """Say what of a finished run is missing, empty or altered, by every hash that was kept; empty if it is whole."""
    if what := altered(run_dir.parent, status.files):
        return what
    manifest = _manifest(run_dir)
    missing = f"{run_dir.name}/{MANIFEST} is missing, altered or of another edition"
    return altered(run_dir, manifest["files"]) if manifest else missing


def weights_sha256(checkpoint: Path) -> str:
    """Return the recorded hash of a run's checkpoint, by its folder; "" where no manifest tells it."""
    files = (_manifest(checkpoint.parent) or {"files": {}})["files"]
    names = (f"{checkpoint.name}/{name}" for name in (CHECKSUMS, "model.safetensors"))
    return next((str(files[name]) for name in names if name in files), "")


def result_sha256(run_dir: Path, files: Collection[str]) -> str:
    """Hash a run's tables without their wall times: the same parameters, machine and threads give the same hash."""
    digest = hashlib.sha256()
    for file in sorted(name for name in files if name.endswith(".parquet")):
        name = file.removesuffix(".parquet")
        timings = [column.name for column in tables.SCHEMAS[name] if column.unit == "s"]
        table = tables.read_table(run_dir / file, name).drop(columns=timings)
        digest.update(f"{name}\n{table.to_csv(index=False)}".encode())
    return digest.hexdigest()


def status_path(run_dir: Path) -> Path:
    """Path of a run's status file, which lies beside its folder."""
    return run_dir.with_name(f"{run_dir.name}.status.json")


def write_status(run_dir: Path, status: Status) -> None:
    """Record how a job ended; written last, all or nothing."""
    write_json(status_path(run_dir), asdict(status))


def read_status(run_dir: Path) -> Status | None:
    """Read how a job ended; None when it has not ended, or the record of it is damaged."""
    try:
        values = json.loads(status_path(run_dir).read_text(encoding="utf-8"))
        if values["state"] not in ("ok", "failed") or not isinstance(values["wall_s"], int | float):
            return None
        return Status(**values)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def find_runs(root: str | Path, task: str = "*") -> list[Run]:
    """List the jobs that ended below `root` (runs/<profile>), by stage, task, arm and seed.

    A run whose manifest is absent, of another schema version or in disagreement with its tables has none here;
    checkpoints are checked by whoever loads them.
    """
    found = []
    for stage in STAGES:
        for path in sorted(Path(root).glob(f"{task}/{stage}/*/seed=*.status.json")):
            run_dir = path.with_name(path.name.removesuffix(".status.json"))
            if status := read_status(run_dir):
                manifest = read_manifest(run_dir) if status.state == "ok" else None
                its_task, _, arm, name = run_dir.parts[-4:]
                seed = int(name.removeprefix("seed="))
                found.append(Run(its_task, stage, arm, seed, run_dir, status, manifest))
    return found


def find_checkpoint(name: str, text: str) -> Path:
    """Find a checkpoint folder and check its hashes; `name` is the parameter that gave it.

    A relative path is looked for below the working folder, then below the repository, so that
    "models/searcher" works from anywhere. ArtifactError with one line when it is missing or damaged.
    """
    candidates = [Path(text), digests.REPOSITORY / text]
    folder = next((path for path in candidates if (path / "config.json").is_file()), None)
    if folder is None:
        lacks = "no checkpoint there; it must be a folder with config.json"
        hint = "; `make smollm2` fetches it" * ("smollm2" in text)
        if names_hub_model(text):
            hint = "; one of a hub is asked in English: give prompt plain or chat"
        raise ArtifactError(f"{name} = {text!r}: {lacks}{hint}")
    sums = folder / CHECKSUMS
    if sums.is_file():
        lines = (line.partition("  ") for line in sums.read_text(encoding="utf-8").splitlines())
        listed = {file: sha for sha, _, file in lines}
        if found := altered(folder, listed):
            raise ArtifactError(f"{name} = {text!r}: {found}, by its {CHECKSUMS}")
    return folder


def is_hub_id(parameters: StageParameters, text: str) -> bool:
    """Tell whether a checkpoint is asked for by its name on a hub: never where it has to speak our grammar."""
    return getattr(parameters, "prompt", "grammar") != "grammar" and names_hub_model(text)


def names_hub_model(text: str) -> bool:
    """Tell whether a text is owner/model and no folder of ours, be it there or missing."""
    candidates = (Path(text), digests.REPOSITORY / text)
    ours = text.partition("/")[0] in ("models", "results", "runs")
    return bool(HUB_ID.fullmatch(text)) and not ours and not any(path.is_dir() for path in candidates)


def write_checksums(folder: Path) -> None:
    """Write the hashes of a checkpoint folder's files, which find_checkpoint holds against them."""
    hashes = digests.files_sha256(folder)
    hashes.pop(CHECKSUMS, None)
    text = "".join(f"{sha}  {name}\n" for name, sha in hashes.items())
    (folder / CHECKSUMS).write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that the file is either whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tables.all_or_nothing(path) as partial:
        partial.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def remove_partial(final: Path) -> None:
    """Remove what killed runs left of a run folder; those of live processes stay."""
    for path in final.parent.glob(f".{final.name}.partial-*"):
        pid = path.name.split(".partial-")[1].partition("-")[0]
        if not Path(f"/proc/{pid}").exists() or pid == str(os.getpid()):
            shutil.rmtree(path, ignore_errors=True)


def _manifest(run_dir: Path) -> dict[str, Any] | None:
    """Read a run's manifest; None where there is none of this edition."""
    try:
        manifest: dict[str, Any] = json.loads((run_dir / MANIFEST).read_text(encoding="utf-8"))
        known = manifest["schema_version"] == SCHEMA_VERSION and manifest["stage"] in STAGES
        return manifest if known and isinstance(manifest["files"], dict) and manifest["parameters"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _check_replaceable(stage: str, parameters: StageParameters, final: Path) -> None:
    """Refuse to replace what was not made by this very run: a folder is replaced when the run ends."""
    if not final.exists() or (final.is_dir() and not any(final.iterdir())):
        return
    where = f"{stage}: run_dir = {parameters.run_dir!r}: holds"
    manifest = _manifest(final)
    if manifest is None:
        raise ArtifactError(f"{where} something that is no run; must be a new or empty folder")
    made_by, old = manifest["stage"], manifest["parameters"]
    # The same folder by another name is the same run.
    new = parameters.model_dump(exclude={"overwrite"}) | {"run_dir": old.get("run_dir")}
    differ = [name for name in sorted(new.keys() | old.keys()) if old.get(name) != new.get(name)]
    if parameters.overwrite or (made_by == stage and not differ):
        return
    what = f"of {made_by}"
    if made_by == stage:
        (first, *others), more = differ, f" and {len(differ) - 1} more"
        said = f"{first} = {old.get(first)!r}, not {new.get(first)!r}{more * bool(others)}"
        what = f"with other parameters ({said})"
    raise ArtifactError(f"{where} a run {what}; give another folder, or overwrite = true to replace it")


def _provenance(stage: str, parameters: StageParameters) -> dict[str, Any]:
    root = digests.REPOSITORY
    notebook = root / digests.STAGE_NOTEBOOKS / f"{stage}.ipynb"
    source = getattr(parameters, "init_from", "") or getattr(parameters, "checkpoint", "")
    local = source and not is_hub_id(parameters, source)
    weights = find_checkpoint("init_from", source) / "model.safetensors" if local else None
    return {
        **digests.git_state(),
        "code_sha256": digests.code_digest(notebook, parameters.task) if notebook.is_file() else "",
        "input_sha256": digests.sha256_if_there(weights) if weights else "",
        "predictions_sha256": digests.sha256_if_there(root / "book" / "predictions" / "edition.yaml"),
        "packages": digests.package_versions(),
        "machine": digests.machine(),
        "threads": parameters.threads,
    }


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
