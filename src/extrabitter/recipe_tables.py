"""What another size, optimiser, rate or schedule does to a base: the choices of its recipe, changed one at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from extrabitter.artifacts import Run
from extrabitter.captions import LAST
from extrabitter.hyperparameters import PLUMBING
from extrabitter.tasks.countdown import VOCABULARY

TRUNK = "trunk"  # no base, but what one starts from
CHOSEN = "chosen"  # the arm that the others differ from

BARS = {
    "arithmetic right": "3 numbers: cued: arithmetic steps right",
    "well-formed": "3 numbers: cued: well-formed",
    "true on hits": "3 numbers: cued: verdicts true on hits",
    "true on misses": "3 numbers: cued: verdicts true on misses",
}
"""Columns of `choices`, and the competence bar that each shows. All are under the cue, where a completion is long."""


def num_weights(parameters: Mapping[str, Any]) -> int:
    """Count the weights of a Llama base with tied embeddings, from its parameters."""
    width, inner = parameters["hidden_size"], parameters["intermediate_size"]
    layer = 4 * width * width + 3 * width * inner + 2 * width
    return len(VOCABULARY) * width + parameters["num_hidden_layers"] * layer + width


def choices(runs: Iterable[Run]) -> pd.DataFrame:
    """Return one row for each base of the profile: what differs from `CHOSEN`, weights, loss, bars, speed.

    `loss_difference` is against the chosen recipe on the same seed, whose steps read the same documents: infinite for
    a loss that is no number, NaN where there is nothing to hold it to, as for a base that goes on from a trunk, which
    reads other documents. A bar that was not measured is NaN.
    """
    bases = [run for run in runs if run.arm != TRUNK]
    usual: dict[str, Any] = next((run.manifest["parameters"] for run in bases if run.arm == CHOSEN), {})
    rows = []
    for run in bases:
        parameters, losses = run.manifest["parameters"], run.table("losses")
        bars = run.table("bars").set_index("bar")["value"]
        end = losses.iloc[-1]
        loss = losses.loc[losses["step"] > (1 - LAST) * end["step"], "loss"].mean(skipna=False)
        changed = [
            f"{name} {value}"
            for name, value in parameters.items()
            if usual and name not in PLUMBING and value != usual.get(name)
        ]
        rows.append(
            {
                "arm": run.arm,
                "seed": run.seed,
                "changed": ", ".join(["from a trunk"] * bool(parameters["init_from"]) + changed),
                "weights": num_weights(parameters),
                "loss": math.nan if parameters["init_from"] else loss if math.isfinite(loss) else math.inf,
                "tokens_per_s": end["num_tokens"] / end["elapsed_s"],
            }
            | {column: bars.get(bar, math.nan) for column, bar in BARS.items()}
        )
    table = pd.DataFrame(rows, columns=["arm", "seed", "changed", "weights", "loss", "tokens_per_s", *BARS])
    chosen = table[table["arm"] == CHOSEN].set_index("seed")["loss"]
    table.insert(5, "loss_difference", table["loss"] - table["seed"].map(chosen))
    return table


def better_and_worse(table: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Name what, changed in a table of `choices`, ends at a lower loss on every seed, and what at a higher on every."""
    seeds = table.loc[table["arm"] == CHOSEN, "seed"].nunique()
    others = table[table["arm"] != CHOSEN].dropna(subset="loss_difference")
    sides = others.groupby("changed", sort=False)["loss_difference"].agg(["min", "max", "size"])
    sides = sides[sides["size"] == seeds]
    return [str(c) for c in sides.index[sides["max"] < 0]], [str(c) for c in sides.index[sides["min"] > 0]]
