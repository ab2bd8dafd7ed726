"""The predictions page is data: every entry is whole, judged by one rule, and each claim of the book has one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd
import pytest

from extrabitter import claims
from extrabitter.claims import collect_claims
from extrabitter.params import ParameterError
from extrabitter.estimates import MISSING, Estimate
from extrabitter.experiments.predictions import MAX_PRIMARY, PAGE, Prediction, Region, read_predictions
from extrabitter.digests import REPOSITORY
from extrabitter.pages.chapter import points
from synthetic_results import write_results

ENTRY = """# Predictions

```yaml
- key: a
  primary: true
  effect: x minus y
  predicted: {low: 0.1}
  falsifier: [{high: 0.0}]
  seeds: 5
```
"""


def test_the_page_has_few_primary_entries_and_no_region_that_is_both() -> None:
    predictions = read_predictions()
    assert len(predictions) >= 15
    assert 1 <= sum(entry.primary for entry in predictions.values()) <= MAX_PRIMARY
    for entry in predictions.values():
        for region in entry.falsifier:
            for value in (entry.predicted.low, entry.predicted.high):
                inside = value is not None and region.holds(Estimate(value, value, value, 5))
                # A bound may be shared; a value strictly inside both would make a claim hold and fail.
                assert not inside or value in (region.low, region.high), entry.key


def test_every_claim_is_judged_by_its_entry(tmp_path: Path) -> None:
    claims = collect_claims(write_results(tmp_path, num_problems=6))
    predictions = read_predictions()
    assert {claim.key for claim in claims} <= set(predictions)
    assert all(claim.prediction is predictions[claim.key] for claim in claims)


def test_fenced_blocks_are_all_read() -> None:
    text = (REPOSITORY / PAGE).read_text(encoding="utf-8")
    assert text.count("- key: ") == len(read_predictions())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("low: 0.1", "lo: 0.1", "predicted.lo = 0.1: unknown name"),
        ("primary: true", "primary: maybe", "primary = 'maybe'"),
        ("[{high: 0.0}]", "[{}]", "must give low, high or both"),
        ("  seeds: 5\n", "", "seeds: missing"),
    ],
)
def test_a_wrong_entry_is_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    page = tmp_path / "predictions.md"
    page.write_text(ENTRY.replace(old, new), encoding="utf-8")
    with pytest.raises(ParameterError) as caught:
        read_predictions(page)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "predictions.md"
    page.write_text(ENTRY + ENTRY, encoding="utf-8")
    with pytest.raises(ParameterError, match="key = 'a': must be given once"):
        read_predictions(page)


@pytest.mark.parametrize(
    ("region", "words"),
    [
        (Region(low=0.15), "at least +15.0 points"),
        (Region(high=0.05), "at most +5.0 points"),
        (Region(low=-0.05, high=0.05), "from −5.0 points to +5.0 points"),
    ],
)
def test_a_region_says_itself_in_words(region: Region, words: str) -> None:
    assert region.describe(points) == words


def test_a_claim_answers_for_the_bars_of_the_bases_it_goes_back_to() -> None:
    bars = pd.DataFrame(
        {"arm": ["absent", "rich", "ladder_1", "rich_qwen2"], "passed": [True, False, True, True]}
    )
    marked = {
        arm: claims._below_bars(bars, [arm])
        for arm in ("grpo_rich_masked", "grpo_rich_g32", "rare_grpo_rich", "grpo_ladder_1", "grpo_rich_qwen2")
    }
    assert marked == {
        "grpo_rich_masked": True,
        "grpo_rich_g32": True,
        "rare_grpo_rich": True,
        "grpo_ladder_1": False,
        "grpo_rich_qwen2": False,
    }
    assert not claims._below_bars(bars, ["grpo_sft_filler"])
    assert claims._below_bars(bars.assign(passed=False), ["grpo_sft_filler"])


def test_the_entries_are_those_committed_before_the_first_reference_run() -> None:
    entries, _, remarks = (
        (REPOSITORY / PAGE).read_text(encoding="utf-8").partition("## Remarks made afterwards")
    )
    assert hashlib.sha256(entries.encode()).hexdigest() == ENTRIES_SHA256
    assert remarks


# Never to be written anew: what turns out wrong is said in a remark, with its date.
ENTRIES_SHA256 = "97fd715bf7c19a06a22b1afa67dee4ac291a4da27cef2d6b18fcc0432322ba3c"


@pytest.mark.parametrize(
    ("lower", "upper", "verdict"),
    [(-0.02, 0.03, "held"), (0.03, 0.09, "failed"), (-0.2, -0.031, "failed"), (0.0, 0.031, "undecided")],
)
def test_a_whole_interval_decides_and_no_part_of_one(lower: float, upper: float, verdict: str) -> None:
    prediction = Prediction(
        key="apart",
        primary=False,
        effect="a difference",
        predicted=Region(low=-0.03, high=0.03),
        falsifier=[Region(low=0.03), Region(high=-0.03)],
        seeds=5,
    )
    assert prediction.verdict(Estimate((lower + upper) / 2, lower, upper, 5)) == verdict
    assert prediction.verdict(MISSING) == "not measured"
