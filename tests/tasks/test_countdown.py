"""Countdown: its rules, solver and splits, what conditions write, and what the parser and verifier make of a text."""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction
from itertools import permutations, product
from random import Random

import numpy as np
import pytest

from extrabitter.tasks import BEHAVIOURS, SPLITS, Trace, load_task, split_of
from extrabitter.tasks.countdown import problems as rules
from extrabitter.tasks.countdown.arithmetic import MAX_DEPTH, MAX_DIGITS, MAX_LENGTH, evaluate_expression
from extrabitter.tasks.countdown.english import verify_expression
from extrabitter.tasks.countdown.problems import BANDS, Problem, Step, attempt_table, multisets
from extrabitter.tasks.countdown.traces import CONDITIONS, GIVE_UP_PROBABILITY, Script

TASK = load_task("countdown")
DRAWN = {"two": 20, "common": 120, "four": 120}
PROBLEMS = [p for band, count in DRAWN.items() for p in TASK.problems("train", count, 11, band)]
PROBLEM = Problem((6, 7, 9), 8)
GOOD = "9 - 7 = 2 , 6 + 2 = 8"
BACK = "back 6 7 9 target 8 :"


def read(script: Script, problem: Problem) -> tuple[Trace, list[str]]:
    text = TASK.render(script, problem)
    return TASK.parse(text, problem), text.split()


def write(
    condition: str, *chance: float, problems: list[Problem] = PROBLEMS
) -> list[tuple[Script, Trace, Problem]]:
    """Write a script of each problem, from a seed of its own, and read it."""
    scripts = [TASK.write_trace(p, condition, Random(seed), *chance) for seed, p in enumerate(problems)]
    return [(script, read(script, p)[0], p) for script, p in zip(scripts, problems, strict=True)]


# Problems.


def brute_force(numbers: tuple[int, ...]) -> dict[tuple[Step, ...], int]:
    """Every legal computation and its value, by trying all ordered pairs of positions at every step."""
    found: dict[tuple[Step, ...], int] = {}

    def explore(left: list[int], steps: list[Step]) -> None:
        if len(left) == 1:
            found[tuple(sorted(steps))] = left[0]
            return
        for i, j in permutations(range(len(left)), 2):
            a, b = left[i], left[j]
            for sign, result in (("+", a + b), ("-", a - b), ("*", a * b)):
                if 0 <= result <= rules.MAX_VALUE and (sign == "-" or a >= b):
                    rest = [value for position, value in enumerate(left) if position not in (i, j)]
                    explore([*rest, result], [*steps, Step(a, sign, b, result)])

    explore(list(numbers), [])
    return found


def test_solver_lists_every_legal_attempt_exactly_once_in_an_order_that_can_be_carried_out() -> None:
    four = [*Random(0).sample(multisets("train", 4), 25), (1, 1, 1, 1), (2, 7, 7, 7), (2, 4, 6, 6)]
    for numbers in [*multisets("train", 3)[::2], *multisets("test", 3), *multisets("test", 2), *four]:
        expected, table = brute_force(numbers), attempt_table(numbers)
        attempts = [table.attempt(index) for index in range(len(table))]
        assert dict(zip(map(tuple, map(sorted, attempts)), table.values, strict=True)) == expected
        assert len(table) == len(expected)
        for value, steps in zip(table.values, attempts, strict=True):
            left = list(numbers)
            for step in steps:
                left.remove(step.left)
                left.remove(step.right)
                assert step.left >= step.right and rules.combine(*step[:3]) == step.result
                left.append(step.result)
            assert left == [value]
        for target in set(expected.values()):
            solutions = {tuple(sorted(attempt)) for attempt in TASK.solve(Problem(numbers, target))}
            assert solutions == {key for key, value in expected.items() if value == target}
    assert TASK.solve(Problem((7, 7), 14)) == [(Step(7, "+", 7, 14),)]
    assert TASK.solve(Problem((1, 1, 1), 60)) == []


