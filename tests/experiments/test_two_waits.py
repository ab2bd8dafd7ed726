"""The law of two waits: what is fitted comes back, the right law wins, and what ended too early is no take-off."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from extrabitter.digests import REPOSITORY
from extrabitter.experiments.two_waits import (
    LAWS,
    WaitLaw,
    advantage,
    expected,
    figure,
    fit,
    frozen,
    scores,
    shares,
    take_off,
)
from extrabitter.store import read

TRUE = WaitLaw(base=8.0, decade=12.0, draws=4.0, spread=4.0)
SHARES = [0.1, 0.01, 1e-3, 3e-4, 1e-4, 3e-5]


def drawn(law: WaitLaw, seeds: range, last: float = 320.0) -> pd.DataFrame:
    """Waits by a law, cut at the last step."""
    rng = np.random.default_rng(seeds[0])
    rows = []
    for seed in seeds:
        for share in SHARES:
            luck = rng.exponential(law.draws / (256 * share)) if law.draws else 0.0
            steps = luck + law.base + law.decade * np.log10(1 / share) + rng.normal(0, law.spread)
            rows.append((f"p{share}", seed, share, 256, min(max(steps, 1.0), last), steps > last))
    return pd.DataFrame(rows, columns=["arm", "seed", "share", "completions", "steps", "censored"])


def test_the_constants_come_back_and_the_right_law_foretells_new_seeds_best() -> None:
    seen, new = drawn(TRUE, range(12)), drawn(TRUE, range(100, 110))
    fitted = {name: fit(seen, name) for name in LAWS}
    assert fitted["two waits"] == pytest.approx(TRUE, rel=0.45)
    assert fitted["the logarithm alone"].draws == 0 and fitted["luck alone"].decade == 0
    by_seed = scores(new, fitted)
    for rival in ("the logarithm alone", "luck alone"):
        assert (by_seed["two waits"] - by_seed[rival]).mean() > 0.1


@pytest.mark.parametrize("kind", ["the logarithm alone", "luck alone"])
def test_a_rival_that_is_true_is_not_beaten(kind: str) -> None:
    climbs, lucky = LAWS[kind]
    law = TRUE._replace(decade=TRUE.decade * climbs, draws=TRUE.draws * lucky)
    seen, new = drawn(law, range(12)), drawn(law, range(100, 110))
    by_seed = scores(new, {name: fit(seen, name) for name in ("two waits", kind)})
    assert (by_seed["two waits"] - by_seed[kind]).mean() < 0.05


def test_a_run_takes_off_where_its_running_mean_reaches_half_and_else_is_censored() -> None:
    searches = {"early": [0.0] * 4 + [0.9] * 8, "never": [0.1] * 12, "silent": [0.0] * 12}
    steps = pd.concat(
        pd.DataFrame({"arm": arm, "seed": 1, "step": range(1, 13), "frac_searches": values})
        for arm, values in searches.items()
    )
    shares = pd.DataFrame({"arm": list(searches), "seed": 1, "share": [0.1, 0.01, 0.0], "completions": 256})
    waits = take_off(steps, shares).set_index("arm")
    assert list(waits.index) == ["early", "never"]
    # Three of five at .9 make .54.
    assert waits.loc["early", "steps"] == 7 and not waits.loc["early", "censored"]
    assert waits.loc["never", "steps"] == 12 and waits.loc["never", "censored"]
    with pytest.raises(ValueError, match="none has ended"):
        fit(waits[waits["censored"]])


def test_a_longer_wait_than_the_run_says_more_against_a_law_that_is_sure_of_it() -> None:
    row = drawn(TRUE, range(1)).head(1).assign(steps=60.0, censored=True)
    sure, unsure = TRUE._replace(spread=1.0), TRUE._replace(spread=60.0)
    assert unsure.log_likelihood(row)[0] > sure.log_likelihood(row)[0] + 5


def test_what_is_expected_grows_with_rarity_and_holds_eight_tenths_of_waits() -> None:
    line = expected(TRUE, SHARES, 256)
    assert line["value"].is_monotonic_increasing
    waits = drawn(TRUE, range(400), last=1e9).merge(line, on="share")
    inside = (waits["steps"] >= waits["lower"]) & (waits["steps"] <= waits["upper"])
    assert inside.mean() == pytest.approx(0.8, abs=0.03)


def test_the_advantage_is_over_the_better_rival_of_each_seed() -> None:
    seen, new = drawn(TRUE, range(12)), drawn(TRUE, range(100, 104))
    laws = {name: fit(seen, name) for name in LAWS}
    found, by_seed = advantage(new, laws), scores(new, laws)
    assert found.value == pytest.approx((by_seed["two waits"] - by_seed.iloc[:, 1:].max(axis=1)).mean())
    alone = {**laws, "two waits": laws["luck alone"], "luck alone": laws["two waits"]}
    assert found.value > 0 > advantage(new, alone).value


def test_the_frozen_constants_are_those_that_the_calibration_gives() -> None:
    tables = [
        read(REPOSITORY / "results/calibration", "countdown", name, "dial") for name in ("summary", "runs")
    ]
    waits = take_off(read(REPOSITORY / "results/calibration", "countdown", "steps", "dial"), shares(*tables))
    assert len(waits) == 15 and set(waits["completions"]) == {256}
    for name, law in frozen().items():
        assert fit(waits, name) == pytest.approx(law, rel=0.02, abs=0.2)
    drawn = figure(waits, frozen(), "Waits").axes[0]
    assert drawn.get_xlim()[0] > drawn.get_xlim()[1], "from often to rare"
    assert [text.get_text() for text in drawn.texts][:1] == ["two waits"]
