"""The profile `matched` is the replication's base that never searches, with as many problems as the one that does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from extrabitter.pipeline import Job, make_plan
from extrabitter.pretraining import draw_documents, encode
from extrabitter.provenance import REPOSITORY
from extrabitter.tasks.countdown import VOCABULARY

MATCHED, REPLICATION = make_plan("matched"), make_plan("replication")
TOKENS = {word: number for number, word in enumerate(VOCABULARY)}
PUBLISHED = sorted((REPOSITORY / "results" / "matched").glob("base_model/absent_matched/*/manifest.json"))


def told(job: Job) -> dict[str, Any]:
    """Everything that a run is told, under the names of the replication: its folders and its arm."""
    return {
        name: value.replace("absent_matched", "absent").replace("matched", "replication")
        if isinstance(value, str)
        else value
        for name, value in job.parameters.model_dump().items()
    }


def problems_a_token(job: Job) -> float:
    """How many problems a base sees for each token that it is trained on."""
    documents = draw_documents(job.parameters, 3_000, seed=1)
    num_tokens = sum(len(encode(document, TOKENS)[0]) for document in documents)
    return sum(document.kind != "drill" for document in documents) / num_tokens


def test_it_is_the_replication_with_one_base_that_drills_more() -> None:
    assert MATCHED.profile.seeds == REPLICATION.profile.seeds
    arms = ("base_model/trunk", "base_model/absent", "grpo/grpo_absent")
    arms += ("behaviour_evaluation/base_absent", "behaviour_evaluation/grpo_absent")
    mine = {key.replace("absent_matched", "absent"): told(job) for key, job in MATCHED.jobs.items()}
    assert set(mine) == {f"{arm}/seed={seed}" for arm in arms for seed in REPLICATION.profile.seeds}
    for key, values in mine.items():
        drills = {"drill_share": 0.4} if key.startswith("base_model/absent/") else {}
        assert values == told(REPLICATION.jobs[key]) | drills, key


def test_it_sees_as_many_problems_as_the_base_that_searches() -> None:
    rich = problems_a_token(REPLICATION.jobs["base_model/rich/seed=20"])
    assert problems_a_token(MATCHED.jobs["base_model/absent_matched/seed=20"]) == pytest.approx(
        rich, rel=0.03
    )
    assert problems_a_token(REPLICATION.jobs["base_model/absent/seed=20"]) > 1.2 * rich


def test_all_its_seeds_are_published() -> None:
    assert [path.parent.name for path in PUBLISHED] == [f"seed={seed}" for seed in MATCHED.profile.seeds]


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.parent.name)
def test_its_published_bases_go_on_from_the_weights_that_the_replications_went_on_from(path: Any) -> None:
    other = REPOSITORY / "results/replication/base_model"
    began_with = {
        json.loads(manifest.read_text(encoding="utf-8"))["input_sha256"]
        for manifest in (path, *(other / arm / path.parent.name / path.name for arm in ("absent", "rich")))
    }
    assert len(began_with) == 1
