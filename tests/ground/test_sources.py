"""The page on methods lists every value that bears on a result, once, with its source, as the code has it."""

from __future__ import annotations

import ast

import pytest

from extrabitter import sources
from extrabitter.digests import PACKAGE
from extrabitter.params import STAGES

PLUMBING = set(sources._read()["plumbing"])
# What TRL is told of the machine and of its own output.
MACHINERY = {
    *("activation_checkpointing", "dataloader_num_workers", "dataloader_pin_memory", "tf32"),
    *("report_to", "disable_tqdm", "logging_strategy", "logging_steps", "logging_nan_inf_filter"),
    *("save_strategy", "log_completions"),
}


@pytest.mark.parametrize("stage", STAGES)
def test_every_parameter_that_bears_on_a_result_has_a_source_and_no_other_name_has(stage: str) -> None:
    assert sources.parameter_sources(stage).keys() == STAGES[stage].model_fields.keys() - PLUMBING


def test_no_plumbing_is_named_that_no_stage_has() -> None:
    assert set().union(*(model.model_fields for model in STAGES.values())) >= PLUMBING


@pytest.mark.parametrize("stage", STAGES)
def test_a_source_is_a_work_or_says_that_it_is_ours_and_fixed_values_stand_in_the_code(stage: str) -> None:
    fixed = sources.fixed_sources(stage)
    for name, source in [*sources.parameter_sources(stage).items(), *fixed.items()]:
        ours = source.startswith(("ours: ", "ours, from ", "ours, as ", "ours; "))
        work = any(sign in source for sign in ("arXiv ", "(20", "torch.", "TRL, ", "data sheets"))
        assert ours or work, f"{stage}.{name}: {source!r}"
        assert not source.endswith("."), name
    table = sources.fixed_table(stage)
    assert list(table["name"]) == list(fixed) and table["value"].str.len().gt(0).all()


@pytest.mark.parametrize(("stage", "module"), [("sft_priming", "training.sft"), ("grpo", "training.grpo")])
def test_nothing_that_trl_is_told_is_left_out(stage: str, module: str) -> None:
    told = set()
    for name, function in ((module, "build_config"), ("training.trainers", "common_arguments")):
        tree = ast.parse(PACKAGE.joinpath(*name.split(".")).with_suffix(".py").read_text(encoding="utf-8"))
        (body,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function]
        for node in ast.walk(body):
            if isinstance(node, ast.keyword) and isinstance(node.value, ast.Constant):
                told.add(f"{name}.{node.arg}")
            elif isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values, strict=True):
                    told |= {f"{name}.{key.value}"} if key and isinstance(value, ast.Constant) else set()
    told = {name for name in told if name.rpartition(".")[2] not in MACHINERY}
    fixed = sources.fixed_sources(stage)
    assert {name for name in fixed if name.startswith((module, "training.trainers"))} == told


def test_a_value_that_the_code_does_not_name_is_an_error() -> None:
    assert sources.fixed_value("tasks.countdown.problems.MAX_NUMBER") == 20
    with pytest.raises(KeyError, match="statistics gives no literal the name NOTHING"):
        sources.fixed_value("statistics.NOTHING")


def test_a_table_says_what_arms_were_run_with_the_commonest_value_first() -> None:
    arms = [{"num_steps": 80}, {"num_steps": 240, "masked_words": "check back"}, {"num_steps": 80}]
    table = sources.parameter_table("grpo", arms).set_index("parameter")
    assert table.loc["num_steps", ["default", "used"]].tolist() == ["100", "80 (2 arms)\n240"]
    assert table.loc["masked_words", ["default", "used"]].tolist() == ["empty", "check back"]
    assert table.loc["beta", "used"] == "not recorded"
    assert set(sources.parameter_table("grpo", [])["used"]) == {"not run"}
    table = sources.parameter_table("sft_priming", []).set_index("parameter")
    assert table.loc["condition", "default"] == "none"


def test_a_value_that_stages_share_is_counted_once() -> None:
    counts = sources.count_sources()
    listed = sum(len(sources.parameter_sources(stage)) for stage in STAGES)
    assert counts["open"] > 0 and counts["parameters"] < listed
