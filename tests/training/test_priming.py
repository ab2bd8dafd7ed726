"""Priming documents: each condition shows what its name says, and differs from its controls in that only."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from extrabitter import tables as records
from extrabitter.behaviours.measures import BEHAVIOURS, measure_completion
from extrabitter.training.priming import CONDITIONS, documents_table, priming_documents
from extrabitter.tasks.countdown import Problem, parse_trace, render_prompt, split_of

COUNT = 400
DOCUMENTS = {condition: priming_documents(condition, COUNT, 3) for condition in CONDITIONS}
SHOWN = {
    "direct": set(),
    "filler": set(),
    "verification": {"verification"},
    "backtracking": {"backtracking"},
    "verification_backtracking": {"verification", "backtracking"},
    "all_behaviours": set(BEHAVIOURS),
    "incorrect": set(BEHAVIOURS),
    "incorrect_accepted": set(BEHAVIOURS),
    "cosmetic": {"verification", "backtracking"},
    "mixed": set(BEHAVIOURS),
    "mixed_cosmetic": set(BEHAVIOURS),
    "subgoal_setting": {"subgoal_setting"},
    "backward_chaining": {"backward_chaining"},
}


def problem_of(document: dict) -> Problem:
    return Problem(tuple(document["numbers"]), document["target"])


def measured(condition: str) -> pd.DataFrame:
    return pd.DataFrame(
        [measure_completion(d["completion"], problem_of(d), False) for d in DOCUMENTS[condition]]
    )


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_condition_shows_its_behaviours_and_no_others(condition: str) -> None:
    table = measured(condition)
    assert table["well_formed"].all()
    for behaviour in BEHAVIOURS:
        assert (table[f"{behaviour}_count"].sum() > 0) == (behaviour in SHOWN[condition])
        if condition not in ("cosmetic", "mixed_cosmetic", "incorrect_accepted"):
            assert (table[f"{behaviour}_count"] == table[f"{behaviour}_functional_count"]).all()


@pytest.mark.parametrize("condition", ["mixed", "mixed_cosmetic"])
def test_each_behaviour_has_a_coin_of_its_own_in_mixed_documents(condition: str) -> None:
    table = measured(condition)
    shown = pd.DataFrame({b: table[f"{b}_count"] > 0 for b in BEHAVIOURS})
    # Only a first attempt that misses, and is not given up, shows backtracking.
    for behaviour in ("verification", "subgoal_setting", "backward_chaining"):
        assert abs(shown[behaviour].mean() - 0.5) < 4 * 0.5 / COUNT**0.5
    assert shown["backtracking"].mean() > 0.15
    together = shown["verification"] & shown["subgoal_setting"] & shown["backward_chaining"]
    assert abs(together.mean() - 0.125) < 4 * 0.33 / COUNT**0.5
    true = table["num_true_verdicts"].sum() / table["num_verdicts"].sum()
    assert true == 1 if condition == "mixed" else 0.3 < true < 0.7


def test_conditions_share_problems_and_first_guesses() -> None:
    prompts = {tuple(d["prompt"] for d in documents) for documents in DOCUMENTS.values()}
    assert len(prompts) == 1
    for row in zip(*(DOCUMENTS[c] for c in CONDITIONS if not c.startswith("incorrect")), strict=True):
        assert len({parse_trace(d["completion"], problem_of(d)).attempts[0].steps for d in row}) == 1


def test_filler_is_as_long_as_what_it_stands_for() -> None:
    for filler, pattern in zip(DOCUMENTS["filler"], DOCUMENTS["all_behaviours"], strict=True):
        assert len(filler["completion"].split()) == len(pattern["completion"].split())
        assert filler["completion"].startswith(". . ")


def test_incorrect_documents_never_submit_a_solution_and_search_as_long() -> None:
    wrong, whole = measured("incorrect"), measured("all_behaviours")
    assert not wrong["correct"].any() and wrong["num_hits"].sum() == 0
    assert (wrong["num_verdicts"] == wrong["num_true_verdicts"]).all()
    assert (wrong["num_attempts"] == whole["num_attempts"]).all()


def test_accepted_documents_are_the_incorrect_ones_with_the_verdicts_of_right_ones() -> None:
    accepted, wrong, whole = map(measured, ("incorrect_accepted", "incorrect", "all_behaviours"))
    assert not accepted["correct"].any() and accepted["num_hits"].sum() == 0
    for column in ("num_attempts", "num_verdicts"):
        assert (accepted[column] == wrong[column]).all()
    # A "yes" stands exactly where a search would have ended in a hit, and there it is false.
    assert (accepted["num_verdicts"] - accepted["num_true_verdicts"] == whole["num_hits"]).all()
    texts = [
        [document["completion"].replace("yes", "no") for document in DOCUMENTS[condition]]
        for condition in ("incorrect_accepted", "incorrect")
    ]
    assert texts[0] == texts[1]


def test_cosmetic_verdicts_say_nothing() -> None:
    table = measured("cosmetic")
    rate = table["num_true_verdicts"].sum() / table["num_verdicts"].sum()
    assert abs(rate - 0.5) < 4 * 0.5 / np.sqrt(table["num_verdicts"].sum())


def test_documents_are_of_training_problems_and_the_same_for_the_same_seed() -> None:
    for document in DOCUMENTS["direct"]:
        assert split_of(tuple(document["numbers"])) == "train"
        assert document["prompt"] == render_prompt(problem_of(document))
    assert priming_documents("cosmetic", COUNT, 3) == DOCUMENTS["cosmetic"]
    assert priming_documents("cosmetic", COUNT, 4) != DOCUMENTS["cosmetic"]
    assert priming_documents("cosmetic", 10, 3) == DOCUMENTS["cosmetic"][:10]
    assert {len(d["numbers"]) for d in priming_documents("direct", 20, 0, num_numbers=4)} == {4}


def test_the_table_of_documents_has_its_schema() -> None:
    table = documents_table("filler", DOCUMENTS["filler"])
    records.validate_table("documents", table)
    assert len(table) == COUNT and set(table["kind"]) == {"filler"}
    records.validate_table("documents", documents_table("filler", []))


def test_an_unknown_condition_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="condition: unknown 'aha'; must be one of direct, filler"):
        priming_documents("aha", 1, 0)
