"""What every task must hold to: five standard tests, and what the stages rely on beside them."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from itertools import permutations, product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extrabitter.behaviours.measures import measure_trace
from extrabitter.tasks import BEHAVIOURS, REGISTRY, SEARCH, SPECIAL_WORDS, Task, Trace, band_of, load_task
from extrabitter.tasks.countdown.problems import attempt_table

NAMES = [*REGISTRY, "letters"]
RISING = [  # bands by rising difficulty, where they can be compared
    ("countdown", ("two", "common", "rare")),
    ("countdown", ("two", "common", "four")),
    ("knights", ("people3", "people4", "people5")),
    ("knights", ("people4", "islands33", "islands34", "islands44", "islands333")),
    ("letters", ("twins", "different")),
]


@pytest.fixture(autouse=True)
def _with_letters(letters: Task) -> None:
    """Let the toy task stand beside the others."""


def legal_answers(task: Task, problem: Any) -> Iterator[tuple[str, Any]]:
    """Yield every legal answer as text, with what `solve` would list if it is a solution."""
    if task.name == "countdown":
        table = attempt_table(problem.numbers)
        for attempt in map(table.attempt, range(len(table))):
            yield " , ".join(f"{a} {sign} {b} = {c}" for a, sign, b, c in attempt) + " answer", attempt
    elif task.name == "knights":
        for roles in product(("knight", "knave"), repeat=len(problem.people)):
            given_roles = dict(zip(problem.people, roles, strict=True))
            yield " ".join(f"{who} {role}" for who, role in given_roles.items()) + " answer", given_roles
    elif task.name == "letters":
        for order in sorted(set(permutations(problem.letters))):
            yield " ".join(order) + " answer", "".join(order)
    else:
        raise NotImplementedError(f"say how legal answers of {task.name} are written")


@pytest.mark.parametrize("name", NAMES)
def test_traces_read_back_as_they_were_written(name: str) -> None:
    task = load_task(name)
    rng = random.Random(5)
    for band, condition in product(task.bands, task.conditions):
        for problem in task.problems("train", 4, 3, band):
            script = task.write_trace(problem, condition, rng)
            words = task.render(script, problem).split()
            trace = task.parse(" ".join(words), problem)
            assert trace.well_formed and trace.answered, (condition, words)
            assert {*words, *task.prompt(problem, cue=True).split()} <= set(task.vocabulary)
            assert words[-1] == "answer" and trace.attempts
            check_spans(trace, len(words))
            shown = {use.behaviour for use in trace.uses}
            if condition in ("direct", "filler"):
                assert len(trace.attempts) == 1 and not shown
                assert (trace.num_filler > 0) <= (condition == "filler")
            if condition in BEHAVIOURS:
                assert shown <= {condition}
            if condition in ("search", "wrong", "verification", "all_behaviours"):
                for attempt in trace.attempts:
                    if attempt.said:
                        assert attempt.verdict_true
                        true = task.true_verdict(problem, " ".join(words[: attempt.end]))
                        assert " ".join(words[attempt.end :]).startswith(true)
            assert (condition == "wrong") <= (not trace.verdict.correct)


@pytest.mark.parametrize("name", NAMES)
def test_the_verifier_accepts_what_the_solver_lists_and_nothing_else(name: str) -> None:
    task = load_task(name)
    for band in task.bands:
        for problem in task.problems("validation", 3, 7, band):
            solutions = list(task.solve(problem))
            count = num_right = 0
            for text, answer in legal_answers(task, problem):
                correct = task.verify(text, problem).correct
                assert correct == (answer in solutions), (problem.identifier, text)
                count, num_right = count + 1, num_right + correct
            assert (count, num_right) == (task.count_answers(problem), len(solutions))
            assert num_right > 0
            direct = task.write_trace(problem, "direct", random.Random(1), 1.0)
            assert task.verify(task.render(direct, problem), problem).correct


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
def test_no_text_breaks_the_parser(name: str, data: st.DataObject) -> None:
    task = load_task(name)
    seed, band = data.draw(st.integers(0, 20)), data.draw(st.sampled_from(list(task.bands)))
    problem = task.problems("train", 1, seed, band)[0]
    words = st.one_of(st.sampled_from(task.vocabulary), st.sampled_from(["", "\x00", "-1", "\u0661", "</s>"]))
    salad = " ".join(data.draw(st.lists(words, max_size=60)))
    condition = data.draw(st.sampled_from(list(task.conditions)))
    written = task.render(task.write_trace(problem, condition, random.Random(1)), problem).split()
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(written))] * 2)))
    truncated = data.draw(st.booleans())
    for text in (salad, " ".join(written[start:end]), " ".join([*written[:start], salad, *written[end:]])):
        trace = task.parse(text, problem, truncated)
        assert trace.verdict.reason in task.reasons
        assert trace.verdict.correct == (trace.verdict.reason == "correct") <= trace.answered
        assert trace.well_formed or trace.form in task.reasons
        assert task.verify(text, problem).correct == trace.verdict.correct
        check_spans(trace, len(text.split()))
        check_counts(measure_trace(trace))


@pytest.mark.parametrize("name", NAMES)
def test_work_is_bounded_however_long_a_text_is(name: str) -> None:
    task = load_task(name)
    problem = task.problems("train", 1, 1)[0]
    search = task.render(task.write_trace(problem, "search", random.Random(1), 0.0), problem)
    unit = search.removesuffix("answer")
    for piece in (*(f"{word} " for word in task.vocabulary), unit, "x", " ", "\n", "\u2003"):
        begun = time.process_time()
        assert not task.parse((piece * (100_000 // len(piece) + 1))[:100_000], problem).verdict.correct
        assert time.process_time() - begun < 0.005
    for text in (None, 7, b"answer", ["answer"], float("nan")):
        assert not task.parse(text, problem).answered
    long, short = (min(clocked(task, unit * count, problem) for _ in range(5)) for count in (60, 20))
    assert long < 0.01 + 6 * short, "three times the text takes three times as long, about"


def clocked(task: Task, text: str, problem: Any) -> float:
    begun = time.process_time()
    task.parse(text, problem)
    return time.process_time() - begun


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_splits_share_no_problem_and_draws_depend_on_their_arguments_only(name: str) -> None:
    task = load_task(name)
    assert band_of(task, "") == next(iter(task.bands))
    for band in task.bands:
        drawn = {split: task.problems(split, 12, 11, band) for split in ("train", "validation", "test")}
        names = {split: {problem.identifier for problem in found} for split, found in drawn.items()}
        assert sum(map(len, names.values())) == len(set().union(*names.values()))
        for split, found in drawn.items():
            assert found == task.problems(split, 12, 11, band) != task.problems(split, 12, 12, band)
            assert [task.read_problem(problem.identifier) for problem in found] == found
            few = task.problems(split, 6, 5, band, distinct=True)
            assert len({problem.identifier for problem in few}) == 6
    for wrong in ("", "chess", "1:2:3", "\n", "9-8:1", "A", "abcde", "6-7-9:08"):
        with pytest.raises(ValueError, match=r"^problem"):
            task.read_problem(wrong)
    for arguments in (("holdout", 1, 1), ("train", 1, 1, "impossible")):
        with pytest.raises(ValueError, match="must be one of"):
            task.problems(*arguments)
    with pytest.raises(ValueError, match="must be one of"):
        task.write_trace(task.problems("train", 1, 1)[0], "aha", random.Random(1))


@pytest.mark.parametrize(("name", "bands"), RISING)
def test_a_blind_answer_is_right_less_often_in_a_harder_band(name: str, bands: tuple[str, ...]) -> None:
    task = load_task(name)
    chances = []
    for band in bands:
        problems = task.problems("test", 60, 2, band)
        chances.append(sum(len(task.solve(p)) / task.count_answers(p) for p in problems) / len(problems))
    assert chances == sorted(chances, reverse=True) and len(set(chances)) == len(chances), chances


# What the stages rely on beside these.


@pytest.mark.parametrize("name", NAMES)
def test_names_of_a_task_fit_each_other(name: str) -> None:
    task = load_task(name)
    assert task.name == name and task.vocabulary[:4] == SPECIAL_WORDS
    assert len(set(task.vocabulary)) == len(task.vocabulary)
    assert {"direct", "search"} <= set(task.conditions) and "correct" in task.reasons
    assert {task.cue, "answer"} <= set(task.vocabulary)
    assert SEARCH in task.openings and set(task.openings) <= {SEARCH, *BEHAVIOURS}
    for opening in task.openings.values():
        assert set(opening.words) <= set(task.vocabulary)
    problem = task.problems("train", 1, 1)[0]
    assert task.prompt(problem, cue=True) == f"{task.cue} {task.prompt(problem)}"
    assert hash(problem) == hash(task.read_problem(problem.identifier))


@pytest.mark.parametrize("name", NAMES)
def test_drills_are_of_the_vocabulary_and_bear_loss_in_part(name: str) -> None:
    task = load_task(name)
    rng = random.Random(3)
    for _ in range(200):
        text, bears_loss = task.drill(rng)
        assert set(text.split()) <= set(task.vocabulary) and len(bears_loss) == len(text.split())
        assert 0 < sum(bears_loss) < len(bears_loss)


@pytest.mark.parametrize("name", NAMES)
def test_english_says_what_the_grammar_says(name: str) -> None:
    task = load_task(name)
    rng = random.Random(4)
    shots = [(p, task.write_trace(p, "direct", rng, 1.0)) for p in task.problems("train", 2, 9)]
    for style in ("plain", "chat"):
        wording = task.english(style, shots)
        if wording is None:
            continue
        for problem in task.problems("test", 25, 6):
            prompt = wording.prompt(problem)
            assert isinstance(prompt, str) == (style == "plain") and len(prompt) >= 5
            for condition in ("direct", "search"):
                script = task.write_trace(problem, condition, rng)
                said = wording.demonstration(script, problem)
                text = said if isinstance(said, str) else said[0]["content"]
                trace = wording.parse(text, problem)
                assert trace.well_formed and trace.answered
                assert trace.verdict.correct == task.verify(task.render(script, problem), problem).correct
                check_spans(trace, len(text.split()))
        for text in (None, 7, "x" * 100_000, "\n" * 100_000, "<answer>" * 20_000):
            assert wording.parse(text, problem).verdict.reason in task.reasons


def check_spans(trace: Trace, num_words: int) -> None:
    """Hold attempts and uses to places that a text of so many words has, in order."""
    for part in (trace.attempts, trace.uses):
        assert all(0 <= place.start <= place.end <= num_words for place in part)
        assert list(part) == sorted(part, key=lambda place: place.start)
    assert all(use.start < use.end for use in trace.uses)


def check_counts(counts: dict[str, Any]) -> None:
    """Hold what is counted to what can be."""
    assert counts["num_hits"] <= counts["num_attempts"] >= counts["num_repeated_attempts"]
    assert counts["first_attempt_hit"] <= counts["num_hits"]
    assert counts["num_right_steps"] <= counts["num_steps"]
    for kind in ("", "yes_", "hit_", "miss_"):
        assert counts[f"num_true_{kind}verdicts"] <= counts[f"num_{kind}verdicts"]
    assert counts["num_hit_verdicts"] + counts["num_miss_verdicts"] == counts["num_verdicts"]
    for behaviour in BEHAVIOURS:
        assert counts[f"{behaviour}_functional_count"] <= counts[f"{behaviour}_count"]
