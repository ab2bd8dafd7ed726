"""Rewards keep TRL's contract and agree with the evaluation."""

from __future__ import annotations

from functools import partial
from random import Random

import pytest

from extrabitter.tasks import load_task
from extrabitter.tasks.wording import Grammar
from extrabitter.training import rewards

TASK = load_task("countdown")
GOOD = "9 - 7 = 2 , 6 + 2 = 8"
correct_reward = partial(rewards.correct_reward, task=TASK, wording=Grammar(TASK))
format_reward = partial(rewards.format_reward, task=TASK, wording=Grammar(TASK))


def test_rewards_are_one_float_a_completion_and_ignore_other_columns() -> None:
    completions = [f"{GOOD} answer", "9 + 7 = 16 , 16 - 6 = 10 answer", GOOD, "", f"{GOOD} answer answer"]
    columns = {"prompts": ["?"] * 5, "completion_ids": [[1, 2]] * 5, "problem": ["6-7-9:8"] * 5, "trainer_state": None}
    assert correct_reward(completions=completions, **columns) == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert format_reward(completions=completions, **columns) == [1.0, 1.0, 0.0, 0.0, 0.0]
    turns = [[{"role": "assistant", "content": text}] for text in completions]
    assert correct_reward(completions=turns, **columns) == [1.0, 0.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("other", ["6-7-9:9", "5-7-9:8"])
def test_each_completion_is_judged_by_its_own_problem(other: str) -> None:
    assert correct_reward([f"{GOOD} answer"] * 2, problem=["6-7-9:8", other]) == [1.0, 0.0]


def test_rewards_agree_with_the_verifier_on_written_and_corrupted_completions() -> None:
    rng = Random(0)
    problems = TASK.problems("train", 1_000, 0)
    texts = []
    for index, problem in enumerate(problems):
        words = TASK.render(TASK.write_trace(problem, "all_behaviours", rng), problem).split()
        if index % 2:
            words[rng.randrange(len(words))] = rng.choice(TASK.vocabulary)
        texts.append(" ".join(words))
    names = [problem.identifier for problem in problems]
    correct, formatted = correct_reward(texts, problem=names), format_reward(texts, problem=names)
    pairs = list(zip(texts, problems, strict=True))
    assert correct == [float(TASK.verify(text, problem).correct) for text, problem in pairs]
    assert formatted == [float(TASK.parse(text, problem).well_formed) for text, problem in pairs]
    assert set(correct) == set(formatted) == {0.0, 1.0}


def test_columns_of_unequal_length_are_an_error_not_a_silent_zip() -> None:
    with pytest.raises(ValueError, match="zip"):
        correct_reward([f"{GOOD} answer"] * 2, problem=["6-7-9:8"])
