"""The book's claims: which arms each compares, and by which measure; measured on the tables of a results folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from extrabitter import calibration, dose, extinction, selection
from extrabitter.arms import base_of
from extrabitter.artifacts import collect_table
from extrabitter.estimates import MISSING, Estimate, of_difference, of_measure
from extrabitter.figure_style import arm_label
from extrabitter.ledger import largest_k, of_net, solved_within
from extrabitter.metrics import wilson_interval
from extrabitter.predictions import Prediction, read_predictions
from extrabitter.reporting import NOT_MEASURED, percent
from extrabitter.verdicts import Claim, together

# Of the arms a profile has, the first one here speaks in running text for priming with search; claims name theirs.
PRIMED_SEARCH = (
    "sft_verification_backtracking",
    "sft_all_behaviours",
    "sft_backtracking",
    "sft_verification",
)

TEXTS = ("prompt", "completion", "reason")  # columns of completions that no claim needs

_MEASURES = {  # what a measure is called, and the unit of its differences
    "pass@1": ("pass@1", "points"),
    "frac_searches": ("completions that search", "points"),
    "mean_attempts": ("attempts per completion", "number"),
}


@dataclass(frozen=True)
class _Difference:
    """A claim on a measure's difference between two evaluated arms."""

    key: str
    statement: str
    arm: str
    baseline: str
    measure: str = "pass@1"
    everywhere: bool = False  # every profile is asked; other claims are made where both arms were evaluated


@dataclass(frozen=True)
class _Share:
    """A claim on the share of completions that search in one evaluated arm."""

    key: str
    statement: str
    arm: str
    everywhere: bool = False


@dataclass(frozen=True)
class _Net:
    """A claim on problems gained minus problems lost within the most samples that both arms have."""

    key: str
    statement: str
    arm: str
    baseline: str


@dataclass(frozen=True)
class _Tables:
    """Collected tables of a results folder that claims are measured on."""

    completions: pd.DataFrame
    summary: pd.DataFrame
    losses: pd.DataFrame
    steps: pd.DataFrame
    probed: pd.DataFrame
    probed_pass_at_k: pd.DataFrame
    batch_sizes: Mapping[str, int]  # completions a step, by GRPO arm

    @cached_property
    def readings(self) -> pd.DataFrame:
        """Accuracy at several steps of the ladder's runs."""
        return dose.readings(self.steps, self.summary)

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """Models and behaviours of the seeds that have all of them."""
        return selection.whole_seeds(selection.all_pairs(self.probed, self.summary, self.completions))

    @cached_property
    def hits(self) -> pd.DataFrame:
        """Which predictors had the direction of those pairs right."""
        return selection.hits(self.pairs)


@dataclass(frozen=True)
class _Computed:
    """A claim on an effect that spans many runs; made where a seed has all of them."""

    key: str
    statement: str
    effect: str
    arms: Callable[[_Tables], Sequence[str]]  # whose bases' bars stand behind it
    unit: str
    measure: Callable[[_Tables], Estimate]


TAKE_OFF_ARMS = tuple(
    f"grpo_{name}"
    for name in (
        *("ladder_1", "ladder_3", "rich"),
        *("ladder_1_g32", "ladder_3_g32", "rich_g32"),
        *("ladder_3_b64", "rich_b64"),
    )
)


def _ladder_arms(_: _Tables) -> Sequence[str]:
    return [f"grpo_{rung}" for rung in dose.RUNGS]


def _selected_arms(tables: _Tables) -> Sequence[str]:
    models = tables.pairs.loc[tables.pairs["counts"].astype(bool), "model"].unique()
    return [f"grpo_{model}" for model in models]


def _probed_arms(tables: _Tables) -> Sequence[str]:
    return [f"grpo_{str(arm).removeprefix('probe_')}" for arm in tables.probed["arm"].unique()]


