"""What makes a run stale: the code that it imports and its own task's, and no word of a docstring or a comment."""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from extrabitter import digests
from extrabitter.digests import REPOSITORY, STAGE_NOTEBOOKS, import_closure
from extrabitter.params import STAGES


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package, which this process takes for its own when it hashes."""
    folder = tmp_path / "extrabitter"
    shutil.copytree(digests.PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(digests, "PACKAGE", folder)
    monkeypatch.setattr(digests, "_TASKS", folder / "tasks" / "__init__.py")
    monkeypatch.setattr(digests, "_PARAMS", folder / "params.py")
    return folder


def hashes(task: str = "countdown") -> dict[str, str]:
    folder = REPOSITORY / STAGE_NOTEBOOKS
    return {stage: digests.code_digest(folder / f"{stage}.ipynb", task) for stage in STAGES}


def stale(change: Callable[[], object], task: str = "countdown") -> set[str]:
    """Stages whose runs a change makes stale."""
    before = hashes(task)
    change()
    after = hashes(task)
    return {stage for stage in STAGES if before[stage] != after[stage]}


def add_code(path: Path) -> Callable[[], object]:
    return lambda: path.write_text(path.read_text() + "\n_ADDED = 1\n")


class Words(ast.NodeTransformer):
    """Rewrites every docstring."""

    def visit(self, node: ast.AST) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            node.body[0] = ast.Expr(ast.Constant("Other words."))
        return node


def test_a_docstring_or_a_comment_edited_anywhere_makes_nothing_stale(package: Path) -> None:
    def reword() -> None:
        for path in package.rglob("*.py"):
            text = ast.unparse(Words().visit(ast.parse(path.read_text())))
            path.write_text(f"# A comment.\n{text}\n")

    assert stale(reword) == set()


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("training/grpo.py", {"grpo"}),
        ("training/sft.py", {"sft_priming"}),
        ("evaluation/probe.py", {"will_it_choke"}),
        ("pages/build.py", set()),
        ("plan.py", set()),
        ("tasks/countdown/parser.py", set(STAGES)),
        ("runs.py", set(STAGES)),
    ],
)
def test_a_change_reaches_what_imports_it_alone(package: Path, module: str, expected: set[str]) -> None:
    assert stale(add_code(package / module)) == expected


def test_a_run_hangs_on_its_own_task_alone(package: Path) -> None:
    toy = package / "tasks" / "toy" / "__init__.py"
    toy.parent.mkdir()
    toy.write_text("from extrabitter.tasks.toy import words\nTABLE = 'words.txt'\n")
    (toy.parent / "words.py").write_text("WORDS = 1\n")
    (toy.parent / "words.txt").write_text("a")
    registry = package / "tasks" / "__init__.py"

    def register() -> None:
        entry = '    "countdown":'
        toy_entry = '    "toy": "extrabitter.tasks.toy:Toy",\n'
        registry.write_text(registry.read_text().replace(entry, toy_entry + entry))

    assert stale(register) == set(), "a task more in the registry makes no run of another stale"
    assert digests.registered_tasks()["toy"] == "extrabitter.tasks.toy:Toy"
    for name in ("__init__.py", "words.py"):
        assert stale(add_code(toy.parent / name)) == set()
        assert stale(add_code(toy.parent / name), "toy") == set(STAGES)
    data = toy.parent / "words.txt"
    assert stale(lambda: data.write_text("b"), "toy") == set(STAGES), "a file of data that the module names"
    assert stale(add_code(package / "tasks" / "countdown" / "parser.py"), "toy") == set()


def test_of_the_parameters_only_those_of_the_own_stage_count(package: Path) -> None:
    path = package / "params.py"
    text = path.read_text()
    field = '    stage: ClassVar[str] = "grpo"\n'
    assert text.count(field) == 1
    assert stale(lambda: path.write_text(text.replace(field, f"{field}    depth: int = 3\n"))) == {"grpo"}


def test_what_is_imported_for_types_alone_does_not_count() -> None:
    source = "if TYPE_CHECKING:\n    from extrabitter.training import grpo\n"
    assert import_closure([ast.parse(source)]) == []


def test_a_packages_name_stands_for_its_init_alone() -> None:
    tree = ast.parse("from extrabitter.models import dial")
    names = {path.relative_to(digests.PACKAGE).as_posix() for path in import_closure([tree], follow=False)}
    assert names == {"__init__.py", "models/__init__.py", "models/dial.py"}


def test_the_cells_of_a_notebook_count_without_comments(tmp_path: Path) -> None:
    def digest(code: str) -> str:
        notebook = tmp_path / "stage.ipynb"
        notebook.write_text(json.dumps({"cells": [{"cell_type": "code", "source": [code]}]}))
        return digests.code_digest(notebook)

    plain = digest("from extrabitter.seeding import derive_seed")
    assert plain == digest("# why\nfrom extrabitter.seeding import derive_seed")
    assert plain == digest("%matplotlib inline\nfrom extrabitter.seeding import derive_seed")
    assert plain != digest("from extrabitter.seeding import derive_seed\nx = 1")
    assert plain != digest("from extrabitter.tables import derive_seed")
