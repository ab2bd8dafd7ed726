"""GRPO: TRL's gradients at less work, TRL's contract as we rely on it, and whole runs that repeat."""

from __future__ import annotations

import hashlib
import inspect
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from extrabitter.config import GrpoParameters

# SHA-256 of the source of what we override or rely on in TRL 1.16.0. When an upgrade changes one of them, read
# the difference, see that `grpo_loss` and `grpo` still say the same, and only then write the new sum here.
PINNED_SOURCES = {
    "_compute_loss": "80295546bbdbf6f711acce7f6e69b0100ab40aa8f23ed8052cc564ff024e3e40",
    "_generate": "2a27fdf8f5e6f3562508eec3efb9e9dade2e0bf810de5031cdfab429d0a048f2",
    "_get_per_token_logps_and_entropies": "ea73c3909275851d0cd664b1e7694905fdcd9c285e848ae923d7402234f2edce",
    "_calculate_rewards": "736ae29b083840b5da2638b55ad1258659c644589991fe6a494131354952efef",
}


@pytest.fixture
def grpo_parameters() -> Callable[..., GrpoParameters]:
    """Small runs: 4 groups of 4 completions."""
    from extrabitter.config import GrpoParameters

    def build(**changes: Any) -> GrpoParameters:
        values = {"num_steps": 2, "num_generations": 4, "per_device_train_batch_size": 16}
        values |= {"max_completion_length": 24, "logging_steps": 1, "learning_rate": 1e-3}
        return GrpoParameters(
            run_dir="unused", arm="test", seed=3, init_from="unused", **{**values, **changes}
        )

    return build


def _batch(tokenizer: PreTrainedTokenizerFast, with_older_policy: bool) -> dict[str, Any]:
    """A batch as TRL hands it to the loss: 8 groups of 4, unequal lengths, twins, two groups without a signal."""
    import torch

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
    if with_older_policy:
        batch["old_per_token_logps"] = (-4.4 + 0.1 * noise) * mask
    return batch


def _gradient(trainer: Any, batch: dict[str, Any]) -> tuple[float, Any]:
    import torch

    trainer.model.train()
    trainer.model.zero_grad()
    trainer.current_gradient_accumulation_steps = 1
    loss = trainer._compute_loss(trainer.model, dict(batch))
    loss.backward()
    return loss.item(), torch.cat([parameter.grad.flatten() for parameter in trainer.model.parameters()])


@pytest.mark.parametrize(
    ("architecture", "loss_type", "variant"),
    [
        *(("llama", loss_type, "plain") for loss_type in ("grpo", "dr_grpo", "dapo", "bnpo")),
        *(("llama", loss_type, "older_policy") for loss_type in ("grpo", "dr_grpo", "dapo", "bnpo")),
        ("llama", "dr_grpo", "masked"),
        ("qwen2", "dr_grpo", "plain"),
    ],
)
def test_gradients_and_losses_are_those_of_stock_trl(
    architecture: str,
    loss_type: str,
    variant: str,
    tmp_path: Path,
    tiny_tokenizer: PreTrainedTokenizerFast,
    build_tiny_model: Callable[..., PreTrainedModel],
    grpo_parameters: Callable[..., GrpoParameters],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from extrabitter import grpo, grpo_loss
    from extrabitter.models import mask_tokens

    monkeypatch.setattr(grpo_loss, "TOKENS_PER_MICRO_BATCH", 200)
    batch = _batch(tiny_tokenizer, with_older_policy=variant == "older_policy")
    results = []
    for rollouts in ("generate", "batched"):
        model = build_tiny_model(architecture)
        if variant == "masked":
            mask_tokens(model, [3])
        parameters = grpo_parameters(loss_type=loss_type, rollouts=rollouts, max_completion_length=40)
        trainer = grpo.build_trainer(
            parameters, model, tiny_tokenizer, grpo.StepTable(parameters), str(tmp_path)
        )
        results.append(_gradient(trainer, batch))
    (stock_loss, stock), (loss, ours) = results
    assert stock.norm() > 1e-3
    assert (ours - stock).norm() <= 1e-5 * stock.norm()
    assert loss == pytest.approx(stock_loss, rel=1e-4, abs=1e-7)


def test_what_we_override_or_rely_on_in_trl_is_unchanged() -> None:
    from trl import GRPOTrainer

    found = {
        name: hashlib.sha256(
            inspect.getsource(inspect.unwrap(getattr(GRPOTrainer, name))).encode()
        ).hexdigest()
        for name in PINNED_SOURCES
    }
    assert found == PINNED_SOURCES
