"""Profiles are read one way only, and whatever in one cannot be run is one line, before anything runs."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

import miniature
from extrabitter import plan as pipeline
from extrabitter import profiles
from extrabitter.digests import REPOSITORY
from extrabitter.params import ParameterError
from extrabitter.profiles import read_yaml


def read(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    return read_yaml(path, "profile x")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("grpo:\n  arms:\n    a: {x: 1}\n    a: {}\n", "line 4: a stands twice, first in line 3; remove or "),
        ("num_steps: 3\nb: 1\nnum_steps: 4\n", "line 3: num_steps stands twice, first in line 1"),
        ("a: {b: 1, c: 2, b: 3}", "line 1: b stands twice, first in line 1"),
        ("seeds:\n- 010\n", "line 2: 010 is another number in YAML 1.1 than in 1.2; write it in decimal "),
        ("seeds: [08]", "line 1: 08 is another number"),
        ("a: 0x1f", "line 1: 0x1f is another number"),
        ("a: 1_000", "line 1: 1_000 is another number"),
        ("a: 12:30", "line 1: 12:30 is another number"),
        ("a: !!python/object/apply:os.system ['true']", "line 1: could not determine a constructor for "),
        ("a:\t1", r"line 1: found character '\t' that cannot start any token"),
        ("a: [", "line 1: expected the node content"),
        ("[" * 1000, "is nested too deeply"),
    ],
)
def test_yaml_with_two_meanings_is_one_line_with_its_place(tmp_path: Path, text: str, line: str) -> None:
    with pytest.raises(ParameterError) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith("profile x: x.yaml") and line in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("-0.5", -0.5),
        (".5", 0.5),
        ("10", 10),
        ("-3", -3),
        ("yes", "yes"),
        ("true", True),
        ("~", None),
        ("", None),
        ("2020-01-01", "2020-01-01"),
        ('"010"', "010"),
        ("check back", "check back"),
    ],
)
def test_plain_values_are_those_of_yaml_1_2(tmp_path: Path, text: str, value: object) -> None:
    found = read(tmp_path, f"a: {text}\n")["a"]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize("text", ["\ufeffa: 1\n", "a: 1\r\n", "b: &x {a: 1}\n<<: *x\n"])
def test_marks_of_other_systems_and_anchors_are_read_rightly(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text)["a"] == 1


def stages(value: Any, task: str = "countdown") -> dict[str, Any]:
    return {"tasks": {task: {"stages": value}}}


def arm(stage: str, **values: Any) -> dict[str, Any]:
    """The miniature's tasks, with values of the guesser of one stage set."""
    changed = copy.deepcopy(miniature.STAGE_RUNS)
    arms = changed[stage]["arms"]
    arms["guesser"] = {**(arms["guesser"] or {}), **values}
    return stages(changed)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"sedes": 0}, "sedes = 0: unknown name; did you mean seeds? allowed: description, name, seeds"),
        ({"seeds": 3}, "seeds = 3: must be a valid list"),
        ({"name": "other"}, "name = 'other': must be 'mini', as the file is called"),
        (stages(miniature.STAGE_RUNS, "chess"), "task = 'chess': unknown; must be one of countdown"),
        (stages({"gpro": {}}), "stages.gpro = {}: unknown name; did you mean grpo?"),
        (stages({"grpo": {"arms": {"a": {}}, "arm": {}}}), "stages.grpo.arm = {}: unknown name; did you"),
        (arm("grpo", prompt="plain", revision="v1"), "revision = 'v1': only of a hub id"),
        (arm("base_model", habit_share=2), "habit_share = 2: must be less than or equal"),
        (arm("grpo", run_dir="x"), "run_dir = 'x': is set by the pipeline; remove it"),
        (arm("grpo", overwrite=True), "overwrite = True: is set by the pipeline"),
        (arm("grpo", experiment="a b"), "experiment = 'a b': must be a name"),
        (arm("grpo", seeds="all"), "seeds = 'all': must be a list of integers"),
        (arm("grpo", seeds=[0, 1, 0]), "seeds = [0, 1, 0]: each must be given once"),
        ({"seeds": [[["x"] * 99] * 99] * 99}, "seeds.0 = [['x', 'x', 'x', 'x', 'x', 'x', ...], "),
        (
            arm("grpo", init_from="base_model/gesser"),
            "countdown.grpo.guesser reads countdown/base_model/gesser/seed=0, which no other arm makes; there are "
            "base_model/guesser",
        ),
        (arm("base_model", init_from="grpo/guesser"), f"read each other in a circle: {miniature.BASE}"),
    ],
)
def test_bad_profile_is_one_line(tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    miniature.write_yaml(tmp_path / "profiles" / "mini.yaml", {**miniature.PROFILE, **changes})
    with pytest.raises(ParameterError) as caught:
        pipeline.make_plan("mini", tmp_path)
    assert str(caught.value).startswith("profile mini: ") and line in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_unknown_profile_lists_the_known_ones(tmp_path: Path) -> None:
    miniature.write_yaml(tmp_path / "profiles" / "mini.yaml", miniature.PROFILE)
    (tmp_path / "profiles" / "default").mkdir()
    with pytest.raises(ParameterError, match=r"^profile = 'mani': unknown; must be one of mini$"):
        profiles.load_profile("mani", tmp_path)
    with pytest.raises(
        ParameterError, match=r"must be one of those in .*/elsewhere/profiles, where there is none$"
    ):
        profiles.load_profile("mini", tmp_path / "elsewhere")


@pytest.mark.parametrize("path", sorted((REPOSITORY / "profiles").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_profile_can_be_planned(path: Path) -> None:
    plan = pipeline.make_plan(path.stem)
    jobs = plan.jobs.values()
    assert jobs and all(job.key.startswith(f"{job.task}/{job.stage}/{job.arm}/") for job in jobs)
