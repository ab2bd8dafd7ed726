"""What a probe says: a verdict by a stated rule, advice with its cost in tokens, and all of it as text or as JSON.

Both rules are of ours; neither is calibrated on outcomes of RL yet, and the report says so.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jinja2
import numpy as np
import pandas as pd

from extrabitter.evaluation.probe import COMPLETIONS_PER_STEP, NUM_STEPS, Probe
from extrabitter.statistics import Interval
from extrabitter.tasks import Task, band_of, load_task

WIDTH = 110
COMPETENT = 0.98  # of steps and of completions, as the bars of a base ask for
READABLE = 0.9  # of completions in English that hand in an answer
TRUE_VERDICTS = 0.95  # as the bars ask for
NUM_SHOTS = 4
NUM_DOCUMENTS, NUM_EPOCHS = 1_000, 3  # of a priming set: distinct documents, and how often each is seen
ENDS = ("", "_lower", "_upper")


class Outlook(NamedTuple):
    """What GRPO at its defaults would make of a checkpoint's search, in a word, and why."""

    verdict: Literal["takes off", "lags", "chokes", "cannot be told"]
    reason: str


class Advice(NamedTuple):
    """One thing to do, why, and its cost in tokens that are generated or trained on; 0: not known."""

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
        why = f"{seen}; no search is to be expected {when}, and RL can only sharpen guesses"
        return Outlook("chokes", why)
    if gain.upper <= 0:
        return Outlook("chokes", f"{gains}: RL selects against it")
    if groups.lower >= 1 and searches.lower >= 1 and gain.lower > 0:
        return Outlook("takes off", f"{seen}, and {gains}")
    if gain.lower > 0 and (groups.upper < 1 or searches.upper < 1):
        return Outlook("lags", f"{seen}, and RL waits for them; {gains}")
    return Outlook("cannot be told", f"{seen}; {gains or 'what searching changes was not measured'}")


