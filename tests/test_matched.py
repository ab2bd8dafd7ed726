"""The profile `matched` is the replication's base that never searches, with as many problems as the one that does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from extrabitter.config import BaseModelParameters
from extrabitter.pipeline import Profile, load_profile
from extrabitter.pretraining import draw_documents, encode
from extrabitter.provenance import REPOSITORY
from extrabitter.tasks.countdown import VOCABULARY

MATCHED, REPLICATION = load_profile("matched"), load_profile("replication")
TOKENS = {word: number for number, word in enumerate(VOCABULARY)}
PUBLISHED = sorted((REPOSITORY / "results" / "matched").glob("base_model/absent_matched/*/manifest.json"))


def arms(profile: Profile, stage: str) -> dict[str, dict[str, Any]]:
    """Everything that a stage's arms are told, defaults and all, by arm."""
    section = getattr(profile.stages, stage)
    return {arm: section.defaults | (own or {}) for arm, own in section.arms.items()} if section else {}


def problems_a_token(profile: Profile, arm: str) -> float:
    """How many problems a base sees for each token that it is trained on."""
    parameters = BaseModelParameters(run_dir="x", arm=arm, seed=0, **arms(profile, "base_model")[arm])
    documents = draw_documents(parameters, 3_000, seed=1)
    num_tokens = sum(len(encode(document, TOKENS)[0]) for document in documents)
    return sum(document.kind != "drill" for document in documents) / num_tokens


def test_it_is_the_replication_with_one_base_that_drills_more() -> None:
    assert MATCHED.seeds == REPLICATION.seeds and MATCHED.threads == REPLICATION.threads
    stages = ("base_model", "sft_priming", "grpo", "behaviour_evaluation", "will_it_choke")
    mine = {(stage, arm): values for stage in stages for arm, values in arms(MATCHED, stage).items()}
    assert mine.pop(("base_model", "absent_matched")) == arms(REPLICATION, "base_model")["absent"] | {
        "drill_share": 0.4
    }
    as_theirs = {
        (stage, arm.replace("absent_matched", "absent")): {
            name: value.replace("absent_matched", "absent") if isinstance(value, str) else value
            for name, value in values.items()
        }
        for (stage, arm), values in mine.items()
    }
    assert as_theirs == {
        (stage, arm): arms(REPLICATION, stage)[arm]
        for stage, arm in (
            ("base_model", "trunk"),
            ("grpo", "grpo_absent"),
            ("behaviour_evaluation", "base_absent"),
            ("behaviour_evaluation", "grpo_absent"),
        )
    }


def test_it_sees_as_many_problems_as_the_base_that_searches() -> None:
    rich = problems_a_token(REPLICATION, "rich")
    assert problems_a_token(MATCHED, "absent_matched") == pytest.approx(rich, rel=0.03)
    assert problems_a_token(REPLICATION, "absent") > 1.2 * rich


def test_all_its_seeds_are_published() -> None:
    assert [path.parent.name for path in PUBLISHED] == [f"seed={seed}" for seed in MATCHED.seeds]


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.parent.name)
def test_its_published_bases_go_on_from_the_weights_that_the_replications_went_on_from(path: Any) -> None:
    other = REPOSITORY / "results/replication/base_model"
    began_with = {
        json.loads(manifest.read_text(encoding="utf-8"))["input_sha256"]
        for manifest in (path, *(other / arm / path.parent.name / path.name for arm in ("absent", "rich")))
    }
    assert len(began_with) == 1
