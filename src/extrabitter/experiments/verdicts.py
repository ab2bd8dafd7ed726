"""How a claim is judged: its measured effect against what was predicted and what would overturn it.

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

import numpy as np
import pandas as pd

from extrabitter.estimates import Estimate
from extrabitter.statistics import holm_adjusted
from extrabitter.experiments.predictions import Prediction, Region
from extrabitter.pages.chapter import (
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

LEVEL = 0.025  # on each side: that of a 95 % interval


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
    left_open: bool = False  # its runs were made, and do not determine its effect
    withdrawn: bool = False  # its interval alone would decide; with all primary claims together it does not

    @property
    def alone(self) -> str:
        """The verdict of this claim's interval, as if no other claim were made."""
        return self.prediction.verdict(self.estimate)

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
        # No parentheses: prose puts a judgement into parentheses of its own.
        return "; ".join([self.verdict, *cautions])

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
