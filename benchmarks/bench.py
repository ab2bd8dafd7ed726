"""`make bench`: our rollouts and GRPO steps against stock TRL, in one run, alternating, medians.

    python benchmarks/bench.py --output results.csv [--quick]

Each measurement is a process of its own (clean peak memory, kernels warmed by one untimed round). Stock and ours
take turns inside it, so that a busy machine slows both. `cpu_s` is the processor time, which other programs on the
machine disturb less than the wall clock. Writes one row a measurement, and the machine in every row.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pandas as pd

WORKLOADS = ("direct", "search")
FOLDER = Path(__file__).parent
Job = dict[str, str | int]


def jobs(quick: bool) -> list[Job]:
    """Return what is measured: one process each."""
    # completions: rounds of ours, rounds of stock
    sizes = {64: (1, 1)} if quick else {64: (5, 5), 256: (5, 5), 1024: (5, 5), 4096: (3, 1)}
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
    if not quick:
        listed += [
            {"kind": "pass_at_256", "workload": "direct", "count": 250 * 256, "rounds": 1},
            {"kind": "rollouts_memory", "workload": "search", "count": 1024, "rounds": 1},
            {"kind": "step_memory", "workload": "search", "count": 1024, "rounds": 1},
        ]
    listed.append({"kind": "import", "workload": "", "count": 0, "rounds": 1})
    return listed


def measure(job: Job, threads: int) -> list[dict[str, object]]:
    """Run one measurement in a process of its own and return its rows."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TRL_EXPERIMENTAL_SILENCE": "1"}
    command = [sys.executable, str(FOLDER / "measure.py"), json.dumps({**job, "threads": threads})]
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def side_by_side(rounds: int) -> list[dict[str, object]]:
    """Compare one job of two threads with two jobs of one thread each, by completions a second in all."""
    job = {"kind": "rollouts_together", "workload": "search", "count": 1024, "rounds": rounds}
    rows = []
    for threads, together in ((2, 1), (1, 2)):
        processes = [
            subprocess.Popen(
                [sys.executable, str(FOLDER / "measure.py"), json.dumps({**job, "threads": threads})],
                env={**os.environ, "OMP_NUM_THREADS": str(threads)},
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(together)
        ]
        outputs = [process.communicate()[0] for process in processes]
        found = [
            json.loads(line) for output in outputs for line in output.splitlines() if line.startswith("{")
        ]
        rate = sum(1024 / row["wall_s"] for row in found)
        rows.append({**found[0], "kind": f"{together} x {threads} threads", "completions_per_s": rate})
    return rows


def main() -> None:
    """Measure everything and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("benchmarks.csv"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--quick", action="store_true", help="one round of the small sizes, to see that it runs"
    )
    arguments = parser.parse_args()
    rows: list[dict[str, object]] = []
    for job in jobs(arguments.quick):
        found = measure(job, arguments.threads)
        rows += found
        for row in found:
            print({key: value for key, value in row.items() if value is not None}, flush=True)
    if not arguments.quick:
        rows += side_by_side(3)
        print(rows[-2:], flush=True)
    machine = f"{platform.machine()}, {os.cpu_count()} processors, {cpu_name()}"
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).assign(machine=machine).to_csv(arguments.output, index=False)
    print(f"written: {arguments.output}")


def cpu_name() -> str:
    """Return the processor's name, as Linux tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"
    )


if __name__ == "__main__":
    main()
