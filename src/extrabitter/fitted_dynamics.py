"""Which dynamics do measured shares follow? The replicator, softmax ascent and Adam, one free number a run.

Each starts at the base's measured share and payoffs; its step size is fitted. With constant payoffs the step size
absorbs their difference: within a run the three are told apart by shape alone, between runs by what one step size
carries to another start and other payoffs.

The rule, fixed before any curve was fitted, though shares had been seen. Fit on the first `FITTED` of a run's steps,
by least squares on the scale where binomial noise is equal at every share. Judge on the steps after them, by the root
mean squared error of the share with the noise's part taken off. Beside them stands "no change": the share stays at the
mean of the last `LEAST_STEPS` fitted steps. Errors are averaged over a seed's runs; seeds are the unit. Of these four
one is closest if its error lies below each other's, with intervals of the differences over seeds wholly below nought;
otherwise it is undecided. All of it is exploratory. Left out: sampling noise in what is learnt, and all that types
share in a network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from extrabitter.dynamics import Array, Learner, Update, policy_steps
from extrabitter.estimates import Estimate, over_seed_values
from extrabitter.measured_shares import LEAST_STEPS, MeasuredRun

DYNAMICS: dict[str, Update] = {"replicator": "replicator", "softmax SGD": "sgd", "Adam": "adam"}
NO_CHANGE = "no change"
NULL = "grpo_rich_permuted"  # its rewards say nothing: judged as if they did, and part of no average
SOURCE = "grpo_rich"  # whose step size is carried to other arms
FITTED = 0.25
MOST_SPAN = 0.5  # of the mean later share, over step sizes that fit about equally well
RATES = np.concatenate([[0.0], np.geomspace(1e-4, 1e4, 161)])
COLUMNS = ["arm", "seed", "start", "gap", "dynamics", "rate", "error", "reason"]


def predicted(run: MeasuredRun, update: Update, rates: Array, moving: bool = False) -> Array:
    """Return the share that searches at the run's steps for each step size, shape (N, R).

    With `moving`, payoffs go in a straight line from their value before RL to that after it, which looks ahead.
    Source: ours, of the three dynamics in `dynamics.policy_steps`.

    >>> pay, own = np.array([0.6, 0.2]), np.zeros((2, 2))
    >>> run = MeasuredRun("arm", 0, np.array([1, 20]), np.array([0.1, 0.9]), 256, 0.1, pay, own)
    >>> predicted(run, "replicator", np.array([0.0, 0.5])).round(2).tolist()
    [[0.1, 0.1], [0.1, 0.83]]
    """
    last = int(run.step.max())
    # The type that is never drawn comes first, and would pay best.
    start = np.tile([0.0, run.start, 1 - run.start], (len(rates), 1))
    ways = run.own_pay[0] + np.linspace(0, 1, last)[:, None] * (run.own_pay[1] - run.own_pay[0])
    pay = (np.array([1.0, *now]) for now in ways) if moving else np.array([1.0, *run.pay])
    steps = policy_steps(start, pay, Learner(update, learning_rate=rates[:, None]))
    return np.array([next(steps)[:, 1] for _ in range(last)])[run.step - 1]


def fitted_rate(run: MeasuredRun, update: Update, last: float, moving: bool = False) -> float:
    """Fit the step size on the steps up to `last`; NaN where they leave later shares open, or no rate is large enough.

    Source: arcsine of the root, whose binomial variance is 1 / 4n, F. J. Anscombe, Biometrika 35 (1948), 246-254.
    """
    early, rates = run.step <= last, RATES
    for finer in (False, True):
        curves = predicted(run, update, rates, moving)
        gaps = np.arcsin(np.sqrt(curves[early])) - np.arcsin(np.sqrt(run.share[early]))[:, None]
        misfit = 4 * run.completions * (gaps**2).sum(axis=0)
        best = int(misfit.argmin())
        if finer:
            break
        # Runs scatter more than completions do: what fits about equally well is counted in their own scatter.
        about = misfit <= misfit[best] + 4 * max(1.0, misfit[best] / max(1, early.sum() - 1))
        later = curves[-max(1, int((~early).sum())) :].mean(axis=0)
        if best == len(rates) - 1 or np.ptp(later[about]) > MOST_SPAN:
            return float("nan")
        rates = np.linspace(rates[max(best - 1, 0)], rates[best + 1], 41)
    return float(rates[best])


def excess_error(share: Array, curve: Array, completions: int) -> float:
    """Return the root mean squared error of a curve, shapes (N,), without the part that binomial noise explains.

    >>> round(excess_error(np.array([0.5, 0.5]), np.array([0.6, 0.4]), 1_000_001), 4)
    0.1
    """
    noise = share * (1 - share) / (completions - 1)
    return float(np.sqrt(max(0.0, float(((share - curve) ** 2 - noise).mean()))))


def judged(runs: Sequence[MeasuredRun], fitted: float = FITTED, moving: bool = False) -> pd.DataFrame:
    """Fit each run's first share `fitted` of steps, judge on the rest; one row a run and dynamics, `COLUMNS`.

    `gap` is the payoff of searching minus that of direct answers; `reason` says why an error is missing.
    """
    rows = []
    for run in runs:
        last = fitted * int(run.step.max()) if len(run.step) else 0.0
        early, reason = run.step <= last, run.missing(last)
        if not reason and (~early).sum() < LEAST_STEPS:
            reason = "too few steps"
        if not reason and moving and not np.isfinite(run.own_pay).all():
            reason = "payoffs not measured"
        for name in [*DYNAMICS, NO_CHANGE]:
            rate, curve = np.nan, np.full(len(run.step), np.nan)
            if not reason and name == NO_CHANGE:
                curve[:] = run.share[early][-LEAST_STEPS:].mean()
            elif not reason:
                rate = fitted_rate(run, DYNAMICS[name], last, moving)
                if np.isfinite(rate):
                    curve = predicted(run, DYNAMICS[name], np.array([rate]), moving)[:, 0]
            rows.append(_row(run, name, rate, curve, ~early, reason))
    return pd.DataFrame(rows, columns=COLUMNS)


def carried(runs: Sequence[MeasuredRun]) -> pd.DataFrame:
    """Judge other arms by the step size of the same seed's `SOURCE`, all its steps fitted; rows as of `judged`.

    Of the judged run only its base's start and payoffs are known; no change: the share stays at that start. Payoffs
    of both runs are a probe's, or both the models' own.
    """
    sources = {run.seed: run for run in runs if run.arm == SOURCE and not run.missing(np.inf)}
    rows = []
    for target in runs:
        if target.arm in (SOURCE, NULL) or target.completions <= 1 or target.seed not in sources:
            continue
        run, source = target, sources[target.seed]
        if run.probed != source.probed:
            run, source = (replace(one, pay=one.own_pay[0]) for one in (run, source))
        if not 0 < run.start < 1 or np.isnan(run.gap + source.gap) or len(run.step) < LEAST_STEPS:
            continue
        for name in [*DYNAMICS, NO_CHANGE]:
            rate, curve = np.nan, np.full(len(run.step), np.nan)
            if name == NO_CHANGE:
                curve[:] = run.start
            elif np.isfinite(rate := fitted_rate(source, DYNAMICS[name], np.inf)):
                curve = predicted(run, DYNAMICS[name], np.array([rate]))[:, 0]
            rows.append(_row(run, name, rate, curve, np.ones(len(curve), dtype=bool)))
    return pd.DataFrame(rows, columns=COLUMNS)


def _row(
    run: MeasuredRun, name: str, rate: float, curve: Array, unseen: NDArray[np.bool_], reason: str = ""
) -> tuple[object, ...]:
    """Return one of `COLUMNS`' rows: a curve (N,), NaN where its step size is not determined, on `unseen` steps."""
    known = not reason and bool(np.isfinite(curve).all())
    error = excess_error(run.share[unseen], curve[unseen], run.completions) if known else np.nan
    why = "" if known else reason or "step size not determined"
    return run.arm, run.seed, run.start, run.gap, name, rate, error, why


