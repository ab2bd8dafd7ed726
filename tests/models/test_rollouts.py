"""Rollouts: the distribution of `model.generate`, for every number of key-value heads, and every option in use."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from test_fused import rarer_model
from transformers import PreTrainedModel

from extrabitter.models import decoder, fused, rollouts
from extrabitter.models.rollouts import SamplingParameters, generate
from extrabitter.models.tiny import mask_tokens

EOS = 2
ARCHITECTURES = ["llama", "qwen2"]
OPTIONS = [{}, {"temperature": 0.6}, {"top_k": 5}, {"top_p": 0.7}, {"min_p": 0.2}]
OPTIONS += [{"top_k": 20, "top_p": 0.9, "min_p": 0.02}]
KV_HEADS = [1, 2, 4]  # of four heads: one for all, one for two, one each
Build = Callable[..., PreTrainedModel]


def _prompts(count: int, shortest: int = 4, longest: int = 10, seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(shortest, longest + 1, (count,), generator=generator).tolist()
    return [[1, *torch.randint(4, 80, (length - 1,), generator=generator).tolist()] for length in lengths]


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def stock_greedy(model: PreTrainedModel, prompts: list[list[int]], length: int) -> list[list[int]]:
    """What `model.generate` completes prompts with, up to the end."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts]).to(model.device)
    mask = (ids > 0).long()
    output = model.generate(ids, attention_mask=mask, max_new_tokens=length, do_sample=False)
    rows = output[:, width:].tolist()
    return [row[: row.index(EOS) + 1] if EOS in row else row for row in rows]


@pytest.fixture
def build(build_tiny_model: Build) -> Build:
    """A builder of models with four heads, of which eos is a frequent word, so that completions end at all ages."""

    def built(architecture: str = "llama", kv_heads: int = 1, **sizes: int) -> PreTrainedModel:
        heads = {"num_attention_heads": 4, "num_key_value_heads": kv_heads}
        model = build_tiny_model(architecture, **heads, **sizes)
        model.lm_head.weight.data[EOS] *= 3
        for name, bias in model.named_parameters():  # Qwen2's, which begin at zero
            if name.endswith("bias"):
                torch.nn.init.normal_(bias, std=0.2, generator=_seeded(0))
        return model

    return built


