"""SFT priming: what is learnt, what is not, what is refused, and that a run repeats."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pandas as pd
import pytest
import torch
from transformers import PreTrainedTokenizerFast
from trl import SFTTrainer

from extrabitter.models.hub import end_ids
from extrabitter.models.rollouts import SamplingParameters, generate
from extrabitter.models.tiny import SPECIAL_WORDS, CheckpointError, build_tokenizer
from extrabitter.params import ParameterError, SftPrimingParameters
from extrabitter.tables import validate_table
from extrabitter.tasks import load_task
from extrabitter.training import sft
from extrabitter.training.sft import Demonstration, lay_out
from extrabitter.training.trainers import IGNORED_LABEL

TURNS = [{"role": "user", "content": "asked"}]
ANSWER = [{"role": "assistant", "content": "9 - 7"}]
TEMPLATE = (
    "{% for message in messages %}<turn> {{ message.role }} {% if message.role == 'assistant' %}OPENS{% endif %}"
    "{{ message.content }} ENDS\n{% endfor %}{% if add_generation_prompt %}<turn> assistant ASKS{% endif %}"
)


def sft_parameters(**changes: Any) -> SftPrimingParameters:
    """Runs of a few steps."""
    values = {"num_steps": 20, "per_device_train_batch_size": 8, "learning_rate": 1e-2, "max_length": 64}
    values |= {"run_dir": "unused", "arm": "test", "seed": 0, "init_from": "unused"}
    return SftPrimingParameters(**{"condition": "verification", **values, **changes})


@pytest.fixture
def tiny(build_tiny_model: Any, tiny_tokenizer: Any) -> Any:
    """What a small run needs: a builder of models, and their tokenizer."""
    return SimpleNamespace(model=build_tiny_model, tokenizer=tiny_tokenizer)


@pytest.fixture(scope="module")
def shown() -> list[Demonstration]:
    """Fifteen demonstrations in the grammar, of one prompt's length."""
    return [
        Demonstration(f"numbers 6 7 {number} target 8 :", f"{number} - 7 = 2 , 6 + 2 = 8 check 8 yes answer")
        for number in range(1, 16)
    ]


def chat_tokenizer(opens: str = "", asks: str = "", ends: str = "<end>") -> PreTrainedTokenizerFast:
    """A word-level tokenizer with a chat template: how a written turn opens, how one is asked for, how it ends."""
    words = ("<turn>", "<end>", "user", "assistant", "asked", "9", "-", "7", "<think>", "</think>", "ENDS")
    built = build_tokenizer((*SPECIAL_WORDS, *words))
    built.add_special_tokens({"additional_special_tokens": ["<turn>", "<end>"]})
    built.chat_template = TEMPLATE.replace("OPENS", opens).replace("ASKS", asks).replace("ENDS", ends)
    return built


def test_demonstrations_show_the_condition_on_the_same_problems_for_every_condition() -> None:
    task, found = load_task("countdown"), {}
    for condition in ("direct", "search", "wrong", "filler"):
        documents = sft.demonstrations(sft_parameters(condition=condition, num_documents=60))
        table = sft.documents_table(condition, documents[:10])
        validate_table("documents", table)
        assert set(table["kind"]) == {condition}
        found[condition] = documents
        assert documents == sft.demonstrations(sft_parameters(condition=condition, num_documents=60))
    prompts = {tuple(prompt for prompt, _ in documents) for documents in found.values()}
    assert len(prompts) == 1
    words = {name: " ".join(text for _, text in documents).split() for name, documents in found.items()}
    assert "check" in words["search"] and "check" not in words["direct"] and "." in words["filler"]
    problems = task.problems("train", 60, sft.derive_seed(0, "priming"))
    pairs = zip(found["wrong"], problems, strict=True)
    assert not any(task.verify(text, problem).correct for (_, text), problem in pairs)
    said = "condition = 'aha': unknown; must be one of direct"
    with pytest.raises(ParameterError, match=said):
        sft.demonstrations(sft_parameters(condition="aha"))


@pytest.mark.parametrize("prompt", ["plain", "chat"])
def test_demonstrations_in_english_are_of_the_prompts_kind(prompt: str) -> None:
    given = sft_parameters(condition="search", prompt=prompt, num_documents=5, few_shot=1)
    documents = sft.demonstrations(given)
    assert {isinstance(text, str) for document in documents for text in document} == {prompt == "plain"}
    assert sft.documents_table("search", documents)["completion"].str.contains("<answer>").all()


