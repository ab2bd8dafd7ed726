"""The book's headlines, computed again from the published completions by a path of its own.

Nothing of the package stands on the recomputing side but the reader of files: answers are read off the text by the few
lines below, equal tokens are a formula on shares, and intervals are the textbook's. What the pages say has to agree.
"""

from __future__ import annotations

import math
import re
from functools import cache
from itertools import combinations
from statistics import mean

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from extrabitter.digests import REPOSITORY
from extrabitter.experiments import choke, taste_test
from extrabitter.experiments.equal_cost import CHECKED, VOTED, equal_cost, lead, rival_successes
from extrabitter.statistics import Estimate
from extrabitter.store import read
from extrabitter.tasks import load_task

RESULTS = REPOSITORY / "results" / "edition"
STEP = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)")
ROLE = re.compile(r"\b([A-Z]) (knight|knave)\b")
CONCLUDED = re.compile(r"(?:^|\bso )([A-Z]) (?:knight|knave)\b")
SAYS = re.compile(r"\b([A-Z]) says ([A-Z]) (?:is (knight|knave)|(same|differs) ([A-Z]))")


def seeds_of(task: str) -> list[int]:
    """Return the seeds of a game whose evaluations are published, in the order of trunks."""
    files = (RESULTS / task).glob("seed=*/choke/completions.parquet")
    return sorted(int(file.parent.parent.name.removeprefix("seed=")) for file in files)


@cache
def completions(task: str, arm: str, seed: int) -> pd.DataFrame:
    """Read the published completions of one evaluation, straight from the file."""
    table = pd.read_parquet(RESULTS / task / f"seed={seed}" / "choke" / "completions.parquet")
    return table[table["arm"] == arm].reset_index(drop=True)


@cache
def found(task: str) -> dict[str, Estimate]:
    """Return what the pages say."""
    table = {name: read(RESULTS, task, name) for name in (*choke.TABLES, "steps")}
    if task == "knights":
        by_band = choke.costs_by_band(table["completions"], load_task(task))
        return choke.findings(table["summary"], table["pass_at_k"], table["steps"], by_band)
    told = taste_test.findings(table["summary"]) | taste_test.findings(table["summary"], "_rare")
    for ending in ("", "_rare"):
        arms = f"after_searcher{ending}", [f"after_guesser{ending}"]
        by_arm = equal_cost(table["completions"], load_task(task), *arms)
        told[f"checked{ending}"] = lead(by_arm, arms[1][0], CHECKED)
    return told


def number_of(prompt: str, completion: str) -> int | None:
    """Return what the last attempt amounts to, if it is handed in, uses each given number once, and is sound."""
    *numbers, _ = [int(word) for word in prompt.split() if word.isdigit()]
    if not completion.endswith(" answer"):
        return None
    attempt = completion.removesuffix(" answer").split(" : ")[-1].split(" check ")[0]
    held = sorted(numbers)
    for text in attempt.split(" , "):
        step = STEP.fullmatch(text)
        if step is None:
            return None
        left, sign, right, value = int(step[1]), step[2], int(step[3]), int(step[4])
        if {"+": left + right, "-": left - right, "*": left * right}.get(sign) != value:
            return None
        for operand in (left, right):
            if operand not in held:
                return None
            held.remove(operand)
        held.append(value)
    return held[0] if len(held) == 1 else None


def solves_countdown(prompt: str, completion: str) -> bool:
    """Tell whether the last attempt is sound and hits the target."""
    return number_of(prompt, completion) == int(prompt.split()[-2])


def solves_knights(prompt: str, completion: str) -> bool:
    """Tell whether each person's last role makes each statement true of a knight and false of a knave.

    A slip that names somebody who is not there counts for nothing, as in the book; whose role is concluded twice from
    one assumption, that is refused, and so is a number without a statement behind it.
    """
    statements = SAYS.findall(prompt)
    people = {statement[0] for statement in statements}
    roles = {person: role for person, role in ROLE.findall(completion) if person in people}
    if not completion.endswith(" answer") or len(roles) < len(people):
        return False
    if len(re.findall(r"\d+", completion)) > len(SAYS.findall(completion)):
        return False
    for kept in (part for part in completion.split("assume ") if " back " not in part):
        concluded = CONCLUDED.findall(kept)  # the assumed one, and those behind "so"
        if len(concluded) > len(set(concluded)):
            return False
    for speaker, first, role, relation, second in statements:
        said = roles[first] == role if role else (roles[first] == roles[second]) == (relation == "same")
        if said != (roles[speaker] == "knight"):
            return False
    return True


