"""Probe any language model on Countdown in natural English: what a group of its completions would hold.

Less can be measured than in `probe`: behaviours are counted in free text by rules, whose errors are printed beside
them, and none is forced. Completions with a behaviour are set beside those without, but which they are is the model's
own choice, so that their difference is no effect. Hence no priming is advised, and no outcome predicted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from extrabitter.behaviours.measures import Measure, column, positive
from extrabitter.behaviours.agreement import FOLDER, SCORES, read_scores
from extrabitter.estimates import difference_of_ratios, resampled_difference
from extrabitter.evaluation.evaluate import pass_at_k_table, summary_table
from extrabitter.statistics import Interval, wilson_interval
from extrabitter.evaluation.natural_evaluate import natural_summary, sample_natural
from extrabitter.training.priming import EXAMPLE_CONDITIONS
from extrabitter.evaluation.probe import (
    GROUP_SIZES,
    ProbeParameters,
    cost_table,
    draw_problems,
    informative_groups,
    table_records,
)
from extrabitter.tables import BEHAVIOURS
from extrabitter.models.rollouts import SamplingParameters
from extrabitter.seeding import derive_seed
from extrabitter.tasks.wording import english

if TYPE_CHECKING:
    from extrabitter.models.hub import Pretrained

NO_FORECAST = "none: it is calibrated on this book's own bases, which are asked in the grammar"
NO_ADVICE = "none: what a behaviour changes was not measured, as free text has no one word to force"
CONTRAST = "a contrast between completions as they come, no effect: one goes back because an attempt failed"


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
            "contrast": CONTRAST,
            "advice": NO_ADVICE,
            "forecast": NO_FORECAST,
        }

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return what a run of stage `will_it_choke` writes, by the tables' names."""
        names = ("summary", "pass_at_k", "informative_groups", "costs")
        return {"natural_completions": self.completions} | {name: getattr(self, name) for name in names}

    def behaviours(self) -> pd.DataFrame:
        """Return the shares of completions that show a behaviour, the census's precision and recall, and contrasts."""
        measured, names = self.summary.set_index("measure"), list(BEHAVIOURS)
        shares = measured.loc[[f"frac_with_{name}" for name in names]].set_axis(names)
        scores = self.census_scores[self.census_scores["detector"] == "census"]
        agreement = scores.pivot_table(index="behaviour", columns="measure", values="value")
        contrasts = measured.loc[[f"contrast_{name}" for name in names], ["value", "lower", "upper"]]
        contrasts.columns = pd.Index(["contrast", "contrast_lower", "contrast_upper"])
        return shares.join(agreement).join(contrasts.set_axis(names))


@dataclass(frozen=True)
class Judged:
    """What a language model as judge says of completions, and the census; both shares are of those that were judged."""

    model: str
    shares: pd.DataFrame
    census: pd.DataFrame
    missing: dict[str, int]  # completions without a judgement, by reason

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values; missing is None."""
        tables = {"shares": table_records(self.shares), "census": table_records(self.census)}
        return {"model": self.model, **tables, "missing": self.missing}


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
    summary = pd.concat(
        [natural_summary(completions, parameters.seed), contrasts(completions, parameters.seed)],
        ignore_index=True,
    )
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


def contrasts(completions: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Return rows of table `summary`: success with each behaviour, without it, and the contrast of the two.

    Intervals are bootstraps that resample problems. Where all problems of a side agree these see no spread, as where
    one completion alone shows a behaviour: that side's interval is then Wilson's, with as many trials as it has
    problems, in the contrast too. What has an empty side is missing, not zero.
    """
    successes: list[pd.DataFrame] = []
    rows: list[dict[str, Any]] = []
    for behaviour in BEHAVIOURS:
        successes.append(_success_table(completions, behaviour, seed))
        rng = np.random.default_rng(derive_seed(seed, "contrast", behaviour))
        row = {"measure": f"contrast_{behaviour}", **_contrast(completions, behaviour, rng)._asdict()}
        rows.append(row | {"count": len(completions)})
    return pd.concat([*successes, pd.DataFrame(rows)], ignore_index=True)


