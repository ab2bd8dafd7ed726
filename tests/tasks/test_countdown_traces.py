"""Writing traces and reading them back."""

from __future__ import annotations

from collections import Counter
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extrabitter.tasks import load_task
from extrabitter.tasks.countdown import (
    VOCABULARY,
    Check,
    Problem,
    Step,
    Trace,
    TraceAttempt,
    TraceCondition,
    all_problems,
    drill_document,
    generate_problems,
    parse_trace,
    render_prompt,
    render_trace,
    solve,
    write_trace,
)
from extrabitter.tasks.countdown.parser import TRACE_REASONS
from extrabitter.tasks.countdown.problems import attempt_table
from extrabitter.tasks.countdown.verifier import replay_attempts, verify_completion

PROBLEMS = [p for n, count in ((2, 40), (3, 200), (4, 200)) for p in generate_problems("train", count, 11, n)]
PROBLEM = Problem((6, 7, 9), 8)
SEARCH = TraceCondition(verification=True, backtracking=True)

conditions = st.builds(
    TraceCondition,
    verification=st.booleans(),
    backtracking=st.booleans(),
    subgoal_setting=st.booleans(),
    backward_chaining=st.booleans(),
    verdicts=st.sampled_from(["true", "random"]),
    ending=st.sampled_from(["right", "wrong", "any"]),
    solution_probability=st.floats(0, 1),
    give_up_probability=st.floats(0, 1),
    max_attempts=st.integers(1, 8),
    num_filler=st.integers(0, 50),
    restart_probability=st.sampled_from([0.0, 0.5, 1.0]),
)
numbers = st.integers(0, 60)
equations = st.builds(Step, numbers, st.sampled_from("+-*/"), numbers, numbers)
checks = st.none() | st.builds(Check, numbers, st.booleans())
attempt_parts = st.tuples(
    st.lists(equations, min_size=1, max_size=4).map(tuple),
    st.none() | equations,
    st.none() | numbers,
    checks,
    st.lists(numbers, min_size=1, max_size=5).map(tuple),
    numbers,
)


@settings(max_examples=600, deadline=None, derandomize=True)
@given(st.sampled_from(PROBLEMS), conditions, st.integers(0, 2**32))
def test_a_written_trace_reads_back_as_it_was_written_for_every_switch(
    problem: Problem, condition: TraceCondition, seed: int
) -> None:
    try:
        trace = write_trace(problem, condition, Random(seed))
    except ValueError as error:
        assert "has no attempt for ending" in str(error)
        return
    text = render_trace(trace, problem)
    assert parse_trace(text, problem) == trace
    assert trace.well_formed and trace.answered
    assert parse_trace(f"  {text.replace(' ', chr(10))} <eos> <pad>", problem) == trace


@settings(max_examples=250, deadline=None, derandomize=True)
@given(st.lists(attempt_parts, min_size=1, max_size=5), st.integers(0, 3))
def test_any_trace_of_the_grammar_reads_back_however_false_it_is(parts: list, num_filler: int) -> None:
    attempts = tuple(
        TraceAttempt(state if i else PROBLEM.numbers, steps, target if i else None, need, aim, check)
        for i, (steps, need, aim, check, state, target) in enumerate(parts)
    )
    trace = Trace(attempts, num_filler)
    assert parse_trace(render_trace(trace, PROBLEM), PROBLEM) == trace


def test_each_of_the_sixteen_switch_settings_shows_its_words_and_no_others() -> None:
    words = {
        "verification": "check",
        "backtracking": "back",
        "subgoal_setting": "aim",
        "backward_chaining": "need",
    }
    for setting in range(16):
        switches = {name: bool(setting >> bit & 1) for bit, name in enumerate(words)}
        rng = Random(setting)
        texts = [
            render_trace(write_trace(PROBLEM, TraceCondition(**switches), rng), PROBLEM) for _ in range(60)
        ]
        for name, word in words.items():
            assert any(word in text.split() for text in texts) == switches[name]


def test_every_prefix_of_a_trace_parses_to_the_same_attempts_as_far_as_it_goes() -> None:
    rng = Random(3)
    condition = TraceCondition(True, True, True, True, restart_probability=0.5)
    for problem in PROBLEMS[::10]:
        whole = write_trace(problem, condition, rng)
        words = render_trace(whole, problem).split()
        for length in range(len(words)):
            part = parse_trace(" ".join(words[:length]), problem)
            assert part.reason == "unfinished" and not part.answered
            assert part.attempts[:-1] == whole.attempts[: max(0, len(part.attempts) - 1)]
            if part.attempts:
                last, original = part.attempts[-1], whole.attempts[len(part.attempts) - 1]
                assert last.steps == original.steps[: len(last.steps)]
                assert last.need in (None, original.need) and last.check in (None, original.check)