def test_no_multiset_of_numbers_is_in_two_splits_and_none_ever_moves() -> None:
    for num_numbers in (2, 3, 4):
        sets = [set(multisets(split, num_numbers)) for split in SPLITS]
        assert sum(map(len, sets)) == len(set().union(*sets))
    for split, share in SPLITS.items():
        assert len(multisets(split, 4)) / 8855 == pytest.approx(share, abs=0.02)
    # A change of the hash would move problems that shipped models were trained on into the test split.
    assert " ".join(split_of(f"1-2-{n}")[:2] for n in range(2, 12)) == "tr va tr te te va tr tr te te"
    for band, split in product(BANDS, SPLITS):
        drawn = TASK.problems(split, 200, 5, band)
        assert {split} == {split_of(problem.identifier.partition(":")[0]) for problem in drawn}
    assert [p.identifier for p in TASK.problems("train", 3, 1)] == ["7-9-17:19", "3-6-17:8", "3-7-10:6"]


def test_targets_come_as_often_as_attempts_reach_them() -> None:
    choices = multisets("validation", 3)
    expected: Counter[int] = Counter()
    for numbers in choices:
        reached = Counter(attempt_table(numbers).values)
        frequent = {value: count for value, count in reached.items() if count >= 0.1 * reached.total()}
        expected.update({value: count / sum(frequent.values()) for value, count in frequent.items()})
    counts = Counter(problem.target for problem in TASK.problems("validation", 20_000, 1))
    for target, weight in expected.items():
        share = weight / len(choices)
        assert abs(counts[target] / 20_000 - share) < 5 * (share / 20_000) ** 0.5


def test_rare_problems_are_those_that_common_ones_leave_out_in_every_split() -> None:
    for split in SPLITS:
        rare, common = (set(rules.all_problems(split, BANDS[band])) for band in ("rare", "common"))
        assert not rare & common and {p.numbers for p in rare | common} == set(multisets(split, 3))
        for problem in [*rare][:100]:
            assert 0 < len(TASK.solve(problem)) < rules.MIN_SOLUTION_SHARE * TASK.count_answers(problem)
    count = len(rare)
    assert set(TASK.problems("test", count, 3, "rare", distinct=True)) == rare
    with pytest.raises(ValueError, match=f"count = {count + 1}: must be at most {count}, the test problems"):
        TASK.problems("test", count + 1, 3, "rare", distinct=True)
    assert TASK.problems("train", 30, 7, "rare")[:20] == TASK.problems("train", 20, 7, "rare")


@pytest.mark.parametrize("given", [((9, 6, 7), 8), ((), 8), ((100, 200), 300), ((1, 2, 3, 4, 5), 9)])
def test_what_is_no_problem_is_refused(given: tuple[tuple[int, ...], int]) -> None:
    with pytest.raises(ValueError, match="numbers"):
        TASK.solve(Problem(*given))


# What conditions write.


def test_attempts_are_uniform_solutions_or_uniform_legal_attempts_whatever_the_condition() -> None:
    table, draws, rng = attempt_table(PROBLEM.numbers), 20_000, Random(1)
    for probability in (0.0, 0.4, 1.0):
        scripts = (TASK.write_trace(PROBLEM, "direct", rng, probability) for _ in range(draws))
        counts = Counter(script.attempts[0].steps for script in scripts)
        for index in range(len(table)):
            expected = (1 - probability) / len(table)
            if index in table.hits(PROBLEM.target):
                expected += probability / len(TASK.solve(PROBLEM))
            assert abs(counts[table.attempt(index)] / draws - expected) <= 5 * (expected / draws) ** 0.5
    for same in zip(*map(write, CONDITIONS), strict=True):
        assert len({script.attempts[0].steps for script, _, _ in same}) == 1


def test_a_search_stops_at_yes_and_makes_no_attempt_twice() -> None:
    lengths = Counter()
    for script, trace, _ in write("search", 0.1):
        hits = [attempt.outcome == "hit" for attempt in trace.attempts]
        assert all(a.outcome != "illegal" and not a.repeated and a.verdict_true for a in trace.attempts)
        assert [a.says_yes for a in script.attempts] == hits and not any(hits[:-1])
        lengths[len(hits)] += 1
    assert max(lengths) == CONDITIONS["search"].max_attempts and lengths[1] < len(PROBLEMS) / 2


