"""Knights & Knaves, what is read: completions written by hand with what must be said of them, and English answers."""

from __future__ import annotations

import random

import pytest

from extrabitter.tasks.knights import Knights
from extrabitter.tasks.knights.english import REASONS, read_roles
from extrabitter.tasks.knights.problems import read_problem

TASK = Knights()
# A is a knave, B a knight, C a knave; D a knight, E a knave, F a knight.
PROBLEM = read_problem("A:B-,B:C=A,C:A+")
TWO = read_problem("A:B-,B:C=A,C:A+,D:E-,F:E-,E:D!F")

WRONG = (
    "assume A knight 1 A says B is knave A knight so B knave A knight "
    "2 B says C same A B knave so differs A knight so C knave B knave A knight"
)
NO = "check 3 C says A is knight C knave so knave A knight no"
RIGHT = (
    "assume A knave 1 A says B is knave A knave so B knight A knave "
    "2 B says C same A B knight so same A knave so C knave B knight A knave"
)
YES = "check 3 C says A is knight C knave so knave A knave yes"
OTHER = (
    "assume D knight 4 D says E is knave D knight so E knave D knight "
    "5 F says E is knave E knave so F knight E knave D knight"
)
OTHER_YES = "check 6 E says D differs F E knave so same D knight F knight so same yes"


def test_the_prompt_and_the_search_read_as_the_pages_show_them() -> None:
    assert TASK.prompt(PROBLEM) == "island 1 A says B is knave 2 B says C same A 3 C says A is knight :"
    assert TASK.prompt(TWO, cue=True).startswith("think island 1 A says B is knave 2 B")
    scripts = [TASK.write_trace(PROBLEM, "search", random.Random(seed)) for seed in range(20)]
    texts = {TASK.render(script, PROBLEM) for script in scripts}
    assert texts == {f"{WRONG} {NO} back A knight {RIGHT} {YES} answer", f"{RIGHT} {YES} answer"}