_CLAIMS: tuple[_Difference | _Share | _Net | _Computed, ...] = (
    _Difference(
        "search_pays",
        "After RL, the base that sometimes searches beats the one that never does",
        "grpo_rich",
        "grpo_absent",
        everywhere=True,
    ),
    _Difference(
        "knock_out",
        "Take the search words away, and much of the gain goes with them",
        "grpo_rich",
        "grpo_rich_masked",
    ),
    _Difference(
        "masked_is_absent",
        "Without its search words the searching base learns what the other one learns",
        "grpo_rich_masked",
        "grpo_absent",
    ),
    _Difference(
        "permuted_gains_nothing",
        "Rewards that say nothing bring nothing",
        "grpo_rich_permuted",
        "base_rich",
    ),
    _Share("nothing_created", "RL creates no search where the base has none", "grpo_absent", everywhere=True),
    _Difference(
        "amplified",
        "RL amplifies the search that is there",
        "grpo_rich",
        "base_rich",
        measure="frac_searches",
        everywhere=True,
    ),
    _Difference(
        "searches_longer",
        "RL makes the rich base search longer",
        "grpo_rich",
        "base_rich",
        measure="mean_attempts",
        everywhere=True,
    ),
    _Difference(
        "priming_repairs",
        "Priming with search traces repairs the base that never searches",
        "grpo_sft_verification_backtracking",
        "grpo_absent",
        everywhere=True,
    ),
    _Difference(
        "not_just_sft",
        "It is the search in the traces, not just the steps of priming",
        "grpo_sft_verification_backtracking",
        "grpo_sft_direct",
        everywhere=True,
    ),
    _Difference(
        "search_beats_filler",
        "Traces that check and go back prime better than dots as long as all four habits",
        "grpo_sft_verification_backtracking",
        "grpo_sft_filler",
    ),
    _Difference(
        "words_are_not_enough",
        "The words of search with a coin for a judge do not prime",
        "grpo_sft_verification_backtracking",
        "grpo_sft_cosmetic",
    ),
    _Difference(
        "wrong_answers_cost_little",
        "Traces need not end in right answers",
        "grpo_sft_incorrect",
        "grpo_sft_all_behaviours",
    ),
    _Share(
        "plain_stays_silent",
        "A base that searches only when cued does not begin to under RL without the cue",
        "grpo_latent",
    ),
    _Share(
        "forced_takes_off",
        "It begins to search when search is forced into some of its rollouts and learnt from as it is",
        "grpo_latent_forced",
    ),
    _Net(
        "absent_is_only_sharpened",
        "Where solutions are rare, RL loses more problems for the base that never searches than it gains",
        "rare_grpo_absent",
        "rare_base_absent",
    ),
    _Net(
        "rich_is_broadened",
        "Where solutions are rare, RL gains more problems for the base that searches than it loses",
        "rare_grpo_rich",
        "rare_base_rich",
    ),
    _Computed(
        "dose_is_a_threshold",
        "Accuracy after RL rises with the chance to search like a threshold, not like a line",
        "left-out squared error of the logistic below that of the line, as a share of the line's",
        _ladder_arms,
        "share",
        lambda tables: dose.of_left_out_gain(tables.readings),
    ),
    _Computed(
        "threshold_is_narrow",
        "The threshold is narrow",
        "decades of chance between 10 % and 90 % of the rise",
        _ladder_arms,
        "number",
        lambda tables: dose.of_width(tables.readings),
    ),
    _Computed(
        "threshold_moves_with_steps",
        "More steps make do with less",
        "decades by which the threshold falls for each doubling of steps",
        _ladder_arms,
        "number",
        lambda tables: dose.of_shift(tables.readings),
    ),
    _Computed(
        "take_off_collapses",
        "Search takes off when it has been drawn often enough, whatever the chance, the group and the batch",
        "largest over smallest product of take-off step, chance to search and completions a step",
        lambda _: TAKE_OFF_ARMS,
        "number",
        lambda tables: dose.of_collapse(
            dose.take_off(tables.steps, tables.summary, tables.batch_sizes, TAKE_OFF_ARMS), TAKE_OFF_ARMS
        ),
    ),
    _Computed(
        "selection_follows_advantage",
        "What becomes of a behaviour under RL follows the sign of its advantage",
        "pairs of model and behaviour in which the advantage has the sign of the change",
        _selected_arms,
        "share",
        lambda tables: selection.of_agreement(tables.hits),
    ),
    _Computed(
        "advantage_beats_simpler_predictors",
        "The advantage tells more than simpler predictors do",
        "pairs that the advantage has right, minus those of the best simpler predictor",
        _selected_arms,
        "points",
        lambda tables: selection.of_lead(tables.hits),
    ),
    _Computed(
        "tight_cap_kills_search",
        "A tight cap and a bonus for form kill the search that would have paid",
        "completions that search when accuracy has doubled, over those at the start",
        lambda _: (extinction.TIGHT_BONUS,),
        "number",
        lambda tables: extinction.of_survival(extinction.survivals(tables.steps)),
    ),
    _Computed(
        "probe_ranks_bases",
        "A probe ranks models by what RL will reach",
        "rank correlation of forecast and outcome, each model predicted by the others",
        _probed_arms,
        "number",
        lambda tables: calibration.of_rank_correlation(
            calibration.outcomes(tables.probed, tables.probed_pass_at_k, tables.summary)
        ),
    ),
)


