"""What is found about a base that chokes, on results small enough to be reckoned by hand."""

from __future__ import annotations

import pandas as pd
import pytest

from extrabitter.experiments.choke import BANDS, RIVALS, findings, least_lead
from extrabitter.experiments.equal_cost import CHECKED, ENUMERATOR


def steps(arm: str, solved: list[float], seed: int = 0) -> pd.DataFrame:
    table = pd.DataFrame({"step": range(1, len(solved) + 1), "solved": solved, "arm": arm, "seed": seed})
    return table.assign(frac_informative_groups=[0.0, *[1.0] * (len(solved) - 1)])


def test_findings_are_paired_by_seed_and_named_by_model_and_band() -> None:
    rows = []
    for seed in range(3):
        for place, band in enumerate(BANDS):
            for model, before, after in (
                ("searcher", 0.2, 0.9),
                ("guesser", 0.1, 0.2),
                ("silenced", 0.2, 0.1),
            ):
                for when, value in (("before", before), ("after", after)):
                    rows.append((seed, f"{when}_{model}_{band}", value - 0.1 * place + 0.01 * seed))
        rows += [(seed, "after_guesser_train", 0.3), (seed, "before_guesser_train", 0.25)]
    summary = pd.DataFrame(rows, columns=["seed", "arm", "value"])
    summary = summary.assign(measure="pass@1", lower=float("nan"), upper=float("nan"))
    costs = {}
    for band in BANDS:
        arms = [f"after_{model}_{band}" for model in RIVALS] + [ENUMERATOR]
        costs[band] = pd.concat(
            pd.DataFrame({"arm": arms, "method": CHECKED, "gap": range(len(arms)), "seed": seed})
            for seed in range(3)
        )
    tries = pd.DataFrame(
        {"seed": [0, 0, 1], "arm": "before_guesser_people5", "k": [1, 8, 8], "value": [0.1, 0.5, 0.7]}
    )
    tries = pd.concat([tries, tries[1:2].assign(arm="after_guesser_people5", value=0.2)])
    found = findings(summary, tries, pd.concat(steps("guesser", [0.1] * 4, seed) for seed in range(3)), costs)
    expected = {
        "searcher_people5": 0.91,
        "start_searcher_islands44": 0.11,
        "gain_searcher_islands44": 0.7,
        "over_guesser_people5": 0.7,
        "gain_silenced_people5": -0.1,
        "least_islands44": 0,
        "lead_guesser_islands44": RIVALS.index("guesser"),
        "lead_enumerator_people5": len(RIVALS),
        "gain_own": 0.05,
        "informative": 0.75,
        "tries_before": 0.6,
        "tries_lost": 0.3,
    }
    assert {key: found[key].value for key in expected} == pytest.approx(expected, abs=1e-9)
    assert not found["deriver_people5"].measured and not found["before_new"].measured


def test_the_least_lead_is_over_the_best_checked_rival_of_each_seed() -> None:
    rows = [(0, "a", CHECKED, 0.5), (0, "b", CHECKED, 0.3), (0, "a", "majority", 0.1)]
    rows += [(1, "a", CHECKED, 0.2), (1, "b", CHECKED, 0.6)]
    found = least_lead(pd.DataFrame(rows, columns=["seed", "arm", "method", "gap"]))
    assert (found.value, found.num_seeds) == (pytest.approx(0.25), 2)
