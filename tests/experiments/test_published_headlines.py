"""The book's headlines, computed again from the published completions by a path of its own.

Nothing of the package stands on the recomputing side: answers are read off the text by the few lines below, shares and
intervals are pandas and the textbook's formula. What the package says of the same folder has to agree.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from functools import cache
from statistics import mean, stdev
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from extrabitter.claims import collect_claims
from extrabitter.digests import REPOSITORY

if TYPE_CHECKING:
    from extrabitter.estimates import Estimate

RESULTS = REPOSITORY / "results" / "reference"
SEEDS = (10, 11, 12, 13, 14)
STUDENT = 2.7764451051977987  # 97.5 % quantile, four degrees of freedom
STEP = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)")


@cache
def completions(arm: str, seed: int) -> pd.DataFrame:
    """Read the published completions of one evaluation."""
    return pd.read_parquet(RESULTS / "behaviour_evaluation" / arm / f"seed={seed}" / "completions.parquet")


@cache
def claims() -> dict[str, Estimate]:
    """Return what the package measures on the published results."""
    return {claim.key: claim.estimate for claim in collect_claims(RESULTS)}


def is_right(prompt: str, completion: str) -> bool:
    """Tell whether the last attempt is handed in, uses each given number once, is sound, and hits the target."""
    *numbers, target = [int(word) for word in prompt.split() if word.isdigit()]
    if not completion.endswith(" answer"):
        return False
    attempt = completion.removesuffix(" answer").split(" : ")[-1].split(" check ")[0]
    held, value = sorted(numbers), None
    for text in attempt.split(" , "):
        step = STEP.fullmatch(text)
        if step is None:
            return False
        left, sign, right, value = int(step[1]), step[2], int(step[3]), int(step[4])
        if {"+": left + right, "-": left - right, "*": left * right}.get(sign) != value:
            return False
        for operand in (left, right):
            if operand not in held:
                return False
            held.remove(operand)
        held.append(value)
    return held == [target]


def interval(values: list[float]) -> tuple[float, float, float]:
    """Return mean and Student interval over five seeds."""
    assert len(values) == len(SEEDS)
    half = STUDENT * stdev(values) / math.sqrt(len(values))
    return mean(values), mean(values) - half, mean(values) + half


def agrees(key: str, values: list[float]) -> bool:
    found = claims()[key]
    return (found.value, found.lower, found.upper) == pytest.approx(interval(values), abs=1e-9)


@pytest.mark.parametrize("arm", ["base_rich", "grpo_rich", "grpo_rich_masked", "grpo_absent"])
def test_right_answers_are_those_of_another_reader(arm: str) -> None:
    for seed in SEEDS:
        rows = completions(arm, seed)
        read = pd.Series([is_right(*row) for row in rows[["prompt", "completion"]].itertuples(index=False)])
        assert read[rows["correct"]].all()
        # This reader looks at the last attempt only. In the book a right one does not count behind garbled text, nor
        # behind a problem that was restated with other numbers: it is the stricter of the two, by under a hundredth.
        assert set(rows.loc[read & ~rows["correct"], "reason"]) <= {"unexpected_word", "numbers_not_reached"}
        assert 0.1 < rows["correct"].mean() <= read.mean() < rows["correct"].mean() + 0.01


@pytest.mark.parametrize(
    ("key", "arm", "baseline"),
    [
        ("knock_out", "grpo_rich", "grpo_rich_masked"),
        ("masked_is_absent", "grpo_rich_masked", "grpo_absent"),
        ("search_pays", "grpo_rich", "grpo_absent"),
        ("permuted_gains_nothing", "grpo_rich_permuted", "base_rich"),
        ("search_beats_filler", "grpo_sft_verification_backtracking", "grpo_sft_filler"),
        ("words_are_not_enough", "grpo_sft_verification_backtracking", "grpo_sft_cosmetic"),
        ("not_just_sft", "grpo_sft_verification_backtracking", "grpo_sft_direct"),
        ("priming_repairs", "grpo_sft_verification_backtracking", "grpo_absent"),
        ("wrong_answers_cost_little", "grpo_sft_incorrect", "grpo_sft_all_behaviours"),
    ],
)
def test_differences_after_rl_are_those_of_plain_means(key: str, arm: str, baseline: str) -> None:
    gaps = []
    for seed in SEEDS:
        first, second = (
            completions(name, seed).groupby("problem")["correct"].mean() for name in (arm, baseline)
        )
        assert first.index.equals(second.index), "the same problems"
        gaps.append(float((first - second).mean()))
    assert agrees(key, gaps)


@pytest.mark.parametrize(
    ("key", "arm"),
    [("absent_is_only_sharpened", "absent"), ("rich_is_broadened", "rich")],
)
def test_problems_gained_and_lost_are_counted_alike(key: str, arm: str) -> None:
    nets = []
    for seed in SEEDS:
        before, after = (
            completions(f"rare_{stage}_{arm}", seed).query("sample < 32").groupby("problem")["correct"].any()
            for stage in ("base", "grpo")
        )
        nets.append(float(((after & ~before).sum() - (before & ~after).sum()) / len(before)))
    assert agrees(key, nets)


def test_the_never_searching_base_hardly_writes_a_word_of_search_after_rl() -> None:
    texts = pd.concat([completions("grpo_absent", seed)["completion"] for seed in SEEDS])
    written = texts.str.contains(r"\b(?:check|back)\b").mean()
    assert (
        claims()["nothing_created"].value <= written < 1e-3
    )  # garbled text counts here, and not in the book


@pytest.mark.parametrize(
    "profile", sorted(path.parent.name for path in RESULTS.parent.glob("*/profile.yaml"))
)
def test_published_tables_are_whole_and_stay_within_forty_megabytes(profile: str) -> None:
    size = 0
    for path in RESULTS.with_name(profile).glob("*/*/seed=*/manifest.json"):
        for name, sha in json.loads(path.read_text(encoding="utf-8"))["files"].items():
            content = (path.parent / name).read_bytes()
            assert hashlib.sha256(content).hexdigest() == sha, path.parent / name
            size += len(content)
    assert (10e6 if profile == RESULTS.name else 0) < size <= 40e6


def test_from_the_shipped_models_search_pays_and_priming_repairs_within_a_laptops_reach() -> None:
    evaluations = RESULTS.with_name("laptop") / "behaviour_evaluation"
    solved = {}
    for arm in ("grpo_absent", "grpo_rich", "grpo_sft_verification_backtracking"):
        table = pd.read_parquet(evaluations / arm / "seed=0" / "completions.parquet")
        solved[arm] = mean(map(is_right, table["prompt"], table["completion"]))
    assert solved["grpo_rich"] - solved["grpo_absent"] >= 0.10
    assert solved["grpo_rich"] - solved["grpo_sft_verification_backtracking"] <= 0.10
    core_seconds = sum(
        json.loads(path.read_text(encoding="utf-8"))["wall_s"]
        for path in RESULTS.with_name("laptop").glob("*/*/seed=*/manifest.json")
    )
    assert core_seconds <= 2 * 20 * 60  # twenty minutes of two cores


@pytest.mark.parametrize(("profile", "count"), [("replication", 10), ("matched", 5)])
def test_no_base_of_these_profiles_is_below_a_bar(profile: str, count: int) -> None:
    bars = [
        pd.read_parquet(path) for path in RESULTS.with_name(profile).glob("base_model/[ar]*/*/bars.parquet")
    ]
    assert len(bars) == count
    assert pd.concat(bars)["passed"].all()
