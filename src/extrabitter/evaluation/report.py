"""What a probe says: a verdict by a stated rule, advice with its cost in tokens, and all of it as text or as JSON.

Both rules are of ours; neither is calibrated on outcomes of RL yet, and the report says so.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from extrabitter.evaluation.probe import COMPLETIONS_PER_STEP, NUM_STEPS, Probe
from extrabitter.statistics import Interval
from extrabitter.tasks import load_task

WIDTH = 110
COMPETENT = 0.98  # of steps and of completions, as the bars of a base ask for
READABLE = 0.9  # of completions in English that hand in an answer
TRUE_VERDICTS = 0.95  # as the bars ask for
NUM_SHOTS = 4
# A priming set as this book's bases get it: distinct documents, and how often each is seen.
NUM_DOCUMENTS, NUM_EPOCHS = 1_000, 3


class Outlook(NamedTuple):
    """What GRPO at its defaults would make of a checkpoint's search, in a word, and why."""

    verdict: Literal["takes off", "lags", "chokes", "cannot be told"]
    reason: str


class Advice(NamedTuple):
    """One thing to do, why, and its cost in tokens that are generated or trained on."""

    what: str
    why: str
    num_tokens: int


def foresee(groups: Interval, searches: Interval, gain: Interval) -> Outlook:
    """Apply the rule to what a step is expected to hold, and to what searching on changes.

    In this order, by the ends of 95 % intervals:
    1. *chokes* if no group was informative and fewer than one a step are; if no completion that searches is to be
       expected within a run; or if searching on gains nothing;
    2. *takes off* if a step holds an informative group, and a completion that searches, and searching gains;
    3. *lags* if searching gains, and informative groups or searches are rarer than one a step;
    4. else it *cannot be told*: an interval lies on both sides, or the gain was not measured.
    """
    step = f"a step of {COMPLETIONS_PER_STEP} completions"
    seen = f"{step} holds {_count(groups)} informative groups and {_count(searches)} completions that search"
    gains = f"searching on changes success by {points(gain)}" if gain.value == gain.value else ""
    if groups.value == 0 and groups.upper < 1:
        return Outlook("chokes", f"{step} holds no informative group, at most {groups.upper:.2g}: no signal")
    if searches.upper * NUM_STEPS < 1:
        when = f"before step {1 / searches.upper:,.0f}" if searches.upper > 0 else "at any step"
        return Outlook("chokes", f"{seen}; no search is to be expected {when}, and RL can only sharpen guesses")
    if gain.upper <= 0:
        return Outlook("chokes", f"{gains}: RL selects against it")
    if groups.lower >= 1 and searches.lower >= 1 and gain.lower > 0:
        return Outlook("takes off", f"{seen}, and {gains}")
    if gain.lower > 0 and (groups.upper < 1 or searches.upper < 1):
        return Outlook("lags", f"{seen}, and RL waits for them; {gains}")
    return Outlook(
        "cannot be told", f"{seen}; {gains or 'what searching changes is not measured in English'}"
    )