def share_exponent(run: MeasuredRun, share: Array) -> float:
    """Fit a in "the logit of the share moves by c (p (1 - p))^a a step" to a curve at the run's steps, shape (N,).

    0 is the replicator, 1 softmax ascent; two free numbers, a and c. NaN where a lies at an end of what was tried.
    Source: ours.

    >>> step, pay, own = np.arange(1, 21), np.array([0.6, 0.2]), np.zeros((2, 2))
    >>> run = MeasuredRun("arm", 0, step, np.zeros(20), 256, 0.1, pay, own)
    >>> curves = [predicted(run, update, np.array([1.0]))[:, 0] for update in ("replicator", "sgd")]
    >>> [round(abs(share_exponent(run, curve)), 1) for curve in curves]
    [0.0, 1.0]
    """
    sign = np.sign(run.gap)
    powers, speeds = np.linspace(-1, 2, 31), np.geomspace(1e-3, 1e3, 61)
    for finer in (0, 1, 2):
        logit = np.full((len(powers), len(speeds)), np.log(run.start / (1 - run.start)))
        path = []
        for _ in range(int(run.step.max())):
            p = 1 / (1 + np.exp(-logit))
            path.append(p)
            logit = np.clip(logit + sign * speeds * (p * (1 - p)) ** powers[:, None], -30, 30)
        curves = np.arcsin(np.sqrt(np.array(path)[run.step - 1]))  # (N, powers, speeds)
        misfit = ((curves - np.arcsin(np.sqrt(share))[:, None, None]) ** 2).sum(axis=0)
        row, column = np.unravel_index(int(misfit.argmin()), misfit.shape)
        if not finer and (row in (0, len(powers) - 1) or column in (0, len(speeds) - 1)):
            return float("nan")
        best, speed = float(powers[row]), float(speeds[column])
        powers = best + np.linspace(-2, 2, 21) * (powers[1] - powers[0])
        speeds = speed * (speeds[1] / speeds[0]) ** np.linspace(-2, 2, 31)
    return best


