"""What `make bench` measured: its rows read back, ratios and costs computed from them, bars judged.

The table is committed as it was measured. What is not in it was not measured: it is shown as that, never as zero,
and a bar that was missed is shown as missed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from extrabitter.reporting import NOT_MEASURED, decimal, percent, spell

WORKLOADS = ("direct", "search")  # random weights
SHIPPED = ("absent", "rich")  # bases under models/
SAMPLED, STEPPED = 1024, 256  # completions at which the answer compares sampling, and whole steps
PRETRAINED = 100_000  # tokens on which pretraining is timed
KINDS = {"rollouts": "sampling", "step": "whole step", "pass_at_256": "sampling for pass@256"}
ORIGIN = ("machine", "date", "commit", "versions")
NOTHING = "Nothing was measured yet: the table that “make bench” writes is not there."
_REQUIRED = ("kind", "workload", "count", "threads", "wall_s", "machine")
_NUMBERS = (
    "count",  # completions
    "threads",  # of each process
    "processes",  # measured side by side
    "rounds",
    "stock_rounds",
    "wall_s",
    "cpu_s",
    "stock_wall_s",
    "stock_cpu_s",
    "stock_tokens",
    "kept_rounds",  # of stock that keeps the memory it frees
    "kept_wall_s",
    "kept_cpu_s",
    "ours_rollout_s",
    "ours_train_s",
    "stock_rollout_s",
    "stock_train_s",
    "tokens",
    "peak_rss_gb",  # 1e9 bytes
    "stock_peak_rss_gb",
    "peak_gflops",  # 1e9 operations a second of a large matrix product
    "peak_share",
    "completions_per_s",
    "budget_tokens",  # of a whole stage of pretraining
)
_DERIVED = (
    "ratio",
    "cpu_ratio",
    "kept_ratio",
    "ms_per_completion",
    "stock_ms_per_completion",
    "tokens_per_s",
    "budget_min",
)
_KEY = ["kind", "workload", "count", "threads", "processes"]


def read_results(path: Path) -> pd.DataFrame:
    """Return one row a measurement, with ratios and costs computed; no rows where there is no file.

    Raises ValueError with one line on a missing column, a value that is no number, or a measurement that stands in
    the table twice.
    """
    columns = ["kind", "workload", *_NUMBERS, *ORIGIN]
    if not path.is_file():
        return pd.DataFrame(columns=[*columns, *_DERIVED])
    found = pd.read_csv(path, dtype=str)
    if absent := [name for name in _REQUIRED if name not in found]:
        raise ValueError(f"{path.name}: no column {', '.join(absent)}")
    results = found.reindex(columns=columns)
    for name in _NUMBERS:
        try:
            results[name] = pd.to_numeric(results[name]).astype(float)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path.name}: column {name}: {error}") from None
    texts = ["kind", "workload", *ORIGIN]
    results = results.assign(**results[texts].fillna(""), processes=results["processes"].fillna(1))
    if len(twice := results[results.duplicated(_KEY)]):
        raise ValueError(f"{path.name}: measured twice: {twice.iloc[0][_KEY].to_dict()}")
    count = results["count"].where(results["count"] > 0)  # the import has none
    return results.assign(
        ratio=results["stock_wall_s"] / results["wall_s"],
        cpu_ratio=results["stock_cpu_s"] / results["cpu_s"],
        kept_ratio=results["kept_wall_s"] / results["wall_s"],
        ms_per_completion=1e3 * results["wall_s"] / count,
        stock_ms_per_completion=1e3 * results["stock_wall_s"] / count,
        tokens_per_s=results["tokens"] / results["wall_s"],
        budget_min=results["budget_tokens"] * results["wall_s"] / results["tokens"] / 60,
    )


def value_of(results: pd.DataFrame, kind: str, workload: str, count: int, column: str) -> float:
    """Return one value measured in a process alone; NaN where it was not measured."""
    here = (results["kind"] == kind) & (results["workload"] == workload) & (results["count"] == count)
    values = results.loc[here & (results["processes"] == 1), column]
    return float(values.iloc[0]) if len(values) else np.nan


@dataclass(frozen=True)
class Bar:
    """What a measured value is asked to be, by workload.

    Over several counts the value is by how much, as a share, the largest exceeds the smallest.
    """

    what: str
    kind: str
    counts: tuple[int, ...]  # numbers of completions
    column: str
    direction: Literal["at least", "at most"]
    unit: Literal["times as fast", "more", "GB", "s", "minutes"]
    thresholds: dict[str, float]

    def value(self, results: pd.DataFrame, workload: str) -> float:
        """Return the measured value; NaN if any that it needs was not measured."""
        values = np.array(
            [value_of(results, self.kind, workload, count, self.column) for count in self.counts]
        )
        return float(values.max() / values.min() - 1 if len(values) > 1 else values[0])

    def verdict(self, value: float, workload: str) -> str:
        """Say "met", "missed" or "not measured"."""
        if not np.isfinite(value):
            return NOT_MEASURED
        threshold = self.thresholds[workload]
        met = value >= threshold if self.direction == "at least" else value <= threshold
        return "met" if met else "missed"


def _faster(what: str, kind: str, count: int, **thresholds: float) -> Bar:
    return Bar(
        f"{what} {count:,} completions, against stock",
        kind,
        (count,),
        "ratio",
        "at least",
        "times as fast",
        thresholds,
    )


def _small(what: str, kind: str, **thresholds: float) -> Bar:
    return Bar(
        f"{what} 1,024 completions, peak memory", kind, (1024,), "peak_rss_gb", "at most", "GB", thresholds
    )


BARS = (
    _faster("sampling", "rollouts", 1024, direct=10, search=10),
    _faster("sampling", "rollouts", 256, direct=3, search=3),
    _faster("step of", "step", 256, direct=4, search=3),
    Bar(
        "sampling 256 to 4,096 completions, cost of one: dearest against cheapest",
        "rollouts",
        (256, 1024, 4096),
        "ms_per_completion",
        "at most",
        "more",
        {"direct": 0.25, "search": 0.25},
    ),
    _small("sampling", "rollouts", direct=2, search=2),
    _small("step of", "step", direct=2, search=2),
    Bar(
        "pass@256 on 250 problems, on two threads",
        "pass_at_256",
        (250 * 256,),
        "wall_s",
        "at most",
        "s",
        dict.fromkeys((*WORKLOADS, *SHIPPED), 60),
    ),
    Bar(
        "pretraining a base's whole stage on two threads",
        "pretraining",
        (PRETRAINED,),
        "budget_min",
        "at most",
        "minutes",
        {"trunk": 15, "mixture": 8, "longer mixture": 8},
    ),
)


def bar_table(results: pd.DataFrame) -> pd.DataFrame:
    """Return one row a bar and workload: what is asked, the measured value, "met", "missed" or "not measured"."""
    rows = []
    for bar in BARS:
        for workload, threshold in bar.thresholds.items():
            value = bar.value(results, workload)
            verdict = bar.verdict(value, workload)
            rows.append((bar.what, workload, bar.direction, threshold, bar.unit, value, verdict))
    names = ["what", "workload", "direction", "threshold", "unit", "value", "verdict"]
    return pd.DataFrame(rows, columns=names)


def bar_strings(bars: pd.DataFrame) -> pd.DataFrame:
    """Show a table of bars as ready-made strings."""
    return pd.DataFrame(
        {
            "What": bars["what"],
            "Workload": bars["workload"],
            "Asked for": [
                f"{direction} {_with_unit(threshold, unit, 0)}"
                for direction, threshold, unit in zip(
                    bars["direction"], bars["threshold"], bars["unit"], strict=True
                )
            ],
            "Measured": [
                _with_unit(value, unit, 2) for value, unit in zip(bars["value"], bars["unit"], strict=True)
            ],
            "Verdict": bars["verdict"],
        }
    )


def _with_unit(value: float, unit: str, digits: int) -> str:
    if not np.isfinite(value):
        return NOT_MEASURED
    return f"{percent(value, digits)} more" if unit == "more" else f"{decimal(value, digits)} {unit}"


def speed_table(results: pd.DataFrame) -> pd.DataFrame:
    """Return what was timed, one row a kind, workload and number of completions."""
    return results[results["kind"].isin(KINDS) & (results["processes"] == 1)]


def speed_strings(timed: pd.DataFrame) -> pd.DataFrame:
    """Show how long each row of a table of `speed_table` takes, against stock, as ready-made strings."""
    return pd.DataFrame(
        {
            **_measured(timed),
            "Ours (s)": _strings(timed["wall_s"], 2),
            "Stock (s)": _strings(timed["stock_wall_s"], 2),
            "Stock / ours": _strings(timed["ratio"], 2),
            "The same, processor time": _strings(timed["cpu_ratio"], 2),
            "Stock with memory kept / ours": _strings(timed["kept_ratio"], 2),
            "Rounds": [
                f"{ours:.0f}" + "".join(f", {other:.0f}" for other in others if np.isfinite(other))
                for ours, *others in zip(
                    timed["rounds"], timed["stock_rounds"], timed["kept_rounds"], strict=True
                )
            ],
        }
    )


def use_strings(timed: pd.DataFrame) -> pd.DataFrame:
    """Show what each row of a table of `speed_table` makes of the machine, as ready-made strings."""
    return pd.DataFrame(
        {
            **_measured(timed),
            "Threads": _strings(timed["threads"], 0),
            "ms / completion": _strings(timed["ms_per_completion"], 2),
            "Useful tokens / s": _strings(timed["tokens_per_s"], 0),
            "Peak memory (GB)": _strings(timed["peak_rss_gb"], 2),
            "Peak memory, stock (GB)": _strings(timed["stock_peak_rss_gb"], 2),
            "Share of peak": [percent(value) for value in timed["peak_share"]],
        }
    )


def _measured(timed: pd.DataFrame) -> dict[str, Any]:
    """Name what was measured, as the first columns of a table."""
    return {
        "What": timed["kind"].map(KINDS),
        "Workload": timed["workload"],
        "Completions": _strings(timed["count"], 0),
    }


def part_strings(results: pd.DataFrame) -> pd.DataFrame:
    """Show where the time of whole steps goes: one row a workload, seconds of sampling and of training."""
    steps = results[(results["kind"] == "step") & results["stock_wall_s"].notna()]
    parts = {
        f"{whose.capitalize()}: {what} (s)": _strings(steps[f"{whose}_{part}_s"], 2)
        for whose in ("ours", "stock")
        for part, what in (("rollout", "sampling"), ("train", "training"))
    }
    return pd.DataFrame({"Workload": steps["workload"], "Completions": _strings(steps["count"], 0)} | parts)


def pretraining_strings(results: pd.DataFrame) -> pd.DataFrame:
    """Show how fast bases are pretrained, one row a stage: the trunk, and the mixture that follows it."""
    stages = results[results["kind"] == "pretraining"]
    return pd.DataFrame(
        {
            "Stage": stages["workload"],
            "Threads": _strings(stages["threads"], 0),
            "Tokens / s": _strings(stages["tokens_per_s"], 0),
            "Share of peak": [percent(value) for value in stages["peak_share"]],
            "Tokens of the whole stage": _strings(stages["budget_tokens"], 0),
            "Minutes for them": _strings(stages["budget_min"], 1),
        }
    )


def cost_table(results: pd.DataFrame) -> pd.DataFrame:
    """Return the cost of a completion in long form: workload, sampler (ours or stock), count, ms_per_completion."""
    sampled = results[(results["kind"] == "rollouts") & (results["processes"] == 1)]
    columns = {"ours": "ms_per_completion", "stock": "stock_ms_per_completion"}
    parts = [
        sampled[["workload", "count"]].assign(sampler=sampler, ms_per_completion=sampled[column])
        for sampler, column in columns.items()
    ]
    table = pd.concat(parts, ignore_index=True).dropna(subset="ms_per_completion")
    return table.sort_values(["workload", "sampler", "count"], ignore_index=True)


def answer(results: pd.DataFrame) -> str:
    """Say in one sentence how fast ours is and how many bars are met, of what was measured."""
    if results.empty:
        return NOTHING
    parts = []
    for what, kind, count in (("Sampling", "rollouts", SAMPLED), ("A whole GRPO step of", "step", STEPPED)):
        ratios, kept = (_by_workload(results, kind, count, column) for column in ("ratio", "kept_ratio"))
        if ratios:
            against = f"; {kept} where stock is told to keep the memory that it frees" if kept else ""
            parts.append(
                f"{what} {count:,} completions is {ratios} times as fast as with stock TRL{against}."
            )
    return " ".join([*parts, f"Of the bars set for it, {verdict_counts(bar_table(results))}."])


def _by_workload(results: pd.DataFrame, kind: str, count: int, column: str) -> str:
    """Write a ratio for each workload in which it was measured."""
    ratios = {workload: value_of(results, kind, workload, count, column) for workload in WORKLOADS}
    return " and ".join(
        f"{decimal(ratio, 1)} ({name})" for name, ratio in ratios.items() if np.isfinite(ratio)
    )


def verdict_counts(bars: pd.DataFrame) -> str:
    """Count the verdicts of a table of bars: "12 are met, 1 is missed, 1 is not measured"."""
    counts = bars["verdict"].value_counts()
    return ", ".join(
        f"{counts[word]} {'is' if counts[word] == 1 else 'are'} {word}"
        for word in ("met", "missed", NOT_MEASURED)
        if word in counts
    )


def lengths(results: pd.DataFrame) -> str:
    """Say how long the sampled completions are on average, by workload."""
    counted = (results["kind"] == "rollouts") | (
        (results["kind"] == "pass_at_256") & results["workload"].isin(SHIPPED)
    )
    sampled = results[counted].groupby("workload", sort=False)[["tokens", "count"]].sum()
    means = (sampled["tokens"] / sampled["count"]).items()
    return ", ".join(f"{name}: {decimal(mean, 0)} tokens" for name, mean in means) or NOT_MEASURED


def side_by_side(results: pd.DataFrame, kind: str) -> str:
    """Say what one job on two threads and two jobs on one thread each make of a processor; `kind` is one of `KINDS`."""
    together = results[results["kind"] == f"{kind}_together"]
    rate = together.set_index("processes")["completions_per_s"].to_dict()
    if not {1, 2} <= rate.keys():
        return NOT_MEASURED
    return (
        f"one job on two threads made {decimal(rate[1], 0)} completions a second; two jobs on one thread each made "
        f"{decimal(rate[2], 0)} in all, {decimal(rate[2] / rate[1], 2)} times as many"
    )


def arithmetic_of_pass(results: pd.DataFrame) -> str:
    """Say how long pass@256 would take if its threads did nothing but arithmetic, at the measured peak."""
    passes = results[results["kind"] == "pass_at_256"]
    seconds = dict(zip(passes["workload"], passes["wall_s"] * passes["peak_share"], strict=True))
    said = [f"{decimal(seconds[name], 0)} s ({name})" for name in (*WORKLOADS, *SHIPPED) if name in seconds]
    return ", ".join(said) or NOT_MEASURED


def peak(results: pd.DataFrame) -> str:
    """Give the rate of a large matrix product on one thread, and how much it varied over the measurements."""
    rates = results.loc[(results["threads"] == 1) & (results["processes"] == 1), "peak_gflops"].dropna()
    if rates.empty:
        return NOT_MEASURED
    low, middle, high = (decimal(value, 0) for value in (rates.min(), rates.median(), rates.max()))
    return f"{middle} billion operations a second ({low} to {high} over {len(rates)} measurements)"


def start_time(results: pd.DataFrame, kind: str) -> str:
    """Give the seconds of what a run waits for before its first step: `import` or `kernel`."""
    seconds = results.loc[results["kind"] == kind, "wall_s"]
    return f"{decimal(seconds.iloc[0], 1)} s" if len(seconds) else NOT_MEASURED


def conditions(results: pd.DataFrame) -> str:
    """Say on how many threads of which machine sampling was measured."""
    sampled = results[results["kind"] == "rollouts"]
    said = " and ".join(spell(int(number), "thread") for number in sorted(sampled["threads"].unique()))
    return f"{said} of {origin(sampled, 'machine')}" if said else NOT_MEASURED


def origin(results: pd.DataFrame, column: str) -> str:
    """Name the machine, date, commit or versions of the measurements; several are joined."""
    found = sorted({text for text in results[column] if text})
    return " and ".join(found) or NOT_MEASURED


def _strings(values: pd.Series, digits: int) -> list[str]:
    """Write numbers with thousands separated; "not measured" where one is missing."""
    return [f"{value:,.{digits}f}" if np.isfinite(value) else NOT_MEASURED for value in values]
