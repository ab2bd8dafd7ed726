"""Whether a run began with the very weights that the run before it made, or with another draw of the same recipe.

A checkpoint that is lost can be trained again from the same seed; on another machine it then differs by rounding,
and what is trained on top of it differs with it. Results keep the hash of what each run began with and made, so that
a reader can see where the two do not meet.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from extrabitter.artifacts import find_runs
from extrabitter.fingerprints import model_sha256

Manifest = Mapping[str, Any]
_MADE_BY = re.compile(r"^runs/[^/]+/(\w+/\w+/seed=\d+)/checkpoint(?:-\d+)?$")


def begins_with(parameters: Mapping[str, Any]) -> str:
    """Name the run whose checkpoint the parameters ask for; empty where it is none of the profile's runs.

    >>> begins_with({"init_from": "runs/reference/base_model/rich/seed=3/checkpoint"})
    'base_model/rich/seed=3'
    >>> begins_with({"checkpoint": "models/rich"}), begins_with({"init_from": ""})
    ('', '')
    """
    given = _MADE_BY.match(str(parameters.get("init_from") or parameters.get("checkpoint") or ""))
    return given[1] if given else ""


def other_draws(manifests: Mapping[str, Manifest]) -> dict[str, str]:
    """Map each run that began with other weights than those that the run before it made to the latter, by job key.

    `manifests` by job key: stage/arm/seed=<seed>. A run is left out where either hash was not recorded, or where the
    run before it is not there.
    """
    found = {}
    for key, manifest in manifests.items():
        start, given = begins_with(manifest["parameters"]), manifest["input_sha256"]
        made = model_sha256(manifests[start]) if start in manifests else ""
        if given and made and given != made and not _began_on_the_way(manifest["parameters"]):
            found[key] = start
    return found


def manifests_of(results_dir: str | Path) -> dict[str, Manifest]:
    """Read the manifests of all complete runs below a results folder, by job key."""
    return {f"{run.stage}/{run.arm}/seed={run.seed}": run.manifest for run in find_runs(results_dir)}


def sentence(manifests: Mapping[str, Manifest], arms: Collection[str] = ()) -> str:
    """Say how many of the runs, of these arms only where any are named, stand on another draw than the one shown.

    Empty where none does. A run stands on another draw where it, or a run that it was made from, began with one.
    """
    direct = other_draws(manifests)
    standing = {key: start for key in manifests if (start := _other_draw_below(key, manifests, direct))}
    counted = [key for key in manifests if not arms or key.split("/")[1] in arms]
    found = [key for key in counted if key in standing]
    if not found:
        return ""
    starts = sorted({standing[key].split("/")[1] for key in found})
    stand = "one stands" if len(found) == 1 else f"{len(found)} stand"
    return (
        f"Of the {len(counted)} runs here, {stand} on another draw of {' or '.join(starts)} than the one "
        "that the book shows: its weights were lost and trained again, by the same recipe from the same seed, on a "
        "machine that rounds otherwise. Arms are still paired by seed and by problem, but two arms of a seed that "
        "stand on two draws share the recipe and the documents of their start and not its weights. That widens an "
        "interval, and moves no mean to one side."
    )


def _other_draw_below(key: str, manifests: Mapping[str, Manifest], direct: Mapping[str, str]) -> str:
    """Follow a run to where it began; return the first run whose other draw it stands on, or nothing."""
    for _ in manifests:  # no more steps than there are runs: a manifest may lie, and lead back to itself
        if key in direct:
            return direct[key]
        if key not in manifests:
            break
        key = begins_with(manifests[key]["parameters"])
    return ""


def _began_on_the_way(parameters: Mapping[str, Any]) -> bool:
    """Tell whether the checkpoint was kept before its run's last step: its weights have no hash of their own."""
    return (
        re.search(r"/checkpoint-\d+$", str(parameters.get("init_from") or parameters.get("checkpoint")))
        is not None
    )