def test_behaviours_that_a_condition_names_are_shown_and_no_others() -> None:
    for name, condition in CONDITIONS.items():
        shown = Counter()
        for _, trace, _ in write(name, 0.2, problems=PROBLEMS[20:]):
            uses = {use.behaviour for use in trace.uses}
            shown.update(uses)
            functional = {use.behaviour for use in trace.uses if use.functional}
            assert condition.verdicts == "random" or functional >= uses - {"backtracking"}
        assert set(shown) == {behaviour for behaviour in BEHAVIOURS if getattr(condition, behaviour)}


def test_wrong_traces_are_true_searches_that_hand_in_a_miss() -> None:
    for (_, wrong, _), (_, search, _) in zip(write("wrong"), write("search"), strict=True):
        assert not wrong.verdict.correct and all(a.verdict_true for a in wrong.attempts)
        same = min(len(search.attempts), 11)
        assert wrong.attempts[:same] == search.attempts[:same]
        if search.verdict.correct and len(search.attempts) <= 11:
            assert len(wrong.attempts) == same + 1 and wrong.attempts[-1].outcome == "miss"
            assert wrong.attempts[-1].repeated == (same > 1)


def test_the_length_of_filler_says_nothing_of_the_problem_or_the_answer() -> None:
    problems = TASK.problems("train", 1500, 2)
    written = write("filler", problems=problems)
    dots = np.array([script.num_filler for script, _, _ in written], dtype=float)
    right = np.array([trace.verdict.correct for _, trace, _ in written])
    assert abs(np.corrcoef(dots, right)[0, 1]) < 0.08, "the first edition's was .5"
    few = right[dots <= np.quantile(dots, 0.2)]
    assert abs(few.mean() - right.mean()) < 4 * 0.5 / len(few) ** 0.5
    behaviours = write("all_behaviours", problems=problems)
    whole, longer = ([len(read(script, p)[1]) for script, _, p in each] for each in (written, behaviours))
    assert np.mean(whole) == pytest.approx(np.mean(longer), rel=0.06), "as long as all behaviours, on average"


def test_verdicts_of_empty_words_are_a_fair_coin_and_searches_give_up_as_often_as_said() -> None:
    says: dict[bool, list[bool]] = {True: [], False: []}
    for script, trace, _ in write("cosmetic", problems=PROBLEMS * 8):
        for written, attempt in zip(script.attempts, trace.attempts, strict=True):
            says[attempt.outcome == "hit"].append(written.says_yes)
    for verdicts in says.values():
        assert len(verdicts) > 500 and abs(np.mean(verdicts) - 0.5) < 2.5 / len(verdicts) ** 0.5
    unsolvable, rng = Problem((5, 7, 11), 60), Random(6)
    lengths = Counter(len(TASK.write_trace(unsolvable, "search", rng).attempts) for _ in range(6000))
    assert lengths[1] / 6000 == pytest.approx(GIVE_UP_PROBABILITY, abs=0.02)


def test_backward_steps_are_true_and_lead_from_the_target_to_what_a_solution_needs() -> None:
    for problem in rules.all_problems("validation", BANDS["common"]):
        attempt = TASK.write_trace(problem, "all_behaviours", Random(0), 1.0).attempts[0]
        need, last = attempt.need, attempt.steps[-1]
        assert need is not None and problem.target in (need.left, need.right)
        # A product of nothing with nothing cannot be solved backwards.
        if problem.target and last.right and last.operation != "*":
            assert need.result in (last.left, last.right)
        assert attempt.aim == attempt.steps[0].result


def test_documents_fit_under_the_caps_and_are_the_same_for_the_same_seed() -> None:
    for name in CONDITIONS:
        written = write(name, problems=TASK.problems("train", 300, 4))
        assert max(len(read(script, p)[1]) for script, _, p in written) <= 280
    for make in (Random, np.random.default_rng):
        first, again, other = ([TASK.write_trace(p, "search", make(s)) for p in PROBLEMS] for s in (1, 1, 2))
        assert first == again != other


