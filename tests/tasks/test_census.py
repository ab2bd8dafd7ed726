"""The census of behaviours: each rule on a case of its own, hostile text, and the published scores."""

from __future__ import annotations

import re

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extrabitter.tasks.countdown.census import take_census
from extrabitter.behaviours.agreement import (
    DETECTORS,
    FOLDER,
    REFLECTION,
    SETS,
    Detector,
    LabelledText,
    load_labelled,
    read_scores,
    score,
    scores_table,
)
from extrabitter.tables import BEHAVIOURS
from extrabitter.behaviours.keywords import FAMILIES, POOL, count_keywords
from extrabitter.tasks.countdown.equations import MAX_CHARACTERS

NUMBERS, TARGET = (3, 8, 9), 33  # 3 * 8 + 9


def shown(text: str) -> set[str]:
    """Behaviours that a text on the problem shows."""
    census = take_census(text, NUMBERS, TARGET)
    return {behaviour for behaviour in BEHAVIOURS if census.shows(behaviour)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3 * 8 = 24, 24 + 9 = 33.", set()),
        ("3 * 8 = 24, 24 + 9 = 33, which equals the target.", {"verification"}),
        ("3 * 8 = 24, 24 + 9 = 33 ✓", {"verification"}),
        ("3 * 8 = 24, 24 + 9 = 33. Let me check: 3 * 8 = 24, 24 + 9 = 33.", {"verification"}),
        ("3 * 8 = 25. Wait, 3 * 8 = 24. 24 + 9 = 33.", {"verification"}),
        ("Let me check my answer. 3 * 8 = 24, 24 + 9 = 33.", set()),
        ("3 + 8 + 9 = 20. 3 * 8 + 9 = 33.", {"backtracking"}),
        ("3 + 8 + 9 = 20, too small. 3 * 8 + 9 = 33.", {"verification", "backtracking"}),
        ("3 * 9 = 27. Let me try something else. 3 * 8 = 24, 24 + 9 = 33.", {"backtracking"}),
        ("Let me try again. Let me try again. 3 * 8 = 24, 24 + 9 = 33.", set()),
        ("3 + 8 = 11, 3 * 8 = 24, 8 + 9 = 17.", set()),
        ("I want to make 24 first. 3 * 8 = 24, 24 + 9 = 33.", {"subgoal_setting"}),
        ("Let me get close to 33. 3 * 8 = 24, 24 + 9 = 33.", {"subgoal_setting"}),
        ("I want to make 33. 3 * 8 = 24, 24 + 9 = 33.", set()),
        ("33 - 9 = 24. 3 * 8 = 24.", {"backward_chaining"}),
        ("33 = 24 + 9, and 3 * 8 = 24.", {"backward_chaining"}),
        ("33 - 9 = 24. 3 + 8 = 11, 11 + 9 = 20.", {"backward_chaining"}),  # a first attempt gives none up
        ("33 - 9 = 24, so I need 24. 3 * 8 = 24.", {"backward_chaining", "subgoal_setting"}),
        ("Let me work backwards. 3 * 8 = 24, 24 + 9 = 33.", set()),
        ("3 + 8 + 9 = 20, and 33 - 20 = 13 is missing.", {"verification"}),
        ("3 + 8 + 9 = 20: thirteen wide of it.", {"verification"}),
        ("3 * 9 + 8 = 35, which leaves us two adrift.", {"verification"}),
        ("3 * 9 + 8 = 35. Two people saw it.", set()),
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
        ("3 * 9 + 8 = 35. There are more than two ways.", set()),
        ("3 * 8 = 24. Let me go over the rest one by one. 24 + 9 = 33.", set()),
        ("After a 10 minute break, 3 * 8 = 24, 24 + 9 = 33.", set()),
        ("There are about 6 ways. 3 * 8 = 24, 24 + 9 = 33.", set()),
        ("I take the 9 off the 33: 33 minus the 9 is 24. 3 * 8 = 24.", {"backward_chaining"}),
        ("", set()),
    ],
)
def test_a_behaviour_is_found_where_it_is_done_and_not_where_it_is_announced(
    text: str, expected: set[str]
) -> None:
    assert shown(text) == expected


def test_findings_say_where_and_by_which_rule() -> None:
    text = "First 3 + 8 + 9 = 20. Then 3 × 8 + 9 = 33."
    (finding,) = take_census(text, NUMBERS, TARGET).findings
    assert (finding.behaviour, finding.rule) == ("backtracking", "missed")
    assert text[finding.start : finding.end] == "3 × 8 + 9 = 33"


def test_equations_and_attempts_are_counted() -> None:
    census = take_census("3 + 8 + 9 = 20. 3 * 8 = 25, 25 + 9 = 34.", NUMBERS, TARGET)
    assert (census.num_equations, census.num_true_equations, census.num_attempts) == (3, 2, 2)


