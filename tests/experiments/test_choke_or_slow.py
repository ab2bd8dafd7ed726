"""Choke or slow: what more tokens would bring, and where a run is heading, on runs whose course is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from extrabitter.experiments import choke_or_slow, equal_cost
from extrabitter.experiments.extrapolation import Sigmoid

COURSES = {"searcher": Sigmoid(0.3, 0.95, 2e5, 1.8), "guesser": Sigmoid(0.3, 0.7, 6e5, 1.4)}
COURSES |= {f"{model}_rare": course for model, course in COURSES.items()}


def steps() -> pd.DataFrame:
    tokens = np.arange(1, 201) * 1e4
    own = {"num_tokens": tokens, "frac_informative_groups": 0.5, "step": range(1, 201)}
    runs = [
        pd.DataFrame({**own, "correct_reward": course.at(tokens)}).assign(arm=arm, seed=seed)
        for arm, course in COURSES.items()
        for seed in range(3)
    ]
    return pd.concat(runs, ignore_index=True)


def summary() -> pd.DataFrame:
    means = {"before_searcher": 0.3, "after_searcher": 0.9, "before_guesser": 0.3, "after_guesser": 0.6}
    means |= {"after_searcher_rare": 0.7, "after_guesser_rare": 0.5, "after_silenced": 0.55}
    rows = [(seed, arm, "pass@1", mean + seed / 100) for arm, mean in means.items() for seed in range(3)]
    return pd.DataFrame(rows, columns=["seed", "arm", "measure", "value"]).assign(lower=np.nan, upper=np.nan)


def test_gaps_are_paired_and_named_by_band() -> None:
    found = choke_or_slow.findings(summary(), steps())
    gap, rare = found["over_guesser"], found["over_guesser_rare"]
    assert gap.value == pytest.approx(0.3) and rare.value == pytest.approx(0.2)
    assert found["over_silenced"].value == pytest.approx(0.35) and found["apart"].value == pytest.approx(
        -0.05
    )
    assert gap.num_seeds == 3 and not found["over_silenced_rare"].measured
    assert found["end_guesser"].value == pytest.approx(0.7, abs=0.01)


def test_what_more_tokens_would_bring_is_the_slope_of_the_last_quarter() -> None:
    rising = pd.DataFrame({"num_tokens": [1e5, 2e5, 3e5, 4e5], "correct_reward": [0.0, 0.9, 0.2, 0.3]})
    many = rising.loc[np.repeat([2, 3], 3)].assign(num_tokens=np.linspace(3.1e5, 4e5, 6))
    straight = many.assign(correct_reward=many["num_tokens"] * 5e-7)
    assert choke_or_slow.more(pd.concat([rising.iloc[:3], straight])) == pytest.approx(0.2)
    found = choke_or_slow.findings(summary(), steps())
    assert found["more_guesser"].value > 2 * found["more_searcher"].value > 0


def test_how_much_sooner_one_solves_what_the_other_does_at_its_end() -> None:
    tokens = [1e5, 2e5, 3e5, 4e5]
    runs = {"quick": [0.1, 0.5, 0.9, 0.9], "late": [0.1, 0.2, 0.3, 0.4], "never": [0.1, 0.1, 0.1, 0.1]}
    own = {"frac_informative_groups": 0.5, "step": range(1, 5), "seed": 0, "num_tokens": tokens}
    table = pd.concat(
        pd.DataFrame({**own, "correct_reward": run}).assign(arm=arm) for arm, run in runs.items()
    )
    assert choke_or_slow.sooner(table, "quick", "late", window=1) == [2.0]
    assert choke_or_slow.sooner(table, "never", "late", window=1) == [1.0], "no sooner than at its own end"
    assert choke_or_slow.sooner(table, "quick", "absent") == []


def test_the_figure_names_each_model_and_ends_right_of_its_run() -> None:
    table = steps()
    curves = equal_cost.on_tokens(equal_cost.training_curves(table))
    fig = choke_or_slow.figure(curves, choke_or_slow.ends(table), "It is slow")
    (ax,) = fig.axes
    assert {text.get_text() for text in ax.texts} == {"searcher", "guesser"}
    marks = [line.get_xdata()[0] for line in ax.lines if len(line.get_xdata()) == 1]
    assert len(marks) == 2 and min(marks) > table["num_tokens"].max()
