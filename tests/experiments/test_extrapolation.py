"""Forecasts: a sigmoid comes back from its points, what does not bend is not scored, and an arm is its seeds' mean."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from extrabitter.experiments.extrapolation import Sigmoid, fit_power_law, fit_sigmoid, foretell, of_arms

TRUE = Sigmoid(start=0.2, end=0.9, middle=200_000, steepness=2.0)
TOKENS = np.arange(1, 101) * 10_000.0


def runs(curve: Sigmoid, arm: str, seeds: range, noise: float = 0.01) -> pd.DataFrame:
    """Table `steps` of runs that follow a curve."""
    parts = []
    for seed in seeds:
        values = curve.at(TOKENS) + np.random.default_rng(seed).normal(0, noise, len(TOKENS))
        steps = pd.DataFrame({"step": range(1, 101), "num_tokens": TOKENS, "correct_reward": values})
        parts.append(steps.assign(arm=arm, seed=seed))
    return pd.concat(parts)


def test_a_sigmoid_comes_back_from_its_points() -> None:
    found = fit_sigmoid(TOKENS, TRUE.at(TOKENS))
    assert found.end == pytest.approx(TRUE.end, abs=0.02)
    assert found.at(1e6) == pytest.approx(TRUE.at(1e6), abs=0.01)
    assert found.at(found.middle) == pytest.approx((found.start + found.end) / 2)
    with pytest.raises(ValueError, match="too few"):
        fit_sigmoid(TOKENS[:7], TRUE.at(TOKENS[:7]))


def test_a_power_law_comes_back_from_its_points() -> None:
    end, distance, power = fit_power_law(TOKENS, 0.8 - 0.1 * (TOKENS / TOKENS[-1]) ** -0.5)
    assert (end, distance, power) == pytest.approx((0.8, 0.1, 0.5), abs=0.02)


def test_the_end_is_foretold_from_a_quarter_by_the_sigmoid_and_not_by_the_last_value() -> None:
    late = Sigmoid(start=0.2, end=0.9, middle=150_000, steepness=2.0)
    foretold = foretell(runs(late, "searcher", range(3)))
    assert foretold["scored"].all()
    assert (foretold["sigmoid"] - foretold["end"]).abs().max() < 0.1
    assert (foretold["last"] - foretold["end"]).abs().min() > 0.1
    assert of_arms(foretold).value >= of_arms(foretold, "last").value == 0.0


def test_where_nothing_happens_after_the_cut_nothing_is_scored() -> None:
    flat = runs(Sigmoid(0.2, 0.21, 1e5, 2.0), "guesser", range(2))
    foretold = foretell(pd.concat([flat, runs(TRUE, "searcher", range(2))]))
    assert not foretold.loc[foretold["arm"] == "guesser", "scored"].any()
    assert of_arms(foretold).value in (0.0, 1.0)
    assert not of_arms(foretold[foretold["arm"] == "guesser"]).measured
