"""What the same tokens buy: an arm that searches against rivals given as many tokens, at test and in training.

A search is long, and a rival that writes a short answer may write several for the price of one search. It draws
completions one after another until a problem's budget is spent, and makes one answer of them:
- **majority**: the answer that most of them hand in; ties are broken by chance.
- **self-check**: the first one that says "yes" to an attempt of its own; the last one where none does.
- **outside checker**: a right one, if any is.
The *enumerator* draws no completion: it goes through distinct legal answers at random, each at the tokens of a direct
answer, before an outside checker.

A draw that the budget does not cover whole is made with the chance of the part that it covers, so that a budget is kept
on average. Orders of draws are resampled without repetition from a problem's completions, from a seed; intervals are
over problems, gaps are paired by problem, and estimates are over seeds.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from extrabitter.pages import plots
from extrabitter.pages.text import percent, points_interval
from extrabitter.seeding import derive_seed
from extrabitter.statistics import Estimate, clustered_share, over_seed_values, t_interval
from extrabitter.tasks import Task

Method = Literal["majority", "self-check", "outside checker"]
METHODS: tuple[Method, ...] = get_args(Method)
CHECKED, VOTED, ENUMERATOR = "outside checker", "majority", "enumerator"
PICKS = {CHECKED: "a checker picks", VOTED: "they vote"}
# Name -> column of table `steps`.
RUNNING = {"solved": "correct_reward", "informative": "frac_informative_groups"}
NUM_ORDERS = 128  # in which a problem's completions are drawn; over 200 problems chance leaves .003
COLUMNS = ["problem", "success", "num_tokens", "is_short"]


def equal_cost(completions: pd.DataFrame, task: Task, searcher: str, rivals: list[str]) -> pd.DataFrame:
    """Compare a searching arm's one answer with rivals at its tokens, problem by problem; a row a seed, arm and method.

    `completions` is the store's table; seeds that lack one of the arms are left out. Columns: seed, and those of
    `rivals_table`, where the searching arm is called "searcher" and "enumerator" has no model.
    """
    tables = []
    for seed, own in completions.groupby("seed"):
        arms = {arm: own[own["arm"] == arm] for arm in (searcher, *rivals)}
        if not any(samples.empty for samples in arms.values()):
            names = [str(name) for name in arms[searcher]["problem"].unique()]
            others = {arm: arms[arm] for arm in rivals}
            table = rivals_table(arms[searcher], others, legal_answers(task, names), int(str(seed)))
            tables.append(table.assign(seed=seed))
    return pd.concat(tables, ignore_index=True)


def rival_successes(completions: pd.DataFrame, budgets: pd.Series, method: Method, seed: int) -> pd.DataFrame:
    """Return by problem what a method makes of an arm's completions: columns problem, success, num_tokens, is_short.

    `budgets` has the tokens of the problems to return. `num_tokens` is what was spent: one who checks stops at
    success. `is_short` tells where completions ran out before tokens, so that more samples might do better.
    """
    places = {str(problem): rows for problem, rows in completions.groupby("problem").indices.items()}
    counts = budgets.index.map(lambda problem: len(places[str(problem)]))
    parts = []
    for count, those in budgets.groupby(counts.to_numpy(), sort=False):
        own = completions.iloc[np.concatenate([places[str(problem)] for problem in those.index])]
        rng = np.random.default_rng(derive_seed(seed, "rival", method, str(count)))
        parts.append(_drawn(own, those.to_numpy(float), method, rng).assign(problem=those.index))
    return pd.concat(parts).set_index("problem").loc[budgets.index].reset_index()[COLUMNS]


def _drawn(
    completions: pd.DataFrame, budgets: NDArray[np.float64], method: Method, rng: np.random.Generator
) -> pd.DataFrame:
    """Return what a method makes of P problems with n completions each, problem by problem, at their budgets (P,)."""
    shape = len(budgets), -1
    tokens, right, yes = (
        completions[name].to_numpy().reshape(shape)
        for name in ("num_completion_tokens", "correct", "num_yes_verdicts")
    )
    orders = rng.random((len(budgets), NUM_ORDERS, tokens.shape[1]), dtype=np.float32).argsort(axis=2)

    def ordered(values: NDArray[Any]) -> NDArray[Any]:
        """Return values (P, n) in each order, (P, orders, n)."""
        return np.take_along_axis(values[:, None], orders, axis=2)

    cost, hits, limit = ordered(tokens.astype(float)), ordered(right.astype(bool)), budgets[:, None, None]
    before = cost.cumsum(axis=2) - cost
    made = before + cost * rng.random((*cost.shape[:2], 1)) <= limit  # the last one perhaps in part
    stops = np.zeros_like(made)
    if method == "majority":
        answers = completions["value"].replace("", None).to_numpy().reshape(shape)
        codes = np.stack([pd.factorize(each)[0] for each in answers])  # -1: hands in nothing
        success = _vote(ordered(codes), hits, made, rng)
    else:
        stops = hits if method == "outside checker" else ordered(yes > 0)
        last = made.sum(axis=2) - 1
        chosen = np.where((stops & made).any(axis=2), stops.argmax(axis=2), last)
        success = np.take_along_axis(hits, chosen[:, :, None], axis=2)[:, :, 0] * (last >= 0)
    # Nothing is drawn behind the first that stops.
    paid = np.clip(limit - before, 0, cost) * (stops.cumsum(axis=2) - stops == 0)
    spent, is_short = paid.sum(axis=2).mean(axis=1), tokens.sum(axis=1) < budgets
    return pd.DataFrame({"success": success.mean(axis=1), "num_tokens": spent, "is_short": is_short})


def _vote(
    codes: NDArray[np.int64], right: NDArray[np.bool_], made: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return whether the answer with most votes is right, a tie broken by chance, of (P, orders, n) to (P, orders)."""
    named = [(codes == name) & made for name in range(max(int(codes.max()), 0) + 1)]
    votes = np.stack([own.sum(axis=2) for own in named], axis=2).astype(float)  # (P, orders, names)
    good = np.stack([(own & right).sum(axis=2) for own in named], axis=2)
    winner = (votes + 0.5 * rng.random(votes.shape)).argmax(axis=2)[:, :, None]
    won, right_ones = (np.take_along_axis(each, winner, axis=2)[:, :, 0] for each in (votes, good))
    return right_ones / np.maximum(won, 1)


