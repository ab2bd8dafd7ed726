"""Predictions are data, strict, those of the first series unchanged; and one rule judges every interval."""

from __future__ import annotations

import hashlib
import importlib
import json
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from extrabitter.digests import REPOSITORY
from extrabitter.experiments import verdict as judging
from extrabitter.experiments.verdict import MAX_PRIMARY, Prediction, Region, judge, read_predictions
from extrabitter.params import ParameterError
from extrabitter.statistics import MISSING, Estimate

ENTRY = """
- key: a
  series: first
  primary: true
  claim: X beats y.
  effect: x minus y
  measure: pass@1
  arm: after_x
  minus: after_y
  predicted: {low: 0.15}
  falsifier: [{high: 0.05}]
  seeds: 5
"""
# Of key, primary, regions and seeds of the first series, as they were committed before its first run.
FIRST_SERIES = "291c11069984d26cfb4fff44abc3640bc7444651a77f0f6d5e541f6a3d47110d"


def written(folder: Path, text: str) -> Path:
    (folder / "first.yaml").write_text(text, encoding="utf-8")
    return folder


def test_regions_of_the_first_series_are_those_that_its_runs_were_made_for() -> None:
    entries = yaml.safe_load((REPOSITORY / judging.FOLDER / "first.yaml").read_text(encoding="utf-8"))
    regions = []
    for entry in entries:
        held, *failed = (sorted(region.items()) for region in (entry["predicted"], *entry["falsifier"]))
        regions.append((entry["key"], entry["primary"], held, failed, entry["seeds"]))
    regions.sort()
    assert hashlib.sha256(json.dumps(regions).encode()).hexdigest() == FIRST_SERIES


@pytest.mark.parametrize("series", ["first", "edition", "repairs", "further", "extinction"])
def test_no_value_is_both_predicted_and_overturned(series: str) -> None:
    for entry in read_predictions(series).values():
        for region in entry.falsifier:
            for value in (entry.predicted.low, entry.predicted.high):
                inside = np.isfinite(value) and region.holds(Estimate(value, value, value, 5))
                assert not inside or value in (region.low, region.high), entry.key  # a bound may be shared


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("low: 0.15", "lo: 0.15", "predicted.lo = 0.15: unknown name"),
        ("primary: true", "primary: maybe", "primary = 'maybe'"),
        ("[{high: 0.05}]", "[{}]", "must give low, high or both"),
        ("  seeds: 5\n", "", "seeds: missing"),
        ("  measure: pass@1\n", "", "measure and arm must be given together"),
        ("  claim: X beats y.\n", "  claim: ''\n", "claim"),
        ("series: first", "series: second", "series = 'second': must be 'first', as the file is called"),
        ("minus: after_y", "computed: a:b", "computed = 'a:b': not where there is a measure"),
    ],
)
def test_a_wrong_entry_is_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ParameterError) as caught:
        read_predictions("first", written(tmp_path, ENTRY.replace(old, new)))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_key_given_twice_and_a_primary_too_many_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="key = 'a': must be given once"):
        read_predictions("first", written(tmp_path, ENTRY + ENTRY))
    many = "".join(ENTRY.replace("key: a", f"key: a{number}") for number in range(MAX_PRIMARY + 1))
    with pytest.raises(ParameterError, match="9 primaries; at most 8"):
        read_predictions("first", written(tmp_path, many))
    explored = many.replace("primary: true", "primary: false")
    assert len(read_predictions("first", written(tmp_path, explored))) == MAX_PRIMARY + 1


def prediction(**changes: object) -> Prediction:
    return Prediction.model_validate(yaml.safe_load(ENTRY)[0] | changes)


@pytest.mark.parametrize(
    ("verdict", "intervals"),
    {
        "held": [(0.3, 0.2, 0.4), (0.25, 0.15, 0.35)],
        "undecided": [(0.22, 0.13, 0.31), (0.1, 0.06, 0.14), (0.0, -0.1, 0.06), (0.2, -np.inf, np.inf)],
        "failed": [(0.0, -0.1, 0.05)],
    }.items(),
)
def test_the_verdict_is_where_the_interval_lies(verdict: str, intervals: list[tuple[float, ...]]) -> None:
    assert {prediction().verdict(Estimate(*interval, 5)) for interval in intervals} == {verdict}


