"""Evaluation and competence bars: paired problems, honest intervals, interventions that do what they say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from extrabitter.evaluation import competence
from extrabitter.evaluation import evaluate as evaluation
from extrabitter.models import tiny as models
from extrabitter.params import BaseModelParameters, BehaviourEvaluationParameters
from extrabitter.tables import validate_table
from extrabitter.models.sampling import SamplingParameters
from extrabitter.tasks import countdown


@pytest.fixture(scope="module")
def checkpoint():
    """A random model and its tokenizer: what is measured here must hold for any model."""
    tokenizer = models.build_tokenizer(countdown.VOCABULARY)
    model = models.build_model(
        "llama",
        vocab_size=len(countdown.VOCABULARY),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        seed=0,
    )
    return model, tokenizer


def parameters(**changes: object) -> BehaviourEvaluationParameters:
    values: dict[str, object] = {
        "run_dir": "unused",
        "arm": "base_rich",
        "seed": 0,
        "checkpoint": "unused",
        "split": "validation",
        "num_problems": 6,
        "num_samples": 3,
        "max_completion_length": 12,
        "max_k": 3,
    }
    return BehaviourEvaluationParameters(**(values | changes))


PROBLEMS = countdown.generate_problems("validation", 12, seed=1, distinct=True)
SAMPLING = SamplingParameters(max_completion_length=16)


def completions_of(texts: list[str], problem: str = "1-2-3:6") -> pd.DataFrame:
    """Measure given completions of one problem as if they had been sampled."""
    given = countdown.Problem.from_identifier(problem)
    rows = [
        {"problem": problem, "num_completion_tokens": len(text.split()) + 1, "truncated": False}
        | evaluation.measure_completion(text, given, False)
        for text in texts
    ]
    return pd.DataFrame(rows)


RIGHT = "2 + 1 = 3 , 3 + 3 = 6 answer"
WRONG = "2 + 1 = 3 , 3 - 3 = 0 answer"


def test_completions_have_the_promised_form(checkpoint):
    completions = evaluation.evaluate(parameters(), *checkpoint)
    validate_table("completions", completions)
    assert len(completions) == 18
    assert completions.groupby("problem")["sample"].apply(list).tolist() == [[0, 1, 2]] * 6


def test_arms_of_a_seed_answer_the_same_problems(checkpoint):
    first = evaluation.evaluate(parameters(arm="base_rich"), *checkpoint)
    second = evaluation.evaluate(parameters(arm="grpo_rich"), *checkpoint)
    other = evaluation.evaluate(parameters(seed=1), *checkpoint)
    assert first["problem"].tolist() == second["problem"].tolist()
    assert set(first["problem"]) != set(other["problem"])


def test_evaluating_twice_gives_the_same_table(checkpoint):
    first, second = (evaluation.evaluate(parameters(), *checkpoint) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)


def test_forced_words_and_prefixes_open_the_completion(checkpoint):
    forced = evaluation.sample_completions(
        *checkpoint, PROBLEMS[:4], 2, SAMPLING, seed=0, forced_words=["back", "1"]
    )
    assert all(text.startswith("back 1") for text in forced["completion"])
    prefixed = evaluation.sample_completions(
        *checkpoint, PROBLEMS[:2], 1, SAMPLING, seed=0, prefixes=["1 + 1 = 2", "check"]
    )
    assert [a.startswith(b) for a, b in zip(prefixed["completion"], ["1 + 1 = 2", "check"], strict=True)] == [
        True
    ] * 2


def test_a_measure_without_denominator_is_missing_and_not_zero():
    summary = evaluation.summary_table(completions_of([RIGHT, WRONG])).set_index("measure")
    assert np.isnan(summary.loc["verdict_accuracy", "value"])
    assert summary.loc["verdict_accuracy", "count"] == 0
    assert summary.loc["pass@1", "value"] == 0.5
    validate_table("summary", summary.reset_index())


def test_the_interval_of_a_mean_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered, trials = 0, 120
    for trial in range(trials):
        chances = rng.beta(2, 2, size=60)  # problems differ, their mean is .5
        completions = pd.concat(
            [
                completions_of([RIGHT if hit else WRONG for hit in rng.random(4) < chance]).assign(
                    problem=str(i)
                )
                for i, chance in enumerate(chances)
            ]
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(evaluation, "MEASURES", {"pass@1": evaluation.MEASURES["pass@1"]})
            row = evaluation.summary_table(completions, seed=trial).iloc[0]
        covered += row["lower"] <= 0.5 <= row["upper"]
    assert binom.cdf(covered, trials, 0.95) > 1e-3


def test_pass_at_k_is_that_of_counting_by_hand():
    table = evaluation.pass_at_k_table(completions_of([RIGHT, WRONG, WRONG, WRONG]), max_k=4)
    validate_table("pass_at_k", table)
    assert table["k"].tolist() == [1, 2, 4]
    assert table["value"].tolist() == pytest.approx([0.25, 0.5, 1.0])


def test_the_probability_of_search_is_exact_and_sees_the_mask(checkpoint):
    model, tokenizer = checkpoint
    plain = evaluation.search_probability(model, tokenizer, PROBLEMS, seed=0)
    assert plain.shape == (12,)
    assert ((plain > 0) & (plain < 1)).all()
    models.mask_tokens(model, models.word_ids(tokenizer, evaluation.SEARCH_WORDS))
    try:
        masked = evaluation.search_probability(model, tokenizer, PROBLEMS, seed=0)
    finally:
        models.mask_tokens(model, ())
    assert (masked == 0).all()


def test_forced_search_goes_on_from_the_attempt_that_was_submitted_directly(checkpoint):
    pairs = competence.forced_search(*checkpoint, PROBLEMS, SAMPLING, seed=0)
    assert list(pairs.columns) == ["problem", "direct", "search"]
    assert pairs["problem"].tolist() == [problem.identifier for problem in PROBLEMS]
    assert models.masked_token_ids(checkpoint[0]) == []


def test_a_missed_bar_is_named_with_value_and_threshold(checkpoint):
    base = BaseModelParameters(
        run_dir="unused", arm="rich", seed=0, num_bar_problems=4, cued_share=0.25, max_completion_length=12
    )
    bars = competence.measure_bars(base, *checkpoint)
    validate_table("bars", bars)
    assert {"3 numbers: well-formed", "3 numbers: cued: 'yes' verdicts true"} <= set(bars["bar"])
    with pytest.raises(competence.CompetenceError, match=r"3 numbers: well-formed is 0, must be >= 0\.98"):
        competence.enforce_bars(bars)


def test_a_base_on_four_numbers_is_held_to_the_bars_of_that_band_too(checkpoint):
    base = BaseModelParameters(
        run_dir="unused",
        arm="absent",
        seed=0,
        num_bar_problems=2,
        four_number_share=0.1,
        max_completion_length=12,
    )
    bars = competence.measure_bars(base, *checkpoint)
    assert {"3 numbers: well-formed", "4 numbers: well-formed"} <= set(bars["bar"])
    assert not bars["bar"].str.contains("cued:").any()