def legal_answers(task: Task, identifiers: Sequence[str]) -> pd.DataFrame:
    """Return what an enumerator needs to know: columns problem, num_answers, num_right, num_tokens of one answer.

    The tokens are the words of a written direct trace, and the end.
    """
    rows = []
    for name in identifiers:
        problem = task.read_problem(name)
        direct = task.write_trace(problem, "direct", random.Random(derive_seed(0, "direct answer", name)))
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
    return pd.DataFrame(rows, columns=COLUMNS)


def rivals_table(
    searcher: pd.DataFrame, rivals: Mapping[str, pd.DataFrame], answers: pd.DataFrame, seed: int = 0
) -> pd.DataFrame:
    """Return what each rival makes of the searcher's tokens: a row an arm and method, with the gap to the searcher.

    `searcher` and each of `rivals`, by arm, are tables `completions` on the same problems, of one seed; `answers` is
    of `legal_answers`. Columns: arm, method, value, lower, upper, gap (searcher
    minus rival), gap_lower, gap_upper, num_tokens (spent), frac_short (share of problems with too few samples).
    ValueError where an arm answers other problems.
    """
    budgets = searcher.groupby("problem")["num_completion_tokens"].mean()
    own = searcher.groupby("problem")["correct"].mean().reindex(budgets.index)
    found: dict[tuple[str, str], pd.DataFrame] = {}
    for arm, completions in rivals.items():
        if set(completions["problem"]) != set(budgets.index):
            raise ValueError(f"{arm}: answers other problems than the searcher; tokens compare on the same")
        for method in METHODS:
            found[arm, method] = rival_successes(completions, budgets, method, derive_seed(seed, arm))
    found[ENUMERATOR, CHECKED] = enumerator_successes(answers, budgets)
    alone = pd.DataFrame({"problem": budgets.index, "success": own, "num_tokens": budgets, "is_short": False})
    rows = []
    # A problem's share is a mean over as many completions as the searcher's.
    weights = np.full(len(budgets), len(searcher) / len(budgets))
    for (arm, how), table in {("searcher", "one completion"): alone, **found}.items():
        success = table.set_index("problem")["success"].loc[budgets.index]
        gap = dict(zip(("gap", "gap_lower", "gap_upper"), t_interval(own - success), strict=True))
        value, spent = clustered_share(success * weights, weights), float(table["num_tokens"].mean())
        ends = {"num_tokens": spent, "frac_short": float(table["is_short"].mean())}
        rows.append({"arm": arm, "method": how, **value._asdict(), **gap, **ends})
    return pd.DataFrame(rows)


