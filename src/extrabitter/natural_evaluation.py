"""Sample a language model on Countdown in natural English, and measure answers and behaviours in its free text.

How to prompt is said, not guessed: "plain" for a base model, "chat" through the tokenizer's own template. Behaviours
are counted by the rules of `census`, whose precision and recall on labelled traces (`census_scores`) have to stand
beside every figure made of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import torch

from extrabitter.census import take_census
from extrabitter.decoder import is_supported
from extrabitter.metrics import bootstrap_interval
from extrabitter.models import CheckpointError
from extrabitter.natural import chat_messages, cut_completion, plain_prompt, verify_completion
from extrabitter.records import BEHAVIOURS
from extrabitter.reflection_keywords import count_keywords
from extrabitter.rollouts import SamplingParameters, generate
from extrabitter.seeding import derive_seed
from extrabitter.tasks.countdown import Problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from extrabitter.pretrained import Pretrained

PromptStyle = Literal["plain", "chat"]


def render(
    tokenizer: PreTrainedTokenizerBase,
    problem: Problem,
    style: PromptStyle,
    shots: Sequence[tuple[str, str]] = (),
) -> tuple[str, list[int]]:
    """Return a prompt and its token ids; CheckpointError where the tokenizer has no chat template for "chat"."""
    if style == "plain":
        text = plain_prompt(problem, shots)
        return text, list(tokenizer(text)["input_ids"])
    if not tokenizer.chat_template:
        raise CheckpointError("prompt = 'chat': the tokenizer has no chat template; use 'plain'")
    try:
        text = tokenizer.apply_chat_template(
            chat_messages(problem, shots), tokenize=False, add_generation_prompt=True
        )
    except Exception as error:  # a template is a program of the model's, and may raise anything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"prompt = 'chat': the chat template fails ({reason})") from error
    # The template writes special tokens itself.
    return text, list(tokenizer(text, add_special_tokens=False)["input_ids"])


def sample_natural(
    pretrained: Pretrained,
    problems: Sequence[Problem],
    num_samples: int,
    sampling: SamplingParameters,
    seed: int,
    style: PromptStyle,
    shots: Sequence[tuple[str, str]] = (),
) -> pd.DataFrame:
    """Sample `num_samples` completions of each problem: one row a completion, with verdict and behaviours.

    `truncated` means cut at the cap before the text ended or went on to a problem of its own. CheckpointError where a
    prompt and a completion together are longer than the model reads.
    """
    model, tokenizer, _ = pretrained
    prompts = [render(tokenizer, problem, style, shots) for problem in problems]
    longest = max((len(ids) for _, ids in prompts), default=0) + sampling.max_completion_length
    limit = getattr(model.config, "max_position_embeddings", None) or longest
    if longest > limit:
        raise CheckpointError(
            f"prompt and completion: {longest} tokens are more than the model's {limit}; "
            "ask for shorter completions or fewer examples"
        )
    # Models that `decoder` does not know are sampled by `model.generate`, which is seeded on the CPU.
    device = model.device if is_supported(model) else torch.device("cpu")
    rollouts = generate(
        model,
        [ids for _, ids in prompts],
        num_samples,
        sampling,
        eos_token_id=tokenizer.eos_token_id,
        generator=torch.Generator(device=device).manual_seed(seed),
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
                "prompt": prompts[problem_index][0],
                "completion": text,
                "num_completion_tokens": len(ids),
                "truncated": bool(truncated) and text == written,
                **measure_natural(text, problem),
            }
        )
    return pd.DataFrame(rows)


def measure_natural(text: str, problem: Problem) -> dict[str, bool | int | str]:
    """Return verdict, equations, behaviours and keywords of a completion in natural English; never raises."""
    verdict = verify_completion(text, problem)
    census = take_census(text, problem.numbers, problem.target)
    return {
        "correct": verdict.correct,
        "reason": verdict.reason,
        "answered": verdict.reason not in ("no_answer", "open_answer", "not_read"),
        "num_equations": census.num_equations,
        "num_true_equations": census.num_true_equations,
        "num_attempts": census.num_attempts,
        **{f"{behaviour}_count": census.count(behaviour) for behaviour in BEHAVIOURS},
        "keyword_count": count_keywords(text),
    }


def natural_summary(completions: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Return measures with 95 % intervals, problems resampled: columns measure, value, lower, upper, count."""
    measured = pd.DataFrame(
        {
            "problem": completions["problem"],
            "pass@1": completions["correct"].astype(float),
            "frac_answered": completions["answered"].astype(float),
            "frac_truncated": completions["truncated"].astype(float),
            "mean_completion_tokens": completions["num_completion_tokens"].astype(float),
            "mean_attempts": completions["num_attempts"].astype(float),
            **{f"frac_with_{b}": (completions[f"{b}_count"] > 0).astype(float) for b in BEHAVIOURS},
            "frac_with_keywords": (completions["keyword_count"] > 0).astype(float),
        }
    )
    means = measured.groupby("problem", sort=True).mean()
    rows = []
    for name in means.columns:
        rng = np.random.default_rng(derive_seed(seed, "bootstrap", str(name)))
        interval = bootstrap_interval(means[name].to_numpy(), rng)
        rows.append({"measure": name, **interval._asdict(), "count": len(completions)})
    equations = float(completions["num_equations"].sum())
    true_share = float(completions["num_true_equations"].sum()) / equations if equations else np.nan
    missing = {"lower": np.nan, "upper": np.nan}
    rows.append({"measure": "frac_true_equations", "value": true_share, **missing, "count": int(equations)})
    return pd.DataFrame(rows)
