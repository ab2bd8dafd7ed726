"""Models in the formats of others: tiny, random, with a tokenizer of subwords and a chat template."""

from __future__ import annotations

from typing import TYPE_CHECKING

from extrabitter.tasks import load_task

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerFast

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer with the special tokens and the chat template of an instruct model."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=specials, initial_alphabet=alphabet)
    task = load_task("countdown")
    wording = task.english("plain")
    assert wording is not None
    inner.train_from_iterator([str(wording.prompt(task.read_problem("3-8-9:33")))] * 3, trainer)
    built = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|im_end|>", padding_side="left")
    built.chat_template = TEMPLATE
    return built


def save_model(
    folder: Path, tokenizer: PreTrainedTokenizerFast, architecture: str = "qwen2", **options: object
) -> Path:
    """Write a random model of real architecture, as save_pretrained does."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    shape |= {"num_key_value_heads": 2, "vocab_size": len(tokenizer)}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **shape, **options))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
