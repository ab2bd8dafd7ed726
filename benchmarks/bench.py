"""`make bench`: our rollouts and GRPO steps against stock TRL, in one run, alternating, medians.

    python benchmarks/bench.py [--output results.csv] [--quick] [--resume]

Ours and stock are a process each (a peak memory and an allocator of their own, kernels warmed by an untimed round),
and take turns, so that a busy machine slows both. `cpu_s` is the processor time, which other programs on the machine
disturb less than the wall clock. Writes one row a measurement, each with its rounds, the date, the commit, the
versions and the machine; the book's page on speed reads the table. It takes about an hour on a quiet machine. Rows
are kept beside the table as they come, and become the table at the end; `--resume` goes on from there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from extrabitter.benchmark_tables import SHIPPED, WORKLOADS
from extrabitter.pipeline import load_profile
from extrabitter.provenance import REPOSITORY, git_state, machine, package_versions

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results.csv"  # committed: what the book shows
QUICK_RESULTS = REPOSITORY / "_build" / "bench_quick.csv"  # a trial must not overwrite what was measured
Job = dict[str, Any]
TOGETHER: tuple[Job, ...] = (
    {"kind": "rollouts_together", "workload": "search", "count": 1024, "rounds": 3},
    {"kind": "step_together", "workload": "search", "count": 256, "rounds": 3},
)
# What a base or an evaluation is asked for in minutes of the machine, not of one core, has the machine.
ON_TWO_THREADS = ("pretraining", "pass_at_256")


def jobs(quick: bool) -> list[Job]:
    """Return what is measured: one process each."""
    # completions: rounds of ours, rounds of stock. Few completions are as long as chance makes them, so that many
    # rounds of few are asked for; a round of stock at the largest size takes minutes.
    sizes = {64: (1, 1)} if quick else {64: (15, 5), 256: (15, 5), 1024: (5, 5), 4096: (5, 1)}
    listed: list[Job] = [
        {
            "kind": "rollouts",
            "workload": workload,
            "count": count,
            "rounds": rounds,
            "stock_rounds": stock_rounds,
        }
        for workload in WORKLOADS
        for count, (rounds, stock_rounds) in sizes.items()
    ]
    rounds, size = (1, 64) if quick else (5, 256)
    for workload in WORKLOADS:
        listed.append(
            {"kind": "step", "workload": workload, "count": size, "rounds": rounds, "stock_rounds": rounds}
        )
    for workload in () if quick else (*WORKLOADS, *SHIPPED):
        listed.append({"kind": "pass_at_256", "workload": workload, "count": 250 * 256, "rounds": 1})
    for workload in () if quick else WORKLOADS:
        listed += [
            {"kind": "step", "workload": workload, "count": 1024, "rounds": 1},
            # What stock gains by the one thing that ours does and that is not about sampling.
            {
                "kind": "rollouts_kept_memory",
                "workload": workload,
                "count": 1024,
                "rounds": 3,
                "stock_rounds": 3,
            },
        ]
    listed += pretraining_jobs(40_000 if quick else 100_000, 1 if quick else 5)
    listed += [{"kind": kind, "workload": "", "count": 0, "rounds": 1} for kind in ("import", "kernel")]
    return listed


def pretraining_jobs(count: int, rounds: int) -> list[Job]:
    """Return a job for a trunk and for each length of mixture, by the recipes of the bases."""
    listed: list[Job] = []
    for workload, profile, arm in (
        ("trunk", "bases", "trunk"),
        ("mixture", "bases", "rich"),
        ("longer mixture", "replication", "rich"),
    ):
        stage = load_profile(profile).stages.base_model
        assert stage is not None
        recipe = {**stage.defaults, **(stage.arms[arm] or {}), "init_from": ""}
        budget = recipe.pop("num_tokens")
        job = {"kind": "pretraining", "workload": workload, "count": count, "rounds": rounds}
        listed.append({**job, "budget_tokens": budget, "recipe": recipe})
    return listed


def measure(job: Job, threads: int) -> Job:
    """Let ours and, where asked for, stock take turns, and return the row of both."""
    samplers = ("ours", "stock") if "stock_rounds" in job else ("ours",)
    processes = {name: Measuring({**job, "threads": threads, "sampler": name}) for name in samplers}
    rounds: dict[str, list[Job]] = {name: [] for name in samplers}
    for number in range(job["rounds"]):
        for name, process in processes.items():
            if name == "ours" or number < job["stock_rounds"]:
                rounds[name].append(process.take_round())
    row = {key: value for key, value in job.items() if key not in ("core", "recipe")} | {"threads": threads}
    for name, process in processes.items():
        medians = {key: statistics.median(took[key] for took in rounds[name]) for key in rounds[name][0]}
        for key, value in (medians | process.end()).items():
            shared = name == "ours" and key not in (
                "rollout_s",
                "train_s",
            )  # the columns without a name are of ours
            row[key if shared else f"{name}_{key}"] = value
    if "flops_per_token" in row:
        row["gflops"] = row["flops_per_token"] * row["tokens"] / row["wall_s"] / 1e9
        row["peak_share"] = row["gflops"] / row["peak_gflops"]
    return row


class Measuring:
    """A process of `measure.py`."""

    def __init__(self, job: Job) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(job["threads"]), "TRL_EXPERIMENTAL_SILENCE": "1"}
        command = [sys.executable, str(FOLDER / "measure.py"), json.dumps(job)]
        self.job = job
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115  # it goes with the process
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        self._answer()  # that it is ready

    def take_round(self) -> Job:
        """Return what one round took."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._answer()

    def end(self) -> Job:
        """Return what holds for all rounds; the process ends."""
        self.process.stdin.close()
        answer = self._answer()
        self.process.wait()
        return answer

    def _answer(self) -> Job:
        if line := self.process.stdout.readline():
            return json.loads(line)
        self.log.seek(0)
        raise SystemExit(f"{self.job} failed:\n{self.log.read()}")


