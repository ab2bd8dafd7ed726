"""Pairs are set up from their tables, predictors scored as by hand, and rivals given every help."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from extrabitter import selection


def made_up(rows: list[tuple[str, int, float, float, float, float, float]]) -> pd.DataFrame:
    """Pairs from (model, seed, before, change, advantage, half of its interval, contrast)."""
    return pd.DataFrame(
        [
            {
                "model": model,
                "seed": seed,
                "behaviour": "search",
                "before": before,
                "after": before + change,
                "change": change,
                "advantage": advantage,
                "lower": advantage - half,
                "upper": advantage + half,
                "contrast": contrast,
                "counts": 0.01 < before < 0.99 and abs(advantage) > half,
            }
            for model, seed, before, change, advantage, half, contrast in rows
        ]
    )


PAIRS = made_up(
    [
        ("a", 0, 0.10, 0.5, 0.3, 0.1, -0.2),
        ("b", 0, 0.80, -0.2, -0.3, 0.1, 0.2),
        ("c", 0, 0.50, 0.2, 0.3, 0.1, 0.1),
        ("a", 1, 0.20, 0.3, -0.3, 0.1, 0.1),
        ("d", 1, 0.60, 0.3, 0.1, 0.2, 0.1),  # advantage not known in sign
        ("e", 1, 0.005, 0.3, 0.3, 0.1, 0.1),  # too rare before RL
    ]
)


def test_predictors_are_scored_on_the_pairs_that_count() -> None:
    found = selection.hits(PAIRS)
    assert found["cluster"].tolist() == ["a 0", "b 0", "c 0", "a 1"]
    assert found["advantage"].tolist() == [True, True, True, False]
    assert found["contrast"].tolist() == [False, False, True, True]
    assert found["majority"].tolist() == [True, False, True, True]
    # The best rule by frequency here is that everything grows: no cut does better.
    assert found["frequency"].sum() == 3
    assert selection.best_rival(found) in ("majority", "frequency")


def test_misses_are_counted_behaviour_by_behaviour() -> None:
    assert selection.missed_by_behaviour(PAIRS) == {"search": (1, 4)}
    both = PAIRS.assign(behaviour=["search", "checking", "checking", "checking", "search", "search"])
    assert selection.missed_by_behaviour(both) == {"search": (0, 1), "checking": (1, 3)}
    assert selection.missed_by_behaviour(PAIRS[:0]) == {}


def test_going_back_is_weighed_where_the_model_does_it() -> None:
    cells = [  # first attempt hit, goes back, completions, of which solved
        (True, True, 2, 0),
        (True, False, 2, 2),
        (False, True, 6, 3),
        (False, False, 2, 0),
    ]
    rows = [
        {"arm": "a", "first_attempt_hit": hit, "backtracking_count": int(back), "correct": index < solved}
        for hit, back, count, solved in cells
        for index in range(count)
    ]
    unread = {"arm": "a", "first_attempt_hit": None, "backtracking_count": 1, "correct": True}
    never = [{"arm": "b", "first_attempt_hit": True, "backtracking_count": 0, "correct": True}]
    found = selection.going_back(pd.DataFrame([*rows, unread, *never])).set_index("arm")
    assert found.loc["a", ["from_hit", "from_miss"]].tolist() == [0.5, 0.75]
    assert found.loc["a", "worth"] == pytest.approx((2 * -1 + 6 * 0.5) / 8)
    assert selection.going_back(pd.DataFrame()).empty
    assert found.loc["b", "from_hit"] == 0 and found.loc["b", ["from_miss", "worth"]].isna().all()


def test_agreement_is_over_models_and_the_lead_over_seeds() -> None:
    found = selection.hits(PAIRS)
    agreement, lead = selection.of_agreement(found), selection.of_lead(found)
    assert agreement.num_seeds == 2 and agreement.value == 0.75
    assert agreement.lower < 0.75 < agreement.upper <= 1
    assert lead.value == pytest.approx(((1 - 2 / 3) + (0 - 1)) / 2)


def test_models_that_all_agree_are_not_certainty() -> None:
    found = pd.DataFrame({"cluster": [f"m{i % 6} 0" for i in range(30)], "seed": 0, "advantage": True})
    share = selection.of_agreement(found)
    assert share.value == 1.0 and share.lower == pytest.approx(6 / (6 + 1.96**2), abs=1e-3)
    # Its p-value is that of its interval, so that Holm's method can judge it.
    assert share.p_value(share.lower, above=True) == pytest.approx(0.025)
    assert share.p_value(0.5, above=True) < 0.025 < share.p_value(0.8, above=True)


def test_a_claim_needs_seeds_with_every_model() -> None:
    rows = [(model, seed, 0.2, 0.5, 0.3, 0.1, 0.1) for model in selection.MODELS for seed in (0, 1)]
    pairs = made_up(rows)
    assert set(selection.whole_seeds(pairs)["seed"]) == {0, 1}
    assert set(selection.whole_seeds(pairs.iloc[:-1])["seed"]) == {0}
    assert selection.whole_seeds(pairs[pairs["model"] != "rich"]).empty


def test_what_did_not_move_is_hit_by_no_predictor() -> None:
    found = selection.hits(made_up([("a", 0, 0.5, 0.0, 0.3, 0.1, 0.1)]))
    assert not found[list(selection.PREDICTORS)].to_numpy().any()


def test_without_pairs_nothing_is_measured() -> None:
    found = selection.hits(PAIRS.iloc[:0])
    assert not selection.of_agreement(found).measured and not selection.of_lead(found).measured


def test_pairs_come_from_probe_and_evaluations() -> None:
    probed = pd.DataFrame(
        [
            {"arm": arm, "seed": 0, "behaviour": behaviour, "advantage": 0.2, "advantage_lower": 0.1}
            | {"advantage_upper": 0.3}
            for arm in ("probe_rich", "probe_sft_filler", "probe_latent")
            for behaviour in ("search", "verification")
        ]
    )
    arms = ("base_rich", "grpo_rich", "sft_filler", "grpo_sft_filler", "base_latent")
    summary = pd.DataFrame(
        [
            (arm, 0, measure, 0.9 if arm.startswith("grpo_") else 0.5)
            for arm in arms
            for measure in ("frac_searches", "frac_with_verification")
        ],
        columns=["arm", "seed", "measure", "value"],
    )
    completions = pd.DataFrame(
        {
            "arm": "base_rich",
            "seed": 0,
            "correct": [True, False, True, True],
            "verification_count": [1, 1, 0, 0],
            "backtracking_count": [0, 0, 0, 1],
        }
    )
    primed = completions.assign(arm="sft_filler", verification_count=0, backtracking_count=0)
    pairs = selection.all_pairs(probed, summary, pd.concat([completions, primed])).set_index(
        ["model", "behaviour"]
    )
    assert set(pairs.index.get_level_values("model")) == {"rich", "sft_filler"}  # no latent after RL
    assert pairs.at[("rich", "search"), "contrast"] == pytest.approx(2 / 3 - 1)
    assert pairs.at[("rich", "verification"), "contrast"] == pytest.approx(0.5 - 1)
    assert np.isnan(pairs.at[("sft_filler", "search"), "contrast"])
    assert pairs["change"].to_list() == pytest.approx([0.4] * 4)
    # Search is made of checking: where that counts, it does not count again.
    assert pairs["counts"].to_list() == [False, True, False, True]
