"""Rollouts of models that `decoder` does not know: by `model.generate`, into the same tables, slower."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from extrabitter.models.decoder import WIDE

if TYPE_CHECKING:
    from extrabitter.models.rollouts import Groups, Sampler

SCORE_BYTES = 4 * 2**30  # for the scores that `model.generate` keeps


def run_generate(sampler: Sampler, groups: Groups) -> None:
    """Fill a sampler's tokens and log-probabilities by `model.generate`, a block of rows at a time."""
    from transformers import GenerationConfig

    model, sampling, num_forced = sampler.model, sampler.sampling, len(sampler.forced_ids)
    drawn = {key: getattr(sampling, key) for key in ("temperature", "top_k", "top_p", "min_p")}
    config = GenerationConfig(
        max_new_tokens=sampling.max_completion_length - num_forced,
        eos_token_id=sampler.end_ids or None,
        pad_token_id=max(sampler.end_ids, default=0),  # what follows the first end is not read
        return_dict_in_generate=True,
        output_scores=sampler.with_logprobs,
        **({"do_sample": True, **drawn} if sampling.temperature else {"do_sample": False}),
    )
    jobs = [(prompt, row) for prompt, rows in groups.items() for row in rows]
    row_bytes = 3 * 4 * model.config.vocab_size * sampling.max_completion_length  # scores, 2 copies
    width = max(1, min(WIDE, SCORE_BYTES // row_bytes)) if sampler.with_logprobs else WIDE
    for block in (jobs[start : start + width] for start in range(0, len(jobs), width)):
        ids, mask = sampler.padded([prompt for prompt, _ in block])
        rows = torch.tensor([row for _, row in block], device=ids.device)
        if num_forced:
            sampler.record_forced(rows, model(ids, attention_mask=mask).logits[:, -num_forced - 1 :])
        own = sampler.generator
        seed = torch.randint(2**31, (1,), generator=own, device=own.device if own else None)
        with torch.random.fork_rng():  # `generate` draws from the global generator only
            torch.manual_seed(int(seed))
            output = model.generate(ids, attention_mask=mask, generation_config=config)
        tokens = output.sequences[:, ids.shape[1] :]
        end = num_forced + tokens.shape[1]
        sampler.tokens[rows, num_forced:end] = tokens
        sampler.logprobs[rows, num_forced:end] = torch.nan
        if sampler.with_logprobs:
            scores = torch.stack(output.scores, dim=1).log_softmax(dim=-1)  # (N, T - F, V)
            sampler.logprobs[rows, num_forced:end] = scores.gather(2, tokens[..., None])[..., 0]
