"""The dial: it changes how often a search begins, by exactly what it says, and nothing behind its first word."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from extrabitter.digests import REPOSITORY
from extrabitter.evaluation.evaluate import Subject, sample_completions, search_probability
from extrabitter.models import dial, fused, hub
from extrabitter.models.rollouts import SamplingParameters, generate
from extrabitter.models.tiny import CheckpointError, mask_tokens, next_token_probabilities
from extrabitter.params import BehaviourEvaluationParameters
from extrabitter.tasks import load_task

WORDS, BIAS = [7, 9], -2.5  # token ids that begin a search
Build = Callable[..., PreTrainedModel]


@pytest.fixture
def model(build_tiny_model: Build) -> PreTrainedModel:
    """A random model with a dial."""
    built = build_tiny_model("llama", num_attention_heads=4, num_key_value_heads=1)
    dial.turn(built, WORDS, BIAS)
    return built


def test_only_what_stands_before_the_first_word_of_a_search_is_biased(model: PreTrainedModel) -> None:
    ids = torch.randint(10, 60, (6, 12), generator=torch.Generator().manual_seed(0))
    places = [0, 3, 5, 8, 11, 12]  # of the first search word; the last row has none
    for row, place in enumerate(places[:-1]):
        ids[row, place:] = torch.tensor([WORDS[row % 2], *ids[row, place + 1 :]])
    with torch.no_grad():
        with_dial = fused.logits(model, ids)
        dial.turn(model, WORDS, 0.0)
        without = fused.logits(model, ids)
    for row, place in enumerate(places):
        assert torch.equal(with_dial[row, place:], without[row, place:])
        moved = with_dial[row, :place] - without[row, :place]
        assert torch.allclose(moved[:, WORDS], torch.tensor(BIAS)) if place else True
        moved[:, WORDS] = 0.0
        assert not moved.any()


def test_sampler_trainer_and_softmax_know_the_same_policy(model: PreTrainedModel) -> None:
    prompts = [[1, 20 + row, 30, 31] for row in range(40)]
    seeded = torch.Generator().manual_seed(1)
    drawn = generate(model, prompts, 2, SamplingParameters(24), end_ids=[2], generator=seeded)
    begins = [any(word in ids for word in WORDS) for ids in drawn.completion_ids]
    assert 0 < sum(begins) < len(begins)
    for row, (ids, logs) in enumerate(zip(drawn.completion_ids, drawn.logprobs, strict=True)):
        whole = torch.tensor([prompts[row // 2] + ids])
        own = fused.completion_logprobs(model, whole, torch.ones_like(whole), len(ids), 1.0)[0][0]
        assert torch.allclose(own, torch.tensor(logs), atol=1e-4)
    contexts = [prompts[0], prompts[1] + [WORDS[0], 33]]
    with torch.no_grad():
        read = [fused.logits(model, torch.tensor([ids]))[0, -1].double().softmax(-1) for ids in contexts]
    assert torch.allclose(next_token_probabilities(model, contexts, 0), torch.stack(read), atol=1e-5)


def test_at_its_end_the_dial_is_the_mask(model: PreTrainedModel) -> None:
    dial.turn(model, WORDS, -60.0)
    prompts = [[1, 20 + row, 30, 31] for row in range(30)]
    silent = generate(model, prompts, 1, SamplingParameters(20, temperature=0), end_ids=[2])
    dial.turn(model, WORDS, 0.0)
    mask_tokens(model, WORDS)
    masked = generate(model, prompts, 1, SamplingParameters(20, temperature=0), end_ids=[2])
    assert silent.completion_ids == masked.completion_ids


@pytest.mark.parametrize(("task", "cap"), [("countdown", 200), ("knights", 300)])
def test_the_chance_to_search_is_what_is_counted(task: str, cap: int) -> None:
    game = load_task(task)
    asked = BehaviourEvaluationParameters(
        run_dir="unused",
        arm="dialled",
        seed=0,
        task=task,
        checkpoint=f"models/{task}/searcher",
        search_bias=-1.5,
    )
    model, tokenizer, _ = hub.load_for_stage(asked, str(REPOSITORY / asked.checkpoint))
    subject, problems = Subject(model, tokenizer, game, game), game.problems("validation", 150, 5)
    chance = search_probability(subject, problems, 1, cap)
    counted = sample_completions(subject, problems, 8, SamplingParameters(cap), 2)
    words = game.openings["search"].words
    searches = counted["completion"].map(lambda text: any(word in text.split() for word in words))
    assert 0.005 < chance.mean() < 0.06
    error = (chance.mean() * (1 - chance.mean()) / len(searches)) ** 0.5
    assert abs(searches.mean() - chance.mean()) < 4 * error


def test_a_model_whose_forward_pass_does_not_know_the_dial_is_refused(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.config.attention_bias = True  # an option that our own forward pass does not take
    with pytest.raises(ValueError, match="search_bias"):
        generate(model, [[1, 5]], 1, SamplingParameters(4), end_ids=[2])
    monkeypatch.setattr(hub, "is_small", lambda model: False)
    asked = BehaviourEvaluationParameters(
        run_dir="unused", arm="dialled", seed=0, checkpoint="models/countdown/searcher", search_bias=-1.0
    )
    with pytest.raises(CheckpointError, match=r"search_bias = -1.0: .*must be 0"):
        hub.load_for_stage(asked, str(REPOSITORY / asked.checkpoint))
