"""Pretraining: what a mixture contains, what carries loss, and that a rebuild is the same model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from extrabitter.models import tiny as models
from extrabitter.training import pretraining
from extrabitter.params import BaseModelParameters
from extrabitter.training.muon import Muon
from extrabitter.tasks import countdown


def parameters(**changes: object) -> BaseModelParameters:
    values: dict[str, object] = {
        "run_dir": "unused",
        "arm": "rich",
        "seed": 0,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "num_tokens": 6_000,
        "documents_per_step": 48,
        "cued_share": 0.25,
        "search_share": 0.1,
        "schedule": "constant",
    }
    return BaseModelParameters(**(values | changes))


def tiny_model(seed: int = 0):
    return models.build_model(
        "llama",
        vocab_size=len(countdown.VOCABULARY),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        seed=seed,
    )


@pytest.fixture(scope="module")
def tokenizer():
    return models.build_tokenizer(countdown.VOCABULARY)


def kinds(share: BaseModelParameters, count: int = 4_000) -> dict[str, int]:
    documents = pretraining.draw_documents(share, count, 1)
    names = [document.kind for document in documents]
    return {name: names.count(name) for name in set(names)}


def test_mixture_has_the_shares_it_was_asked_for():
    found = kinds(parameters(drill_share=0.3))
    problems = sum(found.values()) - found["drill"]
    uncued = problems - found["cued_search"]
    assert sum(found.values()) == 4_000
    assert found["drill"] / 4_000 == pytest.approx(0.3, abs=0.03)
    assert found["cued_search"] / problems == pytest.approx(0.25, abs=0.03)
    assert found["search"] / uncued == pytest.approx(0.1, abs=0.03)


def test_absent_never_shows_a_search_word_outside_drills():
    documents = pretraining.draw_documents(parameters(cued_share=0.0, search_share=0.0), 2_000, 2)
    text = " ".join(d.completion for d in documents if d.kind != "drill").split()
    assert not {"check", "back", "yes", "no"} & set(text)


def test_latent_searches_only_under_the_cue():
    documents = pretraining.draw_documents(parameters(search_share=0.0), 2_000, 3)
    searching = [d for d in documents if d.kind != "drill" and "check" in d.completion.split()]
    assert searching
    assert all(d.prompt.startswith("think ") for d in searching)


def test_bases_differ_in_whether_a_document_goes_on_and_in_nothing_else():
    absent = pretraining.draw_documents(parameters(cued_share=0.0, search_share=0.0), 400, 7)
    rich = pretraining.draw_documents(parameters(), 400, 7)
    longer = 0
    for plain, other in zip(absent, rich, strict=True):
        assert other.prompt.removeprefix("think ") == plain.prompt
        assert other.completion.startswith(plain.completion.removesuffix(" answer"))
        longer += other.completion != plain.completion
    assert longer > 50


def test_documents_use_training_problems_only():
    held_out = {p.numbers for split in ("validation", "test") for p in countdown.all_problems(split, 3)}
    documents = pretraining.draw_documents(parameters(), 2_000, 4)
    numbers = [d.prompt.split("numbers ")[1].split(" target")[0] for d in documents if d.kind != "drill"]
    seen = {tuple(map(int, text.split())) for text in numbers}
    assert seen
    assert not seen & held_out


def test_encoding_by_look_up_equals_the_tokenizer(tokenizer):
    documents = pretraining.draw_documents(parameters(), 200, 5)
    vocabulary = tokenizer.get_vocab()
    for document in documents:
        ids, labels = pretraining.encode(document, vocabulary)
        text = f"{document.prompt} {document.completion}".strip()
        assert ids == [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
        assert len(labels) == len(ids)


def test_a_prompt_carries_no_loss_and_a_completion_all_of_it(tokenizer):
    document = pretraining.Document("direct", "numbers 1 2 3 target 6 :", "1 + 2 = 3 , 3 + 3 = 6 answer")
    ids, labels = pretraining.encode(document, tokenizer.get_vocab())
    num_prompt = 1 + len(document.prompt.split())
    assert labels[:num_prompt] == [pretraining.IGNORED_LABEL] * num_prompt
    assert labels[num_prompt:] == ids[num_prompt:]


def test_a_drill_carries_loss_on_results_and_verdicts_only(tokenizer):
    vocabulary = tokenizer.get_vocab()
    ids, labels = pretraining.encode(
        pretraining.Document("drill", "", "7 * 5 = 35 , 12 check 11 no"), vocabulary
    )
    scored = [word for word, index in vocabulary.items() if index in set(labels)]
    assert sorted(scored) == ["35", "no"]
    assert ids[0] == vocabulary["<bos>"]


def test_chunks_hold_every_row_once_and_little_padding():
    rng = np.random.default_rng(6)
    rows = [([1] * n, [1] * n) for n in rng.integers(5, 100, size=200)]
    chunks = list(pretraining.trimmed_chunks(rows, 4, pad_id=0))
    assert sum(len(ids) for ids, _ in chunks) == 200
    real = sum(len(ids) for ids, _ in rows)
    assert sum(int((labels >= 0).sum()) for _, labels in chunks) == real
    assert sum(ids.numel() for ids, _ in chunks) < 1.35 * real


def test_pretraining_lowers_the_loss_and_stops_at_its_budget(tokenizer):
    losses = pretraining.pretrain(parameters(num_tokens=80_000), tiny_model(), tokenizer)
    assert losses["loss"].tail(3).mean() < 0.7 * losses["loss"].iloc[0]
    assert losses["num_tokens"].iloc[-2] < 80_000 <= losses["num_tokens"].iloc[-1]


def test_a_rebuild_from_the_same_seed_is_the_same_model(tokenizer):
    built = []
    for _ in range(2):
        model = tiny_model()
        pretraining.pretrain(parameters(), model, tokenizer)
        built.append(model.state_dict())
    assert all(torch.equal(built[0][name], built[1][name]) for name in built[0])


def test_another_seed_is_another_model(tokenizer):
    first, second = tiny_model(0), tiny_model(0)
    pretraining.pretrain(parameters(seed=0), first, tokenizer)
    pretraining.pretrain(parameters(seed=1), second, tokenizer)
    assert not torch.equal(first.lm_head.weight, second.lm_head.weight)


@pytest.mark.parametrize(("name", "kind"), [("muon", Muon), ("adamw", torch.optim.AdamW)])
def test_matrices_get_the_optimizer_that_is_asked_for_and_all_else_adamw(name: str, kind: type):
    model = tiny_model()
    hidden, rest = pretraining.build_optimizers(model, parameters(optimizer=name, learning_rate=0.004))
    assert type(hidden) is kind
    assert type(rest) is torch.optim.AdamW
    assert hidden.param_groups[0]["lr"] == 0.004
    assert rest.param_groups[0]["lr"] == parameters().adamw_learning_rate
    sizes = [[p.shape for p in optimizer.param_groups[0]["params"]] for optimizer in (hidden, rest)]
    assert len(sizes[0]) == 2 * 7  # four of attention, three of the MLP, in two layers
    assert len(sizes[0]) + len(sizes[1]) == len(list(model.parameters()))
    assert (len(countdown.VOCABULARY), 32) in sizes[1]
