"""Pretraining, priming and GRPO on every task that there is, and on the toy one, by the same lines."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from extrabitter.tasks import REGISTRY, load_task

if TYPE_CHECKING:
    from collections.abc import Callable

    from extrabitter.params import BaseModelParameters, GrpoParameters
    from extrabitter.tasks import Task


@pytest.fixture(params=[*REGISTRY, "letters"])
def task(request: pytest.FixtureRequest, letters: Task) -> Task:
    return load_task(request.param)


def base_parameters(task: Task, **changes: Any) -> BaseModelParameters:
    from extrabitter.params import BaseModelParameters

    values = {"run_dir": "unused", "arm": "searcher", "seed": 0, "num_tokens": 4_000, "documents_per_step": 48}
    values |= {"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 64, "habit_share": 0.1}
    bands = " ".join(f"{band}={1 / len(task.bands)}" for band in task.bands)
    return BaseModelParameters(**{**values, "task": task.name, "bands": bands, **changes})


def test_bases_of_a_task_see_the_same_drills_and_problems_and_one_dose(task: Task) -> None:
    from extrabitter.training.pretraining import Mixture

    def drawn(**changes: Any) -> list[Any]:
        mixture = Mixture(base_parameters(task, **changes), task)
        return [document for seed in range(5) for document in mixture.draw(100, seed)]

    guesser = drawn(habit_share=0.0)
    for habit in set(task.conditions) & {"search", "derive", "cosmetic"}:
        shown = drawn(habit=habit)
        kinds = Counter(document.kind for document in shown)
        assert kinds["drill"] == 150 and abs(kinds[habit] - 35) <= len(task.bands)
        for document, plain in zip(shown, guesser, strict=True):
            assert document.prompt == plain.prompt
            assert document == plain or document.kind == habit


def test_a_base_is_pretrained_primed_and_rewarded(
    task: Task, grpo_parameters: Callable[..., GrpoParameters]
) -> None:
    from extrabitter.params import SftPrimingParameters
    from extrabitter.training import grpo, pretraining, sft

    given = base_parameters(task)
    model, tokenizer = pretraining.starting_model(given)
    assert pretraining.pretrain(given, model, tokenizer)["num_tokens"].iloc[-1] >= 4_000
    common = {"run_dir": "unused", "arm": "taught", "seed": 0, "init_from": "unused", "task": task.name}
    for condition in ("direct", list(task.conditions)[-1]):
        taught = SftPrimingParameters(
            **common, condition=condition, num_documents=12, num_steps=1, max_length=900
        )
        assert len(sft.prime(taught, model, tokenizer, sft.demonstrations(taught))) == 1
    # Search is forced into some rollouts, so that the task is asked for the words of its search too.
    steps = grpo.train(
        grpo_parameters(task=task.name, format_weight=0.5, forced_search_share=0.3), model, tokenizer
    )
    assert steps["num_tokens"].is_monotonic_increasing and steps["reward"].notna().all()