GOOD = "9 - 7 = 2 , 6 + 2 = 8"


@pytest.mark.parametrize(
    ("text", "reason", "num_attempts"),
    [
        (f"{GOOD} answer", "ok", 1),
        (f". . {GOOD} check 8 yes answer", "ok", 1),
        (f"need 8 - 6 = 2 , aim 2 , {GOOD} answer <eos>", "ok", 1),
        (f"{GOOD} check 8 no back 6 7 9 target 8 : {GOOD} answer", "ok", 2),
        (f"{GOOD} back 2 6 target 8 : 6 + 2 = 8 answer", "ok", 2),
        ("", "unfinished", 0),
        (". . .", "unfinished", 0),
        ("answer", "unexpected_word", 0),
        (GOOD, "unfinished", 1),
        (f"{GOOD} ,", "unfinished", 1),
        (f"{GOOD} check 8", "unfinished", 1),
        (f"{GOOD} back", "unfinished", 2),
        (f"{GOOD} back 6 7", "unfinished", 2),
        (f"{GOOD} back 6 7 9 target 8", "unfinished", 2),
        (f"{GOOD} back 6 7 9 target 8 : 9", "unfinished", 2),
        (f"{GOOD} answer answer", "trailing_words", 1),
        (f"{GOOD} answer 8", "trailing_words", 1),
        (f"{GOOD} answer <eos> 8", "trailing_words", 1),
        (f"{GOOD} check 8 maybe answer", "unknown_word", 1),
        (f"{GOOD} check yes answer", "unexpected_word", 1),
        (f"{GOOD} back target 8 : {GOOD} answer", "unexpected_word", 2),
        (f"{GOOD} . answer", "unexpected_word", 1),
        (f"aim 2 , need 8 - 6 = 2 , {GOOD} answer", "unexpected_word", 1),
        ("9 - 7 = 02 , 6 + 2 = 8 answer", "unknown_word", 0),
        ("9 - 7 = -2 answer", "unknown_word", 0),
        ("9 * 7 = 63 answer", "unknown_word", 0),
        ("9 - 7 = \uff12 answer", "unknown_word", 0),
        ("9-7=2 answer", "unknown_word", 0),
        ("<bos> 9 - 7 = 2 answer", "unknown_word", 0),
        ("9 - 7 = 2 <unk> answer", "unknown_word", 1),
        ("9 : 7 = 2 answer", "unexpected_word", 0),
        ("9 - 7 , 2 answer", "unexpected_word", 0),
        ("x" * 20_001, "too_long", 0),
        (None, "not_text", 0),
        (b"9 - 7 = 2", "not_text", 0),
    ],
)
def test_completions_parse_as_far_as_they_go_and_say_where_they_break(
    text: object, reason: str, num_attempts: int
) -> None:
    trace = parse_trace(text, PROBLEM)
    assert (trace.reason, len(trace.attempts)) == (reason, num_attempts)
    assert trace.well_formed == (reason == "ok")
    assert reason in TRACE_REASONS


def test_what_a_trace_says_can_be_read_off_its_fields() -> None:
    text = f"need 14 - 8 = 6 , {GOOD} check 9 no back 2 6 target 7 : aim 3 , 6 * 2 = 12 answer"
    assert parse_trace(text, PROBLEM).attempts == (
        TraceAttempt(
            (6, 7, 9),
            (Step(9, "-", 7, 2), Step(6, "+", 2, 8)),
            None,
            Step(14, "-", 8, 6),
            None,
            Check(9, False),
        ),
        TraceAttempt((2, 6), (Step(6, "*", 2, 12),), 7, None, 3, None),
    )


def test_the_submitted_attempt_is_right_or_wrong_as_asked() -> None:
    rng = Random(0)
    for problem in PROBLEMS[40:]:
        for ending, correct in (("right", True), ("wrong", False)):
            for switches in (TraceCondition(ending=ending), TraceCondition(True, True, ending=ending)):
                text = render_trace(write_trace(problem, switches, rng), problem)
                assert verify_completion(text, problem).correct == correct
                if switches.verification:
                    assert text.endswith(f"check {problem.target} {'yes' if correct else 'no'} answer")