def test_drills_are_true_facts_or_fair_comparisons_that_bear_loss_on_what_is_found() -> None:
    rng = np.random.default_rng(0)
    distances, operations, facts = [], Counter(), set()
    for text, bears_loss in [TASK.drill(rng) for _ in range(5000)]:
        lines = [line.split() for line in text.split(" , ")]
        scored = [word for word, bears in zip(text.split(), bears_loss, strict=True) if bears]
        assert len(lines) == (4 if "check" in text else 3) and scored == [line[-1] for line in lines]
        for line in lines:
            if "check" in text:
                first, _, second, word = line
                assert word == ("yes" if first == second else "no")
                distances.append(abs(int(first) - int(second)))
            else:
                left, operation, right, _, result = line
                assert int(left) >= int(right)
                assert rules.combine(int(left), operation, int(right)) == int(result)
                operations[operation] += 1
                facts.add((left, operation, right))
    apart = np.array(distances)
    assert np.mean(apart == 0) == pytest.approx(0.45, abs=0.02)
    assert np.mean((apart > 0) & (apart <= 3)) == pytest.approx(0.235, abs=0.02)
    assert min(operations.values()) / max(operations.values()) > 0.9
    assert ("7", "*", "5") in facts and len(facts) > 1500


# What is read.


READ: dict[tuple[str, int], list[object]] = {  # reason, number of attempts -> completions
    ("correct", 1): [
        *(
            f"{GOOD} answer",
            f" {GOOD.replace(' ', chr(10))}  answer <eos> <pad>",
            "9 - 7 = 2 , 2 + 6 = 8 answer",
        ),
        *(f". . . {GOOD} check 8 yes answer", f"need 9 - 9 = 5 , aim 40 , {GOOD} check 3 no answer"),
    ],
    ("correct", 2): [
        f"9 * 6 = 54 , 54 - 7 = 47 check 8 no {BACK} {GOOD} answer",
        f"9 * 6 = 60 , 1 - 1 = 0 back 9 7 6 target 8 : {GOOD} answer",
        "9 - 7 = 2 , 6 * 2 = 12 check 8 no back 2 6 target 8 : 6 + 2 = 8 answer",
    ],
    ("correct", 3): [
        "9 - 7 = 2 , 6 * 2 = 12 back 6 2 target 8 : 6 - 2 = 4 back 2 6 target 8 : 6 + 2 = 8 answer"
    ],
    ("wrong_value", 1): ["9 + 7 = 16 , 16 - 6 = 10 answer"],
    ("wrong_value", 2): [f"{GOOD} check 8 yes {BACK} 9 + 7 = 16 , 16 - 6 = 10 answer"],
    ("number_not_available", 1): [
        *("9 + 7 = 16 , 16 - 8 = 8 answer", "9 - 9 = 0 , 8 + 0 = 8 answer", f"{GOOD} , 8 - 0 = 8 answer"),
    ],
    ("numbers_unused", 1): ["9 - 7 = 2 answer"],
    ("wrong_arithmetic", 1): ["9 - 7 = 1 , 7 + 1 = 8 answer", "7 - 9 = 2 , 6 + 2 = 8 answer"],
    ("operation_not_allowed", 1): ["9 / 7 = 2 , 6 + 2 = 8 answer"],
    ("numbers_not_reached", 2): [
        f"{GOOD} back 2 7 target 8 : 7 + 2 = 9 answer",
        "9 - 7 = 3 , 6 + 3 = 9 back 3 6 target 8 : 6 + 3 = 9 answer",
        f"{GOOD} back 8 target 8 : 8 + 0 = 8 answer",
    ],
    ("unfinished", 0): ["", ". . ."],
    ("unfinished", 1): [GOOD, f"{GOOD} ,", f"{GOOD} check 8"],
    ("unfinished", 2): [f"{GOOD} {cut}" for cut in ("back", "back 6 7", "back 6 7 9 target 8", f"{BACK} 9")],
    ("trailing_words", 1): [f"{GOOD} answer answer", f"{GOOD} answer <eos> 8"],
    ("unexpected_word", 0): ["answer", "9 : 7 = 2 answer"],
    ("unexpected_word", 1): [
        *(f"{GOOD} check yes answer", f"{GOOD} . answer", f"aim 2 , need 8 - 6 = 2 , {GOOD} answer"),
        "need 8 - 6 = 2 answer",
    ],
    ("unexpected_word", 2): [f"{GOOD} back target 8 : {GOOD} answer"],
    ("unknown_word", 0): [
        *("9 - 7 = 02 , 6 + 2 = 8 answer", "9 * 7 = 63 answer", "9 - 7 = \uff12 answer", "9-7=2 answer"),
        "(9 - 7) + 6",
    ],
    ("unknown_word", 1): [f"{GOOD} check 8 maybe answer", "9 - 7 = 2 <unk> answer"],
    ("too_long", 0): ["x" * 20_001],
    ("not_text", 0): [None, b"9 - 7 = 2"],
}


