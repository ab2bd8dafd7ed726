"""Shares of a job on a core each: in order, reproducible, and nothing is left behind, not even by an error."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
import torch

from extrabitter.models.rollouts import side_by_side


def _numbers(items: Sequence[int], generator: torch.Generator | None) -> tuple[list[int], float, int]:
    if items[0] == 0:
        time.sleep(0.05)  # the first share ends last
    return list(items), torch.rand((), generator=generator).item(), torch.get_num_threads()


def test_results_are_in_order_and_follow_the_seed_alone() -> None:
    first, same, other = (
        side_by_side(_numbers, range(10), 3, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert [items for items, _, _ in first] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert first == same and first != other
    assert len({drawn for _, drawn, _ in first}) == 3


def test_each_share_has_one_core_and_the_caller_its_own_number_again() -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert [cores for _, _, cores in side_by_side(_numbers, range(4), 2, None)] == [1, 1]
        assert torch.get_num_threads() == 2
        with pytest.raises(ZeroDivisionError):
            side_by_side(lambda items, generator: 1 / 0, range(4), 2, None)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_one_share_draws_from_the_generator_itself() -> None:
    generator, same = (torch.Generator().manual_seed(5) for _ in range(2))
    ((items, drawn, _),) = side_by_side(_numbers, [1, 2], 1, generator)
    assert items == [1, 2] and drawn == torch.rand((), generator=same).item()