def test_an_ending_that_cannot_be_is_refused() -> None:
    unsolvable = Problem((1, 1, 1), 60)
    with pytest.raises(ValueError, match="problem 1-1-1:60: has no attempt for ending 'right'"):
        write_trace(unsolvable, TraceCondition(ending="right"), Random(0))


def test_a_trace_that_tried_all_that_would_do_ends_at_the_last_of_them() -> None:
    problem, condition = Problem((15, 15, 15), 15), TraceCondition(True, True, ending="wrong")
    traces = [write_trace(problem, condition, Random(seed)) for seed in range(300)]
    assert {len(trace.attempts) for trace in traces} == {1, 2}
    for trace in traces:
        assert verify_completion(render_trace(trace, problem), problem).reason == "wrong_value"
        assert all(not attempt.check.says_yes for attempt in trace.attempts)


def test_the_ending_leaves_the_number_of_attempts_as_it_came() -> None:
    for seed, problem in enumerate(PROBLEMS[40:]):
        lengths = {
            ending: len(
                write_trace(problem, TraceCondition(True, True, ending=ending), Random(seed)).attempts
            )
            for ending in ("any", "right", "wrong")
        }
        assert len(set(lengths.values())) == 1


def test_the_first_attempt_does_not_depend_on_the_switches() -> None:
    for seed, problem in enumerate(PROBLEMS):
        firsts = {
            write_trace(problem, condition, Random(seed)).attempts[0].steps
            for condition in (
                TraceCondition(),
                SEARCH,
                TraceCondition(True, True, True, True, verdicts="random"),
            )
        }
        assert len(firsts) == 1


def test_attempts_are_uniform_solutions_or_uniform_legal_attempts() -> None:
    rng = Random(1)
    table = attempt_table(PROBLEM.numbers)
    num_solutions = len(solve(PROBLEM))
    draws = 40_000
    for probability in (0.0, 0.4, 1.0):
        condition = TraceCondition(solution_probability=probability)
        counts = Counter(write_trace(PROBLEM, condition, rng).attempts[0].steps for _ in range(draws))
        for index in range(len(table)):
            expected = (1 - probability) / len(table)
            if index in table.hits(PROBLEM.target):
                expected += probability / num_solutions
            assert abs(counts[table.attempt(index)] / draws - expected) <= 5 * (expected / draws) ** 0.5


def test_a_search_stops_at_yes_and_never_repeats_an_attempt() -> None:
    rng = Random(2)
    for problem in PROBLEMS:
        for restart_probability in (0.0, 1.0):
            condition = TraceCondition(
                True,
                True,
                solution_probability=0.1,
                give_up_probability=0,
                restart_probability=restart_probability,
            )
            trace = write_trace(problem, condition, rng)
            replays = replay_attempts(trace, problem)
            assert all(replay.legal for replay in replays)
            assert len({replay.key for replay in replays}) == len(replays) <= condition.max_attempts
            assert [a.check.says_yes for a in trace.attempts] == [replay.hits for replay in replays]
            assert not any(replay.hits for replay in replays[:-1])
            assert replays[-1].hits or len(replays) == min(
                condition.max_attempts, len(attempt_table(problem.numbers))
            )


def test_restarts_go_to_numbers_that_an_earlier_attempt_had_left() -> None:
    rng = Random(5)
    condition = TraceCondition(True, True, solution_probability=0.0, restart_probability=1.0)
    restarted = 0
    for problem in PROBLEMS[240:]:
        trace = write_trace(problem, condition, rng)
        replays = replay_attempts(trace, problem)
        for attempt, replay in zip(trace.attempts, replays, strict=True):
            restarted += attempt.numbers != problem.numbers
            assert len(replay.key) == len(problem.numbers) - 1
    assert restarted > 20


def test_random_verdicts_are_a_fair_coin_whatever_the_attempt() -> None:
    rng = Random(4)
    condition = TraceCondition(True, True, verdicts="random")
    says: dict[bool, list[bool]] = {True: [], False: []}
    for problem in PROBLEMS * 5:
        trace = write_trace(problem, condition, rng)
        for attempt, replay in zip(trace.attempts, replay_attempts(trace, problem), strict=True):
            says[replay.hits].append(attempt.check.says_yes)
    for verdicts in says.values():
        assert len(verdicts) > 500 and abs(np.mean(verdicts) - 0.5) < 5 * 0.5 / len(verdicts) ** 0.5


