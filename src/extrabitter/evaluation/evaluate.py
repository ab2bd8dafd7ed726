"""Evaluate a checkpoint: completions, measures with intervals, pass@k, and the probability that it searches.

Everything that is sampled here is measured by the same parser and verifier that reward GRPO
(`extrabitter.behaviours.measures`, `extrabitter.tasks`), so that a number on a page and a reward in a run mean one thing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from extrabitter.behaviours.measures import MEASURES, Measure, measure_completion
from extrabitter.params import BehaviourEvaluationParameters
from extrabitter.statistics import bootstrap_interval, pass_at_k
from extrabitter.models.tiny import next_token_probabilities, word_ids
from extrabitter.models.rollouts import SamplingParameters, generate
from extrabitter.seeding import derive_seed
from extrabitter.tasks import countdown
from extrabitter.tasks.countdown import SEARCH_WORDS, SUBMIT_WORD, Problem

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NUM_RESAMPLES = 1_000  # bootstrap draws over problems


def sample_completions(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    num_samples: int,
    sampling: SamplingParameters,
    seed: int,
    *,
    cue: bool = False,
    forced_words: Sequence[str] = (),
    prefixes: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Sample `num_samples` completions of each problem; return table `completions`, one row a completion.

    `prefixes`, one per problem, is text that the completion has to begin with (an intervention); it is part of
    the completion that is measured. `forced_words` are likewise the first words, the same for all.
    """
    given = list(prefixes) if prefixes is not None else [""] * len(problems)
    prompts = [countdown.render_prompt(problem, cue=cue) for problem in problems]
    texts = [f"{prompt} {prefix}".strip() for prompt, prefix in zip(prompts, given, strict=True)]
    rollouts = generate(
        model,
        [tokenizer(text)["input_ids"] for text in texts],
        num_samples,
        sampling,
        eos_token_id=tokenizer.eos_token_id,
        generator=torch.Generator().manual_seed(seed),
        forced_ids=word_ids(tokenizer, forced_words),
    )
    rows = []
    for index, (ids, truncated) in enumerate(zip(rollouts.completion_ids, rollouts.truncated, strict=True)):
        problem_index, sample = divmod(index, num_samples)
        problem, prefix = problems[problem_index], given[problem_index]
        text = f"{prefix} {tokenizer.decode(ids, skip_special_tokens=True)}".strip()
        rows.append(
            {
                "problem": problem.identifier,
                "num_numbers": len(problem.numbers),
                "target": problem.target,
                "sample": sample,
                "prompt": prompts[problem_index],
                "completion": text,
                "num_completion_tokens": len(ids) + len(prefix.split()),
                "truncated": bool(truncated),
                **measure_completion(text, problem, bool(truncated)),
            }
        )
    return pd.DataFrame(rows)


