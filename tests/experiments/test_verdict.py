"""Verdicts: what is measured, what Holm's method leaves of it, and how it is drawn."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from extrabitter.digests import REPOSITORY
from extrabitter.experiments.predictions import Prediction, read_predictions
from extrabitter.experiments.verdict import forest, judge, measure
from extrabitter.store import read

SPREAD = (-0.02, -0.01, 0.0, 0.01, 0.02)


def summary(**means: float) -> pd.DataFrame:
    """A summary of five seeds: every arm's pass@1 is its mean, those of one arm spread."""
    rows = [
        (seed, f"after_{arm}", "pass@1", mean + (SPREAD[seed] if arm == "x" else 0.0))
        for arm, mean in means.items()
        for seed in range(5)
    ]
    table = pd.DataFrame(rows, columns=["seed", "arm", "measure", "value"])
    return table.assign(lower=float("nan"), upper=float("nan"))


def prediction(key: str = "a", **changes: Any) -> Prediction:
    values = {
        "key": key, "series": "first", "primary": True, "claim": f"{key} pays.", "effect": "x minus y",
        "measure": "pass@1", "arm": "after_x", "minus": "after_y", "predicted": {"low": 0.15},
        "falsifier": [{"high": 0.05}], "seeds": 5,
    }  # fmt: skip
    return Prediction.model_validate(values | changes)


@pytest.mark.parametrize(("y", "verdict"), [(0.5, "held"), (0.79, "failed"), (0.65, "undecided"), (0.72, "undecided")])
def test_an_effect_is_paired_by_seed_and_judged_by_its_regions(y: float, verdict: str) -> None:
    judged = judge(summary(x=0.8, y=y), {"a": prediction()})
    assert judged["value"].item() == pytest.approx(0.8 - y)
    assert judged["verdict"].item() == verdict
    assert judged["num_seeds"].item() == 5


def test_one_arm_alone_is_its_own_measure() -> None:
    found = measure(summary(x=0.8), prediction(minus=""))
    assert found.value == pytest.approx(0.8)


def test_a_primary_that_would_decide_alone_is_withdrawn_where_many_are_asked() -> None:
    entries = {key: prediction(key) for key in "abcdefgh"}
    for entry in list(entries)[1:]:
        entries[entry] = prediction(entry, measure="", arm="", minus="")  # asked, and not run here
    # Just above the bound: p is a little under .025, times eight it is not.
    table = summary(x=0.672, y=0.5)
    alone = judge(table, {"a": entries["a"]})
    together = judge(table, entries)
    assert alone["verdict"].item() == "held"
    assert together[["alone", "verdict"]].iloc[0].tolist() == ["held", "undecided"]
    others = {key: entry.model_copy(update={"primary": False}) for key, entry in entries.items()}
    assert judge(table, others)["verdict"].item() == "held", "exploratory predictions are not corrected"


def test_what_was_not_run_is_not_measured() -> None:
    judged = judge(summary(x=0.8), {"a": prediction()})
    assert judged["verdict"].item() == "not measured"


def test_the_forest_says_each_claim_with_its_verdict() -> None:
    judged = judge(summary(x=0.8, y=0.5, z=0.79), {"a": prediction(), "b": prediction("b", minus="after_z")})
    written = [text.get_text() for text in forest(judged, "Two effects").axes[0].texts]
    assert written == ["a pays.", "held", "b pays.", "failed"]


def test_the_published_series_agrees_with_what_the_first_edition_wrote_down() -> None:
    judged = judge(read(REPOSITORY / "results" / "interim", "countdown", "summary"), read_predictions(series="first"))
    first = pd.read_csv(REPOSITORY / "results" / "first_edition.csv")
    then = first[first["series"] == "replication"].set_index("key")
    for row in judged.to_dict("records"):
        old = then.loc[row["key"]]
        assert row["value"] == pytest.approx(old["effect"], abs=1e-4), row["key"]
        assert row["verdict"] == old["verdict"], row["key"]
