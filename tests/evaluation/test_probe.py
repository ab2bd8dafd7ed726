"""The probe: interventions that do what they say, unbiased shares, advice by its rule, costs by their formula."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from scipy.stats import binom

from extrabitter import calibration
from extrabitter import cli
from extrabitter.evaluation import interventions
from extrabitter.models import tiny as models
from extrabitter.evaluation import probe
from extrabitter.evaluation import report as probe_report
from extrabitter.calibration import Forecast
from extrabitter.params import ParameterError, WillItChokeParameters, validate
from extrabitter.evaluation.interventions import SEARCH, Intervention, first_attempts, intervene, summarise_intervention
from extrabitter.statistics import Interval
from extrabitter.evaluation.natural_probe import NaturalProbeParameters
from extrabitter.training.priming import CONDITIONS
from extrabitter.evaluation.advice import advise
from extrabitter.evaluation.probe import ProbeParameters, informative_groups
from extrabitter.digests import REPOSITORY
from extrabitter.tables import validate_table
from extrabitter.models.rollouts import SamplingParameters
from extrabitter.tasks import countdown
from extrabitter.training_costs import GPUS, estimate_cost

SAMPLING = SamplingParameters(max_completion_length=12)
ATTEMPTS = pd.DataFrame(
    {
        "problem": ["6-7-9:8", "6-7-9:8", "2-3-4:24"],
        "prefix": ["9 - 7 = 2 , 6 + 2 = 8", "9 + 7 = 16 , 16 - 6 = 10", "4 + 3 = 7 , 7 + 2 = 9"],
        "hit": [True, False, False],
    }
)


@pytest.fixture(scope="module")
def checkpoint():
    """A random model over the grammar's words, as sharp as a trained one."""
    tokenizer = models.build_tokenizer(countdown.VOCABULARY)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    model = models.build_model("llama", len(countdown.VOCABULARY), **shape, seed=0)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            parameter.data.mul_(4.0)
    return model, tokenizer


