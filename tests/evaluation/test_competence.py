"""Competence bars: which ones a base is held to follows from what it was shown; a missed one is named."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from extrabitter.evaluation import competence, evaluate
from extrabitter.evaluation.competence import CompetenceError, enforce_bars, measure_bars
from extrabitter.evaluation.evaluate import Subject
from extrabitter.params import BaseModelParameters
from extrabitter.tables import validate_table

FORM = {"steps right", "well-formed", "truncated"}
VERDICTS = {"verdicts true on hits", "verdicts true on misses", "'yes' verdicts true"}
SHARE, GAIN = {"uncued search, teacher-forced"}, {"success, search forced over direct"}


def parameters(subject: Subject, **changes: object) -> BaseModelParameters:
    values: dict[str, object] = {"run_dir": "unused", "arm": "base", "seed": 0, "task": subject.task.name}
    return BaseModelParameters(**values | {"num_bar_problems": 3, "max_completion_length": 24} | changes)


def named(names: set[str], where: str) -> set[str]:
    return {f"{where}: {name}" for name in names}


@pytest.mark.parametrize(
    ("shown", "bars"),
    [
        ({}, FORM | SHARE),
        ({"habit_share": 0.1}, FORM | named(FORM | VERDICTS, "made to search") | GAIN | SHARE),
        ({"habit_share": 0.1, "cued_share": 0.25}, FORM | named(FORM | VERDICTS, "cued") | GAIN | SHARE),
        ({"cued_share": 0.25}, FORM | named(FORM | VERDICTS, "cued") | GAIN),
        ({"habit": "derive", "habit_share": 0.1}, FORM),  # a condition of Knights & Knaves
        ({"habit": "cosmetic", "habit_share": 0.1}, FORM | SHARE),
    ],
    ids=["guesser", "searcher", "searcher with cue", "sleeper", "deriver", "parrot"],
)
def test_a_base_is_held_to_what_it_was_shown(subject: Subject, shown: dict[str, Any], bars: set[str]) -> None:
    task = subject.task
    if shown.get("habit", "direct") not in task.conditions:
        shown, bars = {}, FORM | SHARE
    table = measure_bars(parameters(subject, **shown), subject.model, subject.tokenizer)
    validate_table("bars", table)
    if task.name == "knights" and shown.get("habit_share") is None:
        bars = bars - {"steps right"}  # its direct answers hold none
    band = next(iter(subject.task.bands))
    assert set(table["bar"]) == named(bars, band)
    share = table[table["bar"].isin(named(SHARE, band))]
    nominal = shown.get("habit_share")
    expected = [nominal / 1.25, nominal * 1.25] if nominal else [competence.ZERO_PROBABILITY]
    assert share["threshold"].tolist() == (pytest.approx(expected) if len(share) else [])


def test_each_band_that_was_trained_on_has_its_bars(subject: Subject) -> None:
    first, second = list(subject.task.bands)[:2]
    asked = parameters(subject, bands=f"{first}=0.5 {second}=0.5")
    table = measure_bars(asked, subject.model, subject.tokenizer)
    assert {name.partition(":")[0] for name in table["bar"]} == {first, second}


def test_a_missed_bar_is_named_with_value_and_threshold(countdown: Subject) -> None:
    table = measure_bars(parameters(countdown), countdown.model, countdown.tokenizer)
    with pytest.raises(CompetenceError, match=r"common: well-formed is 0, must be >= 0\.98"):
        enforce_bars(table)
    enforce_bars(table.assign(passed=True))
    # A bar without a value is missed.
    asked = parameters(countdown, cued_share=0.25)
    table = measure_bars(asked, countdown.model, countdown.tokenizer).set_index("bar")
    for name in ("common: cued: 'yes' verdicts true", "common: success, search forced over direct"):
        assert pd.isna(table.loc[name, "value"]) and not table.loc[name, "passed"]


def test_what_search_adds_is_a_ratio(countdown: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts that search are right, others half of the time: the bar reads 2, from attempts of the model's own."""
    task = countdown.task

    def write(subject: Subject, problems, num_samples, sampling, seed, *, prefixes=None, **_) -> pd.DataFrame:
        given = prefixes or [""] * len(problems)
        rows = []
        for number, (problem, prefix) in enumerate(zip(problems, given, strict=True)):
            text = " ".join([prefix, "9 + 7 = 16 , 16 - 6 = 10 answer"]).strip()
            right = prefix.endswith(task.openings["search"].words) or (bool(prefix) and number % 2 == 0)
            columns = evaluate.measure_trace(task.parse(text, problem)) | {"correct": right}
            named = {"problem": problem.identifier, "completion": text, "prompt": "", "truncated": False}
            rows += [named | {"num_completion_tokens": 9} | columns] * num_samples
        return pd.DataFrame(rows)

    monkeypatch.setattr(evaluate, "sample_completions", write)
    problems = [task.read_problem(f"6-7-9:{target}") for target in (8, 10, 22, 0)]
    monkeypatch.setattr(type(task), "problems", lambda *_, **__: problems)
    table = measure_bars(parameters(countdown, habit_share=0.1), countdown.model, countdown.tokenizer)
    gain = table.set_index("bar").loc["common: success, search forced over direct"]
    assert gain["value"] == pytest.approx(2.0) and gain["passed"]
