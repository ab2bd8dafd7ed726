"""Behaviours measured in completions: what occurs, and what does its work."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from extrabitter.behaviours.measures import MEASURES, measure_trace, summarise
from extrabitter.tables import SCHEMAS
from extrabitter.tasks import BEHAVIOURS, load_task
from extrabitter.tasks.countdown.problems import Problem

TASK = load_task("countdown")
PROBLEM = Problem((6, 7, 9), 8)


def measure(text: str, truncated: bool = False) -> dict[str, Any]:
    return measure_trace(TASK.parse(text, PROBLEM, truncated))


HIT = "9 - 7 = 2 , 6 + 2 = 8"
MISS = "7 * 6 = 42 , 42 - 9 = 33"
BACK = "back 6 7 9 target 8 :"

DATA = Path(__file__).parents[1] / "data" / "completions.yaml"
COMPLETIONS = yaml.safe_load(DATA.read_text(encoding="utf-8"))


def expected_columns(text: str, reason: str, **told: Any) -> dict[str, Any]:
    """Spell out all columns: attempts have two right steps, and the last one hits if the answer does, unless told."""
    num_attempts = told.get("num_attempts", 1 + text.count("back "))
    num_hits = told.get("num_hits", int(reason == "correct"))
    num_steps = told.get("num_steps", 2 * num_attempts)
    columns = {
        "correct": reason == "correct",
        "reason": reason,
        "value": "8" if reason == "correct" else "",
        "num_filler": text.count(".") if text.startswith(".") else 0,
        "well_formed": reason not in ("unfinished", "unexpected_word", "trailing_words"),
        "answered": reason not in ("unfinished", "unexpected_word"),
        "num_attempts": num_attempts,
        "num_hits": num_hits,
        "first_attempt_hit": num_hits == num_attempts > 0,
        "num_repeated_attempts": 0,
        "num_steps": num_steps,
        "num_right_steps": num_steps,
    }
    verdicts = ("yes_verdicts", "hit_verdicts", "miss_verdicts")
    pairs = {name: tuple(told.get(name, (0, 0))) for name in (*BEHAVIOURS, *verdicts)}
    both = zip(pairs["hit_verdicts"], pairs["miss_verdicts"], strict=True)
    pairs["verdicts"] = pairs["verification"] = tuple(map(sum, both))
    for name, (count, functional) in pairs.items():
        is_behaviour = name in BEHAVIOURS
        columns[f"{name}_count" if is_behaviour else f"num_{name}"] = count
        columns[f"{name}_functional_count" if is_behaviour else f"num_true_{name}"] = functional
    return columns | {name: value for name, value in told.items() if name not in pairs}


@pytest.mark.parametrize("name", COMPLETIONS)
def test_a_completion_is_measured_as_a_person_would(name: str) -> None:
    assert measure(COMPLETIONS[name]["text"]) == expected_columns(**COMPLETIONS[name])


def test_the_columns_are_those_of_the_table_behind_what_the_caller_gives() -> None:
    columns, measured = SCHEMAS["completions"], measure("")
    given = ["problem", "band", "sample", "prompt", "completion", "num_completion_tokens", "truncated"]
    assert [column.name for column in columns] == [*given, *measured]
    kinds = {"int": int, "bool": bool, "str": str}
    assert all(type(measured[column.name]) is kinds[column.dtype] for column in columns[len(given) :])


def test_english_is_measured_by_the_same_columns_and_what_it_does_not_tell_is_missing() -> None:
    wording = TASK.english("plain")
    text = "6 + 7 + 9 = 22, too big. 9 - 7 = 2, 6 + 2 = 8, which is the target. <answer> 9 - 7 + 6 </answer>"
    counts = measure_trace(wording.parse(text, PROBLEM))
    assert counts.keys() == measure("").keys()
    assert (counts["correct"], counts["num_attempts"], counts["num_hits"]) == (True, 2, 1)
    assert (counts["num_steps"], counts["num_right_steps"]) == (3, 3)
    assert (counts["verification_count"], counts["backtracking_count"]) == (2, 1)
    summary = summarise(pd.DataFrame([counts]).assign(num_completion_tokens=20, truncated=False))
    assert math.isnan(summary["verdict_accuracy"]) and summary["frac_searches"] == 1


def completions_table(texts: list[str]) -> pd.DataFrame:
    rows = [measure(text) for text in texts]
    tokens = [len(text.split()) + 1 for text in texts]
    return pd.DataFrame(rows).assign(num_completion_tokens=tokens, truncated=False)


def test_a_summary_is_what_one_counts_by_hand() -> None:
    texts = [
        f"{MISS} check 8 no {BACK} {HIT} check 8 yes answer",
        f"{HIT} check 8 no {BACK} {MISS} {BACK} {MISS} check 8 yes answer",
        f"{MISS} answer",
        f"aim 2 , {HIT}",
    ]
    summary = summarise(completions_table(texts).assign(truncated=[False, False, False, True]))
    expected = {
        "pass@1": 1 / 4, "first_attempt_hit_rate": 2 / 4, "mean_attempts": 7 / 4, "hit_rate": 3 / 7,
        "repeated_attempt_rate": 1 / 7, "verdict_accuracy": 2 / 4, "yes_verdict_accuracy": 1 / 2,
        "hit_verdict_accuracy": 1 / 2, "miss_verdict_accuracy": 1 / 2, "frac_right_steps": 1.0,
        "frac_searches": 2 / 4, "frac_well_formed": 3 / 4, "frac_answered": 3 / 4, "frac_truncated": 1 / 4,
        "mean_backtracking_count": 3 / 4, "frac_with_backtracking": 2 / 4, "frac_functional_backtracking": 2 / 3,
        "frac_with_subgoal_setting": 1 / 4, "frac_functional_subgoal_setting": 1.0,
    }  # fmt: skip
    assert {name: summary[name] for name in expected} == pytest.approx(expected)
    assert summary.keys() == MEASURES.keys()


def test_what_does_not_occur_has_no_rate() -> None:
    summary = summarise(completions_table([f"{HIT} answer"]))
    assert math.isnan(summary["verdict_accuracy"])
    assert math.isnan(summary["frac_functional_backtracking"])
    assert summary["mean_backtracking_count"] == 0.0
    assert all(math.isnan(value) for value in summarise(completions_table([""]).iloc[:0]).values())
