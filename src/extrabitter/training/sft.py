"""Priming by TRL's `SFTTrainer`: cross-entropy on the completions of written traces, and on nothing else.

The optimiser and token accounting are TRL's as they come; the values below are written out because the comparison of
priming conditions rests on them being equal. Ours is what is trained on: demonstrations are tokenised here, behind
the very ids that the sampler is given and up to an id that ends a completion for it, none of them cut; their order
is laid out beforehand, so that conditions can be given equal tokens; and no work goes to padding.
"""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import datasets
import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback
from trl import SFTConfig, SFTTrainer

from extrabitter.models.hub import check_lengths, encode_prompts, end_ids
from extrabitter.params import SftPrimingParameters
from extrabitter.seeding import derive_seed
from extrabitter.tables import validate_table
from extrabitter.tasks import Prompt, band_of, load_task, one_of
from extrabitter.tasks.free_text import choose_wording
from extrabitter.training import trainers

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
    one_of("condition", parameters.condition, task.conditions)
    seed, band = derive_seed(parameters.seed, "priming"), band_of(task, parameters.band)
    shown = []
    for index, problem in enumerate(task.problems("train", parameters.num_documents, seed, band)):
        rng = random.Random(derive_seed(seed, "trace", index))
        script = task.write_trace(problem, parameters.condition, rng, parameters.solution_probability)
        shown.append(Demonstration(wording.prompt(problem), wording.demonstration(script, problem)))
    return shown


def documents_table(condition: str, shown: Sequence[Demonstration]) -> pd.DataFrame:
    """Return table `documents` (prompt, completion, kind), the condition's name as kind; turns are joined."""
    texts = [
        [said if isinstance(said, str) else "\n".join(turn["content"] for turn in said) for said in each]
        for each in shown
    ]
    return pd.DataFrame(texts, columns=["prompt", "completion"], dtype=str).assign(kind=condition)


def encode(
    shown: Sequence[Demonstration], tokenizer: PreTrainedTokenizerBase, ends: Collection[int], max_length: int
) -> list[dict[str, list[int]]]:
    """Return rows for TRL, `input_ids` and `labels`, a demonstration each, whole and ended.

    ValueError with one line where a demonstration does not go on from the ids that the sampler would be given, does
    not end in one of `ends`, or is longer than `max_length`.
    """
    rows = []
    asked = encode_prompts(tokenizer, [each.prompt for each in shown])
    for given, (prompt, completion) in zip(asked, shown, strict=True):
        if isinstance(prompt, str) and isinstance(completion, str):
            # Parted by a space, or the last word of the one and the first of the other join.
            ids = [*tokenizer(f"{prompt} {completion.lstrip()}")["input_ids"], tokenizer.eos_token_id]
        else:
            text = tokenizer.apply_chat_template([*prompt, *completion], tokenize=False)
            ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
        if ids[: len(given)] != given:
            raise ValueError(
                "demonstrations: the chat template writes an answer otherwise than it asks for one, which ends in "
                f"{tokenizer.decode(given[-8:])!r}; a model primed on it would be asked another question"
            )
        answer = ids[len(given) :]
        end = next((place for place, token in enumerate(answer) if token in ends), None)
        if end is None:
            raise ValueError(
                "demonstrations: the chat template ends an answer with no id at which sampling stops; "
                "a model primed on it would never end"
            )
        answer = answer[: end + 1]  # a template may go on behind the end of a turn
        rows.append({"input_ids": given + answer, "labels": [trainers.IGNORED_LABEL] * len(given) + answer})
    lengths = [len(row["input_ids"]) for row in rows]
    if too_long := sum(length > max_length for length in lengths):
        raise ValueError(
            f"max_length = {max_length}: {too_long} of {len(rows)} demonstrations are longer (the longest has "
            f"{max(lengths)} tokens) and would be cut; raise it"
        )
    return rows


