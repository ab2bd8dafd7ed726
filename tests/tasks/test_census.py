"""What the census reads in free text: equations, attempts and behaviours; and how well it agrees with labels."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from extrabitter.tasks import BEHAVIOURS, load_task
from extrabitter.tasks.countdown.census import take_census
from extrabitter.tasks.countdown.equations import MAX_CHARACTERS, normalise, read_statements
from extrabitter.tasks.countdown.problems import Problem
from programs import load

NUMBERS, TARGET = (3, 8, 9), 33  # 3 * 8 + 9
SCORES = load("census_scores")
ENGLISH = load_task("countdown").english("chat")
CASES = yaml.safe_load((Path(__file__).parents[1] / "data" / "english.yaml").read_text(encoding="utf-8"))


def parse(text: object, truncated: bool = False):
    return ENGLISH.parse(text, Problem(NUMBERS, TARGET), truncated)


# Equations.


@pytest.mark.parametrize(("text", "expected"), CASES["equations"].items())
def test_equations_are_read_in_many_spellings(text: str, expected: list[object]) -> None:
    found = read_statements(text).equations
    read = [[[*each.numbers], each.operations, each.stated] for each in found]
    assert read == expected


def test_value_and_stated_result_are_told_apart_and_places_are_those_of_the_text() -> None:
    (equation,) = read_statements("6 * 7 = 43").equations
    assert (equation.value, equation.stated, equation.result) == (42, 43, 43)
    (equation,) = read_statements("6 / 0 = 6").equations
    assert equation.value is None and equation.stated == 6
    statements = read_statements("I need 24. 6 * 4 = 24. That leaves 3.")
    assert [mention.value for mention in statements.mentions] == [24, 3]
    text = r"So $6 \times 4$ makes 24: **yes**, and then 24 − 3 = 21."
    statements = read_statements(text)
    assert [text[q.start : q.end] for q in statements.equations] == [r"6 \times 4$ makes 24", "24 − 3 = 21"]


# Behaviours.


@pytest.mark.parametrize(
    ("text", "expected"), [(text, names) for names, texts in CASES["behaviours"].items() for text in texts]
)
def test_a_behaviour_is_found_where_it_is_done_and_not_where_it_is_announced(
    text: str, expected: str
) -> None:
    for places in (take_census(text, NUMBERS, TARGET).findings, parse(text).uses):
        assert {each.behaviour for each in places} == set(expected.split())


def test_signs_alone_show_no_behaviour_whatever_the_problem() -> None:
    texts = "1\n1\n1|1/1/1/1|1-1-1|1 1\n= 1 = 1 * 1|24 24 24\n24 + 24\n24*24|5 5 5 = 5 5"
    for numbers, target in (((1,), 1), ((4, 5, 20), 1), ((1, 5, 20), 16), ((1, 1), 2), ((3, 8), 24)):
        for text in texts.split("|"):
            assert take_census(text, numbers, target).findings == (), (text, target)


def test_findings_say_where_and_become_words_of_a_trace() -> None:
    text = "First 3 + 8 + 9 = 20. Then 3 × 8 + 9 = 33."
    (finding,) = take_census(text, NUMBERS, TARGET).findings
    assert finding.behaviour == "backtracking" and text[finding.start : finding.end] == "3 × 8 + 9 = 33"
    trace, words = parse(text), text.split()
    assert [" ".join(words[use.start : use.end]) for use in trace.uses] == ["3 × 8 + 9 = 33."]
    attempts = [" ".join(words[a.start : a.end]) for a in trace.attempts]
    assert attempts == ["3 + 8 + 9 = 20.", "3 × 8 + 9 = 33."]


@pytest.mark.parametrize(
    ("text", "attempts"),
    [
        ("3 + 8 + 9 = 20. 3 * 8 = 25, 25 + 9 = 34.", [("miss", 1, 1, False), ("illegal", 2, 1, False)]),
        ("3 * 8 = 24, 24 + 9 = 33. Check: 3 * 8 = 24.", [("hit", 3, 3, False)]),
        ("3 * 9 = 27. No. 3 * 8 = 24, 24 + 9 = 33.", [("illegal", 1, 1, False), ("hit", 2, 2, False)]),
        ("3 + 8 + 9 = 20. 8 * 9 = 72. 3 + 8 + 9 = 20.", [("miss", 1, 1, False), ("illegal", 2, 2, False)]),
        ("33 - 9 = 24, and 3 * 8 = 24", [("illegal", 2, 2, False)]),
        # What is handed in is no new attempt where it was made before, and one where it was not.
        ("3 * 8 = 24, 24 + 9 = 33. <answer>(3 * 8) + 9</answer>", [("hit", 2, 2, False)]),
        ("<answer>(3 * 8) + 9</answer>", [("hit", 0, 0, False)]),
        ("hm", []),
    ],
)
def test_attempts_are_told_from_equations(text: str, attempts: list[tuple]) -> None:
    found = [(a.outcome, a.num_steps, a.num_right_steps, a.repeated) for a in parse(text).attempts]
    assert found == attempts


def test_an_attempt_that_the_cap_cut_was_not_made() -> None:
    text = "3 + 8 + 9 = 20. No. 3 * 8 = 24,"
    assert [a.finished for a in parse(text).attempts] == [True, True]
    assert [a.finished for a in parse(text, truncated=True).attempts] == [True, False]


WORDS = "+|-|*|/|=|(|)|.|x|✓|}|İ|\n|3|8|9|33|24|no|need|target|is|check|instead|so|→|->|hundred|twelves|\\frac{|&|\\|"
WORDS += "one hundred and |six |by |take |off |from "


@settings(max_examples=400, deadline=2_000, derandomize=True)
@given(st.text(max_size=200) | st.lists(st.sampled_from(WORDS.split("|")), max_size=60).map(" ".join))
def test_no_text_breaks_the_census(text: str) -> None:
    assert len(normalise(text)) == len(text)
    statements = read_statements(text)
    assert all(0 <= equation.start < equation.end <= len(text) for equation in statements.equations)
    for numbers, target in ((NUMBERS, TARGET), ((), 0), ((0, 0), 0), ((-3, 5), -1)):
        census = take_census(text, numbers, target)
        assert all(0 <= finding.start <= finding.end <= len(text) for finding in census.findings)


HEAVY = "(1|1+|1+1=|9**9**9 |3x|\\frac{1}{|1 and |add 4 is | |target |need 24 |hundred |3 + 8 = 11 no |"
HEAVY += "3 * 8 = 24 if |33 - 9 = 24\n|3 + 8 = 11, and 8 is 19. |24 is |no. "


@pytest.mark.parametrize("piece", HEAVY.split("|"))
def test_work_of_the_census_is_bounded(piece: str) -> None:
    clocks = []
    for size in (MAX_CHARACTERS, MAX_CHARACTERS // 2, MAX_CHARACTERS + 1, 100_000):
        begun = time.process_time()
        parse((piece * (size // len(piece) + 1))[:size])
        clocks.append(time.process_time() - begun)
    assert clocks[0] < 1.5 and clocks[0] < 0.6 + 4 * clocks[1]
    assert max(clocks[2:]) < 0.005, "what is too long is not read"


# The labelled traces and the scores on them.


def sentences(texts: list) -> set[str]:
    """Sentences of the texts that hold words of their own: numbers and signs are masked, spacing is not looked at."""
    parts = [part for text in texts for part in re.split(r"(?<=[.!?;])\s|\n|,", text.text.lower())]
    found = [re.findall(r"[a-z']+", part) for part in parts]
    return {" ".join(words) for words in found if len(words) >= 4}


def test_development_and_test_sets_share_no_sentence_no_problem_and_no_writer() -> None:
    development, *tests = (SCORES.load_labelled(SCORES.FOLDER / name) for name in SCORES.SETS.values())
    assert len(tests) == 2 and len(sentences(development)) > 100
    for test in tests:
        assert len(sentences(test)) > 100
        assert not sentences(development) & sentences(test)
        for part in ("text", "writer", "problem"):
            assert not {getattr(each, part) for each in development} & {getattr(each, part) for each in test}


@pytest.mark.parametrize("name", ["first_test", "test"])
def test_a_test_set_is_large_enough_and_holds_texts_without_each_behaviour(name: str) -> None:
    texts = SCORES.load_labelled(SCORES.FOLDER / f"{name}.yaml")
    assert len(texts) >= 80 and len({text.writer for text in texts}) >= 8
    for behaviour in BEHAVIOURS:
        assert 25 <= sum(behaviour in text.shows for text in texts) <= len(texts) - 25


def test_unknown_labels_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("- {writer: a, numbers: [1, 2], target: 3, text: t, shows: [aha]}\n")
    with pytest.raises(ValueError, match="entry 0 shows aha"):
        SCORES.load_labelled(path)


def test_published_scores_are_what_the_code_computes() -> None:
    pd.testing.assert_frame_equal(
        pd.read_csv(SCORES.FOLDER / SCORES.SCORES), SCORES.scores_table(), check_dtype=False, atol=1e-6
    )


def test_scores_of_a_perfect_a_blind_and_a_careless_detector() -> None:
    texts = SCORES.load_labelled(SCORES.FOLDER / "test.yaml")[:40]
    shown = np.array(["verification" in text.shows for text in texts])
    detectors = (shown, np.zeros(40, dtype=bool), np.ones(40, dtype=bool))
    perfect, blind, careless = (SCORES.score(shown, found)["value"].tolist() for found in detectors)
    assert perfect == [1, 1, 1]
    assert np.isnan(blind[0]) and blind[1] == 0
    assert careless[:2] == [pytest.approx(shown.mean()), 1]
