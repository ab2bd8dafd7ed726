"""The reader of free-text answers: what is handed in is read whole, or it is no answer."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from extrabitter.tasks import Verdict, load_task
from extrabitter.tasks.countdown.arithmetic import evaluate_expression, read_answer
from extrabitter.tasks.countdown.problems import Problem
from extrabitter.tasks.free_text import MAX_CHARACTERS, behind_prompt, hand_in

TASK = load_task("countdown")
CHAT, PLAIN = TASK.english("chat"), TASK.english("plain")
PROBLEM = Problem((3, 8, 9), 33)
RIGHT = "3 * 8 + 9"
CASES = yaml.safe_load((Path(__file__).parents[1] / "data" / "english.yaml").read_text(encoding="utf-8"))


def judge(text: object, problem: Problem = PROBLEM, style: str = "chat") -> Verdict:
    return (CHAT if style == "chat" else PLAIN).parse(text, problem).verdict


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        *((t, reason) for part in CASES["answers"].values() for reason, texts in part.items() for t in texts),
        (f"<answer>{RIGHT}{' ' * 3_000}</answer>", "too_long"),
        *((text, "not_read") for text in ("x" * (MAX_CHARACTERS + 1), None, b"<answer> 3 * 8 + 9 </answer>")),
    ],
)
def test_what_is_handed_in_is_judged_whole_and_nothing_else_is(text: object, reason: str) -> None:
    verdict = judge(text)
    assert (verdict.reason, verdict.correct) == (reason, reason == "correct")
    assert reason in TASK.reasons


@pytest.mark.parametrize("case", [case for part in CASES["spellings"].values() for case in part])
@pytest.mark.parametrize("frame", ["<answer>{}</answer>", "\\boxed{{{}}}", "The answer is {}"])
def test_spellings_of_arithmetic_are_read_or_refused(case: dict[str, Any], frame: str) -> None:
    problem = Problem(tuple(case["numbers"]), case["target"])
    for answer in case["answers"]:
        assert judge(frame.format(answer), problem).reason == case["reason"], answer


@pytest.mark.parametrize("style", ["plain", "chat"])
def test_another_problem_ends_a_plain_completion_behind_an_answer_only(style: str) -> None:
    gone_on = f"The answer is {RIGHT}.\nProblem: 1, 2 -> 3\nSolution: <answer> 1 + 2 </answer>"
    assert judge(gone_on, style=style).reason == ("correct" if style == "plain" else "number_not_available")
    restated = f"Let me see.\nProblem: reach 33.\nSolution: <answer>{RIGHT}</answer>"
    assert judge(restated, style=style).correct
    thought = f"<think><answer>7</answer>\nProblem: hm</think><answer>{RIGHT}</answer>"
    assert judge(thought, style=style).correct


def test_a_thought_that_the_prompt_opens_holds_no_answer_until_it_is_closed() -> None:
    cut = f"so <answer>{RIGHT}</answer>, or"
    assert judge(behind_prompt("<|assistant|>\n<think>\n", cut)).reason == "no_answer"
    assert judge(behind_prompt("<|assistant|>\n<think>\n\n</think>", cut)).correct
    assert judge(behind_prompt("<think>", f"hm</think> <answer>{RIGHT}</answer>")).correct
    assert judge(behind_prompt("Think first.", cut)).correct


def test_what_the_cap_cut_before_an_answer_is_said_to_be_truncated() -> None:
    whole = f"<answer>{RIGHT}</answer>"
    for text, reason in ((whole[:-5], "truncated"), ("hm", "truncated"), (whole, "correct")):
        trace = CHAT.parse(text, PROBLEM, truncated=True)
        assert (trace.verdict.reason, trace.answered) == (reason, reason == "correct")


def test_an_answer_cut_anywhere_is_never_right_before_it_is_closed() -> None:
    text = f"3 + 8 = 11. No. 3 * 8 = 24, 24 + 9 = 33. <answer> {RIGHT} </answer>"
    reasons = [judge(text[:length]).reason for length in range(len(text) + 1)]
    assert reasons[-1] == "correct" and set(reasons[:-1]) == {"no_answer", "open_answer"}


# Any tree, any spelling, any wrapping.

SPELLINGS = {
    "+": ["+", " + ", "\uff0b", " \u2795 ", " plus ", "\n+ ", " +\u2009"],
    "-": ["-", " - ", "\u2212", " \u2013 ", " \u2011 ", "\ufe63", " minus ", "\u00a0-\n"],
    "*": ["*", " * ", "\u00d7", " \u22c5 ", "\u00b7", "\u2219", "\u2217", " \\times ", " \\cdot ", " times "],
    "/": ["/", " / ", "\u00f7", " \u2215 ", "\u2044", " \\div ", " divided by ", "\uff0f"],
}  # fmt: skip
BRACKETS = ["()", "[]", ("\\left(", "\\right)"), "\uff08\uff09", ("( ", " )"), ("\\{", "\\}")]
WRAPPINGS = "{}| {}\n|{}.|**{}**|`{}`|${}$|$${}$$|\\({}\\)|\\[ {} \\]|\\text{{{}}}|'{}'"
FRAMES = ["<answer>{}</answer>", "so <answer>\n{}\n</answer> is it", "\\boxed{{{}}}", "The answer is {}"]
HARMFUL = [
    *(f"{space}{more}" for space in ("", " ", "\n", "\u2009", "\u00a0", "\t") for more in (
        "- 1", "+ 1", "* 2", "\u00d7 2", "/ 2", "^ 2", "** 2", "\\cdot 2", "- (1)", "! * 0", ", - 1", "; 1", ") + (1",
        "\u00b2", ".5", "% 2", "= 12345 * 9", "minus 1", "x 2", "[0]", "(1)", "1", "\\pm 1", "\uff0b 1", "\u2795 1",
    )), "e", " e",
]  # fmt: skip
signs, leaves = st.sampled_from("+-*/"), st.integers(1, 99)
trees = st.recursive(leaves, lambda inner: st.tuples(signs, inner, inner), max_leaves=6)


def spell(tree: int | tuple, rng: random.Random) -> tuple[str, str, list[int]]:
    """Return a tree in plain signs, in another spelling, and its numbers."""
    if isinstance(tree, int):
        return str(tree), str(tree), [tree]
    sign, left, right = tree
    plain, spelt, numbers = [], [], []
    for part in (left, right):
        as_plain, as_spelt, found = spell(part, rng)
        open_, close = rng.choice(BRACKETS)
        is_bare = isinstance(part, int)
        plain.append(as_plain if is_bare else f"({as_plain})")
        spelt.append(as_spelt if is_bare else f"{open_}{as_spelt}{close}")
        numbers += found
    if sign == "/" and rng.random() < 0.5:
        return f"{plain[0]} / {plain[1]}", f"\\frac{{{spelt[0]}}}{{{spelt[1]}}}", numbers
    return f"{plain[0]} {sign} {plain[1]}", rng.choice(SPELLINGS[sign]).join(spelt), numbers


@settings(max_examples=400, deadline=None, derandomize=True)
@given(trees, st.integers(0, 2**32))
def test_value_and_numbers_come_back_from_any_spelling_and_wrapping(tree: int | tuple, seed: int) -> None:
    rng = random.Random(seed)
    plain, spelt, numbers = spell(tree, rng)
    reason, value, found = evaluate_expression(plain)
    assume(reason == "ok" and list(found) == numbers)
    for wrapping in rng.sample(WRAPPINGS.split("|"), rng.randrange(3)):
        spelt = wrapping.format(spelt)
    text = rng.choice(FRAMES).format(spelt)
    handed = hand_in(text)
    expression, reason = read_answer(handed.text)
    assert (handed.reason, reason) == ("ok", "ok"), text
    assert evaluate_expression(expression)[1:] == (value, found), text


@settings(max_examples=400, deadline=None, derandomize=True)
@given(trees, st.integers(0, 2**32))
def test_no_harmful_continuation_is_ever_right(tree: int | tuple, seed: int) -> None:
    rng = random.Random(seed)
    plain, spelt, numbers = spell(tree, rng)
    reason, value, _ = evaluate_expression(plain)
    assume(reason == "ok" and value is not None)
    problem = Problem(tuple(sorted(numbers)), value)  # type: ignore[arg-type]
    harmful = rng.choice(HARMFUL)
    text = rng.choice(FRAMES).format(spelt + harmful)
    assert judge(rng.choice(FRAMES).format(spelt), problem).correct
    assert not judge(text, problem).correct, text


PIECES = "33|99999999|<answer>|</answer>|<think>|</think>|answer:|answer is |Problem:|**|\u200b|"
PIECES += "\\boxed{|\\frac{|\\text{|\\left(|3|8|9|*|+|(|)|=|x|$|}|{|\n|.|,|-"


@settings(max_examples=300, deadline=2_000, derandomize=True)
@given(st.lists(st.sampled_from(PIECES.split("|")), max_size=60))
def test_no_completion_breaks_the_reader(pieces: list[str]) -> None:
    for glue in ("", " "):
        trace = PLAIN.parse(glue.join(pieces), PROBLEM)
        assert trace.verdict.reason in TASK.reasons and trace.form in ("ok", *TASK.reasons)


HEAVY = "<answer>|<answer> </answer>|<answer>3|</think>|<think>|<think></think>|\\boxed{|x|"
HEAVY += (
    "answer is 3 |answer: |answer is\n|{|}|\n| |\\frac{|\\frac{1}|(|3(|1/|*|. |.\n|\u200b|\nProblem:|seven "
)
INSIDE = (" " * 1_900, "{" * 1_900, "\\frac{" * 300, "3/(" * 600, "**" * 600, "3=" * 600)
HEAVIEST = ["answer is " + "\n" * 500, *(f"<answer>{each}</answer>" for each in INSIDE)]


@pytest.mark.parametrize("piece", HEAVY.split("|") + HEAVIEST)
def test_work_on_an_answer_is_bounded(piece: str) -> None:
    sizes = (MAX_CHARACTERS, MAX_CHARACTERS // 2, 100_000)
    long, short, too_long = (hand_in_and_read((piece * (size // len(piece) + 1))[:size]) for size in sizes)
    assert long < 0.05 + 4 * short, "no faster than linear"
    assert too_long < 0.001


def hand_in_and_read(text: str) -> float:
    """Return the CPU seconds of reading an answer, the best of three."""
    best = float("inf")
    for _ in range(3):
        begun = time.process_time()
        for stops in ((), ("\nProblem:",)):
            read_answer(hand_in(text, stops).text)
        best = min(best, time.process_time() - begun)
    return best
