"""A base that chokes: the same RL on bases that answer, derive or search, to the same number of tokens."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from extrabitter.experiments import taste_test
from extrabitter.experiments.equal_cost import CHECKED, ENUMERATOR, equal_cost, lead
from extrabitter.pages import plots
from extrabitter.pages.text import percent
from extrabitter.statistics import Estimate, of_difference, of_measure, over_seed_values
from extrabitter.tasks import Task

BANDS = ("people5", "islands44")  # one island, and two
TRIES = 8
RIVALS = ("deriver", "silenced", "guesser")  # of the searcher, at the tokens of its tests
TABLES = ("summary", "pass_at_k", "steps", "completions")
HEADLINE = ("over_deriver_islands44", "gain_guesser_islands44", "least_islands44", "deriver_people5")


def findings(
    summary: pd.DataFrame, tries: pd.DataFrame, steps: pd.DataFrame, costs: Mapping[str, pd.DataFrame]
) -> dict[str, Estimate]:
    """Return what is found by name, each over seeds; a name ends in the band of its problems where it has one.

    `summary`, `tries` and `steps` are the store's tables summary, pass_at_k and steps, `costs` of `costs_by_band`. To
    `taste_test.findings` come `lead_<rival>`, the searcher's lead at equal test tokens over a rival whom somebody
    checks, and `least`, that over the best of them; of the guesser, what it solves of its own training puzzles and of
    new ones of their kind, in TRIES tries, and how many of its groups carry a signal.
    """
    found: dict[str, Estimate] = {}
    for band in BANDS:
        found |= taste_test.findings(summary, f"_{band}")
        for rival in (*(f"after_{model}_{band}" for model in RIVALS), ENUMERATOR):
            found[f"lead_{plots.model_of(rival)}_{band}"] = lead(costs[band], rival, CHECKED)
        found[f"least_{band}"] = least_lead(costs[band])
    by_seed: dict[str, pd.Series] = {}
    for when in ("before", "after"):
        found[f"{when}_own"] = of_measure(summary, f"{when}_guesser_train", "pass@1")
        found[f"{when}_new"] = of_measure(summary, f"{when}_guesser_test", "pass@1")
        own = tries[(tries["arm"] == f"{when}_guesser_people5") & (tries["k"] == TRIES)]
        by_seed[when] = own.set_index("seed")["value"]
        found[f"tries_{when}"] = over_seed_values(by_seed[when])
    found["tries_lost"] = over_seed_values((by_seed["before"] - by_seed["after"]).dropna())
    found["gain_own"] = of_difference(summary, "after_guesser_train", "before_guesser_train")
    runs = steps[steps["arm"] == "guesser"].groupby("seed")
    found["informative"] = over_seed_values(runs["frac_informative_groups"].mean())
    return found


def least_lead(costs: pd.DataFrame) -> Estimate:
    """Estimate the searcher's lead over the best of its checked rivals, of a band's table of `equal_cost`.

    The best is picked seed by seed and with hindsight, which favours the rivals: their luck counts, the searcher's not.
    """
    return over_seed_values(costs[costs["method"] == CHECKED].groupby("seed")["gap"].min())


def costs_by_band(completions: pd.DataFrame, task: Task) -> dict[str, pd.DataFrame]:
    """Return the table of `equal_cost.equal_cost` by band, of the searcher and its rivals after RL."""
    arms = {band: [f"after_{model}_{band}" for model in ("searcher", *RIVALS)] for band in BANDS}
    return {band: equal_cost(completions, task, own[0], own[1:]) for band, own in arms.items()}


def cheap_table(rules: pd.DataFrame) -> pd.DataFrame:
    """Return what cheap rules solve, a row a rule, a column a band, of the table of baselines: ready-made strings."""
    said = rules.assign(value=rules["value"].map(lambda share: percent(share, 1)))
    wide = said.pivot(index="rule", columns="band", values="value")
    headings = {"people4": "four people", "people5": "five people", "islands44": "two islands"}
    return wide.loc[rules["rule"].unique(), list(headings)].rename(columns=headings).reset_index()
