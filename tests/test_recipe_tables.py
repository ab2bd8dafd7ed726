"""The choices of the recipe: what counts as changed, and against what a loss is held."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from extrabitter import models, recipe_tables
from extrabitter.artifacts import Run
from extrabitter.config import BaseModelParameters
from extrabitter.pipeline import load_profile
from extrabitter.tasks.countdown import VOCABULARY


class FakeRun(Run):
    """A run whose tables are in memory."""

    def table(self, name: str, without=()) -> pd.DataFrame:
        return self.manifest[name]


def run(arm: str, seed: int, losses: list[float], **changes: object) -> Run:
    parameters = BaseModelParameters(run_dir=f"runs/x/{arm}/seed={seed}", arm=arm, seed=seed, **changes)
    steps = range(1, len(losses) + 1)
    manifest = {
        "parameters": parameters.model_dump(),
        "losses": pd.DataFrame(
            {"step": steps, "loss": losses, "num_tokens": [100 * s for s in steps], "elapsed_s": steps}
        ),
        "bars": pd.DataFrame({"bar": ["3 numbers: cued: well-formed"], "value": [0.9]}),
    }
    return FakeRun("base_model", arm, seed, Path(), manifest)


def test_a_choice_is_named_by_what_it_changes_and_held_to_the_same_seed():
    steady = [2.0] * 10
    table = recipe_tables.choices(
        [
            run("chosen", 0, [*steady, *[1.0] * 9, 0.5]),
            run("chosen", 1, [*steady, *[1.0] * 9, 0.7]),
            run("deeper", 0, [*steady, *[1.0] * 9, 0.4], num_hidden_layers=6),
            run("deeper", 1, [*steady, *[1.0] * 9, 0.9], num_hidden_layers=6),
            run("flat", 1, [*steady, *[1.0] * 9, 1.7], schedule="constant"),
            run("flat", 2, [*steady, *[1.0] * 9, 0.1], schedule="constant"),
        ]
    )
    assert table["changed"].tolist() == ["", ""] + ["num_hidden_layers 6"] * 2 + ["schedule constant"] * 2
    assert table["loss"].tolist() == pytest.approx([0.75, 0.85, 0.7, 0.95, 1.35, 0.55])
    assert table["loss_difference"].tolist()[:5] == pytest.approx([0, 0, -0.05, 0.1, 0.5])
    assert table["loss_difference"].isna().tolist() == [False] * 5 + [True]  # seed 2 has no chosen run
    assert table["tokens_per_s"].tolist() == [100.0] * 6
    assert table["well-formed"].tolist() == [0.9] * 6
    assert table["true on hits"].isna().all()
    # A change that was not tried on every seed is neither.
    assert recipe_tables.better_and_worse(table) == ([], [])


def test_what_is_worse_on_every_seed_is_named_and_so_is_a_loss_that_is_no_number():
    runs = [run("chosen", seed, [1.0]) for seed in (0, 1)]
    runs += [run("deeper", seed, [0.9 - 0.1 * seed], num_hidden_layers=6) for seed in (0, 1)]
    runs += [run("fast", seed, [float("nan") if seed else 1.1], learning_rate=0.04) for seed in (0, 1)]
    runs += [run("mixed", seed, [0.9 + 0.2 * seed], learning_rate=0.01) for seed in (0, 1)]
    table = recipe_tables.choices(runs)
    assert recipe_tables.better_and_worse(table) == (["num_hidden_layers 6"], ["learning_rate 0.04"])


def test_a_base_that_goes_on_from_a_trunk_has_no_loss_to_compare_and_the_trunk_no_row():
    runs = [run("chosen", 0, [1.0]), run("trunk", 0, [1.0])]
    runs += [run("two_stages", 0, [0.5], init_from="runs/x/trunk/seed=0/checkpoint", drill_share=0.2)]
    table = recipe_tables.choices(runs)
    assert table["arm"].tolist() == ["chosen", "two_stages"]
    assert table["changed"].tolist() == ["", "from a trunk, drill_share 0.2"]
    assert table["loss_difference"].isna().tolist() == [False, True]
    assert recipe_tables.better_and_worse(table) == ([], [])


def test_without_runs_the_table_is_empty_and_has_its_columns():
    table = recipe_tables.choices([])
    assert table.empty
    assert {"loss_difference", "weights", *recipe_tables.BARS} <= set(table)
    assert recipe_tables.better_and_worse(table) == ([], [])


def test_weights_are_those_of_the_model_that_is_built():
    stage = load_profile("recipe").stages.base_model
    counts = set()
    for arm, changes in stage.arms.items():
        parameters = BaseModelParameters(run_dir="x", arm=arm, seed=0, **(stage.defaults | changes))
        model = models.build_model(
            parameters.architecture,
            vocab_size=len(VOCABULARY),
            hidden_size=parameters.hidden_size,
            num_hidden_layers=parameters.num_hidden_layers,
            num_attention_heads=parameters.num_attention_heads,
            intermediate_size=parameters.intermediate_size,
            seed=0,
        )
        count = sum(parameter.numel() for parameter in model.parameters())
        assert recipe_tables.num_weights(parameters.model_dump()) == count
        counts.add(count)
    assert len(counts) == 5  # as it is, narrower, wider, shallower, deeper


def test_every_choice_of_the_profile_changes_one_thing():
    # An optimiser comes with a rate of its own, a width with an MLP in proportion.
    stage = load_profile("recipe").stages.base_model
    assert stage.arms["chosen"] == {}
    assert (
        sum(stage.arms[arm]["num_tokens"] for arm in ("trunk", "two_stages")) == stage.defaults["num_tokens"]
    )
    for arm, changes in stage.arms.items():
        if arm in ("trunk", "two_stages"):
            continue
        assert len(changes) <= 1 or set(changes) in (
            {"optimizer", "learning_rate"},
            {"hidden_size", "intermediate_size"},
        )
