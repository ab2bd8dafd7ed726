"""Where a result comes from: commit, code, package versions and machine, as written into each manifest."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent
REPOSITORY = PACKAGE.parents[1]
STAGE_NOTEBOOKS = Path("notebooks/stages")

# Versions that can move a number.
_PACKAGES = (
    "torch",
    "trl",
    "transformers",
    "accelerate",
    "datasets",
    "tokenizers",
    "numpy",
    "scipy",
    "pandas",
)


def file_sha256(path: Path) -> str:
    """Hash a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def git_state(repository: Path = REPOSITORY) -> dict[str, Any]:
    """Name the commit and whether tracked files differ from it; commit "unknown" outside a checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(repository), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        return {
            "commit": git("rev-parse", "HEAD"),
            "dirty": bool(git("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.CalledProcessError):
        return {"commit": "unknown", "dirty": True}


def package_versions() -> dict[str, str]:
    """List Python's version and those of the packages that can move a number."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def machine() -> dict[str, Any]:
    """Describe the processor, the number of cores this process may use, and the GPU if torch sees one."""
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    torch = sys.modules.get("torch")  # asked only where a stage has imported it: the import costs seconds
    gpu = torch.cuda.get_device_name(0) if torch is not None and torch.cuda.is_available() else ""
    return {"cpu": cpu, "num_cores": len(os.sched_getaffinity(0)), "gpu": gpu, "system": platform.platform()}


def peak_rss_mb() -> float:
    """Peak resident memory of this process, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def notebook_code(notebook: Path) -> list[str]:
    """Source of a notebook's code cells, in order."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def code_digest(notebook: Path) -> str:
    """Hash the code that a stage notebook runs: its code cells and its import closure inside the package.

    Only syntax counts, so that a comment or a paragraph of prose makes no run stale; nor does any module
    that the stage never imports, such as a figure.
    """
    cells = [_tree(source) for source in notebook_code(notebook)]
    digest = hashlib.sha256()
    for cell in cells:
        digest.update(ast.dump(cell).encode())
    for module in import_closure(cells):
        digest.update(f"{module.relative_to(PACKAGE)}\n".encode())
        digest.update(ast.dump(_tree(module.read_text(encoding="utf-8"))).encode())
    return digest.hexdigest()


def import_closure(trees: list[ast.Module], follow: bool = True) -> list[Path]:
    """Files of this package that the given code imports, sorted; with `follow`, also what those import."""
    found: set[Path] = set()
    waiting = [path for tree in trees for path in _imported_files(tree)]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            if follow:
                waiting += _imported_files(_tree(path.read_text(encoding="utf-8")))
    return sorted(found)


def _tree(source: str) -> ast.Module:
    """Parse code; IPython's % and ! lines are left out, as they are no Python."""
    return ast.parse(
        "\n".join(line for line in source.splitlines() if not line.lstrip().startswith(("%", "!")))
    )


def _imported_files(tree: ast.Module) -> Iterator[Path]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            head, *rest = name.split(".")
            if head == PACKAGE.name:
                yield from _files_of(PACKAGE.joinpath(*rest))


def _files_of(module: Path) -> Iterator[Path]:
    if module.with_suffix(".py").is_file():
        yield module.with_suffix(".py")
    elif module == PACKAGE:
        yield module / "__init__.py"
    elif (module / "__init__.py").is_file():
        # A sub-package may choose among its files at run time (tasks.load_task): take them all.
        yield from module.glob("*.py")
