"""Exploration changes what is drawn by exactly the mixture it says, and its weights take that back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from extrabitter.models.hub import end_ids
from extrabitter.models.rollouts import Rollouts, SamplingParameters, generate
from extrabitter.models.tiny import mask_tokens, next_token_probabilities, word_ids
from extrabitter.tasks import load_task
from extrabitter.training import exploration, grpo

TASK = load_task("countdown")
CAP = 24
PREFIX = "1 + 2 = 3"


@pytest.fixture
def setting(
    tiny_tokenizer: PreTrainedTokenizerFast, build_tiny_model: Callable[..., PreTrainedModel]
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast, list[int]]:
    """A tiny model, its tokenizer and the token ids of a prompt."""
    return build_tiny_model(), tiny_tokenizer, tiny_tokenizer("numbers 1 2 target 3 :")["input_ids"]


def drawn(setting: Any, words: str, count: int) -> Any:
    """As many rollouts with these words."""
    ids = setting[1](words, add_special_tokens=False)["input_ids"]
    return Rollouts([ids] * count, [[-1.0] * len(ids)] * count, [False] * count)


def explore(setting: Any, rollouts: Any, share: float, generator: Any) -> Any:
    """What exploration makes of a prompt's rollouts."""
    model, tokenizer, prompt = setting
    prompts, sampling = [prompt] * len(rollouts.completion_ids), SamplingParameters(CAP)
    ends = end_ids(model, tokenizer)
    return exploration.explore(model, tokenizer, TASK, prompts, rollouts, sampling, share, ends, generator)


def explored(setting: Any, words: str, count: int, share: float, seed: int = 0) -> Any:
    return explore(setting, drawn(setting, words, count), share, torch.Generator().manual_seed(seed))


def chance_to_search(setting: Any, words: str) -> list[float]:
    """The model's probability of "check", "back" and "answer" behind the prompt and these words."""
    model, tokenizer, prompt = setting
    ids = prompt + tokenizer(words, add_special_tokens=False)["input_ids"]
    row = next_token_probabilities(model, [ids], tokenizer.pad_token_id)[0]
    return row[word_ids(tokenizer, ("check", "back", "answer"))].tolist()


def test_search_is_forced_as_often_as_asked_in_the_models_own_proportion(setting: Any) -> None:
    count, share = 3000, 0.3
    found = explored(setting, f"{PREFIX} answer <eos>", count, share)
    tokenizer = setting[1]
    words = [tokenizer.decode(ids).split() for ids in found.completion_ids]
    assert all(text[:5] == PREFIX.split() for text in words)
    choices = [text[5] for text in words]
    forced = sum(choice in ("check", "back") for choice in choices)
    assert abs(forced / count - share) < 4 * np.sqrt(share * (1 - share) / count)
    check, back, answer = chance_to_search(setting, PREFIX)
    expected = check / (check + back)
    assert abs(choices.count("check") / forced - expected) < 4 * np.sqrt(expected * (1 - expected) / forced)
    # What was not forced stays, nothing passes the cap, and forced ones go on by themselves.
    was = drawn(setting, f"{PREFIX} answer <eos>", 1).completion_ids[0]
    for ids, logs in zip(found.completion_ids, found.logprobs, strict=True):
        assert len(ids) == len(logs) <= CAP and (ids == was or ids[5] != was[5])
    assert len(set(map(len, found.completion_ids))) > 2
    # Weights are policy over mixture at a choice.
    probability = (check + back) / (check + back + answer)
    by_choice = {True: probability / (share + (1 - share) * probability), False: 1 / (1 - share)}
    assert found.weights == pytest.approx([by_choice[choice in ("check", "back")] for choice in choices])