def side_by_side(job: Job) -> list[Job]:
    """Compare one job of two threads with two jobs of one thread and core each, by completions a second in all."""
    rows = []
    for threads, cores in ((2, [None]), (1, sorted(os.sched_getaffinity(0))[:2])):
        processes = len(cores)
        with ThreadPoolExecutor(processes) as pool:
            measured = pool.map(lambda core, n=threads: measure({**job, "core": core}, n), cores)
            found = list(measured)
        rate = sum(job["count"] / row["wall_s"] for row in found)
        rows.append({**found[0], "processes": processes, "completions_per_s": rate})
    return rows


def main() -> None:
    """Measure everything and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help=f"default: {RESULTS}, with --quick {QUICK_RESULTS}")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--quick", action="store_true", help="one round of the small sizes, to see that it runs"
    )
    parser.add_argument(
        "--resume", action="store_true", help="keep what is measured, and measure what is missing"
    )
    arguments = parser.parse_args()
    output = arguments.output or (QUICK_RESULTS if arguments.quick else RESULTS)
    origin = origin_of_rows()  # before anything is written: the table itself must not make the commit dirty
    partial = output.with_suffix(".partial.csv")
    rows = read_rows(partial if partial.is_file() else output) if arguments.resume else []
    output.parent.mkdir(parents=True, exist_ok=True)
    for job in jobs(arguments.quick):
        if is_measured(job, rows):
            continue
        rows.append(measure(job, 2 if job["kind"] in ON_TWO_THREADS else arguments.threads) | origin)
        keep(rows, partial)
        print(rows[-1], flush=True)
    for job in () if arguments.quick else TOGETHER:
        if not is_measured(job, rows):
            rows += [row | origin for row in side_by_side(job)]
            print(rows[-2:], flush=True)
            keep(rows, partial)
    keep(rows, partial)
    partial.replace(output)
    print(f"written: {output}")


def keep(rows: list[Job], path: Path) -> None:
    """Write rows so that a kill leaves either all of them or those of before."""
    writing = path.with_name(f"writing.{path.name}")
    pd.DataFrame(rows).to_csv(writing, index=False)
    writing.replace(path)


def read_rows(path: Path) -> list[Job]:
    """Read the rows of a table that is there, whole or in the making; none if it is not."""
    if not path.is_file():
        return []
    table = pd.read_csv(path).fillna({"workload": ""})
    return [{str(name): value for name, value in row.items()} for row in table.to_dict(orient="records")]


def is_measured(job: Job, rows: list[Job]) -> bool:
    """Tell whether rows hold a measurement."""
    key = ("kind", "workload", "count")
    return any(all(row[name] == job[name] for name in key) for row in rows)


def origin_of_rows() -> dict[str, str]:
    """Return what stands in every row: date, commit, versions of packages and the machine."""
    state, versions, here = git_state(), package_versions(), machine()
    names = ("python", "torch", "transformers", "trl")
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": state["commit"][:10] + "-dirty" * state["dirty"],
        "versions": ", ".join(f"{name} {versions[name]}" for name in names),
        "machine": f"{here['cpu']}, {here['num_cores']} cores",
    }


if __name__ == "__main__":
    main()