def test_priming_teaches_the_completions_and_ends_them(shown: list[Demonstration], tiny: Any) -> None:
    model = tiny.model()
    settings, ids = model.generation_config, model.config.eos_token_id
    losses = sft.prime(sft_parameters(num_steps=60), model, tiny.tokenizer, shown)
    assert losses["step"].tolist() == list(range(1, 61))
    assert losses["loss"].iloc[-1] < 0.5 * losses["loss"].iloc[0]
    assert losses["learning_rate"].is_monotonic_decreasing
    prompt = tiny.tokenizer(shown[0].prompt)["input_ids"]
    greedy, ends = SamplingParameters(40, temperature=0), end_ids(model, tiny.tokenizer)
    rollouts = generate(model, [prompt], 1, greedy, end_ids=ends)
    words = tiny.tokenizer.decode(rollouts.completion_ids[0], skip_special_tokens=True).split()
    assert words[-4:] == ["check", "8", "yes", "answer"]
    assert rollouts.truncated == [False]
    # What TRL wraps and writes while it trains is undone.
    assert "forward" not in model.__dict__ and not model.training
    assert model.generation_config is settings and model.config.eos_token_id == ids


@pytest.mark.parametrize("condition", ["direct", "all_behaviours"])
def test_a_budget_in_tokens_is_kept_to_one_demonstration_whatever_their_length(
    condition: str, tiny: Any
) -> None:
    parameters = sft_parameters(condition=condition, num_documents=50, num_tokens=4_000, max_length=400)
    documents = sft.demonstrations(parameters)
    losses = sft.prime(parameters, tiny.model(), tiny.tokenizer, documents)
    longest = max(len(f"{asked} {said}".split()) + 2 for asked, said in documents)
    assert 4_000 <= losses["num_tokens"].iloc[-1] < 4_000 + longest


def test_all_demonstrations_are_seen_before_one_comes_again() -> None:
    order = lay_out([5] * 10, sft_parameters(num_steps=3, per_device_train_batch_size=8))
    assert len(order) == 24 and order != lay_out([5] * 10, sft_parameters(num_steps=3, seed=1))
    assert sorted(order[:10]) == sorted(order[10:20]) == list(range(10)) and order[:10] != order[10:20]
    # Conditions of a seed go through problems alike.
    assert order == lay_out([9] * 10, sft_parameters(num_steps=3))
    budget = sft_parameters(num_tokens=101)
    assert len(lay_out([5] * 10, budget)) == 21 and len(lay_out([50] * 10, budget)) == 3


def test_demonstrations_that_would_be_cut_are_counted_and_refused(
    shown: list[Demonstration], tiny: Any
) -> None:
    model = tiny.model()
    before = model.lm_head.weight.detach().clone()
    longer = [*shown, shown[0]._replace(completion=" , ".join([str(shown[0].completion)] * 5))]
    for max_length, count in ((64, 1), (87, 1), (23, 16)):
        with pytest.raises(ValueError) as raised:
            sft.prime(sft_parameters(max_length=max_length), model, tiny.tokenizer, longer)
        said = f"{count} of 16 demonstrations are longer (the longest has 88 tokens)"
        assert str(raised.value) == f"max_length = {max_length}: {said} and would be cut; raise it"
    assert (model.lm_head.weight == before).all()
    sft.prime(sft_parameters(max_length=88, num_steps=1), model, tiny.tokenizer, longer)


