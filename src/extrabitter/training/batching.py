"""Rows of unlike lengths in passes of like ones, so that almost no work goes to padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


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
