"""A run that began with another draw of the weights it names is found, and so is all that stands on it."""

from __future__ import annotations

from typing import Any

import pytest

from extrabitter.lineage import other_draws, sentence


def manifest(start: str, given: str, made: str) -> dict[str, Any]:
    parameters = {"init_from": start and f"runs/reference/{start}"}
    return {"parameters": parameters, "input_sha256": given, "model_sha256": made, "files": {}}


BASE, PRIMED, TRAINED = "base_model/absent/seed=3", "sft_priming/sft_tea/seed=3", "grpo/grpo_sft_tea/seed=3"


@pytest.fixture
def runs() -> dict[str, Any]:
    """A chain whose priming began with weights that the base shown did not make."""
    return {
        BASE: manifest("", "", "first"),
        PRIMED: manifest(f"{BASE}/checkpoint", "second", "primed"),
        TRAINED: manifest(f"{PRIMED}/checkpoint", "primed", "trained"),
        "grpo/grpo_absent/seed=3": manifest(f"{BASE}/checkpoint", "first", "plain"),
    }


def test_only_the_run_that_met_other_weights_is_named(runs: dict[str, Any]) -> None:
    assert other_draws(runs) == {PRIMED: BASE}


def test_the_sentence_counts_what_stands_on_another_draw(runs: dict[str, Any]) -> None:
    assert sentence(runs).startswith("Of the 4 runs here, 2 stand on another draw of absent than the one")
    assert sentence(runs, ["grpo_sft_tea", "grpo_absent"]).startswith("Of the 2 runs here, one stands on")
    assert sentence(runs, ["grpo_absent"]) == ""


@pytest.mark.parametrize(
    "change",
    [
        {BASE: manifest("", "", "")},  # published before manifests kept the hash
        {
            PRIMED: manifest(f"{BASE}/checkpoint-20", "second", "primed")
        },  # kept on the way: has no hash of its own
        {PRIMED: manifest(f"{BASE}/checkpoint", "", "primed")},
        {PRIMED: manifest("../../etc/checkpoint", "second", "primed")},
        {PRIMED: manifest(f"{BASE}/checkpoint", "first", "primed")},
    ],
    ids=["not recorded", "on the way", "no input", "no run's", "the very weights"],
)
def test_what_cannot_be_told_or_is_the_same_is_no_other_draw(
    change: dict[str, Any], runs: dict[str, Any]
) -> None:
    assert other_draws(runs | change) == {} and sentence(runs | change) == ""
    assert other_draws({key: value for key, value in runs.items() if key != BASE}) == {}
