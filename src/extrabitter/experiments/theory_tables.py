"""The theory chapter's experiments: each function runs one of them and returns a tidy table.

The tables carry the closed form beside the simulation, so that a figure or a sentence never has to pair
them itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest

from extrabitter.experiments.dynamics import (
    Learner,
    Update,
    log_log_slope,
    policy_steps,
    sampled_gradient,
    simulated_escape_steps,
)
from extrabitter.seeding import derive_seed
from extrabitter.experiments.success_map import solve_inner_loop, success_map
from extrabitter.experiments.theory import (
    chance_of_a_hit,
    escape_exponent,
    escape_steps,
    exhaustive_chance_of_a_hit,
    expected_reward_gradient,
    group_gain,
    informative_group_probability,
    sign_ascent_steps,
)

Array = NDArray[np.float64]

THREE_SHARES = np.array([0.01, 0.70, 0.29])
THREE_PAY = np.array([1.0, 0.5, 0.0])
"""Rare and best, common and decent, useless. Source: ours, a smallest case where the best can shrink."""

BEHAVIOUR_PAY, RIVAL_PAY = 0.43, 0.17
"""Success given search and given a direct answer. Source: pilot base models of this book, rounded."""

RARE = 0.01
"""Largest starting share that enters a slope, where the leading term rules. Source: ours."""

CONVERGED = 0.9995
"""Success chance at which a policy counts as converged and its run is cut short. Source: ours."""

SGD_RATE, ADAM_RATE = 1.0, 0.02
"""Step sizes of the escape races. Source: ours: small enough for the drift to rule."""

SELECTION_LEARNERS = {
    "replicator": Learner("replicator", 0.02),
    "SGD, exact": Learner("sgd", 0.5),
    "SGD, sampled": Learner("sgd", 0.5, sampled=True),
    "Adam, exact": Learner("adam", 0.02),
    "Adam, sampled": Learner("adam", 0.02, sampled=True),
}
"""The five dynamics whose trajectories are shown, at step sizes of a similar pace. Source: ours."""


def starting_shares(is_solution: NDArray[np.bool_], mass: float) -> Array:
    """Return shares that put ``mass`` on the solutions, evenly, and the rest evenly on the other attempts.

    >>> starting_shares(np.array([True, False, False]), 0.1)
    array([0.1 , 0.45, 0.45])
    """
    shares = np.where(is_solution, mass / is_solution.sum(), (1 - mass) / (~is_solution).sum())
    return np.asarray(shares)


def _success_by_evaluations(
    steps: Iterator[Array], is_solution: NDArray[np.bool_], cost: int, budgets: Iterable[int]
) -> Iterator[tuple[int, Array]]:
    """Yield each budget with every run's success chance after that many evaluated candidates."""
    success, done = next(steps)[:, is_solution].sum(axis=1), 0
    for budget in budgets:
        while (done + 1) * cost <= budget and success.min() < CONVERGED:
            success, done = next(steps)[:, is_solution].sum(axis=1), done + 1
        yield budget, success


def four_ways_table(
    is_solution: NDArray[np.bool_], masses: Iterable[float], budgets: list[int], num_runs: int, seed: int
) -> pd.DataFrame:
    """Return the chance of a right answer after so many evaluated candidates, for four ways of searching.

    Columns: start_mass, method, num_evaluations, value, lower, upper (10 % and 90 % quantiles over runs,
    for the one method that is random and not known in closed form). For the two searches the value is the
    chance to have met a solution; for the two policies it is the chance that one draw is right. An exact
    gradient costs all candidates a step.
    """
    total, solutions = len(is_solution), int(is_solution.sum())
    pay = is_solution.astype(float)
    rows: list[tuple[float, str, int, float, float, float]] = []
    for mass in masses:
        shares = starting_shares(is_solution, mass)
        for n in budgets:
            blind = float(chance_of_a_hit(mass, n))
            listed = exhaustive_chance_of_a_hit(total, solutions, min(n, total))
            rows += [(mass, "exhaustive search", n, listed, listed, listed)]
            rows += [(mass, "random search", n, blind, blind, blind)]
        for method, sampled, runs in (("exact policy gradient", False, 1), ("sampled GRPO", True, num_runs)):
            learner = Learner(learning_rate=2.0, sampled=sampled, divide_by_std=True)
            rng = np.random.default_rng(derive_seed(seed, "four ways", method, str(mass)))
            steps = policy_steps(np.tile(shares, (runs, 1)), pay, learner, rng)
            cost = learner.num_generations * learner.num_groups if sampled else total
            for n, success in _success_by_evaluations(steps, is_solution, cost, budgets):
                low, high = np.quantile(success, [0.1, 0.9])
                rows.append((mass, method, n, float(success.mean()), float(low), float(high)))
    columns = ["start_mass", "method", "num_evaluations", "value", "lower", "upper"]
    return pd.DataFrame(rows, columns=columns)


