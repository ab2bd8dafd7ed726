"""A run that began with other weights than those of the run it names is found, and so is all that stands on it."""

from __future__ import annotations

from typing import Any

import pytest

from extrabitter.lineage import other_draws, sentence, standing_elsewhere


def manifest(start: str, given: str, made: str, profile: str = "reference") -> dict[str, Any]:
    parameters = {"run_dir": f"runs/{profile}/x", "init_from": start and f"runs/reference/{start}"}
    return {"parameters": parameters, "input_sha256": given, "model_sha256": made, "files": {}}


BASE, PRIMED, TRAINED = "base_model/absent/seed=3", "sft_priming/sft_tea/seed=3", "grpo/grpo_sft_tea/seed=3"
PLAIN = "grpo/grpo_absent/seed=3"


@pytest.fixture
def runs() -> dict[str, Any]:
    """A chain whose priming began with weights that the base shown did not make."""
    return {
        BASE: manifest("", "", "first"),
        PRIMED: manifest(f"{BASE}/checkpoint", "second", "primed"),
        TRAINED: manifest(f"{PRIMED}/checkpoint", "primed", "trained"),
        PLAIN: manifest(f"{BASE}/checkpoint", "first", "plain"),
    }


def test_the_run_that_met_other_weights_is_named_and_what_was_made_from_it(runs: dict[str, Any]) -> None:
    assert other_draws(runs) == {PRIMED: BASE}
    assert standing_elsewhere(runs) == {PRIMED: BASE, TRAINED: BASE}


def test_a_checkpoint_kept_on_the_way_is_not_compared_and_still_leads_back(runs: dict[str, Any]) -> None:
    step = "behaviour_evaluation/step_20_grpo_sft_tea/seed=3"
    found = standing_elsewhere(runs | {step: manifest(f"{TRAINED}/checkpoint-20", "halfway", "")})
    assert found[step] == BASE


def test_the_sentence_names_the_arms_and_counts_their_seeds(runs: dict[str, Any]) -> None:
    said = sentence(runs, ["grpo_sft_tea", "grpo_absent"], str.upper)
    assert "GRPO_SFT_TEA (1 of 1 seeds) began, or was made" in said and "ABSENT" not in said
    assert sentence(runs, ["grpo_absent"]) == sentence(runs, []) == ""


@pytest.mark.parametrize(
    "change",
    [
        {BASE: manifest("", "", "")},  # published before manifests kept the hash
        {PRIMED: manifest(f"{BASE}/checkpoint-20", "second", "primed")},
        {PRIMED: manifest(f"{BASE}/checkpoint", "", "primed")},
        {PRIMED: manifest("../../etc/checkpoint", "second", "primed")},
        {PRIMED: manifest(f"{BASE}/checkpoint\n", "second", "primed")},
        {PRIMED: manifest(f"{BASE}/checkpoint", "second", "primed", profile="of_my_own")},
        {PRIMED: manifest(f"{BASE}/checkpoint", "first", "primed")},
        {PRIMED: {"files": {}}},
        {PRIMED: {"files": {}, "parameters": "none", "input_sha256": None}},
    ],
    ids=str,
)
def test_what_cannot_be_told_or_is_the_same_is_no_other_draw(
    change: dict[str, Any], runs: dict[str, Any]
) -> None:
    assert other_draws(runs | change) == {}
    assert sentence(runs | change, ["sft_tea", "grpo_sft_tea"]) == ""
    assert other_draws({key: value for key, value in runs.items() if key != BASE}) == {}


def test_manifests_that_lead_in_a_circle_end(runs: dict[str, Any]) -> None:
    circle = {BASE: manifest(f"{PLAIN}/checkpoint", "", ""), PLAIN: manifest(f"{BASE}/checkpoint", "", "")}
    assert standing_elsewhere(circle) == {}
