"""What RL selects: the sign of a behaviour's interventional advantage against what RL did to its share.

A *pair* is a model before RL and a behaviour. It counts where the behaviour is neither absent nor universal before RL
and its advantage is known in sign. Search as a whole counts only where neither checking nor going back does: it is
made of them. Three simpler predictors stand beside the advantage: that everything goes the way
most things go; that what is frequent grows; and the observational contrast, success with the behaviour minus
success without it in completions as they come, which confuses what a behaviour does with when it is chosen.
The two whose rule has to be fitted (majority, frequency) are fitted to the very pairs they are scored on: a rival
gets every help.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from extrabitter.arms import arm_before
from extrabitter.behaviours import MEASURES
from extrabitter.dose import RUNGS
from extrabitter.estimates import MISSING, Estimate, over_seed_values
from extrabitter.metrics import bootstrap_interval, wilson_interval
from extrabitter.seeding import derive_seed

# What a seed has to have for a claim; a seed without one of them is missing.
MODELS = (
    "absent",
    "latent",
    "cosmetic",
    *RUNGS,
    "sft_direct",
    "sft_filler",
    "sft_verification_backtracking",
    "sft_all_behaviours",
    "sft_incorrect",
    "sft_cosmetic",
    "sft_mixed",
    "sft_mixed_cosmetic",
    "sft_subgoal_setting",
    "sft_backward_chaining",
)
RANGE = (0.01, 0.99)  # share of completions before RL, open
BEHAVIOUR_MEASURES = {
    "search": "frac_searches",
    "verification": "frac_with_verification",
    "backtracking": "frac_with_backtracking",
    "subgoal_setting": "frac_with_subgoal_setting",
    "backward_chaining": "frac_with_backward_chaining",
}
PREDICTORS = {
    "advantage": "interventional advantage",
    "majority": "majority direction",
    "frequency": "initial rate",
    "contrast": "observational contrast",
}


def all_pairs(probed: pd.DataFrame, summary: pd.DataFrame, completions: pd.DataFrame) -> pd.DataFrame:
    """Set each behaviour's advantage beside its share before and after RL; one row a model, seed and behaviour.

    `probed` are collected tables `probe_behaviours` of arms like probe_rich; `summary` and `completions` are those of
    evaluations. Columns: model, seed, behaviour, before, after, change, advantage, lower, upper, contrast, counts.
    """
    shares = summary.set_index(["arm", "seed", "measure"])["value"]
    own = dict(iter(completions.groupby(["arm", "seed"])))
    rows = []
    for probe in probed.itertuples(index=False):
        model, behaviour = str(probe.arm).removeprefix("probe_"), str(probe.behaviour)
        seed = int(str(probe.seed))
        start = arm_before(model)
        measure = BEHAVIOUR_MEASURES[behaviour]
        keys = [(arm, seed, measure) for arm in (start, f"grpo_{model}")]
        if not all(key in shares.index for key in keys):
            continue
        before, after = (float(shares[key]) for key in keys)
        advantage, lower, upper = (
            float(str(value)) for value in (probe.advantage, probe.advantage_lower, probe.advantage_upper)
        )
        rows.append(
            {
                "model": model,
                "seed": seed,
                "behaviour": behaviour,
                "before": before,
                "after": after,
                "change": after - before,
                "advantage": advantage,
                "lower": lower,
                "upper": upper,
                "contrast": _contrast(own[start, seed], measure),
                "counts": RANGE[0] < before < RANGE[1] and (lower > 0 or upper < 0),
            }
        )
    columns = ["model", "seed", "behaviour", "before", "after", "change", "advantage", "lower", "upper"]
    pairs = pd.DataFrame(rows, columns=[*columns, "contrast", "counts"])
    parts = pairs[pairs["behaviour"].isin(("verification", "backtracking")) & pairs["counts"].astype(bool)]
    counted = set(zip(parts["model"], parts["seed"], strict=True))
    twice = [key in counted for key in zip(pairs["model"], pairs["seed"], strict=True)]
    pairs.loc[(pairs["behaviour"] == "search") & np.array(twice, dtype=bool), "counts"] = False
    return pairs


def _contrast(completions: pd.DataFrame, measure: str) -> float:
    """Success in completions that show a behaviour minus success in those that do not; NaN where all or none do."""
    shows = np.asarray(MEASURES[measure].numerator(completions), dtype=float) > 0
    if shows.all() or not shows.any():
        return float("nan")
    correct = completions["correct"].to_numpy(float)
    return float(correct[shows].mean() - correct[~shows].mean())


def hits(pairs: pd.DataFrame) -> pd.DataFrame:
    """Tell of every pair that counts which predictors had its direction right: columns seed, cluster, predictors.

    `cluster` names the model and seed, whose pairs belong together. A change of exactly nought is hit by none.
    """
    counted = pairs[pairs["counts"].astype(bool)]
    direction = np.sign(counted["change"].to_numpy(float))
    before = counted["before"].to_numpy(float)
    cuts = [-np.inf, *np.unique(before)]
    predicted = {
        "advantage": np.sign(counted["advantage"].to_numpy(float)),
        "majority": np.full(len(counted), 1.0 if (direction > 0).sum() >= (direction < 0).sum() else -1.0),
        "frequency": max(
            (np.where(before > cut, 1.0, -1.0) for cut in cuts),
            key=lambda rule: int((rule == direction).sum()),
        ),
        "contrast": np.sign(counted["contrast"].to_numpy(float)),
    }
    table = pd.DataFrame({"seed": counted["seed"].to_numpy()})
    table["cluster"] = (counted["model"] + " " + counted["seed"].astype(str)).to_numpy()
    for name, rule in predicted.items():
        table[name] = (rule == direction) & (direction != 0)
    return table


def going_back(completions: pd.DataFrame) -> pd.DataFrame:
    """Tell where models go back, and what solving does where they do; one row an arm, over its seeds.

    Columns: from_hit and from_miss, the shares of completions whose first attempt hit, or missed, that go back; and
    worth, the success of those that go back minus that of the others, compared within hits and within misses and
    averaged by where the model goes back. NaN where there is nothing to compare.
    """
    columns = ["arm", "from_hit", "from_miss", "worth"]
    if completions.empty:  # without a run there are no columns either
        return pd.DataFrame(columns=columns)
    rows = completions[completions["first_attempt_hit"].notna()]
    hit = rows["first_attempt_hit"].astype(bool)
    rows = rows.assign(hit=hit, back=rows["backtracking_count"] > 0)
    found = []
    for arm, own in rows.groupby("arm", sort=False):
        cells = own.groupby(["hit", "back"])["correct"].agg(["mean", "size"]).astype(float)
        solved = cells["mean"].unstack("back").reindex(index=[False, True], columns=[False, True])
        sizes = cells["size"].unstack("back").reindex(index=[False, True], columns=[False, True]).fillna(0)
        shares = sizes[True] / sizes.sum(axis=1).where(lambda size: size > 0)
        backs = sizes[True] > 0
        differences = (solved[True] - solved[False])[backs]
        worth = float(np.average(differences, weights=sizes[True][backs])) if backs.any() else float("nan")
        found.append((arm, shares[True], shares[False], worth))
    return pd.DataFrame(found, columns=columns)


def missed_by_behaviour(pairs: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """Count, of each behaviour's pairs that count, those whose direction the advantage did not have: (missed, all)."""
    counted = pairs[pairs["counts"].astype(bool)]
    wrong = ~hits(pairs)["advantage"].to_numpy(bool)
    return {
        str(behaviour): (int(wrong[rows].sum()), len(rows))
        for behaviour, rows in counted.reset_index(drop=True).groupby("behaviour", sort=False).indices.items()
    }


