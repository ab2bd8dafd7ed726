"""A base that chokes: the same RL on bases that answer, derive or search, to the same number of tokens."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from extrabitter.experiments.equal_cost import CHECKED, ENUMERATOR, lead
from extrabitter.pages import plots
from extrabitter.pages.text import percent, percent_interval
from extrabitter.statistics import Estimate, of_difference, of_measure, over_seed_values

BANDS: dict[str, str] = {"people5": "one island", "islands44": "two islands"}
MODELS = ("searcher", "deriver", "silenced", "guesser", "mute")
RIVALS = ("deriver", "silenced", "guesser")  # of the searcher, at the tokens of its tests


def findings(
    summary: pd.DataFrame, curves: pd.DataFrame, costs: Mapping[str, pd.DataFrame]
) -> dict[str, Estimate]:
    """Return what is found by name, each over seeds; a name ends in the band of its problems where it has one.

    `summary` is the store's table, `curves` that of `equal_cost.training_curves`, `costs` by band that of
    `equal_cost.equal_cost`. `<model>_<band>` is what is solved after RL, `start_…` before it, `gain_…` the difference,
    `over_…` the searcher's lead, and `lead_…` its lead at equal test tokens over a rival whom somebody checks.
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
            name = ENUMERATOR if rival == ENUMERATOR else plots.model_of(rival)
            found[f"lead_{name}_{band}"] = lead(costs[band], rival, CHECKED)
    for when in ("before", "after"):
        own, other = f"{when}_guesser_train", f"{when}_guesser_test"
        found[f"{when}_own"] = of_measure(summary, own, "pass@1")
        found[f"{when}_new"] = of_measure(summary, other, "pass@1")
        found[f"{when}_own_less_new"] = of_difference(summary, own, other)
    steps = curves[curves["arm"] == "guesser"].groupby("seed")
    found["informative"] = over_seed_values(steps["frac_informative_groups"].mean())
    return found


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