def exponents(runs: Sequence[MeasuredRun], upto: float = 1.0) -> pd.DataFrame:
    """Return share exponents on the first share `upto` of each run's steps; the `NULL` is left out.

    Columns: arm, seed, measured, and those of the three dynamics' own curves, fitted to the same steps.
    """
    rows = []
    for whole in runs:
        kept = whole.step <= upto * (whole.step.max() if len(whole.step) else 0)
        run = replace(whole, step=whole.step[kept], share=whole.share[kept])
        if run.missing(np.inf) or run.arm == NULL:
            continue
        found = [share_exponent(run, run.share)]
        for update in DYNAMICS.values():
            rate = np.array([fitted_rate(run, update, np.inf)])
            found.append(share_exponent(run, predicted(run, update, rate)[:, 0]) if rate[0] > 0 else np.nan)
        rows.append((run.arm, run.seed, *found))
    return pd.DataFrame(rows, columns=["arm", "seed", "measured", *DYNAMICS])


def of_error(table: pd.DataFrame, dynamics: str, minus: str | None = None) -> Estimate:
    """Estimate a dynamics' error, or its difference to another's, over seeds; `table` is of `judged` or `carried`."""
    errors = _by_seed(table)
    return over_seed_values(errors[dynamics] - (errors[minus] if minus else 0.0))


def closest(table: pd.DataFrame) -> str:
    """Name what misses by less than every other, a dynamics or no change, over seeds; empty if undecided."""
    errors = _by_seed(table).mean()
    if errors.isna().any():
        return ""
    best = str(errors.idxmin())
    differences = [of_error(table, best, str(name)) for name in errors.index if name != best]
    return best if all(found.num_seeds > 1 and found.upper < 0 for found in differences) else ""


def _by_seed(table: pd.DataFrame) -> pd.DataFrame:
    """Mean error by seed and dynamics, over the runs for which all four have one."""
    keyed = table.set_index(["arm", "seed", "dynamics"])["error"].astype(float)
    wide = keyed.unstack("dynamics").reindex(columns=[*DYNAMICS, NO_CHANGE]).dropna()
    return wide.groupby("seed").mean()
