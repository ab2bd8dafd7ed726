"""Subjects of the tests of evaluation: random models of any task, and models that recite a text by heart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from extrabitter.evaluation.evaluate import Subject
from extrabitter.models import tiny
from extrabitter.tasks import REGISTRY, load_task

CHAT = (
    "{% for message in messages %}<start> {{ message.role }} {{ message.content }} <turn_end> {% endfor %}"
    "{% if add_generation_prompt %}<start> assistant{% endif %}"
)


@pytest.fixture(scope="session")
def random_subject() -> Callable[[str], Subject]:
    """A random model over a task's words, as sharp as a trained one: what is tested must hold for any model."""
    made: dict[str, Subject] = {}

    def build(name: str) -> Subject:
        if name not in made:
            task = load_task(name)
            shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
            tiny.set_up_process(1)
            model = tiny.build_model("llama", len(task.vocabulary), **shape, intermediate_size=64, seed=0)
            for parameter in model.parameters():
                if parameter.dim() == 2:
                    parameter.data.mul_(4.0)
            made[name] = Subject(model, tiny.build_tokenizer(task.vocabulary), task, task)
        return made[name]

    return build


@pytest.fixture(scope="session", params=list(REGISTRY))
def subject(request: pytest.FixtureRequest, random_subject: Callable[[str], Subject]) -> Subject:
    """The random model of each task in turn."""
    return random_subject(request.param)


@pytest.fixture(scope="session")
def countdown(random_subject: Callable[[str], Subject]) -> Subject:
    """The random model of Countdown, for what is said in its words."""
    return random_subject("countdown")


def save_reciter(
    folder: Path, pieces: Sequence[str], end: str = "</s>", special: Any = (), **config: Any
) -> Path:
    """Write a Llama that says `pieces`, each one token however long, whatever it is asked, and then `end` for ever.

    Its words follow each other by the output head alone: attention and MLP add nothing. `special` are pieces that the
    tokenizer holds for special tokens; `config` goes into the configuration, but for `template`, that of a chat.
    """
    import torch
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    known = ("<pad>", "<unk>", "</s>", "<turn_end>", "<start>", "assistant")
    words = list(dict.fromkeys([*known, *pieces, end]))
    size = -(-len(words) // 2) * 2
    words += [f"<spare{number}>" for number in range(size - len(words))]
    inner = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = WhitespaceSplit()
    inner.add_special_tokens([AddedToken(word, special=True) for word in ("<turn_end>", "<start>", *special)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="</s>", pad_token="<pad>", unk_token="<unk>", padding_side="left"
    )
    tokenizer.clean_up_tokenization_spaces = False
    tokenizer.chat_template = config.pop("template", CHAT)
    shape = {"hidden_size": size, "num_attention_heads": 1, "num_hidden_layers": 1, "intermediate_size": 2}
    said = {"vocab_size": size, "tie_word_embeddings": False, "eos_token_id": 2, "pad_token_id": 0}
    model = LlamaForCausalLM(LlamaConfig(**shape, **said | config))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_() if parameter.dim() == 2 else parameter.fill_(1.0)
        model.model.embed_tokens.weight.copy_(torch.eye(size))
        following = {words.index(a): words.index(b) for a, b in zip(pieces, [*pieces[1:], end], strict=True)}
        for token in range(size):
            then = following.get(token, words.index(end if token == words.index(end) else pieces[0]))
            model.lm_head.weight[then, token] = 40.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def reciter(tmp_path: Path) -> Callable[..., Path]:
    """A writer of models that recite: see `save_reciter`."""
    return lambda *pieces, **options: save_reciter(tmp_path / "reciter", pieces, **options)
