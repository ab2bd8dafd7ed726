"""Kill builds at random moments, let one finish, and hold what comes of it against an undisturbed build.

    python tests/kills.py                      a hundred kills of stub runs, in a path with a space and an accent
    python tests/kills.py --profile smoke      the same of real runs: a quarter of an hour on two cores

The last line says what came of it; the exit code is 1 if anything that was finished was lost or made again, if
anything half-written is left, or if results differ by a byte.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import miniature
from extrabitter.digests import REPOSITORY
from extrabitter.runs import find_runs


def finished(root: Path, profile: str) -> dict[str, bytes]:
    """Notebooks of the runs that ended well, by job: they hold clock times to a microsecond, so no two are alike."""
    ended = [run for run in find_runs(root / "runs" / profile) if run.status.state == "ok"]
    return {run.key: run.path.with_name(f"{run.path.name}.ipynb").read_bytes() for run in ended}


def disturb(root: Path, profile: str, kills: int, rng: random.Random, longest_s: float) -> list[str]:
    """Start a build and kill its process group, again and again; say what of finished runs was lost or made again."""
    complaints = []
    for number in range(kills):
        before = finished(root, profile)
        process = miniature.start(root, "build", "--profile", profile, "--cores", "2")
        time.sleep(rng.uniform(0.2, longest_s))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        after = finished(root, profile)
        for key in [key for key in before if after.get(key) != before[key]]:
            complaints.append(f"kill {number + 1}: {key} was {'made again' if key in after else 'lost'}")
    return complaints


def leftovers(root: Path) -> list[str]:
    """Half-written files, and locks that a plain `snakemake` would trip over."""
    partial = [path for path in (*root.glob("runs/**/.*.partial*"), *root.glob("_build/**/.*.partial*"))]
    return [str(path.relative_to(root)) for path in (*partial, *root.glob(".snakemake/locks/*"))]


def snakemake(root: Path, profile: str) -> subprocess.CompletedProcess[str]:
    """Let a plain `snakemake` make what is missing, as the conda route does."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--config", f"profile={profile}"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=1200)


def lay_out(root: Path, profile: str) -> Path:
    """Make the tree to build in: the miniature's stubs, or a copy of what real runs need, without their pages."""
    miniature.make_miniature(root)
    if profile != "mini":
        miniature.take_stages(root)
        shutil.copy(REPOSITORY / "profiles" / f"{profile}.yaml", root / "profiles")
    return root


def main() -> int:
    """Run it; return the exit code."""
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--profile", default="mini")
    parser.add_argument("--longest", type=float, default=9.0, help="longest time before a kill, in seconds")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        calm, root = Path(folder) / "calm", Path(folder) / "killed again and again, à la Bohème"
        lay_out(calm, asked.profile)
        lay_out(root, asked.profile)
        miniature.run(calm, "build", "--profile", asked.profile, "--cores", "2", code=None)
        complaints = disturb(root, asked.profile, asked.kills, random.Random(asked.seed), asked.longest)
        done = snakemake(root, asked.profile)
        if done.returncode:
            complaints.append(f"snakemake: {done.stderr.strip().splitlines()[-1]}")
        mine, others = miniature.results(root, asked.profile), miniature.results(calm, asked.profile)
        differ = [name for name in sorted(mine | others) if mine.get(name) != others.get(name)]
        complaints += [f"differs: {name}" for name in differ]
        complaints += [f"left over: {name}" for name in leftovers(root)]
        print("\n".join(complaints), end="\n" * bool(complaints))
        what = "as an undisturbed build" if not complaints else f"{len(complaints)} complaints"
        print(f"{asked.kills} kills in {time.monotonic() - started:.0f} s, {len(others)} results: {what}")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