def advise(probe: Probe) -> list[Advice]:
    """Return what to do before RL, the first thing first, by the rule that each line's reason states.

    Without a signal: examples in the prompt, an easier band, then priming. A weak form: form first. Steps that are
    false: train the base. Search that is absent or does not pay: priming. Else RL itself, at what it costs.
    """
    parameters, cap = probe.parameters, probe.parameters.max_completion_length
    in_grammar = parameters.prompt == "grammar"
    tokens = int(probe.completions["num_completion_tokens"].sum())
    priming = int(NUM_DOCUMENTS * NUM_EPOCHS * probe.demonstration_tokens)
    prime = f"prime with {NUM_DOCUMENTS:,} documents of condition search, {NUM_EPOCHS} times each"
    form = probe.measured("frac_well_formed" if in_grammar else "frac_answered")
    steps = probe.measured("frac_right_steps")
    found = []
    if in_grammar and steps.value < COMPETENT:
        why = f"{percent(steps.value)} of its steps are right, of which a base's bars ask {percent(COMPETENT)}"
        found.append(Advice("train the base further on drills", why, 0))
    if form.value < (COMPETENT if in_grammar else READABLE):
        what = f"teach the form first: {NUM_DOCUMENTS:,} documents of condition direct"
        whose = "are read to their end" if in_grammar else "hand in an answer"
        found.append(Advice(what, f"{percent(form.value)} of its completions {whose}", priming // NUM_EPOCHS))
    if probe.groups.value < 1:
        why = f"a step holds {_count(probe.groups)} groups that carry a signal"
        if not in_grammar and not parameters.few_shot:
            more = tokens + int(NUM_SHOTS * probe.demonstration_tokens * len(probe.completions))
            found.append(Advice(f"give {NUM_SHOTS} worked examples in the prompt, and probe again", why, more))
        bands = load_task(parameters.task).bands
        others = ", ".join(band for band in bands if band != (parameters.band or next(iter(bands))))
        found.append(Advice(f"probe an easier band (there are also {others})", why, tokens))
        found.append(Advice(prime, why, priming))
    elif probe.searches.value < 1:
        why = f"a step holds {_count(probe.searches)} completions that search: too few to be found"
        found.append(Advice(prime, why, priming))
    elif not probe.gain.lower > 0 and probe.gain.value == probe.gain.value:
        truth = min(probe.measured(f"{side}_verdict_accuracy").value for side in ("hit", "miss"))
        told = f"{percent(truth)} of its verdicts are true" if truth < TRUE_VERDICTS else "its verdicts are true"
        found.append(Advice(prime, f"searching on changes success by {points(probe.gain)}; {told}", priming))
    if not found:
        now, budget = probe.measured("mean_completion_tokens").value, NUM_STEPS * COMPLETIONS_PER_STEP
        what = f"train by GRPO, {NUM_STEPS} steps of {COMPLETIONS_PER_STEP} completions"
        why = f"a step holds what RL selects from (if answers grow to the cap, {_tokens(budget * cap)})"
        found.append(Advice(what, why, int(budget * now)))
    return found


def as_json(probe: Probe) -> dict[str, Any]:
    """Return all but the completions as plain values; what is missing or infinite is None."""
    tables = {name: _records(table) for name, table in probe.tables().items() if name != "completions"}
    outlook = foresee(probe.groups, probe.searches, probe.gain)
    return {
        "model": probe.model,
        "parameters": probe.parameters.model_dump(exclude={"run_dir", "arm"}),
        "verdict": outlook._asdict(),
        "advice": [advice._asdict() for advice in advise(probe)],
        "groups_a_step": _plain(probe.groups._asdict()),
        "searches_a_step": _plain(probe.searches._asdict()),
        "gain_of_search": _plain(probe.gain._asdict()),
        **tables,
    }


def describe(probe: Probe) -> str:
    """Return the report, some forty lines: the verdict, the advice, then what both rest on, with 95 % intervals."""
    parameters, outlook = probe.parameters, foresee(probe.groups, probe.searches, probe.gain)
    model, count = probe.model, len(probe.completions)
    asked = f"{parameters.prompt} prompt"
    if parameters.few_shot:
        asked += f", {parameters.few_shot} examples ({parameters.shots_show})"
    tokens = probe.measured("mean_completion_tokens").value
    blocks = [
        [
            f"{parameters.checkpoint}: {model['architecture']}, {model['num_parameters']:,} parameters, "
            f"{model['dtype']} on {model['device']}",
            f"{parameters.task}: {parameters.num_problems} validation problems, {parameters.num_samples} completions "
            f"each, {tokens:.1f} tokens on average; {asked}",
        ],
        [f"verdict: {outlook.verdict}", *_wrapped(outlook.reason, "  "), f"  {UNCALIBRATED}"],
        ["advice", *(line for advice in advise(probe) for line in _advice_lines(advice))],
        ["completions that", *_table(_measure_rows(probe.summary, _readable(parameters.prompt == "grammar")))],
        ["pass@k", *_table(_interval_rows(probe.pass_at_k, "k")), *_rule_of_three(probe, count)],
        [
            "groups of G completions with signal (neither all right nor all wrong), first expected at step",
            *_table(_group_rows(probe.informative_groups)),
        ],
        [
            "behaviours that do their work: share of completions; chance of its first word at its place; what that changes",
            *_table(_behaviour_rows(probe.probe_behaviours)),
        ],
        ["verdicts that are true", *_table(_measure_rows(probe.summary, VERDICTS))],
    ]
    if probe.decoding["value"].notna().any():
        title = "chance to begin a search behind a first attempt, by how tokens are drawn; places where it is nought"
        blocks.append([title, *_table(_decoding_rows(probe.decoding))])
    return "\n\n".join("\n".join(lines) for lines in blocks)


UNCALIBRATED = "by a rule of ours (`extrabitter.evaluation.report.foresee`), not calibrated on outcomes of RL"
VERDICTS = {
    "verdict_accuracy": "all",
    "hit_verdict_accuracy": "on attempts that hit",
    "miss_verdict_accuracy": "on attempts that miss",
}


def _readable(in_grammar: bool) -> dict[str, str]:
    rows = {"frac_answered": "hand in an answer", "frac_truncated": "are cut at the cap"}
    if in_grammar:
        rows["frac_well_formed"] = "are read to their end"
    return rows | {"frac_sound": "state steps, half of them true", "frac_right_steps": "steps that are right"}


def _rule_of_three(probe: Probe, count: int) -> list[str]:
    """Say in words what none, or all, of so many allows; nothing where some are right and some are not."""
    num_right = int(probe.completions["correct"].sum())
    if num_right not in (0, count):
        return []
    problems = probe.parameters.num_problems
    kind, other = ("none", "is right") if num_right == 0 else ("all", "fails")
    return _wrapped(
        f"{kind} of {count:,} completions right: by the rule of three one of them {other} for at most "
        f"{percent(min(1.0, 3 / problems))} of such problems (3/{problems})",
        "  ",
    )


def _advice_lines(advice: Advice) -> list[str]:
    cost = f": about {_tokens(advice.num_tokens)}" if advice.num_tokens else ""
    return [*_wrapped(f"- {advice.what}{cost}", "  "), *_wrapped(f"because {advice.why}", "    ")]


def _measure_rows(summary: pd.DataFrame, labels: dict[str, str]) -> Iterable[Sequence[str]]:
    table = summary.set_index("measure").loc[list(labels), ["value", "lower", "upper", "count"]]
    for name, value, lower, upper, count in table.itertuples(name=None):
        yield labels[name], percent(value), _spread(lower, upper), f"n = {count:,}"


def _interval_rows(table: pd.DataFrame, name: str) -> Iterable[Sequence[str]]:
    for row in table.to_dict(orient="records"):
        yield str(row[name]), percent(row["value"]), _spread(row["lower"], row["upper"])


def _group_rows(table: pd.DataFrame) -> Iterable[Sequence[str]]:
    for row, cells in zip(table.to_dict(orient="records"), _interval_rows(table, "num_generations"), strict=True):
        first, least = row["first_step"], row["first_step_lower"]
        yield *cells, f"{first:.1f}" if np.isfinite(first) else f"none seen; perhaps at {least:.1f}"


def _behaviour_rows(table: pd.DataFrame) -> Iterable[Sequence[str]]:
    yield "", "sampled", "interval", "chance", "points of success", "pairs", "place"
    for row in table.to_dict(orient="records"):
        gain = Interval(*(row[f"advantage{end}"] for end in ("", "_lower", "_upper")))
        yield (
            row["behaviour"],
            percent(row["p0_sampled"]),
            _spread(row["p0_sampled_lower"], row["p0_sampled_upper"]),
            percent(row["p0_forced"]),
            points(gain).replace(" points", ""),
            str(row["num_pairs"]),
            row["place"],
        )


def _decoding_rows(table: pd.DataFrame) -> Iterable[Sequence[str]]:
    for name, value, lower, upper, unreachable in table.itertuples(index=False, name=None):
        yield name, f"{value:.1e}", f"{lower:.1e} to {upper:.1e}", percent(unreachable)


def percent(share: float) -> str:
    """Write a share; small ones in powers of ten, as 0.0 would hide what the probe is for.

    >>> percent(0.25), percent(2e-6), percent(float("nan"))
    ('25.0 %', '2e-06', '-')
    """
    value = float(share)
    if np.isnan(value):
        return "-"
    return f"{100 * value:.1f} %" if value == 0 or abs(value) >= 0.001 else f"{value:.0e}"


def points(gain: Interval) -> str:
    """Write a difference of shares with its interval."""
    if np.isnan(gain.value):
        return "-"
    return f"{100 * gain.value:+.1f} points ({100 * gain.lower:+.1f} to {100 * gain.upper:+.1f})"


def _tokens(count: float) -> str:
    """Write a number of tokens to three digits."""
    return f"{float(f'{count:.2e}'):,.0f} tokens"


def _count(of: Interval) -> str:
    return f"{of.value:.2g} ({of.lower:.2g} to {of.upper:.2g})"


def _spread(lower: float, upper: float) -> str:
    return "" if np.isnan(lower) else f"{100 * lower:.1f} to {100 * upper:.1f}"


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent)


def _table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Align columns to the left, two spaces apart."""
    cells = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        ("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip()
        for row in cells
    ]


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [_plain(row) for row in table.to_dict(orient="records")]


def _plain(values: dict[Any, Any]) -> dict[str, Any]:
    """Return values that JSON has: it knows neither NaN nor infinity."""
    return {
        str(name): None if isinstance(value, float) and not np.isfinite(value) else value
        for name, value in values.items()
    }
