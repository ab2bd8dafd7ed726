"""Where a result comes from: commit, code, package versions and machine, as written into each manifest.

The code of a run is its notebook's cells and what they import, file by file, without docstrings and comments: a
change elsewhere, or one of words alone, makes no run stale. What imports cannot show is named here: a run loads its own
task by name, and hands its parameters to the class of its own stage.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import os
import platform
import re
import resource
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent
REPOSITORY = PACKAGE.parents[1]
STAGE_NOTEBOOKS = Path("notebooks/stages")
RESULTS = Path("results/edition")  # the committed store, which chapters read
_TASKS, _PARAMS = PACKAGE / "tasks" / "__init__.py", PACKAGE / "params.py"
# A file with such a name, which a module's code names and beside which it lies, is read by that module.
_DATA = (".yaml", ".json", ".csv", ".txt", ".jinja")

# Versions that can move a number.
_LIBS = ("torch", "trl", "transformers", "accelerate", "datasets", "tokenizers", "numpy", "scipy", "pandas")


def file_sha256(path: Path) -> str:
    """Hash a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_if_there(path: Path) -> str:
    """Hash a file's bytes; empty where there is no file."""
    return file_sha256(path) if path.is_file() else ""


def files_sha256(folder: Path) -> dict[str, str]:
    """Hash all files below a folder, by path relative to it, sorted; but for what Python keeps there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}


def git(repository: Path, *arguments: str) -> str | None:
    """Return what git says of a checkout, whoever owns it; None where it says nothing, or there is no git."""
    # Git refuses a tree of another owner, whose settings may run code; whoever is here runs the tree's code anyway.
    command = ["git", "-c", "safe.directory=*", "-C", str(repository), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def git_state(repository: Path = REPOSITORY) -> dict[str, Any]:
    """Name the commit and whether tracked files differ from it; commit "unknown" outside a checkout."""
    changed = git(repository, "status", "--porcelain", "--untracked-files=no")
    return {"commit": git(repository, "rev-parse", "HEAD") or "unknown", "dirty": changed != ""}


def package_versions() -> dict[str, str]:
    """List Python's version and those of the packages that can move a number."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in _LIBS}


def machine() -> dict[str, Any]:
    """Describe the processor, the number of cores this process may use, and the GPU if torch sees one."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    torch = sys.modules.get("torch")  # asked only where a stage has imported it: the import costs seconds
    gpu = torch.cuda.get_device_name(0) if torch is not None and torch.cuda.is_available() else ""
    here = {"cpu": (names or [platform.machine()])[0], "num_cores": len(os.sched_getaffinity(0))}
    return {**here, "gpu": gpu, "system": platform.platform()}


def peak_rss_mb() -> float:
    """Peak resident memory of this process, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def notebook_code(notebook: Path) -> list[str]:
    """Source of a notebook's code cells, in order."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def registered_tasks() -> dict[str, str]:
    """Return the registry of tasks, name -> module:class, read without importing any of them."""
    for node in ast.parse(_TASKS.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and _assigns(node, "REGISTRY") and node.value:
            found: dict[str, str] = ast.literal_eval(node.value)
            return found
    return {}


def code_digest(notebook: Path, *tasks: str) -> str:
    """Hash the code that a notebook runs: its code cells, their import closure in the package, and that of its tasks.

    A module's data files count as it does. Of `params`, only the class of the notebook's own stage counts, and of the
    tasks' registry nothing: a new task makes no run stale.
    """
    return _digest([_parsed(source) for source in notebook_code(notebook)], notebook.stem, tasks)


def module_digest(module: str) -> str:
    """Hash the code that `import module` runs, as that of a notebook."""
    return _digest([_parsed(f"import {module}")])


def import_closure(trees: Iterable[ast.Module], follow: bool = True, tasks: Iterable[str] = ()) -> list[Path]:
    """Files of this package that the given code imports, sorted; with `follow`, also what those import and read.

    A package's name stands for its __init__ alone, and so do the packages that a module lies in. Where the code can
    load tasks by name, the modules that the registry has for `tasks` count as imported.
    """
    found: set[Path] = set()
    waiting = [path for tree in trees for name in _imports(tree) for path in _files_of(name)]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        if follow and path.suffix == ".py":
            imported, data = _named(path.read_text(encoding="utf-8"))
            waiting += [file for name in imported for file in _files_of(name)]
            beside = [file for name in data for file in (path.parent / name, *path.parent.glob(f"*/{name}"))]
            waiting += [file for file in beside if file.is_file()]
            if path == _TASKS:
                modules = [registered_tasks().get(task, "").partition(":")[0] for task in tasks]
                waiting += [file for module in modules for file in _files_of(module)]
    return sorted(found)


@functools.cache
def _parsed(source: str) -> ast.Module:
    """Parse code; IPython's % and ! lines are left out, as they are no Python, and so are docstrings."""
    lines = [line for line in source.splitlines() if not line.lstrip().startswith(("%", "!"))]
    tree = ast.parse("\n".join(lines))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [part for part in body if not (isinstance(part, ast.Expr) and _is_text(part.value))]
            node.body = kept or [ast.Pass()]  # type: ignore[attr-defined]
    return tree


