"""The probe: unbiased shares, a verdict by its rule, advice with its cost, and wrong input in one line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from extrabitter import cli
from extrabitter.evaluation import evaluate, probe, report
from extrabitter.evaluation.evaluate import Subject
from extrabitter.evaluation.probe import Probe, first_step, informative_groups, run_probe
from extrabitter.models import hub, tiny
from extrabitter.params import WillItChokeParameters
from extrabitter.statistics import Interval
from extrabitter.tables import validate_table
from extrabitter.tasks import load_task

Reciter, Command = Callable[..., Path], Callable[..., int]
ANSWER, OTHER = "<answer>3 * 8 + 9</answer>", "<answer>3 + 8 + 9</answer>"


def parameters(task: str = "countdown", **changes: object) -> WillItChokeParameters:
    values = {"run_dir": "unused", "arm": "probed", "seed": 0, "task": task, "checkpoint": "tiny"}
    values |= {"num_problems": 5, "num_samples": 8, "max_completion_length": 20}
    return WillItChokeParameters(**values | changes)


def probed(subject: Subject, **changes: object) -> Probe:
    record = {"architecture": "Llama", "num_parameters": 1234, "dtype": "float32", "device": "cpu"}
    loaded = hub.Pretrained(subject.model, subject.tokenizer, record)
    return run_probe(parameters(subject.task.name, **changes), loaded)


def recited(folder: Path, **changes: object) -> Probe:
    asked = parameters(prompt="chat", checkpoint=str(folder), **changes)
    return run_probe(asked, hub.load_for_stage(asked, str(folder)))


# Shares of groups.


@pytest.mark.parametrize(("chance", "size"), [(0.0, 8), (0.1, 8), (0.5, 16), (0.9, 8)])
def test_the_share_of_informative_groups_is_unbiased(chance: float, size: int) -> None:
    num_samples, expectation = 20, 0.0
    for correct in range(num_samples + 1):
        counts = pd.DataFrame({"num_samples": [num_samples], "num_correct": [correct]})
        found = informative_groups(counts).set_index("num_generations").loc[size, "value"]
        expectation += binom.pmf(correct, num_samples, chance) * found
    assert expectation == pytest.approx(1 - chance**size - (1 - chance) ** size)


@pytest.mark.parametrize(("num_samples", "sizes"), [(10, [8]), (64, [8, 16, 32, 64]), (4, [4])])
def test_groups_larger_than_the_sample_are_left_out(num_samples: int, sizes: list[int]) -> None:
    counts = pd.DataFrame({"num_samples": [num_samples] * 3, "num_correct": [1, 0, 2]})
    table = informative_groups(counts)
    validate_table("informative_groups", table)
    assert table["num_generations"].tolist() == sizes


def test_the_first_informative_group_is_expected_when_the_share_says() -> None:
    rng, share, draws = np.random.default_rng(0), 0.01, 32
    waits = rng.geometric(1 - (1 - share) ** draws, size=20_000)
    assert first_step(share, draws) == pytest.approx(waits.mean(), rel=0.03)
    none = informative_groups(pd.DataFrame({"num_samples": [8] * 20, "num_correct": [0] * 20})).iloc[0]
    assert none["value"] == 0 and none["upper"] > 3 / 20
    assert none["first_step"] == np.inf and none["first_step_lower"] < 1.01, "twenty problems exclude little"


# The verdict and the advice.

MANY, FEW, RARE = Interval(30, 28, 31), Interval(0.3, 0.1, 0.6), Interval(1e-6, 1e-7, 1e-5)
NONE, MAYBE, UNSEEN = Interval(0, 0, 0.9), Interval(2, 0.5, 9), Interval(0, 0, 5)
GAIN, LOSS, UNSURE = Interval(0.3, 0.2, 0.4), Interval(-0.3, -0.4, -0.2), Interval(0.1, -0.1, 0.3)
UNKNOWN = Interval(np.nan, np.nan, np.nan)


@pytest.mark.parametrize(
    ("told", "verdict", "words"),
    [
        ((MANY, MANY, GAIN), "takes off", "+30.0 points (+20.0 to +40.0)"),
        ((MANY, FEW, GAIN), "lags", "0.3 (0.1 to 0.6) completions that search"),
        ((FEW, MANY, GAIN), "lags", "0.3 (0.1 to 0.6) informative groups"),
        ((NONE, MANY, GAIN), "chokes", "no signal"),
        ((MANY, RARE, UNKNOWN), "chokes", "before step 100,000"),
        ((MANY, Interval(0, 0, 0), UNKNOWN), "chokes", "at any step"),
        ((MANY, MANY, LOSS), "chokes", "selects against it"),
        ((MANY, MANY, UNSURE), "cannot be told", "+10.0 points (-10.0 to +30.0)"),
        ((MANY, MANY, UNKNOWN), "cannot be told", "was not measured"),
        ((UNSEEN, MANY, GAIN), "cannot be told", "0 (0 to 5) informative groups"),
        ((MANY, MAYBE, GAIN), "cannot be told", "2 (0.5 to 9)"),
        ((MAYBE, MANY, GAIN), "cannot be told", "2 (0.5 to 9)"),
    ],
)
def test_the_verdict_follows_its_rule(told: tuple[Interval, ...], verdict: str, words: str) -> None:
    outlook = report.foresee(*told)
    assert outlook.verdict == verdict and words in outlook.reason


@pytest.fixture(scope="module")
def found(countdown: Subject) -> Probe:
    """A probe of a random model."""
    return probed(countdown)


def able(found: Probe, **measures: float) -> Probe:
    """Return a probe of a model that is good at everything but what is given."""
    good = dict.fromkeys(("frac_right_steps", "frac_well_formed", "frac_answered"), 1.0)
    good |= {"hit_verdict_accuracy": 1.0, "miss_verdict_accuracy": 1.0} | measures
    summary = found.tables["summary"].set_index("measure")
    for name, value in good.items():
        summary.loc[name, "value"] = value
    tables = found.tables | {"summary": summary.reset_index()}
    return replace(found, tables=tables, groups=MANY, searches=MANY, gain=GAIN)


@pytest.mark.parametrize(
    ("measures", "step", "advice"),
    [
        ({}, {}, ["train by GRPO"]),
        ({"frac_right_steps": 0.9}, {}, ["train the base further"]),
        ({"frac_well_formed": 0.5}, {}, ["teach the form first"]),
        ({}, {"groups": UNSEEN}, ["probe an easier band", "prime with"]),
        ({}, {"searches": FEW}, ["prime with"]),
        ({}, {"gain": UNSURE}, ["prime with"]),
        ({"miss_verdict_accuracy": 0.5}, {"gain": LOSS}, ["prime with"]),
        ({"frac_well_formed": 0.5}, {"groups": NONE}, ["teach the form", "probe an easier", "prime with"]),
    ],
)
def test_advice_follows_its_rule_and_says_what_it_costs(
    found: Probe, measures: dict[str, float], step: dict[str, Interval], advice: list[str]
) -> None:
    probe_ = replace(able(found, **measures), **step)
    given = report.advise(probe_)
    assert [any(each.what.startswith(words) for words in advice) for each in given] == [True] * len(advice)
    assert all(each.num_tokens > 0 or each.what.startswith("train the base") for each in given)
    if "miss_verdict_accuracy" in measures:
        assert "50.0 % of its verdicts" in given[0].why
    if not measures and not step:
        expected = 100 * 256 * probe_.measured("mean_completion_tokens").value
        assert given[0].num_tokens == int(expected)
    assert found.demonstration_tokens > 20, "words of a written search"


@pytest.mark.parametrize(
    ("name", "band", "easier"), [("countdown", "four", "common"), ("knights", "people5", "people3")]
)
def test_a_band_is_easier_where_a_blind_answer_is_right_more_often(name: str, band: str, easier: str) -> None:
    task = load_task(name)
    assert easier in report.easier_bands(task, band) and band not in report.easier_bands(task, easier)
    assert band not in report.easier_bands(task, band)


# The whole probe.


def test_a_probe_measures_everything_of_any_task(subject: Subject, found: Probe) -> None:
    measured = probed(subject)
    for name, table in measured.tables.items():
        validate_table(name, table)
    value = json.loads(json.dumps(report.as_json(measured), allow_nan=False))
    assert [row["k"] for row in value["pass_at_k"]] == [1, 2, 4, 8]
    behaviours = [row["behaviour"] for row in value["probe_behaviours"]]
    assert behaviours == list(subject.task.openings)
    assert value["verdict"]["verdict"] in ("takes off", "lags", "chokes", "cannot be told")
    assert value["parameters"]["task"] == subject.task.name and value["model"]["num_parameters"] == 1234
    if subject.task.name == "countdown":
        assert report.as_json(measured) == report.as_json(found), "a seed fixes the probe"
    text = report.describe(measured)
    assert max(map(len, text.splitlines())) <= 120 and "nan" not in text.split()
    for words in ("verdict: ", "not calibrated on outcomes", "advice", "the rule of three", "expected at"):
        assert words in text


def test_chances_of_search_are_of_the_model_and_not_of_its_samples(found: Probe, countdown: Subject) -> None:
    problems = [countdown.task.read_problem(name) for name in found.tables["completions"]["problem"].unique()]
    each = evaluate.search_probability(countdown, problems, probe.derive_seed(0, "p0"), 20)
    assert found.searches.value == pytest.approx(256 * each.mean())


def test_none_of_few_is_told_in_words_and_is_no_verdict(reciter: Reciter) -> None:
    found = recited(reciter("3 + 8 + 9 = 20", OTHER), num_problems=20)
    text = report.describe(found)
    assert found.measured("pass@1").value == 0
    told = "none of 160 is right: by the rule of three, at most 15.0 % of such problems"
    assert told in " ".join(text.split())
    assert report.foresee(found.groups, found.searches, found.gain).verdict == "cannot be told"
    advice = report.advise(found)
    assert advice[0].what.startswith("give 4 worked examples in the prompt")
    again = int(found.tables["completions"]["num_completion_tokens"].sum())
    assert advice[0].num_tokens > again == advice[1].num_tokens
    shown = recited(Path(found.parameters.checkpoint), few_shot=1)
    assert report.advise(shown)[0].what.startswith("probe an easier")


TALK = "Wait, let me check. No. Let me try again. Working backwards."


@pytest.mark.parametrize("piece", ["1\n1\n1\n1", TALK])
def test_text_without_steps_or_an_answer_shows_no_behaviour(reciter: Reciter, piece: str) -> None:
    found = recited(reciter(piece))
    assert report.advise(found)[0].what.startswith("teach the form first")
    assert "0.0 % of its completions hand in an answer" in report.describe(found)
    assert (found.tables["probe_behaviours"]["p0_sampled"] == 0).all()
    assert found.measured("frac_sound").value == 0
    assert found.tables["probe_behaviours"]["advantage"].isna().all(), "in English nothing is forced"


# The command.


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Command:
    """`extrabitter probe` with arguments; returns its exit code."""

    def command(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["extrabitter", "probe", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0)

    return command


SMALL = ("--problems", "4", "--samples", "8", "--cap", "20")


@pytest.fixture(scope="module")
def folder(countdown: Subject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    tiny.save_checkpoint(countdown.model, countdown.tokenizer, path)
    return path


def test_the_command_prints_a_report_or_json_alone(folder: Path, run: Command, capsys: Any) -> None:
    assert run(str(folder), *SMALL) == 0
    assert "verdict: " in capsys.readouterr().out
    assert run(str(folder), *SMALL, "--json") == 0, "whatever the verdict"
    value = json.loads(capsys.readouterr().out)
    assert value["verdict"]["reason"] and value["advice"][0]["what"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{grammar}", "--band", "nine"], "band = 'nine'"),
        (["{english}"], "give --prompt plain or chat"),
        (["{english}", "--prompt", "chat", "--cap", "4000"], "tokens are more than the model's 2048"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    folder: Path, reciter: Reciter, run: Command, capsys: Any, arguments: list[str], message: str
) -> None:
    names = {"grammar": folder, "english": reciter("good", ANSWER)}
    assert run(*(argument.format(**names) for argument in arguments)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