def test_a_search_that_does_not_find_gives_up_with_the_stated_chance() -> None:
    rng = Random(6)
    condition = TraceCondition(True, True, solution_probability=0.0, give_up_probability=0.25, max_attempts=2)
    unsolvable = Problem((5, 7, 11), 60)
    assert solve(unsolvable) == []
    lengths = Counter(len(write_trace(unsolvable, condition, rng).attempts) for _ in range(8000))
    assert lengths[1] / 8000 == pytest.approx(0.25, abs=0.025)


def test_backward_steps_are_true_and_lead_from_the_target_to_what_a_solution_needs() -> None:
    for problem in all_problems("validation", 3):
        condition = TraceCondition(backward_chaining=True, ending="right", subgoal_setting=True)
        attempt = write_trace(problem, condition, Random(0)).attempts[0]
        assert attempt.need is not None and problem.target in (attempt.need.left, attempt.need.right)
        last = attempt.steps[-1]
        # A product of nothing with nothing cannot be solved backwards.
        if problem.target and last.right and last.operation != "*":
            assert attempt.need.result in (last.left, last.right)
        assert attempt.aim == attempt.steps[0].result


def test_traces_are_the_same_for_the_same_seed_with_either_kind_of_generator() -> None:
    for make in (Random, np.random.default_rng):
        first, again, other = ([write_trace(p, SEARCH, make(seed)) for p in PROBLEMS] for seed in (1, 1, 2))
        assert first == again != other


def test_traces_of_other_numbers_are_not_rendered() -> None:
    trace = write_trace(PROBLEM, SEARCH, Random(0))
    with pytest.raises(ValueError, match="trace: starts from"):
        render_trace(trace, Problem((1, 2, 3), 6))


def test_every_word_written_is_in_the_vocabulary() -> None:
    rng = Random(0)
    condition = TraceCondition(True, True, True, True, num_filler=2)
    texts = [render_prompt(problem, cue=True) for problem in PROBLEMS]
    texts += [render_trace(write_trace(problem, condition, rng), problem) for problem in PROBLEMS]
    texts += [drill_document(rng) for _ in range(500)]
    words = {word for text in texts for word in text.split(" ")}
    assert words <= set(VOCABULARY)
    assert len(set(VOCABULARY)) == len(VOCABULARY) < 200
    assert VOCABULARY[:4] == ("<pad>", "<bos>", "<eos>", "<unk>")


def test_prompts_state_the_problem_and_the_cue_only_when_asked() -> None:
    assert render_prompt(PROBLEM) == "numbers 6 7 9 target 8 :"
    assert render_prompt(PROBLEM, cue=True) == "think numbers 6 7 9 target 8 :"


def test_drills_are_true_facts_or_fair_comparisons() -> None:
    rng = np.random.default_rng(0)
    distances, operations, facts = [], Counter(), set()
    for document in [drill_document(rng) for _ in range(6000)]:
        lines = document.split(" , ")
        if "check" in document:
            assert len(lines) == 4
            for line in lines:
                first, second, word = (part for part in line.split() if part != "check")
                assert word == ("yes" if first == second else "no")
                distances.append(abs(int(first) - int(second)))
        else:
            assert len(lines) == 3
            for line in lines:
                left, operation, right, _, result = line.split()
                left, right, result = int(left), int(right), int(result)
                assert left >= right
                assert {"+": left + right, "-": left - right, "*": left * right}[operation] == result <= 60
                operations[operation] += 1
                facts.add((left, operation, right))
    assert np.mean(np.array(distances) == 0) == pytest.approx(0.45, abs=0.02)
    assert np.mean((np.array(distances) > 0) & (np.array(distances) <= 3)) == pytest.approx(0.235, abs=0.02)
    assert min(operations.values()) / max(operations.values()) > 0.9
    assert (7, "*", 5) in facts and len(facts) > 1500


def test_the_task_is_found_by_name_and_unknown_names_are_refused() -> None:
    task = load_task("countdown")
    problem = task.generate_problems("train", 1, 0)[0]
    assert task.verify_completion(
        task.render_trace(task.write_trace(problem, TraceCondition(ending="right"), Random(0)), problem),
        problem,
    ).correct
    with pytest.raises(ValueError, match="task: unknown 'chess'; must be one of countdown"):
        load_task("chess")