@pytest.mark.parametrize("value", [None, 7, b"3 * 8", "x" * (MAX_CHARACTERS + 1)])
def test_what_cannot_be_read_whole_is_said_to_be_so(value: object) -> None:
    assert not take_census(value, NUMBERS, TARGET).read_whole


def test_an_unknown_behaviour_is_refused() -> None:
    with pytest.raises(ValueError, match="must be one of verification"):
        take_census("", NUMBERS, TARGET).count("aha")


@settings(max_examples=300, deadline=2_000)
@given(
    st.lists(
        st.sampled_from(
            [
                "3",
                "8",
                "9",
                "33",
                "24",
                *"+-*/=().x✓}İ\n",
                "no",
                "need",
                "target",
                "is",
                "check",
                "instead",
                "so",
            ]
        ),
        max_size=60,
    )
)
def test_no_text_breaks_the_census(words: list[str]) -> None:
    text = " ".join(words)
    census = take_census(text, NUMBERS, TARGET)
    assert all(0 <= finding.start <= finding.end <= len(text) for finding in census.findings)


@pytest.mark.parametrize(
    "piece", ["3 + 8 = 11 no ", "need 24 ", "target ", "3 * 8 = 24 if ", "33 - 9 = 24\n"]
)
def test_long_text_is_cut(piece: str) -> None:
    assert not take_census(piece * 10_000, NUMBERS, TARGET).read_whole


@pytest.mark.parametrize(("numbers", "target"), [((), 0), ((0, 0), 0), ((1,), 10**9), ((-3, 5), -1)])
def test_odd_problems_are_no_trouble(numbers: tuple[int, ...], target: int) -> None:
    assert take_census("33 - 9 = 24 is the target, 0 / 0 = 1", numbers, target).num_equations == 2


def test_keywords_count_words_wherever_they_stand() -> None:
    assert count_keywords("I will RECHECK and double-check") == 2
    assert count_keywords("3 + 8 = 11, too small. 3 * 8 = 24.") == 0
    assert count_keywords(None) == 0
    assert set(FAMILIES["qwen"]) < set(FAMILIES["llama"]) and "reassess" in POOL


# The labelled traces and the scores on them.


def sentences(texts: list[LabelledText]) -> set[str]:
    """Sentences of the texts that hold words of their own: numbers and signs are masked, spacing is not looked at."""
    found = set()
    for text in texts:
        for sentence in re.split(r"(?<=[.!?;])\s|\n|,", text.text.lower()):
            words = re.findall(r"[a-z']+", sentence)
            if len(words) >= 4:
                found.add(" ".join(words))
    return found


def test_development_and_test_sets_share_no_sentence_no_problem_and_no_writer() -> None:
    development, *tests = (load_labelled(FOLDER / name) for name in SETS.values())
    assert len(tests) == 2 and len(sentences(development)) > 100
    for test in tests:
        assert len(sentences(test)) > 100
        assert not sentences(development) & sentences(test)
        assert not {text.text for text in development} & {text.text for text in test}
        assert not {text.writer for text in development} & {text.writer for text in test}
        assert not {(t.numbers, t.target) for t in development} & {(t.numbers, t.target) for t in test}


@pytest.mark.parametrize("name", ["first_test", "test"])
def test_a_test_set_is_large_enough_and_holds_texts_without_each_behaviour(name: str) -> None:
    texts = load_labelled(FOLDER / f"{name}.yaml")
    assert len(texts) >= 80 and len({text.writer for text in texts}) >= 8
    for behaviour in BEHAVIOURS:
        assert 25 <= sum(behaviour in text.shows for text in texts) <= len(texts) - 25


def test_unknown_labels_are_refused(tmp_path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("- {writer: a, numbers: [1, 2], target: 3, text: t, shows: [aha]}\n")
    with pytest.raises(ValueError, match="entry 0 shows aha"):
        load_labelled(path)


def test_published_scores_are_what_the_code_computes() -> None:
    pd.testing.assert_frame_equal(read_scores(), scores_table(), check_dtype=False, atol=1e-6)


def test_scores_of_a_perfect_a_blind_and_a_careless_detector() -> None:
    texts = load_labelled(FOLDER / "test.yaml")[:40]
    perfect = score(Detector("p", BEHAVIOURS, lambda text, b: b in text.shows), "verification", texts)
    blind = score(Detector("b", BEHAVIOURS, lambda text, b: False), "verification", texts)
    careless = score(Detector("c", BEHAVIOURS, lambda text, b: True), "verification", texts)
    assert [perfect[name][0].value for name in ("precision", "recall", "F1")] == [1, 1, 1]
    assert (
        blind["precision"][1] == 0 and pd.isna(blind["precision"][0].value) and blind["recall"][0].value == 0
    )
    share = sum("verification" in text.shows for text in texts) / len(texts)
    assert careless["precision"][0].value == pytest.approx(share) and careless["recall"][0].value == 1


def test_keywords_are_scored_only_against_what_they_claim_to_see() -> None:
    assert {d.name: d.behaviours for d in DETECTORS}["keywords"] == (REFLECTION,)
