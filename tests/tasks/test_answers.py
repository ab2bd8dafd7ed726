"""The reader of free-text answers: what is handed in is read whole, or it is no answer."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from extrabitter.tasks import Verdict, load_task
from extrabitter.tasks.countdown.arithmetic import evaluate_expression, read_answer
from extrabitter.tasks.countdown.problems import Problem
from extrabitter.tasks.free_text import MAX_CHARACTERS, hand_in
from extrabitter.tasks.wording import behind_prompt

TASK = load_task("countdown")
CHAT, PLAIN = TASK.english("chat"), TASK.english("plain")
PROBLEM = Problem((3, 8, 9), 33)
RIGHT = "3 * 8 + 9"


def judge(text: object, problem: Problem = PROBLEM, style: str = "chat") -> Verdict:
    return (CHAT if style == "chat" else PLAIN).parse(text, problem).verdict


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        # Tags, boxes, words.
        (f"<answer> {RIGHT} </answer>", "correct"),
        ("<ANSWER>\n$3 \\times 8 + 9$\n</ANSWER>", "correct"),
        ("So \\boxed{3 \\times 8 + 9}.", "correct"),
        ("So \\boxed{\\text{3 * 8 + 9}}.", "correct"),
        (f"The answer is {RIGHT}.", "correct"),
        ("**Answer:** `3*8+9`", "correct"),
        (f"**The answer is {RIGHT}.**", "correct"),
        (f"Answer:\n{RIGHT}", "correct"),
        ("The answer is:\n\\[\n3 \\times 8 + 9\n\\]\nIt uses all numbers.", "correct"),
        ("Final answer: 3x8+9, which makes 33", "correct"),
        (f"The answer is {RIGHT}.\n\n- 3 * 8 = 24\n- 24 + 9 = 33", "correct"),
        (f"{RIGHT} = 33", "no_answer"),
        ("Let me try 3 * 8 = 24, then 24 + 9 = 33", "no_answer"),
        ("I could not find it.\n3 + 8 + 9 = 20", "no_answer"),
        ("", "no_answer"),
        (f"<answer><answer>{RIGHT}</answer></answer>", "correct"),
        # Tags go before boxes, boxes before words.
        (f"<answer>{RIGHT}</answer> The answer is 7.", "correct"),
        (f"\\boxed{{{RIGHT}}} The answer is 7.", "correct"),
        # Of a kind the last one counts.
        (f"<answer> 3 + 8 + 9 </answer> No: <answer> {RIGHT} </answer>", "correct"),
        (f"<answer> {RIGHT} </answer> No: <answer> 3 + 8 + 9 </answer>", "wrong_value"),
        (f"<answer>{RIGHT}</answer> <answer></answer>", "empty"),
        (f"\\boxed{{3 + 8 + 9}}, no, \\boxed{{{RIGHT}}}", "correct"),
        (f"\\boxed{{{RIGHT}}}, no, \\boxed{{3 + 8 + 9}}", "wrong_value"),
        (f"The answer is {RIGHT}. No. The answer is 3 + 8 + 9.", "wrong_value"),
        (f"The answer is 3 + 8 + 9. Hmm, no. The answer is {RIGHT}.", "correct"),
        (f"The answer is {RIGHT}. No, the answer is another one.", "bad_character"),
        (f"<answer> {RIGHT} </answer>\nCheck: 3 * 8 = 24 and 24 + 9 = 33.", "correct"),
        # What is opened and not closed was cut; what is only mentioned is prose.
        (f"<answer> {RIGHT}", "open_answer"),
        (f"<answer> {RIGHT} </answer> But wait, <answer> 3 +", "open_answer"),
        (f"<answer> {RIGHT} </answer> But wait, <answer> 3 + 8 + 9 </ans", "open_answer"),
        (f"\\boxed{{{RIGHT}", "open_answer"),
        ("<answer>", "open_answer"),
        (f"I will put it in <answer> tags at the end. {'3 and 8 and 9. ' * 30}<answer>{RIGHT}</answer>", "correct"),
        (f"<answer>{RIGHT}</answer>, given in <answer> tags as was asked.", "correct"),
        (f"I must write it between <answer> and </answer>. The answer is {RIGHT}.", "correct"),
        ("I give the expression between <answer> and </answer>.", "no_answer"),
        (f"I will use \\boxed{{}} at the end. \\boxed{{{RIGHT}}}", "correct"),
        # Thoughts are taken off first.
        (f"<think>hm <answer>{RIGHT}</answer> hmm let me", "no_answer"),
        (f"<think>a</think><think>b <answer>{RIGHT}</answer>", "no_answer"),
        (f"hm <answer>{RIGHT}</answer> so</think> I do not know.", "no_answer"),
        (f"<think><answer>3 + 8 + 9</answer></think> <answer>{RIGHT}</answer>", "correct"),
        (f"<think>a</think> b <answer>3 + 8 + 9</answer> </think> <answer>{RIGHT}</answer>", "correct"),
        (f"<THINK>\\boxed{{{RIGHT}}}</THINK> The answer is", "empty"),
        (f"<answer>{RIGHT}</answer> <think> was that right", "correct"),
        (f"<thinking>The answer is 7.</thinking>The answer is {RIGHT}", "correct"),
        (f"<reasoning>\n<answer>{RIGHT}</answer> or so?\n</reasoning>", "no_answer"),
        (f"<scratchpad> <answer>{RIGHT}</answer>", "no_answer"),
        # All of what is handed in counts.
        *((f"<answer>{RIGHT}{behind}</answer>", "number_not_available") for behind in (
            "\n- 5", "\n* 2", "\u2009* 2", "\n\n+ 1", "\u00a0- 5", "\r\n-5", "(0)",
        )),
        *((f"<answer>{RIGHT}{behind}</answer>", "bad_character") for behind in (
            "\n^ 2", " ! * 0", ", - 5", "; 5", "!", ".5", "\u00b2", " % 2", " and 5", " or 3 + 8 + 9", "_2", "e1",
            " # 5", ", as 33 is asked for", " \\pm 1", " ..", "?",
        )),
        (f"<answer>{RIGHT} = 34</answer>", "wrong_arithmetic"),
        (f"<answer>{RIGHT} = 33 = 3 + 30 - 1</answer>", "wrong_arithmetic"),
        (f"<answer>{RIGHT}\n3 + 8 + 9</answer>", "syntax_error"),
        ("<answer>3 * 8 = 24\n24 + 9 = 33</answer>", "syntax_error"),
        (f"<answer>The expression is {RIGHT}.</answer>", "bad_character"),
        (f"<answer>Answer: {RIGHT}</answer>", "bad_character"),
        (f"<answer>{RIGHT} =</answer>", "syntax_error"),
        (f"The answer is {RIGHT} - 5.", "number_not_available"),
        (f"The answer is {RIGHT}\n- 5", "number_not_available"),
        (f"The answer is {RIGHT}\nminus 5", "number_not_available"),
        (f"The answer is {RIGHT}. - 5", "bad_character"),
        (f"The answer is {RIGHT}, not 3 + 8 + 9", "bad_character"),
        # Rules of the game.
        ("<answer> 99 / 3 </answer>", "number_not_available"),
        ("<answer> 3 * 8 </answer>", "numbers_unused"),
        ("<answer> 33 </answer>", "number_not_available"),
        ("<answer> 3 * (8 + 9 </answer>", "syntax_error"),
        ("<answer> 9 ** 99 ** 99 </answer>", "syntax_error"),
        ("<answer> __import__('os') </answer>", "bad_character"),
        ("<answer> 9 / (8 - 8) + 3 </answer>", "division_by_zero"),
        (f"<answer>{RIGHT}{' ' * 3_000}</answer>", "too_long"),
        # The heading of a restated problem stops nothing in a conversation, nor in a thought.
        (f"## Restating\nProblem: make 33 from 3, 8 and 9.\nSolution: ...\n<answer>{RIGHT}</answer>", "correct"),
        (f"<think>\nProblem: reach 33 with 3, 8, 9.\n3 * 8 = 24.</think>\n<answer>{RIGHT}</answer>", "correct"),
        ("x" * (MAX_CHARACTERS + 1), "not_read"),
        (None, "not_read"),
        (b"<answer> 3 * 8 + 9 </answer>", "not_read"),
    ],
)  # fmt: skip
def test_what_is_handed_in_is_judged_whole_and_nothing_else_is(text: object, reason: str) -> None:
    verdict = judge(text)
    assert (verdict.reason, verdict.correct) == (reason, reason == "correct")
    assert reason in TASK.reasons


@pytest.mark.parametrize(
    ("numbers", "target", "answer", "reason"),
    [
        # A sign in front is a sign.
        *((numbers, target, answer, reason) for answer in (
            "-7 + 15 * 2", "- 7 + 15 * 2", "\u22127 + 15 * 2", "\u2212 7 + 15 * 2", "-7 + 15 \\cdot 2",
        ) for numbers, target, reason in (((2, 7, 15), 23, "correct"), ((2, 7, 15), 37, "wrong_value"))),
        ((2, 7, 15), 23, "-7 + 15 * 2 = 23", "correct"),
        # Powers are none of the operations, however they are spelt.
        *(((1, 3, 8, 9), 32, f"3 * 8 + 9 {power}", "syntax_error") for power in ("** -1", "** - 1", "**- 1", "**-1")),
        ((1, 3, 8, 9), 32, "(3 * 8 + 9) ** - 1", "syntax_error"),
        ((1, 3, 8, 9), 32, "3 * 8 + 9 ^ 1", "bad_character"),
        ((1, 3, 8, 9), 32, "3 * 8 + 9 // 1", "syntax_error"),
        # Spellings.
        ((2, 3, 12), 18, "\\dfrac{12 \\cdot 3}{2}", "correct"),
        ((2, 3, 12), 2, "\\frac{\\frac{12}{2}}{3}", "correct"),
        ((1, 2, 3), 5, "3 + \\frac{2}{1}", "correct"),
        ((1, 2, 3), 5, "3 + \\frac21", "correct"),
        ((1, 2, 3), 6, "3 \\frac{2}{1}", "bad_character"),
        ((2, 7, 15), 6, "15 - 7 - 2 -> 6", "correct"),
        ((2, 7, 15), 6, "15 \u2014 7 \u2014 2", "correct"),
        ((2, 7, 15), 6, "15 \u2011 7 \u2011 2", "correct"),
        ((2, 7, 15), 6, "15 \u2212 7 \u2013 2", "correct"),
        ((2, 3, 6), 9, "6 / 2 (3)", "bad_character"),
        *(((3, 8, 9), 33, answer, "correct") for answer in (
            "3 * 8\n+ 9", "3 * 8 +\n9", "3\u202f*\u20098 + 9", "\\left(3 \\times 8\\right) + 9", "3 * 8 \uff0b 9",
            "3 \u2716 8 + 9", "3 \u2716\ufe0f 8 + 9", "3\u200b * 8 + 9", "3(8) + 9", "(3)(8) + 9", "[3 * 8] + 9",
            "\uff13 \uff0a \uff18 + \uff19", "3 \u00d7 8 + 9 = 33", "33 = 9 + 3 \u00b7 8.", "3 * 8 + 9 = 24 + 9 = 33",
            "**3 * 8 + 9**", "**3 * 8 + 9** = 33", "`3 * 8 + 9`", "'3 * 8 + 9'", "$$3 \\cdot 8 + 9$$",
            "\\(3 \\times 8 + 9\\)", "\\[3 * 8 + 9 = 33\\]", "\\boxed{3 * 8 + 9}", "\\text{3 * 8 + 9}",
            "3 * 8 + 9 \u2713", "1. 3 * 8 + 9", "* 3 * 8 + 9", "{3} \\times {8} + {9}", "three times eight plus nine",
            "3 * 8 + 9 equals 33",
            "3 * 8 + 9 \\Rightarrow 33", "\\displaystyle 3 \\times 8\\, + \\;9", "3 * 8 + 9 &= 33", "((3 * (8)) + 9)",
            "\\{3 * 8\\} + 9", "3 * 8 - -9", "3 \\ast 8 + 9", "3 x 8 + 9",
        )),
        ((2, 3, 8), 16, "3{8} - 22", "syntax_error"),
        ((3, 8, 38), 38, "3\u00b2", "bad_character"),
        ((12, 21), 33, "twelve plus twenty-one", "correct"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("frame", ["<answer>{}</answer>", "\\boxed{{{}}}", "The answer is {}"])
def test_spellings_of_arithmetic_are_read_or_refused(
    numbers: tuple[int, ...], target: int, answer: str, reason: str, frame: str
) -> None:
    assert judge(frame.format(answer), Problem(numbers, target)).reason == reason


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
trees = st.recursive(
    st.integers(1, 99), lambda inner: st.tuples(st.sampled_from("+-*/"), inner, inner), max_leaves=6
)


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


HEAVY = (
    "<answer>|<answer> </answer>|<answer>3|</think>|<think>|<think></think>|\\boxed{|x|answer is 3 |answer: |"
)
HEAVY += "answer is\n|{|}|\n| |\\frac{|\\frac{1}|(|3(|1/|*|. |.\n|\u200b|\nProblem:|seven "
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
