"""The predictions page as data: what each effect should be, and what would overturn it.

`book/predictions.md` is the only place where the region of an entry is written down; readers see the entries, and
claims are judged by them. An entry is a mapping in a fenced YAML block. What a remark expects is no entry.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import yaml
from pydantic import Field, model_validator

from extrabitter.params import ParameterError, StrictModel, validate
from extrabitter.estimates import Estimate
from extrabitter.digests import REPOSITORY

PAGE = Path("book/predictions.md")
MAX_PRIMARY = 8  # more would dilute what Holm's correction leaves
_BLOCK = re.compile(r"^```yaml\n(.*?)^```$", re.DOTALL | re.MULTILINE)


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
        """Whether the whole interval of an estimate lies inside."""
        return (self.low is None or estimate.lower >= self.low) and (
            self.high is None or estimate.upper <= self.high
        )

    def p_value(self, estimate: Estimate) -> float:
        """Return the p-value of "not wholly inside": the larger of those at its bounds; NaN below two seeds."""
        bounds = [(self.low, True), (self.high, False)]
        return max(estimate.p_value(bound, above) for bound, above in bounds if bound is not None)

    def describe(self, write: Callable[[float], str]) -> str:
        """Say the region in words, numbers written by `write`."""
        if self.low is None:
            assert self.high is not None
            return f"at most {write(self.high)}"
        if self.high is None:
            return f"at least {write(self.low)}"
        return f"from {write(self.low)} to {write(self.high)}"


class Prediction(StrictModel):
    """One entry of the page."""

    key: str = Field(pattern=r"^[a-z0-9_]+$", description="name of the claim")
    primary: bool = Field(description="counts towards Holm's correction")
    effect: str = Field(min_length=1, description="what is measured")
    predicted: Region
    falsifier: list[Region] = Field(min_length=1, description="regions of which each overturns the claim")
    seeds: int = Field(ge=1, description="seeds planned")

    def verdict(self, estimate: Estimate) -> str:
        """Return "held" or "failed" if the whole interval lies where it was predicted, or where it is overturned.

        Else "undecided", or "not measured".
        """
        if not estimate.measured:
            return "not measured"
        if self.predicted.holds(estimate):
            return "held"
        return "failed" if any(region.holds(estimate) for region in self.falsifier) else "undecided"


@lru_cache(maxsize=4)
def read_predictions(page: Path = REPOSITORY / PAGE) -> dict[str, Prediction]:
    """Read the page's entries by key; ParameterError with one line for an entry that is not one, or comes twice."""
    found: dict[str, Prediction] = {}
    for block in _BLOCK.findall(page.read_text(encoding="utf-8")):
        for values in yaml.safe_load(block):
            entry = validate(Prediction, values, "predictions")
            if entry.key in found:
                raise ParameterError(f"predictions: key = {entry.key!r}: must be given once")
            found[entry.key] = entry
    return found
