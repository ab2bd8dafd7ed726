"""Rewards keep TRL's contract and agree with the evaluation."""

from __future__ import annotations

from random import Random

import pytest

from extrabitter.behaviours.measures import measure_completion
from extrabitter.training.rewards import correct_reward, format_reward
from extrabitter.tasks.countdown import (
    VOCABULARY,
    TraceCondition,
    generate_problems,
    render_trace,
    write_trace,
)

GOOD = "9 - 7 = 2 , 6 + 2 = 8"


def test_rewards_are_one_float_a_completion_and_ignore_other_columns() -> None:
    completions = [f"{GOOD} answer", "9 + 7 = 16 , 16 - 6 = 10 answer", GOOD, "", f"{GOOD} answer answer"]
    columns = {
        "prompts": ["numbers 6 7 9 target 8 :"] * 5,
        "completion_ids": [[1, 2]] * 5,
        "numbers": [[9, 6, 7]] * 5,
        "target": [8] * 5,
        "trainer_state": None,
    }
    assert correct_reward(completions=completions, **columns) == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert format_reward(completions=completions, **columns) == [1.0, 1.0, 0.0, 0.0, 0.0]


def test_each_completion_is_judged_by_its_own_problem() -> None:
    assert correct_reward([f"{GOOD} answer"] * 2, [[6, 7, 9], [6, 7, 9]], [8, 9]) == [1.0, 0.0]
    assert correct_reward([f"{GOOD} answer"] * 2, [[6, 7, 9], [5, 7, 9]], [8, 8]) == [1.0, 0.0]


def test_rewards_agree_with_the_evaluation_on_written_and_corrupted_completions() -> None:
    rng = Random(0)
    problems = generate_problems("train", 1500, 0)
    texts = []
    for index, problem in enumerate(problems):
        words = render_trace(
            write_trace(problem, TraceCondition(True, True, True, True), rng), problem
        ).split()
        if index % 2:
            words[rng.randrange(len(words))] = rng.choice(VOCABULARY)
        texts.append(" ".join(words))
    numbers, target = (
        [list(problem.numbers) for problem in problems],
        [problem.target for problem in problems],
    )
    measured = [
        measure_completion(text, problem, False) for text, problem in zip(texts, problems, strict=True)
    ]
    assert correct_reward(texts, numbers, target) == [float(m["correct"]) for m in measured]
    assert format_reward(texts, numbers, target) == [float(m["well_formed"]) for m in measured]
    assert {m["correct"] for m in measured} == {m["well_formed"] for m in measured} == {False, True}


def test_columns_of_unequal_length_are_an_error_not_a_silent_zip() -> None:
    with pytest.raises(ValueError, match="zip"):
        correct_reward([f"{GOOD} answer"] * 2, [[6, 7, 9]], [8])