def escape_tables(num_runs: int, max_steps: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return escape times (one row a start) and their log-log slopes (one row a condition), of a behaviour.

    Sixteen conditions: optimiser, gradient, division by the group's std, rival. The slope is fitted on
    starts up to ``RARE``; a run that never escaped counts as ``max_steps``.
    ``predicted`` is the closed form in steps: mean drift for SGD, sign ascent for Adam.
    """
    times_rows, slope_rows = [], []
    races: tuple[tuple[Update, float], ...] = (("sgd", SGD_RATE), ("adam", ADAM_RATE))
    for optimiser, rate in races:
        for gradient in ("exact", "sampled"):
            sampled = gradient == "sampled"
            starts = 10.0 ** np.arange(-3.5 if sampled else -4.0, -0.9, 0.5)
            for std in (False, True):
                for rival in (0.0, RIVAL_PAY):
                    condition = (optimiser, gradient, std, rival)
                    learner = Learner(optimiser, rate, sampled, std)
                    times = simulated_escape_steps(
                        starts,
                        np.array([BEHAVIOUR_PAY, rival]),
                        learner,
                        num_runs if sampled else 1,
                        max_steps,
                        derive_seed(seed, "escape", *map(str, condition)),
                    )
                    generations = learner.num_generations if sampled else None
                    filled = np.nan_to_num(times, nan=max_steps)
                    for start, run_times in zip(starts, filled, strict=True):
                        predicted = (
                            sign_ascent_steps(start, rate)
                            if optimiser == "adam"
                            else escape_steps(start, rate, BEHAVIOUR_PAY, rival, std, generations)
                        )
                        quantiles = np.quantile(run_times, [0.5, 0.1, 0.9])
                        times_rows.append((*condition, start, *quantiles, float(run_times.mean()), predicted))
                    rare = starts <= 1.01 * RARE
                    slope_rows.append(
                        (
                            *condition,
                            escape_exponent(optimiser, gradient, std, rival > 0),
                            *log_log_slope(starts[rare], filled[rare]),
                            int(np.isnan(times).sum()),
                        )
                    )
    keys = ["optimiser", "gradient", "divide_by_std", "rival_pay"]
    return (
        pd.DataFrame(times_rows, columns=[*keys, "start", "median", "lower", "upper", "mean", "predicted"]),
        pd.DataFrame(slope_rows, columns=[*keys, "predicted", "slope", "lower", "upper", "num_censored"]),
    )


def selection_table(num_steps: int, num_runs: int, seed: int) -> pd.DataFrame:
    """Return the shares of the three types over steps under five dynamics.

    Columns: dynamics, step, type (0 rare and best, 1 common, 2 useless), value (median over runs), lower,
    upper (10 % and 90 %).
    """
    frames = []
    for name, learner in SELECTION_LEARNERS.items():
        runs = num_runs if learner.sampled else 1
        rng = np.random.default_rng(derive_seed(seed, "selection", name))
        steps = policy_steps(np.tile(THREE_SHARES, (runs, 1)), THREE_PAY, learner, rng)
        history = np.array([next(steps) for _ in range(num_steps + 1)])  # (steps, runs, types)
        low, middle, high = np.quantile(history, [0.1, 0.5, 0.9], axis=1)
        for kind in range(3):
            frames.append(
                pd.DataFrame(
                    {
                        "dynamics": name,
                        "step": np.arange(num_steps + 1),
                        "type": kind,
                        "value": middle[:, kind],
                        "lower": low[:, kind],
                        "upper": high[:, kind],
                        "frac_below_start": (history[:, :, kind] < THREE_SHARES[kind]).mean(axis=1),
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def death_table(num_runs: int, horizon: int, long_horizon: int, seed: int) -> pd.DataFrame:
    """Return how often sampled learners hold less of the best type than they started with, by step size.

    Columns: optimiser, num_groups, learning_rate, value with its 95 % Wilson interval at ``horizon``, and
    frac_dead, the runs with a tenth of the start or less at ``long_horizon``.
    """
    ladders: tuple[tuple[Update, tuple[float, ...]], ...] = (
        ("sgd", (0.1, 0.5, 2.0, 5.0, 10.0, 20.0)),
        ("adam", (0.005, 0.02, 0.05, 0.1, 0.2, 0.5)),
    )
    rows = []
    for optimiser, rates in ladders:
        for groups in (1, 8):
            for rate in rates:
                learner = Learner(optimiser, rate, True, True, num_groups=groups)
                rng = np.random.default_rng(derive_seed(seed, "death", optimiser, groups, str(rate)))
                steps = policy_steps(np.tile(THREE_SHARES, (num_runs, 1)), THREE_PAY, learner, rng)
                best = np.array([next(steps)[:, 0] for _ in range(long_horizon + 1)])
                below = int((best[horizon] < THREE_SHARES[0]).sum())
                interval = binomtest(below, num_runs).proportion_ci(method="wilson")
                dead = float((best[-1] <= THREE_SHARES[0] / 10).mean())
                rows.append(
                    (optimiser, groups, rate, below / num_runs, interval.low, interval.high, dead, num_runs)
                )
    columns = ["optimiser", "num_groups", "learning_rate", "value", "lower", "upper", "frac_dead", "num_runs"]
    return pd.DataFrame(rows, columns=columns)


def success_map_table(
    cases: Iterable[tuple[float, float]], is_solution: NDArray[np.bool_], num_iterations: int
) -> pd.DataFrame:
    """Return success chances over outer iterations: Mroueh's map and converged inner loops.

    ``cases`` are pairs (reference mass on the solutions, beta). Columns: reference, beta, iteration, map,
    inner_loop.
    """
    rewards = is_solution.astype(float)
    rows = []
    for mass, beta in cases:
        reference = starting_shares(is_solution, mass)
        policy, mapped = reference, mass
        for iteration in range(num_iterations + 1):
            rows.append((mass, beta, iteration, mapped, float(policy[is_solution].sum())))
            policy = solve_inner_loop(policy, reference, rewards, beta)
            mapped = success_map(mapped, mass, beta)
    return pd.DataFrame(rows, columns=["reference", "beta", "iteration", "map", "inner_loop"])


def group_table(sizes: Iterable[int], num_groups: int, seed: int) -> pd.DataFrame:
    """Return how often a group is informative and what it does to the gradient, by chance and size.

    Columns: num_generations, probability, informative, and the gain with std in closed form and
    ``simulated`` from ``num_groups`` sampled groups of a two-type policy.
    """
    rows = []
    for size in sizes:
        for p in 10.0 ** np.arange(-4, -0.2, 0.25):
            shares = np.array([p, 1 - p])
            pay = np.array([1.0, 0.0])
            learner = Learner(sampled=True, divide_by_std=True, num_generations=size, num_groups=num_groups)
            rng = np.random.default_rng(derive_seed(seed, "group", size, f"{p:.6g}"))
            drawn = sampled_gradient(shares[None, :], pay, learner, rng)[0, 0]
            exact = expected_reward_gradient(shares, pay)[0]
            informative = informative_group_probability(p, size)
            rows.append((size, p, informative, group_gain(p, size, True), float(drawn / exact)))
    return pd.DataFrame(rows, columns=["num_generations", "probability", "informative", "gain", "simulated"])
