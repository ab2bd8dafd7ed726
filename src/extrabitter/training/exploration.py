"""Exploration: search is forced into a share of the rollouts, so that the sampler stops being the barrier.

Behind a first attempt the model submits or searches. With a chance `share` this choice is taken from it: one of the
search words is forced, in the model's own proportion, and the model goes on by itself. What is drawn is then a
mixture of the policy and of the forced one. Weighted by policy over mixture, the expected gradient is again the
policy gradient, as small as the chance to search makes it: only the sampling barrier falls. Unweighted, the score of
the policy is summed over samples of the mixture: no policy's gradient, and not small where search is forced often.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from extrabitter.models.rollouts import Rollouts, generate
from extrabitter.models.sampling import SamplingParameters
from extrabitter.models.tiny import next_token_probabilities, word_ids
from extrabitter.tasks import Task


class Explored(NamedTuple):
    """Completions after exploration; `weights` (B * G,) are policy over mixture at each choice: their mean is 1."""

    completion_ids: list[list[int]]
    logprobs: list[list[float]]
    weights: list[float]


def importance_weights(probabilities: torch.Tensor, searches: torch.Tensor, share: float) -> torch.Tensor:
    """Return policy over mixture at choices that came out as `searches`; shapes (N,).

    `probabilities` p are the policy's of searching, given that there is a choice. The mixture searches with
    chance share + (1 - share) p.
    Source: ours; importance sampling of a policy by another, as in D. Precup, R. S. Sutton and S. Singh, Eligibility
    Traces for Off-Policy Policy Evaluation, ICML 2000.

    >>> weights = importance_weights(torch.tensor([0.5, 0.5]), torch.tensor([True, False]), 0.2)
    >>> [round(weight, 4) for weight in weights.tolist()]
    [0.8333, 1.25]
    """
    return torch.where(searches, probabilities / (share + (1 - share) * probabilities), 1 / (1 - share))


def explore(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    prompt_ids: Sequence[list[int]],
    rollouts: Rollouts,
    sampling: SamplingParameters,
    share: float,
    ends: Collection[int],
    generator: torch.Generator,
) -> Explored:
    """Force search behind the first attempt of a share of rollouts, one prompt each, and finish them on-policy.

    Completions that reach no choice stay as they are, with weight 1; so do those at whose choice the model cannot
    search at all. `share` lies in [0, 1); all completions keep to `sampling.max_completion_length`.
    """
    search_ids = word_ids(tokenizer, task.search_words)
    choices = {*search_ids, *word_ids(tokenizer, [task.answer_word])}
    completions = [list(ids) for ids in rollouts.completion_ids]
    logprobs = [list(values) for values in rollouts.logprobs]
    weights = torch.ones(len(completions), dtype=torch.float64)
    places = [next((i for i, token in enumerate(ids) if token in choices), -1) for ids in completions]
    rows = [row for row, place in enumerate(places) if place >= 0]
    if not rows:
        return Explored(completions, logprobs, weights.tolist())
    contexts = [prompt_ids[row] + completions[row][: places[row]] for row in rows]
    pad, heat = tokenizer.pad_token_id, sampling.temperature
    distribution = next_token_probabilities(model, contexts, pad, heat).cpu()
    of_words = distribution[:, search_ids]  # (N, search words)
    # There is a choice where the sampler drew one of these words, so the chance to search is that among them.
    probabilities = of_words.sum(dim=1) / distribution[:, sorted(choices)].sum(dim=1)
    possible = probabilities > 0
    drawn = torch.rand(len(rows), generator=generator, dtype=torch.float64, device=generator.device).cpu()
    forced = (drawn < share) & possible
    searches = forced | torch.tensor([completions[row][places[row]] in search_ids for row in rows])
    weights[rows] = torch.where(possible, importance_weights(probabilities, searches, share), 1.0)

    chosen = forced.nonzero()[:, 0].tolist()
    if chosen:
        drawn = torch.multinomial(of_words[chosen].to(generator.device), 1, generator=generator)[:, 0]
        words = [search_ids[index] for index in drawn.tolist()]
        begun = [contexts[n] + [word] for n, word in zip(chosen, words, strict=True)]
        finished = generate(model, begun, 1, sampling, end_ids=ends, generator=generator)
        behind = zip(chosen, words, finished.completion_ids, finished.logprobs, strict=True)
        for n, word, more_ids, more_logs in behind:
            row, kept, limit = rows[n], places[rows[n]], sampling.max_completion_length
            completions[row] = [*completions[row][:kept], word, *more_ids][:limit]
            logprobs[row] = [*logprobs[row][:kept], float(distribution[n, word].log()), *more_logs][:limit]
    return Explored(completions, logprobs, weights.tolist())
