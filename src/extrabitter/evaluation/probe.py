"""Will it choke? What GRPO would find in a checkpoint, measured in minutes, before anything is trained.

Measured are whether completions can be read, pass@k, how often a group of them carries signal, how often each
behaviour does its work, and whether verdicts are true. In the grammar also how likely each behaviour's first word is
where it may stand, and what it changes (`interventions`). In English no one word begins a behaviour: none is forced,
and what it changes is missing rather than guessed. What follows from it is for `report` to say.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from extrabitter.behaviours.measures import MEASURES, Measure, constant, positive
from extrabitter.evaluation.competence import ZERO_PROBABILITY
from extrabitter.evaluation.evaluate import (
    counts_table,
    mean_interval,
    pass_at_k_table,
    sample_completions,
    search_probability,
    share_of,
    summary_table,
)
from extrabitter.evaluation.interventions import (
    PLACES,
    SEARCH,
    first_attempts,
    intervene,
    openings,
    summarise_intervention,
)
from extrabitter.models.rollouts import SamplingParameters
from extrabitter.models.tiny import CheckpointError
from extrabitter.params import GrpoParameters, WillItChokeParameters
from extrabitter.seeding import derive_seed
from extrabitter.statistics import Interval, pass_at_k
from extrabitter.tasks import BEHAVIOURS, Task, Wording, band_of, load_task
from extrabitter.tasks.wording import choose_wording

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from extrabitter.models.hub import Pretrained

GROUP_SIZES = (8, 16, 32, 64)
# GRPO as it is set by default: what a step draws, and how long a run is.
COMPLETIONS_PER_STEP: int = GrpoParameters.model_fields["per_device_train_batch_size"].default
GROUP_SIZE: int = GrpoParameters.model_fields["num_generations"].default
NUM_STEPS: int = GrpoParameters.model_fields["num_steps"].default
# What is drawn of a model in English, unless told otherwise: those are a hundred times as large as ours.
ENGLISH_SIZES = {"num_problems": 20, "num_samples": 8, "max_completion_length": 512}
SEARCH_BEHAVIOURS = ("verification", "backtracking")
# Columns of `probe_behaviours` that are missing where nothing is forced.
NOT_FORCED = (
    *(f"{name}{end}" for name in ("p0_forced", "advantage") for end in ("", "_lower", "_upper")),
    *("success_with", "success_without"),
)


def _is_sound(completions: pd.DataFrame) -> pd.Series:
    """Tell completions that state steps, at least half of which are true: "1\\n1\\n1" shows no behaviour."""
    return (completions["num_steps"] > 0) & (2 * completions["num_right_steps"] >= completions["num_steps"])


def _works(*behaviours: str) -> Measure:
    shows = positive(*(f"{behaviour}_functional_count" for behaviour in behaviours))
    return Measure(lambda completions: shows(completions) * _is_sound(completions), constant)


WORKS = {SEARCH: _works(*SEARCH_BEHAVIOURS), **{behaviour: _works(behaviour) for behaviour in BEHAVIOURS}}
SOUND = {
    "frac_sound": Measure(lambda completions: _is_sound(completions).astype(float), constant),
    **{f"frac_works_{behaviour}": measure for behaviour, measure in WORKS.items()},
}


@dataclass(frozen=True)
class Probe:
    """What was found, as tables, and what a step of GRPO at its defaults is expected to hold, with intervals.

    `groups` are informative groups a step, `searches` completions a step that search, `gain` the success of searching
    on minus that of not doing so (NaN where it was not measured). `demonstration_tokens` is the mean length of a
    written answer that searches, in the model's own tokens.
    """

    parameters: WillItChokeParameters
    model: dict[str, Any]
    completions: pd.DataFrame
    summary: pd.DataFrame
    pass_at_k: pd.DataFrame
    informative_groups: pd.DataFrame
    probe_behaviours: pd.DataFrame
    groups: Interval
    searches: Interval
    gain: Interval
    demonstration_tokens: float

    TABLES: ClassVar = ("completions", "summary", "pass_at_k", "informative_groups", "probe_behaviours")

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return what a run of stage `will_it_choke` writes, by the tables' names."""
        return {name: getattr(self, name) for name in self.TABLES}

    def measured(self, name: str) -> Interval:
        """Return a measure of the summary; NaN where nothing was to be divided by."""
        return interval_of(self.summary, name)


