"""The book's claims, each with what it predicts, what would overturn it, and how it came out.

A claim has *held* when the interval of its effect lies wholly in the predicted region, *failed* when it lies
wholly in the falsifier's, and is *undecided* otherwise; also where nothing could be measured. Thresholds were
set before the runs that they judge, and are the same for every profile. With fewer than five seeds a claim
is exploratory, whatever its interval.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from extrabitter.artifacts import collect_table
from extrabitter.estimates import MISSING, Estimate, of_difference, of_measure
from extrabitter.reporting import (
    CLAIM_SEEDS,
    basis,
    decimal,
    decimal_interval,
    percent,
    percent_interval,
    points,
    points_interval,
    spell,
)

# Of the arms a profile has, the first one here speaks for priming with search.
PRIMED_SEARCH = (
    "sft_verification_backtracking",
    "sft_all_behaviours",
    "sft_backtracking",
    "sft_verification",
)
PRIMED_CONTROL = ("sft_direct", "sft_filler", "sft_cosmetic")


@dataclass(frozen=True)
class Region:
    """Values from `low` to `high`; None is unbounded."""

    low: float | None = None
    high: float | None = None

    def holds(self, estimate: Estimate) -> bool:
        """Whether the whole interval of an estimate lies inside."""
        return (self.low is None or estimate.lower >= self.low) and (
            self.high is None or estimate.upper <= self.high
        )

    def describe(self, write: Callable[[float], str]) -> str:
        """Say the region in words, numbers written by `write`."""
        if self.low is None:
            return f"at most {write(self.high)}" if self.high is not None else "anything"
        return f"at least {write(self.low)}"


@dataclass(frozen=True)
class Claim:
    """A statement, its measured effect, and the regions that judge it."""

    key: str
    statement: str
    effect: str
    estimate: Estimate
    predicted: Region
    falsifier: Region
    unit: str  # "points", "share" or "number"

    @property
    def verdict(self) -> str:
        """Held, failed, undecided, or not measured."""
        if not self.estimate.measured:
            return "not measured"
        if self.predicted.holds(self.estimate):
            return "held"
        return "failed" if self.falsifier.holds(self.estimate) else "undecided"

    @property
    def judgement(self) -> str:
        """The verdict with the caution that its number of seeds asks for."""
        seeds = self.estimate.num_seeds
        if seeds == 0 or seeds >= CLAIM_SEEDS:
            return self.verdict
        return f"{self.verdict} (exploratory, {spell(seeds, 'seed')})"

    @property
    def measured(self) -> str:
        """The effect with its interval."""
        write = {"points": points_interval, "share": percent_interval, "number": decimal_interval}[self.unit]
        return write(self.estimate)

    def region(self, region: Region) -> str:
        """Describe a region in the claim's unit."""
        write = {"points": points, "share": percent, "number": decimal}[self.unit]
        return region.describe(write)


def first_present(candidates: Sequence[str], arms: Sequence[str]) -> str:
    """Return the first candidate whose arm after RL was evaluated, or the first candidate if none was."""
    return next((name for name in candidates if f"grpo_{name}" in arms), candidates[0])