@pytest.mark.parametrize(
    ("reason", "num_attempts", "text"),
    [(*expected, text) for expected, texts in READ.items() for text in texts],
)
def test_completions_are_read_as_far_as_they_go_and_judged_with_a_named_reason(
    reason: str, num_attempts: int, text: object
) -> None:
    trace = TASK.parse(text, PROBLEM)
    assert (trace.verdict.reason, trace.verdict.correct) == (reason, reason == "correct")
    assert len(trace.attempts) == num_attempts and reason in TASK.reasons
    assert trace.form in ("ok", reason) and trace.answered == (trace.form in ("ok", "trailing_words"))
    cut = TASK.parse(text, PROBLEM, truncated=True).verdict
    assert cut.reason == reason.replace("unfinished", "truncated")


def test_a_trace_says_where_each_part_stands_and_what_it_is_worth() -> None:
    text = f". need 14 - 8 = 6 , {GOOD} check 9 no back 2 6 target 7 : aim 3 , 6 * 2 = 12 check 8 no {BACK} {GOOD} , 3"
    trace, words = TASK.parse(text, PROBLEM), text.split()
    made = [" ".join(words[a.start : a.end]) for a in trace.attempts]
    assert made == [f"need 14 - 8 = 6 , {GOOD}", "aim 3 , 6 * 2 = 12", GOOD]
    assert [tuple(a)[2:] for a in trace.attempts] == [
        ("hit", True, False, "no", False, 2, 2),
        ("miss", True, False, "no", True, 1, 1),
        ("hit", True, True, "", False, 2, 2),
    ]
    assert [(u.behaviour, " ".join(words[u.start : u.end]), u.functional) for u in trace.uses] == [
        ("backward_chaining", "need 14 - 8 = 6", False),
        ("verification", "check 9 no", False),
        ("backtracking", "back 2 6 target 7 :", False),
        ("subgoal_setting", "aim 3", False),
        ("verification", "check 8 no", True),
        ("backtracking", BACK, False),
    ]
    assert (trace.form, trace.num_filler) == ("unfinished", 1)


def test_whatever_is_written_in_the_grammar_is_read_where_it_was_written() -> None:
    rng = Random(9)

    def number() -> int:
        return rng.randrange(61)

    def equation() -> str:
        return f"{number()} {rng.choice('+-*/')} {number()} = {number()}"

    def attempt(place: int) -> tuple[str, str, str]:
        """Write what stands in front of an attempt, the attempt, and its verdict."""
        begun = rng.choice(["", f"need {equation()} , "]) + rng.choice(["", f"aim {number()} , "])
        steps = " , ".join(equation() for _ in range(rng.randint(1, 4)))
        back = " ".join(str(number()) for _ in range(rng.randint(1, 4)))
        opened = f"back {back} target {number()} :" if place else "." * rng.randrange(2)
        return opened, begun + steps, rng.choice(["", f"check {number()} yes", f"check {number()} no"])

    for _ in range(400):
        written = [attempt(place) for place in range(rng.randint(1, 5))]
        words = " ".join([*(part for parts in written for part in parts), "answer"]).split()
        trace = TASK.parse(" ".join(words), PROBLEM)
        assert trace.well_formed and len(trace.attempts) == len(written)
        for (_, body, verdict), found in zip(written, trace.attempts, strict=True):
            assert " ".join(words[found.start : found.end]) == body
            assert found.num_steps == body.count("=") - body.count("need")
            assert found.said == verdict.rpartition(" ")[2]
        for length in range(len(words)):
            part = TASK.parse(" ".join(words[:length]), PROBLEM)
            assert part.form == "unfinished"
            assert part.attempts[:-1] == trace.attempts[: max(0, len(part.attempts) - 1)]