def run_probe(parameters: WillItChokeParameters, pretrained: Pretrained) -> Probe:
    """Probe a model on validation problems, as the stage and `extrabitter probe` do; the seed fixes all of it.

    CheckpointError where a model that is asked in the grammar lacks words of it.
    """
    model, tokenizer, record = pretrained
    task, seed, cap = load_task(parameters.task), parameters.seed, parameters.max_completion_length
    asked = (model, tokenizer, task, choose_wording(task, parameters))
    in_grammar = parameters.prompt == "grammar"
    if in_grammar:
        _check_words(parameters, tokenizer, task)
    band = band_of(task, parameters.band)
    own = derive_seed(seed, "probe", band)
    problems = task.problems("validation", parameters.num_problems, own, band, distinct=True)
    sampling = SamplingParameters(cap)
    own = derive_seed(seed, "probe sampling")
    completions = sample_completions(*asked, problems, parameters.num_samples, sampling, own, band=band)
    counts = counts_table(completions)
    summary = summary_table(completions, seed, {**MEASURES, **SOUND})
    attempts = first_attempts(completions, task, parameters.num_attempts if in_grammar else 0)
    behaviours = behaviour_table(summary, task)
    searches = interval_of(summary, f"frac_works_{SEARCH}")
    if in_grammar:
        own = derive_seed(seed, "intervention")
        rows = [intervene(*asked, name, attempts, sampling, own, ZERO_PROBABILITY) for name in openings(task)]
        measured = pd.DataFrame([summarise_intervention(row, seed) for row in rows])
        behaviours = behaviours.assign(**{name: measured[name] for name in measured})
        each = search_probability(*asked, problems, derive_seed(seed, "p0"), cap)
        searches = mean_interval(each, derive_seed(seed, "p0 bootstrap"))
    gain = behaviours.set_index("behaviour").loc[SEARCH]
    size = min(GROUP_SIZE, parameters.num_samples)
    return Probe(
        parameters,
        record,
        completions,
        summary,
        pass_at_k_table(counts, parameters.num_samples),
        informative_groups(counts, GROUP_SIZES),
        behaviours,
        times(informative_share(counts, size), COMPLETIONS_PER_STEP // GROUP_SIZE),
        times(searches, COMPLETIONS_PER_STEP),
        Interval(*(float(gain[name]) for name in ("advantage", "advantage_lower", "advantage_upper"))),
        demonstration_tokens(tokenizer, task, asked[3], band),
    )


def _check_words(parameters: WillItChokeParameters, tokenizer: PreTrainedTokenizerBase, task: Task) -> None:
    known = tokenizer.get_vocab()
    missing = [word for word in task.vocabulary if word not in known]
    if missing:
        raise CheckpointError(
            f"checkpoint {parameters.checkpoint}: lacks words of {task.name}'s grammar ({', '.join(missing[:5])}); "
            "a model of another kind is asked in English: give --prompt plain or chat"
        )


def demonstration_tokens(
    tokenizer: PreTrainedTokenizerBase, task: Task, wording: Wording, band: str, count: int = 50
) -> float:
    """Return the mean tokens of answers that search, as priming would show them; the same ones for any model."""
    lengths = []
    for number, problem in enumerate(task.problems("train", count, 0, band)):
        script = task.write_trace(problem, "search", random.Random(number))
        shown = wording.demonstration(script, problem)
        text = shown if isinstance(shown, str) else " ".join(turn["content"] for turn in shown)
        lengths.append(len(tokenizer(text, add_special_tokens=False)["input_ids"]) + 1)
    return float(np.mean(lengths))


def interval_of(summary: pd.DataFrame, name: str) -> Interval:
    """Return a measure of table `summary` with its interval."""
    row = summary.set_index("measure").loc[name]
    return Interval(*(float(row[end]) for end in Interval._fields))


def times(interval: Interval, factor: float) -> Interval:
    """Return an interval in another unit."""
    return Interval(*(factor * end for end in interval))


def informative_share(counts: pd.DataFrame, size: int) -> Interval:
    """Return the share of groups of `size` completions that are neither all right nor all wrong, over problems.

    Unbiased for each problem's own chance of success, from its n samples: 1 - (C(c, G) + C(n - c, G)) / C(n, G).
    """
    each = [
        pass_at_k(n, c, size) + pass_at_k(n, n - c, size) - 1
        for n, c in zip(counts["num_samples"], counts["num_correct"], strict=True)
    ]
    return share_of(each, counts)


def informative_groups(counts: pd.DataFrame, group_sizes: Sequence[int]) -> pd.DataFrame:
    """Return table `informative_groups`, of `counts_table`; sizes above the samples of a problem are left out.

    `first_step` is the step at which the first such group is to be expected, of as many groups a step as its
    completions make; `first_step_lower` the same at the upper end of the share. Where none was seen it is infinite.
    """
    rows = []
    for size in (size for size in group_sizes if size <= counts["num_samples"].min()):
        share, draws = informative_share(counts, size), COMPLETIONS_PER_STEP // size
        steps = {"first_step": first_step(share.value, draws), "first_step_lower": first_step(share.upper, draws)}
        rows.append({"num_generations": size, **share._asdict(), **steps})
    names = ("num_generations", *Interval._fields, "first_step", "first_step_lower")
    return pd.DataFrame(rows, columns=names)


def first_step(share: float, draws: int) -> float:
    """Return the step at which something is first to be expected, of which each of a step's draws holds a share.

    >>> first_step(0.5, 1), first_step(1.0, 8), first_step(0.0, 8)
    (2.0, 1.0, inf)
    """
    chance = 1 - (1 - share) ** draws
    return 1 / chance if chance > 0 else np.inf


def behaviour_table(summary: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Return table `probe_behaviours` as far as completions tell: how often each does its work; the rest is missing."""
    values = summary.set_index("measure")["value"]
    rows = []
    for name, opening in openings(task).items():
        share = interval_of(summary, f"frac_works_{name}")
        functional = np.nan if name == SEARCH else float(values[f"frac_functional_{name}"])
        ends = {"p0_sampled": share.value, "p0_sampled_lower": share.lower, "p0_sampled_upper": share.upper}
        rows.append(
            {"behaviour": name, "place": PLACES[opening.place], **ends, "frac_functional": functional}
            | dict.fromkeys(NOT_FORCED, np.nan)
            | {"num_problems": 0, "num_pairs": 0}
        )
    return pd.DataFrame(rows)