def solved(table: pd.DataFrame, arm: str, method: str) -> Estimate:
    """Estimate the share of problems that a rival solves by some method at the searcher's tokens, over seeds."""
    return over_seed_values(_rows(table, arm, method)["value"])


def lead(table: pd.DataFrame, arm: str, method: str) -> Estimate:
    """Estimate what the searcher solves minus what a rival does by some method, paired by problem, over seeds."""
    return over_seed_values(_rows(table, arm, method)["gap"])


def _rows(table: pd.DataFrame, arm: str, method: str) -> pd.DataFrame:
    return table[(table["arm"] == arm) & (table["method"] == method)]


def same_tokens_rows(
    table: pd.DataFrame, rivals: Mapping[str, Estimate | None], methods: Sequence[str] = tuple(PICKS)
) -> list[plots.Row]:
    """Return what a search's tokens buy, best first: the searcher, each rival by each method, and no model at all.

    `rivals` are arms of `table`, each with what it solves by one answer at its own few tokens, or None to leave it out.
    """
    rows = [plots.Row("searcher", "searcher", over_seed_values(table[table["arm"] == "searcher"]["value"]))]
    for rival, one_answer in rivals.items():
        model = plots.describe(rival).words
        rows += [plots.Row(f"{model}, {PICKS[how]}", rival, solved(table, rival, how)) for how in methods]
        rows += [plots.Row(f"{model}, one answer", rival, one_answer)] if one_answer else []
    rows.append(plots.Row(f"a list, {PICKS[CHECKED]}", ENUMERATOR, solved(table, ENUMERATOR, CHECKED)))
    return sorted(rows, key=lambda row: -row.end.value)


def same_tokens_figure(panels: Mapping[str, Sequence[plots.Row]], title: str) -> Figure:
    """Draw the rows of `same_tokens_rows` by band of problems, each with its number."""
    fig = plots.dot_panels(panels, title, "unseen problems solved")
    for ax, rows in zip(fig.axes, panels.values(), strict=True):
        for place, row in enumerate(rows):
            plots.write_small(ax, percent(row.end.value), (row.end.value, -place), (0, 6), ha="center")
    return fig


def said(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Say what everybody makes of the searcher's tokens, of tables of `equal_cost` by band: ready-made strings."""
    rows = []
    for band, table in tables.items():
        for (arm, how), own in table.groupby(["arm", "method"], sort=False):
            gap = over_seed_values(own["gap"])
            behind = points_interval(gap) if arm != "searcher" else ""
            spent, short = own["num_tokens"].mean(), own["frac_short"].mean()
            who = plots.describe(str(arm)).words
            rows.append(
                (band, who, how, percent(own["value"].mean()), behind, f"{spent:.0f}", percent(short))
            )
    columns = ["problems", "who", "by", "solved", "behind", "tokens spent", "too few samples"]
    return pd.DataFrame(rows, columns=columns)


def training_curves(steps: pd.DataFrame, window: int = 5) -> pd.DataFrame:
    """Return table `steps` in the order of steps, with running means over the last `window` steps of a run.

    Added columns: solved, of training problems; informative, the share of groups that are not all right or all wrong.
    """
    curves = []
    for _, own in steps.groupby(["arm", "seed"], sort=False):
        own = own.sort_values("step")
        means = own[[*RUNNING.values()]].rolling(window, min_periods=1).mean()
        curves.append(own.assign(**{name: means[column] for name, column in RUNNING.items()}))
    return pd.concat(curves, ignore_index=True)


def on_tokens(curves: pd.DataFrame, num_points: int = 60) -> pd.DataFrame:
    """Return the running means of `training_curves` at the same numbers of tokens for all seeds of an arm.

    Columns: arm, seed, num_tokens, and the means; between two steps on a straight line, and no further than all seeds
    went.
    """
    found = []
    for arm, own in curves.groupby("arm", sort=False):
        ends = own.groupby("seed")["num_tokens"].agg(["min", "max"])
        grid = np.linspace(ends["min"].max(), ends["max"].min(), num_points).round()
        for seed, run in own.groupby("seed"):
            means = {name: np.interp(grid, run["num_tokens"], run[name]) for name in RUNNING}
            found.append(pd.DataFrame({"arm": arm, "seed": seed, "num_tokens": grid, **means}))
    return pd.concat(found, ignore_index=True)


def end_slope(run: pd.DataFrame, x: str, part: float = 0.25) -> float:
    """Return how much a run gains for one more of `x`, by least squares through the last `part` of its single steps."""
    late = run[run[x] > (1 - part) * run[x].max()]
    return float(np.polyfit(late[x].astype(float), late["correct_reward"], 1)[0])
