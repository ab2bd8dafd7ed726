"""Published results: what of a run is committed, and how another run's headline numbers compare with it."""

from __future__ import annotations

import math
import shutil
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import pandas as pd
from scipy import stats

from extrabitter import artifacts
from extrabitter.config import ParameterError
from extrabitter.pipeline import Plan

HEADLINES = ("pass@1", "frac_searches", "mean_completion_tokens")
_STAGE = "behaviour_evaluation"


def publish(plan: Plan, results: Path) -> int:
    """Copy finished runs to a results folder: tables, manifest, status, executed notebook; no checkpoints.

    The manifest keeps everything but the hashes of files that are not copied. Returns the number of runs.
    """
    runs = artifacts.find_runs(plan.root / plan.results_dir)
    for run in runs:
        target = results / run.stage / run.arm / f"seed={run.seed}"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        kept = {name: sha for name, sha in run.manifest["files"].items() if name.endswith(".parquet")}
        for name in kept:
            shutil.copy(run.path / name, target / name)
        artifacts.write_json(target / artifacts.MANIFEST, {**run.manifest, "files": kept})
        for suffix in (".ipynb", ".status.json"):
            shutil.copy(run.path.with_name(run.path.name + suffix), target.with_name(target.name + suffix))
    profile = plan.root / "profiles" / f"{plan.profile.name}.yaml"
    results.mkdir(parents=True, exist_ok=True)
    shutil.copy(profile, results / "profile.yaml")
    return len(runs)


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
    lines = [f"{'arm':<32}{'measure':<26}{mine.name:>26}{published.name:>26}  verdict"]
    for row in both.to_dict("records"):
        lines.append(
            f"{row['arm']:<32}{row['measure']:<26}"
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
