"""Each dynamics is told by what it drew itself, no change wins on noise, and what is missing stays missing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from extrabitter import evidence_figures
from extrabitter.fitted_dynamics import (
    DYNAMICS,
    FITTED,
    NO_CHANGE,
    NULL,
    SOURCE,
    carried,
    closest,
    excess_error,
    exponents,
    fitted_rate,
    judged,
    of_error,
    predicted,
    share_exponent,
)
from extrabitter.measured_shares import MeasuredRun, measured_runs

SEEDS = (0, 1, 2, 3, 4)
STEPS = np.arange(1, 81)
PAY = np.array([0.7, 0.3])
RATES = {"replicator": 0.3, "softmax SGD": 1.1, "Adam": 0.055}  # each wins within the run, from one in ten


def run_of(share: np.ndarray, seed: int = 0, arm: str = SOURCE, start: float = 0.1, pay=PAY) -> MeasuredRun:
    own = np.array([pay, np.asarray(pay) + np.array([0.2, 0.0])])
    step = np.arange(1, len(share) + 1)
    return MeasuredRun(arm, seed, step, np.asarray(share, float), 256, start, np.asarray(pay, float), own)


def drawn(name: str, seed: int, arm: str = SOURCE, start: float = 0.1, pay=PAY) -> MeasuredRun:
    """A run whose completions are drawn from a dynamics' own shares."""
    clean = run_of(np.zeros(len(STEPS)), seed, arm, start, pay)
    curve = predicted(clean, DYNAMICS[name], np.array([RATES[name]]))[:, 0]
    rng = np.random.default_rng([seed, len(name), len(arm)])
    return run_of(rng.binomial(256, curve) / 256, seed, arm, start, pay)


@pytest.mark.parametrize("name", DYNAMICS)
def test_each_dynamics_is_recovered_from_what_it_drew(name: str) -> None:
    runs = [drawn(name, seed) for seed in SEEDS]
    table = judged(runs, fitted=0.5)
    rates = table[table["dynamics"] == name]["rate"].to_numpy(float)
    assert rates == pytest.approx(np.full(5, RATES[name]), rel=0.1)
    assert of_error(table, name).value < 0.012
    early = judged(runs)
    errors = {other: of_error(early, other).value for other in [*DYNAMICS, NO_CHANGE]}
    assert min(errors, key=errors.__getitem__) == name
    assert closest(early) == name


@pytest.mark.parametrize("name", DYNAMICS)
def test_the_share_exponent_is_that_of_the_dynamics(name: str) -> None:
    found = exponents([drawn(name, seed) for seed in SEEDS])
    assert found["measured"].mean() == pytest.approx(found[name].mean(), abs=0.1)
    assert found["replicator"].mean() == pytest.approx(0, abs=0.05) or name != "replicator"
    assert found["softmax SGD"].mean() == pytest.approx(1, abs=0.05) or name != "softmax SGD"
    others = [other for other in DYNAMICS if other != name]
    assert all(abs(found["measured"].mean() - found[other].mean()) > 0.2 for other in others)
    # The rise alone says less, and of softmax SGD and the replicator still the same.
    rise = exponents([drawn(name, seed) for seed in SEEDS], 0.5)
    assert rise["measured"].mean() == pytest.approx(rise[name].mean(), abs=0.2)


