"""Rollouts: many completions of many prompts, fast on a CPU, from the distribution of `model.generate`.

One prefill per distinct prompt, shared by its group; a preallocated key-value cache; no work on finished rows;
few, fused operations a token. Rows advance in lock step, a chunk at a time, so that a token writes one cache
column and attends to no column of a longer neighbour; memory does not grow with the number of completions.

A next token is drawn by temperature, top-k, top-p and min-p, in the order of `model.generate`, and by nothing else. A
checkpoint may bring settings of its own (a repetition penalty, tokens to suppress, beams). They are no part of the
policy that is trained and measured: models that `decoder` does not know go to `by_generate`, which keeps
`model.generate` from reading them.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from extrabitter.models.decoder import WIDTH, Decoder
from extrabitter.models.dial import dial_of
from extrabitter.models.fused import is_supported
from extrabitter.models.tiny import NOT_FINITE, CheckpointError

SCORE_BYTES = 4 * 2**30  # for the scores that `model.generate` keeps
Jobs = list[tuple[tuple[int, ...], int]]  # a prompt's token ids, and a row of the output


@dataclass(frozen=True)
class SamplingParameters:
    """Temperature (0 = greedy), top-k (0 = off), top-p, min-p, and the number of tokens to stop at."""

    max_completion_length: int
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0


@dataclass(frozen=True)
class Rollouts:
    """B * G completions, all generations of the first prompt first; each ends in an end unless truncated.

    `logprobs` are those of the distribution a token was drawn from; under greedy decoding those of the model.
    """

    completion_ids: list[list[int]]
    logprobs: list[list[float]]
    truncated: list[bool]


def generate(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    num_generations: int,
    sampling: SamplingParameters,
    *,
    end_ids: Collection[int],
    generator: torch.Generator | None = None,
    with_logprobs: bool = True,
) -> Rollouts:
    """Draw `num_generations` completions of each prompt, given as token ids, of any lengths.

    A completion ends with the first of `end_ids` (`hub.end_ids`) that it draws. Tokens masked with `tiny.mask_tokens`
    are never drawn. Without `with_logprobs` these may be NaN, which spares `model.generate` a vocabulary's scores for
    each token. Raises with one line: ValueError on impossible arguments, CheckpointError where the model's logits are
    not finite.
    """
    if num_generations < 1 or not all(len(prompt) for prompt in prompts):
        raise ValueError("rollouts: need num_generations >= 1 and prompts of at least one token")
    is_fast = is_supported(model)
    if dial_of(model) and not is_fast:
        raise ValueError("search_bias: only with models that are sampled here, not by model.generate")

    was_training = model.training
    sampler = _Sampler(model.eval(), sampling, sorted(end_ids), generator, with_logprobs)
    try:
        with torch.inference_mode():
            tokens, logprobs = sampler.run(prompts, num_generations, is_fast)  # both (B * G, T)
    finally:
        model.train(was_training)
    ended = torch.isin(tokens, torch.tensor(sorted(end_ids), dtype=torch.long))  # (B * G, T)
    truncated = ~ended.any(dim=1)
    lengths = torch.where(truncated, tokens.shape[1], ended.int().argmax(dim=1) + 1)  # (B * G,)
    read = torch.arange(tokens.shape[1]) < lengths[:, None]
    if (with_logprobs or is_fast) and not logprobs[read].isfinite().all():
        raise CheckpointError(NOT_FINITE)

    def cut(values: Tensor) -> list[list[Any]]:
        return [row[:length].tolist() for row, length in zip(values.numpy(), lengths.tolist(), strict=True)]

    return Rollouts(cut(tokens), cut(logprobs), truncated.tolist())


@dataclass
class _Sampler:
    """One call of `generate`."""

    model: PreTrainedModel
    sampling: SamplingParameters
    end_ids: list[int]
    generator: torch.Generator | None
    with_logprobs: bool

    def run(
        self, prompts: Sequence[Sequence[int]], num_generations: int, is_fast: bool
    ) -> tuple[Tensor, Tensor]:
        """Return tokens and log-probabilities, both (B * G, max_completion_length), on the CPU."""
        each = [tuple(prompt) for prompt in prompts for _ in range(num_generations)]
        jobs = [(prompt, row) for row, prompt in enumerate(each)]
        shape = (len(jobs), self.sampling.max_completion_length)
        self.tokens = torch.zeros(shape, dtype=torch.long, device=self.model.device)
        self.logprobs = torch.zeros(shape, device=self.model.device)
        self.ends = torch.zeros(len(self.model.get_output_embeddings().weight), dtype=torch.bool)
        self.ends[self.end_ids] = True
        self.ends = self.ends.to(self.model.device)  # (V,)
        self.prompt_length = max((len(prompt) for prompt in prompts), default=0)
        if is_fast:
            decoder = Decoder(self.model, self.prompt_length + self.sampling.max_completion_length)
            for start in range(0, len(jobs), decoder.width):
                self._advance(decoder, self._prefilled(decoder, jobs[start : start + decoder.width]))
        else:
            name = type(self.model).__name__
            logging.getLogger(__name__).warning("%s: sampled by model.generate, which is slower", name)
            self._run_by_generate(jobs)
        return self.tokens.cpu(), self.logprobs.cpu()

    def _prefilled(self, decoder: Decoder, jobs: Jobs) -> Tensor:
        """Put prompts into the decoder's cache, draw the first token; return the state.

        The state (4, N) of rows that go on: their rows of the output; last tokens, not yet in the cache; columns of
        left padding; whether a search has begun before that token.
        """
        places = {prompt: place for place, prompt in enumerate(dict.fromkeys(prompt for prompt, _ in jobs))}
        ids, mask = self._padded(list(places))
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        options = {"position_ids": positions, "logits_to_keep": 1, "use_cache": True}
        output = self.model(ids, attention_mask=mask, **options)
        logits, begun = output.logits[:, -1], torch.zeros_like(ids[:, -1])
        if dial := dial_of(self.model):
            begun = dial.has_begun(ids)[:, -1]
            logits = dial.biased(logits, begun)
        sources = torch.tensor([(places[prompt], row) for prompt, row in jobs], device=ids.device)
        source, rows = sources.unbind(dim=1)
        last, logprobs = draw(logits[source], self.sampling, self.generator)
        self.tokens[rows, 0], self.logprobs[rows, 0] = last, logprobs
        alive, padding = ~self.ends[last], (mask[source] == 0).sum(dim=1)
        cache = Decoder.cached(output.past_key_values).index_select(2, source[alive])
        decoder.cache[:, :, : cache.shape[2], :, : ids.shape[1]] = cache
        return torch.stack((rows, last, padding, begun[source].long()))[:, alive]

    def _advance(self, decoder: Decoder, state: Tensor) -> None:
        """Generate until every row of the decoder's cache has ended."""
        alive, age = torch.ones_like(state[0], dtype=torch.bool), 1  # in tokens
        dial = dial_of(self.model)
        while age < self.sampling.max_completion_length and state.shape[1]:
            rows, last, padding, begun = state
            columns = self.prompt_length + age  # with the one that `last` is about to fill
            logits = decoder.logits(last, padding, columns)
            if dial:
                begun |= dial.has_begun(last[:, None])[:, 0]
                logits = dial.biased(logits, begun.bool())
            last[:], logprobs = draw(logits, self.sampling, self.generator)
            self.tokens[rows, age], self.logprobs[rows, age] = last, logprobs
            alive &= ~self.ends[last]
            age += 1
            count = int(alive.sum())
            # Dropping a finished row costs moving a later one; what it draws until then, behind its end, nobody reads.
            if len(rows) - count > len(rows) // 16 or not count:
                holes, movers = (~alive[:count]).nonzero()[:, 0], count + alive[count:].nonzero()[:, 0]
                if len(holes):
                    used = decoder.cache[..., :columns, :]
                    used.index_copy_(2, holes, used.index_select(2, movers))
                    state[:, holes] = state[:, movers]
                state, alive = state[:, :count], torch.ones_like(alive[:count])

    def _run_by_generate(self, jobs: Jobs) -> None:
        """Fill tokens and log-probabilities by `model.generate`, a block of rows at a time."""
        own = self.generator
        asked = {"max_new_tokens": self.tokens.shape[1], "output_scores": self.with_logprobs}
        row_bytes = 3 * 4 * len(self.ends) * self.sampling.max_completion_length  # scores, 2 copies
        width = max(1, min(WIDTH, SCORE_BYTES // row_bytes)) if self.with_logprobs else WIDTH
        for block in (jobs[start : start + width] for start in range(0, len(jobs), width)):
            ids, mask = self._padded([prompt for prompt, _ in block])
            rows = torch.tensor([row for _, row in block], device=ids.device)
            seed = torch.randint(2**31, (1,), generator=own, device=own.device if own else None)
            with torch.random.fork_rng():  # `generate` draws from the global generator only
                torch.manual_seed(int(seed))
                inputs = {"inputs": ids, "attention_mask": mask}
                output = by_generate(self.model, inputs, self.sampling, self.end_ids, **asked)
            tokens = output.sequences[:, ids.shape[1] :]
            end = tokens.shape[1]
            self.tokens[rows, :end], self.logprobs[rows, :end] = tokens, torch.nan
            if self.with_logprobs:
                scores = torch.stack(output.scores, dim=1).log_softmax(dim=-1)  # (N, T, V)
                self.logprobs[rows, :end] = scores.gather(2, tokens[..., None])[..., 0]

    def _padded(self, prompts: list[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
        """Return token ids and attention mask (N, P) of prompts, padded on the left."""
        padding = torch.tensor([self.prompt_length - len(prompt) for prompt in prompts])
        rows = [[0] * (self.prompt_length - len(prompt)) + [*prompt] for prompt in prompts]
        ids = torch.tensor(rows, device=self.model.device)
        return ids, (torch.arange(ids.shape[1]) >= padding[:, None]).long().to(ids.device)


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
