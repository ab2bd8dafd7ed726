"""How a next token is drawn: temperature, top-k, top-p, min-p, in the order of `generate`; and nothing else.

A checkpoint may bring settings of its own (a repetition penalty, tokens to suppress, beams). They are no part of the
policy that is trained and measured: `by_generate` keeps `model.generate` from reading them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from extrabitter.models.tiny import NOT_FINITE, CheckpointError


@dataclass(frozen=True)
class SamplingParameters:
    """Temperature (0 = greedy), top-k (0 = off), top-p, min-p, and the number of tokens to stop at."""

    max_completion_length: int
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0


def by_generate(
    model: PreTrainedModel,
    inputs: dict[str, Tensor],
    sampling: SamplingParameters,
    end_ids: Collection[int],
    **more: Any,
) -> Any:
    """Return the output of `model.generate`, told to draw as `draw` does and to stop at `end_ids`.

    Transformers would fill what it is not told with the settings that the model brings along: they are set aside.
    Raises CheckpointError where logits are not finite.
    """

    def refuse(ids: Tensor, logits: Tensor) -> Tensor:
        if not logits.amax(dim=-1).isfinite().all():
            raise CheckpointError(NOT_FINITE)
        return logits

    drawn = {key: getattr(sampling, key) for key in ("temperature", "top_k", "top_p", "min_p")}
    drawn = {"do_sample": True, **drawn} if sampling.temperature else {"do_sample": False}
    # What follows the first end is not read, so any id may pad it.
    ends = {"eos_token_id": sorted(end_ids) or None, "pad_token_id": max(end_ids, default=0)}
    config = GenerationConfig(return_dict_in_generate=True, **drawn, **ends, **more)
    kept, model.generation_config = model.generation_config, GenerationConfig()
    try:
        return model.generate(**inputs, generation_config=config, logits_processor=[refuse])
    finally:
        model.generation_config = kept


def draw(
    logits: Tensor, sampling: SamplingParameters, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Draw one token per row of `logits` (N, V); return ids (N,) and their log-probabilities (N,)."""
    if sampling.temperature == 0:
        ids = logits.argmax(dim=-1)
        return ids, logits.log_softmax(dim=-1).gather(1, ids[:, None])[:, 0]
    probabilities = distribution(logits, sampling)
    # Inverse transform: one uniform a row instead of V exponentials. In float64, u * total stays below total.
    cumulative = probabilities.cumsum(dim=-1, dtype=torch.float64)
    uniform = torch.rand(len(logits), 1, dtype=torch.float64, device=logits.device, generator=generator)
    ids = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)[:, 0]
    ids.clamp_(max=logits.shape[1] - 1)  # where logits are not finite, which `generate` then says
    return ids, probabilities.gather(1, ids[:, None])[:, 0].log()


def distribution(logits: Tensor, sampling: SamplingParameters) -> Tensor:
    """Return the probabilities that tokens are drawn with, rows of `logits` (N, V); temperature must be above 0."""
    scores = logits if sampling.temperature == 1 else logits / sampling.temperature
    if 0 < sampling.top_k < scores.shape[-1]:
        smallest = scores.topk(sampling.top_k, dim=-1).values[:, -1:]
        scores = scores.masked_fill(scores < smallest, -torch.inf)
    if sampling.top_p < 1:
        ascending, order = scores.sort(dim=-1)
        removed = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - sampling.top_p
        removed[:, -1] = False
        scores = scores.masked_fill(removed.scatter(1, order, removed), -torch.inf)
    if sampling.min_p > 0:
        probabilities = scores.softmax(dim=-1)
        floor = sampling.min_p * probabilities.amax(dim=-1, keepdim=True)
        scores = scores.masked_fill(probabilities < floor, -torch.inf)
    return scores.softmax(dim=-1)
