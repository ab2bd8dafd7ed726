"""Left-out forecasts never see the model they predict, and find a rule where there is one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from extrabitter import calibration
from extrabitter.calibration import FEATURES


def made_up(num_models: int, seeds: tuple[int, ...] = (0, 1, 2), noise: float = 0.01) -> pd.DataFrame:
    """Rows of `outcomes` whose outcome is .2 plus a half of what searching reaches, in models of unlike skill."""
    rng = np.random.default_rng(1)
    rows = []
    for model in range(num_models):
        searching = 0.2 + 0.7 * model / num_models
        for seed in seeds:
            drawn = np.clip(searching + rng.normal(0, noise), 0, 1)
            rows.append(
                {
                    "model": f"m{model}",
                    "seed": seed,
                    "success_without": 0.3 + rng.normal(0, 0.01),
                    "success_with": drawn,
                    "log_chance": rng.uniform(-3, -1),
                    "pass@1": 0.3 + rng.normal(0, 0.01),
                    "pass@8": 0.9 + rng.normal(0, 0.01),
                    "outcome": 0.2 + 0.5 * drawn,
                }
            )
    return pd.DataFrame(rows)


def test_a_rule_is_found_and_rivals_without_it_are_not() -> None:
    table = made_up(9)
    rank = calibration.of_rank_correlation(table)
    assert rank.num_seeds == 3 and rank.value > 0.9
    scores = calibration.scores(table).set_index("predictor")
    assert scores["error"].idxmin() == calibration.PROBE
    assert scores.at[calibration.PROBE, "error"] < 0.03 < scores.at["pass@8 before", "error"]


def test_a_left_out_model_does_not_bear_on_its_own_forecast() -> None:
    table = made_up(6)
    changed = table.copy()
    changed.loc[changed["model"] == "m2", "outcome"] = 0.0
    own = (table["model"] == "m2").to_numpy()
    before, after = calibration.left_out(table), calibration.left_out(changed)
    assert before[own].to_list() == after[own].to_list()
    assert (before[~own] != after[~own]).all()


def test_too_few_models_have_no_forecast() -> None:
    table = made_up(calibration.LEAST_BASES - 1)
    assert calibration.left_out(table).isna().all()
    assert not calibration.of_rank_correlation(table).measured
    assert calibration.scores(table)["error"].isna().all()


def test_ridge_is_least_squares_where_there_is_much_to_learn_from() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (4_000, 2))
    y = 0.5 + x @ [0.05, -0.08]
    unseen = np.array([[0.5, 0.5], [-1.0, 1.0], [0.0, 30.0]])
    found = calibration.ridge(np.c_[x, np.ones(len(x))], y, np.c_[unseen, [7.0, 7.0, 7.0]])
    assert found == pytest.approx([0.485, 0.37, 0.0], abs=1e-3)


def test_outcomes_come_from_probe_and_evaluation() -> None:
    found = {"success_with": [0.8, np.nan], "success_without": [0.3, np.nan], "p0_forced": [0.01, 1e-12]}
    probed = pd.DataFrame({"arm": ["probe_rich", "probe_absent"], "seed": 3, "behaviour": "search", **found})
    solved = [(arm, 3, k, v) for arm in ("probe_rich", "probe_absent") for k, v in ((1, 0.35), (8, 0.9))]
    pass_at_k = pd.DataFrame(solved, columns=["arm", "seed", "k", "value"])
    summary = pd.DataFrame(
        [("grpo_rich", 3, "pass@1", 0.9), ("grpo_absent", 3, "pass@1", 0.5), ("grpo_rich", 4, "pass@1", 0.1)],
        columns=["arm", "seed", "measure", "value"],
    )
    table = calibration.outcomes(probed, pass_at_k, summary).set_index("model")
    assert table.loc["rich", [*FEATURES, "pass@8", "outcome"]].tolist() == [0.3, 0.8, -2.0, 0.35, 0.9, 0.9]
    # Where search could not be forced it is worth what a guess is worth, and its chance is the least.
    assert table.loc["absent", list(FEATURES)].tolist() == [0.35, 0.35, -6.0, 0.35]
    assert calibration.outcomes(probed, pass_at_k, summary.iloc[:0]).empty


def test_a_forecast_is_made_inside_the_range_and_as_wide_as_the_worst_left_out_one() -> None:
    table = made_up(9)
    inside = {"success_without": 0.3, "success_with": 0.5, "log_chance": -2.0, "pass@1": 0.3}
    found = calibration.forecast(table, inside)
    error = (calibration.left_out(table) - table["outcome"]).abs().max()
    assert not found.reason and found.num_models == 9
    assert found.value == pytest.approx(0.45, abs=0.03)
    assert found.upper - found.value == pytest.approx(error) == found.value - found.lower
    rank = calibration.of_rank_correlation(table)
    assert (found.rank, found.rank_lower, found.rank_upper) == (rank.value, rank.lower, rank.upper)
    assert calibration.as_json(found)["value"] == found.value


@pytest.mark.parametrize(
    ("name", "value"), [("success_with", 0.99), ("log_chance", -6.0), ("pass@1", np.nan)]
)
def test_no_forecast_is_made_outside_the_range(name: str, value: float) -> None:
    inside = {"success_without": 0.3, "success_with": 0.5, "log_chance": -2.0, "pass@1": 0.3}
    found = calibration.forecast(made_up(9), inside | {name: value})
    assert found.reason.startswith(f"{name} is ") and np.isnan(found.value)
    assert calibration.as_json(found)["value"] is None


def test_no_forecast_is_made_from_too_few_models(tmp_path: Path) -> None:
    found = calibration.forecast(made_up(calibration.LEAST_BASES - 1), {})
    assert found.reason == "3 probed models with a finished run, and it takes 4"
    assert calibration.forecast(calibration.finished_runs(tmp_path / "nowhere"), {}).num_models == 0
