"""How long a rare habit waits until it takes off: for luck, in proportion to 1/p0, and for the climb, to its log.

A habit begins with share p0 of completions, and has taken off when half of a step's completions show it. Whoever draws
n completions a step waits for the draws that set it going, a number of them that is alike for all p0, and then for the
climb, in which each tenfold of share takes as long as any other:

    T = W + a + b log10(1 / p0),   W exponential with mean c / (n p0), and an error of spread s.

Its rivals are the climb alone and the luck alone. All three are fitted to runs by the same likelihood, in which a run
that ended too early tells that its wait was longer. Source: ours; the constants come from trunks outside the series.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize, stats

from extrabitter.statistics import Estimate, over_seed_values

Array = NDArray[np.float64]
RUNNING = 5  # steps of the mean that has to reach HALF
HALF = 0.5
# Of the exponential wait in spreads of the error: below, it cannot be told from none, and above from no error.
RATIOS = (1e-3, 1e3)


class WaitLaw(NamedTuple):
    """A law of the wait, in steps: `base` a, `decade` b for each tenfold of rarity, `draws` c of luck, `spread` s."""

    base: float
    decade: float
    draws: float
    spread: float

    def wait(self, share: Array, completions: Array | int) -> Any:
        """Return the distribution of the wait from these shares, of so many completions a step."""
        climb, mean = self.base + self.decade * np.log10(1 / share), self.draws / (completions * share)
        if not self.draws:
            return stats.norm(loc=climb, scale=self.spread)
        return stats.exponnorm(np.clip(mean / self.spread, *RATIOS), loc=climb, scale=self.spread)

    def log_likelihood(self, waits: pd.DataFrame) -> Array:
        """Return the log-likelihood of each row of `take_off`'s table; of a censored one that of a longer wait."""
        share, completions, steps = (
            waits[name].to_numpy(float) for name in ("share", "completions", "steps")
        )
        wait = self.wait(share, completions)
        # A wait that a law takes for impossible costs it much, and not everything.
        return np.log(np.maximum(np.where(waits["censored"], wait.sf(steps), wait.pdf(steps)), 1e-30))


# Name of a law -> whether it has a climb by the logarithm, and luck.
LAWS = {"two waits": (True, True), "the logarithm alone": (True, False), "luck alone": (False, True)}


def take_off(steps: pd.DataFrame, shares: pd.DataFrame) -> pd.DataFrame:
    """Return how long each run waited: columns arm, seed, share, completions, steps, censored.

    `steps` is table `steps` of the store, `shares` has columns arm, seed, share, the chance p0 that a completion of the
    run's start shows the habit, and completions, those of a step. A run has taken off at the first step to which the
    mean over RUNNING steps of `frac_searches` has reached HALF; one that has not is censored at its last step. Runs
    of share 0 wait for ever, and are left out.
    """
    rows = []
    for row in shares[shares["share"] > 0].itertuples():
        own = steps[(steps["arm"] == row.arm) & (steps["seed"] == row.seed)].sort_values("step")
        reached = own["step"][own["frac_searches"].rolling(RUNNING, min_periods=1).mean() >= HALF]
        censored, at = reached.empty, own["step"].max() if reached.empty else reached.iloc[0]
        rows.append((row.arm, row.seed, row.share, row.completions, float(at), censored))
    return pd.DataFrame(rows, columns=["arm", "seed", "share", "completions", "steps", "censored"])


def fit(waits: pd.DataFrame, law: str = "two waits") -> WaitLaw:
    """Return the law, of LAWS, that makes these waits likeliest; ValueError where all of them are censored."""
    if waits["censored"].all():
        raise ValueError("waits: none has ended, so that no law can be told from another")
    has_climb, has_luck = LAWS[law]

    def law_of(values: Array) -> WaitLaw:
        base, decade, draws, spread = np.exp(values)
        return WaitLaw(float(base), float(decade) * has_climb, float(draws) * has_luck, float(spread))

    def loss(values: Array) -> float:
        return -float(law_of(values).log_likelihood(waits).sum())

    starts = map(np.log, product((2.0, 20.0), (10.0,), (1.0, 10.0), (3.0, 15.0)))
    asked = {"method": "Nelder-Mead", "options": {"maxiter": 4000}}
    found = [optimize.minimize(loss, start, **asked) for start in starts]
    return law_of(min(found, key=lambda each: each.fun).x)


def scores(waits: pd.DataFrame, laws: dict[str, WaitLaw]) -> pd.DataFrame:
    """Return the mean log-likelihood of a run, a row a seed, a column a law; the laws are fixed before."""
    by_law = {name: law.log_likelihood(waits) for name, law in laws.items()}
    return pd.DataFrame(by_law).groupby(waits["seed"].to_numpy()).mean()


def advantage(waits: pd.DataFrame, laws: dict[str, WaitLaw]) -> Estimate:
    """Estimate by how much the law of two waits predicts a run's wait better than the better of its rivals, by seed.

    In units of log-likelihood; each seed's better rival is picked with hindsight, which favours the rivals.
    """
    scored = scores(waits, laws)
    ours, *rivals = LAWS
    return over_seed_values(scored[ours] - scored[rivals].max(axis=1))


def expected(law: WaitLaw, shares: Sequence[float], completions: int) -> pd.DataFrame:
    """Return what a law expects, for a line: columns share, value, lower and upper, the middle eight tenths."""
    at = np.asarray(shares, dtype=float)
    wait = law.wait(at, completions)
    ends = {"lower": wait.ppf(0.1), "upper": wait.ppf(0.9)}
    return pd.DataFrame({"share": at, "value": wait.median(), **ends})
