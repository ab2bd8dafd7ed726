"""What trainings share: batches and their checks; of TRL's, what they are told and how they have a model."""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from extrabitter.models.hub import trainer_arguments
from extrabitter.params import LanguageParameters
from extrabitter.seeding import derive_seed

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
            said = f"{name} is {value} at step {step}: diverged; lower learning_rate"
            raise FloatingPointError(f"{stage}: {said}")


def common_arguments(parameters: LanguageParameters) -> dict[str, Any]:
    """Return what TRL's configurations of SFT and GRPO are told alike: optimiser, machine, output."""
    return {
        "adam_beta1": 0.9,  # Source: Adam, arXiv 1412.6980, section 2, as the two below
        "adam_beta2": 0.999,
        "adam_epsilon": 1e-8,
        "weight_decay": 0.0,  # ours: nothing but the reward, or the demonstrations, moves the weights
        "max_grad_norm": 1.0,  # ours, TRL's default made explicit
        "warmup_steps": 0,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": False,
        "seed": derive_seed(parameters.seed, parameters.stage, "trainer"),
        "report_to": "none",  # ours is the output
        "disable_tqdm": True,
        "logging_strategy": "steps",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # a loss that is no number stops the run
        "save_strategy": "no",
        **trainer_arguments(parameters),  # processor or GPU, precision, and which AdamW
    }


@contextmanager
def lent_to_trl(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, ends: Collection[int]
) -> Iterator[str]:
    """Let a trainer of TRL have `model`, with a folder for its output; its generation ends with `ends` meanwhile.

    TRL samples with the settings that a checkpoint brings along, and writes its tokenizer's ids over those of the
    configuration. Afterwards both configurations are as they were, and the model is in evaluation mode.
    """
    names = ("eos_token_id", "bos_token_id", "pad_token_id")
    settings, ids = model.generation_config, {name: getattr(model.config, name, None) for name in names}
    model.generation_config = GenerationConfig(
        eos_token_id=sorted(ends), bos_token_id=tokenizer.bos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    with tempfile.TemporaryDirectory() as output_dir, warnings.catch_warnings():
        # A deprecated name that TRL uses.
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*")
        try:
            yield output_dir
        finally:
            model.generation_config = settings
            for name, value in ids.items():
                setattr(model.config, name, value)
            model.__dict__.pop("forward", None)  # TRL's fused head; the model goes on without it
            model.eval()


def in_parts(accelerator: Any, parts: Iterable[Any], loss_of: Callable[[Any], Tensor]) -> Tensor:
    """Return the sum of the losses of a batch's parts; backward has run on all but the last when it returns."""
    loss = total = None
    for part in parts:
        if loss is not None:
            accelerator.backward(loss)
        loss = loss_of(part)
        total = loss.detach() if total is None else total + loss.detach()
    assert loss is not None and total is not None  # a batch has a row
    return loss + (total - loss.detach())
