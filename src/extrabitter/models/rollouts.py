"""Rollouts: many completions of many prompts, fast on a CPU, from the distribution of `model.generate`.

One prefill per distinct prompt, shared by its group; a preallocated key-value cache; no work on finished rows;
few, fused operations a token. Rows advance in lock step, a chunk at a time, so that a token writes one cache
column and attends to no column of a longer neighbour; memory does not grow with the number of completions.
Left out: beam search, repetition penalties. Models that `decoder` does not know go to `model.generate`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from extrabitter.models.decoder import WIDTH, Decoder
from extrabitter.models.dial import dial_of
from extrabitter.models.fused import is_supported
from extrabitter.models.sampling import SamplingParameters, by_generate, draw
from extrabitter.models.tiny import NOT_FINITE, CheckpointError

SCORE_BYTES = 4 * 2**30  # for the scores that `model.generate` keeps
Jobs = list[tuple[tuple[int, ...], int]]  # a prompt's token ids, and a row of the output
__all__ = ["Rollouts", "SamplingParameters", "generate"]


@dataclass(frozen=True)
class Rollouts:
    """B * G completions, all generations of the first prompt first; each ends in an end unless truncated.

    `logprobs` are those of the distribution a token was drawn from; of a forced token, and under greedy
    decoding, those of the model at the temperature (greedy: 1) without top-k, top-p and min-p.
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
    forced_ids: Sequence[int] = (),
    with_logprobs: bool = True,
) -> Rollouts:
    """Draw `num_generations` completions of each prompt, given as token ids, of any lengths.

    A completion ends with the first of `end_ids` (`hub.end_ids`) that it draws. `forced_ids` open every completion
    and count towards `max_completion_length`. Tokens masked with `tiny.mask_tokens` are never drawn. Without
    `with_logprobs` these may be NaN, which spares `model.generate` a vocabulary's scores for each token. Raises with
    one line: ValueError on impossible arguments, CheckpointError where the model's logits are not finite.
    """
    if num_generations < 1 or not all(len(prompt) for prompt in prompts):
        raise ValueError("rollouts: need num_generations >= 1 and prompts of at least one token")
    if len(forced_ids) >= sampling.max_completion_length or set(end_ids) & set(forced_ids):
        raise ValueError("forced_ids: must be shorter than max_completion_length, and must end no completion")
    is_fast = is_supported(model)
    if dial_of(model) and not is_fast:
        raise ValueError("search_bias: only with models that are sampled here, not by model.generate")

    was_training = model.training
    sampler = _Sampler(model.eval(), sampling, sorted(end_ids), generator, [*forced_ids], with_logprobs)
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
    forced_ids: list[int]
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
        """Put prompts and forced tokens into the decoder's cache, draw the first free token; return the state.

        The state (4, N) of rows that go on: their rows of the output; last tokens, not yet in the cache; columns of
        left padding; whether a search has begun before that token.
        """
        places = {prompt: place for place, prompt in enumerate(dict.fromkeys(prompt for prompt, _ in jobs))}
        ids, mask = self._padded(list(places))
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        options = {"position_ids": positions, "logits_to_keep": len(self.forced_ids) + 1, "use_cache": True}
        output = self.model(ids, attention_mask=mask, **options)
        logits, begun = output.logits, torch.zeros_like(ids)[:, -len(self.forced_ids) - 1 :]
        if dial := dial_of(self.model):
            begun = dial.has_begun(ids)[:, -len(self.forced_ids) - 1 :]
            logits = dial.biased(logits, begun)
        sources = torch.tensor([(places[prompt], row) for prompt, row in jobs], device=ids.device)
        source, rows = sources.unbind(dim=1)
        self._record_forced(rows, logits[source])
        last, logprobs = draw(logits[source, -1], self.sampling, self.generator)
        self.tokens[rows, len(self.forced_ids)], self.logprobs[rows, len(self.forced_ids)] = last, logprobs
        alive, padding = ~self.ends[last], (mask[source] == 0).sum(dim=1)
        cache = Decoder.cached(output.past_key_values).index_select(2, source[alive])
        decoder.cache[:, :, : cache.shape[2], :, : ids.shape[1]] = cache
        return torch.stack((rows, last, padding, begun[source, -1].long()))[:, alive]

    def _advance(self, decoder: Decoder, state: Tensor) -> None:
        """Generate until every row of the decoder's cache has ended."""
        alive, age = torch.ones_like(state[0], dtype=torch.bool), len(self.forced_ids) + 1  # in tokens
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
        first, own = len(self.forced_ids), self.generator
        asked = {"max_new_tokens": self.tokens.shape[1] - first, "output_scores": self.with_logprobs}
        row_bytes = 3 * 4 * len(self.ends) * self.sampling.max_completion_length  # scores, 2 copies
        width = max(1, min(WIDTH, SCORE_BYTES // row_bytes)) if self.with_logprobs else WIDTH
        for block in (jobs[start : start + width] for start in range(0, len(jobs), width)):
            ids, mask = self._padded([prompt for prompt, _ in block])
            rows = torch.tensor([row for _, row in block], device=ids.device)
            if first:
                self._record_forced(rows, self.model(ids, attention_mask=mask).logits[:, -first - 1 :])
            seed = torch.randint(2**31, (1,), generator=own, device=own.device if own else None)
            with torch.random.fork_rng():  # `generate` draws from the global generator only
                torch.manual_seed(int(seed))
                inputs = {"inputs": ids, "attention_mask": mask}
                output = by_generate(self.model, inputs, self.sampling, self.end_ids, **asked)
            tokens = output.sequences[:, ids.shape[1] :]
            end = first + tokens.shape[1]
            self.tokens[rows, first:end], self.logprobs[rows, first:end] = tokens, torch.nan
            if self.with_logprobs:
                scores = torch.stack(output.scores, dim=1).log_softmax(dim=-1)  # (N, T - F, V)
                self.logprobs[rows, first:end] = scores.gather(2, tokens[..., None])[..., 0]

    def _padded(self, prompts: list[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
        """Return token ids and attention mask (N, P + F) of prompts and forced tokens, padded on the left."""
        padding = torch.tensor([self.prompt_length - len(prompt) for prompt in prompts])
        rows = [[0] * (self.prompt_length - len(prompt)) + [*prompt, *self.forced_ids] for prompt in prompts]
        ids = torch.tensor(rows, device=self.model.device)
        return ids, (torch.arange(ids.shape[1]) >= padding[:, None]).long().to(ids.device)

    def _record_forced(self, rows: Tensor, logits: Tensor) -> None:
        """Write the forced tokens and their log-probabilities, from logits (N, F + 1, V), to the output."""
        forced = torch.tensor(self.forced_ids, dtype=torch.long, device=rows.device).expand(len(rows), -1)
        scores = (logits[:, :-1] / (self.sampling.temperature or 1.0)).log_softmax(dim=-1)
        self.tokens[rows, : forced.shape[1]] = forced
        self.logprobs[rows, : forced.shape[1]] = scores.gather(2, forced[..., None])[..., 0]
