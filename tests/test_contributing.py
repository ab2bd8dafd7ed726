"""The examples of CONTRIBUTING.md do what it says: an arm that is planned and run, a chapter, a task."""

from __future__ import annotations

import json
import random
import re
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from extrabitter import jobs as execution
from extrabitter import plan as pipeline
from extrabitter.runs import find_runs
from extrabitter.digests import REPOSITORY
from miniature import write_notebook, write_yaml
from synthetic_results import write_results
from test_book_safety import HOSTILE
from test_chapters import run

GUIDE = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")


def examples(section: str, language: str) -> list[str]:
    """Fenced blocks of one language in one section of the guide."""
    text = re.split(r"^## ", GUIDE, flags=re.MULTILINE)
    (body,) = [part for part in text if part.startswith(f"{section}\n")]
    return [
        block for _, block in re.findall(rf"^(`{{3,}}){language}\n(.*?)^\1$", body, re.DOTALL | re.MULTILINE)
    ]


def merge(into: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    for key, value in new.items():
        into[key] = merge(into.get(key, {}), value) if isinstance(value, dict) and key in into else value
    return into


# --- An arm ----------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The repository's notebooks with the guide's arm in a profile of its own, tiny and from scratch."""
    for name in ("notebooks", "models"):
        if (REPOSITORY / name).exists():
            (tmp_path / name).symlink_to(REPOSITORY / name)
    profile = yaml.safe_load((REPOSITORY / "profiles" / "smoke.yaml").read_text(encoding="utf-8"))
    (block,) = examples("An arm", "yaml")
    write_yaml(tmp_path / "profiles" / "smoke.yaml", merge(profile, yaml.safe_load(block)))
    return tmp_path


def test_the_arm_of_the_guide_adds_its_runs_and_changes_no_other(tree: Path) -> None:
    before, after = pipeline.make_plan("smoke", REPOSITORY), pipeline.make_plan("smoke", tree)
    new = [key for key in after.jobs if key not in before.jobs]
    assert new == ["grpo/grpo_rich_permuted/seed=0", "behaviour_evaluation/grpo_rich_permuted/seed=0"]
    assert after.jobs[new[0]].inputs == ("base_model/rich/seed=0",)
    assert after.jobs[new[0]].parameters.permute_rewards is True
    assert after.jobs[new[1]].inputs == (new[0],)
    digests = after.digests()
    assert all(digests[key] == digest for key, digest in before.digests().items())


def test_the_arm_of_the_guide_runs(tree: Path) -> None:
    results = REPOSITORY / "runs" / "smoke"
    if not results.is_dir():
        pytest.fail("no smoke runs here: `make test` makes them first, or run `make book PROFILE=smoke`")
    shutil.copytree(results, tree / "runs" / "smoke")
    plan = pipeline.make_plan("smoke", tree)
    for key in ("grpo/grpo_rich_permuted/seed=0", "behaviour_evaluation/grpo_rich_permuted/seed=0"):
        status = execution.run_job(plan, key)
        assert status.state == "ok", status.reason
    arms = {(run.stage, run.arm) for run in find_runs(tree / "runs" / "smoke")}
    assert {("grpo", "grpo_rich_permuted"), ("behaviour_evaluation", "grpo_rich_permuted")} <= arms


# --- A chapter -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failed", [[], [("behaviour_evaluation", "grpo_rich", 0)]])
def test_the_chapter_of_the_guide_glues_what_its_prose_asks_for(
    failed: list[tuple[str, str, int]], tmp_path: Path
) -> None:
    (prose,) = examples("A chapter", "markdown")
    parameters, code = examples("A chapter", "python")
    cells: list[dict[str, Any]] = [{"cell_type": "markdown", "metadata": {}, "source": prose}]
    for source, tags in ((parameters, ["parameters", "remove-input"]), (code, ["hide-input"])):
        cell = {"cell_type": "code", "metadata": {"tags": tags}, "source": source}
        cells.append({**cell, "outputs": [], "execution_count": None})
    write_notebook(tmp_path / "how_long.ipynb", cells)
    results = write_results(tmp_path / "results", num_problems=4, failed=failed)
    glued, shown = run(tmp_path / "how_long.ipynb", results, tmp_path / "out")
    assert set(re.findall(r"\{glue:text\}`(\w+)`", prose)) == glued.keys()
    assert ("not measured" in glued["tokens_after"]) == bool(failed)
    assert re.match(r"'\d+\.\d \(", glued["tokens_before"])
    assert "made_up" in shown and (tmp_path / "out" / "tables" / "how_long_tokens.csv").is_file()


def test_the_guides_parameters_cell_is_that_of_every_chapter() -> None:
    def bare(source: str) -> list[str]:
        return [line.split("  #")[0] for line in source.splitlines()]

    parameters, _ = examples("A chapter", "python")
    for chapter in (REPOSITORY / "notebooks" / "chapters").glob("*.ipynb"):
        cells = json.loads(chapter.read_text(encoding="utf-8"))["cells"]
        (own,) = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
        assert bare("".join(own["source"])) == bare(parameters), chapter.name


# --- A task ----------------------------------------------------------------------------------------------------


def load_example() -> types.ModuleType:
    """Import the guide's task, which is text of this repository, as a module."""
    (source,) = examples("A task", "python")
    module = types.ModuleType("doubling")
    sys.modules["doubling"] = module  # where dataclasses look for the module of a class
    exec(compile(source, "CONTRIBUTING.md", "exec"), module.__dict__)
    return module


DOUBLING = load_example()
TASK = DOUBLING.Doubling()


def test_the_task_of_the_guide_has_every_member_of_the_interface() -> None:
    from extrabitter.tasks import Task

    members = {name for name in vars(Task) if not name.startswith("_")} | set(Task.__annotations__)
    assert {name for name in members if hasattr(TASK, name)} == members


def test_the_same_arguments_give_the_same_problems() -> None:
    drawn = TASK.generate_problems("train", 20, seed=1)
    assert drawn == TASK.generate_problems("train", 20, seed=1) != TASK.generate_problems("train", 20, seed=2)


def test_splits_share_no_problem() -> None:
    splits = {name: set(TASK.generate_problems(name, 400, seed=0)) for name in DOUBLING.SPLITS}
    assert all(splits.values()) and len(set().union(*splits.values())) == sum(map(len, splits.values()))


def test_every_solution_is_accepted_and_another_is_not() -> None:
    for problem in TASK.generate_problems("test", 10, seed=0):
        (solution,) = TASK.solve(problem)
        assert TASK.verify_completion(f"answer {solution}", problem).correct
        assert TASK.verify_completion(f"answer {solution + 1}", problem).reason == "wrong_value"


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_rejected_with_a_reason(text: str) -> None:
    verdict = TASK.verify_completion(text, DOUBLING.Problem(3))
    assert not verdict.correct and verdict.reason in ("no_answer", "no_number")


@given(st.text(), st.integers(0, 99))
def test_no_text_makes_verifier_or_parser_raise(text: str, number: int) -> None:
    problem = DOUBLING.Problem(number)
    for given_text in (text, f"answer {text}"):
        verdict = TASK.verify_completion(given_text, problem)
        assert verdict.reason and verdict.correct == (given_text.split() == ["answer", str(2 * number)])
        TASK.parse_trace(given_text, problem)


def test_a_written_trace_is_read_back() -> None:
    rng = random.Random(0)
    for problem in TASK.generate_problems("train", 10, seed=0):
        trace = TASK.write_trace(problem, None, rng)
        assert TASK.parse_trace(TASK.render_trace(trace, problem), problem) == trace


def test_every_file_that_the_guide_names_is_there() -> None:
    for path in re.findall(
        r"`((?:src|tests|book|profiles|notebooks|\.ci)/[\w./]+|[\w.]+\.(?:md|yml))`", GUIDE
    ):
        assert (REPOSITORY / path).exists(), path
