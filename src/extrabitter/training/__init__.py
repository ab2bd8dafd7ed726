"""Training of base models, by demonstration and by reward, on any task; here what all three share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from extrabitter.params import ParameterError
from extrabitter.tasks import Task

IGNORED_LABEL = -100  # of a token that bears no loss


def batches_by_length(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Yield the indices of rows in order of length, as many as fit in `max_tokens` when padded to their longest.

    A row longer than `max_tokens` comes alone.

    >>> list(batches_by_length([3, 9, 1, 4], max_tokens=8))
    [[2, 0], [3], [1]]
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    start = 0
    for stop in range(1, len(order) + 1):
        if stop < len(order) and (stop + 1 - start) * lengths[order[stop]] <= max_tokens:
            continue
        yield order[start:stop]
        start = stop


def check_condition(task: Task, name: str, condition: str) -> None:
    """Raise ParameterError with one line where parameter `name` is no condition of the task."""
    if condition not in task.conditions:
        allowed = ", ".join(task.conditions)
        raise ParameterError(f"{name} = {condition!r}: unknown to {task.name}; must be one of {allowed}")


def check_finite(stage: str, step: int, **values: float) -> None:
    """Raise FloatingPointError with one line where a value is no number: a run that has diverged ends here."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise FloatingPointError(f"{stage}: {name} is {value} at step {step}: diverged; lower learning_rate")
