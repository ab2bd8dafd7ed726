"""Knights & Knaves: puzzles, structures, traces and drills; what every task must hold to is tested elsewhere."""

from __future__ import annotations

import random
import re
from collections import Counter
from itertools import permutations, product

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extrabitter.digests import REPOSITORY
from extrabitter.tasks import SPLITS, split_of
from extrabitter.tasks.knights import Knights, traces
from extrabitter.tasks.knights import problems as rules
from extrabitter.tasks.knights.problems import BANDS, NAMES, Problem, Statement, assignments, canonical_form
from extrabitter.tasks.knights.traces import OPPOSITE, check_words, number, step_words
from programs import load

TASK = Knights()
ORDERED = [name for name, band in BANDS.items() if band.kind == "ordered"]


@pytest.mark.parametrize(
    ("relation", "other", "claimed"),
    [  # of B, C = knight knight, knight knave, knave knight, knave knave
        ("is", "knight", (True, True, False, False)),
        ("is", "knave", (False, False, True, True)),
        ("same", "C", (True, False, False, True)),
        ("differs", "C", (False, True, True, False)),
        ("and", "C", (True, False, False, False)),
        ("or", "C", (True, True, True, False)),
        ("if", "C", (True, True, False, True)),
    ],
)
def test_a_knight_says_what_is_the_case_and_a_knave_what_is_not(
    relation: str, other: str, claimed: tuple[bool, ...]
) -> None:
    statement = Statement("A", "B", relation, other)
    for roles, is_so in zip(assignments("BC"), claimed, strict=True):
        assert statement.fits({**roles, "A": "knight"}) == is_so
        assert statement.fits({**roles, "A": "knave"}) != is_so


@pytest.mark.parametrize("band", BANDS)
def test_problems_have_one_solution_and_are_of_their_band(band: str) -> None:
    kind = BANDS[band].kind
    for problem in TASK.problems("train", 40, 3, band):
        brute = [r for r in assignments(problem.people) if all(s.fits(r) for s in problem.statements)]
        assert list(problem.solutions) == brute and len(brute) == 1
        sizes = tuple(sorted(map(len, problem.islands)))
        assert sizes in BANDS[band].choices
        assert traces.is_grouped(problem) or kind == "mixed"
        linear = all(statement.relation in rules.LINEAR for statement in problem.statements)
        assert linear == (kind != "logic")
        for island in problem.islands:
            assert split_of(canonical_form(island)) == "train"
            finishes = [len(rules.closure(island, {s.speaker: "knight"})) == len(island) for s in island]
            if kind in ("ordered", "mixed"):
                known = {*island[0].people}
                assert island[0].relation == "is"
                for statement in island[1:-1]:
                    assert len({*statement.people} - known) == 1
                    known.update(statement.people)
                assert len(known) == len(island) and {*island[-1].people} <= known
            if kind in ("ordered", "mixed", "free"):
                plain = dict(zip([s.speaker for s in island], NAMES, strict=False))
                renamed = tuple(s.renamed(plain).turned() for s in island)
                size = len(island)
                assert rules.num_paired(renamed, NAMES[:size]) <= rules.MAX_PAIRED[size] and finishes[0]
            if kind == "nested":
                known = {island[0].speaker: "knight"}
                assert not any(finishes) and rules.next_step(island, known) is not None


