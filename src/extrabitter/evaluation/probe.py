"""Will it choke? What GRPO would find in a checkpoint, measured in minutes, before anything is trained.

Measured are whether completions can be read, pass@k, how often a group of them carries signal, how often each
behaviour does its work, and whether verdicts are true. In the grammar also how likely each behaviour's first word is
where it may stand, and what it changes (`interventions`). In English no one word begins a behaviour: none is forced,
and what it changes is missing rather than guessed. What follows from it is for `report` to say.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from extrabitter.behaviours.measures import MEASURES, Measure, constant, works
from extrabitter.evaluation import evaluate, interventions
from extrabitter.evaluation.competence import ZERO_PROBABILITY
from extrabitter.evaluation.evaluate import Subject, mean_interval, share_of
from extrabitter.evaluation.interventions import PLACES, Intervention
from extrabitter.models.rollouts import SamplingParameters
from extrabitter.models.tiny import CheckpointError
from extrabitter.params import GrpoParameters, WillItChokeParameters
from extrabitter.seeding import derive_seed
from extrabitter.statistics import Interval, pass_at_k
from extrabitter.tables import count
from extrabitter.tasks import BEHAVIOURS, SEARCH, Task, band_of, load_task
from extrabitter.tasks.free_text import choose_wording, spoken

if TYPE_CHECKING:
    from extrabitter.models.hub import Pretrained

GROUP_SIZES = (8, 16, 32, 64)  # the first is GRPO's by default
# GRPO as it is set by default: what a step draws, and how long a run is.
COMPLETIONS_PER_STEP: int = GrpoParameters.model_fields["per_device_train_batch_size"].default
NUM_STEPS: int = GrpoParameters.model_fields["num_steps"].default
Made = Mapping[str, Intervention]  # by behaviour


def _is_sound(completions: pd.DataFrame) -> pd.Series:
    """Tell completions that state steps, at least half of which are true: "1\\n1\\n1" shows no behaviour."""
    return (completions["num_steps"] > 0) & (2 * completions["num_right_steps"] >= completions["num_steps"])


def _works(*behaviours: str) -> Measure:
    return Measure(lambda completions: works(*behaviours)(completions) * _is_sound(completions), constant)


SOUND = {
    "frac_sound": Measure(lambda completions: _is_sound(completions).astype(float), constant),
    f"frac_works_{SEARCH}": _works("verification", "backtracking"),
    **{f"frac_works_{behaviour}": _works(behaviour) for behaviour in BEHAVIOURS},
}


@dataclass(frozen=True)
class Probe:
    """What was found, as the tables of stage `will_it_choke`, and what a step of GRPO at its defaults holds.

    `groups` are informative groups a step, `searches` completions a step that search, `gain` the success of searching
    on minus that of not doing so (NaN where it was not measured). `demonstration_tokens` is the mean length of a
    written answer that searches, in the model's own tokens.
    """

    parameters: WillItChokeParameters
    model: dict[str, Any]
    tables: dict[str, pd.DataFrame]
    groups: Interval
    searches: Interval
    gain: Interval
    demonstration_tokens: float

    def measured(self, name: str) -> Interval:
        """Return a measure of the summary; NaN where nothing was to be divided by."""
        return interval_of(self.tables["summary"], name)


def run_probe(parameters: WillItChokeParameters, pretrained: Pretrained) -> Probe:
    """Probe a model on validation problems, as the stage and `extrabitter probe` do; the seed fixes all of it.

    CheckpointError where a model that is asked in the grammar lacks words of it.
    """
    model, tokenizer, record = pretrained
    task, seed, cap = load_task(parameters.task), parameters.seed, parameters.max_completion_length
    subject = Subject(model, tokenizer, task, choose_wording(task, parameters))
    in_grammar, known = parameters.prompt == "grammar", tokenizer.get_vocab()
    if in_grammar and (missing := [word for word in task.vocabulary if word not in known]):
        raise CheckpointError(
            f"checkpoint {parameters.checkpoint}: lacks words of {task.name}'s grammar ({', '.join(missing[:5])}); "
            "a model of another kind is asked in English: give --prompt plain or chat"
        )
    band, sampling = band_of(task, parameters.band), SamplingParameters(cap)
    own = derive_seed(seed, "probe", band)
    problems = task.problems("validation", parameters.num_problems, own, band, distinct=True)
    own, num_samples = derive_seed(seed, "probe sampling"), parameters.num_samples
    completions = evaluate.sample_completions(subject, problems, num_samples, sampling, own, band=band)
    counts, summary = count(completions), evaluate.summary_table(completions, seed, MEASURES | SOUND)
    searches = interval_of(summary, f"frac_works_{SEARCH}")
    made = dict.fromkeys(task.openings, interventions.NOT_MADE)
    if in_grammar:
        attempts = interventions.first_attempts(completions, task, parameters.num_attempts)
        for name in made:
            asked = attempts, sampling, derive_seed(seed, "forced"), ZERO_PROBABILITY
            made[name] = interventions.intervene(subject, name, *asked)
        each = evaluate.search_probability(subject, problems, derive_seed(seed, "p0"), cap)
        searches = mean_interval(each, derive_seed(seed, "p0 bootstrap"))
    behaviours = behaviour_table(summary, task, made, seed)
    groups = informative_groups(counts)
    size = int(groups["num_generations"].min())
    tables = {"completions": completions, "summary": summary}
    tables["pass_at_k"] = evaluate.pass_at_k_table(counts, num_samples)
    tables |= {"informative_groups": groups, "probe_behaviours": behaviours}
    # From a group or a completion to a whole step.
    informative = Interval(*(COMPLETIONS_PER_STEP // size * end for end in interval_of(groups, size)))
    searches = Interval(*(COMPLETIONS_PER_STEP * end for end in searches))
    gain, tokens = interval_of(behaviours, SEARCH, "advantage"), demonstration_tokens(subject, band)
    return Probe(parameters, record, tables, informative, searches, gain, tokens)


def demonstration_tokens(subject: Subject, band: str, count: int = 50) -> float:
    """Return the mean tokens of answers that search, as priming would show them; the same ones for any model."""
    lengths = []
    for number, problem in enumerate(subject.task.problems("train", count, 0, band)):
        script = subject.task.write_trace(problem, "search", random.Random(number))
        text = spoken(subject.wording.demonstration(script, problem))
        lengths.append(len(subject.tokenizer(text, add_special_tokens=False)["input_ids"]) + 1)
    return float(np.mean(lengths))


def interval_of(table: pd.DataFrame, row: object, name: str = "") -> Interval:
    """Return an interval of the row whose first column says `row`: of column `name`, or the table's only one."""
    found = table[table.iloc[:, 0] == row].iloc[0]
    ends = (name, f"{name}_lower", f"{name}_upper") if name else Interval._fields
    return Interval(*(float(found[end]) for end in ends))


