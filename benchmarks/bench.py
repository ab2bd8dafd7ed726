"""`make bench`: our rollouts, GRPO steps and pretraining against stock TRL, and against an earlier checkout.

    python benchmarks/bench.py [--first PATH] [--output results.csv] [--quick]

Each engine is a process (a peak memory and an allocator of its own), and they take turns, so that a busy machine slows
all of them; a ratio is the median over rounds of a turn's. `cpu_s` is processor time, which other programs disturb
less than the wall clock. "attainable" is the time of the same matrix products, and of attention to as many bytes of
cache, by bare calls of torch in the same process. Writes one row a measurement with date, commit, versions and machine;
the page on speed reads the table. With --first, the path of a checkout of the first edition, its engine runs too: on
the same base (`first`) and on the first edition's own (`first_own`).
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
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from extrabitter.digests import REPOSITORY, git_state, machine, package_versions

FOLDER = Path(__file__).parent
Row = dict[str, Any]
# Column prefix -> engine, and the shape of its base where that is not the job's. A job's rounds are given for each.
ENGINES = {
    "": ("ours", ""),
    "stock_": ("stock", ""),
    "kept_": ("kept", ""),
    "first_": ("first", ""),
    "first_own_": ("first", "first"),
}


def jobs(quick: bool, first: bool) -> list[Row]:
    """Return what is measured: kind, workload, shape of the base, count, and rounds of each engine."""
    if quick:
        listed = [
            ("rollouts", "direct", "countdown", 64, 1, 1, 0),
            ("step", "direct", "countdown", 64, 1, 1, 0),
        ]
        listed.append(("pretraining", "", "countdown", 20_000, 1, 0, 0))
    else:  # few completions are as long as chance makes them, so many rounds of few are asked for
        listed = [("rollouts", w, "countdown", 1024, 5, 1, 1) for w in ("direct", "search")]
        listed += [("rollouts", "islands", "knights", 256, 5, 0, 0)]
        listed += [("step", w, "countdown", 256, 5, 2, 2) for w in ("direct", "search")]
        listed += [("step", "islands", "knights", 256, 3, 1, 0)]
        listed += [("pretraining", "", shape, 50_000, 3, 0, 0) for shape in ("countdown", "knights")]
    names = ("kind", "workload", "shape", "count", "rounds", "stock_rounds", "kept_rounds")
    rows = [dict(zip(names, job, strict=True)) for job in listed]
    return [row | dict.fromkeys(("first_rounds", "first_own_rounds"), row["rounds"] * first) for row in rows]


class Measuring:
    """A process of `measure.py`."""

    def __init__(self, job: Row) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(job["threads"]), "TRL_EXPERIMENTAL_SILENCE": "1"}
        command = [sys.executable, str(FOLDER / "measure.py"), json.dumps(job)]
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115  # it goes with the process
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.log}
        self.job, self.process = job, subprocess.Popen(command, env=environment, text=True, **pipes)
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
        return self._answer()

    def _answer(self) -> Row:
        assert self.process.stdout
        if line := self.process.stdout.readline():
            return dict(json.loads(line))
        self.log.seek(0)
        raise SystemExit(f"{self.job} failed with status {self.process.wait()}:\n{self.log.read()}")


def measure(job: Row, threads: int, checkout: str) -> Row:
    """Let the engines of a job take turns, those with fewer rounds evenly among the others', and return its row."""
    numbers = {prefix: job[f"{prefix}rounds"] for prefix in ENGINES if job[f"{prefix}rounds"]}
    processes = {}
    for prefix in numbers:
        engine, shape = ENGINES[prefix]
        own = {"engine": engine, "shape": shape or job["shape"], "threads": threads, "checkout": checkout}
        processes[prefix] = Measuring({**job, "workload": job["workload"] or "direct", **own})
    rounds: dict[str, list[Row]] = {prefix: [] for prefix in numbers}
    ratios: dict[str, list[float]] = defaultdict(list)
    for turn in range(job["rounds"]):
        for prefix, number in numbers.items():
            if turn * number % job["rounds"] < number:
                rounds[prefix].append(processes[prefix].take_round())
                if prefix:  # a token's price, since lengths are drawn anew in each round
                    ours, other = rounds[""][-1], rounds[prefix][-1]
                    per_token = ours["tokens"] / other["tokens"]
                    ratios[f"{prefix}ratio"].append(other["wall_s"] / ours["wall_s"] * per_token)
                    ratios[f"{prefix}cpu_ratio"].append(other["cpu_s"] / ours["cpu_s"] * per_token)
    row = {**job, "threads": threads} | {name: statistics.median(values) for name, values in ratios.items()}
    for prefix, process in processes.items():
        found = rounds[prefix]
        medians = {key: statistics.median(took[key] for took in found) for key in found[0]} | process.end()
        row |= {f"{prefix}{key}": value for key, value in medians.items()}
    if "attainable_s" in row:
        spent = min(took["cpu_s"] / took["tokens"] for took in rounds[""])
        row["attainable_share"] = row["attainable_s"] / row["attainable_tokens"] / spent
    return row


def main() -> None:
    """Measure everything and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--first", type=Path, help="checkout of an earlier edition, to be compared with")
    parser.add_argument("--output", type=Path, default=FOLDER / "results.csv")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--quick", action="store_true", help="one small round, into _build, to see that it runs"
    )
    parser.add_argument("--only", default="", help="a kind, a workload or a shape")
    arguments = parser.parse_args()
    output = REPOSITORY / "_build" / "bench_quick.csv" if arguments.quick else arguments.output
    state, versions, here = git_state(), package_versions(), machine()
    names = ("python", "torch", "transformers", "trl", "numpy")
    origin = {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": state["commit"][:10] + "-dirty" * state["dirty"],
    }
    origin["versions"] = ", ".join(f"{name} {versions[name]}" for name in names)
    origin["machine"] = f"{here['cpu']}, {here['num_cores']} cores"
    rows = []
    for job in jobs(arguments.quick, arguments.first is not None):
        if arguments.only and arguments.only not in (job["kind"], job["workload"], job["shape"]):
            continue
        rows.append(measure(job, arguments.threads, str(arguments.first or "")) | origin)
        print({key: value for key, value in rows[-1].items() if key not in origin}, flush=True)
        output.parent.mkdir(parents=True, exist_ok=True)
        writing = output.with_name(f"writing.{output.name}")
        pd.DataFrame(rows).to_csv(writing, index=False)
        writing.replace(output)  # a kill leaves whole rows
    print(f"written: {output}")


if __name__ == "__main__":
    main()