def first_present(candidates: Sequence[str], arms: Sequence[str]) -> str:
    """Return the first candidate whose arm after RL was evaluated, or the first candidate if none was."""
    return next((name for name in candidates if f"grpo_{name}" in arms), candidates[0])


def collect_claims(results_dir: str | Path, undetermined: bool = False) -> list[Claim]:
    """Measure every claim on the tables of a results folder, and judge the primary ones together.

    With `undetermined` also those that span many runs, all of which were made, and that these leave open.
    """
    tables = _Tables(
        collect_table(results_dir, "behaviour_evaluation", "completions", without=TEXTS),
        collect_table(results_dir, "behaviour_evaluation", "summary"),
        collect_table(results_dir, "sft_priming", "losses"),
        collect_table(results_dir, "grpo", "steps"),
        collect_table(results_dir, "will_it_choke", "probe_behaviours"),
        collect_table(results_dir, "will_it_choke", "pass_at_k"),
        dose.batch_sizes(results_dir),
    )
    bars = collect_table(results_dir, "base_model", "bars")
    arms = set(tables.completions["arm"].unique())
    predictions = read_predictions()
    claims = []
    for entry in _CLAIMS:
        if isinstance(entry, _Difference):
            if entry.everywhere or {entry.arm, entry.baseline} <= arms:
                claims.append(_difference(entry, tables, predictions))
        elif isinstance(entry, _Net):
            if {entry.arm, entry.baseline} <= arms:
                claims.append(_net(entry, tables, predictions))
        elif isinstance(entry, _Computed):
            estimate, behind = entry.measure(tables), tuple(entry.arms(tables))
            made = bool(behind) and set(behind) <= set(tables.steps["arm"])
            if estimate.measured or (undetermined and made):
                claims.append(
                    Claim(
                        entry.key,
                        entry.statement,
                        entry.effect,
                        behind,
                        estimate,
                        predictions[entry.key],
                        entry.unit,
                        left_open=not estimate.measured,
                    )
                )
        elif entry.everywhere or entry.arm in arms:
            claims.append(_share(entry, tables, predictions))
    marked = [replace(claim, below_bars=_below_bars(bars, claim.arms)) for claim in claims]
    return together(marked, sum(prediction.primary for prediction in predictions.values()))


