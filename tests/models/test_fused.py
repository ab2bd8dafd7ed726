"""The fused forward pass: a model's own logits and gradients, for every number of key-value heads and rarer shapes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import transformers
from transformers import PreTrainedModel

from extrabitter.models import fused
from extrabitter.models.tiny import mask_tokens

Build = Callable[..., PreTrainedModel]


@pytest.fixture
def build(build_tiny_model: Build) -> Build:
    """A builder of models whose weights, those of norms and biases too, are all away from where they begin."""

    def built(architecture: str, kv_heads: int = 1) -> PreTrainedModel:
        model = build_tiny_model(architecture, num_attention_heads=4, num_key_value_heads=kv_heads)
        generator = torch.Generator().manual_seed(0)
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
        return model

    return built


def gradients(model: PreTrainedModel, scores: torch.Tensor) -> torch.Tensor:
    """All gradients of some function of logits, in one row."""
    model.zero_grad()
    weights = torch.randn(scores.shape, generator=torch.Generator().manual_seed(1))
    (scores.log_softmax(dim=-1) * weights).sum().backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def check(model: PreTrainedModel, first: int = 0) -> None:
    """Compare logits and gradients with the model's own on a batch."""
    assert fused.is_supported(model)
    ids = torch.randint(4, 80, (3, 17), generator=torch.Generator().manual_seed(2))
    own, ours = model(ids).logits[:, first:], fused.logits(model, ids, first)
    assert torch.allclose(ours.log_softmax(dim=-1), own.log_softmax(dim=-1), atol=1e-4)
    expected = gradients(model, own)
    assert (gradients(model, ours) - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("first", [0, 5])
def test_logits_and_gradients_are_the_models_own(
    architecture: str, kv_heads: int, first: int, build: Build
) -> None:
    check(build(architecture, kv_heads), first)


def test_a_mask_acts_inside_and_a_large_vocabulary_has_no_table(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build("llama")
    mask_tokens(model, [5, 9])
    check(model)
    monkeypatch.setattr(fused, "TABLE_ROWS", 0)
    assert fused.Weights(model).table is None
    check(model)


def rarer_model(family: str) -> PreTrainedModel:
    """A random model of untied embeddings whose heads, norms and rotations are not those by default."""
    torch.manual_seed(0)
    rope = {"rope_type": "linear", "factor": 2.0, "rope_theta": 100.0}
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    sizes |= {"vocab_size": 83, "num_key_value_heads": 2, "head_dim": 16}
    options = {"initializer_range": 0.2, "rms_norm_eps": 0.1, "rope_parameters": rope}
    ids = {"eos_token_id": 2, "pad_token_id": 0, "tie_word_embeddings": False}
    config = getattr(transformers, f"{family}Config")(**sizes, **options, **ids)
    return getattr(transformers, f"{family}ForCausalLM")(config).eval()


@pytest.mark.parametrize("family", ["Llama", "Qwen2"])
def test_rarer_shapes_are_computed_alike(family: str) -> None:
    check(rarer_model(family))


@pytest.mark.parametrize("kv_heads", [1, 4])
def test_what_pads_rows_is_left_out_and_changes_nothing(kv_heads: int, build: Build) -> None:
    model = build("llama", kv_heads)
    ids = torch.randint(4, 80, (4, 17), generator=torch.Generator().manual_seed(2))
    real = torch.arange(17) < torch.tensor([17, 3, 9, 1])[:, None]
    own, ours = model(ids.where(real, 0)).logits[real], fused.logits(model, ids.where(real, 0), real=real)
    assert ours.shape == (30, own.shape[1])
    assert torch.allclose(ours.log_softmax(dim=-1), own.log_softmax(dim=-1), atol=1e-4)
    expected = gradients(model, own)
    assert (gradients(model, ours) - expected).norm() <= 1e-5 * expected.norm()


def test_log_probabilities_of_completions_do_not_see_what_pads_their_prompts(build: Build) -> None:
    model = build("llama")
    prompts, completions = [[5, 6, 7, 8], [9, 10]], [[11, 12, 13], [14, 15, 2]]
    ids = torch.tensor([prompts[0] + completions[0], [0, 0, *prompts[1], *completions[1]]])
    mask = (ids > 0).long()
    found, entropies = fused.completion_logprobs(model, ids, mask, 3, temperature=0.7, entropy=True)
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        scores = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1] / 0.7
        expected = scores.log_softmax(dim=-1).gather(1, torch.tensor(completion)[:, None])[:, 0]
        assert torch.allclose(found[row], expected, atol=1e-5)
        each = torch.distributions.Categorical(logits=scores).entropy()
        assert torch.allclose(entropies[row], each, atol=1e-5)


def test_only_a_model_that_stays_in_the_cache_is_small(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("llama")
    assert fused.is_small(model)
    model.config.attention_dropout = 0.1
    assert not fused.is_small(model)
    model.config.attention_dropout = 0.0
    monkeypatch.setattr(fused, "OUTGROWN", 0)
    assert not fused.is_small(model) and fused.is_supported(model)
