"""The workflows: actions pinned to commits, no permission beyond need, and commands that this tree has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from extrabitter import plan as pipeline
from extrabitter.digests import REPOSITORY

WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
MAKEFILE = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
# What each job may do; all else is refused.
PERMISSIONS = {
    ("tests", "tests"): {"contents": "read"},
    ("pages", "build"): {"contents": "read"},
    ("pages", "deploy"): {"pages": "write", "id-token": "write"},
}


def load(path: Path) -> dict[Any, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_there_is_a_workflow_for_pull_requests_and_one_for_pages() -> None:
    # YAML 1.1 reads the key `on` as true.
    triggers = {path.stem: set(load(path)[True]) for path in WORKFLOWS}
    both = {"workflow_dispatch"}
    assert triggers == {"tests": {"pull_request"} | both, "pages": {"push"} | both}
    assert load(REPOSITORY / ".github/workflows/pages.yml")[True]["push"] == {"branches": ["main"]}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_action_is_pinned_to_a_commit_and_says_its_version(path: Path) -> None:
    uses = re.findall(r"uses: (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(uses) >= 2
    for line in uses:
        assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_no_job_may_do_more_than_it_must_and_each_command_is_there(path: Path) -> None:
    workflow = load(path)
    assert workflow["permissions"] == {}
    (supported,) = re.findall(r"^SUPPORTED := (.+)$", MAKEFILE, re.MULTILINE)
    commands = []
    for name, job in workflow["jobs"].items():
        assert job["permissions"] == PERMISSIONS[path.stem, name]
        assert job["timeout-minutes"] <= 60
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False
            if step.get("uses", "").startswith("actions/setup-python@"):
                assert step["with"]["python-version"] in supported.split()
            # Nothing from an event is ever put into a shell.
            assert "${{" not in step.get("run", "")
            commands += [step["run"]] if "run" in step else []
    assert commands
    for command in commands:
        program, *arguments = command.split()
        if program == "make":
            assert all(re.search(rf"^{target}:", MAKEFILE, re.MULTILINE) for target in arguments)
        else:
            assert (REPOSITORY / program).stat().st_mode & 0o100, f"{program} cannot be run"


def test_what_is_uploaded_is_where_the_published_book_is_built() -> None:
    steps = load(REPOSITORY / ".github/workflows/pages.yml")["jobs"]["build"]["steps"]
    (path,) = [step["with"]["path"] for step in steps if "upload-pages-artifact" in step.get("uses", "")]
    assert path == pipeline.make_book("", REPOSITORY).index.parent.relative_to(REPOSITORY).as_posix()
