"""The benchmark's table is read as it was measured: ratios are computed, missing is missing, a missed bar is missed."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pandas as pd
import pytest
from matplotlib.text import Text

import benchmark_modules
from extrabitter import benchmark_tables
from extrabitter.benchmark_figures import LOOKS, cost_curves
from extrabitter.benchmark_tables import BARS, NOTHING, bar_table, read_results, value_of
from extrabitter.pages.plots import style
from test_chapters import run
from test_figures import SMALLEST_PT, overhang_in

ROOT = Path(__file__).resolve().parents[1]
CHAPTER = ROOT / "notebooks/chapters/speed.ipynb"
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """benchmarks/bench.py as a module."""
    return benchmark_modules.load("bench")


def fake_row(job: dict[str, Any], threads: int = 1) -> dict[str, Any]:
    """What a measurement gives, made up: a completion of ours costs 0.5 ms and 30 tokens, one of stock 8 ms."""
    row = {**job, "threads": threads, "wall_s": 2.5}
    row.pop("recipe", None)
    if job["kind"] in ("import", "kernel"):
        return row
    count = job["count"]
    row |= {"wall_s": 0.5e-3 * count, "cpu_s": 0.4e-3 * count, "tokens": 30 * count, "peak_share": 0.25}
    row |= {"peak_gflops": 50.0 + threads, "peak_rss_gb": 1.5}
    if "stock_rounds" in job:
        row |= {
            "stock_wall_s": 8e-3 * count,
            "stock_cpu_s": 6e-3 * count,
            "ratio": 99.0,
            "stock_peak_rss_gb": 3.5,
        }
    if job["kind"] == "step":
        row |= {"ours_rollout_s": 1.0, "ours_train_s": 2.0}
        if "stock_rounds" in job:
            row |= {"stock_rollout_s": 3.0, "stock_train_s": 4.0}
    return row


@pytest.fixture
def write(bench: ModuleType, tmp_path: Path) -> Callable[..., Path]:
    """Write a made-up table of all that the benchmark measures, after `change` has been at its rows."""

    def write_table(change: Callable[[Rows], Rows] = lambda rows: rows, quick: bool = False) -> Path:
        rows = [fake_row(job, 2 if job["kind"] in bench.ON_TWO_THREADS else 1) for job in bench.jobs(quick)]
        for together in () if quick else bench.TOGETHER:
            for processes, threads, rate in ((1, 2, 1000.0), (2, 1, 1500.0)):
                side = {"processes": processes, "completions_per_s": rate}
                rows.append(fake_row(together, threads) | side)
        path = tmp_path / "benchmarks" / "results.csv"
        path.parent.mkdir(exist_ok=True)
        origin = {"date": "2026-01-02", "commit": "abc", "versions": "torch 2", "machine": "Tin Can, 2 cores"}
        pd.DataFrame(change(rows)).assign(**origin).to_csv(path, index=False)
        return path

    return write_table


def without(**where: Any) -> Callable[[Rows], Rows]:
    """Drop the rows with these values."""
    return lambda rows: [row for row in rows if any(row.get(key) != value for key, value in where.items())]


def with_value(column: str, value: float, **where: Any) -> Callable[[Rows], Rows]:
    """Set a column in the rows with these values."""
    return lambda rows: [
        row | {column: value} if all(row.get(key) == at for key, at in where.items()) else row for row in rows
    ]


def verdicts(path: Path) -> dict[tuple[str, str], str]:
    bars = bar_table(read_results(path))
    return {(row["what"], row["workload"]): row["verdict"] for row in bars.to_dict("records")}


def test_every_bar_is_measured_by_a_job_and_no_two_jobs_are_the_same(
    bench: ModuleType, write: Callable[..., Path]
) -> None:
    assert set(verdicts(write()).values()) == {"met"}
    assert len(BARS) == 8 and len(bar_table(read_results(write()))) == 19
    jobs = [(job["kind"], job["workload"], job["count"]) for job in bench.jobs(quick=False)]
    assert len(set(jobs)) == len(jobs)


def test_ratios_and_costs_are_computed_from_what_was_measured(write: Callable[..., Path]) -> None:
    results = read_results(write())
    for column, expected in (
        ("ratio", 16.0),  # whatever the file says of it
        ("cpu_ratio", 15.0),
        ("ms_per_completion", 0.5),
        ("stock_ms_per_completion", 8.0),
        ("tokens_per_s", 60_000.0),
    ):
        assert value_of(results, "rollouts", "direct", 1024, column) == pytest.approx(expected)
    assert pd.isna(value_of(results, "rollouts", "direct", 1000, "ratio"))
    assert pd.isna(value_of(results, "pass_at_256", "direct", 64_000, "ratio"))


@pytest.mark.parametrize(
    ("what", "workload", "change", "verdict"),
    [
        ("sampling 1,024 completions, against stock", "direct", ("stock_wall_s", 5.12), "met"),
        ("sampling 1,024 completions, against stock", "search", ("stock_wall_s", 5.11), "missed"),
        ("step of 256 completions, against stock", "search", ("stock_wall_s", 0.39), "met"),
        ("step of 256 completions, against stock", "direct", ("stock_wall_s", 0.39), "missed"),
        ("step of 1,024 completions, peak memory", "search", ("peak_rss_gb", 2.01), "missed"),
        ("sampling 1,024 completions, peak memory", "direct", ("peak_rss_gb", 2.0), "met"),
        ("pass@256 on 250 problems, on two threads", "direct", ("wall_s", 60.5), "missed"),
        ("pretraining a base's whole stage on two threads", "trunk", ("wall_s", 675.0), "met"),
        ("pretraining a base's whole stage on two threads", "mixture", ("wall_s", 515.0), "missed"),
    ],
)
def test_a_bar_is_met_at_its_threshold_and_missed_beyond_it(
    what: str, workload: str, change: tuple[str, float], verdict: str, write: Callable[..., Path]
) -> None:
    (bar,) = [bar for bar in BARS if bar.what == what]
    where = {"kind": bar.kind, "workload": workload, "count": bar.counts[0]}
    assert verdicts(write(with_value(*change, **where)))[what, workload] == verdict


FLAT = "sampling 256 to 4,096 completions, cost of one: dearest against cheapest"


@pytest.mark.parametrize(
    ("count", "wall_s", "verdict"),
    [
        (4096, 2.5, "met"),
        (4096, 2.6, "missed"),
        (1024, 0.4, "missed"),
        (256, 0.05, "missed"),
        (64, 9.0, "met"),
    ],
)
def test_the_cost_of_a_completion_may_neither_rise_nor_fall_by_more_than_asked(
    count: int, wall_s: float, verdict: str, write: Callable[..., Path]
) -> None:
    # Level: 0.5 ms each, 2.048 s at 4,096 completions.
    path = write(with_value("wall_s", wall_s, kind="rollouts", workload="direct", count=count))
    assert verdicts(path)[FLAT, "direct"] == verdict
    assert verdicts(path)[FLAT, "search"] == "met"


def test_what_is_missing_is_not_measured_and_changes_nothing_else(write: Callable[..., Path]) -> None:
    whole = verdicts(write())
    path = write(without(kind="rollouts", workload="direct", count=4096))
    changed = {key: verdict for key, verdict in verdicts(path).items() if whole[key] != verdict}
    assert changed == {(FLAT, "direct"): "not measured"}
    results = read_results(path)
    shown = benchmark_tables.bar_strings(bar_table(results))
    assert shown.loc[shown["Verdict"] == "not measured", "Measured"].tolist() == ["not measured"]
    assert "1 is not measured" in benchmark_tables.verdict_counts(bar_table(results))
    assert 4096 not in set(benchmark_tables.cost_table(results).query("workload == 'direct'")["count"])
    direct = results.query("workload == 'direct' and kind == 'rollouts'")
    assert "4,096" not in set(benchmark_tables.speed_strings(direct)["Completions"])


def test_each_sampler_has_its_own_peak_memory(write: Callable[..., Path]) -> None:
    results = read_results(write(with_value("peak_rss_gb", 1.25, kind="step", count=1024)))
    timed = benchmark_tables.speed_table(results).set_index(["kind", "workload", "count"])
    assert timed["peak_rss_gb"]["step", "search", 1024] == 1.25
    assert timed["peak_rss_gb"]["rollouts", "search", 1024] == 1.5
    assert timed["stock_peak_rss_gb"]["rollouts", "search", 1024] == 3.5
    assert pd.isna(timed["stock_peak_rss_gb"]["step", "search", 1024])
    kinds = set(timed.index.get_level_values("kind"))
    assert kinds == {"rollouts", "step", "pass_at_256"}, (
        "what compares something else stands in no table of times"
    )
    parts = benchmark_tables.part_strings(results)
    assert set(parts["Completions"]) == {"256"} and not parts.isin(["not measured"]).any(axis=None)


def test_the_answer_compares_with_stock_that_keeps_its_memory_too(write: Callable[..., Path]) -> None:
    results = read_results(write(with_value("kept_wall_s", 2.56, kind="rollouts", count=1024)))
    assert (
        "(search) times as fast as with stock TRL; 5.0 (direct) and 5.0 (search) where stock is told to keep the memory"
        in benchmark_tables.answer(results)
    )
    shown = benchmark_tables.speed_strings(benchmark_tables.speed_table(results))
    assert set(shown["Rounds"]) >= {"5, 5, 3", "5, 1", "15, 5"}
    assert shown.loc[shown["Completions"] == "1,024", "Stock with memory kept / ours"].tolist()[:2] == [
        "5.00",
        "5.00",
    ]


class Recorded:
    """A made-up process of `measure.py`: ours takes 1, 2, 3 ... seconds, the others ten times that."""

    asked: ClassVar[list[str]] = []

    def __init__(self, job: dict[str, Any]) -> None:
        self.name, self.rounds = job["sampler"], 0

    def take_round(self) -> dict[str, float]:
        self.asked.append(self.name)
        self.rounds += 1
        seconds = self.rounds * (1.0 if self.name == "ours" else 10.0)
        return {
            "wall_s": seconds,
            "cpu_s": seconds,
            "rollout_s": seconds / 2,
            "train_s": seconds / 2,
            "tokens": 60,
        }

    def end(self) -> dict[str, float]:
        of_ours = {"flops_per_token": 1e9, "peak_gflops": 40.0} if self.name == "ours" else {}
        return {"peak_rss_gb": 1.0 if self.name == "ours" else 2.0, **of_ours}


def test_samplers_take_turns_and_each_column_is_the_median_of_its_own_rounds(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "Measuring", Recorded)
    monkeypatch.setattr(Recorded, "asked", [])
    job = {
        "kind": "step",
        "workload": "direct",
        "count": 256,
        "rounds": 6,
        "stock_rounds": 3,
        "kept_rounds": 1,
    }
    row = bench.measure({**job, "core": 1, "recipe": {}}, 1)
    assert Recorded.asked == [
        *("ours", "stock", "kept", "ours", "ours", "stock", "ours", "ours", "stock", "ours"),
    ]
    ours = {"wall_s": 3.5, "cpu_s": 3.5, "ours_rollout_s": 1.75, "ours_train_s": 1.75, "tokens": 60}
    stock = {"stock_wall_s": 20.0, "stock_cpu_s": 20.0, "stock_rollout_s": 10.0, "stock_train_s": 10.0}
    assert row == {
        **job,
        "threads": 1,
        **ours,
        **stock,
        "stock_tokens": 60,
        **{
            "kept_wall_s": 10.0,
            "kept_cpu_s": 10.0,
            "kept_rollout_s": 5.0,
            "kept_train_s": 5.0,
            "kept_tokens": 60,
        },
        **{"peak_rss_gb": 1.0, "stock_peak_rss_gb": 2.0, "kept_peak_rss_gb": 2.0},
        **{"flops_per_token": 1e9, "peak_gflops": 40.0},
        "gflops": pytest.approx(60 / 3.5),
        "peak_share": pytest.approx(60 / 3.5 / 40),
    }


def test_processes_measure_a_sampler_each(bench: ModuleType) -> None:
    job = {
        "kind": "rollouts",
        "workload": "direct",
        "count": 16,
        "rounds": 1,
        "stock_rounds": 1,
        "kept_rounds": 1,
    }
    row = bench.measure(job, 1)
    for name in ("wall_s", "cpu_s", "tokens", "peak_rss_gb"):
        assert all(row[prefix + name] > 0 for prefix in bench.SAMPLERS.values()), name


def test_resuming_keeps_no_row_that_was_measured_otherwise(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, asked = tmp_path / "results.csv", []
    now = [fake_row(job) for job in bench.jobs(quick=False)]
    gone = [{**now[0], "kind": "rollouts_memory"}, {**now[1], "rounds": 3}]
    pd.DataFrame([*gone, now[0], *now[2:]]).assign(
        date="2026-01-02", commit="abc", versions="", machine=""
    ).to_csv(table, index=False)
    monkeypatch.setattr(bench, "RESULTS", table)
    monkeypatch.setattr(bench, "TOGETHER", ())
    monkeypatch.setattr(bench, "measure", lambda job, threads=1: asked.append(job) or fake_row(job, threads))
    monkeypatch.setattr(sys, "argv", ["bench.py", "--resume"])
    bench.main()
    assert asked == [bench.jobs(quick=False)[1]]
    assert len(pd.read_csv(table)) == len(now) and set(verdicts(table).values()) == {"met"}


def test_jobs_side_by_side_are_compared_and_counted_nowhere_else(write: Callable[..., Path]) -> None:
    results = read_results(write())
    for kind in ("rollouts", "step"):
        assert benchmark_tables.side_by_side(results, kind) == (
            "one job on two threads made 1000 completions a second; two jobs on one thread each made 1500 in all, "
            "1.50 times as many"
        )
    assert benchmark_tables.peak(results).startswith("51 billion operations a second (51 to 51 over 12 ")
    assert benchmark_tables.start_time(results, "kernel") == "2.5 s"
    assert benchmark_tables.start_time(results, "tea") == "not measured"
    alone = read_results(write(without(kind="rollouts_together", processes=2)))
    assert benchmark_tables.side_by_side(alone, "rollouts") == "not measured"
    assert benchmark_tables.side_by_side(alone, "step") != "not measured"


def test_arithmetic_alone_takes_the_share_of_the_time_that_is_at_peak(write: Callable[..., Path]) -> None:
    half = with_value("peak_share", 0.5, kind="pass_at_256")
    results = read_results(write(lambda rows: with_value("wall_s", 80.0, kind="pass_at_256")(half(rows))))
    assert (
        benchmark_tables.arithmetic_of_pass(results)
        == "40 s (direct), 40 s (search), 40 s (absent), 40 s (rich)"
    )


def test_lengths_and_conditions_are_those_of_the_measurements(write: Callable[..., Path]) -> None:
    results = read_results(
        write(with_value("tokens", 64 * 210, kind="rollouts", workload="search", count=64))
    )
    # 64, 256, 1,024 and 4,096 completions, each counted once
    assert benchmark_tables.lengths(results) == (
        "direct: 30 tokens, search: 32 tokens, absent: 30 tokens, rich: 30 tokens"
    )
    assert benchmark_tables.conditions(results) == "one thread of Tin Can, 2 cores"


def test_the_answer_counts_bars_and_names_what_was_measured(write: Callable[..., Path]) -> None:
    assert benchmark_tables.answer(read_results(write())) == (
        "Sampling 1,024 completions is 16.0 (direct) and 16.0 (search) times as fast as with stock TRL. A whole "
        "GRPO step of 256 completions is 16.0 (direct) and 16.0 (search) times as fast as with stock TRL. Of the "
        "bars set for it, 19 are met."
    )
    answer = benchmark_tables.answer(read_results(write(quick=True)))
    assert answer == "Of the bars set for it, 19 are not measured."


def test_without_a_table_one_sentence_says_that_nothing_was_measured(tmp_path: Path) -> None:
    results = read_results(tmp_path / "results.csv")
    assert results.empty
    assert benchmark_tables.answer(results) == NOTHING and NOTHING.count(".") == 1
    assert set(bar_table(results)["verdict"]) == {"not measured"}
    for table in (benchmark_tables.speed_table(results), benchmark_tables.part_strings(results)):
        assert table.empty
    for say in (
        partial(benchmark_tables.side_by_side, kind="rollouts"),
        benchmark_tables.peak,
        benchmark_tables.lengths,
        benchmark_tables.arithmetic_of_pass,
    ):
        assert say(results) == benchmark_tables.conditions(results) == "not measured"
    assert any("Nothing was measured" in text.get_text() for text in cost_curves(results).texts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: [*rows, rows[0]], "results.csv: measured twice: .*'rollouts'.*'direct'"),
        (lambda rows: [row | {"wall_s": "fast"} for row in rows], "results.csv: column wall_s: .*fast"),
        (
            lambda rows: [{k: v for k, v in row.items() if k not in ("wall_s", "threads")} for row in rows],
            "results.csv: no column threads, wall_s",
        ),
    ],
    ids=["twice", "no number", "no column"],
)
def test_a_table_that_cannot_be_right_is_refused_in_one_line(
    change: Callable[[Rows], Rows], message: str, write: Callable[..., Path]
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        read_results(write(change))
    assert "\n" not in str(error.value)


def test_the_figure_is_whole_legible_and_tells_samplers_apart_without_colour(
    write: Callable[..., Path],
) -> None:
    costs = benchmark_tables.cost_table(read_results(write()))
    with style():
        fig = cost_curves(costs)
        assert overhang_in(fig) < 0.02
    assert min(text.get_fontsize() for text in fig.findobj(Text) if text.get_text().strip()) >= SMALLEST_PT
    assert [axes.get_title("left") for axes in fig.axes] == ["direct workload", "search workload"]
    for axes in fig.axes:
        assert axes.get_xscale() == axes.get_yscale() == "log"
        lines = dict(zip(LOOKS, axes.get_lines(), strict=True))
        assert list(lines["ours"].get_ydata()) == pytest.approx([0.5] * 4)
        assert list(lines["stock"].get_ydata()) == pytest.approx([8.0] * 4)
        assert lines["ours"].get_marker() != lines["stock"].get_marker()
        assert lines["ours"].get_linestyle() != lines["stock"].get_linestyle()


@pytest.mark.parametrize("which", ["whole", "quick", "missed", "absent"])
def test_the_chapter_runs_on_a_whole_a_quick_and_no_table(
    which: str, write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if which == "missed":
        write(with_value("wall_s", 75.0, kind="pass_at_256"))
    elif which != "absent":
        write(quick=which == "quick")
    monkeypatch.setattr("extrabitter.digests.REPOSITORY", tmp_path)
    glued, shown = run(CHAPTER, tmp_path, tmp_path / "out")
    prose = "".join(
        "".join(cell["source"]) + "\n"
        for cell in json.loads(CHAPTER.read_text(encoding="utf-8"))["cells"]
        if cell["cell_type"] == "markdown"
    )
    assert set(re.findall(r"\{glue:text\}`(\w+)`", prose)) == glued.keys()
    assert "nan" not in re.findall(r"\w+", shown + " ".join(glued.values()))
    assert (tmp_path / "out/figures/speed_cost.svg").stat().st_size > 0
    assert ("Tin Can, 2 cores" in shown) == (which != "absent")
    assert (NOTHING in glued["answer"]) == (which == "absent")
    assert shown.count("<td>missed</td>") == (4 if which == "missed" else 0)
    assert shown.count("<td>not measured</td></tr>") == (19 if which in ("quick", "absent") else 0)


def test_every_test_that_the_chapter_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", CHAPTER.read_text(encoding="utf-8")))
    there = {
        name
        for path in (ROOT / "tests").glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert len(named) >= 5 and named <= there


def test_bench_writes_where_each_row_comes_from_and_a_trial_overwrites_no_result(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "measure", fake_row)
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "results.csv")
    monkeypatch.setattr(bench, "QUICK_RESULTS", tmp_path / "quick.csv")
    monkeypatch.setattr(sys, "argv", ["bench.py", "--quick"])
    bench.main()
    assert [path.name for path in tmp_path.iterdir()] == ["quick.csv"]
    monkeypatch.setattr(sys, "argv", ["bench.py"])
    bench.main()
    results = read_results(tmp_path / "results.csv")
    assert set(bar_table(results)["verdict"]) == {"met"}
    assert results[["machine", "date", "commit", "versions"]].ne("").all(axis=None)
    assert results["machine"].str.contains("cores").all() and results["rounds"].notna().all()
    for kind in ("rollouts", "step"):
        assert "times as many" in benchmark_tables.side_by_side(results, kind)


def test_a_killed_bench_goes_on_where_it_was_and_leaves_the_table_alone_until_it_ends(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def dies_at_the_fifth(job: dict[str, Any], threads: int = 1) -> dict[str, Any]:
        asked.append(job)
        if len(asked) == 5:
            raise KeyboardInterrupt
        return fake_row(job, threads)

    table = tmp_path / "results.csv"
    table.write_text("kind,workload,count\n")
    monkeypatch.setattr(bench, "RESULTS", table)
    monkeypatch.setattr(bench, "measure", dies_at_the_fifth)
    monkeypatch.setattr(sys, "argv", ["bench.py", "--resume"])
    with pytest.raises(KeyboardInterrupt):
        bench.main()
    assert table.read_text() == "kind,workload,count\n"
    bench.main()
    # Side by side: one process of two threads, two of one.
    of_one_run = len(bench.jobs(quick=False)) + 3 * len(bench.TOGETHER)
    assert len(asked) == 1 + of_one_run and [path.name for path in tmp_path.iterdir()] == ["results.csv"]
    assert set(bar_table(read_results(table))["verdict"]) == {"met"}
    bench.main()  # nothing is missing, nothing is measured
    assert len(asked) == 1 + of_one_run


def test_bench_stops_with_the_reason_when_a_measurement_fails(bench: ModuleType) -> None:
    with pytest.raises(SystemExit, match=r"(?s)'kind': 'no_such'.*status 1.*KeyError"):
        bench.measure({"kind": "no_such", "rounds": 1}, 1)


def test_the_committed_table_if_there_is_one_can_be_read() -> None:
    results = read_results(ROOT / "benchmarks" / "results.csv")
    assert results.empty or results["machine"].ne("").all()


def test_pretraining_is_timed_on_the_recipe_of_the_bases(
    bench: ModuleType, write: Callable[..., Path]
) -> None:
    trunk, mixture, longer = bench.pretraining_jobs(1000, 1)
    assert longer["budget_tokens"] > mixture["budget_tokens"] and longer["recipe"]["search_share"] > 0
    assert mixture["recipe"]["search_share"] > 0 and "search_share" not in trunk["recipe"]
    shown = benchmark_tables.pretraining_strings(read_results(write())).set_index("Stage")
    # 60,000 tokens a second, as every row that was made up.
    assert shown.loc["trunk", "Minutes for them"] == f"{trunk['budget_tokens'] / 60_000 / 60:.1f}"
    assert set(shown["Share of peak"]) == {"25.0 %"}