def evaluate(
    parameters: BehaviourEvaluationParameters, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> pd.DataFrame:
    """Return table `completions` of a run of stage `behaviour_evaluation`.

    The problems depend on the seed's label only, never on the arm: all arms of a seed answer the same ones.
    """
    return sample_completions(
        model,
        tokenizer,
        evaluation_problems(parameters),
        parameters.num_samples,
        sampling_parameters(parameters),
        derive_seed(parameters.seed, "evaluation sampling", parameters.arm),
        cue=parameters.cue,
        forced_words=parameters.forced_words.split(),
    )


def sampling_parameters(parameters: BehaviourEvaluationParameters) -> SamplingParameters:
    """Return how the tokens of an evaluation are drawn."""
    return SamplingParameters(
        temperature=parameters.temperature,
        top_k=parameters.top_k,
        top_p=parameters.top_p,
        min_p=parameters.min_p,
        max_completion_length=parameters.max_completion_length,
    )


def evaluation_problems(parameters: BehaviourEvaluationParameters) -> list[Problem]:
    """Return the held-out problems of an evaluation, each once."""
    return countdown.generate_problems(
        parameters.split,
        parameters.num_problems,
        derive_seed(parameters.seed, "evaluation", parameters.split, parameters.num_numbers),
        num_numbers=parameters.num_numbers,
        distinct=True,
        rare=parameters.solutions == "rare",
    )


def summary_table(
    completions: pd.DataFrame, seed: int = 0, measures: Mapping[str, Measure] = MEASURES
) -> pd.DataFrame:
    """Return table `summary`: each measure, its 95 % interval and the number of things it is an average of.

    A measure is a ratio of two sums over completions (say hits / attempts). Its interval is a bootstrap that
    resamples *problems*: completions of one problem are not independent. A measure without denominator (the
    verdict accuracy of a model that gives none) is missing, not zero.
    """
    groups = completions.groupby("problem", sort=True)
    num_problems = groups.ngroups
    rng = np.random.default_rng(derive_seed(seed, "bootstrap"))
    shares = np.full(num_problems, 1 / num_problems)
    weights = rng.multinomial(num_problems, shares, size=NUM_RESAMPLES)  # (resamples, problems)
    rows = []
    for name, measure in measures.items():
        parts = pd.DataFrame({"problem": completions["problem"], "top": measure.numerator(completions)})
        parts["bottom"] = measure.denominator(completions)
        sums = parts.groupby("problem", sort=True)[["top", "bottom"]].sum()
        top, bottom = sums["top"].to_numpy(float), sums["bottom"].to_numpy(float)
        count = bottom.sum()
        value = lower = upper = np.nan
        if count > 0:
            value = top.sum() / count
            with np.errstate(divide="ignore", invalid="ignore"):
                draws = (weights @ top) / (weights @ bottom)
            draws = draws[np.isfinite(draws)]  # resamples that happen to hold no denominator say nothing
            lower, upper = np.quantile(draws, [0.025, 0.975])
        rows.append({"measure": name, "value": value, "lower": lower, "upper": upper, "count": int(count)})
    return pd.DataFrame(rows)


def pass_at_k_table(completions: pd.DataFrame, max_k: int, seed: int = 0) -> pd.DataFrame:
    """Return table `pass_at_k` for k = 1, 2, 4 … `max_k`: unbiased, with a bootstrap interval over problems."""
    counts = completions.groupby("problem", sort=True)["correct"].agg(["size", "sum"])
    num_samples = int(counts["size"].min())
    rng = np.random.default_rng(derive_seed(seed, "bootstrap"))
    draws = rng.integers(len(counts), size=(NUM_RESAMPLES, len(counts)))
    rows = []
    k = 1
    while k <= min(max_k, num_samples):
        each = np.array([pass_at_k(int(n), int(c), k) for n, c in counts.itertuples(index=False)])
        lower, upper = np.quantile(each[draws].mean(axis=1), [0.025, 0.975])
        rows.append({"k": k, "value": each.mean(), "lower": lower, "upper": upper})
        k *= 2
    return pd.DataFrame(rows)


def first_attempt_prefixes(completions: pd.DataFrame) -> list[str]:
    """Return of each completion the text of its first attempt, up to where the model may submit or search.

    >>> first_attempt_prefixes(pd.DataFrame({"completion": ["1 + 2 = 3 check 4 no back 1 2"]}))
    ['1 + 2 = 3']
    """
    stops = {*SEARCH_WORDS, SUBMIT_WORD}
    prefixes = []
    for text in completions["completion"]:
        words = text.split()
        end = next((i for i, word in enumerate(words) if word in stops), len(words))
        prefixes.append(" ".join(words[:end]))
    return prefixes


def search_probability_summary(
    parameters: BehaviourEvaluationParameters, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> pd.DataFrame:
    """Return one more row of table `summary`, measure `search_probability`: mean over problems, bootstrap interval."""
    seed = derive_seed(parameters.seed, "search probability", parameters.arm)
    each = search_probability(model, tokenizer, evaluation_problems(parameters), seed, cue=parameters.cue)
    value, lower, upper = bootstrap_interval(each, np.random.default_rng(derive_seed(seed, "bootstrap")))
    row = {
        "measure": "search_probability",
        "value": value,
        "lower": lower,
        "upper": upper,
        "count": len(each),
    }
    return pd.DataFrame([row])


def search_probability(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    seed: int,
    *,
    cue: bool = False,
    max_completion_length: int = 64,
) -> np.ndarray:
    """Return, per problem, the teacher-forced probability of beginning to search after one own first attempt.

    It is read off the softmax where a search word could stand, so that it resolves what no sample would ever
    show: the p0 of a base that never searches. Shape (B,).
    """
    sampling = SamplingParameters(temperature=1.0, max_completion_length=max_completion_length)
    first = sample_completions(model, tokenizer, problems, 1, sampling, seed, cue=cue)
    prefixes = first_attempt_prefixes(first)
    search_ids = word_ids(tokenizer, SEARCH_WORDS)
    texts = [f"{prompt} {prefix}".strip() for prompt, prefix in zip(first["prompt"], prefixes, strict=True)]
    return next_word_probabilities(model, tokenizer, texts)[:, search_ids].sum(axis=1)


def next_word_probabilities(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> np.ndarray:
    """Return the distribution of the word behind each text; shape (N, V)."""
    sequences = [tokenizer(text)["input_ids"] for text in texts]
    return next_token_probabilities(model, sequences, tokenizer.pad_token_id).cpu().numpy()
