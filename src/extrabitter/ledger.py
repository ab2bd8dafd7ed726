"""What RL adds and what it loses: problems solved within k samples before, after, both times or never.

A problem counts as solved if any of its first k samples is right. Two draws from one and the same model also differ:
the ledger of a base's first k samples against its next k says by how much, and stands beside every other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from extrabitter.estimates import Estimate, over_seeds
from extrabitter.metrics import bootstrap_interval
from extrabitter.seeding import derive_seed

SIDES = ("kept", "gained", "lost", "never")


def solved_within(completions: pd.DataFrame, k: int, skip: int = 0) -> pd.DataFrame:
    """Return, per seed and problem, whether one of k samples is right: columns seed, problem, solved.

    `completions` are collected tables of one arm; the samples are those with index `skip` to `skip + k - 1`.
    ValueError where a problem has fewer.
    """
    samples = completions[completions["sample"].between(skip, skip + k - 1)]
    groups = samples.groupby(["seed", "problem"])["correct"]
    if len(completions) and (
        groups.size().lt(k).any()
        or groups.ngroups < completions[["seed", "problem"]].drop_duplicates().shape[0]
    ):
        raise ValueError(f"k: {k} samples from index {skip} on are more than a problem has")
    return groups.any().rename("solved").reset_index()


def ledger(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Count problems by side of the ledger, per seed, as shares: columns seed, kept, gained, lost, never, net.

    Both tables are of `solved_within`; seeds and problems that only one has are left out. `net` is gained - lost.
    """
    pairs = pd.merge(before, after, on=["seed", "problem"], suffixes=("_before", "_after"))
    was, now = pairs["solved_before"].astype(bool), pairs["solved_after"].astype(bool)
    sides = pd.DataFrame(
        {
            "seed": pairs["seed"],
            "kept": was & now,
            "gained": ~was & now,
            "lost": was & ~now,
            "never": ~was & ~now,
        }
    )
    shares = sides.groupby("seed")[list(SIDES)].mean().reset_index()
    shares["net"] = shares["gained"] - shares["lost"]
    return shares


def of_net(before: pd.DataFrame, after: pd.DataFrame) -> Estimate:
    """Estimate gained minus lost as a share of all problems, paired by seed and problem; tables of `solved_within`."""
    pairs = pd.merge(before, after, on=["seed", "problem"], suffixes=("_before", "_after"))
    rows = []
    for seed, run in pairs.groupby("seed"):
        each = run["solved_after"].astype(float) - run["solved_before"].astype(float)
        rng = np.random.default_rng(derive_seed(int(str(seed)), "ledger"))
        rows.append(bootstrap_interval(each.to_numpy(), rng)._asdict())
    return over_seeds(pd.DataFrame(rows, columns=["value", "lower", "upper"]))


def largest_k(completions: pd.DataFrame, arms: Sequence[str]) -> int:
    """Return how many samples every problem of these arms has at least; 0 where one arm has none."""
    sizes = completions[completions["arm"].isin(arms)].groupby(["arm", "seed", "problem"]).size()
    return int(sizes.min()) if set(sizes.index.get_level_values("arm")) == set(arms) else 0


def first_steps(completions: pd.DataFrame, k: int) -> pd.DataFrame:
    """Describe how varied the first steps of a problem's first k samples are, per seed, means over problems.

    Columns: seed, distinct (different first steps), effective (exponential of their entropy: as many equally
    frequent ones would be as varied), commonest (share of the most frequent one). A first step is the first equation
    written, as it is written; a completion without one has the empty step.
    """
    samples = completions[completions["sample"] < k]
    step = samples["completion"].str.extract(r"(\S+ [-+*/] \S+ = \S+)", expand=False).fillna("")
    counts = samples.assign(step=step).groupby(["seed", "problem", "step"]).size()
    shares = counts / counts.groupby(["seed", "problem"]).transform("sum")
    each = pd.DataFrame(
        {
            "distinct": shares.groupby(["seed", "problem"]).size().astype(float),
            "effective": np.exp(-(shares * np.log(shares)).groupby(["seed", "problem"]).sum()),
            "commonest": shares.groupby(["seed", "problem"]).max(),
        }
    )
    return each.groupby("seed").mean().reset_index()
