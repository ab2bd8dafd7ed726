"""Will it choke? What GRPO would find in a checkpoint, measured in minutes, before anything is trained.

For checkpoints of the book's own kind: word-level vocabulary, Countdown grammar. Measured are pass@k, how often a
group of completions carries signal, each behaviour's probability and what it changes (`interventions`), what other
decoders would draw (`decoding`), and whether verdicts are true. From these follow priming advice by a stated rule
(`priming_advice`), a cost estimate (`training_costs`) and, inside the range of finished runs, a forecast of what RL
would reach (`calibration`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pydantic import Field

from extrabitter import calibration
from extrabitter.evaluation.competence import ZERO_PROBABILITY
from extrabitter.params import GrpoParameters, ProbeSizes
from extrabitter.evaluation.decoding import decoding_table
from extrabitter.evaluation.evaluate import pass_at_k_table, sample_completions, summary_table
from extrabitter.evaluation.interventions import (
    FIRST_WORDS,
    SEARCH,
    first_attempts,
    intervene,
    summarise_intervention,
)
from extrabitter.statistics import Interval, bootstrap_interval, pass_at_k
from extrabitter.models.tiny import CheckpointError
from extrabitter.evaluation.advice import Advice, advise
from extrabitter.digests import REPOSITORY
from extrabitter.models.rollouts import SamplingParameters
from extrabitter.seeding import derive_seed
from extrabitter.tasks import countdown
from extrabitter.tasks.countdown import Problem
from extrabitter.training_costs import GPUS, estimate_cost

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

GROUP_SIZES = (8, 16, 32, 64)
PUBLISHED = REPOSITORY / "results" / "reference"  # the runs that forecasts are calibrated on
# Where a behaviour's first word may stand, in the order of FIRST_WORDS.
PLACES = {
    SEARCH: "behind the first attempt",
    "verification": "behind the first attempt",
    "backtracking": "behind a first attempt that missed",
    "subgoal_setting": "in front of the first attempt",
    "backward_chaining": "in front of the first attempt",
}


class ProbeParameters(ProbeSizes):
    """What is probed, and how closely."""

    num_numbers: int = Field(3, ge=3, le=4, description="given numbers in a problem")
    seed: int = Field(0, ge=0, lt=2**31, description="root of every random number here")
    gpu: str = Field("A100", pattern=f"^({'|'.join(GPUS)})$", description="card whose cost is estimated")


@dataclass(frozen=True)
class Probe:
    """What was found, as tables, and the advice that follows."""

    num_parameters: int
    completions: pd.DataFrame
    summary: pd.DataFrame
    pass_at_k: pd.DataFrame
    informative_groups: pd.DataFrame
    probe_behaviours: pd.DataFrame
    decoding: pd.DataFrame
    costs: pd.DataFrame
    advice: Advice

    TABLES = (
        "completions",
        "summary",
        "pass_at_k",
        "informative_groups",
        "probe_behaviours",
        "decoding",
        "costs",
    )

    def as_json(self) -> dict[str, Any]:
        """Return all but the completions as plain values; missing is None."""
        tables = {name: table_records(getattr(self, name)) for name in self.TABLES if name != "completions"}
        return {
            "num_parameters": self.num_parameters,
            "num_problems": int(self.completions["problem"].nunique()),
            "num_samples": int(self.completions.groupby("problem").size().min()),
            **tables,
            "advice": self.advice.model_dump(),
        }

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return what a run of stage `will_it_choke` writes, by the tables' names."""
        return {name: getattr(self, name) for name in self.TABLES}

    def search_row(self) -> dict[str, Any]:
        """Return the row of `probe_behaviours` on search."""
        rows = self.probe_behaviours.set_index("behaviour")
        return {str(name): value for name, value in rows.loc[SEARCH].items()}

    def pass_at_1(self) -> float:
        """Return the success of one completion."""
        return float(self.pass_at_k.set_index("k")["value"][1])


