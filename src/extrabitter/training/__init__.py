"""Training of base models, by demonstration and by reward, on any task; here what all of it shares."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

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


def check_finite(stage: str, step: int, **values: float) -> None:
    """Raise FloatingPointError with one line where a value is no number: a run that has diverged ends here."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise FloatingPointError(
                f"{stage}: {name} is {value} at step {step}: training has diverged; lower learning_rate"
            )


@contextmanager
def lent_to_trl(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, ends: Collection[int]
) -> Iterator[None]:
    """Let a trainer of TRL have `model`, whose generation ends with `ends` meanwhile and knows no other setting.

    TRL samples with the settings that a checkpoint brings along, and writes its tokenizer's ids over those of the
    configuration. Afterwards both configurations are as they were, and the model is in evaluation mode.
    """
    from transformers import GenerationConfig

    names = ("eos_token_id", "bos_token_id", "pad_token_id")
    settings, ids = model.generation_config, {name: getattr(model.config, name, None) for name in names}
    model.generation_config = GenerationConfig(
        eos_token_id=sorted(ends), bos_token_id=tokenizer.bos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    try:
        yield
    finally:
        model.generation_config = settings
        for name, value in ids.items():
            setattr(model.config, name, value)
        model.__dict__.pop("forward", None)  # TRL's fused head; the model goes on without it
        model.eval()
