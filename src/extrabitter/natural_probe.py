"""Probe any language model on Countdown in natural English: what a group of its completions would hold.

Less can be measured than in `probe`: behaviours are counted in free text by rules, whose errors are printed beside
them, and none is forced, so that nothing says whether it pays. Hence no priming is advised, and no outcome predicted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pandas as pd
from pydantic import Field

from extrabitter.census_scores import FOLDER, SCORES, read_scores
from extrabitter.evaluation import pass_at_k_table
from extrabitter.natural_evaluation import natural_summary, sample_natural
from extrabitter.priming import EXAMPLE_CONDITIONS
from extrabitter.probe import (
    GROUP_SIZES,
    ProbeParameters,
    cost_table,
    draw_problems,
    informative_groups,
    table_records,
)
from extrabitter.records import BEHAVIOURS
from extrabitter.rollouts import SamplingParameters
from extrabitter.seeding import derive_seed
from extrabitter.wording import english

if TYPE_CHECKING:
    from extrabitter.pretrained import Pretrained

NO_FORECAST = "none: it is calibrated on this book's own bases, which are asked in the grammar"
NO_ADVICE = "none: whether a behaviour pays was not measured, as free text has no one word to force"


class NaturalProbeParameters(ProbeParameters):
    """What is probed, and how it is asked."""

    prompt: Literal["plain", "chat"] = Field(
        description="plain text for a base, or the tokenizer's chat template"
    )
    few_shot: int = Field(0, ge=0, le=32, description="worked training problems in the prompt")
    shots_show: str = Field(
        "direct",
        pattern=f"^({'|'.join(EXAMPLE_CONDITIONS)})$",
        description="what these show: a key of priming.CONDITIONS",
    )
    num_numbers: int = Field(3, ge=2, le=4, description="given numbers in a problem")
    num_problems: int = Field(20, ge=2, le=100_000, description="validation problems")
    num_samples: int = Field(8, ge=2, le=4096, description="completions of each problem")
    max_completion_length: int = Field(512, ge=8, le=32_768, description="cap of a completion, in tokens")


@dataclass(frozen=True)
class NaturalProbe:
    """What was found, and how well the census agrees with labels."""

    parameters: NaturalProbeParameters
    record: dict[str, Any]
    completions: pd.DataFrame
    summary: pd.DataFrame
    pass_at_k: pd.DataFrame
    informative_groups: pd.DataFrame
    costs: pd.DataFrame
    census_scores: pd.DataFrame

    TABLES: ClassVar = ("summary", "pass_at_k", "informative_groups", "costs", "census_scores")

    def as_json(self) -> dict[str, Any]:
        """Return all but the completions as plain values; missing is None."""
        return {
            "model": self.record,
            "parameters": self.parameters.model_dump(),
            **{name: table_records(getattr(self, name)) for name in self.TABLES},
            "advice": NO_ADVICE,
            "forecast": NO_FORECAST,
        }

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return what a run of stage `will_it_choke` writes, by the tables' names."""
        names = ("summary", "pass_at_k", "informative_groups", "costs")
        return {"natural_completions": self.completions} | {name: getattr(self, name) for name in names}

    def behaviours(self) -> pd.DataFrame:
        """Return the shares of completions that show a behaviour, beside the census's precision and recall."""
        shares = self.summary.set_index("measure").loc[[f"frac_with_{name}" for name in BEHAVIOURS]]
        scores = self.census_scores[self.census_scores["detector"] == "census"]
        agreement = scores.pivot_table(index="behaviour", columns="measure", values="value")
        return shares.set_axis(list(BEHAVIOURS)).join(agreement)


def probe_natural(parameters: NaturalProbeParameters, pretrained: Pretrained) -> NaturalProbe:
    """Probe a model on validation problems in natural English."""
    problems = draw_problems(parameters)
    wording = english(
        parameters.prompt, parameters.few_shot, parameters.shots_show, parameters.seed, parameters.num_numbers
    )
    completions = sample_natural(
        pretrained,
        problems,
        parameters.num_samples,
        SamplingParameters(max_completion_length=parameters.max_completion_length),
        derive_seed(parameters.seed, "probe sampling"),
        wording,
    )
    summary = natural_summary(completions, parameters.seed)
    mean_tokens = float(completions["num_completion_tokens"].mean())
    return NaturalProbe(
        parameters,
        pretrained.record,
        completions,
        summary,
        pass_at_k_table(completions, parameters.num_samples, parameters.seed),
        informative_groups(completions, GROUP_SIZES, parameters.seed),
        cost_table(parameters, pretrained.record["num_parameters"], mean_tokens),
        published_scores(),
    )


def published_scores() -> pd.DataFrame:
    """Return the scores on test traces that go with every figure of the census; empty where they are not at hand."""
    if not (FOLDER / SCORES).is_file():
        return pd.DataFrame(columns=["detector", "behaviour", "measure", "value", "lower", "upper", "count"])
    scores = read_scores()
    return scores[scores["set"] == "test"].drop(columns="set").reset_index(drop=True)
