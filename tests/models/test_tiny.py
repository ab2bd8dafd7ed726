"""Models: the tokenizer's words, checkpoints that are what they were, and masks that every reader sees."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from trl.trainer.utils import add_fused_lm_head

from extrabitter.models import tiny
from extrabitter.models.tiny import CheckpointError, load_checkpoint, mask_tokens, save_checkpoint

Build = Callable[..., PreTrainedModel]
ARCHITECTURES = ["llama", "qwen2"]
TEXT = "numbers 6 7 9 target 8 :"


def test_text_survives_the_tokenizer_word_by_word(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    ids = tiny_tokenizer(f"{TEXT} 9 - 7 = 2 , 6 + 2 = 8 answer<eos>")["input_ids"]
    assert ids[0] == tiny_tokenizer.bos_token_id == 1
    assert ids[-1] == tiny_tokenizer.eos_token_id == 2
    assert tiny_tokenizer.decode(ids, skip_special_tokens=True) == f"{TEXT} 9 - 7 = 2 , 6 + 2 = 8 answer"
    assert tiny_tokenizer("numbers 61")["input_ids"][-1] == tiny_tokenizer.unk_token_id
    assert tiny_tokenizer.pad_token_id == 0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_a_model_is_tied_float32_and_determined_by_its_seed(architecture: str, kv_heads: int) -> None:
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    shape |= {"vocab_size": 80, "num_key_value_heads": kv_heads}
    first, same, other = (tiny.build_model(architecture, **shape, seed=seed) for seed in (5, 5, 6))
    assert first.lm_head.weight is first.model.embed_tokens.weight
    assert first.config.model_type == architecture
    assert first.model.layers[0].self_attn.k_proj.weight.shape == (8 * kv_heads, 32)
    assert all(parameter.dtype == torch.float32 for parameter in first.parameters())
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), same.parameters(), strict=True))
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_base_is_its_float16_checkpoint_and_is_read_as_float32(
    architecture: str, tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast, build_tiny_model: Build
) -> None:
    model = build_tiny_model(architecture)
    before = {name: weights.clone() for name, weights in model.named_parameters()}
    rotations = model.model.rotary_emb.inv_freq.clone()
    save_checkpoint(model, tiny_tokenizer, tmp_path / "once", float16=True)
    loaded, _ = load_checkpoint(tmp_path / "once")
    written = load_file(tmp_path / "once/model.safetensors")
    assert {values.dtype for values in written.values()} == {torch.float16}
    assert loaded.dtype == model.dtype == torch.float32 and loaded.config.dtype == torch.float32
    for name, weights in loaded.named_parameters():
        assert torch.equal(weights, before[name].half().float())
        assert torch.equal(weights, model.get_parameter(name)), "what is measured is what is shipped"
    assert torch.equal(model.model.rotary_emb.inv_freq, rotations)
    save_checkpoint(loaded, tiny_tokenizer, tmp_path / "twice", float16=True)
    once, twice = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("once", "twice"))
    assert once == twice
    model.lm_head.weight.data[0, 0] = 1e6
    with pytest.raises(CheckpointError, match=r"embed_tokens\.weight: not finite in float16"):
        tiny.round_to_float16(model)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_checkpoint_gives_back_the_model_and_no_mask(
    architecture: str, tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast, build_tiny_model: Build
) -> None:
    model = build_tiny_model(architecture)
    ids = torch.tensor([tiny_tokenizer(TEXT)["input_ids"]])
    expected = model(ids).logits
    mask_tokens(model, [7])
    save_checkpoint(model, tiny_tokenizer, tmp_path)
    loaded, tokenizer = load_checkpoint(tmp_path)
    assert torch.equal(loaded(ids).logits, expected)
    assert tiny.masked_token_ids(loaded) == []
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    assert tokenizer(TEXT)["input_ids"] == ids[0].tolist()
    assert tokenizer.decode(ids[0], skip_special_tokens=True) == TEXT


def test_masked_words_are_named_words_of_the_vocabulary(
    tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast, build_tiny_model: Build
) -> None:
    save_checkpoint(build_tiny_model(), tiny_tokenizer, tmp_path)
    model, tokenizer = load_checkpoint(tmp_path, masked_words=("check", "back"))
    assert sorted(tokenizer.convert_ids_to_tokens(tiny.masked_token_ids(model))) == ["back", "check"]
    with pytest.raises(CheckpointError, match="'reflect'"):
        load_checkpoint(tmp_path, masked_words=("reflect",))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_mask_is_inside_the_forward_and_in_the_log_probabilities_of_trl(
    architecture: str, build_tiny_model: Build
) -> None:
    masked = 9
    ids = torch.tensor([[1, 5, masked, 7]])
    model = build_tiny_model(architecture)
    plain = model(ids).logits
    mask_tokens(model, [masked])
    logits = model(ids).logits
    others = [token for token in range(plain.shape[-1]) if token != masked]
    assert torch.equal(logits[..., others], plain[..., others])
    assert (logits.softmax(dim=-1)[..., masked] == 0).all()
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    output = model(ids, labels=ids, fused_lm_head=True)
    expected = logits.log_softmax(dim=-1)
    assert output.log_probs[0, 1] < -1e8
    assert torch.allclose(output.log_probs[0, 2], expected[0, 2, 7], atol=1e-5)
    entropy = torch.special.entr(expected[0, :-1].exp()).sum(dim=-1)
    assert torch.allclose(output.entropy[0], entropy, atol=1e-4)
    output.log_probs[0, 2].backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
    mask_tokens(model, [])
    assert torch.equal(model(ids).logits, plain)


def test_next_token_probabilities_are_those_of_one_row_at_a_time_and_finite(
    build_tiny_model: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rows = build_tiny_model(), [[1, 5, 7], [1], [1, 9, 9, 9, 4]]
    monkeypatch.setattr(tiny, "ROWS_PER_FORWARD", 2)
    found = tiny.next_token_probabilities(model, rows, pad_id=0)
    assert found.shape == (3, len(model.lm_head.weight)) and found.dtype == torch.float64
    for row, probabilities in zip(rows, found, strict=True):
        expected = model(torch.tensor([row])).logits[0, -1].double().softmax(dim=-1)
        assert torch.allclose(probabilities, expected, atol=1e-6)
    assert tiny.next_token_probabilities(model, [], pad_id=0).shape[0] == 0
    model.model.norm.weight.data[0] = torch.nan
    with pytest.raises(CheckpointError, match="logits are not finite"):
        tiny.next_token_probabilities(model, rows, pad_id=0)


def test_a_full_disk_is_one_line(
    build_tiny_model: Build,
    tiny_tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(tiny, "save_file", full)
    with pytest.raises(CheckpointError, match=r"cannot be written \(.*No space left on device") as caught:
        tiny.save_checkpoint(build_tiny_model(), tiny_tokenizer, tmp_path / "checkpoint", float16=True)
    assert "\n" not in str(caught.value)


ASKS_AGAIN = """
import os, resource
from threading import Thread
import torch
from extrabitter.models.tiny import keep_freed_memory
if child := os.fork():
    os.waitpid(child, 0)
    keep_freed_memory()

def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def ask():
    before = pages()
    for _ in range(20):
        torch.ones(2**24)  # 64 MiB
    print(pages() - before, flush=True)

ask()
thread = Thread(target=ask)
thread.start()
thread.join()
"""


def test_memory_that_was_freed_is_hardly_asked_for_again_by_any_thread() -> None:
    output = subprocess.check_output([sys.executable, "-c", ASKS_AGAIN], text=True)
    pages = [int(count) for count in output.split()]  # of two threads that give back, then of two that keep
    assert len(pages) == 4
    assert all(2 * few < many for many, few in zip(pages[:2], pages[2:], strict=True))
