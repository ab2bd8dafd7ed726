"""The profile `matched` is the replication's base that never searches, with as many problems as the one that does."""

from __future__ import annotations

import pytest

from extrabitter.config import BaseModelParameters
from extrabitter.pipeline import Profile, load_profile
from extrabitter.pretraining import draw_documents, encode
from extrabitter.tasks.countdown import VOCABULARY

MATCHED, REPLICATION = load_profile("matched"), load_profile("replication")
TOKENS = {word: number for number, word in enumerate(VOCABULARY)}


def problems_a_token(profile: Profile, arm: str) -> float:
    """How many problems a base sees for each token that it is trained on."""
    stage = profile.stages.base_model
    parameters = BaseModelParameters(run_dir="x", arm=arm, seed=0, **(stage.defaults | stage.arms[arm]))
    documents = draw_documents(parameters, 3_000, seed=1)
    num_tokens = sum(len(encode(document, TOKENS)[0]) for document in documents)
    return sum(document.kind != "drill" for document in documents) / num_tokens


def test_it_is_the_replication_with_one_base_that_drills_more() -> None:
    assert MATCHED.seeds == REPLICATION.seeds and MATCHED.threads == REPLICATION.threads
    renamed = {"absent": "absent_matched"}
    for stage, mine in dict(MATCHED.stages).items():
        if mine is None:
            continue
        theirs = getattr(REPLICATION.stages, stage)
        assert mine.defaults == theirs.defaults
        for arm, own in mine.arms.items():
            values = {name: str(value).replace("absent_matched", "absent") for name, value in own.items()}
            like = next(
                (name for name in theirs.arms if arm == name.replace("absent", renamed["absent"])), arm
            )
            changed = {"drill_share"} if arm == "absent_matched" else set()
            assert {name for name in values if values[name] != str(theirs.arms[like].get(name))} == changed


def test_it_sees_as_many_problems_as_the_base_that_searches() -> None:
    rich = problems_a_token(REPLICATION, "rich")
    assert problems_a_token(MATCHED, "absent_matched") == pytest.approx(rich, rel=0.03)
    assert problems_a_token(REPLICATION, "absent") > 1.2 * rich
