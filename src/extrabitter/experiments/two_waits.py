"""How long a rare habit waits until it takes off: for luck, in proportion to 1/p0, and for the climb, to its log.

A habit begins with share p0 of completions, and has taken off when half of a step's completions show it. Whoever draws
n completions a step waits for the draws that set it going, a number of them that is alike for all p0, and then for the
climb, in which each tenfold of share takes as long as any other:

    T = W + a + b log10(1 / p0),   W exponential with mean c / (n p0), and an error of spread s.

Its rivals are the climb alone and the luck alone. All three are fitted to runs by the same likelihood, in which a run
that ended too early tells that its wait was longer. Source: ours; the constants come from trunks outside the series,
and lie in `FROZEN` since before its runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import optimize, stats

from extrabitter.digests import REPOSITORY
from extrabitter.pages import plots
from extrabitter.params import GrpoParameters
from extrabitter.profiles import read_yaml
from extrabitter.statistics import Estimate, over_seed_values

Array = NDArray[np.float64]
FROZEN = Path("book/predictions/two_waits.yaml")
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


def frozen(path: Path = REPOSITORY / FROZEN) -> dict[str, WaitLaw]:
    """Read the laws of LAWS with the constants that were fitted before the series."""
    found = read_yaml(path, "laws")
    return {name: WaitLaw(**found[name]) for name in LAWS}


def shares(summary: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Return what `take_off` needs to know of runs of GRPO, of the store's tables of the same names.

    A run's share is what the evaluation of its start, arm `before_<arm>`, has read off the softmax.
    """
    asked = summary[(summary["measure"] == "search_probability") & summary["arm"].str.startswith("before_")]
    asked = asked.assign(arm=asked["arm"].str.removeprefix("before_"), share=asked["value"])
    made = runs[(runs["stage"] == "grpo") & (runs["state"] == "ok")]
    each = [GrpoParameters.model_validate_json(told).completions_per_step for told in made["parameters"]]
    keys = ["arm", "seed"]
    return asked[[*keys, "share"]].merge(made.assign(completions=each)[[*keys, "completions"]], on=keys)


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


def expected(law: WaitLaw, shares: Sequence[float] | Array, completions: int) -> pd.DataFrame:
    """Return what a law expects, for a line: columns share, value, lower and upper, the middle eight tenths."""
    at = np.asarray(shares, dtype=float)
    wait = law.wait(at, completions)
    ends = {"lower": wait.ppf(0.1), "upper": wait.ppf(0.9)}
    return pd.DataFrame({"share": at, "value": wait.median(), **ends})


def figure(waits: pd.DataFrame, laws: dict[str, WaitLaw], title: str) -> Figure:
    """Draw each run's wait against its share, open where it had not ended, and what the laws foretold, named."""
    shares, most = np.geomspace(waits["share"].max(), waits["share"].min(), 60), waits["steps"].max() * 1.1
    looks = dict(zip(laws, map(plots.Look, (plots.BLUE, plots.GREY, plots.RED)), strict=True))
    foretold = []
    for name, law in laws.items():
        line = expected(law, shares, int(waits["completions"].mode()[0])).assign(law=name)
        if name != next(iter(laws)):
            line = line.drop(columns=["lower", "upper"])  # one band can be read, three cannot
        foretold.append(line[line["value"] < most])
    with plots.drawing(title, 3.0) as (fig, ax):
        ax.set(xscale="log", xlabel="chance that a completion searches, before RL")
        ax.set(ylabel="steps until half of them do", ylim=(0, most))
        ax.invert_xaxis()
        for line in foretold:
            plots.lines(ax, line, "law", "share", "value", looks)
        for censored, rows in waits.groupby("censored"):
            face = plots.PAPER if censored else plots.BLUE
            look = {"color": plots.BLUE, "markerfacecolor": face, "markersize": 4, "zorder": 3}
            ax.plot(rows["share"], rows["steps"], "^" if censored else "o", **look)
    return fig
