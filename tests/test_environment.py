"""The environments: what conda, pip and make install must be one set, on every Python that is supported."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from rattler import MatchSpec

from extrabitter.digests import REPOSITORY

PYTHONS = ("3.11", "3.12", "3.13")
LOCK = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8")
LINES = [Requirement(line) for line in re.findall(r"^([a-z0-9].*?) \\$", LOCK, re.MULTILINE)]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TORCH = next(text for text in PROJECT["dependencies"] if text.startswith("torch=="))
MAKEFILE = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
OF_TORCH = re.compile(r"torch$|triton$|nvidia-|cuda-")


def locked(python: str) -> dict[str, str]:
    """Versions that the lock has for one Python, by package."""
    here = {"python_version": python, "python_full_version": f"{python}.0", "platform_machine": "x86_64"}
    here |= {"sys_platform": "linux", "implementation_name": "cpython"}
    here |= {"platform_python_implementation": "CPython"}
    kept = [line for line in LINES if line.marker is None or line.marker.evaluate(here)]
    versions = {line.name: str(line.specifier).removeprefix("==") for line in kept}
    assert len(versions) == len(kept), "no package twice for one Python"
    return versions


@pytest.mark.parametrize("name", ["environment.yml", "environment-cuda.yml"])
def test_conda_environment_parses_strictly_installs_the_lock_and_takes_our_pythons(name: str) -> None:
    values = yaml.safe_load((REPOSITORY / name).read_text(encoding="utf-8"))
    assert set(values) == {"name", "channels", "dependencies"}
    assert values["channels"] == ["conda-forge", "nodefaults"]
    *specs, pip = values["dependencies"]
    parsed = {str(spec.name.normalized): spec for spec in (MatchSpec(text, strict=True) for text in specs)}
    assert set(parsed) == {"python", "pip", "make", "git", "pytorch"}
    assert pip == {"pip": ["-r requirements.lock"]}
    assert SpecifierSet(str(parsed["python"].version)) == SpecifierSet(PROJECT["requires-python"])
    assert str(parsed["pytorch"].version) == str(Requirement(TORCH).specifier)


def test_cuda_twin_differs_in_name_and_pytorch_only() -> None:
    names = ("environment.yml", "environment-cuda.yml")
    cpu, cuda = (yaml.safe_load((REPOSITORY / name).read_text(encoding="utf-8")) for name in names)
    differ = [(a, b) for a, b in zip(cpu["dependencies"], cuda["dependencies"], strict=True) if a != b]
    assert differ == [("pytorch ==2.13.0 cpu_*", "pytorch ==2.13.0 cuda*")]


def test_lock_pins_with_hashes_and_leaves_pytorch_out() -> None:
    blocks = re.split(r"\n(?=[a-z0-9])", LOCK)[1:]
    assert len(blocks) == len(LINES) > 100
    assert all("--hash=sha256:" in block for block in blocks)
    assert not [line.name for line in LINES if OF_TORCH.match(line.name)]
    assert "://" not in LOCK


@pytest.mark.parametrize("python", PYTHONS)
def test_lock_holds_the_versions_that_the_project_asks_for(python: str) -> None:
    versions = locked(python)
    for requirement in map(Requirement, [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]):
        if requirement.name != "torch":
            assert f"=={versions[canonicalize_name(requirement.name)]}" == str(requirement.specifier)


def test_installed_are_the_versions_of_the_lock() -> None:
    from importlib import metadata

    versions = locked(HERE)
    wanted = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]} - {"torch"}
    assert {name: metadata.version(name) for name in wanted} == {name: versions[name] for name in wanted}


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize("python", [python for python in PYTHONS if python != HERE])
def test_another_python_resolves_to_what_the_lock_has_for_it(python: str, tmp_path: Path) -> None:
    """By metadata alone: nothing is downloaded but that. The lock is given as constraints, as pip would be."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not installed; `make setup` does it")
    options = ["--python-version", python, "--python-platform", "x86_64-unknown-linux-gnu", "-q"]
    options += ["--no-header", "--no-annotate", "--extra", "dev"]
    files = [str(REPOSITORY / "pyproject.toml"), "--constraint", str(REPOSITORY / "requirements.lock")]
    command = [uv, "pip", "compile", *files, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    if done.returncode and re.search(r"[Ff]ailed to fetch|dns error|error sending request", done.stderr):
        pytest.skip("the package index does not answer")
    assert done.returncode == 0, done.stderr
    resolved = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", done.stdout, re.MULTILINE))
    assert {name: version for name, version in resolved.items() if not OF_TORCH.match(name)} == locked(python)


# --- make --------------------------------------------------------------------------------------------------------


def test_makefile_knows_the_versions_that_the_project_supports() -> None:
    assert f"TORCH := {TORCH}\n" in MAKEFILE
    (supported,) = re.findall(r"^SUPPORTED := (.+)$", MAKEFILE, re.MULTILINE)
    allowed = SpecifierSet(PROJECT["requires-python"])
    assert sorted(supported.split()) == sorted(PYTHONS)
    assert [minor for minor in range(8, 20) if f"3.{minor}.1" in allowed] == [int(one[2:]) for one in PYTHONS]


def fake_python(folder: Path, name: str, version: str) -> None:
    """An interpreter that says it is of a version, notes what else it is asked to do, and does nothing."""
    folder.mkdir(exist_ok=True)
    cases = f'*version_info*) echo {version};; "") ;; *) echo "$@" >> asked.txt;;'
    (folder / name).write_text(f'#!/bin/sh\ncase "$2" in {cases} esac\n')
    (folder / name).chmod(0o755)


def make(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        if not (tree / name).exists():
            shutil.copy(REPOSITORY / name, tree / name)
    for name in ("make", "bash", "sh", "cat", "sha256sum", "cut", "uname", "rm", "touch"):
        if not (tree / "bin" / name).exists():  # the interpreters of this machine stay out of sight
            (tree / "bin" / name).symlink_to(str(shutil.which(name)))
    command, environment = ["make", *arguments], {"PATH": str(tree / "bin"), "HOME": str(tree)}
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=300)


def test_the_newest_supported_python_that_runs_is_taken_and_named(tmp_path: Path) -> None:
    for name, version in (("python3.11", "3.11"), ("python3.12", "3.12"), ("python3.14", "3.14")):
        fake_python(tmp_path / "bin", name, version)
    broken = tmp_path / "bin" / "python3.13"  # as version managers leave them
    broken.write_text("#!/bin/sh\necho 'python3.13: command not found' >&2; exit 127\n")
    broken.chmod(0o755)
    done = make(tmp_path, "setup")
    assert "for Python 3.12 (python3.12)" in done.stdout
    assert (tmp_path / "asked.txt").read_text() == "-m venv --clear .venv\n"


@pytest.mark.parametrize(
    ("python", "line"),
    [
        ("python3.10", "python3.10 is 3.10: must be one of 3.13 3.12 3.11, e.g. PYTHON=python3.12"),
        ("nopython", "nopython: must be one of 3.13 3.12 3.11"),
        ("", "none found: must be one of 3.13 3.12 3.11"),
    ],
)
def test_another_python_is_refused_before_anything_is_done(tmp_path: Path, python: str, line: str) -> None:
    fake_python(tmp_path / "bin", "python3.10", "3.10")
    done = make(tmp_path, "setup", *[f"PYTHON={python}"] * bool(python))
    assert done.returncode and f"error: PYTHON = {line}" in done.stdout
    assert "nothing was installed" in done.stdout
    assert not (tmp_path / ".venv").exists() and not (tmp_path / "asked.txt").exists()


def test_another_platform_is_refused_by_its_name(tmp_path: Path) -> None:
    fake_python(tmp_path / "bin", "python3.12", "3.12")
    uname = tmp_path / "bin" / "uname"
    uname.write_text("#!/bin/sh\necho Darwin arm64\n")
    uname.chmod(0o755)
    done = make(tmp_path, "setup")
    assert done.returncode and "error: Darwin arm64 is not supported, only Linux on x86-64 is" in done.stdout
    assert not (tmp_path / "asked.txt").exists()


def test_the_set_up_is_done_once_for_its_content_whatever_the_times_of_files(tmp_path: Path) -> None:
    fake_python(tmp_path / "bin", "python3.12", "3.12")
    stamp = re.search(r"\.venv/\.installed-\d\S+", make(tmp_path, "-n", "setup").stdout)
    assert stamp is not None and stamp[0].startswith(".venv/.installed-3.12-")
    (tmp_path / ".venv").mkdir()
    (tmp_path / stamp[0]).touch()
    os.utime(tmp_path / stamp[0], (0, 0))
    assert "set-up" not in make(tmp_path, "setup").stdout
    (tmp_path / "requirements.lock").write_text(LOCK + "# another\n")
    assert "set-up" in make(tmp_path, "-n", "setup").stdout
