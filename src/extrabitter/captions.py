"""Takeaways of the kinds of figure that several chapters draw: arms in a row, curves over steps, bars.

`takeaways` has those of figures that one chapter draws. Every sentence is written from means over seeds; the intervals
stand in the figure and its table, and a sentence that names a highest and a lowest arm claims no difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from extrabitter.behaviours import BEHAVIOURS
from extrabitter.estimates import of_measure
from extrabitter.estimates import of_pass_at_k as pass_at_k_of
from extrabitter.figure_style import arm_label
from extrabitter.reporting import decimal, number_word, percent, spell

LAST = 0.1  # of a run's steps or tokens: where curves end
NOTHING = "Nothing that this figure shows was run here."
Write = Callable[[float], str]


def _by_measure(measure: str) -> Write:
    """How a measure is written: shares in per cent, the rest as numbers."""
    is_share = measure.startswith(("pass", "frac")) or measure.endswith(("rate", "accuracy", "reward"))
    return percent if is_share else decimal


def _ends(values: Mapping[str, float], write: Write) -> str:
    """Name the highest and the lowest of some values by their labels."""
    known = {label: value for label, value in values.items() if not pd.isna(value)}
    if not known:
        return ""
    high, low = max(known, key=lambda label: known[label]), min(known, key=lambda label: known[label])
    if len(known) == 1 or known[high] == known[low]:
        return f"{write(known[high])} for “{high}”" if len(known) == 1 else f"{write(known[high])} for all"
    return f"highest for “{high}” ({write(known[high])}), lowest for “{low}” ({write(known[low])})"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}." if text else NOTHING


def of_arms(summary: pd.DataFrame, arms: Sequence[str], measure: str) -> str:
    """Say for which arms a measure is highest and lowest, means over seeds."""
    values = {arm_label(arm): of_measure(summary, arm, measure).value for arm in arms}
    return _sentence(_ends(values, _by_measure(measure)))


def of_before_and_after(summary: pd.DataFrame, pairs: Sequence[tuple[str, str]], measure: str) -> str:
    """Say in which model RL moves a measure most and in which least, from where to where."""
    moved = []
    for before, after in pairs:
        start, end = of_measure(summary, before, measure), of_measure(summary, after, measure)
        if start.measured and end.measured:
            moved.append((end.value - start.value, arm_label(after), start.value, end.value))
    write = _by_measure(measure)
    said = [
        f"“{label}” (from {write(start)} to {write(end)})"
        for _, label, start, end in sorted(moved, key=_first)
    ]
    if not said:
        return NOTHING
    if len(said) == 1:
        return f"RL moves {said[0]}."
    return f"RL adds most to {said[-1]}, and least to {said[0]}."


def _first(row: tuple[float, str, float, float]) -> float:
    return row[0]


def of_behaviours(summary: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> str:
    """Name the behaviours and models whose shares RL raises and lowers most."""
    moved = {}
    for before, after in pairs:
        for behaviour in BEHAVIOURS:
            measure = f"frac_with_{behaviour}"
            start, end = of_measure(summary, before, measure), of_measure(summary, after, measure)
            if start.measured and end.measured:
                what = f"{behaviour.replace('_', ' ')} in “{arm_label(after)}”"
                moved[f"{what}, from {percent(start.value)} to {percent(end.value)}"] = (
                    end.value - start.value
                )
    if not moved:
        return NOTHING
    up, down = max(moved, key=lambda what: moved[what]), min(moved, key=lambda what: moved[what])
    said = [f"RL raises most {up}"] if moved[up] > 0 else []
    said += [f"it lowers most {down}" if said else f"RL lowers most {down}"] if moved[down] < 0 else []
    return f"{'; '.join(said)}." if said else "RL moves none of these shares."


def of_pass_at_k(pass_at_k: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> str:
    """Count the models whose mean success RL raises with one sample, and with the most samples that were drawn."""
    own = pass_at_k[pass_at_k["arm"].isin([arm for pair in pairs for arm in pair])]
    largest = int(own["k"].max()) if len(own) else 0
    counts = []
    for k in dict.fromkeys((1, largest)):
        found = [
            (pass_at_k_of(pass_at_k, before, k), pass_at_k_of(pass_at_k, after, k)) for before, after in pairs
        ]
        known = [(start.value, end.value) for start, end in found if start.measured and end.measured]
        if known:
            raised = sum(end > start for start, end in known)
            counts.append(
                f"{number_word(raised) if raised else 'none'} of {spell(len(known), 'model')} with {spell(k, 'sample')}"
            )
    return f"On average RL raises success in {', and in '.join(counts)}." if counts else NOTHING


def _late_means(table: pd.DataFrame, column: str) -> pd.Series:
    """Mean of a column over the last tenth of each run's steps, by arm, means over seeds."""
    late = table[table["step"] > (1 - LAST) * table.groupby(["arm", "seed"])["step"].transform("max")]
    return late.groupby(["arm", "seed"])[column].mean().groupby("arm").mean()


def of_steps(steps: pd.DataFrame, arms: Sequence[str], column: str, what: str) -> str:
    """Say for which arms a column of `steps` ends highest and lowest: the last tenth of steps, means over seeds."""
    means = _late_means(steps[steps["arm"].isin(list(arms))], column)
    said = _ends(
        {arm_label(arm): float(means[arm]) for arm in arms if arm in means.index}, _by_measure(column)
    )
    return f"In the last tenth of steps {what} is {said}." if said else NOTHING


def of_losses(losses: pd.DataFrame) -> str:
    """Say which model's training loss ends lowest and highest: the last tenth of steps, means over seeds."""
    if losses.empty:
        return NOTHING
    means = _late_means(losses, "loss")
    said = _ends({arm_label(str(arm)): float(value) for arm, value in means.items()}, lambda x: decimal(x, 2))
    return f"In the last tenth of steps the loss is {said}."


def of_bars(bars: pd.DataFrame) -> str:
    """Count the bases that clear all of their bars, and name the bar that is missed most often."""
    if bars.empty:
        return NOTHING
    clear = bars.groupby(["arm", "seed"])["passed"].all()
    missed = bars[~bars["passed"].astype(bool)]["bar"].value_counts()
    said = (
        f"{number_word(int(clear.sum())).capitalize()} of {spell(len(clear), 'base')} clear all of their bars"
    )
    if missed.empty:
        return f"{said}."
    return f"{said}; “{missed.index[0]}” is missed most often, by {spell(int(missed.iloc[0]), 'base')}."


def of_doses(rates: pd.DataFrame) -> str:
    """Say by which factor sampled shares stray most from nominal ones, where the latter are not nought.

    `rates` has columns way, nominal and value, one row a base, seed and way of measuring.
    """
    rows = rates[(rates["way"] == "sampled") & (rates["nominal"] > 0) & (rates["value"] > 0)]
    if rows.empty:
        return NOTHING
    factors = rows["value"] / rows["nominal"]
    strays = float(factors.where(factors >= 1, 1 / factors).max())
    return (
        f"Of {spell(len(rows), 'base')} whose documents search without a cue and that were seen to search, the sampled "
        f"share is at most {decimal(strays, 1)} times the nominal one, or as much smaller."
    )