@pytest.mark.parametrize(
    ("text", "reason", "value"),
    [
        ("A knave B knight C knave answer", "correct", "A knave B knight C knave"),
        ("C knave B knight A knave answer <eos> <pad>", "correct", "A knave B knight C knave"),
        ("A knave B knave C knave answer", "wrong_role", "A knave B knave C knave"),
        ("A knave B knight answer", "person_missing", "A knave B knight"),
        ("A knave B knight C knave D knave answer", "person_unknown", "A knave B knight C knave"),
        ("A knave B knight C knave C knave answer", "person_twice", "A knave B knight C knave"),
        (f"{RIGHT} answer", "correct", "A knave B knight C knave"),
        (f"{RIGHT} {YES} answer", "correct", "A knave B knight C knave"),
        (f"{WRONG} {NO} answer", "wrong_role", "A knight B knave C knave"),
        (f"{WRONG} {NO} back A knight {RIGHT} answer", "correct", "A knave B knight C knave"),
        (f". . . {RIGHT} answer", "correct", "A knave B knight C knave"),
        ("assume A knave answer", "person_missing", "A knave"),
        ("answer", "unexpected_word", ""),
        ("", "unfinished", ""),
        (RIGHT, "unfinished", ""),
        (f"{RIGHT} check 3 C says A is knight C knave so knave A knave", "unfinished", ""),
        (f"{RIGHT} {YES} back A knave", "unfinished", ""),
        (f"{RIGHT} {YES} back A knave answer", "unexpected_word", ""),
        (f"{RIGHT} answer answer", "trailing_words", ""),
        ("A says B is knave answer", "unexpected_word", ""),
        ("assume A is knave answer", "unexpected_word", ""),
        ("A knave B Knight C knave answer", "unknown_word", ""),
        ("A knave <bos> answer", "unknown_word", ""),
        ("assume A knave 1 A says B is knave A knave so answer", "unexpected_word", ""),
        (f"{RIGHT} yes answer", "unexpected_word", ""),
        (f"{RIGHT} {YES} {YES} answer", "unexpected_word", ""),
        (f"aim A differs B need C knight A is knight {RIGHT} answer", "correct", "A knave B knight C knave"),
        ("aim A differs B answer", "unexpected_word", ""),
        ("A knave " * 3000, "too_long", ""),
        (None, "not_text", ""),
    ],
)
def test_the_verifier_says_why(text: object, reason: str, value: str) -> None:
    verdict = TASK.verify(text, PROBLEM)
    assert (verdict.reason, verdict.value, verdict.correct) == (reason, value, reason == "correct")
    truncated = TASK.parse(text, PROBLEM, truncated=True)
    assert truncated.verdict.reason == ("truncated" if reason == "unfinished" else reason)
    assert truncated.form in (reason, "ok")
    assert truncated.answered == (truncated.form in ("ok", "trailing_words"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("so B knight A knave", "so B knave A knave"),  # a false role
        ("so B knight A knave", "so B knight A knight"),  # a list that changes what was known
        ("so B knight A knave", "so B knight"),  # a list that forgets
        ("so B knight A knave", "so B knight A knave A knave"),  # a list that says it twice
        ("1 A says B is knave", "1 A says B is knight"),  # nobody says that
        ("1 A says B is knave", "2 A says B is knave"),  # nor under that number
        ("B is knave A knave so", "B is knave A knight so"),  # another role than is known
        ("B is knave A knave so", "B is knave so"),  # the speaker's role is known, and left out
        ("so same A knave so C", "so differs A knave so C"),  # a false relation
        ("so same A knave so C", "so same A knight so C"),  # a role looked up wrongly
        ("so same A knave so C", "so same C knave so C"),  # the role that it is about to find
        ("so same A knave so C", "A knave so C"),  # a step left out
        ("assume A knave", "assume A knave B knight"),  # given what nothing led to
        ("assume A knave", "assume G knave"),  # not in the puzzle
    ],
)
def test_a_step_that_is_not_what_the_statements_say_makes_its_attempt_illegal(old: str, new: str) -> None:
    sound = TASK.parse(f"{RIGHT} {YES} answer", PROBLEM)
    assert [(a.outcome, a.num_steps, a.num_right_steps) for a in sound.attempts] == [("hit", 2, 2)]
    assert old in RIGHT
    text = f"{RIGHT.replace(old, new, 1)} {YES} answer"
    broken = TASK.parse(text, PROBLEM)
    assert broken.well_formed
    (attempt,) = broken.attempts
    assert attempt.outcome == "illegal" and attempt.said == "yes" and not attempt.verdict_true
    assert (attempt.num_steps == 2 and attempt.num_right_steps < 2) or "assume" in new
    assert not any(use.functional for use in broken.uses)


def test_attempts_have_their_places_verdicts_and_repetitions() -> None:
    text = f"{WRONG} {NO} back A knight {RIGHT} {YES} back A knave {RIGHT} {NO} {OTHER} answer"
    words = text.split()
    trace = TASK.parse(text, TWO)
    assert [a.outcome for a in trace.attempts] == ["miss", "hit", "hit", "hit"]
    assert [a.said for a in trace.attempts] == ["no", "yes", "no", ""]
    assert [a.verdict_true for a in trace.attempts] == [True, True, False, False]
    assert [a.repeated for a in trace.attempts] == [False, False, True, False]
    assert [" ".join(words[a.start : a.end]) for a in trace.attempts] == [WRONG, RIGHT, RIGHT, OTHER]
    assert [use.behaviour for use in trace.uses] == ["verification", "backtracking"] * 2 + ["verification"]
    # The second time it goes back to what was tried before.
    assert [use.functional for use in trace.uses] == [True, True, True, False, False]
    assert " ".join(words[trace.uses[1].start : trace.uses[1].end]) == "back A knight"
    assert trace.verdict.correct, "the last list of each island counts, whatever was said of it"


