"""Stage notebooks: clean in git, parameters as typed, runnable alone from any folder, safe on wrong input."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest

from extrabitter.runs import read_manifest
from extrabitter.params import STAGES

STAGE_FOLDER = Path(__file__).parents[1] / "notebooks" / "stages"
NOTEBOOKS = sorted(STAGE_FOLDER.glob("*.ipynb"))
TINY = {
    "num_tokens": 3_000,
    "documents_per_step": 32,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "num_bar_problems": 2,
    "max_completion_length": 24,
}


def run_papermill(stage: str, folder: Path, **parameters: object) -> subprocess.CompletedProcess[str]:
    """Run a stage notebook with the papermill command, in `folder`."""
    notebook = STAGE_FOLDER / f"{stage}.ipynb"
    command = [sys.executable, "-m", "papermill", str(notebook), str(folder / "out.ipynb")]
    for name, value in parameters.items():
        command += ["-p", name, str(value)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


def test_there_is_one_notebook_for_each_stage():
    assert {path.stem for path in NOTEBOOKS} == set(STAGES)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_in_git_hold_no_outputs(path: Path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            assert not cell.outputs
            assert cell.execution_count is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_first_cell_says_what_is_done_read_written_and_how_long_it_takes(path: Path):
    first = nbformat.read(path, as_version=4).cells[0]
    assert first.cell_type == "markdown"
    for word in ("**Does**", "**Reads**", "**Writes**", "**Takes**"):
        assert word in first.source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_parameters_cell_is_the_typed_model_with_help_for_each(path: Path):
    found = papermill.inspect_notebook(str(path))
    model = STAGES[path.stem]
    assert set(found) == set(model.model_fields)
    types = {"str": str, "int": int, "float": float, "bool": bool}
    for name, parameter in found.items():
        assert parameter["help"], f"{name} has no description"
        literal = parameter["default"]
        expected = types[parameter["inferred_type_name"]]
        assert type(ast.literal_eval(literal)) is expected, f"{name} = {literal} is not {expected.__name__}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_default_parameters_are_valid(path: Path):
    found = papermill.inspect_notebook(str(path))
    STAGES[path.stem](**{name: ast.literal_eval(parameter["default"]) for name, parameter in found.items()})


def test_a_stage_runs_alone_from_another_folder(tmp_path: Path):
    done = run_papermill("base_model", tmp_path, run_dir="here/seed=0", **TINY)
    assert done.returncode == 0, done.stderr[-2_000:]
    manifest = read_manifest(tmp_path / "here" / "seed=0")
    assert manifest is not None
    assert manifest["parameters"]["num_tokens"] == TINY["num_tokens"]
    assert {"losses.parquet", "bars.parquet", "documents.parquet"} <= set(manifest["files"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search_share": 2}, "search_share"),
        ({"tokens": 5}, "tokens"),
        ({"num_tokens": "many"}, "num_tokens"),
        ({"init_from": "nowhere"}, "nowhere"),
    ],
)
def test_wrong_input_names_the_field_and_leaves_nothing_that_looks_finished(
    tmp_path: Path, changes: dict[str, object], message: str
):
    done = run_papermill("base_model", tmp_path, run_dir="here/seed=0", **(TINY | changes))
    assert done.returncode != 0
    assert message in done.stderr.strip().splitlines()[-1]
    assert read_manifest(tmp_path / "here" / "seed=0") is None
