"""GRPO: TRL's gradients at less work, TRL's contract as we rely on it, and whole runs that repeat."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from trl import GRPOTrainer

from english_models import build_tokenizer, save_model
from extrabitter.evaluation.evaluate import evaluation_problems
from extrabitter.models import tiny as tiny_models
from extrabitter.models.hub import end_ids, load_for_stage
from extrabitter.models.tiny import CheckpointError
from extrabitter.params import BehaviourEvaluationParameters, GrpoParameters
from extrabitter.tasks import load_task
from extrabitter.tasks.free_text import choose_wording
from extrabitter.training import grpo
from extrabitter.training import loss as grpo_loss
from extrabitter.training import rewards as paying
from extrabitter.training.loss import idle_rows, micro_batches, without_idle_rows

TASK = load_task("countdown")
# SHA-256 of the source of what we override or rely on in TRL 1.16.0. When an upgrade changes one of them, read
# the difference, see that `grpo_loss` and `grpo` still say the same, and only then write the new sum here.
PINNED_SOURCES = {
    "_compute_loss": "80295546bbdbf6f711acce7f6e69b0100ab40aa8f23ed8052cc564ff024e3e40",
    "_generate": "2a27fdf8f5e6f3562508eec3efb9e9dade2e0bf810de5031cdfab429d0a048f2",
    "_get_per_token_logps_and_entropies": "ea73c3909275851d0cd664b1e7694905fdcd9c285e848ae923d7402234f2edce",
    "_generate_and_score_completions": "1fa48922792dcd5c72da155cfe99db477771a7c61cde15519fe8c86d0cdc0b65",
    "_calculate_rewards": "736ae29b083840b5da2638b55ad1258659c644589991fe6a494131354952efef",
}


LOSSES: dict[str, dict[str, Any]] = {"entropy": {"entropy_coef": 0.05}}
LOSSES |= {name: {"loss_type": name} for name in ("grpo", "dapo")}


def _batch(tokenizer: PreTrainedTokenizerFast, variant: str) -> dict[str, Any]:
    """A batch as TRL hands it to the loss: 8 groups of 4, unequal lengths, twins, two groups without a signal."""
    generator = torch.Generator().manual_seed(0)
    num_groups, group, prompt_length, length = 8, 4, 9, 40
    rows = num_groups * group
    prompt_lengths = torch.randint(4, prompt_length + 1, (num_groups,), generator=generator)
    prompts = torch.randint(4, len(tokenizer), (num_groups, prompt_length), generator=generator)
    prompt_mask = (torch.arange(prompt_length) >= prompt_length - prompt_lengths[:, None]).long()
    completions = torch.randint(4, len(tokenizer), (rows, length), generator=generator)
    lengths = torch.randint(1, length + 1, (rows,), generator=generator)
    rewards = torch.randint(0, 2, (num_groups, group), generator=generator).float()
    rewards[0], rewards[1] = 1.0, 0.0
    completions[9], lengths[9], rewards[2, 1] = completions[8], lengths[8], rewards[2, 0]
    mask = (torch.arange(length) < lengths[:, None]).long()
    batch = {
        "prompt_ids": (prompts * prompt_mask).repeat_interleave(group, dim=0),
        "prompt_mask": prompt_mask.repeat_interleave(group, dim=0),
        "completion_ids": completions * mask,
        "completion_mask": mask,
        "advantages": (rewards - rewards.mean(dim=1, keepdim=True)).flatten(),
        "num_items_in_batch": mask.sum(),
    }
    noise = torch.randn(rows, length, generator=generator)
    batch["sampling_per_token_logps"] = (-4 + 0.1 * noise) * mask
    if variant in ("older_policy", "kl"):
        batch["old_per_token_logps"] = (-4.4 + 0.1 * noise) * mask
    if variant == "kl":
        batch["ref_per_token_logps"] = (-4.2 + 0.1 * noise) * mask
    return batch


class Setting(NamedTuple):
    """What a small run needs."""

    parameters: Callable[..., GrpoParameters]
    model: Callable[..., PreTrainedModel]
    tokenizer: PreTrainedTokenizerFast

    def trainer(self, folder: Path, model: PreTrainedModel, **changes: Any) -> Any:
        """TRL's trainer as a run assembles it."""
        ends = end_ids(model, self.tokenizer)
        return grpo.build_trainer(self.parameters(**changes), model, self.tokenizer, ends, str(folder))[0]

    def train(self, model: PreTrainedModel | None = None, **changes: Any) -> pd.DataFrame:
        """Table `steps` of a run."""
        return grpo.train(self.parameters(**changes), model or self.model(), self.tokenizer)


