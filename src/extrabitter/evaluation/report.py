"""What a probe found, as text for a terminal; each share in per cent with its 95 % interval."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from extrabitter.calibration import Forecast
from extrabitter.behaviours.agreement import REFLECTION
from extrabitter.evaluation.natural_probe import CONTRAST, NO_ADVICE, NO_FORECAST, Judged, NaturalProbe
from extrabitter.evaluation.advice import Advice
from extrabitter.evaluation.probe import Probe
from extrabitter.tables import BEHAVIOURS

QUOTE_BIAS = (
    "only answers that claim a behaviour can fail by their quote, which biases the judge's shares down"
)


def describe(probe: Probe, checkpoint: str, forecast: Forecast) -> str:
    """Return the report of a probe, some thirty lines of at most 110 characters but for the checkpoint's name."""
    measured = probe.summary.set_index("measure")
    mean_tokens: Any = measured.at["mean_completion_tokens", "value"]
    counts = probe.completions.groupby("problem").size()
    blocks = [
        [
            f"{checkpoint}: {probe.num_parameters:,} parameters",
            f"{len(counts)} validation problems, {int(counts.min())} completions each, "
            f"{float(mean_tokens):.1f} tokens on average",
        ],
        ["pass@k", *_table(_interval_rows(probe.pass_at_k, "k"))],
        [
            "groups of G completions with signal (neither all right nor all wrong)",
            *_table(_interval_rows(probe.informative_groups, "num_generations")),
        ],
        [
            "behaviours: how often, how likely where their first word may stand, what that word changes",
            *_table(_behaviour_rows(probe.probe_behaviours)),
        ],
        [
            "chance to begin a search behind a first attempt, by how tokens are drawn; places where it is nought",
            *_table(_decoding_rows(probe.decoding)),
        ],
        ["verdicts that are true", *_table(_verdict_rows(measured))],
        [describe_advice(probe.advice)],
        [
            "GRPO at the defaults on one card, an estimate (2N a token generated, 6N trained; lower bound for N < 1e8)",
            *_table(_cost_rows(probe.costs)),
        ],
        [describe_forecast(forecast)],
    ]
    return "\n\n".join("\n".join(lines) for lines in blocks)


def describe_natural(probe: NaturalProbe, judged: Judged | None = None) -> str:
    """Return the report of a probe in natural English; behaviours with the census's precision and recall.

    Where a language model was asked as judge too, its shares stand beside the census's.
    """
    record, parameters = probe.record, probe.parameters
    shots = (
        f"{parameters.few_shot} examples ({parameters.shots_show})" if parameters.few_shot else "no examples"
    )
    commit = f", commit {record['commit']}" if record["commit"] else ""
    blocks = [
        [
            f"{record['reference']}{commit}: {record['architecture']}, {record['num_parameters']:,} parameters, "
            f"{record['dtype']} on {record['device']}",
            f"{parameters.num_problems} validation problems, {parameters.num_samples} completions each; "
            f"{parameters.prompt} prompt, {shots}",
        ],
        ["pass@k", *_table(_interval_rows(probe.pass_at_k, "k"))],
        [
            "groups of G completions with signal (neither all right nor all wrong)",
            *_table(_interval_rows(probe.informative_groups, "num_generations")),
        ],
        [
            "completions that show a behaviour, by rules; beside it how these agree with labels on test traces",
            *_table(_census_rows(probe)),
        ],
        *([_judge_lines(probe, judged)] if judged else []),
        ["success with a behaviour, and without", *_table(_contrast_rows(probe.summary)), f"  {CONTRAST}"],
        ["completions", *_table(_text_rows(probe.summary))],
        [f"advice: {NO_ADVICE}"],
        [
            "GRPO at the defaults on one card, an estimate (2N a token generated, 6N trained; lower bound for N < 1e8)",
            *_table(_cost_rows(probe.costs)),
        ],
        [f"forecast: {NO_FORECAST}"],
    ]
    return "\n\n".join("\n".join(lines) for lines in blocks)