@pytest.mark.parametrize(
    ("text", "functional"),
    [
        (f"{RIGHT} check 3 C says A is knight C knave so knight A knave yes answer", False),  # luck
        (f"{RIGHT} check 2 B says C same A B knight so same C knave A knave so same yes answer", True),
        (f"{WRONG} {NO} back B knight {RIGHT} answer", False),  # nothing was assumed of B
        (f"{WRONG} {NO} back A knight {RIGHT} answer", True),
        (f"{WRONG} back A knight {RIGHT} answer", True),
        (f"{WRONG} {NO} back A knight assume A knave", False),  # cut
        (f"{WRONG} {NO} back A knight {WRONG} answer", False),
        (f"aim A differs B {RIGHT} answer", True),
        (f"aim B differs A {RIGHT} answer", False),
        ("aim A differs B assume A knave answer", False),  # not used
        (f"need C knight A is knight {RIGHT} answer", True),
        (f"need C knave A is knave {RIGHT} answer", True),
        (f"need C knave A is knight {RIGHT} answer", False),
        (f"need B knave C differs A {RIGHT} answer", True),
        (f"A knave B knight C knave {YES} answer", True),  # a guess, checked
    ],
)
def test_a_behaviour_works_where_what_it_says_is_so(text: str, functional: bool) -> None:
    trace = TASK.parse(text, PROBLEM)
    assert trace.uses[-1].functional == functional


def test_a_true_verdict_is_what_a_search_would_write() -> None:
    assert TASK.true_verdict(PROBLEM, WRONG) == NO
    assert TASK.true_verdict(PROBLEM, f"{WRONG} {NO} back A knight {RIGHT}") == YES
    assert TASK.true_verdict(TWO, f"{RIGHT} {YES} {OTHER}") == OTHER_YES
    assert TASK.true_verdict(PROBLEM, "A knight B knave C knave").endswith("no")
    assert TASK.true_verdict(PROBLEM, "A knave B knight C knave").endswith("yes")
    with pytest.raises(ValueError, match="nothing in it"):
        TASK.true_verdict(PROBLEM, "assume A knave")


def test_an_attempt_cut_in_the_middle_is_not_finished() -> None:
    words = f"{WRONG} {NO}".split()
    length = len(WRONG.split())
    for end in range(1, len(words)):
        attempts = TASK.parse(" ".join(words[:end]), PROBLEM, truncated=True).attempts
        assert [attempt.finished for attempt in attempts] == [end >= length]


@pytest.mark.parametrize(
    ("text", "roles"),
    [
        ("Ada knight, Ben knave", "A knight B knave"),
        ("Ada is a knight and Ben is a knave.", "A knight B knave"),
        ("Ada: Knight\nBEN: KNAVE\n", "A knight B knave"),
        ("- **Ada** = knight\n- **Ben** = knave", "A knight B knave"),
        ("Ada and Ben are both knaves", "A knave B knave"),
        ("the knave is Ada", None),
        ("Ada knight, Ben", None),
        ("Ada is not a knight", None),
        ("Ada knight, Ben knave or knight", None),
        ("Ada knight, Bob knave", None),
        ("knight", None),
        ("", None),
    ],
)
def test_an_english_answer_is_read_whole_or_not_at_all(text: str, roles: str | None) -> None:
    read = read_roles(text)
    assert (None if read is None else " ".join(f"{name} {role}" for name, role in read)) == roles


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("So <answer> Ada knave, Ben knight, Cleo knave </answer>", "correct"),
        ("The answer is: Ada knave, Ben knight, Cleo knave.", "correct"),
        ("<answer> Ada knight, Ben knight, Cleo knave </answer>", "wrong_role"),
        ("<answer> Ada knave, Ben knight </answer>", "person_missing"),
        ("<answer> Ada knave, Ben knight, Cleo knave, Dan knave </answer>", "person_unknown"),
        ("<answer> Ada knave, Ada knave, Ben knight, Cleo knave </answer>", "person_twice"),
        ("<answer> Ada is lying </answer>", "not_roles"),
        ("Ada knave, Ben knight, Cleo knave", "no_answer"),
        (7, "not_read"),
    ],
)
def test_english_says_why(text: object, reason: str) -> None:
    trace = TASK.english("chat").parse(text, PROBLEM)
    assert trace.verdict.reason == reason and reason in TASK.reasons and len(trace.attempts) <= 1
    assert [attempt.outcome == "hit" for attempt in trace.attempts] in ([], [trace.verdict.correct])
    assert set(REASONS) <= set(TASK.reasons)
