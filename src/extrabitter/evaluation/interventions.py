"""Interventions on a behaviour: force its first word or something else at one place, finish on-policy, compare.

Whether a completion *chose* to verify says nothing about what verifying does: it was chosen because of what
stood before. Here both arms go on from the same text, and differ in one word. The place is
where the word may first stand: in front of the first attempt for "aim" and "need", behind it for "check"; for "back"
behind a first attempt that missed, with its true verdict if the model rather checks than restarts there. In the
other arm the model draws another word, from its own distribution without the forced one. Behind a miss that is
mostly "answer", which submits the miss: the advantage of "back" is then the success of searching on from a miss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from extrabitter.evaluation.evaluate import (
    first_attempt_prefixes,
    next_word_probabilities,
    sample_completions,
)
from extrabitter.statistics import bootstrap_interval
from extrabitter.models.tiny import word_ids
from extrabitter.models.rollouts import SamplingParameters
from extrabitter.seeding import derive_seed
from extrabitter.tasks import countdown
from extrabitter.tasks.countdown import SEARCH_WORDS, Problem
from extrabitter.tasks.countdown.verifier import replay_attempts

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SEARCH = "search"  # either of SEARCH_WORDS behind the first attempt: the mode as a whole
FIRST_WORDS: dict[str, tuple[str, ...]] = {
    SEARCH: SEARCH_WORDS,
    "verification": ("check",),
    "backtracking": ("back",),
    "subgoal_setting": ("aim",),
    "backward_chaining": ("need",),
}


class Intervention(NamedTuple):
    """One behaviour's arms: `probability` of its words at each place (B,), completions of both arms, row by row."""

    behaviour: str
    probability: pd.Series
    forced: pd.DataFrame
    other: pd.DataFrame


def first_attempts(completions: pd.DataFrame, per_problem: int) -> pd.DataFrame:
    """Return up to `per_problem` whole first attempts of each problem: columns problem, prefix, hit.

    Attempts that break the rules, or that the text ends in, are left out: no place stands behind them.
    """
    rows = []
    prefixes = first_attempt_prefixes(completions)
    for identifier, prefix in zip(completions["problem"], prefixes, strict=True):
        problem = Problem.from_identifier(identifier)
        trace = countdown.parse_trace(f"{prefix} answer", problem)
        replay = replay_attempts(trace, problem)[0] if trace.well_formed else None
        if replay is not None and replay.legal:
            rows.append({"problem": identifier, "prefix": prefix, "hit": replay.hits})
    table = pd.DataFrame(rows, columns=["problem", "prefix", "hit"])
    return table.groupby("problem", sort=False).head(per_problem).reset_index(drop=True)


def intervene(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    behaviour: str,
    attempts: pd.DataFrame,
    sampling: SamplingParameters,
    seed: int,
    least_probability: float = 0.0,
) -> Intervention:
    """Force a behaviour (or SEARCH) and its alternative from the same texts; both arms have a row for each.

    `attempts` are `first_attempts`. Texts at which the model knows no other word are left out, and all of them
    where the words' mean probability is below `least_probability`.
    """
    ids = word_ids(tokenizer, FIRST_WORDS[behaviour])
    problems = [Problem.from_identifier(identifier) for identifier in attempts["problem"]]
    prefixes = attempts["prefix"].tolist()
    if behaviour in ("subgoal_setting", "backward_chaining"):
        prefixes = [""] * len(prefixes)
    elif behaviour == "backtracking":
        missed = (~attempts["hit"].astype(bool)).to_numpy()
        problems = [problem for problem, keep in zip(problems, missed, strict=True) if keep]
        prefixes = [prefix for prefix, keep in zip(prefixes, missed, strict=True) if keep]
        prefixes = _with_verdicts(model, tokenizer, problems, prefixes)
    texts = [after_prompt(problem, prefix) for problem, prefix in zip(problems, prefixes, strict=True)]
    distribution = next_word_probabilities(model, tokenizer, texts)  # (N, V)
    probability = distribution[:, ids].sum(axis=1)
    rng = np.random.default_rng(derive_seed(seed, "words", behaviour))
    special = [tokenizer.convert_tokens_to_ids(word) for word in tokenizer.all_special_tokens]
    forced_words = _draw(distribution, rng, keep=ids)
    other_words = _draw(distribution, rng, drop=[*ids, *special])
    rows = np.flatnonzero((forced_words >= 0) & (other_words >= 0))
    if len(rows) and probability.mean() < least_probability:
        rows = rows[:0]
    arms = []
    for arm, drawn in (("forced", forced_words), ("other", other_words)):
        begun = [
            f"{prefixes[row]} {tokenizer.convert_ids_to_tokens(int(drawn[row]))}".strip() for row in rows
        ]
        chosen = [problems[row] for row in rows]
        arm_seed = derive_seed(seed, arm, behaviour)
        arms.append(sample_completions(model, tokenizer, chosen, 1, sampling, arm_seed, prefixes=begun))
    index = [problem.identifier for problem in problems]
    return Intervention(behaviour, pd.Series(probability, index=index, dtype=float), *arms)