@pytest.fixture
def tiny(grpo_parameters: Any, build_tiny_model: Any, tiny_tokenizer: Any) -> Setting:
    return Setting(grpo_parameters, build_tiny_model, tiny_tokenizer)


def flat(model: PreTrainedModel) -> Any:
    """All of a model's weights in one row."""
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def _gradient(trainer: Any, batch: dict[str, Any]) -> tuple[float, Any]:
    trainer.model.train()
    trainer.model.zero_grad()
    trainer.current_gradient_accumulation_steps = 1
    on_device = {name: column.to(trainer.model.device) for name, column in batch.items()}
    loss = trainer._compute_loss(trainer.model, on_device)
    loss.backward()
    return loss.item(), torch.cat([parameter.grad.flatten() for parameter in trainer.model.parameters()])


@pytest.mark.parametrize(
    ("architecture", "variant"),
    [
        *(("llama", variant) for variant in ("plain", "older_policy", "kl", "masked", *LOSSES)),
        ("qwen2", "plain"),
    ],
)
def test_gradients_and_losses_are_those_of_stock_trl(
    architecture: str, variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Setting
) -> None:
    monkeypatch.setattr(grpo_loss, "TOKENS_PER_MICRO_BATCH", 200)
    batch = _batch(tiny.tokenizer, variant)
    results = []
    for rollouts in ("generate", "batched"):
        model = tiny.model(architecture)
        if variant == "masked":
            tiny_models.mask_tokens(model, [3])
        changes = LOSSES.get(variant, {})
        trainer = tiny.trainer(tmp_path, model, rollouts=rollouts, max_completion_length=40, **changes)
        # As if made with it: TRL would look for the reference's folder, which is not read here.
        trainer.beta = 0.1 if variant == "kl" else trainer.beta
        results.append(_gradient(trainer, batch))
    (stock_loss, stock), (loss, ours) = results
    assert stock.norm() > 1e-3
    assert (ours - stock).norm() <= 1e-5 * stock.norm()
    assert loss == pytest.approx(stock_loss, rel=1e-4, abs=1e-7)


def test_accumulated_batches_train_like_stock_trl(
    easy_reward: None, monkeypatch: pytest.MonkeyPatch, tiny: Setting
) -> None:
    monkeypatch.setattr(grpo_loss, "TOKENS_PER_MICRO_BATCH", 100)
    weights = []
    for compute_loss in (GRPOTrainer._compute_loss, grpo_loss.TrimmedGRPOTrainer._compute_loss):
        monkeypatch.setattr(grpo_loss.TrimmedGRPOTrainer, "_compute_loss", compute_loss)
        model = tiny.model()
        start = flat(model)
        steps = tiny.train(model, per_device_train_batch_size=8, gradient_accumulation_steps=2)
        assert len(steps) == 2 and steps["frac_informative_groups"].gt(0).all()
        weights.append(flat(model) - start)
    stock, ours = weights
    # Adam divides by the gradient's own size, so that where it is all rounding error the sign is too.
    assert (ours - stock).norm() <= 1e-3 * stock.norm()


def test_small_advantages_stay_and_cancelled_ones_go() -> None:
    batch = {
        "prompt_ids": torch.ones(5, 2, dtype=torch.long),
        "completion_ids": torch.tensor([[1, 2], [1, 2], [3, 4], [5, 6], [7, 8]]),
        "completion_mask": torch.ones(5, 2, dtype=torch.long),
        "advantages": torch.tensor([0.3, -0.3 + 3e-8, 1e-9, 0.0, -2.0]),
    }
    kept = without_idle_rows(batch)
    assert kept["completion_ids"].tolist() == [[3, 4], [7, 8]]
    assert kept["advantages"].tolist() == pytest.approx([1e-9, -2.0])


