"""What has to hold on a GPU too: our sampler is `generate`'s, gradients are TRL's, GRPO trains.

    pytest --gpu tests/test_gpu.py

Skipped without that option, and where PyTorch sees no GPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from english_models import build_tokenizer, save_model
from extrabitter.digests import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from transformers import PreTrainedModel

    from extrabitter.params import GrpoParameters

EOS = 2
PROMPTS = [[1, *range(10, 10 + 3 + number % 5), 20 + number % 40] for number in range(200)]  # unequal lengths


@pytest.fixture(autouse=True)
def gpu() -> None:
    """Skip where PyTorch sees no GPU."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no GPU")


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_greedy_completions_are_those_of_generate(
    architecture: str, build_tiny_model: Callable[..., PreTrainedModel]
) -> None:
    import torch

    from extrabitter.models.rollouts import SamplingParameters, generate

    model = build_tiny_model(architecture).cuda()
    ours = generate(model, PROMPTS, 2, SamplingParameters(30, temperature=0), eos_token_id=EOS)
    width = max(map(len, PROMPTS))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in PROMPTS], device="cuda")
    mask = torch.tensor(
        [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in PROMPTS], device="cuda"
    )
    stock = model.generate(ids, attention_mask=mask, max_new_tokens=30, do_sample=False)[:, width:].tolist()
    cut = [row[: row.index(EOS) + 1] if EOS in row else row for row in stock]
    assert ours.completion_ids == [row for row in cut for _ in range(2)]
    assert len({tuple(row) for row in cut}) > 20


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_one_seed_on_the_gpu_gives_the_same_rollouts_by_the_decoder_and_by_generate(
    dtype: str, build_tiny_model: Callable[..., PreTrainedModel]
) -> None:
    import torch

    from extrabitter.models.decoder import is_supported
    from extrabitter.models.rollouts import SamplingParameters, generate

    model = build_tiny_model().to("cuda", getattr(torch, dtype))
    assert is_supported(model) == (dtype == "float32")
    first, again, other = (
        generate(
            model,
            PROMPTS,
            4,
            SamplingParameters(20),
            eos_token_id=EOS,
            generator=torch.Generator("cuda").manual_seed(seed),
        )
        for seed in (1, 1, 2)
    )
    assert first == again and first.completion_ids != other.completion_ids


def test_grpo_trains_a_shipped_base_on_the_gpu(grpo_parameters: Callable[..., GrpoParameters]) -> None:
    import torch

    from extrabitter.training import grpo
    from extrabitter.models.tiny import load_checkpoint

    model, tokenizer = load_checkpoint(REPOSITORY / "models" / "rich")
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    parameters = grpo_parameters(
        num_steps=12,
        num_generations=8,
        per_device_train_batch_size=256,
        max_completion_length=288,
        learning_rate=5e-4,
    )
    steps = grpo.train(parameters, model, tokenizer)
    assert model.device.type == "cuda"
    assert len(steps) == 12 and steps["correct_reward"].between(0, 1).all()
    moved = [not torch.equal(weight.cpu(), before[name]) for name, weight in model.state_dict().items()]
    assert any(moved) and all(weight.isfinite().all() for weight in model.state_dict().values())
    assert steps["correct_reward"].tail(4).mean() > steps["correct_reward"].head(2).mean()


def test_grpo_and_evaluation_of_a_model_of_others_run_in_half_the_digits(
    tmp_path: Path, grpo_parameters: Callable[..., GrpoParameters]
) -> None:
    from extrabitter.training import grpo
    from extrabitter.evaluation.natural_evaluate import sample_natural
    from extrabitter.models.hub import autocast_dtype, load_for_stage
    from extrabitter.models.rollouts import SamplingParameters
    from extrabitter.tasks.countdown import Problem
    from extrabitter.tasks.wording import choose_wording

    folder = str(save_model(tmp_path / "m", build_tokenizer()))
    parameters = grpo_parameters(prompt="plain", init_from=folder, format_weight=0.1)
    assert autocast_dtype(parameters) == "bfloat16"
    model, tokenizer, record = load_for_stage(parameters, folder, training=True)
    assert record["dtype"] == "float32" and record["device"].startswith("cuda")
    steps = grpo.train(parameters, model, tokenizer)
    assert len(steps) == 2 and steps["mean_completion_tokens"].between(1, 24).all()
    evaluated = load_for_stage(parameters, folder)
    assert evaluated.record["dtype"] == "bfloat16"
    wording = choose_wording(parameters)
    problems = [Problem((3, 8, 9), 33), Problem((1, 2, 5), 8)]
    first, again = (
        sample_natural(evaluated, problems, 3, SamplingParameters(24), 0, wording)["completion"].tolist()
        for _ in range(2)
    )
    assert len(first) == 6 and first == again
