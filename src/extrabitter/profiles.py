"""Profiles: what to run, as a strict schema over YAML that means one thing only.

YAML as most readers take it lets the last of two equal keys win and reads `010` as eight. Here a repeated key and a
number that two versions of YAML read differently are refused, with their lines; all else is as in YAML 1.2.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from extrabitter.digests import REPOSITORY
from extrabitter.params import NAME, Few, ParameterError, StrictModel, validate


class Resources(StrictModel):
    """What one run asks of a cluster, or of a machine with GPUs; cores are the profile's `threads`."""

    gpus: int = Field(0, ge=0, le=64, description="GPUs")
    memory_mb: int = Field(4_000, ge=100, description="main memory, in megabytes")
    minutes: int = Field(120, ge=1, description="wall time after which a cluster may stop it")


class Stage(StrictModel):
    """One stage of a task: values all its arms share, and what each arm sets itself."""

    estimate_s: float = Field(60.0, gt=0, description="expected wall time of one run, in seconds")
    resources: Resources = Field(default_factory=Resources, description="of one run")
    defaults: dict[str, Any] = Field(default_factory=dict, description="parameters of every arm")
    arms: dict[str, dict[str, Any] | None] = Field(
        min_length=1, description="arm: its own parameters, seeds and experiment"
    )


class Stages(StrictModel):
    """The stages a task may have."""

    base_model: Stage | None = None
    sft_priming: Stage | None = None
    grpo: Stage | None = None
    behaviour_evaluation: Stage | None = None
    will_it_choke: Stage | None = None


class TaskRuns(StrictModel):
    """What is run on one task."""

    stages: Stages


class Profile(StrictModel):
    """What to run: tasks, arms, seeds and sizes."""

    name: str = Field(pattern=NAME, description="the file's name without .yaml")
    description: str = Field(min_length=1, description="one sentence for the reader")
    seeds: list[int] = Field(min_length=1, description="root seeds of every arm that sets none itself")
    threads: Few = Field(1, description="CPU threads of a job")
    tasks: dict[str, TaskRuns] = Field(min_length=1, description="task: its stages")


def load_profile(name: str, root: Path = REPOSITORY) -> Profile:
    """Read profiles/<name>.yaml; raise ParameterError with one line when it is absent or wrong."""
    where, path = f"profile {name}", root / "profiles" / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml")))
        known = known or f"those in {path.parent}, where there is none"
        raise ParameterError(f"profile = {name!r}: unknown; must be one of {known}")
    values = read_yaml(path, where)
    if not isinstance(values, dict):
        raise ParameterError(f"{where}: {path.name} must be a mapping with name, seeds, tasks ...")
    profile = validate(Profile, values, where)
    if profile.name != name:
        raise ParameterError(f"{where}: name = {profile.name!r}: must be {name!r}, as the file is called")
    return profile


def read_yaml(path: Path, where: str) -> Any:
    """Read a YAML file strictly; ParameterError is one line that begins with `where` and names lines of the file."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f"{path.name}, line {mark.line + 1}: " if mark else f"{path.name}: "
        what = getattr(error, "problem", None) or str(error)
        raise ParameterError(f"{where}: {line}{' '.join(str(what).split())}") from None
    except RecursionError:
        raise ParameterError(f"{where}: {path.name}: is nested too deeply") from None


class _StrictLoader(yaml.SafeLoader):
    """Plain scalars by YAML 1.2's core schema; no key twice in a mapping."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's own form)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[Any, int] = {}
        for key, _ in node.value:
            name, line = key.value, key.start_mark.line + 1
            if isinstance(name, str) and name in lines:
                raise yaml.constructor.ConstructorError(
                    problem=f"{name} stands twice, first in line {lines[name]}; remove or rename one",
                    problem_mark=key.start_mark,
                )
            lines[str(name)] = line
        return super().construct_mapping(node, deep)


def _unclear(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Any:
    raise yaml.constructor.ConstructorError(
        problem=f"{node.value} is another number in YAML 1.1 than in 1.2; write it in decimal digits",
        problem_mark=node.start_mark,
    )


_YAML = "tag:yaml.org,2002:"
_NUMBERS = {
    f"{_YAML}int": r"[-+]?(0|[1-9][0-9]*)",
    f"{_YAML}float": r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan",
    # Octal, hexadecimal, binary, with underscores, and minutes and seconds, each of some version.
    "!unclear": r"[-+]?(0[0-9_]+|0[xob][0-9a-fA-F_]+|[0-9][0-9_]*_[0-9_]*(\.[0-9_]*)?|[0-9]+(:[0-5]?[0-9])+)",
}
for _tag, _pattern in _NUMBERS.items():
    _StrictLoader.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), list("-+0123456789."))
_StrictLoader.add_implicit_resolver(f"{_YAML}bool", re.compile(r"^(?:true|false)$"), list("tf"))
_StrictLoader.add_implicit_resolver(f"{_YAML}null", re.compile(r"^(?:~|null|)$"), ["~", "n", ""])
_StrictLoader.add_implicit_resolver(f"{_YAML}merge", re.compile(r"^<<$"), ["<"])
_StrictLoader.add_constructor("!unclear", _unclear)
