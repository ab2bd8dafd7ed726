"""Extinction: what others report is read as they gave it, and what is found is taken from the right arms."""

from __future__ import annotations

import pandas as pd
import pytest

from extrabitter.experiments import extinction


def test_what_four_habits_reports_has_two_clusters_and_ranks_that_agree() -> None:
    arms = extinction.four_habits()
    ends = arms.groupby("shows")["end"]
    assert set(arms["shows"]) == set(extinction.KINDS) and len(arms) == 13
    assert ends.min()["search"] > 0.7 and ends.max()["nothing"] < 0.42
    assert extinction.rank_correlation(arms) == pytest.approx(0.883, abs=0.001)
    assert extinction.four_habits_log() == {"llama_0": 0.195, "llama_30": 0.010, "qwen_0": 0.648}
    assert len(extinction.their_figure(arms, "Theirs").axes[0].texts) == len(extinction.KINDS)


def test_findings_are_of_the_starved_and_of_its_twins() -> None:
    values = {
        ("before_searcher_rare", "search_probability"): 0.1,
        ("before_starved_rare", "search_probability"): 0.01,
        ("before_guesser_rare", "search_probability"): 1e-11,
        ("after_starved_rare", "frac_searches"): 0.9,
        ("after_starved_rare", "pass@1"): 0.7,
        ("after_searcher_rare", "pass@1"): 0.75,
        ("after_guesser_rare", "pass@1"): 0.5,
    }
    rows = [(seed, *key, value) for key, value in values.items() for seed in (0, 1)]
    summary = pd.DataFrame(rows, columns=["seed", "arm", "measure", "value"])
    parts = {
        "num_tokens": [10, 20],
        "format_reward": 0.9,
        "frac_searches": [0.1, 0.0],
        "correct_reward": [0.0, 0.02],
    }
    steps = pd.concat(
        pd.DataFrame({"arm": arm, "seed": seed, "step": [1, 2], **parts})
        for arm in ("format_phase", "starved_rare")
        for seed in (0, 1)
    )
    found = extinction.findings(summary, steps)
    expected = {
        "right": 0.01,
        "first": 0.1,
        "left": 0.01,
        "absent": 1e-11,
        "woke": 0.9,
        "lost": -0.05,
        "ahead": 0.2,
    }
    assert {name: estimate.value for name, estimate in found.items()} == pytest.approx(expected)
    lines = extinction.phase_figure(steps, "Phase").axes[0].lines
    assert [list(line.get_ydata()) for line in lines] == [[0.9, 0.9], [0.1, 0.0], [0.0, 0.02]]