def describe_advice(advice: Advice) -> str:
    """Return what to do before RL, how much of it, and why."""
    reason = textwrap.fill(advice.reason, 110, initial_indent="  ", subsequent_indent="  ")
    if advice.verdict != "prime":
        verdict = {"ready": "no priming needed", "train the base": "train the base further"}[advice.verdict]
        return f"advice: {verdict}\n{reason}"
    return (
        f"advice: prime with {advice.num_documents:,} documents of {advice.condition}\n"
        f"  as this book's experiments did: {advice.num_steps} steps of {advice.per_device_train_batch_size} "
        f"documents, learning rate {advice.learning_rate:g}\n"
        f"{reason}"
    )


def describe_forecast(forecast: Forecast) -> str:
    """Return what GRPO would reach, with interval and how far to trust it, or why nothing is predicted."""
    if forecast.reason:
        return f"forecast of success after GRPO: none, not calibrated here\n  {forecast.reason}"
    return (
        f"forecast of success after GRPO, on test problems: {_percent(forecast.value)} "
        f"({_spread(forecast.lower, forecast.upper)})\n"
        f"  by {forecast.num_models} models of profile reference and their runs; as wide as the worst of them was off\n"
        f"  how well such forecasts rank models left out: correlation {forecast.rank:.2f} "
        f"({forecast.rank_lower:.2f} to {forecast.rank_upper:.2f}); at nought they do not tell models apart"
    )


def _census_rows(probe: NaturalProbe) -> Iterable[Sequence[str]]:
    scores = {
        (row["detector"], row["behaviour"], row["measure"]): row
        for row in probe.census_scores.to_dict(orient="records")
    }
    yield "", "share", "interval", "precision", "recall", "F1"
    rows = [(behaviour, f"frac_with_{behaviour}", "census", behaviour) for behaviour in BEHAVIOURS]
    rows.append(("keywords (oat-zero's)", "frac_with_keywords", "keywords", REFLECTION))
    table = probe.summary.set_index("measure")[["value", "lower", "upper"]]
    for label, measure, detector, behaviour in rows:
        value, lower, upper = table.loc[measure]
        precision, recall, f1 = (
            scores.get((detector, behaviour, name), {}) for name in ("precision", "recall", "F1")
        )
        yield label, _percent(value), _spread(lower, upper), _score(precision), _score(recall), _value(f1)


def _value(score: Mapping[Any, Any]) -> str:
    value = score.get("value", np.nan)
    return "-" if np.isnan(value) else f"{value:.2f}"


def _score(score: Mapping[Any, Any]) -> str:
    shown = _value(score)
    return shown if shown == "-" else f"{shown} ({score['lower']:.2f} to {score['upper']:.2f})"


def _judge_lines(probe: NaturalProbe, judged: Judged) -> list[str]:
    missing = [f"{count} {reason.replace('_', ' ')}" for reason, count in judged.missing.items()]
    num_judged = len(probe.completions) - sum(judged.missing.values())
    lines = [
        f"the same by the judge {judged.model}, whose errors were not measured; beside it the census of what it judged",
        *_table(_judge_rows(judged)),
        f"  {num_judged} of {len(probe.completions)} completions judged"
        + (f"; missing: {', '.join(missing)}" if missing else ""),
    ]
    return [*lines, f"  {QUOTE_BIAS}"] if judged.missing.get("quote_not_in_text") else lines


def _judge_rows(judged: Judged) -> Iterable[Sequence[str]]:
    yield "", "judge", "interval", "census", "interval"
    by_judge, by_census = (
        table.set_index("behaviour")[["value", "lower", "upper"]] for table in (judged.shares, judged.census)
    )
    for behaviour in BEHAVIOURS:
        yield (
            behaviour,
            *(
                text
                for value, lower, upper in (by_judge.loc[behaviour], by_census.loc[behaviour])
                for text in (_percent(value), _spread(lower, upper))
            ),
        )


