"""What has to hold on a GPU too: our sampler is `generate`'s, gradients are TRL's, GRPO trains.

    pytest --gpu tests/models/test_gpu.py

Skipped without that option, and where PyTorch sees no GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from test_rollouts import stock_greedy
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from english_models import build_tokenizer, save_model
from extrabitter.models.fused import is_supported
from extrabitter.models.hub import load_for_stage, trainer_arguments
from extrabitter.models.rollouts import SamplingParameters, generate
from extrabitter.params import GrpoParameters
from extrabitter.tasks import load_task

EOS = 2
PROMPTS = [[1, *range(10, 10 + 3 + number % 5), 20 + number % 40] for number in range(200)]  # unequal lengths


@pytest.fixture(autouse=True)
def gpu() -> None:
    """Skip where PyTorch sees no GPU."""
    if not torch.cuda.is_available():
        pytest.skip("no GPU")


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
@pytest.mark.parametrize("kv_heads", [1, 2])
def test_greedy_completions_are_those_of_generate(
    architecture: str, kv_heads: int, build_tiny_model: Callable[..., PreTrainedModel]
) -> None:
    model = build_tiny_model(architecture, num_key_value_heads=kv_heads).cuda()
    ours = generate(model, PROMPTS, 2, SamplingParameters(30, temperature=0), end_ids=[EOS])
    stock = stock_greedy(model, PROMPTS, 30)
    assert ours.completion_ids == [row for row in stock for _ in range(2)]
    assert len(set(map(tuple, stock))) > 20


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_one_seed_on_the_gpu_gives_the_same_rollouts_by_the_decoder_and_by_generate(
    dtype: str, build_tiny_model: Callable[..., PreTrainedModel]
) -> None:
    model, sampling = build_tiny_model().to("cuda", getattr(torch, dtype)), SamplingParameters(20)
    assert is_supported(model) == (dtype == "float32")
    seeded = [torch.Generator("cuda").manual_seed(seed) for seed in (1, 1, 2)]
    first, again, other = (
        generate(model, PROMPTS, 4, sampling, end_ids=[EOS], generator=generator) for generator in seeded
    )
    assert first == again and first.completion_ids != other.completion_ids


def test_grpo_moves_a_tiny_model_on_the_gpu(
    tiny_tokenizer: PreTrainedTokenizerFast,
    build_tiny_model: Callable[..., PreTrainedModel],
    grpo_parameters: Callable[..., GrpoParameters],
) -> None:
    from extrabitter.training import grpo

    model = build_tiny_model()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    steps = grpo.train(grpo_parameters(num_steps=3, format_weight=0.5), model, tiny_tokenizer)
    assert model.device.type == "cuda"
    assert len(steps) == 3 and steps["correct_reward"].between(0, 1).all()
    moved = [not torch.equal(weight.cpu(), before[name]) for name, weight in model.state_dict().items()]
    assert any(moved) and all(weight.isfinite().all() for weight in model.state_dict().values())


def test_grpo_and_evaluation_of_a_model_of_others_run_in_half_the_digits(
    tmp_path: Path, grpo_parameters: Callable[..., GrpoParameters]
) -> None:
    from extrabitter.evaluation.evaluate import Subject, sample_completions
    from extrabitter.tasks.free_text import choose_wording
    from extrabitter.training import grpo

    folder = str(save_model(tmp_path / "m", build_tokenizer()))
    parameters = grpo_parameters(prompt="plain", init_from=folder, format_weight=0.1)
    assert trainer_arguments(parameters)["bf16"]
    model, tokenizer, record = load_for_stage(parameters, folder, training=True)
    assert record["dtype"] == "float32" and record["device"].startswith("cuda")
    steps = grpo.train(parameters, model, tokenizer)
    assert len(steps) == 2 and steps["mean_completion_tokens"].between(1, 24).all()
    model, tokenizer, record = load_for_stage(parameters, folder)
    assert record["dtype"] == "bfloat16"
    task = load_task(parameters.task)
    subject = Subject(model, tokenizer, task, choose_wording(task, parameters))
    problems = task.problems("test", 2, 0)
    first, again = (sample_completions(subject, problems, 3, SamplingParameters(24), 0) for _ in range(2))
    assert len(first) == 6 and first["completion"].tolist() == again["completion"].tolist()