def _success_by(behaviour: str) -> dict[str, Measure]:
    shows = positive(f"{behaviour}_count")
    return {
        f"success_given_{behaviour}": Measure(lambda df: df["correct"] * shows(df), shows),
        f"success_given_no_{behaviour}": Measure(
            lambda df: df["correct"] * (1 - shows(df)), lambda df: 1 - shows(df)
        ),
    }


def _success_table(completions: pd.DataFrame, behaviour: str, seed: int) -> pd.DataFrame:
    """Return the rows of table `summary` for success with a behaviour and without it."""
    table = summary_table(completions, seed, _success_by(behaviour))
    right, count, other_right, other_count = _sums(completions, behaviour).T
    down, up = np.transpose([_unseen_spread(right, count), _unseen_spread(other_right, other_count)])
    table["lower"] = (table["lower"] - down).clip(lower=0)
    table["upper"] = (table["upper"] + up).clip(upper=1)
    return table


def _sums(completions: pd.DataFrame, behaviour: str) -> np.ndarray:
    """Return what each problem adds to success with a behaviour and without: (problems, 4), right before count."""
    parts = pd.DataFrame(
        {
            f"{name} {part}": column_of(completions)
            for name, measure in _success_by(behaviour).items()
            for part, column_of in measure._asdict().items()
        }
    )
    return parts.groupby(completions["problem"], sort=True).sum().to_numpy(float)


def _contrast(completions: pd.DataFrame, behaviour: str, rng: np.random.Generator) -> Interval:
    sums = _sums(completions, behaviour)
    value = difference_of_ratios(sums.sum(axis=0))
    if not np.isfinite(value):
        return Interval(np.nan, np.nan, np.nan)
    lower, upper = resampled_difference(sums, rng)
    below, above = max(0.0, value - lower), max(0.0, upper - value)
    # Distances of independent sides add up in squares. Source: Newcombe, Statistics in Medicine 17 (1998), 873-890.
    down, up = _unseen_spread(sums[:, 0], sums[:, 1])
    other_down, other_up = _unseen_spread(sums[:, 2], sums[:, 3])
    lower = max(-1.0, value - math.hypot(below, down, other_up))
    upper = min(1.0, value + math.hypot(above, up, other_down))
    return Interval(value, lower, upper)


def _unseen_spread(right: np.ndarray, count: np.ndarray) -> tuple[float, float]:
    """Return how far Wilson's ends lie from a share on whose value all problems agree; nought where they do not."""
    shares = right[count > 0] / count[count > 0]
    if not len(shares) or np.ptp(shares) > 0:
        return 0.0, 0.0
    wilson = wilson_interval(shares.sum(), len(shares))
    return wilson.value - wilson.lower, wilson.upper - wilson.value


def judged_shares(completions: pd.DataFrame, judgements: pd.DataFrame, model: str, seed: int = 0) -> Judged:
    """Return the shares of completions that show a behaviour by a judge, with 95 % intervals, problems resampled.

    `judgements` is of `judge.judge_completions`, in the order of the completions. What was not judged is in no share,
    nor in those of the census, which would differ by the choice of completions otherwise.
    """
    judged = judgements["reason"] == "ok"

    def shares(counts: dict[str, Any]) -> pd.DataFrame:
        shown = {behaviour: judged & (counts[behaviour] > 0) for behaviour in BEHAVIOURS}
        table = pd.DataFrame({"problem": completions["problem"].to_numpy(), "judged": judged, **shown})
        measures = {behaviour: Measure(column(behaviour), column("judged")) for behaviour in BEHAVIOURS}
        return summary_table(table, seed, measures).rename(columns={"measure": "behaviour"})

    by_judge = {behaviour: judgements[behaviour].fillna(0) for behaviour in BEHAVIOURS}
    by_census = {behaviour: completions[f"{behaviour}_count"].to_numpy() for behaviour in BEHAVIOURS}
    missing = judgements["reason"][~judged].value_counts()
    counted = {str(reason): int(count) for reason, count in missing.items()}
    return Judged(model, shares(by_judge), shares(by_census), counted)


def published_scores() -> pd.DataFrame:
    """Return the scores on test traces that go with every figure of the census; empty where they are not at hand."""
    if not (FOLDER / SCORES).is_file():
        return pd.DataFrame(columns=["detector", "behaviour", "measure", "value", "lower", "upper", "count"])
    scores = read_scores()
    return scores[scores["set"] == "test"].drop(columns="set").reset_index(drop=True)
