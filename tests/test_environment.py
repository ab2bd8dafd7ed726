"""The environments: what conda, pip and make install must be one set."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from rattler import MatchSpec

from extrabitter.digests import REPOSITORY

LOCK = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8")
LOCKED = dict(re.findall(r"^([a-z0-9-]+)==(\S+) \\$", LOCK, re.MULTILINE))
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def environment(name: str) -> dict[str, Any]:
    return yaml.safe_load((REPOSITORY / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["environment.yml", "environment-cuda.yml"])
def test_conda_environment_parses_strictly_and_installs_the_lock(name: str) -> None:
    values = environment(name)
    assert set(values) == {"name", "channels", "dependencies"}
    assert values["channels"] == ["conda-forge", "nodefaults"]
    *specs, pip = values["dependencies"]
    parsed = {str(spec.name.normalized): spec for spec in (MatchSpec(text, strict=True) for text in specs)}
    assert str(parsed["python"].version) == "3.11.*"
    assert "pip" in parsed
    assert pip == {"pip": ["-r requirements.lock"]}
    torch = next(Requirement(text) for text in PROJECT["dependencies"] if text.startswith("torch=="))
    assert str(parsed["pytorch"].version) == str(torch.specifier)


def test_cuda_twin_differs_in_name_and_pytorch_only() -> None:
    cpu, cuda = environment("environment.yml"), environment("environment-cuda.yml")
    assert cpu["channels"] == cuda["channels"]
    differ = [(a, b) for a, b in zip(cpu["dependencies"], cuda["dependencies"], strict=True) if a != b]
    assert differ == [("pytorch ==2.13.0 cpu_*", "pytorch ==2.13.0 cuda*")]


def test_lock_pins_with_hashes_and_leaves_pytorch_out() -> None:
    blocks = re.split(r"\n(?=[a-z0-9])", LOCK)[1:]
    assert len(blocks) == len(LOCKED) > 100
    assert all("--hash=sha256:" in block for block in blocks)
    assert not [name for name in LOCKED if re.match(r"torch$|triton$|nvidia-|cuda-", name)]
    assert "://" not in LOCK


def test_lock_holds_the_versions_that_the_project_asks_for() -> None:
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    for requirement in map(Requirement, wanted):
        if requirement.name != "torch":
            assert f"=={LOCKED[canonicalize_name(requirement.name)]}" == str(requirement.specifier)


def test_makefile_installs_the_torch_version_that_the_project_asks_for() -> None:
    torch = next(text for text in PROJECT["dependencies"] if text.startswith("torch=="))
    assert f"TORCH := {torch}\n" in (REPOSITORY / "Makefile").read_text(encoding="utf-8")
