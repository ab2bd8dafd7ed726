"""Pretrain a tiny base model on a mixture of generated documents.

One loop serves both parts of a base model: the *trunk* (facts, comparisons, direct answers; shared by several
bases) and the *mixture* that follows it and differs between bases in nothing but how often a document searches.

What differs from a usual language-model run, and why:
- The budget is counted in tokens, not in steps: bases whose documents are longer would otherwise see more.
- Documents are neither packed nor truncated. Each step draws its documents at random in the mixture's
  proportions, sorts them by length and feeds them in a few trimmed chunks, so that positions start at 0 as they
  do at inference and almost no work goes to padding.
- A prompt carries no loss (the model never has to write one), and of a drill only the results and verdicts do:
  the rest of both is random, and a small model would spend capacity on learning to be uncertain about it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from extrabitter.params import BaseModelParameters
from extrabitter.training.muon import Muon
from extrabitter.tables import empty_table, read_table
from extrabitter.seeding import derive_seed
from extrabitter.tasks import countdown
from extrabitter.tasks.countdown import TraceCondition

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

IGNORED_LABEL = -100
CHUNKS_PER_STEP = 10  # trimmed passes a step: more of them save padding, fewer save overhead
MUON_MOMENTUM = 0.95  # Source: K. Jordan, "Muon" (2024), default
ADAMW_BETAS = (0.9, 0.95)  # Source: Llama, arXiv 2302.13971, section 2.3
GRADIENT_CLIP = 1.0  # Source: Llama, arXiv 2302.13971, section 2.3


@dataclass(frozen=True)
class Document:
    """One training document: a prompt (no loss), a completion, and the kind of document it is."""

    kind: str
    prompt: str
    completion: str


def trace_conditions(solution_probability: float) -> dict[str, TraceCondition]:
    """Return how a document of each kind is written; the proposal of attempts is the same in all of them."""
    direct = TraceCondition(solution_probability=solution_probability)
    search = replace(direct, verification=True, backtracking=True)
    return {"direct": direct, "search": search, "cosmetic": replace(search, verdicts="random")}


def draw_documents(parameters: BaseModelParameters, count: int, seed: int) -> list[Document]:
    """Draw `count` documents in the proportions of the mixture, from training problems only.

    Bases that differ in their shares of search only are given the same drills, problems and first attempts by the
    same seed: what a document's kind decides is whether it goes on after its first attempt.
    """
    conditions = trace_conditions(parameters.solution_probability)
    rng = np.random.default_rng(seed)
    num_drills = int(rng.binomial(count, parameters.drill_share))
    num_four = int(rng.binomial(count - num_drills, parameters.four_number_share))
    documents = [Document("drill", "", countdown.drill_document(rng)) for _ in range(num_drills)]
    for num_numbers, size in ((3, count - num_drills - num_four), (4, num_four)):
        if size == 0:
            continue
        problems = countdown.generate_problems(
            "train", size, int(rng.integers(2**31)), num_numbers=num_numbers
        )
        draws, trace_seeds = rng.random((size, 2)).tolist(), rng.integers(2**31, size=size).tolist()
        for problem, (cue_draw, kind_draw), trace_seed in zip(problems, draws, trace_seeds, strict=True):
            cued = cue_draw < parameters.cued_share
            kind = "search" if cued else _uncued_kind(parameters, kind_draw)
            trace = countdown.write_trace(problem, conditions[kind], random.Random(trace_seed))
            documents.append(
                Document(
                    f"cued_{kind}" if cued else kind,
                    countdown.render_prompt(problem, cue=cued),
                    countdown.render_trace(trace, problem),
                )
            )
    return documents


def _uncued_kind(parameters: BaseModelParameters, draw: float) -> str:
    if draw < parameters.search_share:
        return "search"
    if draw < parameters.search_share + parameters.cosmetic_share:
        return "cosmetic"
    return "direct"


def sample_documents(parameters: BaseModelParameters, count: int) -> pd.DataFrame:
    """Return table `documents`: `count` documents of the mixture, in their natural proportions."""
    seed = derive_seed(parameters.seed, "documents")
    return pd.DataFrame([vars(document) for document in draw_documents(parameters, count, seed)])


def encode(document: Document, vocabulary: dict[str, int]) -> tuple[list[int], list[int]]:
    """Return token ids and labels of a document, both of length T; labels without loss are -100.

    The tokenizer is word-level, so that a look-up per word is the whole of tokenisation and a call of it would
    only cost time (`tests/test_pretraining.py` holds the two to each other).
    """
    begin, end = vocabulary["<bos>"], vocabulary["<eos>"]
    prompt_ids = [begin, *(vocabulary[word] for word in document.prompt.split())]
    words = document.completion.split()
    completion_ids = [*(vocabulary[word] for word in words), end]
    if document.kind == "drill":
        scored = [i > 0 and (words[i - 1] == "=" or words[i] in ("yes", "no")) for i in range(len(words))]
        pairs = zip(completion_ids, [*scored, False], strict=True)
        labels = [token if is_scored else IGNORED_LABEL for token, is_scored in pairs]
    else:
        labels = completion_ids
    return prompt_ids + completion_ids, [IGNORED_LABEL] * len(prompt_ids) + labels


def trimmed_chunks(
    rows: list[tuple[list[int], list[int]]], num_chunks: int, pad_id: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield (input_ids, labels), each (rows, T), of length-sorted chunks of about equally many tokens."""
    rows = sorted(rows, key=lambda row: len(row[0]))
    ends = np.cumsum([len(row[0]) for row in rows])
    bounds = np.searchsorted(ends, np.linspace(0, ends[-1], num_chunks + 1)[1:-1]).tolist()
    for start, stop in zip([0, *bounds], [*bounds, len(rows)], strict=True):
        chunk = rows[start:stop]
        if not chunk:
            continue
        width = len(chunk[-1][0])
        # Padding on the right needs no attention mask: a causal model never looks there, the loss skips it.
        input_ids = torch.tensor([ids + [pad_id] * (width - len(ids)) for ids, _ in chunk])
        labels = torch.tensor([lab + [IGNORED_LABEL] * (width - len(lab)) for _, lab in chunk])
        yield input_ids, labels


