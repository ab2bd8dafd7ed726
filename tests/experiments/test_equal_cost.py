"""Equal tokens, and what the taste test finds, on results small enough to be reckoned by hand."""

from __future__ import annotations

import pandas as pd
import pytest

from extrabitter.experiments.equal_cost import (
    CHECKED,
    ENUMERATOR,
    VOTED,
    equal_cost,
    lead,
    on_tokens,
    said,
    same_tokens_figure,
    same_tokens_rows,
    solved,
    training_curves,
)
from extrabitter.experiments.search_as_optimisation import tries_figure, tries_table
from extrabitter.experiments.taste_test import anatomy, findings, traced
from extrabitter.tasks import load_task

TASK = load_task("countdown")
PROBLEM = "6-7-9:8"  # three of its eighteen legal answers are right
ANSWERS = ("9 - 7 = 2 , 6 + 2 = 8 answer", "9 + 7 = 16 , 16 - 6 = 10 answer")


def samples(arm: str, right: str, tokens: int, seed: int = 0) -> pd.DataFrame:
    """Completions of one problem, right where `right` has a one."""
    rows = [(ANSWERS[0], "8", True) if mark == "1" else (ANSWERS[1], "10", False) for mark in right]
    table = pd.DataFrame(rows, columns=["completion", "value", "correct"])
    counts = {"num_yes_verdicts": 0, "backtracking_count": int(arm == "after_searcher")}
    table = table.assign(seed=seed, arm=arm, problem=PROBLEM, sample=range(len(right)), **counts)
    return table.assign(answered=True, num_completion_tokens=tokens)


def both(searcher: str, guesser: str, tokens: int) -> pd.DataFrame:
    arms = (("after_searcher", searcher, tokens), ("after_guesser", guesser, 10))
    return pd.concat([samples(*own, seed) for seed in range(3) for own in arms], ignore_index=True)


def test_rivals_get_the_searchers_tokens() -> None:
    table = pd.concat([both("1111", "1000", 20), samples("after_searcher", "11", 20, seed=9)])
    costs = equal_cost(table, TASK, "after_searcher", ["after_guesser"])
    # Two draws without repetition of four, one of which is right.
    assert solved(costs, "after_guesser", CHECKED).value == pytest.approx(0.5, abs=0.06)
    assert solved(costs, "after_guesser", VOTED).value == pytest.approx(0.25, abs=0.06)
    assert lead(costs, "after_guesser", CHECKED).value == pytest.approx(0.5, abs=0.06)
    # A direct answer of thirteen words and an end: twenty tokens pay one answer, and a second in part.
    assert 3 / 18 < solved(costs, ENUMERATOR, CHECKED).value < 2 * 3 / 18
    assert set(costs["seed"]) == {0, 1, 2}, "a seed without one of the arms is left out"
    # With a single answer to pay every way is the same.
    costs = equal_cost(both("1100", "1100", 10), TASK, "after_searcher", ["after_guesser"])
    for method in (CHECKED, VOTED):
        assert lead(costs, "after_guesser", method).value == pytest.approx(0, abs=0.06)


def test_the_standard_figure_sorts_its_rows_and_writes_their_values() -> None:
    costs = equal_cost(both("1111", "1000", 20), TASK, "after_searcher", ["after_guesser"])
    one = lead(costs, "after_guesser", CHECKED)
    rows = same_tokens_rows(costs, {"after_guesser": one})
    fig = same_tokens_figure({"some": rows, "others": rows[:2]}, "Equal tokens")
    labels = [label.get_text() for label in fig.axes[0].get_yticklabels()]
    assert labels[0] == "searcher"
    of_guesser = {f"guesser, {how}" for how in ("a checker picks", "they vote", "one answer")}
    assert set(labels[1:]) == {*of_guesser, "a list, a checker picks"}
    assert "100 %" in [text.get_text() for text in fig.axes[0].texts]
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["some", "others"]
    rows = same_tokens_rows(costs, {"after_guesser": None}, [CHECKED])
    assert len(rows) == 3, "searcher, rival, list"


def test_what_rivals_make_of_the_tokens_is_said_by_band() -> None:
    costs = equal_cost(both("1111", "1000", 20), TASK, "after_searcher", ["after_guesser"])
    table = said({"easy": costs, "hard": costs})
    assert table["problems"].value_counts().to_dict() == {"easy": 5, "hard": 5}
    searcher, checked = table[table["who"] == "searcher"].iloc[0], table[table["by"] == CHECKED].iloc[0]
    assert (searcher["solved"], searcher["behind"], searcher["tokens spent"]) == ("100 %", "", "20")
    assert checked["who"] == "guesser" and checked["behind"].startswith(("4", "5"))


