"""The floors of the package: imports go down only, and training and pages meet only in tables on disk."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import budgets
from extrabitter.digests import PACKAGE, REPOSITORY, import_closure, notebook_code, registered_tasks

GROUND = {"__init__", "params", "sources", "tables", "runs", "statistics", "seeding", "digests"}
GROUND |= {"profiles", "plan", "jobs", "schedule", "store"}
LEFT_TOWER, RIGHT_TOWER = {"training", "evaluation"}, {"pages"}
FLOORS = [GROUND, {"tasks"}, {"behaviours"}, {"models"}, LEFT_TOWER | RIGHT_TOWER, {"experiments"}, {"cli"}]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
# What costs seconds to import, and what the book must be built without.
TORCH = {"torch", "trl", "transformers", "accelerate", "datasets", "tokenizers", "safetensors"}
# Pages, cards of models and the report of a probe are templates.
DRAWING, TEMPLATES = {"matplotlib"}, {"jinja2"}

FILES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """Name under which a file stands on a floor: a sub-package counts as one."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def ours(path: Path, types: bool = True) -> set[Path]:
    """Files of this package that a file imports, for types too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if types:  # as if what is imported for types alone were imported
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and isinstance(node.test, ast.Name):
                node.test = ast.Constant(True)
    return set(import_closure([tree], follow=False))


def others(path: Path) -> set[str]:
    """Top-level packages of others that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name}: relative import"
            found.add((node.module or "").partition(".")[0])
    return found - {PACKAGE.name}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_go_down_only_and_heavy_ones_stay_where_they_belong(path: Path) -> None:
    own = name_of(path)
    assert own in FLOOR, f"say on which floor {path.name} stands, in FLOORS above"
    below = {name_of(file) for file in ours(path)} - {"__init__", own}
    for name in below:
        assert FLOOR[name] <= FLOOR[own], f"{path.name} imports {name} from a floor above"
    if own in RIGHT_TOWER | {"experiments"}:
        assert not below & (LEFT_TOWER | {"models"}), "pages and experiments read tables"
    if own in LEFT_TOWER:
        assert not below & RIGHT_TOWER
    if own not in LEFT_TOWER | {"models"}:
        assert not others(path) & TORCH
    if own not in RIGHT_TOWER | {"experiments", "models"}:
        assert not others(path) & DRAWING
        assert own == "evaluation" or not others(path) & TEMPLATES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_task_is_reached_by_its_name_alone(path: Path) -> None:
    parts = path.relative_to(PACKAGE).parts
    home = parts[1] if parts[0] == "tasks" and len(parts) > 2 else ""
    for file in ours(path):
        inside = file.relative_to(PACKAGE).parts
        if inside[0] == "tasks" and len(inside) > 2:
            assert inside[1] == home, f"{path.name} imports {inside[1]} past load_task"
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Compare) and parts[0] != "tasks":
            values = {part.value for part in node.comparators if isinstance(part, ast.Constant)}
            asks = f"{path.name}, line {node.lineno}: asks which task it is"
            assert not values & registered_tasks().keys(), asks


def test_sft_and_grpo_share_nothing_but_a_checkpoint_path() -> None:
    for one, other in (("sft", "grpo"), ("grpo", "sft")):
        assert f"{other}.py" not in {file.name for file in ours(PACKAGE / "training" / f"{one}.py")}


@pytest.mark.parametrize(
    "notebook", sorted((REPOSITORY / "notebooks" / "chapters").glob("*.ipynb")), ids=lambda path: path.stem
)
def test_chapter_reaches_no_training_code(notebook: Path) -> None:
    closure = import_closure([ast.parse(cell) for cell in notebook_code(notebook)])
    assert not {name_of(path) for path in closure} & (LEFT_TOWER | {"models"})


def test_no_code_evaluates_text() -> None:
    for path in FILES:
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        names = {func.id for func in calls if isinstance(func, ast.Name)}
        assert not names & {"eval", "exec", "compile", "__import__"}, path.name
        assert not others(path) & {"pickle", "marshal", "shelve", "dill"}, path.name


def test_budgets_are_kept_or_come_nearer() -> None:
    over = [(name, found, most) for name, found, most in budgets.count() if found > most]
    assert [row for row in over if row[1] > budgets.REACHED.get(row[0], row[2])] == []
    assert set(budgets.REACHED) <= {name for name, _, _ in over}, "a budget that is met holds from now on"