def of_agreement(found: pd.DataFrame, predictor: str = "advantage") -> Estimate:
    """Estimate the share of pairs whose direction a predictor had right; `found` is of `hits`.

    The bootstrap resamples models, each with its seed. Where all of them agree it sees no spread: the interval is then
    as wide as Wilson's for as many trials as there are models.
    """
    if found.empty:
        return MISSING
    sums = found.groupby("cluster")[predictor].agg(["sum", "size"]).to_numpy(float)
    rng = np.random.default_rng(derive_seed(0, "selection", predictor))
    drawn = bootstrap_interval(sums, rng, lambda draw: float(draw[:, 0].sum() / draw[:, 1].sum()))
    wilson = wilson_interval(drawn.value * len(sums), len(sums))
    return Estimate(
        drawn.value,
        min(drawn.lower, wilson.lower),
        max(drawn.upper, wilson.upper),
        found["seed"].nunique(),
        tails="normal",
    )


def of_lead(found: pd.DataFrame) -> Estimate:
    """Estimate the advantage's share minus that of the best rival over all pairs; interval over seeds."""
    if found.empty:
        return MISSING
    lead = found["advantage"].astype(float) - found[best_rival(found)].astype(float)
    return over_seed_values(lead.groupby(found["seed"]).mean())


def whole_seeds(pairs: pd.DataFrame) -> pd.DataFrame:
    """Keep the seeds of `all_pairs` that have every model of `MODELS`."""
    whole = [seed for seed, run in pairs.groupby("seed") if set(MODELS) <= set(run["model"])]
    return pairs[pairs["seed"].isin(whole) & pairs["model"].isin(MODELS)]


def best_rival(found: pd.DataFrame) -> str:
    """Return the predictor, other than the advantage, that had the most pairs right."""
    rivals = [name for name in PREDICTORS if name != "advantage"]
    return max(rivals, key=lambda name: float(found[name].to_numpy(float).sum()))