def _contrast_rows(summary: pd.DataFrame) -> Iterable[Sequence[str]]:
    yield "", "with", "", "without", "", "difference", "interval"
    rows = {row["measure"]: row for row in summary.to_dict(orient="records")}
    for behaviour in BEHAVIOURS:
        shown, not_shown, contrast = (
            rows[f"{name}_{behaviour}"] for name in ("success_given", "success_given_no", "contrast")
        )
        yield (
            behaviour,
            _percent(shown["value"]),
            f"n = {shown['count']}",
            _percent(not_shown["value"]),
            f"n = {not_shown['count']}",
            _points(contrast["value"]),
            _spread(contrast["lower"], contrast["upper"]),
        )


def _text_rows(summary: pd.DataFrame) -> Iterable[Sequence[str]]:
    labels = {
        "frac_answered": "hand in an answer",
        "frac_truncated": "cut at the cap",
        "frac_true_equations": "equations that are true",
    }
    table = summary.set_index("measure").loc[list(labels), ["value", "lower", "upper", "count"]]
    for name, value, lower, upper, count in table.itertuples(name=None):
        yield labels[name], _percent(value), _spread(lower, upper), f"n = {count}"


def _decoding_rows(decoding: pd.DataFrame) -> Iterable[Sequence[str]]:
    if decoding["value"].isna().all():
        yield ("no first attempt to stand behind",)
        return
    yield "", "chance", "interval", "nought"
    for name, value, lower, upper, unreachable in decoding.itertuples(index=False, name=None):
        yield name, f"{value:.1e}", f"{lower:.1e} to {upper:.1e}", _percent(unreachable)


def _percent(share: Any) -> str:
    """Write a share; small ones in powers of ten, as 0.0 would hide what the probe is for."""
    value = float(share)
    if np.isnan(value):
        return "-"
    return f"{100 * value:.1f} %" if value == 0 or abs(value) >= 0.001 else f"{value:.0e}"


def _points(gain: Any) -> str:
    return "-" if np.isnan(float(gain)) else f"{100 * float(gain):+.1f} points"


def _spread(lower: Any, upper: Any) -> str:
    return "" if np.isnan(float(lower)) else f"{100 * float(lower):.1f} to {100 * float(upper):.1f}"


def _interval_rows(table: pd.DataFrame, name: str) -> Iterable[Sequence[str]]:
    for row in table.to_dict(orient="records"):
        yield str(row[name]), _percent(row["value"]), _spread(row["lower"], row["upper"])


def _behaviour_rows(table: pd.DataFrame) -> Iterable[Sequence[str]]:
    yield "", "sampled", "teacher-forced", "changes success by", "interval", "pairs", "place"
    for row in table.to_dict(orient="records"):
        yield (
            row["behaviour"],
            _percent(row["p0_sampled"]),
            _percent(row["p0_forced"]),
            _points(row["advantage"]),
            _spread(row["advantage_lower"], row["advantage_upper"]),
            str(row["num_pairs"]),
            row["place"],
        )


def _verdict_rows(measured: pd.DataFrame) -> Iterable[Sequence[str]]:
    labels = {
        "verdict_accuracy": "all",
        "hit_verdict_accuracy": "on attempts that hit",
        "miss_verdict_accuracy": "on attempts that miss",
    }
    table = measured.loc[list(labels), ["value", "lower", "upper", "count"]]
    for name, value, lower, upper, count in table.itertuples(name=None):
        yield labels[name], _percent(value), _spread(lower, upper), f"n = {count}"


def _cost_rows(table: pd.DataFrame) -> Iterable[Sequence[str]]:
    for row in table.to_dict(orient="records"):
        hours = row["hours"]
        time = f"{hours:.1f} h" if hours >= 1 else f"{3600 * hours:.2g} s"
        memory = f"{row['memory_gib']:.1f} GiB of weights and optimiser, {'fits' if row['fits'] else 'does not fit'}"
        yield (
            row["length"],
            f"{row['mean_completion_tokens']:.0f} tokens",
            time,
            f"on one {row['gpu']}",
            memory,
        )


def _table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Align columns: the first to the left, the others too, two spaces apart."""
    cells = [list(row) for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))] if cells else []
    return [
        ("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip()
        for row in cells
    ]
