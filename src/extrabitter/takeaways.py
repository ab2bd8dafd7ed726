"""What a figure shows, in one sentence for its caption, and how much stands behind it: tables in, text out.

Every sentence is written from the numbers it is about. Where they do not decide, or are not there, it says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd

from extrabitter import fitted_dynamics, selection
from extrabitter.calibration import PROBE
from extrabitter.estimates import Estimate, of_difference, of_measure, over_seed_values
from extrabitter.figure_style import arm_label
from extrabitter.fitted_dynamics import DYNAMICS, NO_CHANGE
from extrabitter.reporting import (
    CLAIM_SEEDS,
    decimal,
    decimal_interval,
    number_word,
    percent,
    percent_interval,
    spell,
    spell_seeds,
)

PLAIN_DECODER = "temperature 1"  # as in RL, and as `decoding` calls it, which imports torch
MOST = 0.5  # of completions search

# How search is forced in the arms of the base that searches only when cued.
PLAIN, WEIGHTED, FORCED = "grpo_latent", "grpo_latent_weighted", "grpo_latent_forced"
_FORCING = {PLAIN: "under plain RL", WEIGHTED: "forced and weighted back", FORCED: "forced without a weight"}

_PARTS = {  # what can rise with accuracy: its measure, what that is called on pages, and how it is written
    "mean_attempts": ("longer search", "m", decimal),
    "first_attempt_hit_rate": ("better first guesses", "first attempts that hit", percent),
    "hit_rate": ("more hits per attempt", "h", percent),
    "verdict_accuracy": ("truer verdicts", "v", percent),
}


def counted(values: Iterable[float], noun: str) -> str:
    """Write how many of a thing there were, as a range where that differs.

    >>> counted([4800, 9600], "completion"), counted([8, 8], "problem"), counted([], "problem")
    ('4,800 to 9,600 completions', 'eight problems', 'no problems')
    """
    numbers = [int(value) for value in values]
    if not numbers:
        return f"no {noun}s"
    low, high = min(numbers), max(numbers)
    if low == high:
        return spell(low, noun) if low < 1000 else f"{low:,} {noun}s"
    return f"{low:,} to {high:,} {noun}s"


def _of(count: int) -> str:
    """Write a count before "of": "none of two"."""
    return number_word(count) if count else "none"


def seeds_an_arm(runs: pd.DataFrame, noun: str = "arm") -> str:
    """Count the seeds behind each arm of a table with columns `arm` and `seed`, with a caution where they are few.

    >>> seeds_an_arm(pd.DataFrame({"arm": ["rich"] * 5 + ["absent"], "seed": [0, 1, 2, 3, 4, 0]}), "base")
    'one to five seeds a base, exploratory below five'
    """
    if runs.empty:
        return "no complete run"
    each = runs.groupby("arm")["seed"].nunique()
    article = "an" if noun[0] in "aeiou" else "a"
    few = f", exploratory below {number_word(CLAIM_SEEDS)}" if each.min() < CLAIM_SEEDS else ""
    return f"{spell_seeds(runs)} {article} {noun}{few}"


def of_take_off(found: pd.DataFrame) -> str:
    """Say how completions drawn until take-off follow the chance, beside the line of a constant product.

    `found` is of `dose.take_off`. A line through logarithms is fitted seed by seed, to the runs that took off.
    """
    if found.empty:
        return "No run was made whose time to take off could be compared."
    off = found[found["step"].notna()]
    took = f"{_of(len(off)).capitalize()} of {spell(len(found), 'run')} took off"
    slope = over_seed_values(
        _slope(run["chance"], run["product"]) - 1 for _, run in off[off["chance"] > 0].groupby("seed")
    )
    if not slope.measured:
        return f"{took}; no seed has two of them to say how the time follows the chance."
    fold = Estimate(
        10**slope.value, float(10**slope.lower), float(10**slope.upper), slope.num_seeds, slope.tails
    )
    said = (
        f"{took}; among them, ten times the chance goes with {decimal_interval(fold)} times the completions drawn "
        "until take-off"
    )
    if slope.num_seeds < 2:
        return f"{said}, from one seed, which does not tell whether that is the line’s tenth."
    over = f"{said} (95 % interval over {spell(slope.num_seeds, 'seed')})"
    if len(off) < len(found):  # late or never: mostly those with a small chance
        over += ", the others left out, which flattens this"
    if slope.lower > -1:
        return f"{over}: more than the line’s tenth, so that among them a rarer start costs less than in proportion."
    if slope.upper < -1:
        return f"{over}: less than the line’s tenth, so that among them a rarer start costs more than in proportion."
    return f"{over}, which includes the line’s tenth."


def _slope(chance: pd.Series, product: pd.Series) -> float:
    """Slope of log product on log chance; NaN where there are not two chances."""
    if chance.nunique() < 2:
        return float("nan")
    return float(np.polyfit(np.log10(chance.to_numpy(float)), np.log10(product.to_numpy(float)), 1)[0])


def of_decoders(decoding: pd.DataFrame, arms: Sequence[str]) -> str:
    """Say which decoder lifts the chance to search the most, and which make it exactly nought.

    `decoding` are collected tables of probes. Means are over seeds, as in the figure; bases whose plain chance is
    nought have nothing to lift or to lose.
    """
    rows = decoding[decoding["arm"].isin(list(arms))].dropna(subset="value")
    means = rows.groupby(["decoder", "arm"], sort=False)["value"].mean().unstack("arm")
    if PLAIN_DECODER not in means.index or not (means.loc[PLAIN_DECODER] > 0).any():
        return "No base with a chance to begin a search was probed."
    means = means.loc[:, means.loc[PLAIN_DECODER] > 0]
    others = means.drop(index=PLAIN_DECODER)
    if others.empty:
        return f"Only {PLAIN_DECODER} was measured."
    factors = others / means.loc[PLAIN_DECODER]
    best = str(factors.median(axis=1).idxmax())
    fold = factors.loc[best].astype(float).dropna()
    low, high = float(fold.to_numpy().min()), float(fold.to_numpy().max())
    by = (
        _factor(low) if _factor(low) == _factor(high) else f"{_factor(low)} (least) to {_factor(high)} (most)"
    )
    lost = (others == 0).sum(axis=1)
    lost = lost[lost > 0]
    noughts = (
        "; it is exactly nought under "
        + ", ".join(f"{decoder} ({number_word(int(count))})" for decoder, count in lost.items())
        + f" of {spell(len(means.columns), 'base')}"
        if len(lost)
        else "; under none is it exactly nought"
    )
    return f"Against {PLAIN_DECODER}, {best} multiplies the median base’s chance by the most, {by}{noughts}."


def _factor(value: float) -> str:
    """Write a factor, without decimals where it is large."""
    return f"{value:,.0f}" if value >= 100 else decimal(value, 1 if value >= 1 else 2)


def of_selection(found: pd.DataFrame) -> str:
    """Say in how many pairs the advantage had the direction right, and whether a simpler predictor does as well.

    `found` is of `selection.hits`; the lead's interval is over seeds.
    """
    if found.empty:
        return "No pair counts here."
    right, rival = (int(found[name].sum()) for name in ("advantage", selection.best_rival(found)))
    said = (
        f"The advantage had the direction right in {right} of {spell(len(found), 'mark')} that count, the best of "
        f"{number_word(len(selection.PREDICTORS) - 1)} simpler predictors in {rival}"
    )
    lead = selection.of_lead(found)
    if lead.num_seeds < 2:
        return f"{said}; one seed does not rank the two."
    if lead.lower > 0:
        return f"{said}; over seeds the advantage is ahead."
    if lead.upper < 0:
        return f"{said}; over seeds the advantage is behind."
    return f"{said}; over seeds neither is ahead."


def judged_runs(table: pd.DataFrame, arms: Sequence[str] | None = None) -> pd.DataFrame:
    """Return arm and seed of the runs for which every dynamics has an error; `table` is of `fitted_dynamics.judged`."""
    rows = table[table["dynamics"].isin(list(DYNAMICS))]
    rows = rows if arms is None else rows[rows["arm"].isin(list(arms))]
    errors = rows.assign(known=rows["error"].notna()).groupby(["arm", "seed"], sort=False)["known"].all()
    return errors[errors.astype(bool)].index.to_frame(index=False)


def of_dynamics(fits: pd.DataFrame) -> str:
    """Say which curve misses unseen steps by least, whether the rule calls it closest, and what the null shows.

    `fits` is of `fitted_dynamics.judged`; the null is part of no average.
    """
    null = fits["arm"] == fitted_dynamics.NULL
    least = _least_error(fits[~null])
    if not least:
        return "No run could be fitted and judged."
    runs = judged_runs(fits[~null])
    closest = fitted_dynamics.closest(fits[~null])
    error = percent_interval(fitted_dynamics.of_error(fits[~null], least))
    said = (
        f"Over all {spell(len(runs), 'run')} of {spell(runs['arm'].nunique(), 'arm')} that could be judged, “{least}” "
        f"misses the steps that were not fitted by least, {error} of completions, and by the rule "
        + ("it is closest" if closest else "none is closest")
    )
    of_null = _least_error(fits[null])
    return said + (f"; where rewards are permuted, “{of_null}” misses by least." if of_null else ".")


def _least_error(table: pd.DataFrame) -> str:
    """Name what misses by least; empty where nothing was judged."""
    errors = {name: fitted_dynamics.of_error(table, name) for name in (*DYNAMICS, NO_CHANGE)}
    known = {name: error.value for name, error in errors.items() if error.measured}
    return min(known, key=lambda name: known[name]) if known else ""


def of_forecasts(scores: pd.DataFrame) -> str:
    """Say how far forecasts are off beside the best single number, and whether they rank models.

    `scores` is of `calibration.scores`.
    """
    rows = scores.itertuples(index=False, name=None)
    known = {str(name): (float(error), rank) for name, error, rank in rows if not pd.isna(error)}
    if PROBE not in known:
        return "Too few models were probed and trained for a forecast."
    error, rank = known[PROBE]
    off = f"Forecasts are off by {decimal(100 * error, 1)} points on average"
    rivals = {name: error for name, (error, _) in known.items() if name != PROBE}
    if rivals:
        best = min(rivals, key=lambda name: rivals[name])
        off += f", those from the best single number ({best}) by {decimal(100 * rivals[best], 1)}"
    if not rank.measured:
        return f"{off}; too few models of one seed are there to rank."
    ranks = f"{off}; their rank correlation with what RL reached is {decimal_interval(rank)}"
    if rank.num_seeds < 2:
        return f"{ranks}, from one seed."
    over = f"{ranks}, 95 % interval over {spell(rank.num_seeds, 'seed')}"
    if rank.lower > 0:
        return f"{over}: they rank models."
    if rank.upper < 0:
        return f"{over}: they rank models the wrong way round."
    return f"{over}: that they rank models is not shown."


def of_forcing(summary: pd.DataFrame, arms: Sequence[str] = (PLAIN, WEIGHTED, FORCED)) -> str:
    """Say in how many runs most completions search after RL, and where taking down the sampler's wall was enough.

    `summary` are collected tables of evaluations, in which nothing is forced.
    """
    rows = summary[(summary["measure"] == "frac_searches") & summary["arm"].isin(list(arms))]
    most = {
        arm: rows[rows["arm"] == arm].set_index("seed")["value"] > MOST
        for arm in arms
        if (rows["arm"] == arm).any()
    }
    if not most:
        return "No run of these arms was evaluated."
    counts = ", ".join(
        f"{_of(int(found.sum()))} of {spell(len(found), 'run')} {_FORCING.get(arm, arm_label(arm))}"
        for arm, found in most.items()
    )
    said = f"Tested with nothing forced, most completions search after RL in {counts}"
    if not {PLAIN, WEIGHTED} <= set(most):
        return f"{said}; these runs do not tell the sampler’s wall from the gradient’s."
    both = most[PLAIN].index.intersection(most[WEIGHTED].index)
    silent = [seed for seed in both if not most[PLAIN][seed]]
    if not silent:
        return f"{said}; plain RL got there in each seed, so that no wall can be told."
    enough = sum(bool(most[WEIGHTED][seed]) for seed in silent)
    return (
        f"{said}; of {spell(len(silent), 'seed')} in which plain RL did not get there, taking down the sampler’s "
        f"wall alone was enough in {_of(enough)}."
    )


def of_gain(summary: pd.DataFrame, completions: pd.DataFrame, before: str, after: str) -> str:
    """Say with which rises a model's gain under RL came: search, guesses, hits, verdicts; collected tables in.

    A rise is a difference paired by seed and problem whose interval lies above nought.
    """
    model, gain = f"“{arm_label(after)}”", of_difference(completions, after, before, "pass@1")
    if not gain.measured:
        return f"{model} was not measured both before and after RL."
    solved = _from_to(summary, before, after, "pass@1", percent)
    if not gain.lower > 0:
        return (
            f"RL took {model} {solved} of unseen problems solved; by the interval of the paired difference that is no "
            "gain to split."
        )
    risen: list[str] = []
    others: list[str] = []
    missing: list[str] = []
    for measure, (rise, what, write) in _PARTS.items():
        change = of_difference(completions, after, before, measure)
        if not change.measured:
            missing.append(rise)
            continue
        part = f"{rise} ({what} {_from_to(summary, before, after, measure, write)})"
        (risen if change.lower > 0 else others).append(part)
    said = f"What {model} gained under RL ({solved} of unseen problems solved) came with "
    said += _listed(risen, "and") if risen else "none of what could have risen"
    if others:
        said += f", {'but' if risen else 'that is,'} not with {_listed(others, 'or')}"
    return f"{said}; for {_listed(missing, 'and')} there is nothing to compare." if missing else f"{said}."


def _from_to(
    summary: pd.DataFrame, before: str, after: str, measure: str, write: Callable[[float], str]
) -> str:
    """Write where a measure stood before and after, means over seeds."""
    start, end = (of_measure(summary, arm, measure).value for arm in (before, after))
    return f"from {write(start)} to {write(end)}"


def _listed(parts: Sequence[str], last: str) -> str:
    """Join parts by commas, and the last by a word: "a, b and c"."""
    *first, end = parts
    return f"{', '.join(first)} {last} {end}" if first else end
