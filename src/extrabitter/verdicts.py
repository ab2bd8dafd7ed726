"""The book's claims, each with what it predicts, what would overturn it, and how it came out.

A claim has *held* when the interval of its effect lies wholly in the predicted region, *failed* when it lies
wholly in the falsifier's, and is *undecided* otherwise; also where nothing could be measured. The regions are
those of the predictions page, the same for every profile. With fewer than five seeds a claim
is exploratory, whatever its interval; where a base behind a claim missed a competence bar, its row says so.
The primary claims are judged together by Holm's method: an interval that lies wholly in a region may be too wide for
that, and the claim is then undecided. Intervals are shown as they are; secondary claims are not corrected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from extrabitter.artifacts import collect_table
from extrabitter.estimates import MISSING, Estimate, of_difference, of_measure
from extrabitter.figure_style import arm_label, base_of
from extrabitter.metrics import holm_adjusted, wilson_interval
from extrabitter.predictions import Prediction, Region, read_predictions
from extrabitter.reporting import (
    CLAIM_SEEDS,
    NOT_MEASURED,
    basis,
    decimal,
    decimal_interval,
    percent,
    percent_interval,
    points,
    points_interval,
    spell,
)

LEVEL = 0.025  # on each side: that of a 95 % interval

# Of the arms a profile has, the first one here speaks for priming with search.
PRIMED_SEARCH = (
    "sft_verification_backtracking",
    "sft_all_behaviours",
    "sft_backtracking",
    "sft_verification",
)
PRIMED_CONTROL = ("sft_direct", "sft_filler", "sft_cosmetic")

# Claims on priming conditions, made where a profile has both arms: key, statement, arm, baseline.
_CONDITION_CLAIMS = (
    (
        "search_beats_filler",
        "Traces that check and go back prime better than dots of the same length",
        "grpo_sft_verification_backtracking",
        "grpo_sft_filler",
    ),
    (
        "words_are_not_enough",
        "The words of search with a coin for a judge do not prime",
        "grpo_sft_verification_backtracking",
        "grpo_sft_cosmetic",
    ),
    (
        "wrong_answers_cost_little",
        "Traces need not end in right answers",
        "grpo_sft_incorrect",
        "grpo_sft_all_behaviours",
    ),
)


@dataclass(frozen=True)
class Claim:
    """A statement, its measured effect, and the regions that judge it."""

    key: str
    statement: str
    effect: str
    arms: tuple[str, ...]  # evaluated arms that stand behind the effect
    estimate: Estimate
    prediction: Prediction
    unit: str  # "points", "share" or "number"
    below_bars: bool = False  # a base behind the arms missed a competence bar
    withdrawn: bool = False  # its interval alone would decide; with all primary claims together it does not

    @property
    def alone(self) -> str:
        """The verdict of this claim's interval, as if no other claim were made."""
        if not self.estimate.measured:
            return "not measured"
        if self.prediction.predicted.holds(self.estimate):
            return "held"
        failed = any(region.holds(self.estimate) for region in self.prediction.falsifier)
        return "failed" if failed else "undecided"

    @property
    def verdict(self) -> str:
        """Held, failed, undecided, or not measured."""
        return "undecided" if self.withdrawn else self.alone

    @property
    def judgement(self) -> str:
        """The verdict with the cautions that its number of seeds and its bases ask for."""
        seeds = self.estimate.num_seeds
        cautions = [f"exploratory, {spell(seeds, 'seed')}"] if 0 < seeds < CLAIM_SEEDS else []
        if self.withdrawn:
            cautions.append(f"{self.alone} alone, not with all primary claims")
        if self.below_bars and self.estimate.measured:
            cautions.append("a base is below its bars")
        return f"{self.verdict} ({'; '.join(cautions)})" if cautions else self.verdict

    @property
    def measured(self) -> str:
        """The effect with its interval."""
        write = {"points": points_interval, "share": percent_interval, "number": decimal_interval}[self.unit]
        return write(self.estimate)

    @property
    def predicted(self) -> str:
        """The predicted region in the claim's unit."""
        return self._describe([self.prediction.predicted])

    @property
    def falsifier(self) -> str:
        """The regions that would overturn the claim, in its unit."""
        return self._describe(self.prediction.falsifier)

    def _describe(self, regions: Sequence[Region]) -> str:
        write = {"points": points, "share": percent, "number": decimal}[self.unit]
        return " or ".join(region.describe(write) for region in regions)


