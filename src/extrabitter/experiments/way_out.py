"""What gets a choking base out: what its primaries measure, written before any of its runs.

Arms that are told nothing from outside draw, reward and update otherwise than plain RL, and that is all. Those of the
guesser end in `_guesser` and those of the searcher behind a dial in `_dial`; `taught_100` is the guesser after a
hundred demonstrations. All are evaluated unforced and without a prefix, after equally many completions.
"""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from extrabitter.statistics import Estimate, over_seed_values, values_by_seed

WORKING = "frac_working_search"  # share of completions whose search found what they hand in
PASSED = 0.01


def seeds_that_search(summary: pd.DataFrame, arms: Collection[str]) -> Estimate:
    """Count the seeds in which an evaluation of one of `arms` passes PASSED of WORKING; a count has no interval."""
    own = summary[(summary["measure"] == WORKING) & summary["arm"].isin(arms)]
    most = own.groupby("seed")["value"].max()
    count = float((most > PASSED).sum())
    return Estimate(count, count, count, len(most))


def shortest_wait(waits: pd.DataFrame, arms: Collection[str], plain: str) -> Estimate:
    """Estimate the wait of the quickest of `arms` over that of arm `plain`, by seed, of `two_waits.take_off`'s table.

    The quickest is the one with the least mean, picked with hindsight. A run that never took off counts as if it had
    at its end: that makes a ratio too large where the arm's did not, too small where the plain one did not.
    """
    steps = waits.pivot(index="seed", columns="arm", values="steps")
    ratios = steps[list(arms)].div(steps[plain], axis=0)
    return over_seed_values(ratios[ratios.mean().idxmin()].dropna())


def gain_after_hundred(summary: pd.DataFrame) -> Estimate:
    """Estimate what RL adds after a hundred demonstrations minus what it adds to the guesser, paired by seed."""
    arms = ["after_taught_100", "before_taught_100", "after_guesser", "before_guesser"]
    values = values_by_seed(summary, "pass@1", arms)
    taught, guesser = values[arms[0]] - values[arms[1]], values[arms[2]] - values[arms[3]]
    return over_seed_values(taught - guesser)
