from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from extrabitter import params as config
from extrabitter import digests as provenance
from extrabitter.params import ParameterError, notebook_parameters, stage_parameters

COMMON: dict[str, Any] = {"run_dir": "runs/a", "arm": "grpo_absent", "seed": 0}
REQUIRED: dict[str, dict[str, Any]] = {
    "base_model": {},
    "sft_priming": {"init_from": "models/absent", "condition": "direct"},
    "grpo": {"init_from": "models/absent"},
    "behaviour_evaluation": {"checkpoint": "models/absent"},
    "will_it_choke": {"checkpoint": "models/absent"},
}


@pytest.mark.parametrize("stage", list(config.STAGES))
def test_each_stage_accepts_its_required_parameters_alone(stage: str) -> None:
    parameters = stage_parameters(stage, COMMON | REQUIRED[stage])
    assert parameters.arm == "grpo_absent"
    assert parameters.threads == 1


@pytest.mark.parametrize(
    ("stage", "values", "line"),
    [
        (
            "grpo",
            {"learnin_rate": 1e-4},
            "grpo: learnin_rate = 0.0001: unknown name; did you mean learning_rate? allowed: ",
        ),
        ("grpo", {"num_steps": "ten"}, "grpo: num_steps = 'ten': must be a valid integer"),
        ("grpo", {"num_steps": 2.5}, "grpo: num_steps = 2.5: must be a valid integer"),
        ("grpo", {"num_steps": True}, "grpo: num_steps = True: must be a valid integer"),
        ("grpo", {"permute_rewards": 1}, "grpo: permute_rewards = 1: must be a valid boolean"),
        ("grpo", {"beta": float("nan")}, "grpo: beta = nan: must be a finite number"),
        ("grpo", {"init_from": None}, "grpo: init_from = None: must be a valid string"),
        (
            "grpo",
            {"loss_type": "ppo"},
            "grpo: loss_type = 'ppo': must be 'grpo', 'dr_grpo', 'dapo' or 'bnpo'",
        ),
        ("grpo", {"num_generations": 7}, "must be a multiple of num_generations (7)"),
        ("grpo", {"save_steps": "50 200"}, "grpo: save_steps = '50 200': must lie in 1..num_steps (100)"),
        (
            "base_model",
            {"search_share": -1},
            "base_model: search_share = -1: must be greater than or equal to 0",
        ),
        ("base_model", {"search_share": 2}, "base_model: search_share = 2: must be less than or equal to 1"),
        (
            "base_model",
            {"search_share": 0.7, "cosmetic_share": 0.7},
            "must be at most 1 - search_share (0.3)",
        ),
        ("base_model", {"num_attention_heads": 5}, "num_attention_heads = 5: must divide hidden_size (128)"),
        ("behaviour_evaluation", {"max_k": 9}, "max_k = 9: must be at most num_samples (8)"),
        ("behaviour_evaluation", {"split": "train"}, "split = 'train': must be 'validation' or 'test'"),
    ],
)
def test_bad_value_is_one_line_with_field_value_and_what_is_allowed(
    stage: str, values: dict[str, Any], line: str
) -> None:
    with pytest.raises(ParameterError) as caught:
        stage_parameters(stage, COMMON | REQUIRED[stage] | values)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_parameter_is_named() -> None:
    with pytest.raises(ParameterError, match=r"^grpo: init_from: missing; it must be given$"):
        stage_parameters("grpo", COMMON)


def test_unknown_stage_lists_the_stages() -> None:
    with pytest.raises(
        ParameterError, match="must be one of base_model, sft_priming, grpo, behaviour_evaluation"
    ):
        stage_parameters("gpro", COMMON)


def test_several_problems_are_counted() -> None:
    with pytest.raises(ParameterError, match=r"\(and 1 more\)$"):
        stage_parameters("grpo", COMMON | REQUIRED["grpo"] | {"beta": -1.0, "epsilon": 2.0})


def test_notebook_namespace_is_read_without_its_modules_and_private_names() -> None:
    namespace = COMMON | REQUIRED["grpo"] | {"_i": "code", "In": [], "Out": {}, "Path": Path, "__name__": "x"}
    assert notebook_parameters("grpo", namespace).seed == 0


def test_misspelt_parameter_in_a_notebook_namespace_stops_it() -> None:
    with pytest.raises(ParameterError, match="num_step = 3: unknown name"):
        notebook_parameters("grpo", COMMON | REQUIRED["grpo"] | {"num_step": 3})


def test_every_field_says_what_it_is() -> None:
    for stage, model in config.STAGES.items():
        for name, field in model.model_fields.items():
            assert field.description, f"{stage}.{name}"


def test_parameters_are_literals_that_papermill_can_pass() -> None:
    for stage in config.STAGES:
        for value in stage_parameters(stage, COMMON | REQUIRED[stage]).model_dump().values():
            assert isinstance(value, (str, int, float, bool))


def test_code_digest_follows_imports_and_ignores_comments(tmp_path: Path) -> None:
    def digest(code: str) -> str:
        notebook = tmp_path / "stage.ipynb"
        source = code.replace("\n", "\\n")
        notebook.write_text(f'{{"cells": [{{"cell_type": "code", "source": ["{source}"]}}]}}')
        return provenance.code_digest(notebook)

    plain = digest("from extrabitter.seeding import derive_seed")
    assert plain == digest("# why\nfrom extrabitter.seeding import derive_seed")
    assert plain != digest("from extrabitter.seeding import derive_seed\nx = 1")
    assert plain != digest("from extrabitter.tables import derive_seed")


def test_import_closure_holds_what_is_imported_indirectly_and_nothing_else() -> None:
    import ast

    names = {
        path.name for path in provenance.import_closure([ast.parse("from extrabitter import artifacts")])
    }
    assert names == {"__init__.py", "artifacts.py", "config.py", "provenance.py", "records.py"}
