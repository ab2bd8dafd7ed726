"""Independent shares of one job at the same time, each on one core.

Two cores that share every product of a few dozen rows wait for each other more than they multiply. Given a share of
the rows each, they do not: PyTorch lets go of Python's lock inside its operations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")
Work = Callable[[Sequence[Item], torch.Generator | None], Result]


def side_by_side(
    work: Work[Item, Result], items: Sequence[Item], shares: int, generator: torch.Generator | None
) -> list[Result]:
    """Do `work` on up to `shares` runs of consecutive items, each with a generator of its own; results in order.

    The same `generator` state and number of shares give the same results, whichever share ends first. With one share
    `generator` itself is used.
    """
    if shares <= 1:
        return [work(items, generator)]
    size = -(-len(items) // shares)
    parts = [items[start : start + size] for start in range(0, len(items), size)]
    seeds = torch.randint(2**62, (len(parts),), generator=generator).tolist()
    threads = torch.get_num_threads()

    def on_one_core(part: Sequence[Item], seed: int) -> Result:
        torch.set_num_threads(1)  # for operations begun by this thread
        return work(part, torch.Generator().manual_seed(seed))

    try:
        with ThreadPoolExecutor(len(parts)) as pool:
            return list(pool.map(on_one_core, parts, seeds))
    finally:
        torch.set_num_threads(threads)
