"""Does a behaviour outlive the rise of accuracy? How a cap on length and a reward for form can kill one that pays.

Read off training: the share of completions that search once accuracy has doubled, over the share at the start. A
ratio below one says that something else was learnt first, and at the behaviour's cost.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from extrabitter.estimates import Estimate, over_seed_values

SMOOTH = 5  # steps that a reading is a mean of
RISE = 2.0  # times the accuracy of the start
LOOSE, BONUS, TIGHT, TIGHT_BONUS = (
    "grpo_rich",
    "grpo_rich_bonus",
    "grpo_rich_tight",
    "grpo_rich_tight_bonus",
)
ARMS = (LOOSE, BONUS, TIGHT, TIGHT_BONUS)  # cap and bonus for form: neither, one, the other, both


def survivals(steps: pd.DataFrame, arms: Sequence[str] = ARMS) -> pd.DataFrame:
    """Read search off GRPO runs at their start and at the first step by which accuracy has risen `RISE`-fold.

    Columns: arm, seed, accuracy and searched (means over the first `SMOOTH` steps), step, searched_then (mean over
    the `SMOOTH` steps that end there) and ratio of the two shares; missing where accuracy did not rise so far.
    `steps` is a collected table of GRPO.
    """
    rows = []
    for arm in arms:
        for seed, run in steps[steps["arm"] == arm].groupby("seed"):
            means = run.set_index("step")[["correct_reward", "frac_searches"]].sort_index()
            means = means.rolling(SMOOTH).mean().dropna()
            if means.empty:
                continue
            accuracy, searched = means.iloc[0]
            risen = means[means["correct_reward"] >= RISE * accuracy] if accuracy > 0 else means.iloc[:0]
            step = float(risen.index[0]) if len(risen) else np.nan
            then = float(risen["frac_searches"].iloc[0]) if len(risen) else np.nan
            ratio = then / searched if searched > 0 else np.nan
            rows.append((arm, int(str(seed)), float(accuracy), float(searched), step, then, ratio))
    columns = ["arm", "seed", "accuracy", "searched", "step", "searched_then", "ratio"]
    return pd.DataFrame(rows, columns=columns)


def common_step(steps: pd.DataFrame, arms: Sequence[str] = ARMS) -> int:
    """Return the last step that the runs of all given arms have; 0 without any."""
    last = steps[steps["arm"].isin(arms)].groupby(["arm", "seed"])["step"].max()
    return int(last.min()) if len(last) else 0


def at_step(steps: pd.DataFrame, arm: str, column: str, step: int) -> list[float]:
    """Read a column off an arm's runs, one value a seed: the mean over the `SMOOTH` steps that end at `step`."""
    rows = steps[(steps["arm"] == arm) & steps["step"].between(step - SMOOTH + 1, step)]
    return [float(value) for value in rows.groupby("seed")[column].mean()]


def of_survival(found: pd.DataFrame, arm: str = TIGHT_BONUS, column: str = "ratio") -> Estimate:
    """Estimate a column of `survivals` over the seeds of an arm; a run whose accuracy did not rise has no ratio."""
    return over_seed_values(found.loc[found["arm"] == arm, column].dropna().astype(float))
