"""The competence bars that a base model has to clear before anything is concluded from it.

A base that cannot add, or whose verdicts are wrong, chokes on RL for reasons that have nothing to do with
search. The bars are measured on validation problems, per band (3 or 4 numbers), with an interval over problems.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from extrabitter.params import BaseModelParameters
from extrabitter.evaluation.evaluate import (
    first_attempt_prefixes,
    sample_completions,
    search_probability,
    summary_table,
)
from extrabitter.statistics import bootstrap_interval
from extrabitter.models.tiny import mask_tokens, word_ids
from extrabitter.models.rollouts import SamplingParameters
from extrabitter.seeding import derive_seed
from extrabitter.tasks import countdown
from extrabitter.tasks.countdown import SEARCH_WORDS, Problem

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NUM_SAMPLES = 4
SHARE_FACTOR = 1.25  # a measured share may differ from the nominal one by this factor
ZERO_PROBABILITY = 1e-5  # a base that never saw uncued search has to stay below


class CompetenceError(RuntimeError):
    """A base model is below a bar; the message names each bar, the value and the threshold."""


@dataclass(frozen=True)
class Bar:
    """A threshold on one measure: `value` must be `direction` `threshold`."""

    name: str
    measure: str
    direction: Literal[">=", "<="]
    threshold: float


UNCUED_BARS = (
    Bar("arithmetic steps right", "frac_right_steps", ">=", 0.98),
    Bar("well-formed", "frac_well_formed", ">=", 0.98),
    Bar("truncated", "frac_truncated", "<=", 0.02),
)
# Reported apart, because a model that always says "no" is right on most verdicts and useless.
CUED_BARS = (
    Bar("cued: arithmetic steps right", "frac_right_steps", ">=", 0.98),
    Bar("cued: well-formed", "frac_well_formed", ">=", 0.98),
    Bar("cued: truncated", "frac_truncated", "<=", 0.02),
    Bar("cued: verdicts true on hits", "hit_verdict_accuracy", ">=", 0.95),
    Bar("cued: verdicts true on misses", "miss_verdict_accuracy", ">=", 0.95),
    Bar("cued: 'yes' verdicts true", "yes_verdict_accuracy", ">=", 0.95),
)


def forced_search(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: list[Problem],
    sampling: SamplingParameters,
    seed: int,
) -> pd.DataFrame:
    """Return per problem the success of submitting the first attempt, and of searching on from that attempt.

    Columns: problem, direct, search (0/1). Both share the attempt, so their difference is what search adds.
    """
    mask_tokens(model, word_ids(tokenizer, SEARCH_WORDS))
    try:
        direct = sample_completions(model, tokenizer, problems, 1, sampling, derive_seed(seed, "direct"))
    finally:
        mask_tokens(model, ())
    prefixes = [f"{prefix} check" for prefix in first_attempt_prefixes(direct)]
    search = sample_completions(
        model, tokenizer, problems, 1, sampling, derive_seed(seed, "search"), prefixes=prefixes
    )
    return pd.DataFrame(
        {
            "problem": direct["problem"],
            "direct": direct["correct"].astype(float),
            "search": search["correct"].astype(float),
        }
    )


def measure_bars(
    parameters: BaseModelParameters, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> pd.DataFrame:
    """Return table `bars`: each bar with its value, 95 % interval, threshold and whether it was cleared."""
    bands = [3, 4] if parameters.four_number_share > 0 else [3]
    return pd.concat([_band_bars(parameters, model, tokenizer, band) for band in bands], ignore_index=True)


def _band_bars(
    parameters: BaseModelParameters, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, band: int
) -> pd.DataFrame:
    seed = derive_seed(parameters.seed, "bars", band)
    problems = countdown.generate_problems(
        "validation", parameters.num_bar_problems, seed, num_numbers=band, distinct=True
    )
    sampling = SamplingParameters(temperature=1.0, max_completion_length=parameters.max_completion_length)
    rows = []

    def add(bar: Bar, value: float, lower: float, upper: float) -> None:
        passed = value >= bar.threshold if bar.direction == ">=" else value <= bar.threshold
        rows.append(
            {
                "bar": f"{band} numbers: {bar.name}",
                "value": value,
                "lower": lower,
                "upper": upper,
                "threshold": bar.threshold,
                "direction": bar.direction,
                "passed": bool(passed),
            }
        )

    def add_measures(bars: tuple[Bar, ...], completions: pd.DataFrame) -> None:
        summary = summary_table(completions).set_index("measure")
        for bar in bars:
            add(bar, *summary.loc[bar.measure, ["value", "lower", "upper"]])

    uncued = sample_completions(
        model, tokenizer, problems, NUM_SAMPLES, sampling, derive_seed(seed, "uncued")
    )
    add_measures(UNCUED_BARS, uncued)
    if parameters.cued_share > 0 and parameters.cosmetic_share == 0:
        cued = sample_completions(
            model, tokenizer, problems, NUM_SAMPLES, sampling, derive_seed(seed, "cued"), cue=True
        )
        add_measures(CUED_BARS, cued)
        pairs = forced_search(model, tokenizer, problems, sampling, derive_seed(seed, "forced"))
        add(
            Bar("success, search forced over direct", "", ">=", 2.0),
            *bootstrap_interval(
                pairs[["search", "direct"]].to_numpy(),
                np.random.default_rng(derive_seed(seed, "bootstrap")),
                _ratio,
            ),
        )
    probability = search_probability(model, tokenizer, problems, derive_seed(seed, "p0"))
    mean, lower, upper = bootstrap_interval(
        probability, np.random.default_rng(derive_seed(seed, "p0 bootstrap"))
    )
    nominal = parameters.search_share + parameters.cosmetic_share
    if nominal >= 0.01:
        add(Bar("uncued search, teacher-forced", "", ">=", nominal / SHARE_FACTOR), mean, lower, upper)
        add(Bar("uncued search, teacher-forced", "", "<=", nominal * SHARE_FACTOR), mean, lower, upper)
    elif nominal == 0 and parameters.cued_share == 0:
        add(Bar("uncued search, teacher-forced", "", "<=", ZERO_PROBABILITY), mean, lower, upper)
    return pd.DataFrame(rows)


def _ratio(successes: np.ndarray) -> float:
    """Return the ratio of the means of two columns, (B, 2); NaN where the second is 0."""
    searching, direct = successes.mean(axis=0)
    return float(searching / direct) if direct else float("nan")


def enforce_bars(bars: pd.DataFrame) -> None:
    """Raise `CompetenceError` that names every bar that was missed; a missing value is a missed bar."""
    missed = bars[~bars["passed"]]
    if len(missed):
        raise CompetenceError(
            "base model below its bars: "
            + "; ".join(
                f"{row.bar} is {row.value:.4g}, must be {row.direction} {row.threshold:g}"
                for row in missed.itertuples()
            )
        )
