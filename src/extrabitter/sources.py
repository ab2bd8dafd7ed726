"""The values that the stages run with, each with its source: tables for the page on methods.

Names and sources stand in `sources.yaml`. A value that stands in the code is looked up there, by module and name, in
the code's text: nothing that trains is imported, and no value is written twice.
"""

from __future__ import annotations

import ast
import functools
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from extrabitter.digests import PACKAGE
from extrabitter.params import STAGES
from extrabitter.profiles import read_yaml

NO_REASON = "no reason is on record"
_LITERAL = r'True|False|None|"\w+"|-?\d[\d._e-]*|\([\d., ]+\)|\{[^{}]*: [^{}]*\}'  # as the code writes one


def parameter_sources(stage: str) -> dict[str, str]:
    """Return the source of each parameter of a stage that bears on a result, in the order they are shown in."""
    written = _read()
    language = written["language"] if "prompt" in STAGES[stage].model_fields else {}
    return {**language, **written["parameters"][stage]}


def fixed_sources(stage: str) -> dict[str, str]:
    """Return the source of each value that stands in the code of a stage, by module and name."""
    found: dict[str, str] = _read()["fixed"][stage]
    return found


def parameter_table(stage: str, arms: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return one row a parameter of a stage: parameter, meaning, default, used (by these arms), source.

    `arms` are the parameters that runs recorded, one mapping an arm; a run from before a parameter has no value of it.
    """
    recorded, rows = list(arms), []
    for name, source in parameter_sources(stage).items():
        field = STAGES[stage].model_fields[name]
        default = "none" if field.is_required() else _shown(field.default)
        used = _used([_shown(values[name]) for values in recorded if name in values], bool(recorded))
        rows.append((name, field.description or "", default, used, source))
    return pd.DataFrame(rows, columns=["parameter", "meaning", "default", "used", "source"])


def fixed_table(stage: str) -> pd.DataFrame:
    """Return one row a value that stands in a stage's code: name (with its module), value, source."""
    rows = [(name, _shown(fixed_value(name)), source) for name, source in fixed_sources(stage).items()]
    return pd.DataFrame(rows, columns=["name", "value", "source"])


def fixed_value(name: str) -> Any:
    """Look a value up in the code, by "module.name": the first literal behind that name and = or :; else KeyError.

    >>> fixed_value("statistics.NUM_RESAMPLES")
    1000
    """
    module, _, short = name.rpartition(".")
    path = PACKAGE.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    found = re.search(rf'\b{short}"?(?:: \w+)? ?[=:] ?({_LITERAL})', path.read_text(encoding="utf-8"))
    if found is None:
        raise KeyError(f"{module} gives no literal the name {short}")
    return ast.literal_eval(found[1])


def count_sources() -> dict[str, int]:
    """Count values, and those without a reason; a parameter that stages share, with its source, counts once.

    Keys: parameters, fixed, open (ours, and no reason is on record, or none for the size).
    """
    parameters = {item for stage in STAGES for item in parameter_sources(stage).items()}
    fixed = {item for stage in STAGES for item in fixed_sources(stage).items()}
    unexplained = sum(NO_REASON in source for _, source in [*parameters, *fixed])
    return {"parameters": len(parameters), "fixed": len(fixed), "open": unexplained}


@functools.cache
def _read() -> dict[str, Any]:
    values: dict[str, Any] = read_yaml(PACKAGE / "sources.yaml", "sources")
    return values


def _used(values: list[str], any_run: bool) -> str:
    """Say which values arms were run with, the commonest first, with the number of arms where they differ."""
    if not values:
        return "not recorded" if any_run else "not run"
    counts = Counter(values).most_common()
    if len(counts) == 1:
        return counts[0][0]
    return "\n".join(f"{value} ({count} arms)" if count > 1 else value for value, count in counts)


def _shown(value: Any) -> str:
    """Write a value as a reader would.

    >>> [_shown(value) for value in (2_800_000, 1.5e-4, "", None, True, (8, 16), {3: 0.1})]
    ['2,800,000', '0.00015', 'empty', 'none', 'yes', '8, 16', '3: 0.1']
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{_shown(key)}: {_shown(item)}" for key, item in value.items())
    if isinstance(value, tuple | list):
        return ", ".join(_shown(item) for item in value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value).strip() or "empty"
