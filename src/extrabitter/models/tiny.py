"""Tiny language models: building, saving, loading, masking.

A base model here is a Llama or Qwen2 of less than a million parameters over a word-level vocabulary, so that
everything downstream (TRL, `generate`, checkpoints) treats it like any other Hugging Face model. Whatever is
loaded, also by `hub`, goes through `read_model`, which compares weights, configuration and vocabulary.
"""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.models.auto import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from extrabitter.models.dial import dial_of
from extrabitter.runs import ArtifactError, find_checkpoint, write_checksums
from extrabitter.tasks import SPECIAL_WORDS

PAD, BOS, EOS, UNKNOWN = SPECIAL_WORDS
MAX_POSITIONS = 1024
ROWS_PER_FORWARD = 256
# Finite on purpose: with -inf the entropy of a masked token is 0 * inf = NaN. In float32 exp(-1e9) is 0.
MASKED_LOGIT = -1e9
NOT_FINITE = "the model's logits are not finite: its weights are damaged, or training has diverged"
CheckpointError = ArtifactError  # a model cannot be had as it is asked for, or is not sound; one line
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # of malloc.h


def set_up_process(threads: int) -> None:
    """Give this process `threads` CPU threads, and let it keep the memory that it frees.

    Runs are bit-identical only at the same number of threads.
    """
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Let freed memory stay with this process, where the C library can: PyTorch asks for as much again at once.

    Given back to the system, it would be handed out page by page, each page cleared. Costs a larger peak. To be called
    before other threads are begun: they then share one heap, since one of their own holds no large block.
    Source: mallopt(3).
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)  # never
        mallopt(M_ARENA_MAX, 1)


def build_tokenizer(vocabulary: Sequence[str]) -> PreTrainedTokenizerFast:
    """Build a word-level tokenizer: split at whitespace, `<bos>` in front, `<unk>` for unknown words.

    The vocabulary begins with `<pad> <bos> <eos> <unk>`; token ids are positions in it.
    """
    ids = {word: index for index, word in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    begin = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, ids[BOS])])
    tokenizer.post_processor = begin
    special = {"pad_token": PAD, "bos_token": BOS, "eos_token": EOS, "unk_token": UNKNOWN}
    options = {"padding_side": "left", "model_max_length": MAX_POSITIONS, **special}
    # Cleaned up, "16 , 16" would be decoded as "16, 16".
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **options)


def build_model(
    architecture: str,
    vocab_size: int,
    hidden_size: int,
    num_hidden_layers: int,
    num_attention_heads: int,
    intermediate_size: int,
    seed: int,
    num_key_value_heads: int = 1,
) -> PreTrainedModel:
    """Build a random float32 causal LM with tied embeddings; `architecture` is "llama" or "qwen2".

    Which sizes fit together is a rule of `BaseModelParameters`.
    """
    sizes = {"vocab_size": vocab_size, "hidden_size": hidden_size, "intermediate_size": intermediate_size}
    sizes |= {"num_hidden_layers": num_hidden_layers, "max_position_embeddings": MAX_POSITIONS}
    sizes |= {"num_attention_heads": num_attention_heads, "num_key_value_heads": num_key_value_heads}
    special = {f"{word.strip('<>')}_token_id": SPECIAL_WORDS.index(word) for word in (PAD, BOS, EOS)}
    options = {**sizes, **special, "tie_word_embeddings": True, "dtype": torch.float32}
    config = AutoConfig.for_model(architecture, **options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config).eval()


def mask_tokens(model: PreTrainedModel, token_ids: Iterable[int]) -> None:
    """Make `token_ids` impossible by a bias on the output head, inside the forward pass.

    Every reader of the head sees the mask: `generate`, our rollouts, TRL's fused log-probabilities, which
    take `lm_head.weight` and `lm_head.bias` and pass by any hook on the module. The gradient is therefore
    that of the masked policy. The bias is a buffer that no checkpoint holds; an empty `token_ids` removes it.
    """
    head = model.get_output_embeddings()
    ids = sorted(set(token_ids))
    del head.bias
    if not ids:
        head.register_parameter("bias", None)
        return
    bias = torch.zeros(head.weight.shape[0], dtype=head.weight.dtype, device=head.weight.device)  # (V,)
    bias[ids] = MASKED_LOGIT
    head.register_buffer("bias", bias, persistent=False)


def masked_token_ids(model: PreTrainedModel) -> list[int]:
    """Return the token ids that `mask_tokens` has made impossible."""
    bias = model.get_output_embeddings().bias
    return [] if bias is None else (bias == MASKED_LOGIT).nonzero()[:, 0].tolist()


def round_to_float16(model: PreTrainedModel) -> None:
    """Round each weight to the nearest float16 in place; it stays float32, so that all goes on as before.

    The last step of making a base, before it is measured: what `save_checkpoint` then writes in half the bytes is
    the model that was measured. Raises CheckpointError where a weight is too large.
    """
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.half().float()
        if not parameter.data.isfinite().all():
            raise CheckpointError(f"weights {name}: not finite in float16")


