"""What the census reads in free text: equations, attempts and behaviours; and how well it agrees with labels."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extrabitter.behaviours.agreement import FOLDER, SETS, load_labelled, read_scores, score, scores_table
from extrabitter.tasks import BEHAVIOURS, load_task
from extrabitter.tasks.countdown.census import take_census
from extrabitter.tasks.countdown.equations import MAX_CHARACTERS, normalise, read_statements
from extrabitter.tasks.countdown.problems import Problem

NUMBERS, TARGET = (3, 8, 9), 33  # 3 * 8 + 9
ENGLISH = load_task("countdown").english("chat")


def parse(text: object, truncated: bool = False):
    return ENGLISH.parse(text, Problem(NUMBERS, TARGET), truncated)


# Equations.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("6 * 4 = 24", [((6, 4), "*", 24)]),
        ("6 × 4 = 24 and 24 − 3 = 21", [((6, 4), "*", 24), ((24, 3), "-", 21)]),
        (r"\( 6 \cdot 4 = 24 \)", [((6, 4), "*", 24)]),
        (r"\frac{24}{3} = 8", [((24, 3), "/", 8)]),
        ("**6 * 4** = **24**", [((6, 4), "*", 24)]),
        ("6x4=24", [((6, 4), "*", 24)]),
        ("six times four", []),
        ("6 times 4 is twenty-four", [((6, 4), "*", 24)]),
        ("multiply 6 and 4", [((6, 4), "*", None)]),
        ("subtract 3 from 24 to get 21", [((24, 3), "-", 21)]),
        ("24 = 6 * 4", [((6, 4), "*", 24)]),
        ("6 * 4 = 24 - 3 = 21", [((6, 4), "*", 24), ((24, 3), "-", 21)]),
        ("(6 * 4) - 3 = 24 - 3 = 21", [((6, 4, 3), "*-", 21)]),
        ("6 * 4 = 24, minus 3 gives 21", [((6, 4), "*", 24), ((24, 3), "-", 21)]),
        ("6 + 4 = 11", [((6, 4), "+", 11)]),
        ("1. 6 * 4 = 24\n2. 24 - 3 = 21", [((6, 4), "*", 24), ((24, 3), "-", 21)]),
        ("- 6 * 4 = 24\n- 24 - 3 = 21", [((6, 4), "*", 24), ((24, 3), "-", 21)]),
        ("pi is 3.14 and 2**3 = 8", []),
        ("six fours is 24", [((6, 4), "*", 24)]),
        ("12 nines make one hundred and eight", [((12, 9), "*", 108)]),
        ("nine twelves, one hundred eight", [((9, 12), "*", 108)]),
        ("there are two of them, and sixes and sevens", []),
        ("two hundred and ten plus 5 is 15", []),
        ("3*8→24→+9→33", [((3, 8), "*", 24), ((24, 9), "+", 33)]),
        ("6x4 -> 24 -> -3 -> 21", [((6, 4), "*", 24), ((24, 3), "-", 21)]),
        ("6 + 4 -> 10 -> x2 -> 20", [((6, 4), "+", 10), ((10, 2), "*", 20)]),
        (r"6 \times 4 &= 24 \checkmark", [((6, 4), "*", 24)]),
        ("24 minus the 3 is 21", [((24, 3), "-", 21)]),
        ("take away the 3 from 24, which is 21", [((24, 3), "-", 21)]),
        ("6 * 4 = 24, knock off three, 21", [((6, 4), "*", 24)]),
        ("6 * 4 = 24, knock off 3, 21", [((6, 4), "*", 24), ((24, 3), "-", 21)]),
        ("6 * 4 = 24 5 + 5 = 10", [((6, 4), "*", 24), ((5, 5), "+", 10)]),
    ],
)
def test_equations_are_read_in_many_spellings(text: str, expected: list[object]) -> None:
    found = read_statements(text).equations
    assert [(q.numbers, q.operations, None if q.stated is None else int(q.stated)) for q in found] == expected


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
    ("text", "expected"),
    [
        ("3 * 8 = 24, 24 + 9 = 33.", set()),
        ("3 * 8 = 24, 24 + 9 = 33, which equals the target.", {"verification"}),
        ("3 * 8 = 24, 24 + 9 = 33 ✓", {"verification"}),
        ("3 * 8 = 24, 24 + 9 = 33. Let me check: 3 * 8 = 24, 24 + 9 = 33.", {"verification"}),
        ("Let me check my answer. 3 * 8 = 24, 24 + 9 = 33.", set()),
        ("3 + 8 + 9 = 20. 3 * 8 + 9 = 33.", {"backtracking"}),
        ("3 + 8 + 9 = 20, too small. 3 * 8 + 9 = 33.", {"verification", "backtracking"}),
        ("3 * 9 = 27. Let me try something else. 3 * 8 = 24, 24 + 9 = 33.", {"backtracking"}),
        ("Let me try again. Let me try again. 3 * 8 = 24, 24 + 9 = 33.", set()),
        ("3 + 8 = 11, 3 * 8 = 24, 8 + 9 = 17.", set()),
        ("I want to make 24 first. 3 * 8 = 24, 24 + 9 = 33.", {"subgoal_setting"}),
        ("I want to make 33. 3 * 8 = 24, 24 + 9 = 33.", set()),
        ("33 - 9 = 24. 3 * 8 = 24.", {"backward_chaining"}),
        ("33 = 24 + 9, and 3 * 8 = 24.", {"backward_chaining"}),
        ("33 - 9 = 24. 3 + 8 = 11, 11 + 9 = 20.", {"backward_chaining"}),  # a first attempt gives none up
        ("33 - 9 = 24, so I need 24. 3 * 8 = 24.", {"backward_chaining", "subgoal_setting"}),
        ("Let me work backwards. 3 * 8 = 24, 24 + 9 = 33.", set()),
        ("3 + 8 + 9 = 20, and 33 - 20 = 13 is missing.", {"verification"}),
        ("3 * 8 = 24, 24 + 9 = 33. I should double-check. Answer: 3 * 8 + 9", set()),
        ("Put b = a + 9 = 33.", set()),
        ("3 * 9 = 27, scrap that. 3 * 8 = 24, 24 + 9 = 33.", {"backtracking"}),
        ("3 * 9 = 27, scrap that. 33 - 9 = 24.", {"backtracking", "backward_chaining"}),
        ("3 * 9 = 27, 27 - 8 = 19. 3 * 8 = 24, 24 + 9 = 33.", {"backtracking"}),
        ("3 + 9 = 12, 12 + 8 = 20. 3 * 8 = 24, 24 + 9 = 33.", {"backtracking"}),
        ("If only I had a 24 here. 3 * 8 = 24, 24 + 9 = 33.", {"subgoal_setting"}),
        ("Something like 25 to begin with. 3 * 8 = 24, 24 + 9 = 33.", {"subgoal_setting"}),
        ("Into the twenties first. 3 * 8 = 24, 24 + 9 = 33.", {"subgoal_setting"}),
        ("3 * 8 = 24. Now 33 = 24 + 9.", set()),
        ("3 * 9 = 27. Now 33 = 27 + 6.", {"backward_chaining"}),
        ("3 * 9 = 27. So the answer is 33 = 27 + 6.", set()),
        ("3 * 8 = 24. Let me go over the rest one by one. 24 + 9 = 33.", set()),
        ("After a 10 minute break, 3 * 8 = 24, 24 + 9 = 33.", set()),
        ("There are about 6 ways. 3 * 8 = 24, 24 + 9 = 33.", set()),
        ("I take the 9 off the 33: 33 minus the 9 is 24. 3 * 8 = 24.", {"backward_chaining"}),
        # Signs alone say nothing.
        *((text, set()) for text in ("", "33\n33\n33", "33 - 33 - 33", "33*33*33\n33 33", "= = 33 33")),
    ],
)
def test_a_behaviour_is_found_where_it_is_done_and_not_where_it_is_announced(
    text: str, expected: set[str]
) -> None:
    assert {finding.behaviour for finding in take_census(text, NUMBERS, TARGET).findings} == expected
    assert {use.behaviour for use in parse(text).uses} == expected


def test_signs_alone_show_no_behaviour_whatever_the_problem() -> None:
    texts = "1\n1\n1|1/1/1/1|1-1-1|1 1\n= 1 = 1 * 1|24 24 24\n24 + 24\n24*24|5 5 5 = 5 5"
    for numbers, target in (((1,), 1), ((4, 5, 20), 1), ((1, 5, 20), 16), ((1, 1), 2), ((3, 8), 24)):
        for text in texts.split("|"):
            assert take_census(text, numbers, target).findings == (), (text, target)


def test_findings_say_where_and_by_which_rule_and_become_words_of_a_trace() -> None:
    text = "First 3 + 8 + 9 = 20. Then 3 × 8 + 9 = 33."
    (finding,) = take_census(text, NUMBERS, TARGET).findings
    assert (finding.behaviour, finding.rule) == ("backtracking", "missed")
    assert text[finding.start : finding.end] == "3 × 8 + 9 = 33"
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
    assert take_census(None, NUMBERS, TARGET).findings == ()


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
    development, *tests = (load_labelled(FOLDER / name) for name in SETS.values())
    assert len(tests) == 2 and len(sentences(development)) > 100
    for test in tests:
        assert len(sentences(test)) > 100
        assert not sentences(development) & sentences(test)
        for part in ("text", "writer", "problem"):
            assert not {getattr(each, part) for each in development} & {getattr(each, part) for each in test}


@pytest.mark.parametrize("name", ["first_test", "test"])
def test_a_test_set_is_large_enough_and_holds_texts_without_each_behaviour(name: str) -> None:
    texts = load_labelled(FOLDER / f"{name}.yaml")
    assert len(texts) >= 80 and len({text.writer for text in texts}) >= 8
    for behaviour in BEHAVIOURS:
        assert 25 <= sum(behaviour in text.shows for text in texts) <= len(texts) - 25


def test_unknown_labels_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("- {writer: a, numbers: [1, 2], target: 3, text: t, shows: [aha]}\n")
    with pytest.raises(ValueError, match="entry 0 shows aha"):
        load_labelled(path)


def test_published_scores_are_what_the_code_computes() -> None:
    pd.testing.assert_frame_equal(read_scores(), scores_table(), check_dtype=False, atol=1e-6)


def test_scores_of_a_perfect_a_blind_and_a_careless_detector() -> None:
    texts = load_labelled(FOLDER / "test.yaml")[:40]
    shown = np.array(["verification" in text.shows for text in texts])
    detectors = (shown, np.zeros(40, dtype=bool), np.ones(40, dtype=bool))
    perfect, blind, careless = (score(shown, found)["value"].tolist() for found in detectors)
    assert perfect == [1, 1, 1]
    assert np.isnan(blind[0]) and blind[1] == 0
    assert careless[:2] == [pytest.approx(shown.mean()), 1]