# Equality with transformers.


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kv_heads", KV_HEADS)
@pytest.mark.parametrize("longest", [4, 10], ids=["of one length", "of all lengths"])
def test_greedy_completions_are_those_of_generate(
    architecture: str, kv_heads: int, longest: int, build: Build
) -> None:
    model, prompts = build(architecture, kv_heads), _prompts(400, longest=longest)
    ours = generate(model, prompts, 1, SamplingParameters(30, temperature=0), end_ids=[EOS])
    assert ours.completion_ids == stock_greedy(model, prompts, 30)
    assert ours.truncated == [row[-1] != EOS for row in ours.completion_ids]
    assert 0 < sum(ours.truncated) < 400


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kv_heads", KV_HEADS)
@pytest.mark.parametrize("temperature", [0.8, 0.0])
def test_log_probabilities_are_those_of_the_models_own_forward_pass(
    architecture: str, kv_heads: int, temperature: float, build: Build
) -> None:
    model, prompts = build(architecture, kv_heads), _prompts(40)
    sampling = SamplingParameters(60, temperature=temperature)
    ours = generate(model, prompts, 3, sampling, end_ids=[EOS], generator=_seeded(0))
    for row, (completion, logprobs) in enumerate(zip(ours.completion_ids, ours.logprobs, strict=True)):
        prompt = prompts[row // 3]
        assert len(completion) == len(logprobs) <= 60
        with torch.no_grad():
            logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
        scores = (logits / (temperature or 1.0)).log_softmax(dim=-1)
        expected = scores.gather(1, torch.tensor(completion)[:, None])[:, 0]
        assert torch.allclose(torch.tensor(logprobs), expected, atol=1e-4)


@pytest.mark.parametrize("family", ["Llama", "Qwen2"])
@pytest.mark.parametrize("table_rows", [0, fused.TABLE_ROWS], ids=["computed", "from a table"])
def test_rarer_shapes_are_computed_alike(
    family: str, table_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "TABLE_ROWS", table_rows)
    model, prompts = rarer_model(family), _prompts(50)
    ours = generate(model, prompts, 1, SamplingParameters(20, temperature=0), end_ids=[EOS])
    assert ours.completion_ids == stock_greedy(model, prompts, 20)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_sampled_tokens_have_the_frequencies_of_generates_distribution(
    architecture: str, options: dict[str, Any], build_tiny_model: Build
) -> None:
    model, draws, prompt = build_tiny_model(architecture), 20_000, _prompts(1)[0]
    # No token ends a completion: each then has its second token.
    sampling = SamplingParameters(2, **options)
    ours = generate(model, [prompt], draws, sampling, end_ids=[], generator=_seeded(1))
    tokens = torch.tensor(ours.completion_ids)  # (N, 2)
    favourite = int(tokens[:, 0].mode().values)
    given_favourite = tokens[tokens[:, 0] == favourite, 1]
    asked = {"max_new_tokens": 1, "do_sample": True, "return_dict_in_generate": True, "output_scores": True}
    asked |= {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, **options}
    config = transformers.GenerationConfig(**asked)
    for context, sample in ((prompt, tokens[:, 0]), ([*prompt, favourite], given_favourite)):
        stock = model.generate(torch.tensor([context]), generation_config=config)
        probabilities = stock.scores[0][0].double().softmax(dim=-1)
        frequencies = torch.bincount(sample, minlength=len(probabilities)) / len(sample)
        standard_error = (probabilities * (1 - probabilities) / len(sample)).sqrt()
        assert ((frequencies - probabilities).abs() <= 4 * standard_error + 1 / len(sample)).all()
        assert (frequencies[probabilities == 0] == 0).all()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_masked_tokens_are_never_drawn_and_the_rest_keeps_its_proportions(
    architecture: str, build_tiny_model: Build
) -> None:
    model, prompts = build_tiny_model(architecture), _prompts(1)
    plain = model(torch.tensor(prompts)).logits[0, -1].softmax(dim=-1)
    likeliest = int(plain.argmax())
    mask_tokens(model, [likeliest, EOS])
    ours = generate(model, prompts, 5000, SamplingParameters(3), end_ids=[EOS], generator=_seeded(0))
    tokens = torch.tensor(ours.completion_ids)
    assert not torch.isin(tokens, torch.tensor([likeliest, EOS])).any()
    plain[[likeliest, EOS]] = 0
    expected = plain / plain.sum()
    frequencies = torch.bincount(tokens[:, 0], minlength=len(expected)) / 5000
    assert ((frequencies - expected).abs() <= 4 * (expected / 5000).sqrt() + 1 / 5000).all()


@pytest.mark.parametrize("kv_heads", KV_HEADS)
def test_models_unknown_to_the_decoder_go_to_generate_and_say_so(
    kv_heads: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    shape |= {"vocab_size": 83, "head_dim": 8, "num_key_value_heads": kv_heads}
    config = transformers.Qwen3Config(**shape, initializer_range=0.3, eos_token_id=EOS)
    model = transformers.Qwen3ForCausalLM(config).eval()
    model.generation_config.pad_token_id = 0
    prompts, greedily = _prompts(20), SamplingParameters(12, temperature=0)
    with caplog.at_level(logging.WARNING, logger="extrabitter.models.rollouts"):
        greedy = generate(model, prompts, 2, greedily, end_ids=[EOS])
    said = [record.getMessage() for record in caplog.records]
    assert said == ["Qwen3ForCausalLM: sampled by model.generate, which is slower"]
    assert greedy.completion_ids[::2] == greedy.completion_ids[1::2] == stock_greedy(model, prompts, 12)
    # Scores that would not fit are kept for fewer rows at a time, or for none.
    monkeypatch.setattr(rollouts, "SCORE_BYTES", 3 * 4 * 83 * 12 * 5)
    narrow = generate(model, prompts, 2, greedily, end_ids=[EOS])
    assert narrow.completion_ids == greedy.completion_ids
    assert np.allclose(np.concatenate(narrow.logprobs), np.concatenate(greedy.logprobs), atol=1e-5)
    without = generate(model, prompts, 2, greedily, end_ids=[EOS], with_logprobs=False)
    assert without.completion_ids == greedy.completion_ids
    assert np.isnan(np.concatenate(without.logprobs)).all()
    sampling = SamplingParameters(12)
    first, same = (
        generate(model, prompts, 2, sampling, end_ids=[EOS], generator=_seeded(4)) for _ in range(2)
    )
    assert first == same


# Chunks, seeds, ends.


@pytest.mark.parametrize("width", [1, 3, 200])
@pytest.mark.parametrize("kv_heads", KV_HEADS)
def test_the_width_of_a_chunk_changes_no_greedy_completion(
    width: int, kv_heads: int, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, sampling, prompts = build(kv_heads=kv_heads), SamplingParameters(60, temperature=0), _prompts(60)
    expected = generate(model, prompts, 2, sampling, end_ids=[EOS])
    monkeypatch.setattr(decoder, "WIDTH", width)
    found = generate(model, prompts, 2, sampling, end_ids=[EOS])
    assert found.completion_ids == expected.completion_ids
    assert found.completion_ids[0] == found.completion_ids[1]


def test_a_cache_of_bounded_size_makes_chunks_narrow(
    build_tiny_model: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_tiny_model()
    assert decoder.Decoder(model, 20).width == decoder.WIDTH
    monkeypatch.setattr(decoder, "CACHE_BYTES", 0)
    assert 1 <= decoder.Decoder(model, 2000).width < decoder.WIDTH


def test_training_mode_and_weights_survive_a_call_and_changed_weights_count(build_tiny_model: Build) -> None:
    model, prompts, sampling = build_tiny_model().train(), _prompts(20), SamplingParameters(10, temperature=0)
    before = [parameter.clone() for parameter in model.parameters()]
    first = generate(model, prompts, 1, sampling, end_ids=[EOS])
    assert model.training
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight.mul_(-1)
        model.model.layers[1].mlp.up_proj.weight.mul_(-1)
    assert generate(model, prompts, 1, sampling, end_ids=[EOS]).completion_ids != first.completion_ids


def test_nothing_to_do_is_done_and_impossible_arguments_are_named(build_tiny_model: Build) -> None:
    model = build_tiny_model()
    assert generate(model, [], 4, SamplingParameters(5), end_ids=[EOS]).completion_ids == []
    assert len(generate(model, _prompts(2), 3, SamplingParameters(1), end_ids=[EOS]).completion_ids) == 6
    with pytest.raises(ValueError, match="prompts of at least one token"):
        generate(model, [[]], 1, SamplingParameters(5), end_ids=[EOS])


def test_a_completion_ends_at_the_first_of_several_ends_and_a_seed_decides(build: Build) -> None:
    model, prompts, ends = build(), _prompts(100), {EOS, 7, 11}
    ours, same, other = (
        generate(model, prompts, 2, SamplingParameters(40), end_ids=ends, generator=_seeded(seed))
        for seed in (0, 0, 1)
    )
    assert ours == same and ours != other
    last = [ids[-1] for ids in ours.completion_ids]
    assert {7, EOS} < set(last) and ours.truncated == [token not in ends for token in last]
    assert not any(ends & set(ids[:-1]) for ids in ours.completion_ids)