def advise(probe: Probe) -> list[Advice]:
    """Return what to do before RL, the first thing first, by the rule that each line's reason states.

    Steps that are false: train the base. A weak form: form first. Without a signal: examples in the prompt, an easier
    band, then priming. Search that is absent or does not pay: priming. Else RL itself, at what it costs.
    """
    parameters, cap = probe.parameters, probe.parameters.max_completion_length
    in_grammar = parameters.prompt == "grammar"
    again = int(probe.tables["completions"]["num_completion_tokens"].sum())
    priming = int(NUM_DOCUMENTS * NUM_EPOCHS * probe.demonstration_tokens)
    prime = f"prime with {NUM_DOCUMENTS:,} documents of condition search, {NUM_EPOCHS} times each"
    form = probe.measured("frac_well_formed" if in_grammar else "frac_answered").value
    steps = probe.measured("frac_right_steps").value
    found = []
    if in_grammar and steps < COMPETENT:
        why = f"{percent(steps)} of its steps are right; a base's bars ask for {percent(COMPETENT)}"
        found.append(Advice("train the base further on drills", why, 0))
    if form < (COMPETENT if in_grammar else READABLE):
        whose = "are read to their end" if in_grammar else "hand in an answer"
        what = f"teach the form first, by {NUM_DOCUMENTS:,} documents of condition direct"
        found.append(Advice(what, f"{percent(form)} of its completions {whose}", priming // NUM_EPOCHS))
    if probe.groups.value < 1:
        why = f"a step holds {_count(probe.groups)} groups that carry a signal"
        if not in_grammar and not parameters.few_shot:
            what = f"give {NUM_SHOTS} worked examples in the prompt, and probe again"
            more = NUM_SHOTS * probe.demonstration_tokens * len(probe.tables["completions"])
            found.append(Advice(what, why, again + int(more)))
        if easier := easier_bands(load_task(parameters.task), parameters.band):
            found.append(Advice(f"probe an easier band ({', '.join(easier[:3])})", why, again))
        found.append(Advice(prime, why, priming))
    elif probe.searches.value < 1:
        why = f"a step holds {_count(probe.searches)} completions that search: too few to be found"
        found.append(Advice(prime, why, priming))
    elif probe.gain.lower <= 0:
        truth = min(probe.measured(f"{side}_verdict_accuracy").value for side in ("hit", "miss"))
        share = f"{percent(truth)} of " if truth < TRUE_VERDICTS else ""
        why = f"searching on changes success by {points(probe.gain)}; {share}its verdicts are true"
        found.append(Advice(prime, why, priming))
    if not found:
        now, budget = probe.measured("mean_completion_tokens").value, NUM_STEPS * COMPLETIONS_PER_STEP
        what = f"train by GRPO, {NUM_STEPS} steps of {COMPLETIONS_PER_STEP} completions"
        why = f"a step holds what RL selects from (if answers grow to the cap, {_tokens(budget * cap)})"
        found.append(Advice(what, why, int(budget * now)))
    return found


def easier_bands(task: Task, band: str, count: int = 20) -> list[str]:
    """Return the bands on whose problems a blind legal answer is right more often than on this one's, easiest first."""
    chances = {}
    for name in task.bands:
        problems = task.problems("train", count, 0, name)
        chances[name] = np.mean([len(task.solve(each)) / task.count_answers(each) for each in problems])
    easiest = sorted(chances, key=lambda name: -chances[name])
    return easiest[: [chances[name] for name in easiest].index(chances[band_of(task, band)])]


def as_json(probe: Probe) -> dict[str, Any]:
    """Return all but the completions as plain values; what is missing or infinite is None."""
    a_step = {"groups_a_step": probe.groups, "searches_a_step": probe.searches, "gain_of_search": probe.gain}
    tables = {name: table for name, table in probe.tables.items() if name != "completions"}
    return {
        "model": probe.model,
        "parameters": probe.parameters.model_dump(exclude={"run_dir", "arm", "overwrite"}),
        "verdict": foresee(probe.groups, probe.searches, probe.gain)._asdict(),
        "advice": [advice._asdict() for advice in advise(probe)],
        **{name: _plain(interval._asdict()) for name, interval in a_step.items()},
        **{name: [_plain(row) for row in table.to_dict("records")] for name, table in tables.items()},
    }


def describe(probe: Probe) -> str:
    """Return the report, some forty lines: the verdict, the advice, then what both rest on, with 95 % intervals."""
    summary, right = probe.tables["summary"].set_index("measure"), probe.tables["completions"]["correct"]
    loader = jinja2.PackageLoader("extrabitter.evaluation")
    environment = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters |= {"percent": percent, "tokens": _tokens, "wrapped": _wrapped, "table": _table}
    return environment.get_template("report.txt.jinja").render(
        asked=probe.parameters,
        model=probe.model,
        tables=probe.tables,
        mean_tokens=probe.measured("mean_completion_tokens").value,
        outlook=foresee(probe.groups, probe.searches, probe.gain),
        advice=advise(probe),
        num_right=int(right.sum()),
        num_completions=len(right),
        rows=_rows,
        named=lambda words: summary.loc[list(words)].assign(measure=list(words.values())),
    )


def _rows(table: pd.DataFrame, label: str, share: str = "", *others: str) -> list[tuple[str, ...]]:
    """Return of each row its label, a share (columns `share`, or value) with interval, and others as they are said."""
    ends, rows = [f"{share}{end}" for end in ENDS] if share else Interval._fields, []
    for row in table.to_dict("records"):
        value, lower, upper = (row[end] for end in ends)
        spread = "" if np.isnan(lower) else f"{100 * lower:.1f} to {100 * upper:.1f}"
        rows.append((str(row[label]), percent(value), spread, *(_said(row, name) for name in others)))
    return rows


def _said(row: Mapping[Any, Any], name: str) -> str:
    if name == "advantage":
        return points(Interval(*(row[f"{name}{end}"] for end in ENDS))).replace(" points", "")
    if name == "first_step":
        least = row["first_step_lower"]
        return f"{row[name]:.1f}" if np.isfinite(row[name]) else f"none seen; not before {least:.1f}"
    if name == "count":
        return f"n = {row[name]:,}"
    return percent(row[name]) if isinstance(row[name], float) else str(row[name])


def percent(share: float) -> str:
    """Write a share; small ones in powers of ten, as 0.0 would hide what the probe is for.

    >>> percent(0.25), percent(2e-6), percent(float("nan"))
    ('25.0 %', '2e-06', '-')
    """
    if np.isnan(share):
        return "-"
    return f"{100 * share:.1f} %" if share == 0 or abs(share) >= 0.001 else f"{share:.0e}"


def points(gain: Interval) -> str:
    """Write a difference of shares with its interval."""
    if np.isnan(gain.value):
        return "-"
    return f"{100 * gain.value:+.1f} points ({100 * gain.lower:+.1f} to {100 * gain.upper:+.1f})"


def _count(of: Interval) -> str:
    return f"{of.value:.2g} ({of.lower:.2g} to {of.upper:.2g})"


def _tokens(count: float) -> str:
    """Write a number of tokens to three digits."""
    return f"{float(f'{count:.2e}'):,.0f} tokens"


def _wrapped(text: str, indent: str = "  ") -> str:
    return textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent)


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    """Align columns to the left, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(f"  {row}".rstrip() for row in padded)


def _plain(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Return values that JSON has: it knows neither NaN nor infinity."""
    bad = {name for name, value in values.items() if isinstance(value, float) and not np.isfinite(value)}
    return {str(name): None if name in bad else value for name, value in values.items()}
