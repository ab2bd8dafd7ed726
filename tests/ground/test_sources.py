"""The page on methods lists every value that bears on a result, once, with its source, as the code has it."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from extrabitter import sources as hyperparameters
from extrabitter.params import STAGES
from extrabitter.sources import FIXED, PLUMBING, SOURCES
from extrabitter.digests import PACKAGE

# What TRL is told of the machine and of its own output.
MACHINERY = {
    *("activation_checkpointing", "dataloader_num_workers", "dataloader_pin_memory", "tf32"),
    *("report_to", "disable_tqdm", "logging_strategy", "logging_steps", "save_strategy", "log_completions"),
}


def parsed(module: str) -> ast.Module:
    path = PACKAGE.joinpath(*module.split(".")).with_suffix(".py")
    return ast.parse(Path(path).read_text(encoding="utf-8"))


def literals(pairs: list[tuple[ast.expr | str | None, ast.expr | None]]) -> dict[str, Any]:
    """Names and values of those pairs whose value is a literal; names given together are taken apart."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if isinstance(name, ast.Tuple) and isinstance(value, ast.Tuple):
            found |= literals(list(zip(name.elts, value.elts, strict=True)))
            continue
        key = name.id if isinstance(name, ast.Name) else name
        if isinstance(key, str) and value is not None:
            try:
                found[key] = ast.literal_eval(value)
            except ValueError:
                continue
    return found


def written(module: str) -> dict[str, Any]:
    """Literals that a module's code gives names to: constants, fields' defaults, keywords of calls."""
    pairs: list[tuple[ast.expr | str | None, ast.expr | None]] = []
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.Assign):
            pairs += [(target, node.value) for target in node.targets]
        elif isinstance(node, ast.AnnAssign):
            pairs.append((node.target, node.value))
    return keywords(module) | literals(pairs)


def keywords(module: str) -> dict[str, Any]:
    """Literals among the keywords that the functions `build_...` of a module pass on."""
    pairs: list[tuple[ast.expr | str | None, ast.expr | None]] = []
    for function in parsed(module).body:
        if isinstance(function, ast.FunctionDef) and function.name.startswith("build_"):
            calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
            pairs += [(keyword.arg, keyword.value) for call in calls for keyword in call.keywords]
    return literals(pairs)


def test_every_stage_has_its_tables() -> None:
    assert SOURCES.keys() == FIXED.keys() == STAGES.keys()


@pytest.mark.parametrize("stage", STAGES)
def test_every_parameter_that_bears_on_a_result_has_a_source_and_no_other_name_has(stage: str) -> None:
    fields = STAGES[stage].model_fields.keys()
    assert SOURCES[stage].keys() == fields - PLUMBING


def test_no_plumbing_is_named_that_no_stage_has() -> None:
    assert set().union(*(model.model_fields for model in STAGES.values())) >= PLUMBING


@pytest.mark.parametrize("stage", STAGES)
def test_a_source_is_a_work_or_says_that_the_choice_is_ours(stage: str) -> None:
    for name, source in [*SOURCES[stage].items(), *((key, of) for key, (_, of) in FIXED[stage].items())]:
        ours = source.startswith(("ours: ", "ours, from ", "ours, as ", "ours; "))
        work = any(sign in source for sign in ("arXiv ", "(20", "torch.", "TRL, ", "data sheets"))
        assert ours or work, f"{stage}.{name}: {source!r}"
        assert not source.endswith("."), name


@pytest.mark.parametrize("name", [name for own in FIXED.values() for name in own])
def test_a_fixed_value_is_the_one_in_the_code(name: str) -> None:
    (value,) = [own[name][0] for own in FIXED.values() if name in own]
    module, _, short = name.rpartition(".")
    found = written(module)
    assert short in found, f"{module}.py has no {short}"
    assert found[short] == value and type(found[short]) is type(value)


@pytest.mark.parametrize(("stage", "module"), [("sft_priming", "sft"), ("grpo", "grpo")])
def test_nothing_that_trl_is_told_is_left_out(stage: str, module: str) -> None:
    listed = {name.rpartition(".")[2] for name in FIXED[stage] if name.startswith(f"{module}.")}
    told = {name for name in keywords(module) if name not in MACHINERY}
    assert listed == told


def test_a_table_says_what_arms_were_run_with_the_commonest_value_first() -> None:
    arms = [{"num_steps": 80}, {"num_steps": 240, "masked_words": "check back"}, {"num_steps": 80}]
    table = hyperparameters.parameter_table("grpo", arms).set_index("parameter")
    assert table.loc["num_steps", "used"] == "80 (2 arms)\n240"
    assert table.loc["num_steps", "default"] == "100"
    assert (
        table.loc["masked_words", "used"] == "check back" and table.loc["masked_words", "default"] == "empty"
    )
    assert table.loc["beta", "used"] == "not recorded"
    assert list(table.index) == list(SOURCES["grpo"])
    assert set(hyperparameters.parameter_table("grpo", [])["used"]) == {"not run"}
    required = hyperparameters.parameter_table("sft_priming", []).set_index("parameter")
    assert required.loc["condition", "default"] == "none"


def test_every_value_is_counted_once_by_where_it_comes_from() -> None:
    counts = hyperparameters.count_sources()
    assert counts["cited"] + counts["ours"] + counts["open"] == counts["parameters"] + counts["fixed"]
    assert counts["fixed"] == sum(map(len, FIXED.values())) and counts["open"] > 0
    assert counts["parameters"] < sum(map(len, SOURCES.values()))