def informative_groups(counts: pd.DataFrame) -> pd.DataFrame:
    """Return table `informative_groups`: the share of groups of G completions that are neither all right nor all wrong.

    Unbiased for each problem's own chance of success, from its n samples: 1 - (C(c, G) + C(n - c, G)) / C(n, G).
    `first_step` is the step at which the first such group is to be expected, of as many groups a step as its
    completions make (infinite where none was seen); `first_step_lower` the same at the upper end of the share.
    """
    fewest, rows = int(counts["num_samples"].min()), []
    for size in [size for size in GROUP_SIZES if size <= fewest] or [fewest]:
        samples = zip(counts["num_samples"], counts["num_correct"], strict=True)
        share = share_of([pass_at_k(n, c, size) + pass_at_k(n, n - c, size) - 1 for n, c in samples], counts)
        steps = [first_step(chance, COMPLETIONS_PER_STEP // size) for chance in (share.value, share.upper)]
        rows.append((size, *share, *steps))
    names = ("num_generations", *Interval._fields, "first_step", "first_step_lower")
    return pd.DataFrame(rows, columns=names)


def first_step(share: float, draws: int) -> float:
    """Return the step at which something is first to be expected, of which each of a step's draws holds a share.

    >>> first_step(0.5, 1), first_step(1.0, 8), first_step(0.0, 8)
    (2.0, 1.0, inf)
    """
    chance = 1 - (1 - share) ** draws
    return 1 / chance if chance > 0 else np.inf


def behaviour_table(summary: pd.DataFrame, task: Task, made: Made, seed: int) -> pd.DataFrame:
    """Return table `probe_behaviours`: how often each does its work, and what came of forcing it."""
    rows = []
    for name, opening in task.openings.items():
        share = interval_of(summary, f"frac_works_{name}")
        row: dict[str, Any] = {"behaviour": name, "place": PLACES[opening.place], "frac_functional": np.nan}
        row |= zip(("p0_sampled", "p0_sampled_lower", "p0_sampled_upper"), share, strict=True)
        if name != SEARCH:
            row["frac_functional"] = interval_of(summary, f"frac_functional_{name}").value
        rows.append(row | interventions.summarise_intervention(made[name], seed))
    return pd.DataFrame(rows)
