"""Interventions on a behaviour: force its first word or something else at one place, finish on-policy, compare.

Whether a completion *chose* to verify says nothing about what verifying does: it was chosen because of what
stood before. Here both arms go on from the same text, and differ in one word. The place is where the task's opening
says that the word may first stand: in front of the first attempt, behind it, or behind a first attempt that missed,
with its true verdict if the model rather checks than restarts there. In the other arm the model draws another word,
from its own distribution without the forced ones. Behind a miss that mostly submits the miss: the advantage of going
back is then the success of searching on from a miss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from extrabitter.evaluation import evaluate
from extrabitter.evaluation.evaluate import Array, Subject, mean_interval, next_words
from extrabitter.models.rollouts import SamplingParameters
from extrabitter.models.tiny import word_ids
from extrabitter.seeding import derive_seed
from extrabitter.statistics import wilson_interval
from extrabitter.tasks import Task

PLACES = {
    "start": "in front of the first attempt",
    "after_attempt": "behind the first attempt",
    "after_miss": "behind a first attempt that missed",
}


class Intervention(NamedTuple):
    """One behaviour's arms: `probability` of its words at each place (B,), completions of both arms, row by row."""

    probability: pd.Series
    forced: pd.DataFrame
    other: pd.DataFrame

    def successes(self) -> pd.DataFrame:
        """Return the mean success of both arms by problem, columns with and without."""
        if self.forced.empty:
            return pd.DataFrame(columns=["with", "without"], dtype=float)
        pairs = {"with": self.forced["correct"].astype(float), "without": self.other["correct"].astype(float)}
        return pd.DataFrame(pairs).groupby(self.forced["problem"]).mean()


NOT_MADE = Intervention(pd.Series(dtype=float), pd.DataFrame(), pd.DataFrame())  # where no one word begins it


def first_attempts(completions: pd.DataFrame, task: Task, per_problem: int) -> pd.DataFrame:
    """Return up to `per_problem` whole first attempts of each problem: columns problem, prefix, hit.

    Attempts that break the rules, or that the text ends in, are left out: no place stands behind them.
    """
    rows = []
    for identifier, text in zip(completions["problem"], completions["completion"], strict=True):
        attempts = task.parse(text, task.read_problem(identifier)).attempts
        if attempts and attempts[0].finished and attempts[0].outcome != "illegal":
            prefix = " ".join(text.split()[: attempts[0].end])
            rows.append({"problem": identifier, "prefix": prefix, "hit": attempts[0].outcome == "hit"})
    table = pd.DataFrame(rows, columns=["problem", "prefix", "hit"])
    return table.groupby("problem", sort=False).head(per_problem).reset_index(drop=True)


def intervene(
    subject: Subject,
    behaviour: str,
    attempts: pd.DataFrame,
    sampling: SamplingParameters,
    seed: int,
    least_probability: float = 0.0,
) -> Intervention:
    """Force a behaviour (or tasks.SEARCH) and its alternative from the same texts; both arms have a row for each.

    `attempts` are `first_attempts`. Texts at which the model knows no other word are left out, and all of them
    where the words' mean probability is below `least_probability`.
    """
    tokenizer, task = subject.tokenizer, subject.task
    words, place = task.openings[behaviour]
    ids = word_ids(tokenizer, words)
    if place == "after_miss":
        attempts = attempts[~attempts["hit"].astype(bool)]
    problems = [task.read_problem(identifier) for identifier in attempts["problem"]]
    prefixes = [""] * len(problems) if place == "start" else attempts["prefix"].tolist()
    if place == "after_miss":
        prefixes = with_verdicts(subject, problems, prefixes, words)
    distribution = next_words(subject, problems, prefixes)  # (N, V)
    probability = distribution[:, ids].sum(axis=1)
    rng = np.random.default_rng(derive_seed(seed, "words", behaviour))
    special = [tokenizer.convert_tokens_to_ids(word) for word in tokenizer.all_special_tokens]
    others = np.setdiff1d(np.arange(distribution.shape[1]), [*ids, *special]).tolist()
    drawn = {"forced": draw_words(distribution, rng, ids), "other": draw_words(distribution, rng, others)}
    rows = np.flatnonzero((drawn["forced"] >= 0) & (drawn["other"] >= 0))
    if len(rows) and probability.mean() < least_probability:
        rows = rows[:0]
    arms = []
    for arm, tokens in drawn.items():
        said = tokenizer.convert_ids_to_tokens(tokens[rows].tolist())
        begun = [f"{prefixes[row]} {word}".strip() for row, word in zip(rows, said, strict=True)]
        own, chosen = derive_seed(seed, arm, behaviour), [problems[row] for row in rows]
        arms.append(evaluate.sample_completions(subject, chosen, 1, sampling, own, prefixes=begun))
    index = [problem.identifier for problem in problems]
    return Intervention(pd.Series(probability, index=index, dtype=float), *arms)


def with_verdicts(
    subject: Subject, problems: Sequence[Any], prefixes: Sequence[str], words: Sequence[str]
) -> list[str]:
    """Put the true verdict behind attempts that missed, if the model rather begins one there than says `words`."""
    verdicts = list(map(subject.task.true_verdict, problems, prefixes))
    begins = word_ids(subject.tokenizer, [verdict.split()[0] for verdict in verdicts])
    distribution = next_words(subject, problems, prefixes)
    checks = distribution[np.arange(len(problems)), begins]
    restarts = distribution[:, word_ids(subject.tokenizer, words)].sum(axis=1)
    choices = zip(prefixes, verdicts, checks > restarts, strict=True)
    return [f"{prefix} {verdict}" if checked else prefix for prefix, verdict, checked in choices]


def draw_words(distribution: Array, rng: np.random.Generator, words: Sequence[int]) -> NDArray[np.int64]:
    """Draw one of `words` in each row, in the row's own proportions; -1 where none has probability."""
    weights = np.zeros_like(distribution)
    weights[:, words] = distribution[:, words]
    totals = weights.sum(axis=1)
    points = rng.random(len(weights)) * totals
    drawn = (weights.cumsum(axis=1) <= points[:, None]).sum(axis=1)
    return np.where(totals > 0, np.minimum(drawn, weights.shape[1] - 1), -1)


def summarise_intervention(intervention: Intervention, seed: int) -> dict[str, float | int]:
    """Return p0 and advantage with intervals over problems, success of both arms, and how much there was of it.

    The advantage is the difference in success, averaged within a problem first.
    """
    seed = derive_seed(seed, "bootstrap")
    p0 = mean_interval(intervention.probability.groupby(level=0).mean().to_numpy(), seed)
    means = intervention.successes()
    gains = (means["with"] - means["without"]).to_numpy()
    gain = mean_interval(gains, derive_seed(seed, "advantage"))
    if len(gains) and np.ptp(gains) == 0:
        # Where all problems agree a bootstrap sees no spread: as many may differ as none of so many excludes.
        unseen = wilson_interval(0, len(gains)).upper
        gain = gain._replace(lower=max(gain.lower - unseen, -1.0), upper=min(gain.upper + unseen, 1.0))
    return {
        **dict(zip(("p0_forced", "p0_forced_lower", "p0_forced_upper"), p0, strict=True)),
        **{f"success_{arm}": float(means[arm].mean()) for arm in ("with", "without")},
        **dict(zip(("advantage", "advantage_lower", "advantage_upper"), gain, strict=True)),
        **{"num_problems": len(means), "num_pairs": len(intervention.forced)},
    }
