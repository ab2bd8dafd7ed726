"""`make bench`: our rollouts and GRPO steps against stock TRL, in one run, alternating, medians.

    python benchmarks/bench.py [--output results.csv] [--quick] [--resume]

Ours, stock, and stock that keeps the memory it frees are a process each (a peak memory and an allocator of its own,
kernels warmed by an untimed round), and take turns, so that a busy machine slows all. `cpu_s` is the processor time,
which other programs on the machine disturb less than the wall clock. Writes one row a measurement, each with its
rounds, the date, the commit, the versions and the machine; the book's page on speed reads the table. It takes about an
hour on a quiet machine. Rows are kept beside the table as they come, and become the table at the end; `--resume` goes
on from there.
"""

from __future__ import annotations

import argparse
import contextlib
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
from extrabitter.plan import load_profile
from extrabitter.digests import REPOSITORY, git_state, machine, package_versions

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results.csv"  # committed: what the book shows
QUICK_RESULTS = REPOSITORY / "_build" / "bench_quick.csv"  # a trial must not overwrite what was measured
SAMPLERS = {"ours": "", "stock": "stock_", "kept": "kept_"}  # what the columns of each begin with
PARTS_OF_A_STEP = ("rollout_s", "train_s")  # these begin with the sampler's name for ours too
Job = dict[str, Any]
Row = dict[str, Any]
TOGETHER: tuple[Job, ...] = (
    {"kind": "rollouts_together", "workload": "search", "count": 1024, "rounds": 3},
    {"kind": "step_together", "workload": "search", "count": 256, "rounds": 3},
)
# What a base or an evaluation is asked for in minutes of the machine, not of one core, has the machine.
ON_TWO_THREADS = ("pretraining", "pass_at_256")


def jobs(quick: bool) -> list[Job]:
    """Return what is measured, each with the rounds of every sampler."""
    # Few completions are as long as chance makes them, so many rounds of few are asked for; a round of stock at the
    # largest size takes minutes.
    sizes = {
        64: {"rounds": 15, "stock_rounds": 15},
        256: {"rounds": 15, "stock_rounds": 5},
        1024: {"rounds": 5, "stock_rounds": 5, "kept_rounds": 3},
        4096: {"rounds": 5, "stock_rounds": 1},
    }
    steps = {256: {"rounds": 5, "stock_rounds": 5, "kept_rounds": 3}, 1024: {"rounds": 1}}
    if quick:
        sizes = steps = {64: {"rounds": 1, "stock_rounds": 1}}
    listed: list[Job] = [
        {"kind": kind, "workload": workload, "count": count, **rounds}
        for kind, of_kind in (("rollouts", sizes), ("step", steps))
        for workload in WORKLOADS
        for count, rounds in of_kind.items()
    ]
    for workload in () if quick else (*WORKLOADS, *SHIPPED):
        listed.append({"kind": "pass_at_256", "workload": workload, "count": 250 * 256, "rounds": 1})
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


def measure(job: Job, threads: int) -> Row:
    """Let the samplers of a job take turns, those with fewer rounds evenly among the others', and return its row."""
    numbers = {name: job[f"{prefix}rounds"] for name, prefix in SAMPLERS.items() if f"{prefix}rounds" in job}
    processes = {name: Measuring({**job, "threads": threads, "sampler": name}) for name in numbers}
    rounds: dict[str, list[Row]] = {name: [] for name in numbers}
    for turn in range(job["rounds"]):
        for name, number in numbers.items():
            if turn * number % job["rounds"] < number:
                rounds[name].append(processes[name].take_round())
    row = {key: value for key, value in job.items() if key not in ("core", "recipe")} | {"threads": threads}
    for name, process in processes.items():
        medians = {key: statistics.median(took[key] for took in rounds[name]) for key in rounds[name][0]}
        for key, value in (medians | process.end()).items():
            row[f"{name}_{key}" if key in PARTS_OF_A_STEP else f"{SAMPLERS[name]}{key}"] = value
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

    def take_round(self) -> Row:
        """Return what one round took."""
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):  # then there is no answer either
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        return self._answer()

    def end(self) -> Row:
        """Return what holds for all rounds; the process ends."""
        assert self.process.stdin
        self.process.stdin.close()
        answer = self._answer()
        self.process.wait()
        return answer

    def _answer(self) -> Row:
        assert self.process.stdout
        if line := self.process.stdout.readline():
            answer: Row = json.loads(line)
            return answer
        self.log.seek(0)
        raise SystemExit(f"{self.job} failed with status {self.process.wait()}:\n{self.log.read()}")


def side_by_side(job: Job) -> list[Row]:
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
    alone, together = jobs(arguments.quick), () if arguments.quick else TOGETHER
    there = read_rows(partial if partial.is_file() else output) if arguments.resume else []
    rows = [row for row in there if any(is_measured(job, [row]) for job in (*alone, *together))]
    output.parent.mkdir(parents=True, exist_ok=True)
    for job in (*alone, *together):
        if is_measured(job, rows):
            continue
        if job in together:
            found = side_by_side(job)
        else:
            found = [measure(job, 2 if job["kind"] in ON_TWO_THREADS else arguments.threads)]
        rows += [row | origin for row in found]
        keep(rows, partial)
        print(*rows[-len(found) :], sep="\n", flush=True)
    keep(rows, partial)
    partial.replace(output)
    print(f"written: {output}")


def keep(rows: list[Row], path: Path) -> None:
    """Write rows so that a kill leaves either all of them or those of before."""
    writing = path.with_name(f"writing.{path.name}")
    pd.DataFrame(rows).to_csv(writing, index=False)
    writing.replace(path)


def read_rows(path: Path) -> list[Row]:
    """Read the rows of a table that is there, whole or in the making, without what they lack; none if it is not."""
    if not path.is_file():
        return []
    rows = pd.read_csv(path).fillna({"workload": ""}).to_dict(orient="records")
    return [{str(name): value for name, value in row.items() if pd.notna(value)} for row in rows]


def is_measured(job: Job, rows: list[Row]) -> bool:
    """Tell whether rows hold a measurement, with as many rounds of each sampler."""
    key = ("kind", "workload", "count", *(f"{prefix}rounds" for prefix in SAMPLERS.values()))
    return any(all(row.get(name) == job.get(name) for name in key) for row in rows)


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