def steps(arm: str, tokens: float, reward: list[float], seed: int = 0) -> pd.DataFrame:
    count = len(reward)
    table = pd.DataFrame({"step": range(1, count + 1), "correct_reward": reward})
    signal = {"frac_informative_groups": table["correct_reward"] / 2}
    own = {"num_tokens": 128 * tokens * table["step"], "mean_completion_tokens": tokens}
    return table.assign(seed=seed, arm=arm, **signal, **own)


def test_seeds_of_unlike_lengths_are_read_at_the_same_numbers_of_tokens() -> None:
    slow = steps("arm", 10, [0.1, 0.3, 0.5]).assign(seed=1)
    both = pd.concat([steps("arm", 20, [0.2, 0.4, 0.6]), slow])
    table = on_tokens(training_curves(both, window=1), num_points=3)
    assert sorted(set(table["num_tokens"])) == [20 * 128, 25 * 128, 30 * 128], "what both have been through"
    assert table["solved"].tolist() == pytest.approx([0.2, 0.25, 0.3, 0.3, 0.4, 0.5])
    assert table["informative"].tolist() == pytest.approx((table["solved"] / 2).tolist())


def summary(values: dict[tuple[str, str], float]) -> pd.DataFrame:
    rows = [(seed, arm, measure, value) for seed in range(3) for (arm, measure), value in values.items()]
    table = pd.DataFrame(rows, columns=["seed", "arm", "measure", "value"])
    return table.assign(lower=float("nan"), upper=float("nan"))


def test_what_a_model_never_does_is_said_and_not_counted_as_nought() -> None:
    solved = {("before_guesser", "pass@1"): 0.3, ("after_guesser", "pass@1"): 0.6}
    table = summary(solved | {("after_guesser", "mean_attempts"): 1.0})
    said = anatomy(table, ["guesser", "absent"]).set_index("model")
    assert list(said.index) == ["guesser before RL", "guesser after RL"]
    cells = said.loc["guesser after RL", ["solved", "attempts", "verdicts true"]]
    assert cells.tolist() == ["60 %", "1.0", "none given"]


def test_findings_are_paired_by_seed_and_named() -> None:
    measures = ("pass@1", "frac_searches", "first_attempt_hit_rate", "mean_completion_tokens")
    level = {"after_searcher": 0.9, "before_searcher": 0.4, "after_guesser": 0.6, "before_guesser": 0.3}
    level["after_silenced"] = 0.5
    table = summary({(arm, measure): value for arm, value in level.items() for measure in measures})
    found = findings(table)
    expected = {"over_guesser": 0.3, "over_silenced": 0.4, "gain_guesser": 0.3, "searches_searcher": 0.9}
    expected |= {"searched": 0.4, "apart": -0.1, "start_guesser": 0.3}
    assert {key: found[key].value for key in expected} == pytest.approx(expected, abs=1e-9)
    assert not found["over_deriver"].measured
    ended = findings(table.assign(arm=table["arm"] + "_rare"), "_rare")
    assert ended["over_guesser_rare"] == found["over_guesser"]


def test_the_traced_problem_is_one_on_which_the_searcher_went_back_once() -> None:
    table = both("11", "10", 20)
    shown = traced(table, ["after_guesser", "after_searcher"])
    assert shown["problem"].tolist() == [PROBLEM] * 2
    assert list(shown.index) == ["after_guesser", "after_searcher"]
    assert (shown["sample"] == 0).all()


def test_more_tries_never_hurt_and_the_first_is_a_blind_guess() -> None:
    table = tries_table(TASK, ["common", "rare"], 8, 40)
    wide = table.pivot(index="num_tries", columns="band", values="value")
    assert (wide.diff().dropna() >= 0).all().all()
    assert (wide["common"] > wide["rare"]).all()
    problems = TASK.problems("test", 40, 0, "common")
    blind = [len(TASK.solve(problem)) / TASK.count_answers(problem) for problem in problems]
    assert wide["common"][1] == pytest.approx(sum(blind) / len(blind))
    fig = tries_figure(table, "Trying", {"common": "#0072b2", "rare": "#b84e00"})
    assert {text.get_text() for text in fig.axes[0].texts} == {"common", "rare"}