def test_weights_take_the_forcing_back_over_rollouts_of_the_model_itself(setting: Any) -> None:
    model, tokenizer, prompt = setting
    count, share, ends = 6000, 0.4, end_ids(model, tokenizer)
    generator = torch.Generator().manual_seed(5)
    rollouts = generate(model, [prompt], count, SamplingParameters(CAP), end_ids=ends, generator=generator)
    found = explore(setting, rollouts, share, generator)
    search = tokenizer.convert_tokens_to_ids(list(TASK.search_words))
    choices = {*search, tokenizer.convert_tokens_to_ids(TASK.answer_word)}

    def searched(completions: list[list[int]]) -> np.ndarray:
        first = [next((token for token in ids if token in choices), -1) for ids in completions]
        return np.array([token in search for token in first])

    weights, plain = np.array(found.weights), searched(rollouts.completion_ids)
    assert (weights < 1).sum() > 100, "some searched, and count for less"
    assert abs(weights.mean() - 1) < 4 * weights.std() / np.sqrt(count)
    taken_back = weights * searched(found.completion_ids)
    error = np.hypot(taken_back.std(), plain.std()) / np.sqrt(count)
    assert abs(taken_back.mean() - plain.mean()) < 4 * error
    assert searched(found.completion_ids).mean() - plain.mean() > 4 * error, "forcing shows"


@pytest.mark.parametrize(
    ("words", "share", "masked"),
    [
        ("1 + 2 = 3 , 4", 0.9, ()),
        (f"{PREFIX} answer <eos>", 0.0, ()),
        ("", 0.9, ()),
        (f"{PREFIX} answer <eos>", 0.9, ("check", "back")),
    ],
)
def test_without_a_choice_a_share_or_the_words_nothing_changes(
    setting: Any, words: str, share: float, masked: tuple[str, ...]
) -> None:
    mask_tokens(setting[0], word_ids(setting[1], masked))
    before, found = drawn(setting, words, 20), explored(setting, words, 20, share)
    assert (found.completion_ids, found.logprobs) == (before.completion_ids, before.logprobs)
    assert found.weights == [1.0] * 20


def reward_of(monkeypatch: pytest.MonkeyPatch, pay: Callable[[str], float]) -> None:
    """Let GRPO pay for a text."""

    def correct_reward(completions: list[str], **columns: Any) -> list[float]:
        return [float(pay(text)) for text in completions]

    monkeypatch.setattr(grpo, "correct_reward", correct_reward)


def test_each_rows_advantage_is_multiplied_by_its_own_weight(
    setting: Any, grpo_parameters: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    model, tokenizer, _ = setting
    reward_of(monkeypatch, lambda text: len(text) % 7)
    explore = exploration.explore

    def telling(*arguments: Any) -> exploration.Explored:
        # A weight that can be told from the completion: rows out of order would show.
        found = explore(*arguments)
        return found._replace(weights=[1.0 + len(ids) for ids in found.completion_ids])

    monkeypatch.setattr(grpo, "explore", telling)
    parameters = grpo_parameters(forced_search_share=0.5)
    trainer, _ = grpo.build_trainer(parameters, model, tokenizer, end_ids(model, tokenizer), str(tmp_path))
    trainer.model.train()
    rows = [row for row in trainer.train_dataset for _ in range(4)]
    batch = trainer._generate_and_score_completions(rows[:16])
    lengths = batch["completion_mask"].sum(dim=1).tolist()
    texts = tokenizer.batch_decode(batch["completion_ids"], skip_special_tokens=True)
    rewards = np.array([len(text) % 7 for text in texts]).reshape(-1, 4)
    advantages = (rewards - rewards.mean(axis=1, keepdims=True)).ravel()
    assert len(set(lengths)) > 3 and np.abs(advantages).max() > 0
    expected = (advantages * (1 + np.array(lengths))).tolist()
    assert batch["advantages"].tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("weighted", [True, False])
def test_a_run_explores_learns_and_repeats(
    weighted: bool, setting: Any, build_tiny_model: Any, grpo_parameters: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reward_of(monkeypatch, lambda text: "check" in text or "back" in text)
    trainers: list[Any] = []
    build = grpo.build_trainer
    monkeypatch.setattr(grpo, "build_trainer", lambda *args: trainers.append(build(*args)) or trainers[-1])
    parameters = grpo_parameters(forced_search_share=0.5, forced_search_weighted=weighted)
    first, same = (grpo.train(parameters, build_tiny_model(), setting[1]) for _ in range(2))
    assert all(bool(trainer.exploration_weights) == weighted for trainer, _ in trainers)
    assert first["reward"].tolist() == same["reward"].tolist()
    assert first["loss"].notna().all() and (first["grad_norm"] > 0).any()