def test_what_we_override_or_rely_on_in_trl_is_unchanged() -> None:
    sources = {name: inspect.getsource(inspect.unwrap(getattr(GRPOTrainer, name))) for name in PINNED_SOURCES}
    found = {name: hashlib.sha256(source.encode()).hexdigest() for name, source in sources.items()}
    assert found == PINNED_SOURCES


def correct_reward(completions: list[str], **columns: Any) -> list[float]:
    """A stand-in that a random model can earn: the completion says some number below ten."""
    return [float(bool(set("0123456789") & set(text.split()[:6]))) for text in completions]


@pytest.fixture
def easy_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pay what a random model sometimes does."""
    monkeypatch.setattr(paying, "correct_reward", correct_reward)


def test_a_second_update_has_a_row_and_draws_nothing(easy_reward: None, tiny: Setting) -> None:
    once, twice = (tiny.train(num_steps=4, num_iterations=each, epsilon_high=0.28) for each in (1, 2))
    assert twice["step"].tolist() == [1, 2, 3, 4]
    drawn = twice["num_tokens"].diff().fillna(1).gt(0)
    assert drawn.tolist() == [True, False, True, False] and once["num_tokens"].is_monotonic_increasing
    assert (twice["rollout_s"].gt(0) == drawn).all() and twice["train_s"].gt(0).all()


def test_a_share_of_problems_is_easier_and_the_others_stay(tiny: Setting) -> None:
    parameters = tiny.parameters(easy_share=0.25, easy_band="two", band="rare")
    drawn = grpo.drawn_problems(parameters, TASK, 40, seed=1)
    plain = TASK.problems("train", 40, 1, "rare")
    sizes = [len(problem.numbers) for problem in drawn]
    assert sizes == [2 if number % 4 == 3 else 3 for number in range(40)]
    assert [p for p in drawn if len(p.numbers) == 3] == [p for n, p in enumerate(plain) if n % 4 != 3]


UNTIMED = slice(None, -3)  # all columns but rollout_s, train_s and step_s


def test_trl_passes_each_prompt_once_per_generation_and_an_evaluation_can_ask_the_same(
    tmp_path: Path, tiny: Setting
) -> None:
    seen: list[list[str]] = []
    trainer = tiny.trainer(tmp_path, tiny.model(), num_steps=1)
    rollout = trainer.rollout_func
    trainer.rollout_func = lambda prompts, trainer: seen.append(list(prompts)) or rollout(prompts, trainer)
    trainer.train()
    assert len(seen) == 1 and len(seen[0]) == 16
    assert [seen[0][start : start + 4] for start in (0, 4, 8, 12)] == [[p] * 4 for p in seen[0][::4]]
    asked = {"run_dir": "unused", "arm": "test", "seed": 3, "checkpoint": "unused", "num_problems": 4}
    same = evaluation_problems(BehaviourEvaluationParameters(**asked, split="train"))
    assert seen[0][::4] == [TASK.prompt(problem) for problem in same] and len(set(seen[0])) == 4


def test_a_short_run_follows_its_reference_trajectory_and_learns(easy_reward: None, tiny: Setting) -> None:
    rewards = []
    for seed in range(6):
        steps = tiny.train(seed=seed, num_steps=12, per_device_train_batch_size=64, learning_rate=3e-3)
        assert steps["step"].tolist() == list(range(1, 13))
        assert (steps["reward"] == steps["correct_reward"]).all() and steps["format_reward"].isna().all()
        assert steps["reward"].iloc[-3:].mean() > steps["reward"].iloc[:3].mean()
        num_tokens = (steps["mean_completion_tokens"] * 64).cumsum()
        assert steps["num_tokens"].tolist() == pytest.approx(num_tokens.tolist())
        rewards.append(steps["reward"].tolist())
    residuals = np.mean(rewards, axis=0) - REFERENCE_REWARDS
    assert np.abs(residuals).max() <= 0.12 and abs(residuals.mean()) < 0.03


# The mean of twelve seeds. One token drawn otherwise makes another run of a seed, and a processor that rounds
# otherwise is enough for it; a mean over seeds stays: a seed's own lies about .02 from it over a run, .07 at a step.
REFERENCE_REWARDS = [0.504, 0.548, 0.57, 0.617, 0.648, 0.652, 0.673, 0.665, 0.707, 0.702, 0.741, 0.76]


@pytest.mark.parametrize("rollouts", ["batched", "generate"])
def test_two_runs_with_one_seed_are_identical_and_another_seed_differs(
    rollouts: str, easy_reward: None, tiny: Setting
) -> None:
    brought = tiny.model()  # and what a checkpoint says of sampling changes nothing
    brought.generation_config.update(repetition_penalty=9.0, suppress_tokens=[5, 6], min_new_tokens=8)
    runs = ((tiny.model(), 0), (brought, 0), (tiny.model(), 1))
    first, same, other = (tiny.train(m, rollouts=rollouts, seed=k).iloc[:, UNTIMED] for m, k in runs)
    assert first.equals(same) and not first.equals(other)


def test_reward_parts_are_logged_apart_and_weighed(
    easy_reward: None, monkeypatch: pytest.MonkeyPatch, tiny: Setting
) -> None:
    def format_reward(completions: list[str], **columns: Any) -> list[float]:
        return [float(len(text) % 2) for text in completions]

    monkeypatch.setattr(paying, "format_reward", format_reward)
    steps = tiny.train(format_weight=0.25)
    expected = steps["correct_reward"] + 0.25 * steps["format_reward"]
    assert steps["reward"].tolist() == pytest.approx(expected.tolist())
    assert (steps["format_reward"] > 0).all()


def test_permuted_rewards_keep_what_a_group_earns_and_move_together(tiny: Setting) -> None:

    def reward(completions: list[str], **columns: Any) -> list[float]:
        return [float(text) for text in completions]

    def shuffled(texts: list[str], seed: int = 0, step: int = 5) -> list[float]:
        control = paying.permuted(reward, tiny.parameters(num_generations=8, seed=seed))
        assert control.__name__ == reward.__name__
        return control(completions=texts, trainer_state=SimpleNamespace(global_step=step))

    texts = [str(number) for number in range(400)]
    first = shuffled(texts)
    groups = [first[start : start + 8] for start in range(0, 400, 8)]
    assert np.sort(groups, axis=1).ravel().tolist() == list(range(400))
    assert sum(group == sorted(group) for group in groups) <= 2
    assert [-value for value in shuffled([str(-int(text)) for text in texts])] == first
    assert first not in (shuffled(texts, step=6), shuffled(texts, seed=1))


def test_checkpoints_are_kept_at_the_named_steps_and_a_line_is_printed_now_and_then(
    easy_reward: None, capsys: pytest.CaptureFixture[str], tiny: Setting
) -> None:
    model = tiny.model()
    kept, settings, ids = {0: flat(model)}, model.generation_config, model.config.eos_token_id
    parameters = tiny.parameters(num_steps=5, save_steps="2 4", logging_steps=2)
    grpo.train(parameters, model, tiny.tokenizer, on_save=lambda step: kept.update({step: flat(model)}))
    assert list(kept) == [0, 2, 4] and not kept[2].equal(kept[0]) and not kept[4].equal(kept[2])
    # What TRL wraps and writes while it trains is undone.
    assert "forward" not in model.__dict__ and not model.training
    assert model.generation_config is settings and model.config.eos_token_id == ids
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["step 2/5", "step 4/5", "step 5/5"]


def test_a_budget_of_tokens_ends_a_run_at_the_step_that_reaches_it(easy_reward: None, tiny: Setting) -> None:
    whole = tiny.train(num_steps=6)
    budget = int(whole["num_tokens"].iloc[2])
    for asked, last in ((budget, 3), (budget + 1, 4), (10**9, 6)):
        steps = tiny.train(num_steps=6, num_tokens=asked)
        assert steps.iloc[:, UNTIMED].equals(whole.iloc[:last, UNTIMED])


@pytest.mark.parametrize("words", ["7", "check back need aim yes no"])
def test_masked_words_are_neither_sampled_nor_trained_towards_and_the_reference_model_is_masked_too(
    words: str, easy_reward: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Setting
) -> None:
    tiny_models.save_checkpoint(tiny.model(), tiny.tokenizer, tmp_path)
    parameters = tiny.parameters(beta=0.04, masked_words=words, init_from=str(tmp_path))
    model, tokenizer, _ = load_for_stage(parameters, parameters.init_from, training=True)
    seen: list[str] = []

    def spying_reward(completions: list[str], **columns: Any) -> list[float]:
        seen.extend(completions)
        return correct_reward(completions)

    spying_reward.__name__ = "correct_reward"
    monkeypatch.setattr(paying, "correct_reward", spying_reward)
    built: list[Any] = []
    build = grpo.build_trainer
    monkeypatch.setattr(grpo, "build_trainer", lambda *args: built.append(build(*args)) or built[0])
    steps = grpo.train(parameters, model, tokenizer)
    assert len(seen) == 32 and not set(words.split()) & {word for text in seen for word in text.split()}
    masked = tiny_models.masked_token_ids(built[0][0].ref_model)
    assert masked == sorted(tiny_models.word_ids(tokenizer, words.split()))
    assert steps[["loss", "grad_norm", "entropy"]].notna().all(axis=None)


def test_vllm_is_trls_own_switch_and_needs_no_vllm_to_be_read(tmp_path: Path, tiny: Setting) -> None:
    for rollouts in ("vllm", "batched"):
        config = grpo.build_config(tiny.parameters(rollouts=rollouts), str(tmp_path))
        assert config.use_vllm == (rollouts == "vllm") and config.vllm_mode == "colocate"


def test_micro_batches_hold_each_informative_row_once_and_one_row_where_none_is(tiny: Setting) -> None:
    batch = _batch(tiny.tokenizer, "plain")
    informative = without_idle_rows(batch)
    assert 0 < len(informative["advantages"]) <= 24
    sizes = [tuple(part["completion_ids"].shape) for part in micro_batches(informative, 200)]
    assert all(rows * (length + 4) <= 200 or rows == 1 for rows, length in sizes)
    assert sum(rows for rows, _ in sizes) == len(informative["advantages"])
    assert len(without_idle_rows({**batch, "advantages": batch["advantages"] * 0})["advantages"]) == 1


@pytest.mark.parametrize("rollouts", ["batched", "generate"])
@pytest.mark.parametrize(("num_generations", "scale_rewards"), [(7, "none"), (8, "group"), (12, "batch")])
def test_a_group_of_equal_rewards_moves_no_weight(
    num_generations: int, scale_rewards: str, rollouts: str, monkeypatch: pytest.MonkeyPatch, tiny: Setting
) -> None:
    def format_reward(completions: list[str], **columns: Any) -> list[float]:
        return [1.0] * len(completions)

    monkeypatch.setattr(paying, "format_reward", format_reward)
    changes = {"scale_rewards": scale_rewards, "rollouts": rollouts, "num_generations": num_generations}
    changes |= {"per_device_train_batch_size": 2 * num_generations, "max_completion_length": 8}
    model = tiny.model()
    before = flat(model)
    steps = tiny.train(model, format_weight=0.1, learning_rate=1e-2, num_steps=3, **changes)
    assert steps["reward"].tolist() == pytest.approx([0.1] * 3)
    assert (steps[["frac_informative_groups", "loss", "grad_norm"]] == 0).all(axis=None)
    assert (flat(model) == before).all()


def test_rows_are_idle_where_their_groups_sums_are_equal_on_paper() -> None:
    rewards = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]] * 2 + [[1.0, 0.0, 0.0], [1.0, 0.0, 1e-4]] * 2)
    weights = torch.tensor([0.3, 0.1, 0.2])  # .1 + .2 is not .3 in floating point
    assert idle_rows(rewards, weights, 4).tolist() == [True] * 4 + [False] * 4


def test_completions_are_read_up_to_any_end_and_with_special_tokens(tiny: Setting) -> None:
    words = ("<answer>", "</answer>", "<turn_end>", "so", *"389*+")
    tokenizer = tiny_models.build_tokenizer(("<pad>", "<bos>", "<eos>", "<unk>", *words))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<answer>", "</answer>", "<turn_end>"]})
    tokenizer.chat_template = "{{ messages[-1].content }}"
    parameters = tiny.parameters(prompt="chat")
    ends = {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<turn_end>")}
    table = grpo.StepTable(parameters, TASK, choose_wording(TASK, parameters), tokenizer, ends)
    answered = "so <answer> 3 * 8 + 9 </answer>"
    texts = [f"{answered} <turn_end>", answered, "so 3 * 8 + 9 <eos>"]
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    prompt = [{"role": "user", "content": "so"}]
    traces = table.read([prompt] * 3, ids, ["3-8-9:33"] * 3)
    assert paying.correct_reward([], traces=traces) == [1.0, 1.0, 0.0]
    assert table.row["frac_truncated"] == pytest.approx(1 / 3)
    assert table.row["num_tokens"] == sum(map(len, ids)) == table.num_tokens
    table.read([prompt], ids[:1], ["3-8-9:33"])
    assert table.row["num_tokens"] == sum(map(len, ids)) + len(ids[0])


@pytest.mark.parametrize("rollouts", ["batched", "generate"])
def test_a_run_that_diverges_or_finds_no_room_stops_in_one_line(
    rollouts: str, easy_reward: None, monkeypatch: pytest.MonkeyPatch, tiny: Setting
) -> None:
    stock = grpo.GRPOTrainer._compute_loss
    monkeypatch.setattr(grpo.GRPOTrainer, "_compute_loss", lambda *args: stock(*args) * float("nan"))
    with pytest.raises(FloatingPointError, match="grpo: loss is nan at step 1: diverged") as raised:
        tiny.train(rollouts=rollouts)
    assert "\n" not in str(raised.value)
    model = tiny.model()
    model.config.max_position_embeddings = 30
    with pytest.raises(CheckpointError, match="32 tokens are more than the model's 30"):
        tiny.train(model)


@pytest.mark.parametrize("prompt", ["plain", "chat"])
def test_any_model_is_trained_in_english(prompt: str, tmp_path: Path, tiny: Setting) -> None:
    source = save_model(tmp_path / "source", build_tokenizer())
    parameters = tiny.parameters(prompt=prompt, few_shot=1, init_from=str(source), format_weight=0.5)
    model, tokenizer, record = load_for_stage(parameters, parameters.init_from, training=True)
    assert len(grpo.train(parameters, model, tokenizer)) == 2 and record["architecture"] == "Qwen2ForCausalLM"


# Rewards.

GOOD = "9 - 7 = 2 , 6 + 2 = 8"


def rewarded(texts: list[str], names: list[str]) -> tuple[list[float], list[float]]:
    """Both rewards of completions as a run reads them, from their tokens."""
    tokenizer = tiny_models.build_tokenizer(TASK.vocabulary)
    parameters = GrpoParameters(run_dir="unused", arm="test", seed=0, init_from="unused")
    table = grpo.StepTable(parameters, TASK, TASK, tokenizer, {tokenizer.eos_token_id})
    ids = [tokenizer(f"{text} <eos>", add_special_tokens=False)["input_ids"] for text in texts]
    columns = {"traces": table.read(["?"] * len(texts), ids, names), "problem": names, "trainer_state": None}
    correct, formatted = (pay(texts, **columns) for pay in (paying.correct_reward, paying.format_reward))
    return correct, formatted


@pytest.mark.parametrize("other", ["6-7-9:9", "5-7-9:8"])
def test_each_completion_is_judged_by_its_own_problem(other: str) -> None:
    assert rewarded([f"{GOOD} answer"] * 2, ["6-7-9:8", other])[0] == [1.0, 0.0]
    with pytest.raises(ValueError, match="zip"):
        rewarded([f"{GOOD} answer"] * 2, ["6-7-9:8"])


def test_rewards_agree_with_the_verifier_on_written_and_corrupted_completions() -> None:
    rng = Random(0)
    problems, known = TASK.problems("train", 1_000, 0), [w for w in TASK.vocabulary if not w.startswith("<")]
    texts = []
    for index, problem in enumerate(problems):
        words = TASK.render(TASK.write_trace(problem, "all_behaviours", rng), problem).split()
        if index % 2:
            words[rng.randrange(len(words))] = rng.choice(known)
        texts.append(" ".join(words))
    correct, formatted = rewarded(texts, [problem.identifier for problem in problems])
    pairs = list(zip(texts, problems, strict=True))
    assert correct == [float(TASK.verify(text, problem).correct) for text, problem in pairs]
    assert formatted == [float(TASK.parse(text, problem).well_formed) for text, problem in pairs]
    assert set(correct) == set(formatted) == {0.0, 1.0}
