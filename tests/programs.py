"""Programs in benchmarks/, which is no package, as modules."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

from extrabitter.digests import REPOSITORY


def load(name: str) -> ModuleType:
    """Import a program of benchmarks/ by its name."""
    path = REPOSITORY / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