def test_bands_that_are_not_in_order_are_not() -> None:
    for band in ("free", "mixed"):
        inert = 0
        for problem in TASK.problems("train", 60, 3, band):
            known = {*problem.statements[0].people}
            for statement in problem.statements[1:-1]:
                inert += len({*statement.people} - known) != 1
                known.update(statement.people)
        assert inert > 20


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.sampled_from(["people3", "people4", "people5", "logic"]))
def test_a_structure_is_what_renaming_and_reordering_leave(seed: int, band: str) -> None:
    rng = random.Random(seed)
    problem = rules.draw_problem("train", band, rng)
    new = dict(zip(problem.people, rng.sample(NAMES, len(problem.people)), strict=True))
    said = [s.renamed(new).turned(rng.random() < 0.5) for s in problem.statements]
    assert Problem(tuple(rng.sample(said, len(said)))).structure == problem.structure
    turned = [s._replace(other=OPPOSITE.get(s.other, s.other)) for s in problem.statements]
    namings = [dict(zip(problem.people, order, strict=True)) for order in permutations(problem.people)]
    renamed = [{s.renamed(naming).turned() for s in problem.statements} for naming in namings]
    is_same = Problem(tuple(turned)).structure == problem.structure
    assert is_same == ({s.turned() for s in turned} in renamed)


@pytest.mark.slow
def test_there_are_as_many_structures_as_are_told_and_each_split_has_some() -> None:
    names = NAMES[:4]
    found = set()
    for said in product(*[rules.statements_of(speaker, names) for speaker in names]):
        left = (1 << 16) - 1
        for statement in said:
            left &= rules.allowed(statement, names)
        if left.bit_count() == 1 and rules.ordered(said, random.Random(1)) is not None:
            found.add((canonical_form(said), rules.num_paired(said, names)))
    assert len(found) == 302
    for limit, wanted in ((1, 60), (2, 254), (4, 302)):
        assert sum(paired <= limit for _, paired in found) == wanted
    kept = Counter(split_of(form) for form, paired in found if paired <= rules.MAX_PAIRED[4])
    assert kept == {"train": 168, "validation": 32, "test": 54}
    seen = {p.structure[0] for split in SPLITS for p in TASK.problems(split, 600, 1, "people4")}
    assert seen <= {form for form, paired in found if paired <= rules.MAX_PAIRED[4]} and len(seen) > 220


def test_draws_use_all_names_and_both_roles() -> None:
    drawn = TASK.problems("train", 300, 5, "people4")
    names = Counter(name for problem in drawn for name in problem.people)
    assert set(names) == set(NAMES) and min(names.values()) > 60
    first = Counter(problem.solutions[0][problem.people[0]] for problem in drawn)
    assert abs(first["knight"] - first["knave"]) < 70


REFUSED = "A:A+ A:B A:B+,B:C+ A:B=C,B:A+ A:B=B,B:A+ M:A+,A:M+ A:B+,A:B-,B:A+"


@pytest.mark.parametrize("identifier", [*REFUSED.split(), "A:B+ ,B:A+"])
def test_what_names_no_problem_is_refused(identifier: str) -> None:
    with pytest.raises(ValueError, match=r"^problem"):
        rules.read_problem(identifier)


def test_the_solver_goes_up_to_eight_people_an_island() -> None:
    eight, nine = (
        ",".join(f"{one}:{two}-" for one, two in zip(names, names[1:] + names[0], strict=True))
        for names in ("ABCDEFGH", "ABCDEFGHI")
    )
    assert len(rules.read_problem(eight).solutions) == 2
    with pytest.raises(ValueError, match="more than 8"):
        rules.read_problem(nine)


# Traces.


@pytest.mark.parametrize("band", BANDS)
def test_a_true_search_ends_right_and_everything_in_it_works(band: str) -> None:
    rng = random.Random(2)
    conditions = ("search", "all_behaviours", "backtracking")
    for problem, condition in product(TASK.problems("test", 25, 4, band), conditions):
        trace = TASK.parse(TASK.render(TASK.write_trace(problem, condition, rng), problem), problem)
        assert trace.verdict.correct and all(use.functional for use in trace.uses)
        for attempt in trace.attempts:
            assert attempt.outcome != "illegal" and not attempt.repeated and attempt.finished
            assert attempt.num_right_steps == attempt.num_steps