def _difference(entry: _Difference, tables: _Tables, predictions: Mapping[str, Prediction]) -> Claim:
    what, unit = _MEASURES[entry.measure]
    arm, baseline = entry.arm, entry.baseline
    first, second = f"“{arm_label(arm)}”", f"“{arm_label(baseline)}”"
    if baseline.startswith("grpo_"):
        effect = f"{what} after RL, {first} minus {second}"
    elif base_of(arm) == base_of(baseline):
        effect = f"{what}, {first}, after minus before RL"
    else:
        effect = f"{what}, {first} after RL minus {second} before"
    if entry.key == "not_just_sft":  # steps and documents match, tokens do not: the reader has to know
        seen = [priming_tokens(tables.losses, name.removeprefix("grpo_")) for name in (arm, baseline)]
        effect += f"; tokens seen in priming: {seen[0]} and {seen[1]}"
    estimate = of_difference(tables.completions, arm, baseline, entry.measure)
    return Claim(entry.key, entry.statement, effect, (arm, baseline), estimate, predictions[entry.key], unit)


def _share(entry: _Share, tables: _Tables, predictions: Mapping[str, Prediction]) -> Claim:
    prediction = predictions[entry.key]
    estimate = of_measure(tables.summary, entry.arm, "frac_searches")
    effect = f"completions that search after RL, “{arm_label(entry.arm)}”"
    if (
        prediction.predicted.high is not None
    ):  # a rare event, or none: how much of it would not have been seen?
        num_problems = _num_problems(tables.completions, entry.arm)
        estimate, effect = _bounded_by_problems(estimate, num_problems), effect + _resolution(num_problems)
    return Claim(entry.key, entry.statement, effect, (entry.arm,), estimate, prediction, "share")


def _net(entry: _Net, tables: _Tables, predictions: Mapping[str, Prediction]) -> Claim:
    completions = tables.completions
    k = largest_k(completions, (entry.arm, entry.baseline))
    before, after = (
        solved_within(completions[completions["arm"] == arm], k) for arm in (entry.baseline, entry.arm)
    )
    effect = f"problems gained minus lost by RL within {k} samples, “{arm_label(entry.arm)}”"
    estimate = of_net(before, after)
    return Claim(
        entry.key,
        entry.statement,
        effect,
        (entry.arm, entry.baseline),
        estimate,
        predictions[entry.key],
        "points",
    )


def priming_tokens(losses: pd.DataFrame, arm: str) -> str:
    """Write how many tokens an arm saw in priming, mean over seeds, from collected `losses` tables."""
    seen = losses[losses["arm"] == arm].groupby("seed")["num_tokens"].max()
    return f"{float(seen.mean()):,.0f}" if len(seen) else NOT_MEASURED


def _below_bars(bars: pd.DataFrame, arms: Sequence[str]) -> bool:
    """Whether a base that evaluated arms go back to missed a competence bar, with any seed."""
    measured = set(bars["arm"])
    bases = set()
    for name in map(base_of, arms):
        own = "absent" if name.startswith("sft_") else name
        # rich_masked goes back to rich, ladder_1 to a base of its own: the longest name that fits.
        bases.add(max((base for base in measured if f"{own}_".startswith(f"{base}_")), key=len, default=own))
    return not bars.loc[bars["arm"].isin(bases), "passed"].astype(bool).all()


def _num_problems(completions: pd.DataFrame, arm: str) -> int:
    return len(completions.loc[completions["arm"] == arm, ["seed", "problem"]].drop_duplicates())


def _bounded_by_problems(estimate: Estimate, num_problems: int) -> Estimate:
    """Raise a share's upper end to Wilson's, each problem counted as one trial.

    Resampling sees no spread where an event is rare or absent. A problem's completions depend on each other,
    at worst wholly: then there are as many trials as problems. The end grows with the share and is above 0.
    """
    if not estimate.measured or num_problems == 0:
        return MISSING
    wilson = wilson_interval(estimate.value * num_problems, num_problems)
    return replace(estimate, upper=max(estimate.upper, wilson.upper))


def _resolution(num_problems: int) -> str:
    if num_problems == 0:
        return ""
    room = percent(wilson_interval(0, num_problems).upper)
    return f"; none at all on {num_problems} problems would leave up to {room}"
