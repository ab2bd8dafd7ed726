"""Evaluation: paired problems, honest intervals, one reader for grammar and English, ends that are ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from extrabitter.behaviours.measures import MEASURES, measure_trace
from extrabitter.evaluation import evaluate
from extrabitter.evaluation.evaluate import Subject
from extrabitter.models import hub, tiny
from extrabitter.models.rollouts import SamplingParameters
from extrabitter.params import BehaviourEvaluationParameters
from extrabitter.statistics import clustered_share
from extrabitter.tables import count, validate_table
from extrabitter.tasks import load_task

Reciter = Callable[..., Path]
SAMPLING = SamplingParameters(max_completion_length=16)
RIGHT = "2 + 1 = 3 , 3 + 3 = 6 answer"
WRONG = "2 + 1 = 3 , 3 - 3 = 0 answer"


def parameters(task: str = "countdown", **changes: object) -> BehaviourEvaluationParameters:
    values = {"run_dir": "unused", "arm": "before_searcher", "seed": 0, "checkpoint": "unused", "task": task}
    values |= {"split": "validation", "num_problems": 6, "num_samples": 3, "max_k": 3}
    return BehaviourEvaluationParameters(**values | {"max_completion_length": 12} | changes)


def completions_of(texts: list[str], problem: str = "1-2-3:6") -> pd.DataFrame:
    """Measure given completions of one problem as if they had been sampled."""
    task = load_task("countdown")
    table = pd.DataFrame([measure_trace(task.parse(text, task.read_problem(problem))) for text in texts])
    tokens = [len(text.split()) + 1 for text in texts]
    return table.assign(problem=problem, num_completion_tokens=tokens, truncated=False)


def test_completions_have_the_promised_form(subject: Subject) -> None:
    tables = evaluate.evaluate(parameters(subject.task.name), subject.model, subject.tokenizer)
    for name, table in tables.items():
        validate_table(name, table)
    completions, counts = tables["completions"], tables["counts"]
    assert set(completions["band"]) == {next(iter(subject.task.bands))}
    assert completions.groupby("problem", sort=False)["sample"].apply(list).tolist() == [[0, 1, 2]] * 6
    assert tables["summary"]["measure"].tolist() == [*MEASURES, "search_probability"]
    assert counts["num_samples"].tolist() == [3] * 6
    assert counts["num_tokens"].sum() == completions["num_completion_tokens"].sum()


def test_each_band_can_be_evaluated_and_arms_of_a_seed_answer_the_same_problems(subject: Subject) -> None:
    name = subject.task.name
    for band in subject.task.bands:
        asked = parameters(name, band=band, num_problems=2)
        problems = evaluate.evaluation_problems(asked)
        completions = evaluate.sample_completions(subject, problems, 1, SAMPLING, 0, band=band)
        assert set(completions["band"]) == {band} and completions["problem"].nunique() == 2
    last = evaluate.evaluate(asked, subject.model, subject.tokenizer)["completions"]
    assert last["problem"].unique().tolist() == completions["problem"].tolist()
    arms = ({"arm": "before_searcher"}, {"arm": "after_guesser"}, {"seed": 1})
    asked = [evaluate.evaluation_problems(parameters(name, **changes)) for changes in arms]
    first, second, other = ([problem.identifier for problem in problems] for problems in asked)
    assert first == second and set(first) != set(other)


def test_prefixes_and_the_cue_are_where_they_belong(subject: Subject) -> None:
    problems = subject.task.problems("validation", 2, 1)
    words = subject.task.vocabulary[-2:]
    cued = evaluate.sample_completions(subject, problems, 2, SAMPLING, 0, cue=True)
    assert all(prompt.startswith(f"{subject.task.cue} ") for prompt in cued["prompt"])
    given = [" ".join(words), words[0]]
    prefixed = evaluate.sample_completions(subject, problems, 1, SAMPLING, 0, prefixes=given)
    assert all(text.startswith(start) for text, start in zip(prefixed["completion"], given, strict=True))
    assert (prefixed["num_completion_tokens"] <= SAMPLING.max_completion_length + 2).all()


# Measures and intervals.


@pytest.mark.parametrize("mean", [0.5, 0.02, 0.97])
def test_the_interval_of_a_share_covers_the_truth_as_often_as_it_says(mean: float) -> None:
    rng, covered, trials, num_samples = np.random.default_rng(0), 0, 400, 8
    for _ in range(trials):
        chances = rng.beta(6 * mean, 6 * (1 - mean), size=60)  # problems differ
        share = clustered_share(rng.binomial(num_samples, chances), np.full(60, num_samples))
        covered += share.lower <= mean <= share.upper
    assert binom.cdf(covered, trials, 0.95) > 1e-3


@pytest.mark.parametrize(("text", "value"), [(WRONG, 0.0), (RIGHT, 1.0)])
def test_none_and_all_of_twenty_leave_room(text: str, value: float) -> None:
    completions = pd.concat([completions_of([text] * 8).assign(problem=str(number)) for number in range(20)])
    found = evaluate.summary_table(completions, measures={"pass@1": MEASURES["pass@1"]}).iloc[0]
    table = evaluate.pass_at_k_table(count(completions), max_k=8)
    assert found["value"] == value and (table["value"] == value).all()
    for width in (found["upper"] - found["lower"], *(table["upper"] - table["lower"])):
        assert 3 / 20 <= width < 0.2, "the rule of three, and not much more"


def test_pass_at_k_is_that_of_counting_by_hand() -> None:
    table = evaluate.pass_at_k_table(count(completions_of([RIGHT, WRONG, WRONG, WRONG])), max_k=4)
    validate_table("pass_at_k", table)
    assert table["k"].tolist() == [1, 2, 4]
    assert table["value"].tolist() == pytest.approx([0.25, 0.5, 1.0])


# The probability of search.


def test_the_probability_of_search_is_exact_behind_an_attempt_and_sees_the_mask(
    countdown: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer, task, _ = countdown
    problem, attempt = task.read_problem("6-7-9:8"), "9 - 7 = 2 , 6 + 2 = 8"
    said = {"prompt": [task.prompt(problem)], "completion": [f"{attempt} answer"]}
    monkeypatch.setattr(evaluate, "sample_completions", lambda *_, **__: pd.DataFrame(said))
    ids = tiny.word_ids(tokenizer, task.openings["search"].words)
    expected = evaluate.next_words(countdown, [problem], [attempt])[0, ids].sum()
    assert evaluate.search_probability(countdown, [problem], 0, 16) == pytest.approx([expected], rel=1e-9)
    with evaluate.masked(model, ids):
        assert evaluate.search_probability(countdown, [problem], 0, 16).tolist() == [0.0]
        with evaluate.masked(model, [5]):
            assert tiny.masked_token_ids(model) == sorted([5, *ids])
        assert tiny.masked_token_ids(model) == sorted(ids), "what was masked before stays masked"
    assert tiny.masked_token_ids(model) == []


def test_next_word_probabilities_do_not_depend_on_what_else_is_in_the_batch(subject: Subject) -> None:
    problems = subject.task.problems("validation", 2, 3)
    prefixes = ["", subject.task.prompt(problems[0])]
    together = evaluate.next_words(subject, problems, prefixes)
    alone = [evaluate.next_words(subject, [p], [text])[0] for p, text in zip(problems, prefixes, strict=True)]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert evaluate.next_words(subject, [], []).shape == (0, len(subject.tokenizer))


# What people report of models from a hub, each with its right value.

THOUGHT = "<think>\nProblem: reach 33 with 3, 8, 9.\n3 * 8 = 24, 24 + 9 = 33.</think>\n"
RESTATED = "## Restating\nProblem: make 33 from 3, 8 and 9.\nSolution: as follows.\n"
ANSWER, OTHER = "<answer>3 * 8 + 9</answer>", "<answer>3 + 8 + 9</answer>"
TAGS = ("so", "<answer>", "3", "*", "8", "+", "9", "</answer>")
THINK = ("<think>", "</think>")
OPENS_A_THOUGHT = "{% for message in messages %}<start> {{ message.content }} {% endfor %}<start> <think>"


@pytest.mark.parametrize(
    ("pieces", "options", "style", "expected"),
    [
        # A turn that ends with an id of the generation configuration's list, not with the tokenizer's.
        (("good", "bye"), {"end": "<turn_end>", "eos_token_id": [2, 3]}, "chat", (False, "no_answer", False, 3)),
        (("good", "bye"), {"end": "<turn_end>"}, "chat", (False, "no_answer", False, 3)),
        ((ANSWER,), {"end": "<turn_end>"}, "chat", (True, "correct", False, 2)),
        # Tags that are special tokens of the tokenizer, and an answer that was only thought.
        (TAGS, {"special": ("<answer>", "</answer>")}, "chat", (True, "correct", False, 9)),
        (("<think>", ANSWER, "</think>", "hm"), {"special": THINK}, "chat", (False, "no_answer", False, 5)),
        ((f"<think>hm {ANSWER} hmm let me",), {}, "chat", (False, "no_answer", False, 2)),
        ((f"{ANSWER} hmm let me",), {"template": OPENS_A_THOUGHT}, "chat", (False, "no_answer", False, 2)),
        ((f"{OTHER} hm </think> {ANSWER}",), {"template": OPENS_A_THOUGHT}, "chat", (True, "correct", False, 2)),
        # What would open the next problem stands in a thought, or in front of the answer: it ends nothing.
        ((THOUGHT, ANSWER), {}, "chat", (True, "correct", False, 3)),
        ((THOUGHT, ANSWER), {}, "plain", (True, "correct", False, 3)),
        ((RESTATED, ANSWER), {}, "chat", (True, "correct", False, 3)),
        # Behind the answer it does.
        ((ANSWER, f"\nProblem: another\nSolution: {OTHER}"), {"end": "more"}, "plain", (True, "correct", False, 16)),
        # No end at all.
        (("good",), {"end": "good"}, "chat", (False, "truncated", True, 16)),
    ],
)  # fmt: skip
def test_a_completion_ends_where_the_model_ends_it_and_is_read_whole(
    reciter: Reciter, pieces: tuple[str, ...], options: dict[str, Any], style: str, expected: tuple[Any, ...]
) -> None:
    task = load_task("countdown")
    model, tokenizer, _ = hub.load_for_stage(parameters(prompt=style), str(reciter(*pieces, **options)))
    subject = Subject(model, tokenizer, task, task.english(style))
    problem = task.read_problem("3-8-9:33")
    row = evaluate.sample_completions(subject, [problem], 1, SAMPLING, 0).iloc[0]
    assert (row["correct"], row["reason"], row["truncated"], row["num_completion_tokens"]) == expected
    if expected[0]:
        assert row["value"] == "33" and row["answered"]


def evaluated(folder: Path, **changes: object) -> dict[str, pd.DataFrame]:
    asked = parameters(prompt="chat", **changes)
    loaded = hub.load_for_stage(asked, str(folder))
    return evaluate.evaluate(asked, loaded.model, loaded.tokenizer)


def test_english_and_grammar_fill_the_same_tables(reciter: Reciter) -> None:
    tables = evaluated(reciter("24 + 9 = 33, so", ANSWER))
    for name, table in tables.items():
        validate_table(name, table)
    assert tables["summary"]["measure"].tolist() == list(MEASURES)
