"""What a completion is paid: rewards in TRL's contract, and what ours change in them.

All read the traces, by how the step's table has read the completions. Parts are weighed, summed, and logged apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import wraps
from math import comb
from typing import Any

import numpy as np

from extrabitter.params import GrpoParameters
from extrabitter.seeding import derive_seed
from extrabitter.tasks import Prompt, Trace

RewardFunction = Callable[..., list[float]]


def rewards_of(parameters: GrpoParameters) -> list[tuple[RewardFunction, float]]:
    """Return a run's rewards with their weights: what is right, then the format and the bonus where they are used."""
    right = together(correct_reward, parameters) if parameters.pass_at > 1 else correct_reward
    found: list[tuple[RewardFunction, float]] = [(right, 1.0)]
    if parameters.format_weight:
        found.append((format_reward, parameters.format_weight))
    if parameters.bonus != "none":
        bonuses = {"verdicts": verdicts_reward, "novelty": novelty_reward()}
        found.append((bonuses[parameters.bonus], parameters.bonus_weight))
    if parameters.permute_rewards:
        found = [(permuted(reward, parameters), weight) for reward, weight in found]
    return found


def correct_reward(completions: Sequence[Prompt], *, traces: Sequence[Trace], **columns: Any) -> list[float]:
    """Return 1.0 for each completion that hands in a solution, else 0.0."""
    return [float(trace.verdict.correct) for trace in traces]


def format_reward(completions: Sequence[Prompt], *, traces: Sequence[Trace], **columns: Any) -> list[float]:
    """Return 1.0 for each completion that keeps the form that is asked for and hands something in, else 0.0."""
    return [float(trace.well_formed and trace.answered) for trace in traces]


def verdicts_reward(completions: Sequence[Prompt], *, traces: Sequence[Trace], **columns: Any) -> list[float]:
    """Return 1.0 for each completion that gives verdicts, all of them true; paid one by one they would be farmed."""
    judged = [[attempt.verdict_true for attempt in trace.attempts if attempt.said] for trace in traces]
    return [float(bool(each) and all(each)) for each in judged]


def novelty_reward() -> RewardFunction:
    """Return a reward that is less the more often a run has seen a completion's words, whatever their order and number.

    One over the root of the count, as count-based exploration has it. Source: Bellemare et al., arXiv 1606.01868.
    """
    seen: Counter[frozenset[str]] = Counter()

    def novelty(completions: Sequence[str], **columns: Any) -> list[float]:
        kinds = [frozenset(text.split()) for text in completions]
        seen.update(kinds)
        return [seen[kind] ** -0.5 for kind in kinds]

    return novelty


def together(reward: RewardFunction, parameters: GrpoParameters) -> RewardFunction:
    """Return a reward of 0 or 1 that is paid for what `pass_at` of a group reach together, exact over all choices.

    What is right earns 1, what is wrong the chance that one of k - 1 others of its group is right: the group's mean is
    then its pass@k. Source: Chen et al., Pass@k training, arXiv 2508.10751, the analytical advantage.
    """
    size, k = parameters.num_generations, parameters.pass_at

    def group_reward(*args: Any, **columns: Any) -> list[float]:
        right = np.reshape(reward(*args, **columns), (-1, size))  # (B, G)
        wrong = size - right.sum(axis=1).astype(int)
        chances = [1 - comb(max(count - 1, 0), k - 1) / comb(size - 1, k - 1) for count in wrong]
        return np.where(right > 0, 1.0, np.array(chances)[:, None]).ravel().tolist()

    return group_reward


def permuted(reward: RewardFunction, parameters: GrpoParameters) -> RewardFunction:
    """Return `reward` with its values permuted inside each group, alike for all components: a control.

    What a group is paid stays, which completion is paid for becomes chance.
    """
    size = parameters.num_generations

    @wraps(reward)
    def permuted_reward(*args: Any, trainer_state: Any, **columns: Any) -> list[float]:
        values = np.reshape(reward(*args, **columns), (-1, size))  # (B, G)
        seed = derive_seed(parameters.seed, "permute_rewards", trainer_state.global_step)
        order = np.random.default_rng(seed).permuted(np.tile(np.arange(size), (len(values), 1)), axis=1)
        return np.take_along_axis(values, order, axis=1).ravel().tolist()

    return permuted_reward
