"""GRPO in two processes on CPUs: one result, made of what both of them sampled; failures are one line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from extrabitter.models.tiny import load_checkpoint, save_checkpoint
from extrabitter.params import ParameterError, stage_parameters
from extrabitter.training import distributed

if TYPE_CHECKING:
    from collections.abc import Callable

    from extrabitter.params import GrpoParameters


def test_the_launcher_is_pytorchs_own_or_accelerates(
    grpo_parameters: Callable[..., GrpoParameters], tmp_path: Path
) -> None:
    two = distributed.launch_command(grpo_parameters(num_processes=2), tmp_path)
    assert two[1:3] == ["-m", "torch.distributed.run"] and two[-3:-1] == ["-m", "extrabitter.training.distributed"]
    assert two[two.index("--nproc-per-node") + 1] == "2"
    given = distributed.launch_command(
        grpo_parameters(num_processes=16, accelerate_config="two_nodes.yaml"), tmp_path
    )
    assert given[given.index("--config_file") + 1] == "two_nodes.yaml" and given[2] == "accelerate.commands.launch"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"per_device_train_batch_size": 6}, "must be a multiple of num_generations"),
        ({"num_processes": 2, "save_steps": "1"}, "must be empty where num_processes is above 1"),
        ({"num_processes": 2, "forced_search_share": 0.1}, "must be 0 where num_processes is above 1"),
        ({"rollouts": "vllm", "forced_search_share": 0.1}, r"forced_search_share = 0\.1: needs rollouts 'batched'"),
        ({"forced_search_share": 1.0}, r"forced_search_share = 1\.0"),
        ({"vllm_gpu_memory_utilization": 0.5}, "only with rollouts 'vllm'"),
        ({"prompt": "plain", "device": "cuda:1"}, "must be auto, cpu or cuda in training"),
        ({"accelerate_config": "x.yaml"}, "must be empty where num_processes is 1"),
        ({"vllm_server": "http://node1:8000"}, "only with rollouts 'vllm'"),
    ],
)
def test_what_cannot_be_shared_is_refused(changes: dict[str, object], message: str) -> None:
    values = {"run_dir": "unused", "arm": "arm", "seed": 0, "init_from": "unused"}
    with pytest.raises(ParameterError, match=message):
        stage_parameters("grpo", values | changes)


@pytest.fixture
def primed(tmp_path: Path, build_tiny_model: Any, tiny_tokenizer: Any) -> str:
    """A checkpoint that keeps the form in some of its completions, so that groups carry signal."""
    from extrabitter.params import SftPrimingParameters
    from extrabitter.training import sft

    identity = {"run_dir": "unused", "arm": "test", "seed": 0, "init_from": "unused", "condition": "direct"}
    parameters = SftPrimingParameters(**identity, num_documents=100, num_steps=60, learning_rate=1e-2)
    model = build_tiny_model()
    sft.prime(parameters, model, tiny_tokenizer, sft.demonstrations(parameters))
    save_checkpoint(model, tiny_tokenizer, tmp_path / "primed")
    return str(tmp_path / "primed")


def test_two_processes_share_a_step(
    tmp_path: Path, primed: str, grpo_parameters: Callable[..., GrpoParameters]
) -> None:
    parameters = grpo_parameters(
        init_from=primed,
        num_processes=2,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        num_generations=8,
        format_weight=0.5,
        num_steps=4,
    )
    assert parameters.completions_per_step == 16
    folder = tmp_path / "run"
    folder.mkdir()
    steps, record = distributed.run_stage(parameters, folder)
    assert steps["step"].tolist() == [1, 2, 3, 4] and record["architecture"] == "LlamaForCausalLM"
    assert (steps["frac_informative_groups"] > 0).any() and (steps["grad_norm"] > 0).any()
    # A mean over 16 completions: over the eight of one process, eight times it would be a whole number.
    eights = steps["mean_completion_tokens"] * 8 % 1
    assert eights.isin([0, 0.5]).all() and (eights == 0.5).any()
    load_checkpoint(folder / "checkpoint")
    assert [path.name for path in folder.iterdir()] == ["checkpoint"]


def test_sharded_weights_are_refused(
    tmp_path: Path, grpo_parameters: Callable[..., GrpoParameters], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    parameters = grpo_parameters(init_from="unused", num_processes=2)
    with pytest.raises(RuntimeError, match="must be plain data parallel; ACCELERATE_USE_FSDP"):
        distributed.run_stage(parameters, tmp_path)


def test_a_process_that_fails_is_one_line_and_leaves_nothing(
    tmp_path: Path, grpo_parameters: Callable[..., GrpoParameters]
) -> None:
    parameters = grpo_parameters(init_from=str(tmp_path / "nowhere"), num_processes=2)
    with pytest.raises(RuntimeError, match="the training processes failed") as raised:
        distributed.run_stage(parameters, tmp_path)
    assert "\n" not in str(raised.value)
    assert not any(tmp_path.iterdir())
