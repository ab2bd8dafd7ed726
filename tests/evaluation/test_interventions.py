"""Interventions do what they say: two arms go on from one text and differ in one word, at the place for it."""

from __future__ import annotations

import random

import numpy as np
import pandas as pd
import pytest

from extrabitter.evaluation import evaluate, interventions
from extrabitter.evaluation.evaluate import Subject
from extrabitter.evaluation.interventions import first_attempts, intervene, summarise_intervention
from extrabitter.models import tiny
from extrabitter.models.rollouts import SamplingParameters
from extrabitter.statistics import wilson_interval
from extrabitter.tasks import SEARCH, Task, load_task

SAMPLING = SamplingParameters(max_completion_length=12)


def written_attempts(task: Task) -> pd.DataFrame:
    """First attempts of traces that search, on a few problems: hits and misses."""
    problems, rng = task.problems("validation", 6, 0, distinct=True), random.Random(3)
    scripts = [task.write_trace(problem, "search", rng, 0.5) for problem in problems]
    texts = [task.render(script, problem) for script, problem in zip(scripts, problems, strict=True)]
    names = [problem.identifier for problem in problems]
    return first_attempts(pd.DataFrame({"problem": names, "completion": texts}), task, 1)


def test_first_attempts_are_whole_legal_and_told_hit_from_miss() -> None:
    hit, miss, task = "9 - 7 = 2 , 6 + 2 = 8", "9 + 7 = 16 , 16 - 6 = 10", load_task("countdown")
    texts = [f"{hit} check 8 yes answer", f"{miss} back 6 7 9 target 8 : {hit} answer"]
    texts += ["9 + 7 = 16 ,", "9 + 7 = 17 , 17 - 6 = 11 answer", "aim", ""]
    completions = pd.DataFrame({"problem": "6-7-9:8", "completion": texts})
    found = first_attempts(completions, task, per_problem=5)
    assert found["hit"].tolist() == [True, False] and found["prefix"].tolist() == [hit, miss]
    assert len(first_attempts(completions, task, per_problem=1)) == 1


def test_drawn_words_follow_the_distribution_within_what_is_allowed() -> None:
    distribution, rng = np.tile([0.5, 0.3, 0.2, 0.0], (20_000, 1)), np.random.default_rng(0)
    for words in ([1, 2], [1, 2, 3]):
        drawn = interventions.draw_words(distribution, rng, words)
        assert set(drawn) == {1, 2} and abs((drawn == 1).mean() - 0.6) < 0.02
    assert set(interventions.draw_words(distribution, rng, [3])) == {-1}


def test_both_arms_go_on_from_one_text_and_differ_in_the_forced_word(subject: Subject) -> None:
    attempts = written_attempts(subject.task)
    assert 0 < attempts["hit"].sum() < len(attempts) == 6
    for behaviour, (words, place) in subject.task.openings.items():
        result = intervene(subject, behaviour, attempts, SAMPLING, seed=1)
        asked = attempts[~attempts["hit"]] if place == "after_miss" else attempts
        problems = map(subject.task.read_problem, asked["problem"])
        for arm in (result.forced, result.other):
            assert arm["problem"].tolist() == asked["problem"].tolist()
        assert (result.probability > 0).all()
        texts = (result.forced["completion"], result.other["completion"], asked["prefix"])
        for problem, forced, other, prefix in zip(problems, *texts, strict=True):
            pairs = zip(forced.split(), other.split(), strict=False)
            shared = next(number for number, (one, another) in enumerate(pairs) if one != another)
            start = " ".join(forced.split()[:shared])
            assert forced.split()[shared] in words and other.split()[shared] not in words
            if place == "start":
                assert start == ""
            elif place == "after_attempt":
                assert start == prefix
            else:
                assert start in (prefix, f"{prefix} {subject.task.true_verdict(problem, prefix)}")


def test_the_model_says_whether_a_verdict_stands_before_it_goes_back(subject: Subject) -> None:
    task, attempts = subject.task, written_attempts(subject.task)
    missed = attempts[~attempts["hit"]]
    problems, prefixes = [task.read_problem(name) for name in missed["problem"]], missed["prefix"].tolist()
    words = task.openings["backtracking"].words
    written = interventions.with_verdicts(subject, problems, prefixes, words)
    for problem, prefix, text in zip(problems, prefixes, written, strict=True):
        verdict = task.true_verdict(problem, prefix)
        row = evaluate.next_words(subject, [problem], [prefix])[0]
        check, back = row[tiny.word_ids(subject.tokenizer, (verdict.split()[0], *words))]
        assert text == (f"{prefix} {verdict}" if check > back else prefix)
        assert verdict.split()[-1] == "no"


def test_what_is_never_said_is_not_forced_and_without_an_attempt_all_is_missing(subject: Subject) -> None:
    attempts = written_attempts(subject.task)
    result = intervene(subject, SEARCH, attempts, SAMPLING, seed=1, least_probability=1.1)
    row = summarise_intervention(result, seed=0)
    assert row["num_pairs"] == 0 and np.isnan(row["advantage"]) and row["p0_forced"] > 0
    row = summarise_intervention(intervene(subject, SEARCH, attempts.iloc[:0], SAMPLING, seed=1), seed=0)
    assert np.isnan(row["p0_forced"]) and np.isnan(row["advantage"]) and row["num_problems"] == 0
    assert str(row) == str(summarise_intervention(interventions.NOT_MADE, seed=0))


def arms(
    problems: list[str], forced: list[bool], other: list[bool], chance: list[float]
) -> interventions.Intervention:
    tables = [pd.DataFrame({"problem": problems, "correct": correct}) for correct in (forced, other)]
    return interventions.Intervention(pd.Series(chance, index=problems), *tables)


def test_advantage_is_averaged_within_problems_first() -> None:
    problems = ["a"] * 8 + ["b"] * 2
    result = arms(problems, [True] * 8 + [False] * 2, [False] * 10, [0.2] * 8 + [0.4] * 2)
    row = summarise_intervention(result, seed=0)
    assert row["advantage"] == pytest.approx(0.5) and row["p0_forced"] == pytest.approx(0.3)
    assert (row["advantage_lower"], row["advantage_upper"]) == (0.0, 1.0)
    assert row["num_problems"] == 2 and row["num_pairs"] == 10


def test_problems_that_all_agree_leave_room_for_some_that_do_not() -> None:
    names = [str(number) for number in range(30)]
    room = wilson_interval(0, 30).upper
    for forced, expected in ((False, (-room, 0, room)), (True, (1 - room, 1, 1))):
        row = summarise_intervention(arms(names, [forced] * 30, [False] * 30, [0.1] * 30), seed=0)
        assert (row["advantage_lower"], row["advantage"], row["advantage_upper"]) == pytest.approx(expected)
