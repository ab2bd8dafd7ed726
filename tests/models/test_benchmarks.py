"""The benchmark: engines take turns, a ratio is a turn's, and what is attainable is counted from the round itself."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from programs import load


class Scripted:
    """A process that takes ten seconds of ours for a hundred tokens, and `slower` times as many of another engine."""

    slower: ClassVar = {"ours": 1.0, "stock": 8.0, "kept": 4.0, "first": 2.0}
    turns: ClassVar[list[str]] = []

    def __init__(self, job: dict[str, Any]) -> None:
        self.engine, self.turn = job["engine"], 0

    def take_round(self) -> dict[str, Any]:
        Scripted.turns.append(self.engine)
        self.turn += 1
        seconds = 10 * self.slower[self.engine]
        return {"wall_s": self.turn * seconds, "cpu_s": seconds, "tokens": self.turn * 100}

    def end(self) -> dict[str, Any]:
        bare = {"attainable_s": 2.5, "attainable_tokens": 50} if self.engine == "ours" else {}
        return {"peak_rss_gb": 0.5, **bare}


def test_engines_take_turns_and_a_ratio_is_of_a_tokens_price_in_one_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = load("bench")
    monkeypatch.setattr(bench, "Measuring", Scripted)
    Scripted.turns = []
    job = {"kind": "rollouts", "workload": "search", "shape": "countdown", "count": 64, "rounds": 4}
    rounds = {"stock_rounds": 2, "kept_rounds": 0, "first_rounds": 4, "first_own_rounds": 0}
    row = bench.measure({**job, **rounds}, 1, "unused")
    assert Scripted.turns == ["ours", "stock", "first", "ours", "first"] * 2
    assert row["first_ratio"] == pytest.approx(2.0) and row["first_cpu_ratio"] == pytest.approx(2.0)
    assert row["wall_s"] == 25.0 and row["stock_wall_s"] == 120.0 and row["stock_peak_rss_gb"] == 0.5
    assert "kept_wall_s" not in row
    assert row["attainable_share"] == pytest.approx(2.5 / 50 / (10 / 400))


@pytest.mark.parametrize("quick", [True, False])
def test_every_kind_is_measured_once_and_an_earlier_checkout_only_if_there_is_one(quick: bool) -> None:
    bench, measure = load("bench"), load("measure")
    jobs = bench.jobs(quick, first=False)
    keys = [(job["kind"], job["workload"], job["shape"], job["count"]) for job in jobs]
    assert len(set(keys)) == len(keys) and {kind for kind, *_ in keys} == set(measure.KINDS)
    assert {job["shape"] for job in jobs} <= set(measure.SHAPES)
    assert not any(job["first_rounds"] or job["first_own_rounds"] for job in jobs)
    assert all(job["first_rounds"] == job["rounds"] for job in bench.jobs(quick, first=True))


def test_what_is_attainable_is_counted_from_a_round() -> None:
    measure = load("measure")
    job = {"engine": "ours", "kind": "rollouts", "workload": "direct", "shape": "countdown", "count": 16}
    take_round, about = measure.rollouts(job)
    assert take_round()["tokens"] >= 16
    beside = about()
    assert beside["attainable_tokens"] >= 16 and beside["attainable_s"] > 0
    assert "%" in beside["profile"]
    assert measure.training_s(measure.build(job)[0].config, 2, 8) > 0