@given(st.floats(-1, 1), st.floats(0, 1), st.integers(2, 10))
def test_each_interval_has_a_verdict_and_a_p_value_to_it(value: float, half: float, seeds: int) -> None:
    entry = prediction(falsifier=[{"low": -0.3, "high": 0.05}, {"high": -0.5}])
    estimate = Estimate(value, value - half, value + half, seeds)
    verdict = entry.verdict(estimate)
    assert verdict in ("held", "failed", "undecided")
    p = entry.p_value(estimate)
    assert p <= 0.025 + 1e-9 if verdict != "undecided" else p >= 0.025 - 1e-6


def test_what_was_not_measured_has_no_verdict_and_an_open_region_no_bound() -> None:
    assert prediction().verdict(MISSING) == "not measured"
    assert Region(low=0.0).holds(Estimate(5.0, 0.0, np.inf, 3))
    assert not Region(low=0.0, high=1.0).holds(Estimate(0.5, 0.2, 1.1, 3))


SPREAD = (-0.02, -0.01, 0.0, 0.01, 0.02)


def summary(**means: float) -> pd.DataFrame:
    """A summary of five seeds: every arm's pass@1 is its mean, those of one arm spread."""
    rows = []
    for arm, mean in means.items():
        values = mean + np.array(SPREAD) * (arm == "x")
        rows += [(seed, f"after_{arm}", "pass@1", value) for seed, value in enumerate(values)]
    table = pd.DataFrame(rows, columns=["seed", "arm", "measure", "value"])
    return table.assign(lower=float("nan"), upper=float("nan"))


@pytest.mark.parametrize(
    ("y", "verdict"), [(0.5, "held"), (0.79, "failed"), (0.65, "undecided"), (0.72, "undecided")]
)
def test_an_effect_is_paired_by_seed_and_judged_by_its_regions(y: float, verdict: str) -> None:
    judged = judge(summary(x=0.8, y=y), {"a": prediction()})
    assert judged["value"].item() == pytest.approx(0.8 - y)
    assert judged["verdict"].item() == verdict
    assert judged["num_seeds"].item() == 5


def test_one_arm_alone_is_its_own_measure_and_what_was_not_run_is_not_measured() -> None:
    assert judging.measure(summary(x=0.8), prediction(minus="")).value == pytest.approx(0.8)
    assert judge(summary(x=0.8), {"a": prediction()})["verdict"].item() == "not measured"


def test_a_primary_that_would_decide_alone_is_withdrawn_where_many_are_asked() -> None:
    entries = {key: prediction(key=key) for key in "abcdefgh"}
    for entry in list(entries)[1:]:
        entries[entry] = prediction(key=entry, measure="", arm="", minus="")  # asked, and not run here
    # Just above the bound: p is a little under .025, times eight it is not.
    table = summary(x=0.672, y=0.5)
    alone = judge(table, {"a": entries["a"]})
    together = judge(table, entries)
    assert alone["verdict"].item() == "held"
    assert together[["alone", "verdict"]].iloc[0].tolist() == ["held", "undecided"]
    others = {key: entry.model_copy(update={"primary": False}) for key, entry in entries.items()}
    assert judge(table, others)["verdict"].item() == "held", "exploratory predictions are not corrected"


def test_what_is_marked_apart_is_neither_corrected_nor_counted() -> None:
    apart = {key: prediction(key=key, apart=True) for key in "bcdefgh"}
    judged = judge(summary(x=0.672, y=0.5), {"a": prediction(), **apart})
    assert set(judged["verdict"]) == {"held"}


