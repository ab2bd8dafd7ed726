"""Sample a language model on Countdown in natural English, and measure answers and behaviours in its free text.

How to prompt is said, not guessed: "plain" for a base model, "chat" through the tokenizer's own template. Behaviours
are counted by the rules of `census`, whose precision and recall on labelled traces (`census_scores`) have to stand
beside every figure made of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd
import torch

from extrabitter.params import BehaviourEvaluationParameters
from extrabitter.evaluation.evaluate import evaluation_problems, sampling_parameters, summary_table
from extrabitter.models.tiny import CheckpointError
from extrabitter.tasks.countdown.english import cut_completion
from extrabitter.behaviours.natural_measures import NATURAL_MEASURES, measure_natural
from extrabitter.models.hub import as_read, encode_prompts
from extrabitter.models.rollouts import SamplingParameters, generate
from extrabitter.seeding import derive_seed
from extrabitter.tasks.countdown import Problem
from extrabitter.tasks.wording import Wording, choose_wording

if TYPE_CHECKING:
    from extrabitter.models.hub import Pretrained


def sample_natural(
    pretrained: Pretrained,
    problems: Sequence[Problem],
    num_samples: int,
    sampling: SamplingParameters,
    seed: int,
    wording: Wording,
) -> pd.DataFrame:
    """Sample `num_samples` completions of each problem: one row a completion, with verdict and behaviours.

    `truncated` means cut at the cap before the text ended or went on to a problem of its own. CheckpointError where a
    prompt and a completion together are longer than the model reads.
    """
    model, tokenizer, _ = pretrained
    prompts = [wording.prompt(problem) for problem in problems]
    prompt_ids = encode_prompts(tokenizer, prompts)
    texts = [as_read(tokenizer, prompt) for prompt in prompts]
    longest = max(map(len, prompt_ids), default=0) + sampling.max_completion_length
    limit = getattr(model.config, "max_position_embeddings", None) or longest
    if longest > limit:
        raise CheckpointError(
            f"prompt and completion: {longest} tokens are more than the model's {limit}; "
            "ask for shorter completions or fewer examples"
        )
    rollouts = generate(
        model,
        prompt_ids,
        num_samples,
        sampling,
        eos_token_id=tokenizer.eos_token_id,
        generator=torch.Generator(device=model.device).manual_seed(seed),
        with_logprobs=False,
    )
    rows = []
    for index, (ids, truncated) in enumerate(zip(rollouts.completion_ids, rollouts.truncated, strict=True)):
        problem_index, sample = divmod(index, num_samples)
        problem = problems[problem_index]
        written = tokenizer.decode(ids, skip_special_tokens=True)
        text = cut_completion(written)
        rows.append(
            {
                "problem": problem.identifier,
                "num_numbers": len(problem.numbers),
                "target": problem.target,
                "sample": sample,
                "prompt": texts[problem_index],
                "completion": text,
                "num_completion_tokens": len(ids),
                "truncated": wording.is_truncated(written, ended=not truncated),
                **measure_natural(text, problem),
            }
        )
    return pd.DataFrame(rows)


def evaluate_natural(parameters: BehaviourEvaluationParameters, pretrained: Pretrained) -> pd.DataFrame:
    """Return table `natural_completions` of a run of stage `behaviour_evaluation`, on the same problems as any arm."""
    return sample_natural(
        pretrained,
        evaluation_problems(parameters),
        parameters.num_samples,
        sampling_parameters(parameters),
        derive_seed(parameters.seed, "evaluation sampling", parameters.arm),
        choose_wording(parameters),
    )


def natural_summary(completions: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Return table `summary` of `natural_completions`, with 95 % intervals, problems resampled."""
    return summary_table(completions, seed, NATURAL_MEASURES)
