"""Priming by TRL's `SFTTrainer`: cross-entropy on the completions of written traces, and on nothing else.

The optimiser, batch order and token accounting are TRL's as they come; the values below are written out because
the comparison of priming conditions rests on them being equal. What is ours is that no work goes to padding: where
one trace in twenty is four times as long as the rest, most of a padded batch is.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import datasets
import pandas as pd
import torch
from transformers import PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

from extrabitter.training.batching import batches_by_length
from extrabitter.params import SftPrimingParameters
from extrabitter.models.hub import trainer_arguments
from extrabitter.tables import validate_table
from extrabitter.seeding import derive_seed
from extrabitter.tasks.wording import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


IGNORED_LABEL = -100
TOKENS_PER_MICRO_BATCH = 2048  # small enough that few rows are padded, large enough to pay for a pass


def build_config(parameters: SftPrimingParameters, output_dir: str) -> SFTConfig:
    """Return TRL's configuration of a run; nothing that bears on a result is left to a default."""
    return SFTConfig(
        output_dir=output_dir,
        # The objective.
        loss_type="nll",
        completion_only_loss=True,  # ours: prompts are given, not to be learnt
        max_length=parameters.max_length,
        packing=False,  # ours: documents do not see each other, positions start at 0 as they do when sampling
        # The optimiser.
        max_steps=parameters.num_steps,
        per_device_train_batch_size=parameters.per_device_train_batch_size,
        gradient_accumulation_steps=1,
        learning_rate=parameters.learning_rate,  # ours, from pilots: 1e-5 of the papers is for 1e9 parameters
        lr_scheduler_type="linear",  # ours: priming ends where it stands, it is not read at several steps
        warmup_steps=0,
        adam_beta1=0.9,  # Source: Adam, arXiv 1412.6980, section 2, as the two below
        adam_beta2=0.999,
        adam_epsilon=1e-8,
        weight_decay=0.0,  # ours, as in GRPO
        max_grad_norm=1.0,  # ours, TRL's default made explicit
        # The machine.
        **trainer_arguments(parameters),  # processor or GPU, precision, and which AdamW
        activation_checkpointing=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=False,
        seed=derive_seed(parameters.seed, "sft_priming", "trainer"),
        # The output: ours, in `LossTable`.
        report_to="none",
        disable_tqdm=True,
        logging_strategy="steps",
        logging_steps=1,
        save_strategy="no",
    )


def prime(
    parameters: SftPrimingParameters,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[Mapping[str, Any]],
) -> pd.DataFrame:
    """Train `model` in place on `documents` (dicts with `prompt` and `completion`); return table `losses`."""
    datasets.disable_progress_bars()
    records = [{"prompt": d["prompt"], "completion": _behind_a_space(d["completion"])} for d in documents]
    table = LossTable()
    with tempfile.TemporaryDirectory() as output_dir, warnings.catch_warnings():
        # TRL reads a name that transformers has deprecated.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
        trainer = TrimmedSFTTrainer(
            model=model,
            args=build_config(parameters, output_dir),
            train_dataset=datasets.Dataset.from_list(records),
            processing_class=tokenizer,
            callbacks=[table],
        )
        trainer.remove_callback(PrinterCallback)
        try:
            trainer.train()
        finally:
            model.__dict__.pop("forward", None)  # TRL's fused head; the model goes on without it
            model.eval()
    return table.dataframe()


def _behind_a_space(completion: Prompt) -> Prompt:
    """Part a text from its prompt, or the last word of the one and the first of the other join; turns stay."""
    return f" {completion}" if isinstance(completion, str) else completion


class TrimmedSFTTrainer(SFTTrainer):
    """`SFTTrainer` with the same gradients, computed on length-sorted micro-batches without common padding."""

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return TRL's loss of the batch; backward has run on all but the last micro-batch when it returns.

        Exact because TRL divides by the batch's number of trained tokens, which each micro-batch is given.
        """
        if return_outputs or not self.model.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if num_items_in_batch is None:
            num_items_in_batch = (inputs["labels"][:, 1:] != IGNORED_LABEL).sum()
        total = torch.zeros((), device=inputs["input_ids"].device)
        loss = total
        for number, micro_batch in enumerate(micro_batches(inputs, TOKENS_PER_MICRO_BATCH)):
            if number:
                self.accelerator.backward(loss)
            loss = super().compute_loss(model, micro_batch, num_items_in_batch=num_items_in_batch)
            total = total + loss.detach()
        return loss + (total - loss.detach())


def micro_batches(inputs: Mapping[str, torch.Tensor], max_tokens: int) -> Iterator[dict[str, torch.Tensor]]:
    """Yield the rows of `inputs` (B, T), padded on the right, in order of length, as many as fit in `max_tokens`."""
    lengths = inputs["attention_mask"].sum(dim=1).tolist()
    for rows in batches_by_length(lengths, max_tokens):
        width = lengths[rows[-1]]
        yield {name: values[rows, :width] for name, values in inputs.items()}


class LossTable(TrainerCallback):
    """Listens to the trainer and keeps a row of table `losses` for each step."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.begun = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self.begun = time.perf_counter()

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any
    ) -> None:
        """Keep what TRL logs of a step."""
        if logs and "loss" in logs:
            row = {key: logs[key] for key in ("loss", "learning_rate", "num_tokens")}
            elapsed = time.perf_counter() - self.begun
            self.rows.append({"step": state.global_step, **row, "elapsed_s": elapsed})

    def dataframe(self) -> pd.DataFrame:
        """Return table `losses`, validated."""
        losses = pd.DataFrame(self.rows).astype({"step": "int64", "num_tokens": "int64"})
        validate_table("losses", losses)
        return losses
