"""Demonstrations for SFT priming: which behaviours a condition shows, and its matched controls.

The conditions follow Gandhi et al. (arXiv 2503.01307), Countdown. What differs: the traces are written by a
program, not by a language model, so that a behaviour is there or not by construction; attempts of all
conditions come from one proposal distribution, so that conditions differ in what is done with a guess and not
in how good it is; and *direct* and *cosmetic* are added as controls.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from extrabitter.seeding import derive_seed
from extrabitter.tasks.countdown import (
    Problem,
    Trace,
    TraceCondition,
    generate_problems,
    render_prompt,
    render_trace,
    write_trace,
)


@dataclass(frozen=True)
class PrimingCondition:
    """How a condition's traces are written.

    With `matched_length` each document gets filler words in front until it is as long as the document that
    the condition of that name writes for the same problem. With `switched` each document shows each of the
    condition's behaviours by a coin of its own, so that a primed model has all of them in part, and RL may choose.
    """

    trace: TraceCondition
    matched_length: str = ""
    switched: bool = False


# Its attempts are longer, so that fewer of them fit under the cap.
_ALL_BEHAVIOURS = TraceCondition(
    verification=True, backtracking=True, subgoal_setting=True, backward_chaining=True, max_attempts=8
)
_SEARCH = TraceCondition(verification=True, backtracking=True)

CONDITIONS: dict[str, PrimingCondition] = {
    "direct": PrimingCondition(TraceCondition()),
    "filler": PrimingCondition(TraceCondition(), matched_length="all_behaviours"),
    "verification": PrimingCondition(TraceCondition(verification=True)),
    "backtracking": PrimingCondition(TraceCondition(backtracking=True)),
    "verification_backtracking": PrimingCondition(_SEARCH),
    "all_behaviours": PrimingCondition(_ALL_BEHAVIOURS),
    # Every submitted answer is wrong and every verdict true: the search fails, and says so.
    "incorrect": PrimingCondition(replace(_ALL_BEHAVIOURS, ending="wrong")),
    # The same answers, but a search that would have ended in a hit still says yes: wrong, and taken for right.
    "incorrect_accepted": PrimingCondition(replace(_ALL_BEHAVIOURS, ending="wrong", keeps_verdict=True)),
    # The words of verification_backtracking, with a coin for a judge.
    "cosmetic": PrimingCondition(replace(_SEARCH, verdicts="random")),
    # Every behaviour in half the documents, with true verdicts and with a coin for a judge.
    "mixed": PrimingCondition(_ALL_BEHAVIOURS, switched=True),
    "mixed_cosmetic": PrimingCondition(replace(_ALL_BEHAVIOURS, verdicts="random"), switched=True),
    "subgoal_setting": PrimingCondition(TraceCondition(subgoal_setting=True)),
    "backward_chaining": PrimingCondition(TraceCondition(backward_chaining=True)),
}


# What worked examples in a prompt can show: solved traces, one a problem, as they are written in English too.
EXAMPLE_CONDITIONS = tuple(
    name
    for name, shown in CONDITIONS.items()
    if not shown.switched and not shown.matched_length and shown.trace.ending != "wrong"
)


def priming_traces(
    condition: str, count: int, seed: int, num_numbers: int = 3, solution_probability: float = 0.45
) -> list[tuple[Problem, Trace]]:
    """Return `count` worked training problems as a condition shows them, in no words yet.

    The same seed gives every condition the same problems in the same order. `solution_probability` is that of the
    base's own documents, or priming would also teach to guess better. ValueError names the conditions there are.
    """
    chosen = _condition(condition)
    problems = generate_problems("train", count, seed, num_numbers)
    return [
        (problem, _write(problem, chosen, solution_probability, derive_seed(seed, "trace", index)))
        for index, problem in enumerate(problems)
    ]


def priming_documents(
    condition: str, count: int, seed: int, num_numbers: int = 3, solution_probability: float = 0.45
) -> list[dict[str, Any]]:
    """Return `priming_traces` in the grammar: dicts of prompt, completion, numbers and target."""
    return [
        {
            "prompt": render_prompt(problem),
            "completion": render_trace(trace, problem),
            "numbers": list(problem.numbers),
            "target": problem.target,
        }
        for problem, trace in priming_traces(condition, count, seed, num_numbers, solution_probability)
    ]


def documents_table(condition: str, documents: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return table `documents` (prompt, completion, kind), the condition's name as kind; turns are joined."""
    return pd.DataFrame(
        {
            "prompt": [_as_text(document["prompt"]) for document in documents],
            "completion": [_as_text(document["completion"]) for document in documents],
            "kind": condition,
        }
    )


def _as_text(said: str | list[dict[str, str]]) -> str:
    return said if isinstance(said, str) else "\n".join(turn["content"] for turn in said)


def _condition(name: str) -> PrimingCondition:
    if name not in CONDITIONS:
        raise ValueError(f"condition: unknown {name!r}; must be one of {', '.join(CONDITIONS)}")
    return CONDITIONS[name]


def _write(problem: Problem, condition: PrimingCondition, solution_probability: float, seed: int) -> Trace:
    written = replace(condition.trace, solution_probability=solution_probability)
    if condition.switched:
        coins = random.Random(derive_seed(seed, "switches"))
        verification, backtracking, subgoal_setting, backward_chaining = (
            coins.random() < 0.5 for _ in range(4)
        )
        written = replace(
            written,
            verification=verification,
            backtracking=backtracking,
            subgoal_setting=subgoal_setting,
            backward_chaining=backward_chaining,
        )
    trace = write_trace(problem, written, random.Random(seed))
    if not condition.matched_length:
        return trace
    pattern = _write(problem, CONDITIONS[condition.matched_length], solution_probability, seed)
    return replace(trace, num_filler=max(0, _num_words(pattern, problem) - _num_words(trace, problem)))


def _num_words(trace: Trace, problem: Problem) -> int:
    """Return a trace's length in the grammar."""
    return len(render_trace(trace, problem).split())
