"""What the same tokens buy: rivals of a search, each at the tokens that it spends on a problem.

A rival draws completions one after another until a problem's budget is spent, and makes one answer of them:
- **majority**: the answer that most of them hand in; ties are broken by chance.
- **self-check**: the first one that says "yes" to an attempt of its own; the last one where none does.
- **outside checker**: a right one, if any is.
The *enumerator* draws no completion: it goes through distinct legal answers at random, each at the tokens of a direct
answer, before an outside checker.

A draw that the budget does not cover whole is made with the chance of the part that it covers, so that a budget is kept
on average. Orders of draws are resampled without repetition from a problem's completions, from a seed; intervals are
over problems, and gaps are paired by problem.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from extrabitter.seeding import derive_seed
from extrabitter.statistics import Interval, clustered_share, t_interval
from extrabitter.tasks import Task

Method = Literal["majority", "self-check", "outside checker"]
METHODS: tuple[Method, ...] = get_args(Method)
NUM_ORDERS = 256  # in which a problem's completions are drawn


def tokens_by_problem(completions: pd.DataFrame) -> pd.Series:
    """Return the mean tokens of a completion by problem: the budget of an arm's rivals."""
    return completions.groupby("problem")["num_completion_tokens"].mean()


def rival_successes(completions: pd.DataFrame, budgets: pd.Series, method: Method, seed: int) -> pd.DataFrame:
    """Return by problem what a method makes of completions at a budget of tokens: success, num_tokens, is_short.

    `completions` is of one arm; `budgets` has the problems' tokens, and its problems are those returned. `num_tokens`
    is what was spent: one who checks stops at success. `is_short` tells where completions ran out before tokens, so
    that more samples might do better.
    """
    rows = []
    groups = {str(problem): group for problem, group in completions.groupby("problem")}
    for problem, budget in budgets.items():
        group = groups[str(problem)]
        rng = np.random.default_rng(derive_seed(seed, "rival", method, str(problem)))
        tokens = group["num_completion_tokens"].to_numpy(float)
        orders = rng.random((NUM_ORDERS, len(group))).argsort(axis=1)
        cost = tokens[orders]  # (orders, draws)
        spent = cost.cumsum(axis=1)
        # Covered whole, or by chance in part: for one draw of all orders it is the same uniform number.
        made = spent - cost + cost * rng.random((NUM_ORDERS, 1)) <= float(budget)
        right = group["correct"].to_numpy(bool)[orders]
        stops = np.zeros_like(right)
        if method == "majority":
            success = _vote(group["value"].to_numpy(str)[orders], right, made, rng)
        else:
            stops = right if method == "outside checker" else (group["num_yes_verdicts"].to_numpy() > 0)[orders]
            success = _first(stops & made, right, made)
        # Nothing is drawn behind the first that stops.
        paid = np.minimum(cost, np.clip(budget - (spent - cost), 0, None)) * (stops.cumsum(axis=1) - stops == 0)
        rows.append((problem, success.mean(), paid.sum(axis=1).mean(), tokens.sum() < budget))
    return pd.DataFrame(rows, columns=["problem", "success", "num_tokens", "is_short"])


