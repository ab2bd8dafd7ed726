"""The competence bars that a base model has to clear before anything is concluded from it.

A base that cannot do the steps, or whose verdicts are wrong, chokes on RL for reasons that have nothing to do with
search. What is asked follows from what the base was shown: steps and form of all; of bases that were shown search
also true verdicts, success when they are made to search, and as much search as their documents held. A base that was
shown none, and no cue, must not search; one that only derives is held to steps and form alone. The bars are measured
on validation problems of each band that the base was trained on, with an interval over problems.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from extrabitter.evaluation import evaluate
from extrabitter.evaluation.evaluate import Subject
from extrabitter.evaluation.interventions import first_attempts, intervene
from extrabitter.models.rollouts import SamplingParameters
from extrabitter.params import BaseModelParameters, OneLineError
from extrabitter.seeding import derive_seed
from extrabitter.statistics import Interval, bootstrap_interval
from extrabitter.tasks import SEARCH, Task, load_task
from extrabitter.training.pretraining import band_shares

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NUM_SAMPLES = 4
SHARE_FACTOR = 1.25  # a measured share may differ from the nominal one by this factor
LEAST_SHARE = 0.01  # nominal shares below it are not told from noise by a factor
ZERO_PROBABILITY = 1e-5  # a base that never saw uncued search has to stay below
HABITS_OF_SEARCH_WORDS = ("search", "cosmetic")  # conditions whose documents hold the task's search words
Row = dict[str, Any]


class CompetenceError(OneLineError, RuntimeError):
    """A base model is below a bar; the message names each bar, the value and the threshold."""


@dataclass(frozen=True)
class Bar:
    """A threshold on one measure: `value` must be `direction` `threshold`."""

    name: str
    measure: str
    direction: Literal[">=", "<="]
    threshold: float

    def row(self, value: Interval, band: str, where: str = "") -> Row:
        """Return its row of table `bars`."""
        passed = value.value >= self.threshold if self.direction == ">=" else value.value <= self.threshold
        asked = {"threshold": self.threshold, "direction": self.direction}
        return {"bar": f"{band}: {where}{self.name}", **value._asdict(), **asked, "passed": bool(passed)}


FORM_BARS = (
    Bar("steps right", "frac_right_steps", ">=", 0.98),
    Bar("well-formed", "frac_well_formed", ">=", 0.98),
    Bar("truncated", "frac_truncated", "<=", 0.02),
)
# Reported apart, because a model that always says "no" is right on most verdicts and useless.
VERDICT_BARS = (
    Bar("verdicts true on hits", "hit_verdict_accuracy", ">=", 0.95),
    Bar("verdicts true on misses", "miss_verdict_accuracy", ">=", 0.95),
    Bar("'yes' verdicts true", "yes_verdict_accuracy", ">=", 0.95),
)
GAIN_BAR = Bar("success, search forced over direct", "", ">=", 2.0)


def measure_bars(
    parameters: BaseModelParameters, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> pd.DataFrame:
    """Return table `bars`: each bar with its value, 95 % interval, threshold and whether it was cleared."""
    task = load_task(parameters.task)
    subject, bands = Subject(model, tokenizer, task, task), band_shares(parameters.bands, task)
    return pd.DataFrame([row for band in bands for row in _band_bars(parameters, subject, band)])


def _band_bars(parameters: BaseModelParameters, subject: Subject, band: str) -> list[Row]:
    task, seed = subject.task, derive_seed(parameters.seed, "bars", band)
    problems = task.problems("validation", parameters.num_bar_problems, seed, band, distinct=True)
    cap = parameters.max_completion_length
    sampling = SamplingParameters(cap)
    own = derive_seed(seed, "uncued")
    uncued = evaluate.sample_completions(subject, problems, NUM_SAMPLES, sampling, own)
    shown = parameters.habit if parameters.habit_share > 0 else ""
    # Where neither the habit nor direct answers hold steps there is nothing to be right.
    has_steps = any(_has_steps(task, problems[0], condition) for condition in {"direct", shown or "direct"})
    rows = _measured(FORM_BARS if has_steps else FORM_BARS[1:], uncued, band)
    if parameters.cued_share > 0 or shown == "search":
        # Where a search begins, by first attempts of its own: search, or do what else the model would, mostly answer.
        attempts = first_attempts(uncued, task, NUM_SAMPLES)
        made = intervene(subject, SEARCH, attempts, sampling, derive_seed(seed, "forced"))
        where, shows = "made to search: ", made.forced
        if parameters.cued_share > 0:
            where, own = "cued: ", derive_seed(seed, "cued")
            shows = evaluate.sample_completions(subject, problems, NUM_SAMPLES, sampling, own, cue=True)
        rows += _measured(FORM_BARS + VERDICT_BARS, shows, band, where)
        rng = np.random.default_rng(derive_seed(seed, "bootstrap"))
        pairs = made.successes()[["with", "without"]].to_numpy()
        rows.append(GAIN_BAR.row(bootstrap_interval(pairs, rng, evaluate.ratio_of_sums), band))
    if shown not in ("", *HABITS_OF_SEARCH_WORDS):
        return rows
    each = evaluate.search_probability(subject, problems, derive_seed(seed, "p0"), cap)
    share = evaluate.mean_interval(each, derive_seed(seed, "p0 bootstrap"))
    name = "uncued search, teacher-forced"
    if shown and parameters.habit_share >= LEAST_SHARE:
        rows.append(Bar(name, "", ">=", parameters.habit_share / SHARE_FACTOR).row(share, band))
        rows.append(Bar(name, "", "<=", parameters.habit_share * SHARE_FACTOR).row(share, band))
    elif not shown and parameters.cued_share == 0:
        rows.append(Bar(name, "", "<=", ZERO_PROBABILITY).row(share, band))
    return rows


def _has_steps(task: Task, problem: Any, condition: str) -> bool:
    text = task.render(task.write_trace(problem, condition, random.Random(0)), problem)
    return any(attempt.num_steps for attempt in task.parse(text, problem).attempts)


def _measured(bars: Sequence[Bar], completions: pd.DataFrame, band: str, where: str = "") -> list[Row]:
    summary = evaluate.summary_table(completions).set_index("measure")[[*Interval._fields]]
    return [bar.row(Interval(*summary.loc[bar.measure]), band, where) for bar in bars]


def enforce_bars(bars: pd.DataFrame) -> None:
    """Raise `CompetenceError` that names every bar that was missed; a missing value is a missed bar."""
    missed = bars[~bars["passed"]].itertuples()
    said = [f"{row.bar} is {row.value:.4g}, must be {row.direction} {row.threshold:g}" for row in missed]
    if said:
        raise CompetenceError(f"base model below its bars: {'; '.join(said)}")
