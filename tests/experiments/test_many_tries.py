"""Many tries: gains are paired by seed, and the price of training is paid back by the tokens that it saves."""

from __future__ import annotations

import pandas as pd
import pytest

from extrabitter.experiments.many_tries import break_even, figure, findings


def tries(**solved: tuple[float, float]) -> pd.DataFrame:
    """Table pass_at_k of three seeds: by arm what one try and eight solve, a little more in each seed."""
    rows = [
        (seed, arm, k, value + 0.01 * seed)
        for arm, values in solved.items()
        for k, value in zip((1, 8), values, strict=True)
        for seed in range(3)
    ]
    return pd.DataFrame(rows, columns=["seed", "arm", "k", "value"])


TABLE = tries(
    before_searcher=(0.1, 0.4), after_searcher=(0.7, 0.9), before_guesser=(0.1, 0.5), after_guesser=(0.4, 0.3)
)


def test_gains_are_those_of_one_try_and_of_eight() -> None:
    found = findings(TABLE)
    assert found["gain_searcher_1"].value == pytest.approx(0.6) and found[
        "gain_searcher_8"
    ].value == pytest.approx(0.5)
    assert found["gain_guesser_8"].upper == pytest.approx(-0.2), "paired: each seed's difference is the same"
    assert found["after_guesser_1"].lower < 0.41 < found["after_guesser_1"].upper


@pytest.mark.parametrize(("before", "after", "queries"), [(20.0, 60.0, 40_000), (5.0, 60.0, float("inf"))])
def test_training_pays_after_as_many_questions_as_its_tokens_are_saved_in(
    before: float, after: float, queries: float
) -> None:
    lengths = {"before_searcher_rare": before, "after_searcher_rare": after}
    rows = [(seed, arm, "mean_completion_tokens", value) for arm, value in lengths.items() for seed in (0, 1)]
    summary = pd.DataFrame(rows, columns=["seed", "arm", "measure", "value"])
    # A million tokens of training cost four million; a question saves 8 x 20 - 60 = 100.
    assert break_even(summary, 1e6, "_rare") == queries


def test_the_figure_has_a_panel_a_band_and_a_dotted_line_a_model() -> None:
    drawn = figure({"common": (TABLE, ""), "again": (TABLE, "")}, "Sharper")
    assert [ax.get_title(loc="left") for ax in drawn.axes] == ["common", "again"]
    for ax in drawn.axes:
        dotted = [line.get_ydata() for line in ax.lines if line.get_linestyle() == ":"]
        assert [round(float(line[-1]), 2) for line in dotted] == [0.41, 0.51]
        assert {text.get_text() for text in ax.texts} == {"searcher", "guesser"}
