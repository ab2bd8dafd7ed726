"""Published results: what of a run is committed, and how another run's headline numbers compare with it."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from scipy import stats

from extrabitter import runs as artifacts
from extrabitter.params import ParameterError
from extrabitter.fingerprints import model_sha256, result_sha256
from extrabitter.plan import Plan

HEADLINES = ("pass@1", "frac_searches", "mean_completion_tokens")
_STAGE = "behaviour_evaluation"


def publish(plan: Plan, results: Path, partial: bool = False) -> int:
    """Copy a profile's runs to a results folder: tables, manifest, status, executed notebook; no checkpoints.

    The manifest keeps everything but the hashes of files that are not copied, and of those the hash of the
    weights. Of a failed run the status is copied, so that the book shows it as failed. Returns the number of
    finished runs; ParameterError when a planned run has not ended, and then nothing is written. With `partial`
    such runs are left out, and what was published of them before stays: results can be committed as they finish.
    """
    runs = {run.path: run for run in artifacts.find_runs(plan.root / plan.results_dir)}
    missing = [key for key, job in plan.jobs.items() if not _ended(plan.root / job.run_dir, runs)]
    if missing and not partial:
        raise ParameterError(
            f"publish: {len(missing)} of {len(plan.jobs)} runs of profile {plan.profile.name} are missing; "
            f"make them first, or publish what there is with --partial: {', '.join(missing)}"
        )
    finished = 0
    for key, job in plan.jobs.items():
        if key in missing:
            continue
        source, target = plan.root / job.run_dir, results / key
        _remove(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source in runs:
            _copy_run(runs[source], target, plan.root)
            finished += 1
        shutil.copy(artifacts.status_path(source), artifacts.status_path(target))
    results.mkdir(parents=True, exist_ok=True)
    profile = plan.root / "profiles" / f"{plan.profile.name}.yaml"
    shutil.copy(profile, results / "profile.yaml")
    return finished


def _ended(run_dir: Path, runs: Mapping[Path, artifacts.Run]) -> bool:
    """Whether a run failed, or is finished and whole."""
    status = artifacts.read_status(run_dir)
    return status is not None and (status.state == "failed" or run_dir in runs)


def _remove(target: Path) -> None:
    """Remove what was published of a run before."""
    shutil.rmtree(target, ignore_errors=True)
    target.with_name(f"{target.name}.ipynb").unlink(missing_ok=True)


def _copy_run(run: artifacts.Run, target: Path, root: Path) -> None:
    target.mkdir()
    kept = {name: sha for name, sha in run.manifest["files"].items() if name.endswith(".parquet")}
    for name in kept:
        shutil.copy(run.path / name, target / name)
    hashes = {
        "model_sha256": model_sha256(run.manifest),
        "result_sha256": result_sha256(run.path, run.manifest),
    }
    manifest = {**run.manifest, "files": kept, **hashes}
    artifacts.write_json(target / artifacts.MANIFEST, manifest)
    text = run.path.with_name(f"{run.path.name}.ipynb").read_text(encoding="utf-8")
    target.with_name(f"{target.name}.ipynb").write_text(_without_machine(text, root), encoding="utf-8")


def _without_machine(notebook: str, root: Path) -> str:
    """Return an executed notebook without what tells of one machine's folders: warnings, and papermill's paths."""
    content = json.loads(notebook)
    for cell in content["cells"]:
        if "outputs" in cell:
            cell["outputs"] = [output for output in cell["outputs"] if output.get("name") != "stderr"]
    for name in ("input_path", "output_path"):
        content["metadata"].get("papermill", {}).pop(name, None)
    return json.dumps(content, indent=1, ensure_ascii=False).replace(f"{root}/", "") + "\n"


def headlines(results: Path) -> pd.DataFrame:
    """One row per evaluated arm and headline measure: value, lower, upper, number of seeds.

    With several seeds the interval is Student's t over seed means (95 %); with one it is that run's own,
    from problems resampled.
    """
    table = artifacts.collect_table(results, _STAGE, "summary")
    rows = []
    for (arm, measure), group in table[table["measure"].isin(HEADLINES)].groupby(["arm", "measure"]):
        mean, count = group["value"].mean(), len(group)
        lower, upper = group["lower"].iloc[0], group["upper"].iloc[0]
        if count > 1:
            half = stats.t.ppf(0.975, count - 1) * group["value"].std(ddof=1) / math.sqrt(count)
            lower, upper = mean - half, mean + half
        rows.append((arm, measure, mean, lower, upper, count))
    return pd.DataFrame(rows, columns=["arm", "measure", "value", "lower", "upper", "num_seeds"])


def compare(mine: Path, published: Path) -> str:
    """Set my headline numbers beside the published ones, as a table to print.

    "inside" means that my value lies in the published interval; "overlaps" that only the intervals meet.
    """
    for name, folder in (("profile", mine), ("published", published)):
        if not artifacts.find_runs(folder, _STAGE):
            raise ParameterError(f"{name}: no finished {_STAGE} run in {folder}; make it first")
    both = headlines(mine).merge(
        headlines(published), on=["arm", "measure"], suffixes=("_mine", "_published")
    )
    if both.empty:
        raise ParameterError(f"compare: {mine.name} and {published.name} have no evaluated arm in common")
    width = max(map(len, both["arm"])) + 2
    lines = [f"{'arm':<{width}}{'measure':<26}{mine.name:>26}{published.name:>26}  verdict"]
    for row in both.to_dict("records"):
        lines.append(
            f"{row['arm']:<{width}}{row['measure']:<26}"
            f"{_interval(row, 'mine'):>26}{_interval(row, 'published'):>26}  {_verdict(row)}"
        )
    missing = sorted(set(headlines(published)["arm"]) - set(both["arm"]))
    if missing:
        lines.append(f"not run here: {', '.join(missing)}")
    return "\n".join(lines)


def _verdict(row: dict[Hashable, Any]) -> str:
    if row["lower_published"] <= row["value_mine"] <= row["upper_published"]:
        return "inside"
    apart = row["upper_mine"] < row["lower_published"] or row["lower_mine"] > row["upper_published"]
    return "outside" if apart else "overlaps"


def _interval(row: dict[Hashable, Any], whose: str) -> str:
    return f"{row[f'value_{whose}']:.3g} [{row[f'lower_{whose}']:.3g}, {row[f'upper_{whose}']:.3g}]"