def build_optimizers(model: PreTrainedModel, parameters: BaseModelParameters) -> list[torch.optim.Optimizer]:
    """Return the optimizer of the matrices inside the blocks, and AdamW for embeddings and norms.

    Source: K. Jordan, "Muon: an optimizer for hidden layers in neural networks" (2024): hidden matrices only.
    """
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "layers." in name]
    others = [p for name, p in model.named_parameters() if not (p.ndim == 2 and "layers." in name)]
    hidden: torch.optim.Optimizer
    if parameters.optimizer == "muon":
        hidden = Muon(matrices, lr=parameters.learning_rate, momentum=MUON_MOMENTUM)
    else:
        hidden = torch.optim.AdamW(matrices, lr=parameters.learning_rate, betas=ADAMW_BETAS, weight_decay=0.0)
    rest = torch.optim.AdamW(others, lr=parameters.adamw_learning_rate, betas=ADAMW_BETAS, weight_decay=0.0)
    return [hidden, rest]


def learning_rate_factor(schedule: str, progress: float) -> float:
    """Return the factor on the learning rate at `progress` in [0, 1] of the token budget.

    >>> learning_rate_factor("constant", 0.5), learning_rate_factor("linear", 0.75)
    (1.0, 0.25)
    """
    return 1.0 if schedule == "constant" else max(0.0, 1.0 - progress)


def recorded_losses(checkpoint: str | Path) -> pd.DataFrame:
    """Return table `losses` that a shipped checkpoint carries from its training; empty where it has none."""
    path = Path(checkpoint) / "losses.parquet"
    return read_table(path, "losses") if path.is_file() else empty_table("losses")


def pretrain(
    parameters: BaseModelParameters, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> pd.DataFrame:
    """Train `model` in place until `parameters.num_tokens` are seen; return table `losses`, one row a step."""
    # A trunk and what goes on from it must not read the same documents; bases of one trunk must.
    part = "mixture" if parameters.init_from else "trunk"
    optimizers = build_optimizers(model, parameters)
    base_rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    vocabulary = tokenizer.get_vocab()
    model.train()
    log: list[dict[str, float]] = []
    num_tokens, start = 0, time.perf_counter()
    while num_tokens < parameters.num_tokens:
        factor = learning_rate_factor(parameters.schedule, num_tokens / parameters.num_tokens)
        for optimizer, rate in zip(optimizers, base_rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * factor
        seed = derive_seed(parameters.seed, "pretraining", part, len(log))
        documents = draw_documents(parameters, parameters.documents_per_step, seed)
        rows = [encode(document, vocabulary) for document in documents]
        num_scored = sum(label != IGNORED_LABEL for _, labels in rows for label in labels)
        loss = 0.0
        for input_ids, labels in trimmed_chunks(rows, CHUNKS_PER_STEP, vocabulary["<pad>"]):
            logits = model(input_ids=input_ids, use_cache=False).logits  # (rows, T, V)
            total = torch.nn.functional.cross_entropy(
                logits[:, :-1].flatten(0, 1),
                labels[:, 1:].flatten(),
                ignore_index=IGNORED_LABEL,
                reduction="sum",
            )
            (total / num_scored).backward()
            loss += float(total.detach()) / num_scored
        torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_CLIP)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        num_tokens += sum(len(ids) for ids, _ in rows)
        log.append(
            {
                "step": len(log) + 1,
                "loss": loss,
                "learning_rate": base_rates[0] * factor,
                "num_tokens": num_tokens,
                "elapsed_s": time.perf_counter() - start,
            }
        )
        if len(log) % parameters.logging_steps == 0:
            speed = num_tokens / log[-1]["elapsed_s"]
            print(f"step {len(log)}  loss {loss:.3f}  tokens {num_tokens:,}  {speed:,.0f} tokens/s")
    model.eval()
    return pd.DataFrame(log)
