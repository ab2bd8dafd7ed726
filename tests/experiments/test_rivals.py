"""Rivals at equal tokens: expectations against enumeration by hand, budgets kept, nothing for nothing."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest

from extrabitter.experiments.equal_cost import (
    METHODS,
    NUM_ORDERS,
    enumerator_successes,
    legal_answers,
    rival_successes,
    rivals_table,
)
from extrabitter.tasks import REGISTRY, load_task


def samples(values: str, yes: str = "", tokens: int = 10, problem: str = "p") -> pd.DataFrame:
    """Completions of a problem that hand in one letter each, of which r is right; "." hands in nothing."""
    rows = [("" if value == "." else value, value == "r", int(value in yes)) for value in values]
    table = pd.DataFrame(rows, columns=["value", "correct", "num_yes_verdicts"])
    return table.assign(problem=problem, num_completion_tokens=tokens)


def budget(tokens: float, problem: str = "p") -> pd.Series:
    return pd.Series([float(tokens)], index=[problem])


def by_hand(values: str, draws: int, pick: str, yes: str = "") -> float:
    """Return the mean success over all orders of so many draws."""
    found = []
    for order in permutations(values):
        drawn = [value for value in order[:draws] if value != "."] or ["."]
        if pick == "outside checker":
            found.append(float("r" in drawn))
        elif pick == "self-check":
            said = [value for value in order[:draws] if value in yes]
            found.append(float((said[0] if said else order[draws - 1]) == "r"))
        else:
            most = max(drawn.count(value) for value in drawn)
            winners = {value for value in drawn if drawn.count(value) == most}
            found.append(("r" in winners) / len(winners))
    return float(np.mean(found))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("values", ["raabbr", "rra.b.", "rabcde", "...a.r"])
@pytest.mark.parametrize("draws", [1, 2, 3, 5])
def test_a_rival_does_as_well_as_all_its_orders_on_average(method: str, values: str, draws: int) -> None:
    found = rival_successes(samples(values, yes="rb"), budget(10 * draws), method, seed=0).iloc[0]
    expected = by_hand(values, draws, method, yes="rb")
    assert found["success"] == pytest.approx(expected, abs=4 * 0.5 / np.sqrt(NUM_ORDERS))
    assert not found["is_short"]
    assert found["num_tokens"] <= 10 * draws + 1e-9
    if method == "majority":
        assert found["num_tokens"] == pytest.approx(10 * draws), "who votes spends all"


@pytest.mark.parametrize(
    ("values", "tokens", "method", "success", "spent"),
    [
        # A part of a draw is made with the chance of that part.
        *(("rrrrrrrr", tokens, "outside checker", tokens / 10, tokens) for tokens in (2, 5, 10)),
        # Who checks stops at success and saves tokens.
        ("rrrr", 40, "outside checker", 1, 10),
        ("aaaa", 40, "outside checker", 0, 40),
        # Too few samples are said.
        ("ra", 100, "majority", 0.5, 20),
    ],
)
def test_tokens_are_spent_until_they_or_samples_end_or_a_check_succeeds(
    values: str, tokens: int, method: str, success: float, spent: float
) -> None:
    found = rival_successes(samples(values), budget(tokens), method, seed=0).iloc[0]
    assert found["success"] == pytest.approx(success, abs=0.12 if 0 < success < 1 else 0)
    assert found["num_tokens"] == pytest.approx(spent) and found["is_short"] == (tokens == 100)


@pytest.mark.parametrize(
    ("answers", "right", "draws"), [(10, 2, 3), (10, 10, 1), (8, 1, 8), (5, 1, 9), (16, 3, 0)]
)
def test_the_enumerator_draws_without_repeating_itself(answers: int, right: int, draws: int) -> None:
    table = pd.DataFrame({"problem": ["p"], "num_answers": answers, "num_right": right, "num_tokens": 7})
    found = enumerator_successes(table, budget(7 * draws)).iloc[0]
    rng = np.random.default_rng(0)
    orders = rng.random((40_000, answers)).argsort(axis=1)[:, :draws]
    assert found["success"] == pytest.approx((orders < right).any(axis=1).mean(), abs=0.01)
    assert found["num_tokens"] <= 7 * min(draws, answers) + 1e-9


def test_the_enumerators_part_of_an_answer_lies_in_between() -> None:
    table = pd.DataFrame({"problem": ["p"], "num_answers": 10, "num_right": 2, "num_tokens": 10})
    whole = [enumerator_successes(table, budget(10 * draws))["success"].iloc[0] for draws in (2, 3)]
    assert enumerator_successes(table, budget(25))["success"].iloc[0] == pytest.approx(np.mean(whole))


@pytest.mark.parametrize("name", REGISTRY)
def test_what_an_enumerator_goes_through_comes_from_the_task(name: str) -> None:
    task = load_task(name)
    names = [problem.identifier for problem in task.problems("validation", 5, 0, distinct=True)]
    table = legal_answers(task, names)
    assert table["problem"].tolist() == names
    assert ((table["num_right"] >= 1) & (table["num_right"] <= table["num_answers"])).all()
    problem = task.read_problem(names[0])
    assert table["num_right"].iloc[0] == len(task.solve(problem)) and (table["num_tokens"] > 1).all()


def arms(problems: int = 40) -> tuple[pd.DataFrame, dict[str, pd.DataFrame], pd.DataFrame]:
    """A searcher, its rival, and what an enumerator has to know."""
    names = [str(number) for number in range(problems)]
    searcher = [samples("rrra", tokens=60, problem=name) for name in names]
    guesser = [samples("rabcabcabcabcabc", tokens=10, problem=name) for name in names]
    answers = pd.DataFrame({"problem": names, "num_answers": 12, "num_right": 1, "num_tokens": 10})
    return pd.concat(searcher), {"guesser": pd.concat(guesser)}, answers


def test_the_table_sets_each_rival_beside_the_searcher_problem_by_problem() -> None:
    table = rivals_table(*arms()).set_index(["arm", "method"])
    assert len(table) == 1 + len(METHODS) + 1
    assert table.loc[("searcher", "one completion"), "value"] == 0.75
    checked, listed = table.loc[("guesser", "outside checker")], table.loc[("enumerator", "outside checker")]
    assert checked["value"] == pytest.approx(6 / 16, abs=0.03), "six draws of sixteen, one of which is right"
    assert listed["value"] == pytest.approx(6 / 12)
    for row in (checked, listed):
        assert row["gap"] == pytest.approx(0.75 - row["value"])
        assert row["gap_lower"] <= row["gap"] <= row["gap_upper"]
        assert row["lower"] < row["value"] < row["upper"]
    assert table.loc[("guesser", "majority"), "num_tokens"] == pytest.approx(60)
    assert (table["frac_short"] == 0).all()


def test_the_table_is_fixed_by_its_seed_and_refuses_other_problems() -> None:
    searcher, rivals, answers = arms(6)
    tables = [rivals_table(searcher, rivals, answers, seed=seed) for seed in (1, 1, 2)]
    pd.testing.assert_frame_equal(tables[0], tables[1])
    assert not tables[0].equals(tables[2])
    others = {arm: rows[rows["problem"] != "3"] for arm, rows in rivals.items()}
    with pytest.raises(ValueError, match="guesser: answers other problems"):
        rivals_table(searcher, others, answers)