def collect_claims(results_dir: str | Path) -> list[Claim]:
    """Measure every claim on the evaluation tables of a results folder."""
    completions = collect_table(results_dir, "behaviour_evaluation", "completions")
    summary = collect_table(results_dir, "behaviour_evaluation", "summary")
    arms = list(completions["arm"].unique())
    primed, control = first_present(PRIMED_SEARCH, arms), first_present(PRIMED_CONTROL, arms)

    def difference(arm: str, baseline: str, measure: str = "pass@1") -> Estimate:
        return of_difference(completions, arm, baseline, measure)

    gap, no_gap = Region(low=0.15), Region(high=0.05)
    claims = [
        Claim(
            "search_pays",
            "After RL, the base that sometimes searches beats the one that never does",
            "pass@1 after RL, rich minus absent",
            difference("grpo_rich", "grpo_absent"),
            gap,
            no_gap,
            "points",
        ),
        Claim(
            "nothing_created",
            "RL creates no search where the base has none",
            "completions that search after RL, absent",
            _with_room_at_zero(
                of_measure(summary, "grpo_absent", "frac_searches"), completions, "grpo_absent"
            ),
            Region(high=0.01),
            Region(low=0.01),
            "share",
        ),
        Claim(
            "amplified",
            "RL amplifies the search that is there",
            "completions that search, rich, after minus before RL",
            difference("grpo_rich", "base_rich", "frac_searches"),
            Region(low=0.5),
            Region(high=0.0),
            "points",
        ),
        Claim(
            "searches_longer",
            "The rich base gains by searching longer",
            "attempts per completion, rich, after minus before RL",
            difference("grpo_rich", "base_rich", "mean_attempts"),
            Region(low=0.5),
            Region(high=0.0),
            "number",
        ),
        Claim(
            "priming_repairs",
            "Priming with search traces repairs the base that never searches",
            "pass@1 after RL, primed minus absent",
            difference(f"grpo_{primed}", "grpo_absent"),
            gap,
            no_gap,
            "points",
        ),
        Claim(
            "not_just_sft",
            "It is the behaviour in the traces, not the extra training",
            "pass@1 after RL, primed to search minus primed without",
            difference(f"grpo_{primed}", f"grpo_{control}"),
            gap,
            no_gap,
            "points",
        ),
    ]
    if "grpo_rich_masked" in arms:
        claims.insert(
            1,
            Claim(
                "knock_out",
                "Take the search words away, and the gain goes with them",
                "pass@1 after RL, rich minus rich with search words masked",
                difference("grpo_rich", "grpo_rich_masked"),
                gap,
                no_gap,
                "points",
            ),
        )
    return claims


def _with_room_at_zero(estimate: Estimate, completions: pd.DataFrame, arm: str) -> Estimate:
    """Widen the empty interval of an event that was never seen: 3/n at 95 % (the rule of three).

    n counts problems, not completions: those of one problem are not independent.
    """
    problems = completions.loc[completions["arm"] == arm, ["seed", "problem"]].drop_duplicates()
    if not estimate.measured or estimate.upper > 0 or len(problems) == 0:
        return estimate if estimate.measured else MISSING
    return Estimate(0.0, 0.0, 3 / len(problems), estimate.num_seeds)


def verdict_table(claims: Sequence[Claim]) -> pd.DataFrame:
    """List claims with their numbers, one row a claim: what stands behind the page."""
    return pd.DataFrame(
        {
            "key": [claim.key for claim in claims],
            "claim": [claim.statement for claim in claims],
            "effect": [claim.effect for claim in claims],
            "value": [claim.estimate.value for claim in claims],
            "lower": [claim.estimate.lower for claim in claims],
            "upper": [claim.estimate.upper for claim in claims],
            "num_seeds": [claim.estimate.num_seeds for claim in claims],
            "basis": [basis(claim.estimate.num_seeds) for claim in claims],
            "held_if": [claim.region(claim.predicted) for claim in claims],
            "failed_if": [claim.region(claim.falsifier) for claim in claims],
            "verdict": [claim.verdict for claim in claims],
        }
    )


def verdict_strings(claims: Sequence[Claim]) -> pd.DataFrame:
    """Show claims as ready-made strings in four columns, narrow enough for a page."""
    return pd.DataFrame(
        {
            "Claim": [f"{claim.statement}\n({claim.effect})" for claim in claims],
            "Measured": [claim.measured for claim in claims],
            "Judged by": [
                f"held if {claim.region(claim.predicted)}\nfailed if {claim.region(claim.falsifier)}"
                for claim in claims
            ],
            "Verdict": [claim.judgement for claim in claims],
        }
    )