def first_present(candidates: Sequence[str], arms: Sequence[str]) -> str:
    """Return the first candidate whose arm after RL was evaluated, or the first candidate if none was."""
    return next((name for name in candidates if f"grpo_{name}" in arms), candidates[0])


def collect_claims(results_dir: str | Path) -> list[Claim]:
    """Measure every claim on the tables of a results folder."""
    completions = collect_table(results_dir, "behaviour_evaluation", "completions")
    summary = collect_table(results_dir, "behaviour_evaluation", "summary")
    losses = collect_table(results_dir, "sft_priming", "losses")
    bars = collect_table(results_dir, "base_model", "bars")
    arms = list(completions["arm"].unique())
    predictions = read_predictions()
    primed, control = first_present(PRIMED_SEARCH, arms), first_present(PRIMED_CONTROL, arms)

    def after_rl(key: str, statement: str, arm: str, baseline: str, remark: str = "") -> Claim:
        effect = f"pass@1 after RL, “{arm_label(arm)}” minus “{arm_label(baseline)}”{remark}"
        estimate = of_difference(completions, arm, baseline, "pass@1")
        return Claim(key, statement, effect, (arm, baseline), estimate, predictions[key], "points")

    claims = [
        after_rl(
            "search_pays",
            "After RL, the base that sometimes searches beats the one that never does",
            "grpo_rich",
            "grpo_absent",
        ),
        Claim(
            "nothing_created",
            "RL creates no search where the base has none",
            f"completions that search after RL, “{arm_label('absent')}”"
            + _resolution(_num_problems(completions, "grpo_absent")),
            ("grpo_absent",),
            _bounded_by_problems(
                of_measure(summary, "grpo_absent", "frac_searches"),
                _num_problems(completions, "grpo_absent"),
            ),
            predictions["nothing_created"],
            "share",
        ),
        Claim(
            "amplified",
            "RL amplifies the search that is there",
            f"completions that search, “{arm_label('rich')}”, after minus before RL",
            ("grpo_rich", "base_rich"),
            of_difference(completions, "grpo_rich", "base_rich", "frac_searches"),
            predictions["amplified"],
            "points",
        ),
        Claim(
            "searches_longer",
            "RL makes the rich base search longer",
            f"attempts per completion, “{arm_label('rich')}”, after minus before RL",
            ("grpo_rich", "base_rich"),
            of_difference(completions, "grpo_rich", "base_rich", "mean_attempts"),
            predictions["searches_longer"],
            "number",
        ),
        after_rl(
            "priming_repairs",
            "Priming with search traces repairs the base that never searches",
            f"grpo_{primed}",
            "grpo_absent",
        ),
        after_rl(
            "not_just_sft",
            "It is the search in the traces, not just the steps of priming",
            f"grpo_{primed}",
            f"grpo_{control}",
            f"; tokens seen in priming: {priming_tokens(losses, primed)} and {priming_tokens(losses, control)}",
        ),
    ]
    if "grpo_rich_masked" in arms:
        knocked_out = [
            after_rl(
                "knock_out",
                "Take the search words away, and the gain goes with them",
                "grpo_rich",
                "grpo_rich_masked",
            ),
            after_rl(
                "masked_is_absent",
                "Without its search words the searching base learns what the other one learns",
                "grpo_rich_masked",
                "grpo_absent",
            ),
        ]
        claims[1:1] = knocked_out
    if "grpo_rich_permuted" in arms:
        permuted = Claim(
            "permuted_gains_nothing",
            "Rewards that say nothing bring nothing",
            f"pass@1, “{arm_label('grpo_rich_permuted')}” after RL minus “{arm_label('rich')}” before",
            ("grpo_rich_permuted", "base_rich"),
            of_difference(completions, "grpo_rich_permuted", "base_rich", "pass@1"),
            predictions["permuted_gains_nothing"],
            "points",
        )
        claims.insert(3, permuted)
    claims += [
        after_rl(key, statement, arm, baseline)
        for key, statement, arm, baseline in _CONDITION_CLAIMS
        if {arm, baseline} <= set(arms)
    ]
    marked = [replace(claim, below_bars=_below_bars(bars, claim.arms)) for claim in claims]
    return together(marked, sum(prediction.primary for prediction in predictions.values()))