def lay_out(lengths: Sequence[int], parameters: SftPrimingParameters) -> list[int]:
    """Return which demonstrations are trained on, in order: shuffled anew each time round, until the budget is used.

    The budget is `num_tokens` where it is given, so that conditions of unlike length are taught as many tokens, and
    else `num_steps` full batches. `lengths` are those of the demonstrations, in tokens.
    """
    rng = random.Random(derive_seed(parameters.seed, "sft_priming", "order"))
    budget = parameters.num_tokens or parameters.num_steps * parameters.per_device_train_batch_size
    chosen: list[int] = []
    while budget > 0:
        if not len(chosen) % len(lengths):
            order = rng.sample(range(len(lengths)), len(lengths))
        chosen.append(order[len(chosen) % len(lengths)])
        budget -= lengths[chosen[-1]] if parameters.num_tokens else 1
    return chosen


def build_config(parameters: SftPrimingParameters, num_steps: int, output_dir: str) -> SFTConfig:
    """Return TRL's configuration of a run; nothing that bears on a result is left to a default."""
    return SFTConfig(
        output_dir=output_dir,
        loss_type="nll",
        max_length=None,  # ours: a demonstration that is too long is refused, not cut
        packing=False,  # ours: documents do not see each other, positions start at 0 as they do when sampling
        shuffle_dataset=False,
        train_sampling_strategy="sequential",  # ours: `lay_out` is the order
        max_steps=num_steps,
        per_device_train_batch_size=parameters.per_device_train_batch_size,
        gradient_accumulation_steps=1,
        learning_rate=parameters.learning_rate,  # ours, from pilots: 1e-5 of the papers is for 1e9 parameters
        lr_scheduler_type="linear",  # ours: priming ends where it stands, it is not read at several steps
        activation_checkpointing=False,
        **trainers.common_arguments(parameters),
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
    with trainers.lent_to_trl(model, tokenizer, ends) as output_dir:
        trainer = TrimmedSFTTrainer(
            model=model,
            args=build_config(parameters, num_steps, output_dir),
            train_dataset=datasets.Dataset.from_list([rows[index] for index in order]),
            processing_class=tokenizer,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    losses = pd.DataFrame(trainer.losses).astype({"step": "int64", "num_tokens": "int64"})
    validate_table("losses", losses)
    return losses


class TrimmedSFTTrainer(SFTTrainer):
    """`SFTTrainer` with the same gradients, computed on length-sorted micro-batches without common padding."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.losses: list[dict[str, float]] = []
        self.begun = time.perf_counter()

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return TRL's loss of the batch; backward has run on all but the last micro-batch when it returns.

        `inputs` (B, T) are padded on the right. Exact because TRL divides by the batch's number of trained tokens,
        which each micro-batch is given.
        """
        if num_items_in_batch is None:
            num_items_in_batch = (inputs["labels"][:, 1:] != trainers.IGNORED_LABEL).sum()
        lengths, loss_of = inputs["attention_mask"].sum(dim=1).tolist(), super().compute_loss

        def part_loss(rows: list[int]) -> torch.Tensor:
            part = {name: values[rows, : lengths[rows[-1]]] for name, values in inputs.items()}
            return loss_of(model, part, num_items_in_batch=num_items_in_batch)

        parts = trainers.batches_by_length(lengths, TOKENS_PER_MICRO_BATCH)
        return trainers.in_parts(self.accelerator, parts, part_loss)

    def log(self, logs: dict[str, float], *args: Any) -> None:
        """Keep a row of table `losses` of what TRL logs of a step."""
        super().log(logs, *args)
        if "loss" in logs:
            found = self.state.log_history[-1]
            step, values = found["step"], {name: found[name] for name in ("loss", "grad_norm")}
            trainers.check_finite("sft_priming", step, **values)
            row = {name: found[name] for name in ("step", "loss", "learning_rate", "num_tokens")}
            self.losses.append(row | {"elapsed_s": time.perf_counter() - self.begun})