@pytest.mark.parametrize("band", ["people4", "islands33", "islands44", "islands333"])
def test_a_deriver_is_right_once_in_two_for_each_island(band: str) -> None:
    rng, islands = random.Random(3), len(BANDS[band].choices[0])
    right = hits = 0
    for problem in TASK.problems("train", 600, 5, band):
        trace = TASK.parse(TASK.render(TASK.write_trace(problem, "derive", rng), problem), problem)
        assert len(trace.attempts) == islands and not trace.uses
        right += trace.verdict.correct
        hits += sum(attempt.outcome == "hit" for attempt in trace.attempts)
    assert abs(right / 600 - 0.5**islands) < 0.065
    assert abs(hits / 600 / islands - 0.5) < 0.065


def test_the_other_conditions_show_what_they_say() -> None:
    rng = random.Random(4)
    counts: Counter[str] = Counter()
    drawn = TASK.problems("train", 300, 6, "islands34")
    for problem in drawn:
        shown = {}
        for condition in TASK.conditions:
            script = TASK.write_trace(problem, condition, rng, 0.3)
            shown[condition] = TASK.parse(TASK.render(script, problem), problem)
            counts[condition] += shown[condition].verdict.correct
        wrong = shown["wrong"].attempts
        assert [attempt.said for attempt in wrong if attempt.outcome == "hit"] == ["yes"]
        assert all(attempt.verdict_true for attempt in wrong)
        assert all(attempt.said for attempt in shown["verification"].attempts)
        verdicts = [attempt.verdict_true for attempt in shown["cosmetic"].attempts]
        counts["coin"] += sum(verdicts)
        counts["tossed"] += len(verdicts)
    assert counts["wrong"] == 0 and counts["direct"] == counts["filler"] == 300
    assert 0.22 < counts["noisy"] / 300 < 0.4
    for condition in ("derive", "verification", "subgoal_setting", "backward_chaining"):
        assert 0.18 < counts[condition] / 300 < 0.32
    assert 0.44 < counts["coin"] / counts["tossed"] < 0.56


def test_the_number_of_dots_tells_nothing_of_the_problem() -> None:
    dots, again = (
        [TASK.write_trace(problem, "filler", random.Random(seed)).num_filler for seed in range(400)]
        for problem in TASK.problems("train", 2, 6, "people4")
    )
    assert dots == again and len(set(dots)) > 5
    drawn = TASK.problems("train", 400, 2, "people4")
    searches = [TASK.render(TASK.write_trace(p, "search", random.Random(1)), p) for p in drawn]
    assert abs(sum(dots) / 400 + 9 - sum(len(text.split()) for text in searches) / 400) < 6


@pytest.mark.parametrize("relation", ["is", "same", "differs"])
def test_no_word_of_a_step_hangs_on_more_than_two_roles_or_relations(relation: str) -> None:
    """Steps and tests find each new word from two known ones, of those in front of it and not yet used."""
    for roles in assignments("ABC"):
        statement = Statement("A", "B", relation, "knight" if relation == "is" else "C")
        if not statement.fits(roles):
            continue
        for name in statement.people:
            known = {person: role for person, role in roles.items() if person != name}
            words = [*step_words(statement, known, name), name, roles[name]]
            behind = [words[place + 1] for place, word in enumerate(words) if word == "so"]
            assert len(behind) == 1 + (relation != "is") and behind.index(name) == len(behind) - 1
            assert words[-3:] == ["so", name, roles[name]]
        assert check_words(statement, roles).count("so") == (1 if relation == "is" else 2)


@pytest.mark.slow
def test_the_longest_traces_stay_under_what_caps_allow() -> None:
    rng = random.Random(5)
    longest = {}
    for band in ORDERED:
        drawn = TASK.problems("train", 300, 7, band)
        longest[band] = max(len(TASK.render(TASK.write_trace(p, "search", rng), p).split()) for p in drawn)
    assert longest["people4"] <= 152 and longest["islands44"] <= 303 and longest["islands333"] <= 304


