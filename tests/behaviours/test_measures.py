"""Behaviours measured in completions: what occurs, and what does its work."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from extrabitter.behaviours.measures import MEASURES, measure_trace, summarise
from extrabitter.tables import SCHEMAS
from extrabitter.tasks import BEHAVIOURS, load_task
from extrabitter.tasks.countdown.problems import Problem

TASK = load_task("countdown")
PROBLEM = Problem((6, 7, 9), 8)


def measure(text: str, truncated: bool = False) -> dict[str, Any]:
    return measure_trace(TASK.parse(text, PROBLEM, truncated), truncated)


HIT = "9 - 7 = 2 , 6 + 2 = 8"
MISS = "7 * 6 = 42 , 42 - 9 = 33"
BACK = "back 6 7 9 target 8 :"

# A completion and what is expected of it; what is not named is expected to be 0, False, or as `expected` derives.
COMPLETIONS = {
    "a direct hit": (
        f"{HIT} answer",
        {"reason": "correct", "num_attempts": 1, "num_hits": 1, "num_steps": 2},
    ),
    "a direct miss": (f"{MISS} answer", {"reason": "wrong_value", "value": "33", "num_attempts": 1, "num_steps": 2}),
    "filler is no behaviour": (
        f". . . . {HIT} answer",
        {"reason": "correct", "num_attempts": 1, "num_hits": 1, "num_steps": 2},
    ),
    "a search that finds": (
        f"{MISS} check 8 no {BACK} {HIT} check 8 yes answer",
        {"reason": "correct", "num_attempts": 2, "num_hits": 1, "num_steps": 4, "first": False}
        | {"miss_verdicts": (1, 1), "hit_verdicts": (1, 1), "yes_verdicts": (1, 1), "backtracking": (1, 1)},
    ),
    "a false yes": (
        f"{MISS} check 8 yes answer",
        {"reason": "wrong_value", "value": "33", "num_attempts": 1, "num_steps": 2}
        | {"miss_verdicts": (1, 0), "yes_verdicts": (1, 0)},
    ),
    "a hit called a miss, dropped, and repeated": (
        f"{HIT} check 8 no {BACK} 9 - 7 = 2 , 2 + 6 = 8 check 8 yes answer",
        {"reason": "correct", "num_attempts": 2, "num_hits": 2, "num_steps": 4, "num_repeated_attempts": 1}
        | {"hit_verdicts": (2, 1), "yes_verdicts": (1, 1), "backtracking": (1, 0)},
    ),
    "a verdict on another target is not true": (
        f"{HIT} check 9 yes answer",
        {"reason": "correct", "num_attempts": 1, "num_hits": 1, "num_steps": 2}
        | {"hit_verdicts": (1, 0), "yes_verdicts": (1, 0)},
    ),
    "yes on the right value by the wrong way": (
        "9 - 1 = 8 , 8 - 0 = 8 check 8 yes answer",
        {"reason": "number_not_available", "num_attempts": 1, "num_steps": 2}
        | {"miss_verdicts": (1, 0), "yes_verdicts": (1, 0)},
    ),
    "false arithmetic": (
        "9 - 7 = 3 , 6 + 3 = 9 check 8 no answer",
        {"reason": "wrong_arithmetic", "num_attempts": 1, "num_steps": 2, "num_right_steps": 1}
        | {"miss_verdicts": (1, 1)},
    ),
    "backtracking without verification": (
        f"{MISS} {BACK} {HIT} answer",
        {"reason": "correct", "num_attempts": 2, "num_hits": 1, "num_steps": 4, "first": False}
        | {"backtracking": (1, 1)},
    ),
    "backtracking to numbers on the way": (
        "9 - 7 = 2 , 6 * 2 = 12 back 2 6 target 8 : 6 + 2 = 8 answer",
        {"reason": "correct", "num_attempts": 2, "num_hits": 1, "num_steps": 3, "first": False}
        | {"backtracking": (1, 1)},
    ),
    "a repeat through numbers on the way": (
        f"{HIT} back 2 6 target 8 : 6 + 2 = 8 answer",
        {"reason": "correct", "num_attempts": 2, "num_hits": 2, "num_steps": 3, "num_repeated_attempts": 1}
        | {"backtracking": (1, 0)},
    ),
    "backtracking to numbers never reached": (
        f"{MISS} back 2 6 target 8 : 6 + 2 = 8 answer",
        {"reason": "numbers_not_reached", "num_attempts": 2, "num_steps": 3, "backtracking": (1, 0)},
    ),
    "backtracking to another target": (
        f"{MISS} back 6 7 9 target 9 : {HIT} answer",
        {"reason": "correct", "num_attempts": 2, "num_hits": 1, "num_steps": 4, "first": False}
        | {"backtracking": (1, 0)},
    ),
    "backtracking into an illegal attempt": (
        f"{MISS} {BACK} 9 - 8 = 1 , 7 + 1 = 8 answer",
        {"reason": "number_not_available", "num_attempts": 2, "num_steps": 4, "backtracking": (1, 0)},
    ),
    "a subgoal that is used": (
        f"aim 2 , {HIT} answer",
        {"reason": "correct", "num_attempts": 1, "num_hits": 1, "num_steps": 2, "subgoal_setting": (1, 1)},
    ),
    "a subgoal that only the end reaches": (
        f"aim 8 , {HIT} answer",
        {"reason": "correct", "num_attempts": 1, "num_hits": 1, "num_steps": 2, "subgoal_setting": (1, 0)},
    ),
    "a subgoal forgotten": (
        f"aim 3 , {HIT} answer",
        {"reason": "correct", "num_attempts": 1, "num_hits": 1, "num_steps": 2, "subgoal_setting": (1, 0)},
    ),
    "a backward step that is right": (
        f"need 8 - 6 = 2 , {HIT} answer",
        {"reason": "correct", "num_attempts": 1, "num_hits": 1, "num_steps": 2, "backward_chaining": (1, 1)},
    ),
    "two backward steps, the first from a number not given": (
        f"need 14 - 8 = 6 , {MISS} {BACK} need 7 + 8 = 15 , 9 + 6 = 15 , 15 - 7 = 8 answer",
        {"reason": "correct", "num_attempts": 2, "num_hits": 1, "num_steps": 4, "first": False}
        | {"backtracking": (1, 1), "backward_chaining": (2, 1)},
    ),
    "a backward step that is false": (
        f"need 8 - 6 = 3 , {HIT} answer",
        {"reason": "correct", "num_attempts": 1, "num_hits": 1, "num_steps": 2, "backward_chaining": (1, 0)},
    ),
    "a backward step from something else": (
        f"need 9 - 7 = 2 , {HIT} answer",
        {"reason": "correct", "num_attempts": 1, "num_hits": 1, "num_steps": 2, "backward_chaining": (1, 0)},
    ),
    "cut after a verdict": (
        f"{MISS} check 8 no",
        {"reason": "unfinished", "num_attempts": 1, "num_steps": 2, "miss_verdicts": (1, 1)},
    ),
    "cut inside the second attempt": (
        f"{MISS} {BACK} 9 - 7 = 2 ,",
        {"reason": "unfinished", "num_attempts": 1, "num_steps": 3, "backtracking": (1, 0)},
    ),
    "cut at the end of the second attempt": (
        f"{MISS} {BACK} {HIT}",
        {"reason": "unfinished", "num_attempts": 2, "num_hits": 1, "num_steps": 4, "first": False}
        | {"backtracking": (1, 1)},
    ),
    "cut at the word back": (
        f"{MISS} back",
        {"reason": "unfinished", "num_attempts": 1, "num_steps": 2, "backtracking": (1, 0)},
    ),
    "stopped short": ("9 - 7 = 2 answer", {"reason": "numbers_unused", "num_attempts": 1, "num_steps": 1}),
    "more after the answer": (
        f"{HIT} answer 8",
        {"reason": "trailing_words", "num_attempts": 1, "num_hits": 1, "num_steps": 2},
    ),
    "nothing": ("", {"reason": "unfinished"}),
    "no sense": ("yes no yes", {"reason": "unexpected_word"}),
}


def expected_columns(expectation: dict) -> dict:
    """Spell out all columns of what is expected; a pair is (occurs, functional or true)."""
    hit, true_hit = expectation.get("hit_verdicts", (0, 0))
    miss, true_miss = expectation.get("miss_verdicts", (0, 0))
    yes, true_yes = expectation.get("yes_verdicts", (0, 0))
    reason = expectation["reason"]
    text = expectation["text"]
    columns = {
        "correct": reason == "correct",
        "reason": reason,
        "value": expectation.get("value", "8" if reason == "correct" else ""),
        "num_filler": text.count(".") if text.startswith(".") else 0,
        "well_formed": reason not in ("unfinished", "unexpected_word", "trailing_words"),
        "answered": reason not in ("unfinished", "unexpected_word"),
        "first_attempt_hit": expectation.get("first", expectation.get("num_hits", 0) > 0),
        "num_right_steps": expectation.get("num_right_steps", expectation.get("num_steps", 0)),
        "num_verdicts": hit + miss,
        "num_true_verdicts": true_hit + true_miss,
        "num_yes_verdicts": yes,
        "num_true_yes_verdicts": true_yes,
        "num_hit_verdicts": hit,
        "num_true_hit_verdicts": true_hit,
        "num_miss_verdicts": miss,
        "num_true_miss_verdicts": true_miss,
    }
    for name in ("num_attempts", "num_hits", "num_steps", "num_repeated_attempts"):
        columns[name] = expectation.get(name, 0)
    pairs = {"verification": (hit + miss, true_hit + true_miss)} | expectation
    for behaviour in BEHAVIOURS:
        count, functional = pairs.get(behaviour, (0, 0))
        columns[f"{behaviour}_count"], columns[f"{behaviour}_functional_count"] = count, functional
    return columns


@pytest.mark.parametrize("name", COMPLETIONS)
def test_a_completion_is_measured_as_a_person_would(name: str) -> None:
    text, expectation = COMPLETIONS[name]
    assert measure(text) == expected_columns(expectation | {"text": text})


def test_the_columns_are_those_of_the_table_behind_what_the_caller_gives() -> None:
    columns = SCHEMAS["completions"]
    given_by_caller = ["problem", "band", "sample", "prompt", "completion", "num_completion_tokens", "truncated"]
    measured = measure("")
    assert [column.name for column in columns] == [*given_by_caller, *measured]
    kinds = {"int": int, "bool": bool, "str": str}
    assert all(type(measured[column.name]) is kinds[column.dtype] for column in columns[len(given_by_caller) :])


def test_truncation_is_a_reason_of_its_own() -> None:
    assert measure(MISS, True)["reason"] == "truncated"
    assert measure_trace(TASK.parse(MISS, PROBLEM), True)["reason"] == "truncated"
    assert measure(f"{HIT} answer", True)["reason"] == "correct"
    assert measure("yes", True)["reason"] == "unexpected_word"


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
        "pass@1": 1 / 4,
        "first_attempt_hit_rate": 2 / 4,
        "mean_attempts": 7 / 4,
        "hit_rate": 3 / 7,
        "repeated_attempt_rate": 1 / 7,
        "verdict_accuracy": 2 / 4,
        "yes_verdict_accuracy": 1 / 2,
        "hit_verdict_accuracy": 1 / 2,
        "miss_verdict_accuracy": 1 / 2,
        "frac_right_steps": 1.0,
        "frac_searches": 2 / 4,
        "frac_well_formed": 3 / 4,
        "frac_answered": 3 / 4,
        "frac_truncated": 1 / 4,
        "mean_backtracking_count": 3 / 4,
        "frac_with_backtracking": 2 / 4,
        "frac_functional_backtracking": 2 / 3,
        "frac_with_subgoal_setting": 1 / 4,
        "frac_functional_subgoal_setting": 1.0,
    }
    assert {name: summary[name] for name in expected} == pytest.approx(expected)
    assert summary.keys() == MEASURES.keys()


def test_what_does_not_occur_has_no_rate() -> None:
    summary = summarise(completions_table([f"{HIT} answer"]))
    assert math.isnan(summary["verdict_accuracy"])
    assert math.isnan(summary["frac_functional_backtracking"])
    assert summary["mean_backtracking_count"] == 0.0
    assert all(math.isnan(value) for value in summarise(completions_table([""]).iloc[:0]).values())
