"""The programs in benchmarks/, which are no package, as modules."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

from extrabitter.digests import REPOSITORY

if TYPE_CHECKING:
    from types import ModuleType


def load(name: str) -> ModuleType:
    """Import `benchmarks/<name>.py`, which finds its neighbours there."""
    folder = str(REPOSITORY / "benchmarks")
    sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(folder)