def agrees(task: str, key: str, values: list[float], within: float = 1e-9) -> bool:
    """Tell whether the pages' estimate is mean and Student interval of these values, one a published seed."""
    assert len(values) == len(seeds_of(task)) == found(task)[key].num_seeds
    ends = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    theirs = found(task)[key]
    return (theirs.value, theirs.lower, theirs.upper) == pytest.approx((mean(values), *ends), abs=within)


COUNTDOWN = [
    f"{when}_{model}" for when in ("before", "after") for model in ("searcher", "guesser", "silenced")
]
PAIR = ("searcher", "guesser")
ISLANDS = ("searcher", "deriver", "guesser", "silenced")
# What another reader lets pass that the book's verifier does not: the stricter one sees more than the last attempt.
GARBLED = {"unexpected_word", "unknown_word", "numbers_not_reached", "person_twice", "person_unknown"}


@pytest.mark.parametrize("arm", [f"{arm}{ending}" for arm in COUNTDOWN for ending in ("", "_rare")])
def test_right_answers_of_countdown_are_those_of_another_reader(arm: str) -> None:
    compare_readers("countdown", arm)


@pytest.mark.parametrize("model", ISLANDS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_right_answers_of_knights_are_those_of_another_reader(when: str, model: str) -> None:
    compare_readers("knights", f"{when}_{model}_islands44")


def compare_readers(task: str, arm: str) -> None:
    """Assert that what the book's verifier calls right is right, and that it misses a hundredth at most."""
    solves = solves_countdown if task == "countdown" else solves_knights
    for seed in seeds_of(task):
        rows = completions(task, arm, seed)
        seen = pd.Series([solves(*row) for row in rows[["prompt", "completion"]].itertuples(index=False)])
        assert len(rows) >= 1600 and seen[rows["correct"]].all()
        assert set(rows.loc[seen & ~rows["correct"], "reason"]) <= GARBLED
        assert rows["correct"].mean() <= seen.mean() < rows["correct"].mean() + 0.01


# Name of an estimate -> the two arms that it compares.
PAIRS = {
    "countdown": {
        **{f"over_guesser{end}": (f"after_searcher{end}", f"after_guesser{end}") for end in ("", "_rare")},
        **{f"over_silenced{end}": (f"after_searcher{end}", f"after_silenced{end}") for end in ("", "_rare")},
        **{"gain_guesser": ("after_guesser", "before_guesser"), "apart": ("after_silenced", "after_guesser")},
    },
    "knights": {
        "over_deriver_islands44": ("after_searcher_islands44", "after_deriver_islands44"),
        "over_silenced_islands44": ("after_searcher_islands44", "after_silenced_islands44"),
        "gain_guesser_islands44": ("after_guesser_islands44", "before_guesser_islands44"),
    },
}


@pytest.mark.parametrize(("task", "key"), [(task, key) for task, keys in PAIRS.items() for key in keys])
def test_differences_are_those_of_plain_means(task: str, key: str) -> None:
    gaps = []
    for seed in seeds_of(task):
        groups = [completions(task, arm, seed).groupby("problem")["correct"] for arm in PAIRS[task][key]]
        first, second = (group.mean() for group in groups)
        assert first.index.equals(second.index), "the same problems"
        gaps.append(float((first - second).mean()))
    assert agrees(task, key, gaps)


def one_of(right: pd.Series, k: int) -> float:
    """Chance that k of the samples hold a right one."""
    return 1 - math.comb(len(right) - int(right.sum()), k) / math.comb(len(right), k)


def votes_of(rows: pd.DataFrame) -> tuple[tuple[int, bool], ...]:
    """Return the answers of one problem by kind, -1 for what is not sound: sound ones agree in what they amount to."""
    numbers = [number_of(*row) for row in zip(rows["prompt"], rows["completion"], strict=True)]
    order = sorted({number for number in numbers if number is not None}, key=numbers.count)
    kinds = [-1 if number is None else order.index(number) for number in numbers]
    return tuple(sorted(zip(kinds, rows["correct"], strict=True)))


@cache
def chance_of_vote(answers: tuple[tuple[int, bool], ...], k: int) -> float:
    """Chance that the kind which most of k answers are of is right, ties drawn; -1 has no vote."""
    chances = []
    for chosen in combinations(answers, k):
        right: dict[int, list[bool]] = {}
        for kind, correct in chosen:
            if kind >= 0:
                right.setdefault(kind, []).append(correct)
        most = max((len(votes) for votes in right.values()), default=0)
        top = [mean(votes) for votes in right.values() if len(votes) == most]
        chances.append(mean(top) if top else 0.0)
    return mean(chances)


def reached(rows: pd.DataFrame, budgets: pd.Series, voted: bool = False) -> float:
    """Return what a rival makes of each problem's budget, by a checker or a vote: the last draw counts by its part."""
    chances = []
    for problem, own in rows.groupby("problem"):
        share = min(budgets[problem] / own["num_completion_tokens"].mean(), len(own))
        low = max(int(share), 1)
        counts, votes = (low, min(low + 1, len(own))), votes_of(own) if voted else ()
        ends = [chance_of_vote(votes, k) if voted else one_of(own["correct"], k) for k in counts]
        chances.append(ends[0] + (share - low) * (ends[1] - ends[0]))
    return mean(chances)


@pytest.mark.parametrize("ending", ["", "_rare"])
def test_the_lead_at_equal_tokens_is_that_of_a_formula_on_shares(ending: str) -> None:
    gaps = []
    for seed in seeds_of("countdown"):
        searcher, guesser = (completions("countdown", f"after_{model}{ending}", seed) for model in PAIR)
        budgets = searcher.groupby("problem")["num_completion_tokens"].mean()
        gaps.append(float(searcher["correct"].mean()) - reached(guesser, budgets))
    # The package draws orders of completions; the formula takes all of them, at their mean length.
    assert agrees("countdown", f"checked{ending}", gaps, within=0.012)


def test_a_vote_at_equal_tokens_is_that_of_all_ways_to_draw() -> None:
    searcher, guesser = (
        completions("countdown", f"after_{model}", seeds_of("countdown")[0]) for model in PAIR
    )
    budgets = searcher.groupby("problem")["num_completion_tokens"].mean().head(12)  # all ways are many
    guesser = guesser[guesser["problem"].isin(budgets.index)]
    drawn = rival_successes(guesser, budgets, VOTED, seed=0)["success"].mean()
    assert drawn == pytest.approx(reached(guesser, budgets, voted=True), abs=0.03)


def test_the_least_lead_on_islands_is_that_of_a_formula_on_shares() -> None:
    gaps = []
    for seed in seeds_of("knights"):
        searcher = completions("knights", "after_searcher_islands44", seed)
        budgets = searcher.groupby("problem")["num_completion_tokens"].mean()
        own = {model: completions("knights", f"after_{model}_islands44", seed) for model in ISLANDS[1:]}
        best = [reached(rows, budgets) for rows in own.values()]
        # Of two to the power of eight distributions of roles one is right; to write one costs two words a person.
        prompts = searcher.groupby("problem")["prompt"].first()
        people = prompts.map(lambda prompt: len({said[0] for said in SAYS.findall(prompt)}))
        best.append(float((budgets / (2 * people + 2) / 2.0**people).clip(upper=1).mean()))
        gaps.append(float(searcher["correct"].mean()) - max(best))
    assert agrees("knights", "least_islands44", gaps, within=0.012)


def test_rivals_without_the_habit_hardly_write_a_word_of_search_after_rl() -> None:
    rivals = {"countdown": ("guesser", "guesser_rare"), "knights": ("guesser_islands44", "deriver_islands44")}
    for task, arms in rivals.items():
        for arm in arms:
            each = [completions(task, f"after_{arm}", seed)["completion"] for seed in seeds_of(task)]
            assert pd.concat(each).str.contains(r"\b(?:check|back)\b").mean() < 5e-3, arm


@pytest.mark.parametrize("task", ["countdown", "knights"])
def test_no_base_of_the_series_is_below_a_bar(task: str) -> None:
    bars = read(RESULTS, task, "bars")
    used = bars[bars["seed"].isin(seeds_of(task)) & bars["arm"].isin(["searcher", "guesser", "deriver"])]
    assert used["passed"].all() and set(used["seed"]) == set(seeds_of(task))