def probe(parameters: ProbeParameters, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Probe:
    """Probe a checkpoint on validation problems; CheckpointError if its vocabulary lacks words of the grammar."""
    missing = [word for word in countdown.VOCABULARY if not _is_known(tokenizer, word)]
    if missing:
        raise CheckpointError(
            f"checkpoint {parameters.checkpoint}: lacks words of the Countdown grammar ({', '.join(missing[:5])}); "
            "it must be one of the book's own kind"
        )
    problems = draw_problems(parameters)
    sampling = SamplingParameters(max_completion_length=parameters.max_completion_length)
    completions = sample_completions(
        model,
        tokenizer,
        problems,
        parameters.num_samples,
        sampling,
        derive_seed(parameters.seed, "probe sampling"),
    )
    summary = summary_table(completions, parameters.seed)
    attempts = first_attempts(completions, parameters.num_attempts)
    behaviours, verdict_accuracy = probe_behaviours(
        model, tokenizer, summary, attempts, sampling, parameters.seed
    )
    rows = behaviours.set_index("behaviour")
    measured = summary.set_index("measure")["value"]
    advice = advise(
        measured["frac_right_steps"],
        measured["frac_well_formed"],
        float(rows["p0_forced"][SEARCH]),
        Interval(
            *(float(rows[name][SEARCH]) for name in ("advantage", "advantage_lower", "advantage_upper"))
        ),
        verdict_accuracy,
    )
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    return Probe(
        num_parameters,
        completions,
        summary,
        pass_at_k_table(completions, parameters.num_samples, parameters.seed),
        informative_groups(completions, GROUP_SIZES, parameters.seed),
        behaviours,
        decoding_table(model, tokenizer, attempts, parameters.seed),
        cost_table(parameters, num_parameters, measured["mean_completion_tokens"]),
        advice,
    )


def forecast_success(
    parameters: ProbeParameters, found: Probe, results_dir: Path = PUBLISHED
) -> calibration.Forecast:
    """Forecast success after GRPO by the finished runs of a results folder; of problems and caps like theirs only."""
    for name in ("max_completion_length", "num_numbers"):
        default = ProbeParameters.model_fields[name].default
        if getattr(parameters, name) != default:
            return calibration.Forecast(reason=f"{name} is not {default}, with which it is calibrated")
    features = calibration.features_of(found.search_row(), found.pass_at_1())
    return calibration.forecast(calibration.finished_runs(results_dir), features)


def draw_problems(parameters: ProbeParameters) -> list[Problem]:
    """Draw the validation problems of a probe: the same ones for every model at the same seed."""
    return countdown.generate_problems(
        "validation",
        parameters.num_problems,
        derive_seed(parameters.seed, "probe", parameters.num_numbers),
        num_numbers=parameters.num_numbers,
        distinct=True,
    )


def _is_known(tokenizer: PreTrainedTokenizerBase, word: str) -> bool:
    return (
        tokenizer.convert_tokens_to_ids(word) not in (None, tokenizer.unk_token_id)
        or word == tokenizer.unk_token
    )


def informative_groups(completions: pd.DataFrame, group_sizes: Sequence[int], seed: int = 0) -> pd.DataFrame:
    """Return table `informative_groups`: share of groups of G completions that are neither all right nor all wrong.

    Unbiased for each problem's own chance of success, from its n samples: 1 - (C(c, G) + C(n - c, G)) / C(n, G).
    Sizes above the samples of a problem are left out.
    """
    counts = completions.groupby("problem", sort=True)["correct"].agg(["size", "sum"])
    rows = []
    for size in group_sizes:
        if size > counts["size"].min():
            continue
        each = [
            pass_at_k(int(n), int(c), size) + pass_at_k(int(n), int(n - c), size) - 1
            for n, c in counts.itertuples(index=False)
        ]
        rng = np.random.default_rng(derive_seed(seed, "informative groups", size))
        rows.append({"num_generations": size, **bootstrap_interval(each, rng)._asdict()})
    return pd.DataFrame(rows, columns=["num_generations", "value", "lower", "upper"])


def probe_behaviours(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    summary: pd.DataFrame,
    attempts: pd.DataFrame,
    sampling: SamplingParameters,
    seed: int,
) -> tuple[pd.DataFrame, float]:
    """Return table `probe_behaviours`, and the accuracy of verdicts where the model was made to check.

    Below `ZERO_PROBABILITY` nothing is forced: what follows a word that the model never says shows no behaviour. A
    model that misses is right to say so whatever it can, hence the accuracy is the lower of that on hits and on misses.
    """
    sampled = summary.set_index("measure")
    rows, accuracy = [], float("nan")
    for behaviour in FIRST_WORDS:
        result = intervene(
            model,
            tokenizer,
            behaviour,
            attempts,
            sampling,
            derive_seed(seed, "intervention"),
            least_probability=ZERO_PROBABILITY,
        )
        if behaviour == "verification" and len(result.forced):
            accuracy = _verdict_accuracy(result.forced)
        name = "frac_searches" if behaviour == SEARCH else f"frac_with_{behaviour}"
        functional = f"frac_functional_{behaviour}"
        rows.append(
            {
                "behaviour": behaviour,
                "place": PLACES[behaviour],
                "p0_sampled": sampled.at[name, "value"],
                "p0_sampled_lower": sampled.at[name, "lower"],
                "p0_sampled_upper": sampled.at[name, "upper"],
                "frac_functional": sampled.at[functional, "value"] if behaviour != SEARCH else np.nan,
                **summarise_intervention(result, seed),
            }
        )
    return pd.DataFrame(rows), accuracy


def _verdict_accuracy(completions: pd.DataFrame) -> float:
    sums = completions[
        ["num_hit_verdicts", "num_true_hit_verdicts", "num_miss_verdicts", "num_true_miss_verdicts"]
    ].sum()
    if not sums["num_hit_verdicts"] or not sums["num_miss_verdicts"]:
        return float("nan")
    return float(
        min(
            sums["num_true_hit_verdicts"] / sums["num_hit_verdicts"],
            sums["num_true_miss_verdicts"] / sums["num_miss_verdicts"],
        )
    )


def cost_table(parameters: ProbeParameters, num_parameters: int, mean_tokens: float) -> pd.DataFrame:
    """Return table `costs`: GRPO at the defaults on one card, at today's completion length and at the cap."""
    completions_per_step = GrpoParameters.model_fields["per_device_train_batch_size"].default
    rows = []
    for length, tokens in (("as now", mean_tokens), ("at the cap", float(parameters.max_completion_length))):
        cost = estimate_cost(
            parameters.gpu, num_parameters, parameters.num_steps, completions_per_step, tokens
        )
        rows.append({"length": length, "mean_completion_tokens": tokens, **cost._asdict()})
    return pd.DataFrame(rows)


def table_records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows as plain values; missing is None, as JSON has no NaN."""
    return [
        {str(name): None if pd.isna(value) else value for name, value in row.items()}
        for row in table.to_dict(orient="records")
    ]