def _first(stops: NDArray[np.bool_], right: NDArray[np.bool_], made: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return by order whether the first draw that stops is right, or the last one made where none does; (orders,)."""
    last = made.sum(axis=1) - 1
    chosen = np.where(stops.any(axis=1), stops.argmax(axis=1), last)
    found: NDArray[np.float64] = right[np.arange(len(right)), chosen] * (last >= 0).astype(float)
    return found


def _vote(
    answers: NDArray[np.str_], right: NDArray[np.bool_], made: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return by order whether the answer with most votes is right; who hands in nothing does not vote; (orders,)."""
    names = np.unique(answers[answers != ""])
    if not len(names):
        return np.zeros(len(answers))
    votes = np.stack([((answers == name) & made).sum(axis=1) for name in names], axis=1).astype(float)
    good = np.stack([((answers == name) & made & right).sum(axis=1) for name in names], axis=1)
    winner = (votes + 0.5 * rng.random(votes.shape)).argmax(axis=1)
    rows = np.arange(len(answers))
    return np.divide(good[rows, winner], votes[rows, winner], out=np.zeros(len(rows)), where=votes[rows, winner] > 0)


def legal_answers(task: Task, identifiers: Sequence[str], seed: int = 0) -> pd.DataFrame:
    """Return what an enumerator needs to know: of each problem num_answers, num_right, and num_tokens of a direct answer.

    The tokens are the words of one written direct trace, and the end.
    """
    rows = []
    for name in identifiers:
        problem = task.read_problem(name)
        direct = task.write_trace(problem, "direct", random.Random(derive_seed(seed, "direct answer", name)))
        num_tokens = len(task.render(direct, problem).split()) + 1
        rows.append((name, task.count_answers(problem), len(task.solve(problem)), num_tokens))
    return pd.DataFrame(rows, columns=["problem", "num_answers", "num_right", "num_tokens"])


def enumerator_successes(answers: pd.DataFrame, budgets: pd.Series) -> pd.DataFrame:
    """Return by problem the chance that distinct legal answers hold a right one: success, num_tokens, is_short.

    `answers` is of `legal_answers`. Of k distinct answers none is right with C(N - H, k) / C(N, k); a part of an
    answer counts as a chance of one.
    """
    table = answers.set_index("problem").loc[budgets.index]
    rows = []
    for (problem, budget), num_answers, num_right, tokens in zip(
        budgets.items(), *table[["num_answers", "num_right", "num_tokens"]].to_numpy(float).T, strict=True
    ):
        draws = min(float(budget) / tokens, num_answers)
        whole = int(draws)
        steps = np.arange(whole + 1)
        missed = np.clip((num_answers - num_right - steps) / np.maximum(num_answers - steps, 1), 0, None)
        after = missed[:whole].prod()
        success = 1 - after * (1 - (draws - whole) * (1 - missed[whole]))
        # Each answer before the budget's end is made if none before it was right.
        made = np.concatenate([[1.0], missed[:whole].cumprod()])
        paid = (made[:whole].sum() + (draws - whole) * made[whole]) * tokens
        rows.append((problem, success, paid, False))
    return pd.DataFrame(rows, columns=["problem", "success", "num_tokens", "is_short"])


def rivals_table(
    searcher: pd.DataFrame,
    rivals: Mapping[str, pd.DataFrame],
    answers: pd.DataFrame | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Return what each rival makes of the searcher's tokens: a row an arm and method, with the gap to the searcher.

    `searcher` and each of `rivals`, by arm, are tables `completions` on the same problems, of one seed. With `answers`
    (`legal_answers`) the enumerator is one of them. Columns: arm, method, value, lower, upper, gap (searcher
    minus rival), gap_lower, gap_upper, num_tokens (spent), frac_short (share of problems with too few samples).
    ValueError where an arm answers other problems.
    """
    budgets = tokens_by_problem(searcher)
    own = searcher.groupby("problem")["correct"].mean().reindex(budgets.index)
    found: dict[tuple[str, str], pd.DataFrame] = {}
    for arm, completions in rivals.items():
        if set(completions["problem"]) != set(budgets.index):
            raise ValueError(f"{arm}: answers other problems than the searcher; equal tokens compare the same ones")
        for method in METHODS:
            found[arm, method] = rival_successes(completions, budgets, method, derive_seed(seed, arm))
    if answers is not None:
        found["enumerator", "outside checker"] = enumerator_successes(answers, budgets)
    # A problem's share is a mean over as many completions as the searcher's.
    weights = np.full(len(budgets), len(searcher) / len(budgets))
    value = clustered_share(own * weights, weights)
    rows = [_row("searcher", "one completion", value, own - own, budgets.mean(), 0.0)]
    for (arm, how), table in found.items():
        by_problem = table.set_index("problem").loc[budgets.index]
        value = clustered_share(by_problem["success"] * weights, weights)
        gap = own - by_problem["success"]
        rows.append(_row(arm, how, value, gap, table["num_tokens"].mean(), table["is_short"].mean()))
    return pd.DataFrame(rows)


def _row(
    arm: str, method: str, value: Interval, gaps: pd.Series, num_tokens: float, frac_short: float
) -> dict[str, str | float]:
    gap = t_interval(gaps.to_numpy(float))
    return {
        "arm": arm,
        "method": method,
        **value._asdict(),
        "gap": gap.value,
        "gap_lower": gap.lower,
        "gap_upper": gap.upper,
        "num_tokens": float(num_tokens),
        "frac_short": float(frac_short),
    }