def together(claims: Sequence[Claim], num_primary: int) -> list[Claim]:
    """Withdraw decisions on primary claims that Holm's method does not bear out over `num_primary` tests.

    Predictions on the page that are not measured yet count as tests, so that a verdict does not get weaker
    as runs come in. Below two seeds there is nothing to correct: the claim is exploratory.
    """
    tested = {
        claim.key: p for claim in claims if claim.prediction.primary and np.isfinite(p := _p_value(claim))
    }
    adjusted = dict(zip(tested, holm_adjusted(list(tested.values()), num_primary), strict=True))
    return [
        replace(
            claim,
            withdrawn=claim.alone in ("held", "failed") and adjusted.get(claim.key, 0.0) > LEVEL,
        )
        for claim in claims
    ]


def _p_value(claim: Claim) -> float:
    """The p-value of the decision that a claim's interval takes, or would be nearest to taking."""
    regions = [claim.prediction.predicted, *claim.prediction.falsifier]
    return min(region.p_value(claim.estimate) for region in regions)


def priming_tokens(losses: pd.DataFrame, arm: str) -> str:
    """Write how many tokens an arm saw in priming, mean over seeds, from collected `losses` tables."""
    seen = losses[losses["arm"] == arm].groupby("seed")["num_tokens"].max()
    return f"{float(seen.mean()):,.0f}" if len(seen) else NOT_MEASURED


def _below_bars(bars: pd.DataFrame, arms: Sequence[str]) -> bool:
    """Whether a base that evaluated arms go back to missed a competence bar, with any seed."""
    names = [base_of(arm) for arm in arms]
    bases = {"absent" if name.startswith("sft_") else name.partition("_")[0] for name in names}
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


def verdict_table(claims: Sequence[Claim]) -> pd.DataFrame:
    """List claims with their numbers, one row a claim: what stands behind the page."""
    return pd.DataFrame(
        {
            "key": [claim.key for claim in claims],
            "claim": [claim.statement for claim in claims],
            "effect": [claim.effect for claim in claims],
            "arms": [" ".join(claim.arms) for claim in claims],
            "value": [claim.estimate.value for claim in claims],
            "lower": [claim.estimate.lower for claim in claims],
            "upper": [claim.estimate.upper for claim in claims],
            "num_seeds": [claim.estimate.num_seeds for claim in claims],
            "primary": [claim.prediction.primary for claim in claims],
            "basis": [basis(claim.estimate.num_seeds) for claim in claims],
            "held_if": [claim.predicted for claim in claims],
            "failed_if": [claim.falsifier for claim in claims],
            "verdict": [claim.verdict for claim in claims],
            "below_bars": [claim.below_bars for claim in claims],
        }
    )


def verdict_strings(claims: Sequence[Claim]) -> pd.DataFrame:
    """Show claims as ready-made strings in four columns, narrow enough for a page."""
    return pd.DataFrame(
        {
            "Claim": [f"{claim.statement}\n({claim.effect})" for claim in claims],
            "Measured": [claim.measured for claim in claims],
            "Judged by": [f"held if {claim.predicted}\nfailed if {claim.falsifier}" for claim in claims],
            "Verdict": [claim.judgement for claim in claims],
        }
    )
