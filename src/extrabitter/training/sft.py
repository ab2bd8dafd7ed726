"""Priming by TRL's `SFTTrainer`: cross-entropy on the completions of written traces, and on nothing else.

The optimiser and token accounting are TRL's as they come; the values below are written out because the comparison of
priming conditions rests on them being equal. Ours is what is trained on: demonstrations are tokenised here, behind
the very ids that the sampler is given and up to an id that ends a completion for it, none of them cut; their order
is laid out beforehand, so that conditions can be given equal tokens; and no work goes to padding.
"""

from __future__ import annotations

import random
import tempfile
import time
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import datasets
import pandas as pd
import torch
from transformers import PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

from extrabitter.models.hub import check_lengths, encode_prompts, end_ids, trainer_arguments
from extrabitter.params import ParameterError, SftPrimingParameters
from extrabitter.seeding import derive_seed
from extrabitter.tables import validate_table
from extrabitter.tasks import Prompt, band_of, load_task
from extrabitter.tasks.wording import choose_wording
from extrabitter.training import IGNORED_LABEL, batches_by_length, check_finite, lent_to_trl

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TOKENS_PER_MICRO_BATCH = 2048  # small enough that few rows are padded, large enough to pay for a pass


class Demonstration(NamedTuple):
    """A worked training problem: what the model is asked, and what it is to say."""

    prompt: Prompt
    completion: Prompt


def demonstrations(parameters: SftPrimingParameters) -> list[Demonstration]:
    """Write the priming set of a condition, in the words that the model is spoken to.

    The seed leaves the condition out: all conditions of a seed demonstrate on the same problems. ParameterError
    names the conditions there are.
    """
    task = load_task(parameters.task)
    wording = choose_wording(task, parameters)
    if parameters.condition not in task.conditions:
        raise ParameterError(
            f"condition = {parameters.condition!r}: {task.name} has none of this name; must be one of "
            f"{', '.join(task.conditions)}"
        )
    seed, band = derive_seed(parameters.seed, "priming"), band_of(task, parameters.band)
    shown = []
    for index, problem in enumerate(task.problems("train", parameters.num_documents, seed, band)):
        rng = random.Random(derive_seed(seed, "trace", index))
        script = task.write_trace(problem, parameters.condition, rng, parameters.solution_probability)
        shown.append(Demonstration(wording.prompt(problem), wording.demonstration(script, problem)))
    return shown


def documents_table(condition: str, shown: Sequence[Demonstration]) -> pd.DataFrame:
    """Return table `documents` (prompt, completion, kind), the condition's name as kind; turns are joined."""
    rows = [(_as_text(prompt), _as_text(completion), condition) for prompt, completion in shown]
    return pd.DataFrame(rows, columns=["prompt", "completion", "kind"])


def _as_text(said: Prompt) -> str:
    return said if isinstance(said, str) else "\n".join(turn["content"] for turn in said)


def encode(
    shown: Sequence[Demonstration], tokenizer: PreTrainedTokenizerBase, ends: Collection[int], max_length: int
) -> list[dict[str, list[int]]]:
    """Return rows for TRL, `input_ids` and `labels`, a demonstration each, whole and ended.

    ValueError with one line where a demonstration is not continued from the ids that the sampler would be given, is
    not ended by an id at which it stops, or is longer than `max_length`.
    """
    rows = []
    for prompt_ids, demonstration in zip(encode_prompts(tokenizer, [d.prompt for d in shown]), shown, strict=True):
        ids = _whole_ids(demonstration, tokenizer, ends)
        if ids[: len(prompt_ids)] != prompt_ids:
            raise ValueError(
                "demonstrations: a written answer does not go on where the model is asked to answer, but at "
                f"{tokenizer.decode(prompt_ids[_common(ids, prompt_ids) :])!r}: the chat template opens it otherwise"
            )
        if ids[-1] not in ends:
            raise ValueError(
                "demonstrations: the chat template ends no turn with an id at which sampling stops; "
                "a model primed on it would never end"
            )
        labels = [IGNORED_LABEL] * len(prompt_ids) + ids[len(prompt_ids) :]
        rows.append({"input_ids": ids, "labels": labels})
    lengths = [len(row["input_ids"]) for row in rows]
    if too_long := sum(length > max_length for length in lengths):
        raise ValueError(
            f"max_length = {max_length}: {too_long} of {len(rows)} demonstrations are longer (the longest has "
            f"{max(lengths)} tokens) and would be cut; raise it"
        )
    return rows


