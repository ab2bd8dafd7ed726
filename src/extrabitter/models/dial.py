"""The dial: a bias on the words that begin a search, inside the forward pass, until the first of them is written.

At minus infinity it is the mask of a silenced base, at 0 the base itself; in between the same weights begin a search as
rarely as one likes, and go on with it as they always do. It belongs to the policy, in training and in tests alike:
whoever samples, trains or reads probabilities off the softmax asks `dial_of`, and so the gradient is that of the biased
policy. The models' own forward pass does not know it; only ours do (`fused`, `rollouts`), which is why a model that
these do not take is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel


class Dial(NamedTuple):
    """Token ids of words that begin a search, (W,), and what is added to their logits until one is written."""

    ids: Tensor
    bias: float

    def has_begun(self, ids: Tensor) -> Tensor:
        """Tell whether a search has begun by each of `ids` (..., T)."""
        return torch.isin(ids, self.ids).cumsum(-1) > 0

    def biased(self, logits: Tensor, begun: Tensor) -> Tensor:
        """Return logits (..., V) with the bias where a search has not begun, (...)."""
        bias = logits.new_zeros(logits.shape[-1]).index_fill(0, self.ids, self.bias)  # (V,)
        return logits + bias * ~begun[..., None]


def turn(model: PreTrainedModel, token_ids: Sequence[int], bias: float) -> None:
    """Set a model's dial; a bias of 0 takes it off."""
    model.search_dial = Dial(torch.tensor(sorted(token_ids)), bias) if bias else None


def dial_of(model: PreTrainedModel) -> Dial | None:
    """Return a model's dial, if it has one."""
    found: Dial | None = getattr(model, "search_dial", None)
    return found
