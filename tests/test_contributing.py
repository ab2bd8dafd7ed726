"""What CONTRIBUTING.md tells is done here: an arm that is planned, a chapter that is run, a task from start to page."""

from __future__ import annotations

import json
import re
import shutil
import textwrap
from pathlib import Path
from typing import Any

import papermill
import pytest
import yaml

import miniature
from extrabitter import plan as pipeline
from extrabitter import store
from extrabitter.digests import REPOSITORY
from extrabitter.runs import find_runs

GUIDE = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
RESULTS = REPOSITORY / pipeline.make_book("").results_dir


def examples(section: str, language: str) -> list[str]:
    """Fenced blocks of one language in one section of the guide."""
    text = re.split(r"^## ", GUIDE, flags=re.MULTILINE)
    (body,) = [part for part in text if part.startswith(f"{section}\n")]
    pattern = rf"^( *`{{3,}}){language}\n(.*?)^\1$"
    return [textwrap.dedent(block) for _, block in re.findall(pattern, body, re.DOTALL | re.MULTILINE)]


def merge(into: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    for key, value in new.items():
        into[key] = merge(into.get(key, {}), value) if isinstance(value, dict) and key in into else value
    return into


def chapter(path: Path, prose: str, *codes: str) -> None:
    """Write a chapter as the guide has it: prose, parameters cell, code."""
    tags = (("parameters", "remove-input"), ("hide-input",))
    cells = [miniature.code(source, *own) for source, own in zip(codes, tags, strict=True)]
    miniature.write_notebook(path, [miniature.markdown(prose), *cells])


def glued(executed: Any) -> dict[str, str]:
    """What an executed chapter glued, by key."""
    outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
    found = [(one["metadata"].get("scrapbook"), one["data"]) for one in outputs if "metadata" in one]
    return {scrap["name"]: next(iter(data.values())) for scrap, data in found if scrap}


def test_the_arm_of_the_guide_adds_its_runs_and_changes_no_other(tmp_path: Path) -> None:
    (tmp_path / "notebooks").symlink_to(REPOSITORY / "notebooks")
    profile = yaml.safe_load((REPOSITORY / "profiles" / "smoke.yaml").read_text(encoding="utf-8"))
    (block,) = examples("An arm", "yaml")
    miniature.write_yaml(tmp_path / "profiles" / "smoke.yaml", merge(profile, yaml.safe_load(block)))
    before, after = pipeline.make_plan("smoke", REPOSITORY), pipeline.make_plan("smoke", tmp_path)
    new = [key for key in after.jobs if key not in before.jobs]
    assert new == ["countdown/grpo/permuted/seed=0", "countdown/behaviour_evaluation/after_permuted/seed=0"]
    assert after.jobs[new[0]].inputs == ("countdown/base_model/searcher/seed=0",)
    assert after.jobs[new[0]].parameters.permute_rewards and after.jobs[new[1]].inputs == (new[0],)
    assert {after.jobs[key].experiment for key in new} == {"controls"}
    for key, job in before.jobs.items():
        assert after.made_from(after.jobs[key]) == before.made_from(job)


@pytest.mark.slow
def test_the_chapter_of_the_guide_glues_what_its_prose_asks_for(tmp_path: Path) -> None:
    (prose,) = examples("A chapter", "markdown")
    chapter(tmp_path / "how_long.ipynb", prose, *examples("A chapter", "python"))
    asked = {"results_dir": str(RESULTS), "output_dir": str(tmp_path / "out")}
    executed = papermill.execute_notebook(
        str(tmp_path / "how_long.ipynb"), None, asked, kernel_name="python3", progress_bar=False
    )
    found = glued(executed)
    assert set(re.findall(r"\{glue:text\}`(\w+)`", prose)) == found.keys()
    assert all(re.fullmatch(r"'\d+\.\d \(\d+\.\d to \d+\.\d\)'", text) for text in found.values()), found


def test_the_guides_parameters_cell_is_that_of_every_chapter() -> None:
    parameters, _ = examples("A chapter", "python")
    for path in (REPOSITORY / "notebooks" / "chapters").glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        (own,) = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
        assert "".join(own["source"]).strip() == parameters.strip(), path.name


@pytest.mark.slow
def test_the_task_of_the_guide_goes_to_a_page_without_another_line_changed(tmp_path: Path) -> None:
    root = miniature.make_miniature(tmp_path / "tree")
    miniature.take_stages(root)
    # The guide's four steps.
    package = root / "src" / "extrabitter" / "tasks"
    (package / "letters").mkdir()
    shutil.copy(REPOSITORY / "tests" / "toy_task" / "__init__.py", package / "letters" / "__init__.py")
    line, page = examples("A task", "python")
    miniature.edited(package / "__init__.py", '    "countdown": ', f'    {line.strip()}\n    "countdown": ')
    (profile,) = examples("A task", "yaml")
    (root / "profiles" / "letters.yaml").write_text(profile, encoding="utf-8")
    parameters, _ = examples("A chapter", "python")
    (call,) = re.findall(r'`(Chapter\("letters",[^`]+)`', re.sub(r"\s+", " ", GUIDE))
    code = f"from extrabitter.pages.chapter import Chapter\n\npage = {call}\n{page}"
    chapter(root / "notebooks" / "chapters" / f"{miniature.CHAPTER}.ipynb", "# Letters", parameters, code)
    (root / "results" / "edition").mkdir(parents=True)

    output = miniature.run(root, "build", "--profile", "letters", "--cores", "2")

    states = {f"{run.stage}/{run.arm}": run.status for run in find_runs(root / "runs" / "letters")}
    assert len(states) == 6 and {status.state for status in states.values()} == {"ok"}, output
    page_text = (root / "_build/html/letters/index.html").read_text()
    assert "verification" in page_text and "pass@1" in page_text
    runs = root / "runs" / "letters"
    completions = store.read(runs, "letters", "completions")
    assert set(completions["arm"]) == {"before_searcher", "after_taught_search", "searcher"}
    by_arm = completions.groupby("arm")["band"].unique().map(list)
    assert by_arm["after_taught_search"] == ["different"] and by_arm["before_searcher"] == ["twins"]
    of_the_task, of_all = {"correct", "out_of_order", "other_letters"}, {"unfinished", "truncated"}
    assert set(completions["reason"]) <= of_the_task | of_all | {"unexpected_word"}
    forced = store.read(runs, "letters", "probe_behaviours").set_index("behaviour")
    assert forced.loc[["verification", "backtracking", "search"], "p0_forced"].notna().all(), "interventions"
    assert (store.read(runs, "letters", "steps").groupby("arm").size() == 2).all()
    assert store.read(runs, "letters", "bars")["value"].notna().any()


def test_every_file_that_the_guide_and_the_readme_name_is_there() -> None:
    text = GUIDE + (REPOSITORY / "README.md").read_text(encoding="utf-8")
    pattern = r"[` ]((?:src|tests|book|profiles|notebooks|\.ci)/[\w./]+\w|[A-Z]+\.md|_toc\.yml|environment[\w-]*\.yml)"
    made_by_reader = {"src/extrabitter/tasks/letters/__init__.py", "profiles/letters.yaml"}
    named = set(re.findall(pattern, text)) - made_by_reader
    assert len(named) > 10
    assert [path for path in named if not (REPOSITORY / path).exists()] == []
    assert len((REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()) <= 120
