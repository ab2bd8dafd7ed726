"""The predictions as data: what each effect should be, what would overturn it, and when that was written down.

`book/predictions.yaml` is the only place where a region is written down. The rule is the same for all: an effect has
*held* where its whole interval lies in the predicted region, has *failed* where it lies in a falsifier's, and is
*undecided* otherwise, so that every possible interval has a verdict.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, model_validator

from extrabitter.digests import REPOSITORY
from extrabitter.params import ParameterError, StrictModel, validate
from extrabitter.statistics import Estimate

FILE = Path("book/predictions.yaml")
MAX_PRIMARY = 8  # of a series; more would dilute what Holm's correction leaves
Verdict = Literal["held", "failed", "undecided", "not measured"]


class Region(StrictModel):
    """Values from `low` to `high`; None is unbounded."""

    low: float | None = Field(None, description="least value")
    high: float | None = Field(None, description="greatest value")

    @model_validator(mode="after")
    def _bounded(self) -> Region:
        if self.low is None and self.high is None:
            raise ValueError("region: must give low, high or both")
        return self

    def holds(self, estimate: Estimate) -> bool:
        """Return whether the whole interval of an estimate lies inside."""
        above = self.low is None or estimate.lower >= self.low
        return above and (self.high is None or estimate.upper <= self.high)

    def p_value(self, estimate: Estimate) -> float:
        """Return the p-value of "not wholly inside", the larger of those at its bounds; NaN below two seeds."""
        bounds = [(self.low, True), (self.high, False)]
        return max(estimate.p_value(bound, above) for bound, above in bounds if bound is not None)


class Prediction(StrictModel):
    """One prediction: a claim, the effect that it is about, and the regions that judge it."""

    key: str = Field(pattern=r"^[a-z0-9_]+$", description="name of the prediction")
    series: str = Field(pattern=r"^[a-z]+$", description="runs that it was made for")
    primary: bool = Field(description="counts towards Holm's correction in its series")
    claim: str = Field(min_length=1, description="the claim, in one plain sentence")
    effect: str = Field(min_length=1, description="what is measured")
    measure: str = Field("", description="measure of table `summary`; empty: not computed from it")
    arm: str = Field("", description="evaluation arm that it is measured on")
    minus: str = Field("", description="evaluation arm that is taken off; empty: none")
    unit: Literal["points", "number"] = Field("points", description="points of a share, or a plain number")
    predicted: Region
    falsifier: list[Region] = Field(min_length=1, description="regions of which each overturns the claim")
    seeds: int = Field(ge=1, description="seeds planned")

    def verdict(self, estimate: Estimate) -> Verdict:
        """Return what an estimate says of the claim, taken alone."""
        if not estimate.measured:
            return "not measured"
        if self.predicted.holds(estimate):
            return "held"
        return "failed" if any(region.holds(estimate) for region in self.falsifier) else "undecided"

    def p_value(self, estimate: Estimate) -> float:
        """Return the p-value of the decision that an interval takes, or would be nearest to taking."""
        return min(region.p_value(estimate) for region in (self.predicted, *self.falsifier))


def read_predictions(file: Path = REPOSITORY / FILE, series: str = "") -> dict[str, Prediction]:
    """Read the predictions by key, of one series if given; ParameterError with one line for an entry that is wrong."""
    found: dict[str, Prediction] = {}
    for values in yaml.safe_load(file.read_text(encoding="utf-8")):
        entry = validate(Prediction, values, "predictions")
        if entry.key in found:
            raise ParameterError(f"predictions: key = {entry.key!r}: must be given once")
        if bool(entry.measure) != bool(entry.arm):
            raise ParameterError(f"predictions: {entry.key}: measure and arm must be given together, or neither")
        found[entry.key] = entry
    for name in {entry.series for entry in found.values()}:
        primary = [entry.key for entry in found.values() if entry.series == name and entry.primary]
        if len(primary) > MAX_PRIMARY:
            raise ParameterError(f"predictions: series {name} has {len(primary)} primaries; at most {MAX_PRIMARY}")
    return {key: entry for key, entry in found.items() if series in ("", entry.series)}