# Expressions.


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        *((text, "correct") for text in ("(9 - 7) + 6", "6+9-7", "  ( ( 6 ) ) - ( 7 - 9 )  ", "6 - -9 - 7")),
        ("-7 + 9 + 6", "correct"),
        *((text, "wrong_value") for text in ("9 + 7 - 6", "9 / 6 * 7")),
        *((text, "number_not_available") for text in ("9 - 7 + 6 * 1", "8", "9 + 9 - 7 - 6")),
        ("9 - 7", "numbers_unused"),
        *((text, "empty") for text in ("", "   ")),
        *((text, "syntax_error") for text in ("(", "()", "-", "+", ")9 - 7(", "(9 - 7 + 6", "9 - 7) + 6")),
        *((text, "syntax_error") for text in ("9 7 6", "9 (7) 6", "9 - 7 +", "9**99**99", "09 - 7 + 6")),
        ("9 / (7 - 7) + 6", "division_by_zero"),
        ("1234567", "number_too_long"),
        ("(" * 10_000 + "9", "too_long"),
        ("(" * (MAX_DEPTH + 1) + "9" + ")" * (MAX_DEPTH + 1), "too_deep"),
        *((f"9 - 7 + 6{behind}", "bad_character") for behind in (" = 8", "\n", "\x00", " # 8", "_0")),
        *(
            (text, "bad_character")
            for text in ("9 \u2212 7", "\uff19 - 7", "\u0669 - 7", "9_0", "9.0 - 7 + 6")
        ),
    ],
)
def test_expressions_are_judged_with_a_named_reason(text: str, reason: str) -> None:
    verdict = verify_expression(text, PROBLEM)
    assert (verdict.reason, verdict.correct) == (reason, reason == "correct")
    assert reason in TASK.reasons


def in_python(text: str) -> Fraction:
    """Python itself as the oracle, on text that this file has written."""
    return eval(re.sub(r"(\d+)", r"Fraction(\1)", text), {"Fraction": Fraction})


def random_expression(terms: list[str], rng: Random) -> str:
    """Join terms two at a time with random operations, parentheses and signs."""
    terms = terms[:]
    while len(terms) > 1:
        right, left = (terms.pop(rng.randrange(len(terms))) for _ in range(2))
        joined = f"{left} {rng.choice('+-*/')} {right}"
        terms.append(f"({joined})" if rng.random() < 0.7 else joined)
        if rng.random() < 0.1:
            terms[-1] = f"-{terms[-1]}"
    return terms[0]


