"""The book's headlines, computed again from the published completions by a path of its own.

Nothing of the package stands on the recomputing side but the reader of files: answers are read off the text by the few
lines below, equal tokens are a formula on shares, and intervals are the textbook's. What the pages say has to agree.
"""

from __future__ import annotations

import math
import re
from functools import cache
from itertools import combinations
from statistics import mean, stdev

import pandas as pd
import pytest

from extrabitter.digests import REPOSITORY
from extrabitter.experiments.equal_cost import CHECKED, VOTED, equal_cost, training_curves
from extrabitter.experiments.taste_test import findings
from extrabitter.statistics import Estimate
from extrabitter.store import read
from extrabitter.tasks import load_task

RESULTS = REPOSITORY / "results" / "interim"
SEEDS = (20, 21, 22, 23, 24)
STUDENT = 2.7764451051977987  # 97.5 % quantile, four degrees of freedom
STEP = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)")


@cache
def completions(arm: str, seed: int) -> pd.DataFrame:
    """Read the published completions of one evaluation, straight from the file."""
    table = pd.read_parquet(RESULTS / "countdown" / f"seed={seed}" / "taste_test" / "completions.parquet")
    return table[table["arm"] == arm].reset_index(drop=True)


@cache
def found() -> dict[str, Estimate]:
    """Return what the pages say."""
    table = {name: read(RESULTS, "countdown", name) for name in ("summary", "completions", "steps")}
    costs = equal_cost(table["completions"], load_task("countdown"), "after_searcher", ["after_guesser"])
    return findings(table["summary"], training_curves(table["steps"]), costs)


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


def is_right(prompt: str, completion: str) -> bool:
    """Tell whether the last attempt is sound and hits the target."""
    return number_of(prompt, completion) == int(prompt.split()[-2])


def agrees(key: str, values: list[float], within: float = 1e-9) -> bool:
    """Tell whether the pages' estimate is mean and Student interval of five values."""
    assert len(values) == len(SEEDS)
    half = STUDENT * stdev(values) / math.sqrt(len(values))
    mine = (mean(values), mean(values) - half, mean(values) + half)
    theirs = found()[key]
    return (theirs.value, theirs.lower, theirs.upper) == pytest.approx(mine, abs=within)


@pytest.mark.parametrize("arm", ["before_searcher", "after_searcher", "after_silenced", "after_guesser"])
def test_right_answers_are_those_of_another_reader(arm: str) -> None:
    for seed in SEEDS:
        rows = completions(arm, seed)
        seen = pd.Series([is_right(*row) for row in rows[["prompt", "completion"]].itertuples(index=False)])
        assert seen[rows["correct"]].all()
        # This reader looks at the last attempt only. In the book a right one does not count behind garbled text, nor
        # behind a problem that was restated with other numbers: it is the stricter of the two, by under a hundredth.
        assert set(rows.loc[seen & ~rows["correct"], "reason"]) <= {"unexpected_word", "numbers_not_reached"}
        assert 0.1 < rows["correct"].mean() <= seen.mean() < rows["correct"].mean() + 0.01


PAIRS = {
    **{"gap": ("after_searcher", "after_guesser"), "knock_out": ("after_searcher", "after_silenced")},
    **{f"gain_{model}": (f"after_{model}", f"before_{model}") for model in ("guesser", "searcher")},
}


@pytest.mark.parametrize("key", PAIRS)
def test_differences_are_those_of_plain_means(key: str) -> None:
    gaps = []
    for seed in SEEDS:
        groups = [completions(arm, seed).groupby("problem")["correct"] for arm in PAIRS[key]]
        first, second = (group.mean() for group in groups)
        assert first.index.equals(second.index), "the same problems"
        gaps.append(float((first - second).mean()))
    assert agrees(key, gaps)


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


@pytest.mark.parametrize(("key", "method"), [("checked", CHECKED), ("voted", VOTED)])
def test_the_lead_at_equal_tokens_is_that_of_a_formula_on_shares(key: str, method: str) -> None:
    gaps = []
    for seed in SEEDS:
        searcher, guesser = completions("after_searcher", seed), completions("after_guesser", seed)
        budgets = searcher.groupby("problem")["num_completion_tokens"].mean()
        reached = []
        for problem, rows in guesser.groupby("problem"):
            share = min(budgets[problem] / rows["num_completion_tokens"].mean(), len(rows))
            low = max(int(share), 1)
            counts, votes = (low, min(low + 1, len(rows))), votes_of(rows)
            voted = method == VOTED
            chances = [chance_of_vote(votes, k) if voted else one_of(rows["correct"], k) for k in counts]
            reached.append(chances[0] + (share - low) * (chances[1] - chances[0]))
        gaps.append(float(searcher["correct"].mean() - mean(reached)))
    # The package draws orders of completions; the formula takes all of them, at their mean length.
    assert agrees(key, gaps, within=0.01)


def test_the_guesser_hardly_writes_a_word_of_search_after_rl() -> None:
    texts = pd.concat([completions("after_guesser", seed)["completion"] for seed in SEEDS])
    written = texts.str.contains(r"\b(?:check|back)\b").mean()
    # Garbled text counts here, and not in the book.
    assert found()["searches_guesser"].value <= written < 1e-3


def test_no_base_of_the_series_is_below_a_bar() -> None:
    bars = read(RESULTS, "countdown", "bars")
    assert bars[bars["arm"].isin(["searcher", "guesser"])]["passed"].all()
    assert set(bars["seed"]) == set(SEEDS)
