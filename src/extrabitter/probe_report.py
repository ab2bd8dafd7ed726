"""What a probe found, as text for a terminal; each share in per cent with its 95 % interval."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from extrabitter.calibration import Forecast
from extrabitter.census_scores import REFLECTION
from extrabitter.natural_probe import NO_ADVICE, NO_FORECAST, NaturalProbe
from extrabitter.probe import Probe
from extrabitter.records import BEHAVIOURS


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
        [f"advice: {_advice(probe)}", f"  {probe.advice.reason}"],
        [
            "GRPO at the defaults on one card, an estimate (2N a token generated, 6N trained; lower bound for N < 1e8)",
            *_table(_cost_rows(probe.costs)),
        ],
        _forecast_lines(forecast),
    ]
    return "\n\n".join("\n".join(lines) for lines in blocks)


def describe_natural(probe: NaturalProbe) -> str:
    """Return the report of a probe in natural English; behaviours with the census's precision and recall."""
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
        ["completions", *_table(_text_rows(probe.summary))],
        [f"advice: {NO_ADVICE}"],
        [
            "GRPO at the defaults on one card, an estimate (2N a token generated, 6N trained; lower bound for N < 1e8)",
            *_table(_cost_rows(probe.costs)),
        ],
        [f"forecast: {NO_FORECAST}"],
    ]
    return "\n\n".join("\n".join(lines) for lines in blocks)


def _forecast_lines(forecast: Forecast) -> list[str]:
    if forecast.reason:
        return ["forecast of success after GRPO: none, not calibrated here", f"  {forecast.reason}"]
    return [
        f"forecast of success after GRPO, on test problems: {_percent(forecast.value)} "
        f"({_spread(forecast.lower, forecast.upper)})",
        f"  by {forecast.num_models} models of profile reference and their runs; as wide as the worst of them was off",
        f"  how well such forecasts rank models left out: correlation {forecast.rank:.2f} "
        f"({forecast.rank_lower:.2f} to {forecast.rank_upper:.2f}); at nought they do not tell models apart",
    ]


def _census_rows(probe: NaturalProbe) -> Iterable[Sequence[str]]:
    scores = {
        (detector, behaviour, measure): value
        for detector, behaviour, measure, value in probe.census_scores[
            ["detector", "behaviour", "measure", "value"]
        ].itertuples(index=False, name=None)
    }
    yield "", "share", "interval", "precision", "recall", "F1"
    rows = [(behaviour, f"frac_with_{behaviour}", "census", behaviour) for behaviour in BEHAVIOURS]
    rows.append(("keywords (oat-zero's)", "frac_with_keywords", "keywords", REFLECTION))
    table = probe.summary.set_index("measure")[["value", "lower", "upper"]]
    for label, measure, detector, behaviour in rows:
        value, lower, upper = table.loc[measure]
        agreement = [scores.get((detector, behaviour, name)) for name in ("precision", "recall", "F1")]
        yield (
            label,
            _percent(value),
            _spread(lower, upper),
            *("-" if score is None or np.isnan(score) else f"{score:.2f}" for score in agreement),
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


def _advice(probe: Probe) -> str:
    if probe.advice.verdict == "prime":
        return f"prime with {probe.advice.num_documents:,} documents of {probe.advice.condition}"
    return {"ready": "no priming needed", "train the base": "train the base further"}[probe.advice.verdict]


def _percent(share: Any) -> str:
    """Write a share; small ones in powers of ten, as 0.0 would hide what the probe is for."""
    value = float(share)
    if np.isnan(value):
        return "-"
    return f"{100 * value:.1f} %" if value == 0 or abs(value) >= 0.001 else f"{value:.0e}"


def _spread(lower: Any, upper: Any) -> str:
    return "" if np.isnan(float(lower)) else f"{100 * float(lower):.1f} to {100 * float(upper):.1f}"


def _interval_rows(table: pd.DataFrame, name: str) -> Iterable[Sequence[str]]:
    for row in table.to_dict(orient="records"):
        yield str(row[name]), _percent(row["value"]), _spread(row["lower"], row["upper"])


def _behaviour_rows(table: pd.DataFrame) -> Iterable[Sequence[str]]:
    yield "", "sampled", "teacher-forced", "changes success by", "interval", "pairs", "place"
    for row in table.to_dict(orient="records"):
        gain = "-" if np.isnan(row["advantage"]) else f"{100 * row['advantage']:+.1f} points"
        yield (
            row["behaviour"],
            _percent(row["p0_sampled"]),
            _percent(row["p0_forced"]),
            gain,
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