def after_prompt(problem: Problem, prefix: str) -> str:
    """Return a problem's prompt with the beginning of a completion behind it."""
    return f"{countdown.render_prompt(problem)} {prefix}".strip()


def _with_verdicts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    prefixes: Sequence[str],
) -> list[str]:
    """Put the true verdict behind attempts that missed, if the model rather checks than restarts there."""
    texts = [after_prompt(problem, prefix) for problem, prefix in zip(problems, prefixes, strict=True)]
    check, back = next_word_probabilities(model, tokenizer, texts)[:, word_ids(tokenizer, SEARCH_WORDS)].T
    return [
        f"{prefix} check {problem.target} no" if checks else prefix
        for problem, prefix, checks in zip(problems, prefixes, check > back, strict=True)
    ]


def _draw(
    distribution: NDArray[np.float64],
    rng: np.random.Generator,
    keep: Sequence[int] = (),
    drop: Sequence[int] = (),
) -> NDArray[np.int64]:
    """Draw a word of each row among those to keep, or without those to drop; -1 where none has probability."""
    weights = distribution.copy()
    weights[:, list(drop)] = 0.0
    if keep:
        others = np.ones(weights.shape[1], dtype=bool)
        others[list(keep)] = False
        weights[:, others] = 0.0
    totals = weights.sum(axis=1)
    points = rng.random(len(weights)) * totals
    drawn = (weights.cumsum(axis=1) <= points[:, None]).sum(axis=1)
    return np.where(totals > 0, np.minimum(drawn, weights.shape[1] - 1), -1)


def summarise_intervention(intervention: Intervention, seed: int) -> dict[str, float | int]:
    """Return p0 and advantage with intervals over problems, success of both arms, and how much there was of it.

    The advantage is the difference in success, averaged within a problem first.
    """
    rng = np.random.default_rng(derive_seed(seed, "bootstrap", intervention.behaviour))
    probability = intervention.probability.groupby(level=0).mean().to_numpy()
    p0 = bootstrap_interval(probability, rng)
    row: dict[str, float | int] = {
        "p0_forced": p0.value,
        "p0_forced_lower": p0.lower,
        "p0_forced_upper": p0.upper,
        "success_with": np.nan,
        "success_without": np.nan,
        "advantage": np.nan,
        "advantage_lower": np.nan,
        "advantage_upper": np.nan,
        "num_problems": 0,
        "num_pairs": len(intervention.forced),
    }
    if len(intervention.forced):
        pairs = pd.DataFrame(
            {
                "problem": intervention.forced["problem"],
                "with": intervention.forced["correct"].astype(float),
                "without": intervention.other["correct"].astype(float),
            }
        )
        means = pairs.groupby("problem").mean()
        advantage = bootstrap_interval((means["with"] - means["without"]).to_numpy(), rng)
        row |= {
            "success_with": float(means["with"].mean()),
            "success_without": float(means["without"].mean()),
            "advantage": advantage.value,
            "advantage_lower": advantage.lower,
            "advantage_upper": advantage.upper,
            "num_problems": len(means),
        }
    return row