def test_what_is_computed_elsewhere_is_judged_by_the_same_rule_and_each_task_has_its_own_table() -> None:
    own = {"measure": "", "arm": "", "minus": "", "computed": "somewhere:else"}
    entries = {"a": prediction(task="t", experiment="e"), "b": prediction(key="b", **own)}
    tables = {"t": summary(x=0.8, y=0.5).assign(experiment="e"), "u": summary(x=0.0, y=0.5)}
    judged = judge(tables, entries, {"b": Estimate(0.0, -0.1, 0.04, 10)})
    assert judged.set_index("key")["verdict"].to_dict() == {"a": "held", "b": "failed"}
    other = {"t": tables["t"].assign(experiment="f")}
    assert judge(other, {"a": entries["a"]})["verdict"].item() == "not measured"


def test_the_edition_has_eight_primaries_of_ten_seeds_whose_code_is_there() -> None:
    entries = read_predictions("edition")
    assert sum(entry.primary for entry in entries.values()) == MAX_PRIMARY
    for entry in entries.values():
        assert entry.seeds == 10 and entry.seen and bool(entry.measure) != bool(entry.computed), entry.key
        if entry.computed:
            module, _, name = entry.computed.partition(":")
            assert callable(getattr(importlib.import_module(module), name)), entry.key
        ends = np.isfinite([entry.predicted.low, entry.predicted.high]).sum()
        is_count = entry.key in ("no_way_out", "foretold")
        assert entry.apart == ((ends == 2 or is_count) and entry.primary), entry.key


def git(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True)


def came_first(folder: Path, file: str, commit: str) -> bool:
    """Tell whether a commit descends from the one that gave `file` its present content."""
    given = git(folder, "log", "-1", "--format=%H", "--", file).stdout.strip()
    return bool(given) and git(folder, "merge-base", "--is-ancestor", given, commit).returncode == 0


def test_a_prediction_that_was_changed_after_a_run_does_not_come_first(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    commits = []
    for content in ("bets", "bets", "other bets"):
        (tmp_path / "bets.yaml").write_text(content)
        (tmp_path / "run").write_text(str(len(commits)))
        git(tmp_path, "add", ".")
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        git(tmp_path, *who, "commit", "-q", "-m", "x")
        commits.append(git(tmp_path, "rev-parse", "HEAD").stdout.strip())
        if len(commits) == 2:
            assert all(came_first(tmp_path, "bets.yaml", commit) for commit in commits)
    assert [came_first(tmp_path, "bets.yaml", commit) for commit in commits] == [False, False, True]
    assert not came_first(tmp_path, "none.yaml", commits[2])


OWN_BETS = {  # beside those of the edition
    "dial": ["two_waits.yaml"],
    **{name: [f"{name}.yaml"] for name in ("repairs", "further", "extinction")},
}


def test_every_run_of_the_edition_was_made_after_its_predictions() -> None:
    file = judging.FOLDER / "edition.yaml"
    if git(REPOSITORY, "rev-parse", "--is-shallow-repository").stdout.strip() != "false":
        pytest.skip("needs the history of the repository")
    sha = hashlib.sha256((REPOSITORY / file).read_bytes()).hexdigest()
    stored = (REPOSITORY / "results/edition").glob("*/seed=*/*/runs.parquet")
    made, columns = set[tuple[str, str, str, bool]](), ["commit", "predictions_sha256", "dirty"]
    for path in stored:
        if path.parent.name != "bank":  # bases are no effects
            runs = pd.read_parquet(path)[columns].itertuples(index=False, name=None)
            made |= {(path.parent.name, *run) for run in runs}
    for experiment, commit, predictions, dirty in made:
        assert not dirty and predictions == sha, commit
        before = [file, *(judging.FOLDER / name for name in OWN_BETS.get(experiment, ()))]
        assert all(came_first(REPOSITORY, str(bets), commit) for bets in before), commit


def test_the_forest_says_each_claim_with_its_verdict() -> None:
    entries = {"a": prediction(), "b": prediction(key="b", claim="b pays.", minus="after_z")}
    judged = judge(summary(x=0.8, y=0.5, z=0.79), entries)
    written = [text.get_text() for text in judging.forest(judged, "Two effects").axes[0].texts]
    assert written == ["X beats y.", "held", "b pays.", "failed"]
