"""How a problem is said to a model, in the grammar and in English."""

from __future__ import annotations

import sys
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from extrabitter.params import GrpoParameters, ParameterError
from extrabitter.tasks import REGISTRY, Task, load_task
from extrabitter.tasks.countdown.problems import Problem, multisets
from extrabitter.tasks.free_text import choose_wording, read_completion, spoken, worked_examples

PROBLEM = Problem((3, 8, 9), 33)
RIGHT = "8 * 3 = 24, then 24 + 9 = 33. <answer> 8 * 3 + 9 </answer>"
WRONG = "8 + 3 = 11. <answer> 8 + 3 + 9 </answer>"


def asked(**values: Any) -> GrpoParameters:
    return GrpoParameters(run_dir="unused", arm="arm", seed=0, init_from="models/guesser", **values)


def test_the_grammar_is_the_tasks_own() -> None:
    for task in map(load_task, REGISTRY):
        assert choose_wording(task, asked(task=task.name)) is task and task.stops == ()


def test_plain_text_and_conversation_say_the_same_behind_the_same_examples() -> None:
    task = load_task("countdown")
    plain, chat = (choose_wording(task, asked(prompt=style, few_shot=2)) for style in ("plain", "chat"))
    text, turns = plain.prompt(PROBLEM), chat.prompt(PROBLEM)
    assert isinstance(text, str) and not isinstance(turns, str)
    assert [turn["role"] for turn in turns] == ["user", "assistant"] * 2 + ["user"]
    assert text.startswith(f"Problem: {turns[0]['content']}\nSolution: {turns[1]['content']}\n\nProblem: ")
    assert text.endswith(f"Problem: {turns[-1]['content']}\nSolution:")
    assert "Using the numbers 3, 8 and 9, each exactly once, write an expression that equals 33." in text
    script = task.write_trace(PROBLEM, "all_behaviours", Random(0))
    said = chat.demonstration(script, PROBLEM)
    assert spoken(said) == spoken(plain.demonstration(script, PROBLEM)).strip()
    assert (plain.stops, chat.stops) == (("\nProblem:",), ())


@pytest.mark.parametrize("name", REGISTRY)
def test_examples_are_solved_training_problems_of_their_band(name: str) -> None:
    task = load_task(name)
    wording = task.english("plain")
    for band in task.bands:
        shots = worked_examples(task, 6, 3, band)
        assert shots == worked_examples(task, 6, 3, band)
        for problem, script in shots:
            assert wording.parse(spoken(wording.demonstration(script, problem)), problem).verdict.correct
            assert name != "countdown" or problem.numbers in multisets("train", len(problem.numbers))


def test_a_task_without_english_and_filler_in_english_are_refused(letters: Task) -> None:
    with pytest.raises(ParameterError, match="letters has no English; must be grammar"):
        choose_wording(letters, asked(prompt="chat", task="letters"))
    task = load_task("countdown")
    filler = task.write_trace(PROBLEM, "filler", Random(0))
    with pytest.raises(ParameterError, match="dots have no words"):
        task.english("chat").demonstration(filler, PROBLEM)
    with pytest.raises(ValueError, match="task = 'chess': unknown; must be one of countdown"):
        load_task("chess")


def test_a_completion_counts_up_to_where_it_goes_on_to_another_problem() -> None:
    plain = load_task("countdown").english("plain")
    gone_on = f"{WRONG}\n\nProblem: Using 3, 8 and 9\nSolution: {RIGHT}"
    text, trace, truncated = read_completion(plain, PROBLEM, gone_on, truncated=True)
    assert (text.strip(), truncated) == (WRONG, False)
    wrong, right, read = (plain.parse(each, PROBLEM) for each in (WRONG, RIGHT, gone_on))
    assert trace == wrong == read != right
    cut = "Let me see.\nProblem: reach 33."
    assert read_completion(plain, PROBLEM, cut, truncated=True)[::2] == (cut, True)


def num_calls(work: Callable[[], object]) -> int:
    """Count the functions, of Python and C, that some work calls: its cost, whatever else the machine does."""
    events: list[str] = []
    sys.setprofile(lambda frame, event, argument: events.append(event))
    try:
        work()
    finally:
        sys.setprofile(None)
    return sum(event.endswith("call") for event in events)


# Words of 100,000 letters, tags that nothing closes, marks that do not show, places where a completion may go on.
HOSTILE = "x|</|<answer>|<answer></answer>|</answer>|<think>|</think>|\\boxed{|answer is |answer: 3\n|Ada knight, |Ada "
HOSTILE += "|assume |33 |3=|(|a\u0301|\u202e|\0|\u0661 |\nProblem:|\nProblem: <think>|3=3=3=\nProblem:|1 and "


@pytest.mark.parametrize("name", REGISTRY)
@pytest.mark.parametrize("piece", HOSTILE.split("|"))
def test_a_completion_is_read_up_to_a_bound_and_once_however_often_it_may_go_on(
    name: str, piece: str
) -> None:
    task = load_task(name)
    (problem,) = task.problems("train", 1, 1)
    wording = task.english("plain")

    def work(text: str) -> int:
        return num_calls(lambda: read_completion(wording, problem, text))

    long, short = (piece * (size // len(piece)) for size in (2_000, 1_000))
    calls = min(work(short), work(short))  # the first of a problem compiles its patterns
    assert work(piece * 100_000) < 2_000, "longer ones are not read"
    assert work(long) < 1_000 + 2.5 * calls, "no faster than linear"
    assert work(long + "\nProblem:" * 50) < 30_000 + 2 * work(long), "the whole text is read once"