@pytest.fixture(scope="module")
def folder(checkpoint, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    models.save_checkpoint(*checkpoint, path)
    return path


# Interventions.


def test_first_attempts_are_whole_legal_and_told_hit_from_miss() -> None:
    texts = {
        "9 - 7 = 2 , 6 + 2 = 8 check 8 yes answer": True,
        "9 + 7 = 16 , 16 - 6 = 10 back 6 7 9 target 8 : 9 - 7 = 2 , 6 + 2 = 8 answer": False,
        "9 + 7 = 16 ,": None,
        "9 + 7 = 17 , 17 - 6 = 11 answer": None,
        "aim": None,
        "": None,
    }
    completions = pd.DataFrame({"problem": "6-7-9:8", "completion": list(texts)})
    found = first_attempts(completions, per_problem=5)
    assert found["hit"].tolist() == [hit for hit in texts.values() if hit is not None]
    assert found["prefix"].tolist() == ["9 - 7 = 2 , 6 + 2 = 8", "9 + 7 = 16 , 16 - 6 = 10"]
    assert len(first_attempts(completions, per_problem=1)) == 1


def test_next_word_probabilities_do_not_depend_on_what_else_is_in_the_batch(checkpoint) -> None:
    model, tokenizer = checkpoint
    texts = ["numbers 6 7 9 target 8 :", "numbers 6 7 9 target 8 : 9 - 7 = 2 , 6 + 2 = 8"]
    together = interventions.next_word_probabilities(model, tokenizer, texts)
    for text, row in zip(texts, together, strict=True):
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        alone = model(input_ids=ids).logits[0, -1].double().softmax(dim=-1).detach().numpy()
        np.testing.assert_allclose(row, alone, atol=1e-6)
    assert interventions.next_word_probabilities(model, tokenizer, []).shape == (0, len(tokenizer))


def test_drawn_words_follow_the_distribution_within_what_is_allowed() -> None:
    distribution = np.tile([0.5, 0.3, 0.2, 0.0], (20_000, 1))
    rng = np.random.default_rng(0)
    kept = interventions._draw(distribution, rng, keep=[1, 2])
    assert set(kept) == {1, 2} and abs((kept == 1).mean() - 0.6) < 0.02
    dropped = interventions._draw(distribution, rng, drop=[0])
    assert set(dropped) == {1, 2} and abs((dropped == 1).mean() - 0.6) < 0.02
    assert set(interventions._draw(distribution, rng, keep=[3])) == {-1}


@pytest.mark.parametrize("behaviour", list(interventions.FIRST_WORDS))
def test_both_arms_go_on_from_one_text_and_differ_in_the_forced_word(checkpoint, behaviour: str) -> None:
    model, tokenizer = checkpoint
    result = intervene(model, tokenizer, behaviour, ATTEMPTS, SAMPLING, seed=1)
    words = interventions.FIRST_WORDS[behaviour]
    assert len(result.forced) == len(result.other) == len(result.probability) > 0
    assert result.forced["problem"].tolist() == result.other["problem"].tolist()
    for forced, other in zip(result.forced["completion"], result.other["completion"], strict=True):
        shared = 0
        while forced.split()[:shared] == other.split()[:shared]:
            shared += 1
        assert forced.split()[shared - 1] in words and other.split()[shared - 1] not in words
        expected = {0} if behaviour in ("subgoal_setting", "backward_chaining") else {11, 14}
        assert shared - 1 in expected, "the place where the word may first stand"


def test_backtracking_is_forced_behind_misses_only(checkpoint) -> None:
    result = intervene(*checkpoint, "backtracking", ATTEMPTS, SAMPLING, seed=1)
    assert result.forced["problem"].tolist() == ["6-7-9:8", "2-3-4:24"]
    assert all("6 + 2 = 8" not in text.split(" back")[0] for text in result.forced["completion"])


def test_the_model_says_whether_a_verdict_stands_before_back(checkpoint) -> None:
    model, tokenizer = checkpoint
    problems = [countdown.Problem.from_identifier("2-3-4:24")]
    prefix = "4 + 3 = 7 , 7 + 2 = 9"
    text = f"{countdown.render_prompt(problems[0])} {prefix}"
    row = interventions.next_word_probabilities(model, tokenizer, [text])[0]
    check, back = row[models.word_ids(tokenizer, ("check", "back"))]
    (written,) = interventions._with_verdicts(model, tokenizer, problems, [prefix])
    assert written == (f"{prefix} check 24 no" if check > back else prefix)


def test_what_is_never_said_is_not_forced(checkpoint) -> None:
    result = intervene(*checkpoint, SEARCH, ATTEMPTS, SAMPLING, seed=1, least_probability=1.1)
    row = summarise_intervention(result, seed=0)
    assert row["num_pairs"] == 0 and np.isnan(row["advantage"]) and row["p0_forced"] > 0


def test_advantage_is_averaged_within_problems_first() -> None:
    problems = ["a"] * 8 + ["b"] * 2
    forced = pd.DataFrame({"problem": problems, "correct": [True] * 8 + [False] * 2})
    other = pd.DataFrame({"problem": problems, "correct": [False] * 10})
    probability = pd.Series([0.2] * 8 + [0.4] * 2, index=problems)
    row = summarise_intervention(Intervention(SEARCH, probability, forced, other), seed=0)
    assert row["advantage"] == pytest.approx(0.5) and row["p0_forced"] == pytest.approx(0.3)
    assert (row["advantage_lower"], row["advantage_upper"]) == (0.0, 1.0)
    assert row["num_problems"] == 2 and row["num_pairs"] == 10


def test_no_attempt_at_all_is_missing_not_zero(checkpoint) -> None:
    row = summarise_intervention(intervene(*checkpoint, SEARCH, ATTEMPTS.iloc[:0], SAMPLING, seed=1), seed=0)
    assert np.isnan(row["p0_forced"]) and np.isnan(row["advantage"])


# Shares of groups.


@pytest.mark.parametrize(("probability", "size"), [(0.0, 2), (0.1, 4), (0.5, 3), (0.9, 8)])
def test_share_of_informative_groups_is_unbiased(probability: float, size: int) -> None:
    num_samples, expectation = 10, 0.0
    for correct in range(num_samples + 1):
        completions = pd.DataFrame({"problem": "a", "correct": [i < correct for i in range(num_samples)]})
        estimate = informative_groups(completions, [size])["value"].iloc[0]
        expectation += binom.pmf(correct, num_samples, probability) * estimate
    assert expectation == pytest.approx(1 - probability**size - (1 - probability) ** size)


def test_groups_larger_than_the_sample_are_left_out() -> None:
    completions = pd.DataFrame({"problem": "a", "correct": [True, False] * 5})
    assert informative_groups(completions, [8, 16])["num_generations"].tolist() == [8]


# Advice and costs.

GAIN, LOSS, UNSURE = Interval(0.3, 0.2, 0.4), Interval(-0.3, -0.4, -0.2), Interval(0.1, -0.1, 0.3)
NONE = Interval(np.nan, np.nan, np.nan)


@pytest.mark.parametrize(
    ("measured", "verdict", "words"),
    [
        ((1.0, 1.0, 0.1, GAIN, 1.0), "ready", "25.6 of 256"),
        ((0.9, 1.0, 0.1, GAIN, 1.0), "train the base", "90 % of its steps"),
        ((1.0, 0.9, 0.1, GAIN, 1.0), "train the base", "90 % of its completions"),
        ((np.nan, 1.0, 0.1, GAIN, 1.0), "train the base", "steps"),
        ((1.0, 1.0, 1e-6, GAIN, 1.0), "prime", "too few"),
        ((1.0, 1.0, np.nan, GAIN, 1.0), "prime", "too few"),
        ((1.0, 1.0, 0.1, LOSS, 0.5), "prime", "50 % of its verdicts"),
        ((1.0, 1.0, 0.1, UNSURE, 1.0), "prime", "searches too briefly"),
        ((1.0, 1.0, 0.1, NONE, np.nan), "prime", "not surely a gain"),
    ],
)
def test_advice_follows_its_rule(measured: tuple, verdict: str, words: str) -> None:
    advice = advise(*measured)
    assert advice.verdict == verdict and words in advice.reason
    amounts = (
        advice.num_documents,
        advice.num_steps,
        advice.per_device_train_batch_size,
        advice.learning_rate,
    )
    assert (advice.condition in CONDITIONS and min(amounts) > 0) == (verdict == "prime")
    assert any(amounts) == (verdict == "prime")


@pytest.mark.parametrize("profile", ["reference", "laptop"])
def test_advised_priming_is_that_of_the_experiments(profile: str) -> None:
    stage = yaml.safe_load((REPOSITORY / "profiles" / f"{profile}.yaml").read_text())["stages"]["sft_priming"]
    advice = advise(1.0, 1.0, 0.1, LOSS, 1.0)
    names = ("num_documents", "num_steps", "per_device_train_batch_size", "learning_rate")
    (arm,) = [arm for arm in stage["arms"].values() if arm["condition"] == advice.condition]
    assert advice.model_dump(include=set(names)) == {name: (stage["defaults"] | arm)[name] for name in names}
    shown = probe_report.describe_advice(advice)
    assert "25,600 documents of verification_backtracking" in shown
    assert "800 steps of 32 documents, learning rate 0.003" in shown
    assert advice.reason in " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= 110


def test_cost_is_the_stated_formula() -> None:
    cost = estimate_cost("A100", 10**9, 10, 100, 1000)
    tokens = 10 * 100 * 1000
    assert cost.petaflops == pytest.approx(8 * 10**9 * tokens / 1e15)
    assert cost.hours == pytest.approx((2e9 * tokens / 31.2e12 + 6e9 * tokens / 93.6e12) / 3600)
    assert cost.memory_gib == pytest.approx(16e9 / 2**30) and cost.fits
    assert not estimate_cost("T4", 10**10, 10, 100, 1000).fits


def test_an_unknown_card_is_named() -> None:
    with pytest.raises(ValueError, match="must be one of T4"):
        estimate_cost("TPU", 1, 1, 1, 1)
    with pytest.raises(ParameterError, match="gpu = 'TPU'"):
        validate(ProbeParameters, {"checkpoint": "a", "gpu": "TPU"}, "probe")
    assert validate(ProbeParameters, {"checkpoint": "a", "gpu": "H100"}, "probe").gpu in GPUS


# The stage asks for what the probe takes.


def test_the_stage_and_the_command_have_the_same_parameters() -> None:
    stage, own = WillItChokeParameters.model_fields, ProbeParameters.model_fields
    english = NaturalProbeParameters.model_fields
    resolved = {"revision", "dtype", "device"}  # of a model that is loaded before it is probed
    assert set(own) | set(english) == set(stage) - {"run_dir", "arm", "threads"} - resolved
    for name in set(own) - {"seed"}:
        assert own[name].default == stage[name].default, name
    for name in set(english) - set(own) - {"prompt"}:
        assert english[name].default == stage[name].default, name


def test_the_tables_are_those_that_a_run_may_write(checkpoint) -> None:
    parameters = ProbeParameters(checkpoint="tiny", num_problems=4, num_samples=2, max_completion_length=16)
    found = probe.probe(parameters, *checkpoint)
    for name in found.TABLES:
        validate_table(name, getattr(found, name))


# The whole probe, and its command.


def run_command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["extrabitter", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


SMALL = ("--problems", "6", "--samples", "8", "--cap", "20", "--gpu", "L4")


def test_probe_measures_everything_and_its_json_has_no_nan(checkpoint) -> None:
    parameters = ProbeParameters(checkpoint="tiny", num_problems=6, num_samples=8, max_completion_length=20)
    found = probe.probe(parameters, *checkpoint)
    value = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert value["num_parameters"] == sum(p.numel() for p in checkpoint[0].parameters())
    assert value["num_problems"] == 6 and value["num_samples"] == 8
    assert [row["k"] for row in value["pass_at_k"]] == [1, 2, 4, 8]
    assert [row["num_generations"] for row in value["informative_groups"]] == [8]
    assert [row["behaviour"] for row in value["probe_behaviours"]] == list(interventions.FIRST_WORDS)
    assert value["advice"]["verdict"] == "train the base", "a random model can do nothing"
    assert found.search_row()["place"] == "behind the first attempt"
    assert found.pass_at_1() == value["pass_at_k"][0]["value"]
    again = probe.probe(parameters, *checkpoint)
    assert again.as_json() == found.as_json(), "a seed fixes the probe"
    text = probe_report.describe(found, "tiny", Forecast(reason="too few models"))
    assert max(map(len, text.splitlines())) <= 120 and " nan" not in text
    assert "none, not calibrated here\n  too few models" in text
    told = probe_report.describe(found, "tiny", Forecast(0.5, 0.25, 0.75, 9, 0.1, -0.2, 0.4))
    assert "50.0 % (25.0 to 75.0)" in told and "by 9 models" in told
    assert "correlation 0.10 (-0.20 to 0.40)" in told


def test_a_forecast_is_made_of_problems_and_caps_like_those_that_calibrate_it(
    checkpoint, tmp_path: Path, monkeypatch
) -> None:
    sizes = {"checkpoint": "tiny", "num_problems": 4, "num_samples": 2}
    short = ProbeParameters(**sizes, max_completion_length=16)
    found = probe.probe(short, *checkpoint)
    assert probe.forecast_success(short, found).reason == (
        "max_completion_length is not 288, with which it is calibrated"
    )
    asked = ProbeParameters(**sizes)
    nowhere = probe.forecast_success(asked, found, tmp_path / "nowhere")
    assert nowhere.reason.startswith("0 probed models")
    seen: dict[str, float] = {}
    told = Forecast(0.5, 0.25, 0.75, 9, 0.1, -0.2, 0.4)
    monkeypatch.setattr(calibration, "forecast", lambda _, features: seen.update(features) or told)
    assert probe.forecast_success(asked, found) is told and set(seen) == set(calibration.FEATURES)


def test_the_stage_prints_the_forecast_and_writes_it_nowhere(folder: Path, tmp_path: Path) -> None:
    import papermill

    notebook = REPOSITORY / "notebooks" / "stages" / "will_it_choke.ipynb"
    given = {"num_problems": 4, "num_samples": 8, "num_attempts": 1, "max_completion_length": 20}
    executed = papermill.execute_notebook(
        str(notebook),
        str(tmp_path / "out.ipynb"),
        {"run_dir": str(tmp_path / "seed=0"), "checkpoint": str(folder)} | given,
        kernel_name="python3",
        progress_bar=False,
    )
    printed = "".join(
        output.text
        for cell in executed.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "stream" and output.name == "stdout"
    )
    assert "advice: train the base further" in printed
    assert "forecast of success after GRPO: none, not calibrated here\n  max_completion_length" in printed
    assert "printed from the committed results" in printed
    written = {path.stem for path in (tmp_path / "seed=0").glob("*.parquet")}
    assert written == set(probe.Probe.TABLES)
    assert "forecast" not in json.loads((tmp_path / "seed=0" / "probe.json").read_text())


def test_the_command_prints_json_alone(folder: Path, monkeypatch, capsys) -> None:
    assert run_command(monkeypatch, "probe", str(folder), *SMALL, "--json") == 0
    value = json.loads(capsys.readouterr().out)
    assert value["costs"][0]["gpu"] == "L4"
    assert value["forecast"]["value"] is None and value["forecast"]["reason"], (
        "a random model is out of any range"
    )


def test_the_command_prints_a_report_and_the_gate_speaks_in_its_exit_code(
    folder: Path, monkeypatch, capsys
) -> None:
    assert run_command(monkeypatch, "probe", str(folder), *SMALL, "--gate") == 3
    out = capsys.readouterr().out
    assert "advice: train the base further" in out and "teacher-forced" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "checkpoint nowhere: not a checkpoint folder"),
        (["nowhere", "--gpu", "TPU"], "gpu = 'TPU'"),
        (["nowhere", "--problems", "1"], "num_problems = 1"),
        (["nowhere", "--numbers", "9"], "num_numbers = 9"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    monkeypatch, capsys, arguments: list[str], message: str
) -> None:
    assert run_command(monkeypatch, "probe", *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_a_model_with_other_words_is_refused(checkpoint, tmp_path: Path, monkeypatch, capsys) -> None:
    other = models.build_tokenizer([*models.SPECIAL_WORDS, "a", "b"])
    models.save_checkpoint(checkpoint[0], other, tmp_path / "other")
    assert run_command(monkeypatch, "probe", str(tmp_path / "other")) == 2
    assert "lacks words of the Countdown grammar (0, 1, 2, 3, 4)" in capsys.readouterr().err


def test_help_says_what_is_printed_and_what_exit_codes_mean(monkeypatch, capsys) -> None:
    assert run_command(monkeypatch, "probe", "--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    for words in ("pass@k", "Exit codes: 0", "--json", "--gate", "forecasts success after GRPO"):
        assert words in text
