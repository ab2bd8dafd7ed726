"""Whether a run began with the very weights that the run before it made, or with others of the same name.

A checkpoint that is trained again, elsewhere or by changed code, has other weights, and what is trained on top of it
differs with it. Results keep the hash of what each run began with and made, so that a reader can see where the two do
not meet. A checkpoint that was kept before its run's last step has no hash in published results: it is not compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from extrabitter.artifacts import find_runs
from extrabitter.fingerprints import model_sha256

Manifest = Mapping[str, Any]
_MADE_BY = re.compile(r"(?P<root>runs/[^/]+)/(?P<key>\w+/\w+/seed=\d+)/checkpoint(?P<step>-\d+)?")


def begins_with(manifest: Manifest) -> tuple[str, bool]:
    """Name the run of the same profile whose checkpoint a run was given, and whether that was its last one.

    >>> own = {"run_dir": "runs/tea/grpo/a/seed=3"}
    >>> begins_with({"parameters": own | {"init_from": "runs/tea/x/y/seed=3/checkpoint"}})
    ('x/y/seed=3', True)
    >>> begins_with({"parameters": own | {"init_from": "models/rich"}})
    ('', False)
    """
    parameters = manifest.get("parameters")
    if not isinstance(parameters, Mapping):
        return "", False
    given = _MADE_BY.fullmatch(str(parameters.get("init_from") or parameters.get("checkpoint") or ""))
    if not given or not str(parameters.get("run_dir")).startswith(given["root"] + "/"):
        return "", False
    return given["key"], given["step"] is None


def other_draws(manifests: Mapping[str, Manifest]) -> dict[str, str]:
    """Map each run that began with other weights than those that the run before it made to the latter, by job key.

    `manifests` by job key: stage/arm/seed=<seed>. A run is left out where either hash was not recorded, or where the
    run before it is not there.
    """
    found = {}
    for key, manifest in manifests.items():
        start, is_last = begins_with(manifest)
        given = str(manifest.get("input_sha256") or "")
        made = model_sha256(manifests[start]) if start in manifests else ""
        if is_last and given and made and given != made:
            found[key] = start
    return found


def standing_elsewhere(manifests: Mapping[str, Manifest]) -> dict[str, str]:
    """Map each run that began with other weights, or was made from one that did, to where the weights first differ."""
    direct = other_draws(manifests)
    found = {}
    for key in manifests:
        at = key
        for _ in manifests:  # no more steps than there are runs: a manifest may lie, and lead back to itself
            if at in direct:
                found[key] = direct[at]
            if at in direct or at not in manifests:
                break
            at = begins_with(manifests[at])[0]
    return found


def manifests_of(results_dir: str | Path) -> dict[str, Manifest]:
    """Read the manifests of all complete runs below a results folder, by job key."""
    return {f"{run.stage}/{run.arm}/seed={run.seed}": run.manifest for run in find_runs(results_dir)}


def sentence(
    manifests: Mapping[str, Manifest], arms: Collection[str], name: Callable[[str], str] = str
) -> str:
    """Say which of these arms stand, in how many seeds, on other weights than those shown; empty where none does."""
    seeds: dict[str, dict[str, bool]] = {}  # of each arm: does any of the seed's runs stand elsewhere?
    elsewhere = standing_elsewhere(manifests)
    for key in manifests:
        _, arm, seed = key.split("/")
        if arm in arms:
            own = seeds.setdefault(arm, {})
            own[seed] = own.get(seed, False) or key in elsewhere
    said = [
        f"{name(arm)} ({sum(own.values())} of {len(own)} seeds)"
        for arm, own in seeds.items()
        if any(own.values())
    ]
    if not said:
        return ""
    return (
        f"Not all that is compared here began with the very weights that the book shows under that name: "
        f"{', '.join(said)} began, or {'was' if len(said) == 1 else 'were'} made from what began, with others of the "
        "same recipe and seed, trained again (the remarks on the page of predictions say why). Two arms of such a seed "
        "are paired by their problems and documents, and not by their weights, so that their difference is, on "
        "average, less sure."
    )