def save_checkpoint(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: str | Path, float16: bool = False
) -> None:
    """Write weights (safetensors), configuration, tokenizer and their SHA-256 sums to `folder`.

    `float16` rounds the weights and writes them in that dtype. The configuration says float32 all the same: that is
    what they are read as, here and by the lines of a model card. Raises CheckpointError where the system does not let
    it be written.
    """
    folder = Path(folder)
    logging.disable_progress_bar()
    if float16:
        round_to_float16(model)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(folder)
        if float16:
            path = folder / "model.safetensors"
            halves = {name: values.half() for name, values in load_file(path).items()}
            save_file(halves, path, {"format": "pt"})
        tokenizer.save_pretrained(folder)
        write_checksums(folder)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"checkpoint {folder}: cannot be written ({first_line(error)})") from None


def load_checkpoint(
    folder: str | Path, masked_words: Iterable[str] = ()
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model (float32, evaluation mode) and its tokenizer, verifying the hashes that the folder has.

    Raises `CheckpointError` with one line when the folder is missing, incomplete or corrupted, or when a
    masked word is not one word of its vocabulary.
    """
    found = find_checkpoint("checkpoint", str(folder))
    model, tokenizer = read_model(found, f"checkpoint {folder}", torch.float32)
    mask_tokens(model, word_ids(tokenizer, masked_words))
    return model, tokenizer


def read_model(
    folder: Path, name: str, dtype: torch.dtype
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Read a causal language model (evaluation mode) and its tokenizer (left padding) from a folder, and check both.

    Only safetensors are read, and no code that a model brings. Raises CheckpointError with one line, which begins
    with `name`: for what cannot be loaded, weights that are missing, left over or not finite, and a tokenizer with
    ids beyond the embedding.
    """
    logging.disable_progress_bar()
    level = logging.get_verbosity()
    logging.set_verbosity_error()  # it reports on weights that are missing or left over; here that is one line
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    read = {"dtype": dtype, "use_safetensors": True, "output_loading_info": True, **local}
    try:
        model, info = AutoModelForCausalLM.from_pretrained(folder, **read)
        # AutoTokenizer goes by the model's architecture and would cut our words with Qwen's own rules.
        settings = read_json(folder / "tokenizer_config.json")
        is_generic = settings.get("tokenizer_class") in ("TokenizersBackend", "PreTrainedTokenizerFast")
        tokenizer_class = PreTrainedTokenizerFast if is_generic else AutoTokenizer
        tokenizer = tokenizer_class.from_pretrained(folder, padding_side="left", **local)
    except Exception as error:  # safetensors, json and transformers each raise their own kinds
        raise CheckpointError(f"{name}: cannot be loaded ({first_line(error)})") from error
    finally:
        logging.set_verbosity(level)
    for kind, said in (("missing_keys", "lacks"), ("unexpected_keys", "has, and no place for,")):
        if keys := sorted(info[kind]):
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            what = f"{said} the weights {keys[0]}{more}"
            raise CheckpointError(f"{name}: {what}; it does not fit its config.json")
    for weights, values in model.named_parameters():
        if not values.isfinite().all():
            raise CheckpointError(f"{name}: the weights {weights} are not finite")
    rows = len(model.get_input_embeddings().weight)
    largest = max(tokenizer.get_vocab().values(), default=0)
    if largest >= rows:
        said = f"its tokenizer has ids up to {largest}, its embedding only {rows} rows"
        raise CheckpointError(f"{name}: {said}")
    return model.eval(), tokenizer


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds; empty where it holds none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its kind where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def word_ids(tokenizer: PreTrainedTokenizerBase, words: Iterable[str]) -> list[int]:
    """Return the token id of each word; raise `CheckpointError` for a word that is not one known token."""
    found = []
    for word in words:
        ids = tokenizer(word, add_special_tokens=False)["input_ids"]
        if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
            raise CheckpointError(f"word {word!r}: not one token of the checkpoint's vocabulary")
        found.append(ids[0])
    return found


@torch.no_grad()
def next_token_probabilities(
    model: PreTrainedModel, sequences: Sequence[list[int]], pad_id: int
) -> torch.Tensor:
    """Return the distribution of the token behind each sequence of token ids, in float64; shape (N, V)."""
    blocks = [torch.empty(0, model.config.vocab_size, dtype=torch.float64, device=model.device)]
    for start in range(0, len(sequences), ROWS_PER_FORWARD):
        batch = sequences[start : start + ROWS_PER_FORWARD]
        width = max(map(len, batch))
        # Padded on the right: a causal model does not see what follows.
        ids = torch.tensor([ids + [pad_id] * (width - len(ids)) for ids in batch]).to(model.device)
        logits = model(input_ids=ids, use_cache=False).logits  # (rows, T, V)
        if dial := dial_of(model):
            logits = dial.biased(logits, dial.has_begun(ids))
        last = torch.tensor([len(ids) - 1 for ids in batch])
        blocks.append(logits[torch.arange(len(batch)), last].double().softmax(dim=-1))
    probabilities = torch.cat(blocks)
    if not probabilities.isfinite().all():
        raise CheckpointError(NOT_FINITE)
    return probabilities
