"""What is known of a GRPO run as a contest of types: shares over steps, and the base's start and payoffs.

The types are completions that search, completions that answer directly, and behaviours that the base never shows.
Payoffs are read off the model's own choices, which are no interventions: it may search where it pays. Where a probe
forced the choice, its two success rates take their place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from extrabitter.arms import base_of
from extrabitter.artifacts import find_runs
from extrabitter.config import completions_per_step

Array = NDArray[np.float64]

LEAST_STEPS = 5  # to fit, and to judge
LEAST_SEEN = 25  # completions behind a share or payoff, which is then known to about a fifth
ABSENT = ("frac_with_subgoal_setting", "frac_with_backward_chaining")


@dataclass(frozen=True)
class MeasuredRun:
    """One run: `step` and `share` that searches (N,), completions a step, and its base's share and payoffs.

    `pay` (2,): success of searching and of answering directly, by a probe's force if `probed`; `own_pay` (2, 2): by
    the model's own choices, before and after RL. NaN where not measured. `completions` is 0 where the base's payoffs
    do not speak for the run. `absent`: completions in training that show subgoals or backward steps, and all, if the
    base shows none of them.
    """

    arm: str
    seed: int
    step: NDArray[np.int64]
    share: Array
    completions: int
    start: float
    pay: Array
    own_pay: Array
    probed: bool = False
    absent: tuple[int, int] = (0, 0)

    @property
    def gap(self) -> float:
        """Payoff of searching minus that of answering directly, before RL."""
        return float(self.pay[0] - self.pay[1])

    def missing(self, last: float) -> str:
        """Say why the run cannot be fitted on its steps up to `last`; empty if it can."""
        early = self.share[self.step <= last]
        if self.completions <= 1:
            return "sampled, rewarded or cut off otherwise"
        if len(early) < LEAST_STEPS:
            return "too few steps"
        if not 0 < self.start < 1 or self.completions * min(early.sum(), (1 - early).sum()) < LEAST_SEEN:
            return "one type is hardly drawn"
        return "" if np.isfinite(self.pay).all() else "payoffs not measured"


def completions_a_step(results_dir: str | Path) -> dict[str, int]:
    """Read completions a step off the manifests of GRPO arms that a base's payoffs speak for.

    They draw all completions themselves, divide by no std, reward answers only, and have the profile's longest cap.
    """
    found = {run.arm: run.manifest["parameters"] for run in find_runs(results_dir, "grpo")}
    longest = max((given["max_completion_length"] for given in found.values()), default=0)
    return {
        arm: completions_per_step(given)
        for arm, given in found.items()
        if not given.get("forced_search_share")
        and given.get("scale_rewards", "none") == "none"
        and not given.get("format_weight")
        and given["max_completion_length"] == longest
    }


def measured_runs(
    steps: pd.DataFrame, summary: pd.DataFrame, probed: pd.DataFrame, completions: Mapping[str, int]
) -> list[MeasuredRun]:
    """Collect every GRPO run from tables `steps`, `summary` of evaluations and `probe_behaviours`.

    An arm starts from the evaluated base with the longest name that fits. Its start is the share of completions that
    search; where fewer than `LEAST_SEEN` did, the chance read off the softmax.
    """
    columns = [summary[name] for name in ("arm", "seed", "measure", "value", "count")]
    found = {
        (arm, seed, measure): (float(value), int(count))
        for arm, seed, measure, value, count in zip(*columns, strict=True)
    }
    probes = probed[(probed["behaviour"] == "search") & (probed["num_pairs"] >= LEAST_SEEN)]
    forced = {
        key: list(pay)
        for key, pay in probes.set_index(["arm", "seed"])[["success_with", "success_without"]].iterrows()
    }
    befores = [arm for arm in summary["arm"].unique() if arm.startswith(("base_", "sft_"))]

    def own_pay(arm: str, seed: int) -> list[float]:
        both = [found.get((arm, seed, f"success_given_{kind}"), (np.nan, 0)) for kind in ("search", "direct")]
        return [value if count >= LEAST_SEEN else np.nan for value, count in both]

    runs = []
    for (name, number), rows in steps.groupby(["arm", "seed"]):
        arm, seed = str(name), int(str(number))
        base = max(
            (one for one in befores if f"{arm}_".startswith(f"grpo_{base_of(one)}_")), key=len, default=""
        )
        value, count = found.get((base, seed, "frac_searches"), (np.nan, 0))
        chance = found.get((base, seed, "search_probability"), (np.nan, 0))[0]
        own = np.array([own_pay(base, seed), own_pay(arm, seed)])
        kept = rows[np.isfinite(rows["frac_searches"].to_numpy(float))].sort_values("step")
        batch = completions.get(arm, 0)
        none = all(found.get((base, seed, measure), (np.nan, 0))[0] == 0 for measure in ABSENT)
        seen = round(batch * float(np.nansum(kept[list(ABSENT)].to_numpy(float))))
        runs.append(
            MeasuredRun(
                arm,
                seed,
                kept["step"].to_numpy(np.int64),
                kept["frac_searches"].to_numpy(float),
                batch,
                value if value * count >= LEAST_SEEN or np.isnan(chance) else chance,
                np.array(forced.get((f"probe_{base_of(base)}", seed), own[0]), dtype=float),
                own,
                (f"probe_{base_of(base)}", seed) in forced,
                (seen, batch * len(kept)) if none else (0, 0),
            )
        )
    return runs