def test_curves_are_not_mixed_up() -> None:
    # From a small share at a large pay: the replicator's logit moves in a straight line, ascent's starts far slower
    # and Adam's hardly asks for the pay. Closed forms, which know nothing of the module's curves.
    for start, pay in ((0.02, (0.9, 0.1)), (0.3, (0.5, 0.4))):
        run = run_of(np.zeros(11), start=start, pay=pay)
        moved = {}
        for name, rate in {"replicator": 0.1, "softmax SGD": 0.1, "Adam": 0.001}.items():
            curve = predicted(run, DYNAMICS[name], np.array([rate]))[:, 0]
            assert curve[0] == pytest.approx(start)
            moved[name] = float(np.log(curve[-1] / (1 - curve[-1])) - np.log(start / (1 - start)))
        gap = pay[0] - pay[1]
        assert moved["replicator"] == pytest.approx(10 * 0.1 * gap, rel=1e-6)
        assert moved["softmax SGD"] == pytest.approx(10 * 2 * 0.1 * start * (1 - start) * gap, rel=0.05)
        assert moved["Adam"] == pytest.approx(10 * 2 * 0.001, rel=0.05)


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_beats_no_change_where_there_is_only_noise(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = judged([run_of(rng.binomial(256, 0.1, 80) / 256, other) for other in range(seed, seed + 5)])
    assert closest(table) in ("", NO_CHANGE)
    assert of_error(table, NO_CHANGE).value < 0.02
    errors = [of_error(table, name, NO_CHANGE) for name in DYNAMICS]
    assert all(found.value > -0.005 for found in errors)


def test_drift_that_ends_is_no_dynamics() -> None:
    share = np.where(STEPS < 20, 0.1 + 0.005 * STEPS, 0.2)
    table = judged([run_of(np.random.default_rng(seed).binomial(256, share) / 256, seed) for seed in SEEDS])
    assert closest(table) == NO_CHANGE
    assert all(of_error(table, name, NO_CHANGE).lower > 0 for name in DYNAMICS)


def test_one_step_size_is_carried_to_other_starts_and_payoffs() -> None:
    for name in DYNAMICS:
        runs = [drawn(name, seed) for seed in SEEDS]
        runs += [drawn(name, seed, "grpo_ladder_1", 0.01, (0.75, 0.3)) for seed in SEEDS]
        runs += [drawn(name, seed, "grpo_sft_mixed", 0.5, (0.4, 0.3)) for seed in SEEDS]
        runs += [drawn(name, seed, NULL) for seed in SEEDS]
        table = carried(runs)
        assert set(table["arm"]) == {"grpo_ladder_1", "grpo_sft_mixed"}
        assert closest(table) == name and of_error(table, name).value < 0.03


def test_a_probe_is_not_set_beside_the_models_own_choices() -> None:
    source, target = drawn("replicator", 0), drawn("replicator", 0, "grpo_ladder_1", 0.01)
    alone = carried([source, target])
    forced = MeasuredRun(**{**vars(source), "pay": np.array([0.9, 0.1]), "probed": True})
    pd.testing.assert_frame_equal(carried([forced, target]), alone)


HOSTILE = {
    "no step": run_of(np.array([])),
    "one step": run_of(np.array([0.1])),
    "four steps": run_of(np.array([0.1, 0.1, 0.2, 0.2])),
    "never drawn": run_of(np.zeros(80)),
    "always drawn": run_of(np.ones(80), start=0.9),
    "starts at nought": run_of(np.full(80, 0.1), start=0.0),
    "starts at one": run_of(np.full(80, 0.9), start=1.0),
    "unknown start": run_of(np.full(80, 0.1), start=np.nan),
    "unknown payoffs": run_of(np.full(80, 0.1), pay=(np.nan, 0.3)),
    "forced": MeasuredRun(**{**vars(run_of(np.full(80, 0.1))), "completions": 0}),
}


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.filterwarnings("error")
def test_what_cannot_be_judged_is_missing_and_says_why(what: str) -> None:
    table = judged([HOSTILE[what]])
    assert table["error"].isna().all() and len(table) == 4 and (table["reason"] != "").all()
    assert not of_error(table, "Adam").measured and closest(table) == ""
    carried([drawn("Adam", 0), HOSTILE[what]])
    exponents([HOSTILE[what]])
    evidence_figures.fitted_shares([HOSTILE[what]], table, [SOURCE], FITTED)


@pytest.mark.filterwarnings("error")
def test_nothing_at_all_is_missing_too() -> None:
    for table in (judged([]), carried([])):
        assert table.empty and not of_error(table, "Adam").measured and closest(table) == ""
    assert exponents([]).empty
    evidence_figures.fitted_shares([], judged([]), [SOURCE], FITTED)


def test_steps_that_leave_the_rest_open_determine_no_step_size() -> None:
    # A few draws of a rare type that rises a little: the later shares could be anything.
    rng = np.random.default_rng(0)
    run = run_of(rng.binomial(256, 0.006 * np.exp(STEPS / 40)) / 256, start=0.006)
    assert np.isnan(fitted_rate(run, "sgd", 20))
    rows = judged([run]).set_index("dynamics")
    assert rows.loc["softmax SGD", "reason"] == "step size not determined"
    # Its seed then has no mean: another dynamics must not be judged on runs that this one lost.
    assert not of_error(judged([run]), "replicator").measured


def test_noise_is_taken_off_an_error() -> None:
    rng = np.random.default_rng(1)
    share = rng.binomial(256, 0.3, 4000) / 256
    assert excess_error(share, np.full(4000, 0.3), 256) < 0.006
    assert excess_error(share, np.full(4000, 0.4), 256) == pytest.approx(0.1, abs=0.002)


def test_an_exponent_at_the_edge_is_missing() -> None:
    assert np.isnan(share_exponent(run_of(np.full(80, 0.1)), np.full(80, 0.1)))


def tables(share: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    steps = pd.DataFrame({"arm": "grpo_rich_permuted", "seed": 3, "step": np.arange(1, len(share) + 1)})
    steps["frac_searches"] = share
    steps["frac_with_subgoal_setting"] = steps["frac_with_backward_chaining"] = 0.0
    measures = {"frac_searches": (0.1, 600), "search_probability": (0.11, 30)}
    measures |= {"frac_with_subgoal_setting": (0.0, 600), "frac_with_backward_chaining": (0.0, 600)}
    measures |= {"success_given_search": (0.7, 60), "success_given_direct": (0.3, 540)}
    rows = [("base_rich", 3, name, *value) for name, value in measures.items()]
    rows += [("base_rich_masked", 3, "frac_searches", 0.0, 600)]
    summary = pd.DataFrame(rows, columns=["arm", "seed", "measure", "value", "count"])
    probe = ("probe_rich", 3, "search", 0.8, 0.25, 100)
    columns = ["arm", "seed", "behaviour", "success_with", "success_without", "num_pairs"]
    return steps, summary, pd.DataFrame([probe], columns=columns)


def test_a_run_is_read_with_its_base_and_its_probe() -> None:
    steps, summary, probed = tables(np.array([0.1, np.nan, 0.3]))
    (run,) = measured_runs(steps, summary, probed, {"grpo_rich_permuted": 256})
    assert (run.arm, run.seed, run.start) == ("grpo_rich_permuted", 3, 0.1)
    assert run.step.tolist() == [1, 3] and run.share.tolist() == [0.1, 0.3]
    assert run.pay.tolist() == [0.8, 0.25] and run.probed and run.absent == (0, 512)
    assert run.own_pay[0].tolist() == [0.7, 0.3] and np.isnan(run.own_pay[1]).all()
    (own,) = measured_runs(steps, summary, probed[:0], {"grpo_rich_permuted": 256})
    assert own.pay.tolist() == [0.7, 0.3] and not own.probed
    # Too few completions stand behind a share or a payoff: the softmax speaks for one, nothing for the other.
    summary.loc[summary["measure"] == "success_given_search", "count"] = 3
    summary.loc[summary["measure"] == "frac_searches", "count"] = 100
    (few,) = measured_runs(steps, summary, probed[:0], {})
    assert few.start == 0.11 and np.isnan(few.gap) and few.completions == 0
    (bare,) = measured_runs(steps, summary[:0], probed[:0], {"grpo_rich_permuted": 256})
    assert np.isnan(bare.start) and judged([bare])["error"].isna().all()
    assert measured_runs(steps[:0], summary[:0], probed[:0], {}) == []