@functools.cache
def _dumped(source: str) -> str:
    return ast.dump(_parsed(source))


def _digest(trees: list[ast.Module], stage: str = "", tasks: Iterable[str] = ()) -> str:
    digest = hashlib.sha256()
    for tree in trees:
        digest.update(ast.dump(tree).encode())
    for path in import_closure(trees, tasks=tasks):
        digest.update(f"{path.relative_to(PACKAGE)}\n".encode())
        if path.suffix == ".py":
            digest.update(_code(path, path.read_text(encoding="utf-8"), stage).encode())
        else:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _code(path: Path, source: str, stage: str) -> str:
    """Dump a module's syntax, without what of it no run of this stage can reach."""
    if path not in (_PARAMS, _TASKS):
        return _dumped(source)
    body = [part for part in _parsed(source).body if not _assigns(part, "REGISTRY")]
    return ast.dump(ast.Module([part for part in body if _stage_of(part) in ("", stage)], []))


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _assigns(node: ast.stmt, name: str) -> bool:
    targets = getattr(node, "targets", [getattr(node, "target", None)])
    return any(isinstance(target, ast.Name) and target.id == name for target in targets)


def _stage_of(node: ast.stmt) -> str:
    """Return the stage whose parameters a class holds; empty for all else."""
    body = node.body if isinstance(node, ast.ClassDef) else []
    values = [part.value for part in body if isinstance(part, ast.AnnAssign) and _assigns(part, "stage")]
    return str(values[0].value) if values and isinstance(values[0], ast.Constant) else ""


def _imports(tree: ast.Module) -> Iterator[str]:
    """Names that code imports, wherever it does; what is imported for types alone runs nothing."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


@functools.cache
def _named(source: str) -> tuple[list[str], list[str]]:
    """Return what a module's code imports, and the files of data that it names."""
    tree = _parsed(source)
    texts = [text for node in ast.walk(tree) if isinstance(text := getattr(node, "value", None), str)]
    data = [text for text in texts if text.endswith(_DATA) and re.fullmatch(r"[\w.-]+(/[\w.-]+)*", text)]
    return [name for name in _imports(tree) if name.partition(".")[0] == PACKAGE.name], data


def _files_of(name: str) -> Iterator[Path]:
    """Files that `import name` runs: the module, and the __init__ of each package that it lies in."""
    head, *rest = name.split(".")
    if head != PACKAGE.name:
        return
    for depth in range(len(rest) + 1):
        path = PACKAGE.joinpath(*rest[:depth])
        candidates = (path / "__init__.py", path.with_suffix(".py"))
        yield from (candidate for candidate in candidates if candidate.is_file())
