"""Any causal language model of Hugging Face's format: a folder, or a hub id with its revision.

A folder is read as it is. An id is looked up in the local cache; it is fetched only where the environment sets
HF_HUB_OFFLINE=0, so that a misspelt path never becomes a download. Weights are safetensors or nothing, and a model
that needs code of its own is refused: neither pickles nor code of strangers are run. What was resolved (commit,
dtype, device) comes back as a record.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub import errors, snapshot_download
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from extrabitter.models.dial import turn
from extrabitter.models.fused import is_small
from extrabitter.models.tiny import (
    CheckpointError,
    first_line,
    load_checkpoint,
    read_json,
    read_model,
    word_ids,
)
from extrabitter.params import LanguageParameters
from extrabitter.runs import find_checkpoint, names_hub_model
from extrabitter.tasks import SEARCH, Prompt, load_task

# All that a model and its tokenizer are read from; no pickles, no code.
PATTERNS = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Pretrained(NamedTuple):
    """A model in evaluation mode, its tokenizer (left padding, with a padding token), and what was resolved."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    record: dict[str, Any]


def load_for_stage(parameters: LanguageParameters, reference: str, training: bool = False) -> Pretrained:
    """Load what a stage works on: a checkpoint of our own kind, or for English any causal language model.

    Weights that are trained are float32 whatever `dtype` says: that is then the dtype of the forward pass
    (`trainer_arguments`), because small steps vanish in weights of fewer digits. Raises CheckpointError with one line.
    """
    if parameters.prompt != "grammar":
        dtype = "float32" if training else parameters.dtype
        return load_pretrained(reference, parameters.revision, dtype, parameters.device)
    masked_words = getattr(parameters, "masked_words", "").split()
    model, tokenizer = load_checkpoint(reference, masked_words=masked_words)
    if bias := getattr(parameters, "search_bias", 0.0):
        if not is_small(model):
            raise CheckpointError(
                f"search_bias = {bias}: only for a small Llama or Qwen2 on a CPU; must be 0"
            )
        turn(model, word_ids(tokenizer, load_task(parameters.task).openings[SEARCH].words), bias)
    return Pretrained(model, tokenizer, _record(model, tokenizer, reference))


def trainer_arguments(parameters: LanguageParameters) -> dict[str, Any]:
    """Return what TRL's configurations are told of the machine, the same for SFT and GRPO.

    Weights and optimiser are float32; the forward pass too, unless a larger model asks for less: our own bases never
    do. On a GPU the optimiser is fused: the other one makes a further copy of the weights.
    """
    device, dtype = _device(parameters.device), "float32"
    if parameters.prompt != "grammar":
        dtype = _dtype(parameters.dtype, device)
    optimizer = "adamw_torch" if device == "cpu" else "adamw_torch_fused"
    forward = {"bf16": dtype == "bfloat16", "fp16": dtype == "float16"}
    return {"use_cpu": device == "cpu", "optim": optimizer, **forward}


def encode_prompts(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt]) -> list[list[int]]:
    """Return the token ids of prompts, texts or conversations (`as_read`)."""
    known: dict[str, list[int]] = {}
    for key, prompt in {json.dumps(prompt): prompt for prompt in prompts}.items():  # TRL repeats each
        is_text = isinstance(prompt, str)  # a template writes special tokens itself
        known[key] = list(tokenizer(as_read(tokenizer, prompt), add_special_tokens=is_text)["input_ids"])
    return [known[json.dumps(prompt)] for prompt in prompts]


def as_read(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> str:
    """Return a prompt as the model reads it: a text as it is, a conversation by the tokenizer's chat template.

    The latter ends where the answer begins. Raises CheckpointError where there is no template, or one that fails.
    """
    if isinstance(prompt, str):
        return prompt
    if not tokenizer.chat_template:
        raise CheckpointError("prompt = 'chat': the tokenizer has no chat template; use 'plain'")
    try:
        return str(tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True))
    except Exception as error:  # a template is a program of the model's, and may raise anything
        raise CheckpointError(f"prompt = 'chat': the chat template fails ({first_line(error)})") from error


def end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the ids any of which ends a completion, the one notion of *end*: sampler, step table, SFT, truncation.

    They are the tokenizer's end of text, those that configuration and generation configuration list, and what the
    chat template closes an assistant's turn with, if that is one special token.
    """
    listed: set[int] = {tokenizer.eos_token_id} - {None}
    for config in (model.config, model.generation_config):
        ids = getattr(config, "eos_token_id", None)
        listed.update([ids] if isinstance(ids, int) else ids or ())
    if tokenizer.chat_template:
        listed.update(_turn_end(tokenizer))
    return frozenset(listed)


def _turn_end(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Return the first special token that the chat template writes behind an assistant's words, if any."""
    said = "said"
    turns = [{"role": "user", "content": "asked"}, {"role": "assistant", "content": said}]
    try:
        text = str(tokenizer.apply_chat_template(turns, tokenize=False))
    except Exception:  # as above; such a template closes no turn
        return set()
    behind = tokenizer(text.rpartition(said)[2], add_special_tokens=False)["input_ids"]
    special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    return set([token for token in behind if token in special][:1])


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], end_ids: Collection[int]) -> str:
    """Return the text of a completion: all of its tokens but end and padding, special ones (tags may be) too."""
    dropped = {*end_ids, tokenizer.pad_token_id}
    return str(tokenizer.decode([token for token in ids if token not in dropped], skip_special_tokens=False))