# Drills.


def test_drills_are_true_and_bear_loss_where_the_text_determines_a_word() -> None:
    rng = random.Random(6)
    kinds: Counter[str] = Counter()
    for _ in range(400):
        text, marks = TASK.drill(rng)
        words = text.split()
        marked = {word for word, bears in zip(words, marks, strict=True) if bears}
        assert "known" in words and not {"check", "back", "known", ":", "answer"} & marked
        assert ":" not in words and "assume" not in words[:2]
        opened, derives = words[0] == "island", "so" in words
        kinds[f"{'of a puzzle' if opened else 'of anybody'}, {'derives' if derives else 'copies'}"] += 1
        for place, word in enumerate(words):
            if word == "so":  # what a step finds, and in front of it whose role it takes
                assert marks[place] and marks[place + 1]
                assert words[place - 2] not in NAMES or (marks[place - 2] and marks[place - 1])
            if word in ("yes", "no"):
                assert marks[place]
    assert min(kinds.values()) > 30 and len(kinds) == 4


def test_a_look_says_again_what_stands_behind_each_name() -> None:
    rng = random.Random(8)
    found = 0
    while found < 30:
        text, marks = TASK.drill(rng)
        words = text.split()
        if words[0] != "known" or "says" in words:
            continue
        found += 1
        pairs = list(zip(words[1::2], words[2::2], strict=True))
        told = (marks.index(True) - 2) // 2
        behind = dict(pairs[:told])
        assert len(behind) == told and all(behind[name] == word for name, word in pairs[told:])
        assert all(marks[2 * told + 2 :: 2]) and not any(marks[2 * told + 1 :: 2])


def test_a_walk_goes_on_as_a_search_would() -> None:
    rng = random.Random(7)
    found = 0
    while found < 30:
        words = TASK.drill(rng)[0].split()
        start = words.index("known")
        if words[0] != "island" or "so" not in words:
            continue
        found += 1
        told = " ".join(words[:start])
        said = re.findall(r"([A-L]) says ([A-L]) (\w+) (\w+)", told)
        problem = Problem(tuple(Statement(*parts) for parts in said))
        assert TASK.prompt(problem) == f"{told} :"
        end = next(place for place in range(start + 1, len(words), 2) if words[place] not in NAMES)
        known = dict(zip(words[start + 1 : end : 2], words[start + 2 : end : 2], strict=True))
        name, role = list(known.items())[-1]
        place = next(place for place, own in enumerate(problem.islands) if own[0].speaker == name)
        so_far, text = {name: role}, f"assume {name} {role}"
        while so_far.keys() != known.keys():
            step = rules.next_step(problem.islands[place], so_far)
            assert step is not None
            text += f" {number(step[0], problem)} {' '.join(step_words(step[0], so_far, step[1]))} "
            so_far[step[1]] = step[2]
            text += " ".join(f"{who} {what}" for who, what in reversed(so_far.items()))
        assert so_far == known
        trace = TASK.parse(f"{text} {' '.join(words[end:])} answer", problem)
        assert trace.well_formed and all(use.functional for use in trace.uses)
        assert all(a.said and a.verdict_true and a.outcome != "illegal" for a in trace.attempts)


@pytest.mark.slow
def test_what_is_cheap_is_as_the_committed_table_says() -> None:
    table = pd.read_csv(REPOSITORY / "results" / "knights_baselines.csv").set_index(["band", "rule"])
    unchecked = table.drop(index="10 distinct answers and a checker", level="rule")
    assert unchecked["upper"].max() < 0.2, "a direct answer is not cheap"
    again = load("knights_baselines").baselines(["people4"], num_problems=150, seed=1)
    again = again.set_index(["band", "rule"])
    assert (again["lower"] <= table.loc[["people4"], "upper"]).all()
    assert (again["upper"] >= table.loc[["people4"], "lower"]).all()