def _whole_ids(
    demonstration: Demonstration, tokenizer: PreTrainedTokenizerBase, ends: Collection[int]
) -> list[int]:
    """Return the token ids of prompt and completion; what a template writes behind the end of the turn is left."""
    prompt, completion = demonstration
    if isinstance(prompt, str):  # parted by a space, or the last word of the one and the first of the other join
        return [*tokenizer(f"{prompt} {completion}")["input_ids"], tokenizer.eos_token_id]
    text = tokenizer.apply_chat_template([*prompt, *completion], tokenize=False)
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    last = max((place for place, token in enumerate(ids) if token in ends), default=-1)
    return ids[: last + 1] if last >= 0 else ids


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """Return how many ids two sequences begin with alike."""
    return next((n for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), len(second))


def lay_out(lengths: Sequence[int], parameters: SftPrimingParameters) -> list[int]:
    """Return which demonstrations are trained on, in order: shuffled anew each time round, until the budget is used.

    The budget is `num_tokens` where it is given, so that conditions of unlike length are taught as many tokens, and
    else `num_steps` full batches. `lengths` are those of the demonstrations, in tokens.
    """
    rng = random.Random(derive_seed(parameters.seed, "sft_priming", "order"))
    left = parameters.num_tokens or parameters.num_steps * parameters.per_device_train_batch_size
    chosen: list[int] = []
    while True:
        order = list(range(len(lengths)))
        rng.shuffle(order)
        for index in order:
            chosen.append(index)
            left -= lengths[index] if parameters.num_tokens else 1
            if left <= 0:
                return chosen


def build_config(parameters: SftPrimingParameters, num_steps: int, output_dir: str) -> SFTConfig:
    """Return TRL's configuration of a run; nothing that bears on a result is left to a default."""
    return SFTConfig(
        output_dir=output_dir,
        # The objective.
        loss_type="nll",
        max_length=None,  # ours: a demonstration that is too long is refused, not cut
        packing=False,  # ours: documents do not see each other, positions start at 0 as they do when sampling
        shuffle_dataset=False,
        train_sampling_strategy="sequential",  # ours: `lay_out` is the order
        # The optimiser.
        max_steps=num_steps,
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
        logging_nan_inf_filter=False,  # a loss that is no number stops the run
        save_strategy="no",
    )


def prime(
    parameters: SftPrimingParameters,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    shown: Sequence[Demonstration],
) -> pd.DataFrame:
    """Train `model` in place on demonstrations; return table `losses`. Raises what `encode` refuses."""
    datasets.disable_progress_bars()
    ends = end_ids(model, tokenizer)
    rows = encode(shown, tokenizer, ends, parameters.max_length)
    check_lengths(model, max(len(row["input_ids"]) for row in rows))
    order = lay_out([len(row["input_ids"]) for row in rows], parameters)
    num_steps = -(-len(order) // parameters.per_device_train_batch_size)
    table = LossTable()
    with tempfile.TemporaryDirectory() as output_dir, warnings.catch_warnings():
        # TRL reads a name that transformers has deprecated.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
        with lent_to_trl(model, tokenizer, ends):
            trainer = TrimmedSFTTrainer(
                model=model,
                args=build_config(parameters, num_steps, output_dir),
                train_dataset=datasets.Dataset.from_list([rows[index] for index in order]),
                processing_class=tokenizer,
                callbacks=[table],
            )
            trainer.remove_callback(PrinterCallback)
            trainer.train()
    return table.dataframe()


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
            check_finite("sft_priming", state.global_step, loss=logs["loss"], grad_norm=logs["grad_norm"])
            row = {key: logs[key] for key in ("loss", "learning_rate", "num_tokens")}
            elapsed = time.perf_counter() - self.begun
            self.rows.append({"step": state.global_step, **row, "elapsed_s": elapsed})

    def dataframe(self) -> pd.DataFrame:
        """Return table `losses`, validated."""
        losses = pd.DataFrame(self.rows).astype({"step": "int64", "num_tokens": "int64"})
        validate_table("losses", losses)
        return losses
