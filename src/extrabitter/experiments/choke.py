"""A base that chokes: the same RL on bases that answer, derive or search, to the same number of tokens."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from extrabitter.experiments.equal_cost import CHECKED, ENUMERATOR, equal_cost, lead
from extrabitter.pages import plots
from extrabitter.pages.text import percent, percent_interval, points_interval
from extrabitter.statistics import Estimate, of_difference, of_measure, over_seed_values
from extrabitter.tasks import Task

BANDS: dict[str, str] = {"people5": "one island", "islands44": "two islands"}
MODELS = ("searcher", "deriver", "guesser", "silenced", "mute", "noisy")
TRIES = 8
RIVALS = ("deriver", "silenced", "guesser")  # of the searcher, at the tokens of its tests
HEADLINE = (
    "over_deriver_islands44",
    "gain_guesser_islands44",
    "deriver_people5",
    "deriver_islands44",
    "gain_own",
    "noisy_islands44",
)
TABLES = ("summary", "pass_at_k", "steps", "completions")
_WITH_INTERVAL = (
    "deriver_people5",
    "deriver_islands44",
    "searcher_islands44",
    "guesser_people5",
    "silenced_islands44",
)
_ALONE = (
    *("informative", "after_own", "before_new", "after_new", "start_guesser_people5"),
    *("mute_best", "mute_last", "tries_before", "tries_after"),
)
_ONE_DIGIT = ("start_noisy_people5", "noisy_people5", "start_noisy_islands44", "noisy_islands44")
_POINTS = ("best_people5", "best_islands44", "gain_own")


def findings(
    summary: pd.DataFrame, tries: pd.DataFrame, curves: pd.DataFrame, costs: Mapping[str, pd.DataFrame]
) -> dict[str, Estimate]:
    """Return what is found by name, each over seeds; a name ends in the band of its problems where it has one.

    `summary` and `tries` are the store's tables summary and pass_at_k, `curves` that of `equal_cost.training_curves`.
    `<model>_<band>` is what is solved after RL, `start_…` before it, `gain_…` the difference, `over_…` the searcher's
    lead, `lead_…` its lead at equal test tokens over a rival whom somebody checks, `best_<band>` the least of these.
    """
    found = {}
    for band in BANDS:
        for model in MODELS:
            after, before = f"after_{model}_{band}", f"before_{model}_{band}"
            found[f"{model}_{band}"] = of_measure(summary, after, "pass@1")
            found[f"start_{model}_{band}"] = of_measure(summary, before, "pass@1")
            found[f"gain_{model}_{band}"] = of_difference(summary, after, before)
            found[f"over_{model}_{band}"] = of_difference(summary, f"after_searcher_{band}", after)
        for rival in (*(f"after_{model}_{band}" for model in RIVALS), ENUMERATOR):
            found[f"lead_{plots.model_of(rival)}_{band}"] = lead(costs[band], rival, CHECKED)
        leads = [found[f"lead_{name}_{band}"] for name in (*RIVALS, ENUMERATOR)]
        found[f"best_{band}"] = min(leads, key=lambda estimate: estimate.value)
    by_seed: dict[str, pd.Series] = {}
    for when in ("before", "after"):
        found[f"{when}_own"] = of_measure(summary, f"{when}_guesser_train", "pass@1")
        found[f"{when}_new"] = of_measure(summary, f"{when}_guesser_test", "pass@1")
        own = tries[(tries["arm"] == f"{when}_guesser_people5") & (tries["k"] == TRIES)]
        by_seed[when] = own.set_index("seed")["value"]
        found[f"tries_{when}"] = over_seed_values(by_seed[when])
    found["tries_lost"] = over_seed_values((by_seed["before"] - by_seed["after"]).dropna())
    found["gain_own"] = of_difference(summary, "after_guesser_train", "before_guesser_train")
    found["mute_best"], found["mute_last"] = best_and_last(curves, "mute")
    steps = curves[curves["arm"] == "guesser"].groupby("seed")
    found["informative"] = over_seed_values(steps["frac_informative_groups"].mean())
    return found


def least_lead(costs: pd.DataFrame) -> Estimate:
    """Estimate the searcher's lead over the best of its checked rivals, of a band's table of `equal_cost`.

    The best is picked seed by seed and with hindsight, which favours the rivals: their luck counts, the searcher's not.
    """
    return over_seed_values(costs[costs["method"] == CHECKED].groupby("seed")["gap"].min())


def said(found: Mapping[str, Estimate]) -> dict[str, str]:
    """Return what the page says in numbers, of `findings`, as ready-made strings by name."""
    texts = {key: percent_interval(found[key]) for key in _WITH_INTERVAL}
    texts |= {key: percent(found[key].value) for key in _ALONE}
    texts |= {key: percent(found[key].value, 1) for key in _ONE_DIGIT}
    return texts | {key: points_interval(found[key]) for key in _POINTS}


def costs_by_band(completions: pd.DataFrame, task: Task) -> dict[str, pd.DataFrame]:
    """Return the table of `equal_cost.equal_cost` by band, of the searcher and its rivals after RL."""
    costs = {}
    for band in BANDS:
        searcher, *rivals = (f"after_{model}_{band}" for model in ("searcher", *RIVALS))
        costs[band] = equal_cost(completions, task, searcher, rivals)
    return costs


def cheap_table(rules: pd.DataFrame) -> pd.DataFrame:
    """Return what cheap rules solve, a row a rule, a column a band, of the table of baselines: ready-made strings."""
    said = rules.assign(value=rules["value"].map(lambda share: percent(share, 1)))
    wide = said.pivot(index="rule", columns="band", values="value")
    headings = {"people4": "four people", "people5": "five people", "islands44": "two islands"}
    return wide.loc[rules["rule"].unique(), list(headings)].rename(columns=headings).reset_index()


def solved_table(found: Mapping[str, Estimate]) -> pd.DataFrame:
    """Return what each model solves before and after RL, a row a model, of `findings`: ready-made strings.

    Fewer than three seeds have no interval that would say anything.
    """
    rows = []
    for model in MODELS:
        row = {"model": plots.describe(model).words}
        for band, said in BANDS.items():
            after = found[f"{model}_{band}"]
            row[f"{said}, before"] = percent(found[f"start_{model}_{band}"].value)
            row[f"{said}, after"] = percent_interval(after) if after.num_seeds > 2 else percent(after.value)
        rows.append(row)
    return pd.DataFrame(rows)


def best_and_last(
    curves: pd.DataFrame, arm: str, column: str = "solved", part: float = 0.05
) -> tuple[Estimate, Estimate]:
    """Estimate an arm's best value in training, and its last: means over a `part` of its steps, over seeds.

    The best of many means is a little too good to be true; whoever compares with it favours the arm.
    """
    best, last = [], []
    for _, own in curves[curves["arm"] == arm].groupby("seed"):
        means = own[column].rolling(max(1, round(part * len(own)))).mean().dropna()
        best.append(float(means.max()))
        last.append(float(means.iloc[-1]))
    return over_seed_values(best), over_seed_values(last)