@pytest.mark.parametrize(
    ("template", "trained"),
    [
        ({}, "9 - 7 <end>"),
        ({"ends": "<end> <turn>"}, "9 - 7 <end>"),  # what stands behind the end of a turn is not trained on
        ({"opens": "<think> </think> ", "asks": " <think> </think>"}, "9 - 7 <end>"),
        ({"opens": "<think> </think> ", "asks": " <think>"}, "</think> 9 - 7 <end>"),
        ({"asks": " <think>"}, "the chat template writes an answer otherwise than it asks for one"),
        ({"ends": "ENDS"}, "ends an answer with no id at which sampling stops"),
    ],
)
def test_a_chat_template_must_ask_as_it_writes_and_end_where_sampling_ends(
    template: dict[str, str], trained: str
) -> None:
    tokenizer = chat_tokenizer(**template)
    ends = {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<end>")}
    shown = [Demonstration(TURNS, ANSWER)]
    if not trained.startswith(("9", "<")):
        with pytest.raises(ValueError, match=trained) as raised:
            sft.encode(shown, tokenizer, ends, 64)
        assert "\n" not in str(raised.value)
        return
    (row,) = sft.encode(shown, tokenizer, ends, 64)
    asked = sft.encode_prompts(tokenizer, [TURNS])[0]
    assert row["input_ids"][: len(asked)] == asked
    scored = [label for label in row["labels"] if label != IGNORED_LABEL]
    assert tokenizer.decode(scored).split() == trained.split()


def test_the_loss_is_on_the_completion_only_and_no_word_is_lost_at_the_seam(
    shown: list[Demonstration], tiny: Any
) -> None:
    rows = sft.encode(shown, tiny.tokenizer, {tiny.tokenizer.eos_token_id}, 64)
    for row, (prompt, completion) in zip(rows, shown, strict=True):
        given = tiny.tokenizer(prompt)["input_ids"]
        said = tiny.tokenizer(f"{completion} <eos>", add_special_tokens=False)["input_ids"]
        assert tiny.tokenizer.unk_token_id not in given + said
        assert row == {"input_ids": given + said, "labels": [IGNORED_LABEL] * len(given) + said}


def test_two_runs_with_one_seed_are_identical_and_another_seed_differs(
    shown: list[Demonstration], tiny: Any
) -> None:
    asked = [sft_parameters(num_steps=4, seed=seed) for seed in (0, 0, 1)]
    first, same, other = (sft.prime(each, tiny.model(), tiny.tokenizer, shown) for each in asked)
    columns = ["step", "loss", "learning_rate", "num_tokens"]
    pd.testing.assert_frame_equal(first[columns], same[columns], check_exact=True)
    assert not first[columns].equals(other[columns])


def test_a_model_too_short_or_a_loss_that_is_no_number_stops_the_run_in_one_line(
    shown: list[Demonstration], tiny: Any
) -> None:
    model = tiny.model()
    model.config.max_position_embeddings = 20
    with pytest.raises(CheckpointError, match="24 tokens are more than the model's 20"):
        sft.prime(sft_parameters(), model, tiny.tokenizer, shown)
    model = tiny.model()
    model.model.norm.weight.data[0] = float("nan")
    with pytest.raises(FloatingPointError, match="sft_priming: loss is nan at step 1: diverged"):
        sft.prime(sft_parameters(), model, tiny.tokenizer, shown)


def test_trimmed_batches_have_the_gradients_of_trls_own(
    shown: list[Demonstration], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Any
) -> None:
    monkeypatch.setattr(sft, "TOKENS_PER_MICRO_BATCH", 40)
    repeats = [1, 1, 3, 1, 2, 4, 1, 1]
    pairs = zip(shown, repeats, strict=False)
    longer = [each._replace(completion=" , ".join([each.completion] * repeat)) for each, repeat in pairs]
    rows = sft.encode(longer, tiny.tokenizer, {tiny.tokenizer.eos_token_id}, 256)
    gradients, losses, num_calls = [], [], []
    for trainer_class in (SFTTrainer, sft.TrimmedSFTTrainer):
        model = tiny.model()
        trainer = trainer_class(
            model=model,
            args=sft.build_config(sft_parameters(max_length=256), 1, str(tmp_path)),
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=tiny.tokenizer,
        )
        batch = next(iter(trainer.get_train_dataloader()))
        # In the order laid out.
        assert batch["input_ids"][:, 3].tolist() == [row["input_ids"][3] for row in rows]
        num_items = (batch["labels"] != IGNORED_LABEL).sum()
        model.train()
        loss = trainer.compute_loss(model, dict(batch), num_items_in_batch=num_items)
        loss.backward()
        losses.append(float(loss.detach()))
        num_calls.append(len(trainer._metrics["train"]["entropy"]))
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert num_calls[0] == 1 and num_calls[1] > 3
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert float((gradients[1] - gradients[0]).norm() / gradients[0].norm()) < 1e-5
