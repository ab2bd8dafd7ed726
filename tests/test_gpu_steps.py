"""What is measured of the GPU profiles is their models' shape and parameters, and is set beside the right estimate."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pandas as pd
import pytest
import torch

import benchmark_modules
from extrabitter.gpu_plans import measured_steps
from extrabitter.digests import REPOSITORY
from extrabitter.training_costs import GPUS, NUM_PARAMETERS, TRAINING_UTILISATION

if TYPE_CHECKING:
    from types import ModuleType

MEASURED = pd.read_csv(REPOSITORY / "benchmarks" / "gpu_steps.csv")
TINY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
TINY |= {"num_key_value_heads": 2, "vocab_size": 300}


@pytest.fixture(scope="module")
def gpu_steps() -> ModuleType:
    """benchmarks/gpu_steps.py as a module."""
    return benchmark_modules.load("gpu_steps")


def test_shapes_have_as_many_weights_as_the_models_cards_say(gpu_steps: ModuleType) -> None:
    assert set(gpu_steps.SHAPES) == set(NUM_PARAMETERS) == set(gpu_steps.planned_runs())
    for name, expected in NUM_PARAMETERS.items():
        with torch.device("meta"):
            model = gpu_steps.build(name)
        assert sum(weight.numel() for weight in model.parameters()) == pytest.approx(expected, rel=0.005)


def test_a_step_is_the_profiles_but_for_sampler_and_size_and_none_of_it_is_idle(
    gpu_steps: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "Qwen/Qwen2.5-0.5B"
    profile, planned = gpu_steps.planned_runs()[name]
    small = planned.model_copy(update={"max_completion_length": 12})
    monkeypatch.setattr(gpu_steps, "DEVICE", "cpu")
    monkeypatch.setattr(gpu_steps, "MICRO_BATCHES", 2)
    monkeypatch.setitem(gpu_steps.SHAPES, name, TINY)
    peaks = iter(
        [3 * 2**30, 5 * 2**30, 7 * 2**30]
    )  # bytes, made up: of sampling, twice, and then of the gradient
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda: next(peaks))
    monkeypatch.setattr("torch.cuda.reset_peak_memory_stats", lambda: None)
    rewards: list[float] = []
    paid = gpu_steps.paid_in_turn

    def noted(completions: list[str], **columns: object) -> list[float]:
        rewards.extend(paid(completions))
        return rewards[-len(completions) :]

    noted.__name__ = paid.__name__
    monkeypatch.setattr(gpu_steps, "paid_in_turn", noted)
    row = gpu_steps.measure(name, profile, small)
    group = planned.num_generations
    groups = [set(rewards[start : start + group]) for start in range(0, len(rewards), group)]
    assert len(groups) == 2 * gpu_steps.NUM_STEPS and all(paid == {0.0, 1.0} for paid in groups)
    assert row["completions"] == 2 * planned.per_device_train_batch_size
    assert row["mean_completion_tokens"] <= 12 and row["num_parameters"] < 100_000
    assert (row["sampling_gib"], row["training_gib"]) == (5.0, 7.0)
    assert row["has_reference"] and row["extra_forwards"] == 1  # the reference's pass is not the gradient's
    assert row["rollout_s"] + row["train_s"] <= row["step_s"]
    kept = ("num_generations", "per_device_train_batch_size", "beta", "activation_checkpointing", "dtype")
    measured = gpu_steps.as_measured(planned, "folder")
    assert [getattr(measured, name) for name in kept] == [getattr(planned, name) for name in kept]


def test_a_measured_step_stands_beside_its_estimate() -> None:
    # A gradient of 8 operations a weight and token, at exactly the share of the peak that is estimated.
    row = {
        "model": "m",
        "gpu": "NVIDIA A100-SXM4-80GB",
        "sampling_gib": 25.0,
        "num_parameters": 10**9,
        "completions": 10,
        "extra_forwards": 1,
    }
    row |= {"mean_completion_tokens": 100.0, "has_reference": False, "training_gib": 20.0}
    row["train_s"] = 8e12 / (GPUS["A100"].teraflops * 1e12 * TRAINING_UTILISATION)
    table = measured_steps(pd.DataFrame([row, row | {"train_s": 3 * row["train_s"]}]))
    assert table["gpu"].tolist() == ["A100"] * 2
    assert table["slower"].tolist() == pytest.approx([1.0, 3.0])
    assert table["utilisation"].tolist() == pytest.approx([TRAINING_UTILISATION, TRAINING_UTILISATION / 3])
    assert table["memory_gib"].tolist() == pytest.approx([18e9 / 2**30] * 2)
    with pytest.raises(ValueError, match="gpu: unknown 'NVIDIA L40'; must be one of T4, "):
        measured_steps(pd.DataFrame([row | {"gpu": "NVIDIA L40"}]))


def test_a_subset_of_models_does_not_replace_the_table(
    gpu_steps: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_steps.py", "--models", "Qwen/Qwen2.5-3B"])
    with pytest.raises(SystemExit):
        gpu_steps.main()
    assert "--output: must be given with --models" in capsys.readouterr().err


def test_a_steps_clock_waits_for_a_gpu_that_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    from extrabitter.training import steps as grpo_steps

    events: list[str] = []
    monkeypatch.setattr("torch.cuda.synchronize", lambda: events.append("waited"))
    monkeypatch.setattr(grpo_steps.time, "perf_counter", lambda: events.append("read") or 1.0)
    for used in (False, True):
        monkeypatch.setattr("torch.cuda.is_initialized", lambda used=used: used)
        grpo_steps._clock()
    assert events == ["read", "waited", "read"]


def test_published_steps_are_of_one_commit_and_physically_possible() -> None:
    table = measured_steps(MEASURED)
    assert table["model"].is_unique and set(table["model"]) <= set(NUM_PARAMETERS)
    assert MEASURED["commit"].nunique() == 1 and (MEASURED["commit"].str.len() == 40).all()
    assert table["utilisation"].between(0.01, 0.8).all()
    assert (table["measured_gib"] / table["memory_gib"]).between(1, 1.1).all()
    sizes = MEASURED.set_index("model")["num_parameters"]
    by_size = table.sort_values("model", key=lambda names: names.map(sizes))
    assert by_size["slower"].is_monotonic_decreasing, "the page says that the smallest takes longest"
