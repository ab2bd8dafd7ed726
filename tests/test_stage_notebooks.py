"""Stage notebooks: clean in git, parameters as typed, runnable alone from any folder, safe on wrong input."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest

from extrabitter.params import STAGES
from extrabitter.runs import read_manifest

STAGE_FOLDER = Path(__file__).parents[1] / "notebooks" / "stages"
NOTEBOOKS = sorted(STAGE_FOLDER.glob("*.ipynb"))
TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
TINY |= {"num_tokens": 3_000, "documents_per_step": 32, "num_bar_problems": 2, "max_completion_length": 24}


def run_papermill(stage: str, folder: Path, **parameters: object) -> subprocess.CompletedProcess[str]:
    """Run a stage notebook with the papermill command, in `folder`."""
    notebook = STAGE_FOLDER / f"{stage}.ipynb"
    command = [sys.executable, "-m", "papermill", str(notebook), str(folder / "out.ipynb")]
    for name, value in parameters.items():
        command += ["-p", name, str(value)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)


def test_there_is_one_notebook_for_each_stage() -> None:
    assert {path.stem for path in NOTEBOOKS} == set(STAGES)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_in_git_hold_no_outputs_and_say_what_they_do(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    assert not any(cell.outputs or cell.execution_count for cell in cells if cell.cell_type == "code")
    for word in ("**Does**", "**Reads**", "**Writes**", "**Takes**"):
        assert word in cells[0].source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_parameters_cell_is_the_typed_model_with_help_for_each_and_valid_defaults(path: Path) -> None:
    found = papermill.inspect_notebook(str(path))
    model = STAGES[path.stem]
    assert set(found) == set(model.model_fields)
    types = {"str": str, "int": int, "float": float, "bool": bool}
    for name, parameter in found.items():
        assert parameter["help"], f"{name} has no description"
        expected = types[parameter["inferred_type_name"]]
        assert type(ast.literal_eval(parameter["default"])) is expected, f"{name} is not {expected.__name__}"
    model(**{name: ast.literal_eval(parameter["default"]) for name, parameter in found.items()})


@pytest.mark.slow
def test_a_stage_runs_alone_from_another_folder_and_never_replaces_another_run(tmp_path: Path) -> None:
    done = run_papermill("base_model", tmp_path, run_dir="a folder/ünder", **TINY)
    assert done.returncode == 0, done.stderr[-2_000:]
    manifest = read_manifest(tmp_path / "a folder" / "ünder")
    assert manifest is not None and manifest["parameters"]["num_tokens"] == TINY["num_tokens"]
    assert {"losses.parquet", "bars.parquet", "documents.parquet"} <= set(manifest["files"])
    again = run_papermill("base_model", tmp_path, run_dir="a folder/ünder", **(TINY | {"seed": 5}))
    assert again.returncode and read_manifest(tmp_path / "a folder" / "ünder") == manifest
    line = "holds a run with other parameters (seed = 0, not 5); give another folder, or overwrite = true"
    assert line in again.stderr.strip().splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": 5}, "base_model: tokens = 5: unknown name; did you mean"),
        ({"init_from": "nowhere"}, " = 'nowhere': no checkpoint there"),
    ],
)
def test_wrong_input_names_the_field_in_its_last_line_and_leaves_nothing_that_looks_finished(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    done = run_papermill("base_model", tmp_path, run_dir="here/seed=0", **(TINY | changes))
    assert done.returncode != 0
    assert message in done.stderr.strip().splitlines()[-1]
    assert read_manifest(tmp_path / "here" / "seed=0") is None
    # Of our own code no line is shown: the message says all. Above it stand papermill's lines about itself.
    assert "extrabitter/" not in done.stderr and "notebook_parameters(" not in done.stderr
