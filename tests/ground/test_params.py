"""The typed parameters: what is wrong is one line that names field, value and what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from extrabitter import params
from extrabitter.params import ParameterError, notebook_parameters, stage_parameters
from miniature import REQUIRED

COMMON: dict[str, Any] = {"run_dir": "runs/a", "arm": "guesser", "seed": 0}


@pytest.mark.parametrize("stage", list(params.STAGES))
def test_each_stage_accepts_its_required_parameters_alone_and_describes_each(stage: str) -> None:
    parameters = stage_parameters(stage, COMMON | REQUIRED[stage])
    assert (parameters.arm, parameters.task, parameters.threads) == ("guesser", "countdown", 1)
    for name, field in type(parameters).model_fields.items():
        assert field.description, f"{stage}.{name}"
        assert isinstance(getattr(parameters, name), str | int | float | bool), "papermill passes literals"


@pytest.mark.parametrize(
    ("stage", "values", "line"),
    [
        ("grpo", {"learnin_rate": 1}, "learnin_rate = 1: unknown name; did you mean learning_rate? allowed"),
        ("grpo", {"num_steps": "ten"}, "num_steps = 'ten': must be a valid integer"),
        ("grpo", {"num_steps": 2.5}, "num_steps = 2.5: must be a valid integer"),
        ("grpo", {"num_steps": True}, "num_steps = True: must be a valid integer"),
        ("grpo", {"permute_rewards": 1}, "permute_rewards = 1: must be a valid boolean"),
        ("grpo", {"beta": float("nan")}, "beta = nan: must be a finite number"),
        ("grpo", {"init_from": None}, "init_from = None: must be a valid string"),
        ("grpo", {"scale_rewards": "std"}, "scale_rewards = 'std': must be 'group', 'batch' or 'none'"),
        ("grpo", {"num_generations": 7}, "must be a multiple of num_generations (7)"),
        ("grpo", {"save_steps": "50 200"}, "save_steps = '50 200': must lie in 1..num_steps (100)"),
        ("grpo", {"task": "Chess"}, "task = 'Chess': must be a name of lower-case letters"),
        ("grpo", {"rollouts": "vllm", "masked_words": "no"}, "masked_words = 'no': vLLM does not see"),
        ("grpo", {"beta": -1.0, "temperature": -2.0}, "(and 1 more)"),
        ("base_model", {"habit_share": -1}, "habit_share = -1: must be greater than or equal to 0"),
        ("base_model", {"habit_share": 2}, "habit_share = 2: must be less than or equal to 1"),
        ("base_model", {"num_attention_heads": 5}, "num_attention_heads = 5: must divide half of hidden"),
        ("base_model", {"hidden_size": 132}, "num_attention_heads = 4: must divide half of hidden_size (66)"),
        ("behaviour_evaluation", {"max_k": 9}, "max_k = 9: must be at most num_samples (8)"),
        ("behaviour_evaluation", {"split": "all"}, "split = 'all': must be 'validation', 'test' or 'train'"),
        ("behaviour_evaluation", {"few_shot": 2}, "few_shot = 2: only with prompt 'plain' or 'chat'"),
        ("grpo", {"prompt": "chat", "masked_words": "no"}, "masked_words = 'no': only with prompt 'grammar'"),
    ],
)
def test_bad_value_is_one_line_with_field_and_rule(stage: str, values: dict[str, Any], line: str) -> None:
    with pytest.raises(ParameterError) as caught:
        stage_parameters(stage, COMMON | REQUIRED[stage] | values)
    assert str(caught.value).startswith(f"{stage}: ") and line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_parameter_and_unknown_stage_are_named() -> None:
    with pytest.raises(ParameterError, match=r"^grpo: init_from: missing; it must be given$"):
        stage_parameters("grpo", COMMON)
    with pytest.raises(ParameterError, match=r"must be one of base_model, sft_priming, grpo, behaviour_eval"):
        stage_parameters("gpro", COMMON)


def test_namespace_is_read_without_modules_and_private_names_and_a_misspelt_name_stops_it() -> None:
    namespace = COMMON | REQUIRED["grpo"] | {"_i": "code", "In": [], "Out": {}, "Path": Path, "__name__": "x"}
    assert notebook_parameters("grpo", namespace).seed == 0
    with pytest.raises(ParameterError, match="num_step = 3: unknown name"):
        notebook_parameters("grpo", namespace | {"num_step": 3})
