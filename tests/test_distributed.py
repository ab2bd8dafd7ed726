"""GRPO in two processes on CPUs: one result, made of what both of them sampled; failures are one line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from extrabitter import distributed
from extrabitter.config import ParameterError, stage_parameters
from extrabitter.models import load_checkpoint, save_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from extrabitter.config import GrpoParameters


def test_the_launcher_is_pytorchs_own_or_accelerates(
    grpo_parameters: Callable[..., GrpoParameters], tmp_path: Path
) -> None:
    two = distributed.launch_command(grpo_parameters(num_processes=2), tmp_path)
    assert two[1:3] == ["-m", "torch.distributed.run"] and two[-3:-1] == ["-m", "extrabitter.distributed"]
    assert two[two.index("--nproc-per-node") + 1] == "2"
    given = distributed.launch_command(
        grpo_parameters(num_processes=16, accelerate_config="two_nodes.yaml"), tmp_path
    )
    assert (
        given[given.index("--config_file") + 1] == "two_nodes.yaml"
        and given[2] == "accelerate.commands.launch"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"per_device_train_batch_size": 6}, "must be a multiple of num_generations"),
        ({"num_processes": 2, "save_steps": "1"}, "must be empty where num_processes is above 1"),
        ({"accelerate_config": "x.yaml"}, "must be empty where num_processes is 1"),
        ({"vllm_server": "http://node1:8000"}, "only with rollouts 'vllm'"),
    ],
)
def test_what_cannot_be_shared_is_refused(changes: dict[str, object], message: str) -> None:
    values = {"run_dir": "unused", "arm": "arm", "seed": 0, "init_from": "models/absent"}
    with pytest.raises(ParameterError, match=message):
        stage_parameters("grpo", values | changes)


@pytest.fixture
def base(
    tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast, build_tiny_model: Callable[..., PreTrainedModel]
) -> Path:
    folder = tmp_path / "base"
    save_checkpoint(build_tiny_model(), tiny_tokenizer, folder)
    return folder


def test_two_processes_share_a_step(
    base: Path, tmp_path: Path, grpo_parameters: Callable[..., GrpoParameters]
) -> None:
    parameters = grpo_parameters(
        init_from=str(base),
        num_processes=2,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        num_generations=4,
        format_weight=0.5,
    )
    assert parameters.completions_per_step == 16
    steps, record = distributed.train(parameters, tmp_path / "checkpoint")
    assert steps["step"].tolist() == [1, 2] and record["architecture"] == "LlamaForCausalLM"
    # A mean over 16 completions: over the eight of one process, eight times it would be a whole number.
    eights = steps["mean_completion_tokens"] * 8 % 1
    assert eights.isin([0, 0.5]).all() and (eights == 0.5).any()
    load_checkpoint(tmp_path / "checkpoint")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "checkpoint"]


def test_a_process_that_fails_is_one_line_and_leaves_nothing(
    tmp_path: Path, grpo_parameters: Callable[..., GrpoParameters]
) -> None:
    parameters = grpo_parameters(init_from=str(tmp_path / "nowhere"), num_processes=2)
    with pytest.raises(RuntimeError, match="the training processes failed") as raised:
        distributed.train(parameters, tmp_path / "checkpoint")
    assert "\n" not in str(raised.value)
    assert not any(tmp_path.iterdir())