def check_lengths(model: PreTrainedModel, longest: int) -> None:
    """Raise CheckpointError where `longest`, tokens of prompt and cap, is more than the model computes truly.

    For whoever trains or samples to call, once the longest prompt is known: evaluation, probe, GRPO, SFT. Rotations
    of kind dynamic and longrope follow, beyond their original length, the longest row of a batch.
    """
    limit = getattr(model.config, "max_position_embeddings", None) or longest
    what = f"the model's {limit}"
    ropes = getattr(model.config, "rope_parameters", None) or {}
    a_kind_of_layer = [rope for rope in ropes.values() if isinstance(rope, dict)]
    for rope in (ropes, *a_kind_of_layer):
        if rope.get("rope_type") in ("dynamic", "longrope"):
            original = rope.get("original_max_position_embeddings") or limit
            if original <= limit:
                limit, what = original, f"the {original} up to which rope_type {rope['rope_type']} is exact"
    if longest > limit:
        raise CheckpointError(
            f"prompt and completion: {longest} tokens are more than {what}; "
            "lower max_completion_length (SFT: max_length) or few_shot"
        )


def load_pretrained(
    reference: str, revision: str = "", dtype: str = "auto", device: str = "auto"
) -> Pretrained:
    """Load a model by folder, or by hub id and revision (branch, tag or commit; empty: main).

    `dtype` auto is float32 on a CPU, and on a GPU bfloat16 where it has that, else float16. `device` auto is the
    first GPU if there is one. Raises CheckpointError with one line that says what to do.
    """
    chosen_device, commit = _device(device), ""
    chosen_dtype = DTYPES[_dtype(dtype, chosen_device)]
    if names_hub_model(reference):
        folder = _fetch(reference, revision or "main")
        commit = folder.name  # the cache names a snapshot's folder after its commit
    elif revision:
        raise CheckpointError(f"model {reference}: a folder has no revision; leave it empty")
    else:
        folder = find_checkpoint("model", reference)
    if not list(folder.glob("*.safetensors")):
        raise CheckpointError(
            f"model {reference}: no *.safetensors in {folder}; other formats may run code and are not read: "
            "save it again with save_pretrained"
        )
    if "auto_map" in read_json(folder / "config.json"):
        raise CheckpointError(
            f"model {reference}: needs code of its own (auto_map in config.json), which is not run; "
            "use a model that transformers knows"
        )
    model, tokenizer = read_model(folder, f"model {reference}", chosen_dtype)
    if tokenizer.eos_token_id is None:
        raise CheckpointError(f"model {reference}: its tokenizer has no end-of-text token; it must have one")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = model.to(chosen_device)
    record = _record(model, tokenizer, reference) | {"revision": revision, "commit": commit}
    return Pretrained(model, tokenizer, record)


def _record(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, reference: str) -> dict[str, Any]:
    return {
        "reference": reference,
        "revision": "",
        "commit": "",
        "architecture": type(model).__name__,
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": str(model.device),
        "has_chat_template": bool(tokenizer.chat_template),
    }


def _device(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise CheckpointError(f"device = {device!r}: unknown; must be auto, cpu or cuda[:n]") from None
    if kind not in ("cpu", "cuda") or (kind == "cuda" and not torch.cuda.is_available()):
        raise CheckpointError(f"device = {device!r}: not there; must be auto or cpu")
    return device


def _dtype(dtype: str, device: str) -> str:
    if dtype == "auto":
        if device == "cpu":
            return "float32"
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return dtype


def _fetch(hub_id: str, revision: str) -> Path:
    """Return the cached folder of a hub's model, fetched first where the environment allows it."""
    offline = os.environ.get("HF_HUB_OFFLINE", "1").upper() not in ("0", "NO", "OFF", "FALSE")
    try:
        options: dict[str, Any] = {"allow_patterns": list(PATTERNS), "local_files_only": offline}
        return Path(snapshot_download(hub_id, revision=revision, **options))
    except errors.GatedRepoError:
        said = f"gated; accept its terms on https://huggingface.co/{hub_id}, then `hf auth login`"
    except errors.RevisionNotFoundError:
        said = "there is no such revision; give a branch, tag or commit"
    except errors.RepositoryNotFoundError:
        said = "no such model, or a private one; check the name, or log in with `hf auth login`"
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, OSError, ValueError) as error:
        said = f"cannot be fetched ({first_line(error)})"
        if offline:
            get_it = f"hf download {hub_id} --revision {revision}"
            said = f"neither a folder nor in the local cache; run `{get_it}`, or set HF_HUB_OFFLINE=0"
    raise CheckpointError(f"model {hub_id} (revision {revision}): {said}")