def test_operations_bind_as_in_arithmetic() -> None:
    rng = Random(0)
    for _ in range(3000):
        text = random_expression([str(rng.randint(1, 30)) for _ in range(rng.randint(1, 6))], rng)
        evaluation = evaluate_expression(text)
        try:
            assert (evaluation.reason, evaluation.value) == ("ok", in_python(text))
        except ZeroDivisionError:
            assert evaluation.reason == "division_by_zero"
    assert verify_expression("8 / 3 + 8", Problem((3, 8, 8), 3)).value == "32/3"
    text = "*".join(["9" * MAX_DIGITS] * (MAX_LENGTH // (MAX_DIGITS + 1)))
    assert evaluate_expression(text).value < 10**MAX_LENGTH


def as_expression(attempt: tuple[Step, ...]) -> str:
    """Write a solution as one expression."""
    left = {}
    for first, operation, second, result in attempt:
        left[result] = f"({left.pop(first, first)} {operation} {left.pop(second, second)})"
    return left[attempt[-1].result]


def corruptions(text: str, rng: Random) -> list[str]:
    """Return variants of an expression: another number, operation, order or bracket, one too many or too few."""
    position = rng.randrange(len(text))
    digit = rng.choice([i for i, character in enumerate(text) if character.isdigit()])
    sign = rng.choice([i for i, character in enumerate(text) if character in "+-*/"])
    return [
        text[:digit] + rng.choice("123456789") + text[digit + 1 :],
        text[:digit] + text[digit] + text[digit:],
        text[:sign] + rng.choice("+-*/") + text[sign + 1 :],
        text[:position] + text[position + 1 :],
        text.replace("(", "").replace(")", ""),
        f"{text} {rng.choice('+-*/')} {rng.randint(1, 15)}",
        *(f"0 + {text}", f"-({text})", f"({text}"),
        text[::-1].translate(str.maketrans("()", ")(")),
    ]


# What reasoning-gym 0.1.25 scores 1.0 and this verifier rejects, with the reason. It hands the text to sympy's
# `parse_expr`, which runs it as Python, looks for the numbers in the text only, and compares floats.
ACCEPTED_BY_SYMPY_ONLY = [
    ("2**3", (2, 3), 8, "syntax_error"),  # powers
    ("17//2", (2, 17), 8, "syntax_error"),  # floor division
    ("17 % 9", (9, 17), 8, "bad_character"),  # remainder
    ("3! + 2", (2, 3), 8, "bad_character"),  # factorial
    ("sqrt(9) + 5", (5, 9), 8, "bad_character"),  # functions
    ("x - x + 8", (8,), 8, "bad_character"),  # unknowns that cancel
    ("8 # 7", (7, 8), 8, "bad_character"),  # a number in a comment counts as used
    ("100*200/20.0", (0, 20, 100, 200), 1000, "bad_character"),  # 20.0 counts as 20 and 0
    ("9\t-1", (1, 9), 8, "bad_character"),  # white space other than spaces
    ("100000/100001*500", (500, 100000, 100001), 500, "wrong_value"),  # close in floats is not equal
]


def test_agrees_with_reasoning_gym_on_right_and_corrupted_answers_but_for_pinned_differences() -> None:
    countdown = pytest.importorskip("reasoning_gym.games.countdown")
    dataset = countdown.CountdownDataset(countdown.CountdownConfig(seed=0, size=20))
    rng = Random(0)
    answers: list[tuple[str, Problem]] = []
    for entry in dataset:
        problem = Problem(tuple(sorted(entry["metadata"]["numbers"])), entry["metadata"]["target"])
        answers += [(text, problem) for text in [entry["answer"], *corruptions(entry["answer"], rng)]]
    for problem in [*TASK.problems("test", 50, 0), *TASK.problems("test", 50, 0, "four")]:
        right = as_expression(rng.choice(TASK.solve(problem)))
        guess = random_expression(list(map(str, problem.numbers)), rng)
        answers += [(text, problem) for text in [right, *corruptions(right, rng), guess]]
    # A doubled sign of the corrupted texts makes a power or a floor division: see the list of differences.
    answers = [(text, problem) for text, problem in answers if "**" not in text and "//" not in text]
    counts: Counter[bool] = Counter()
    for text, problem in answers:
        ours = verify_expression(text, problem).correct
        entry = {"metadata": {"numbers": list(problem.numbers), "target": problem.target}}
        assert ours == (dataset.score_answer(text, entry) == 1.0), (text, problem)
        counts[ours] += 1
    assert min(counts.values()) > 150
    for text, given, target, reason in ACCEPTED_BY_SYMPY_ONLY:
        assert dataset.score_answer(text, {"metadata": {"numbers": list(given), "target": target}}) == 1.0
        assert verify_expression(text, Problem(given, target)).reason == reason
