"""Pretrain a tiny base model on a mixture of documents of a task.

One loop serves both parts of a base model: the *trunk* (drills and direct answers; shared by several bases) and the
*mixture* that follows it and differs between bases in nothing but the habit that some of its documents show.

What differs from a usual language-model run, and why:
- The budget is counted in tokens, not in steps: bases whose documents are longer would otherwise see more.
- The proportions of the mixture are counted, not drawn, so that all bases of one recipe get one dose.
- Documents are neither packed nor truncated. Each step sorts its documents by length and feeds them in batches
  of like ones, so that positions start at 0 as they do at inference and almost no work goes to padding.
- A prompt carries no loss (the model never has to write one), and of a drill only the words that its task names do:
  the rest of both is random, and a small model would spend capacity on learning to be uncertain about it.
"""

from __future__ import annotations

import itertools
import random
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from extrabitter.models.fused import is_supported, logits
from extrabitter.models.tiny import build_model, build_tokenizer, load_checkpoint
from extrabitter.params import BaseModelParameters, ParameterError
from extrabitter.seeding import derive_seed
from extrabitter.tables import empty_table, read_table
from extrabitter.tasks import Task, band_of, load_task, one_of
from extrabitter.training.trainers import IGNORED_LABEL, batches_by_length, check_finite

SHAPE = {"architecture", "hidden_size", "intermediate_size", "num_hidden_layers"}
SHAPE |= {"num_attention_heads", "num_key_value_heads"}
TOKENS_PER_PASS = 1536  # fewer save padding, more save overhead; measured on 2 layers of width 128
ADAMW_BETAS = (0.9, 0.95)  # Source: Llama, arXiv 2302.13971, section 2.3
GRADIENT_CLIP = 1.0  # Source: Llama, arXiv 2302.13971, section 2.3
CUED = "search"  # what the cue asks for


class Document(NamedTuple):
    """A prompt (no loss), a completion, what it shows, and which of its words bear loss (None: all, and its end)."""

    prompt: str
    completion: str
    kind: str
    scored: Sequence[bool] | None = None


def deal(shares: Mapping[str, float]) -> Iterator[str]:
    """Yield names in fixed proportions for ever: after any number of them each came its share of times, within two.

    >>> dealt = deal({"habit": 0.25, "direct": 0.75})
    >>> [next(dealt) for _ in range(8)]
    ['direct', 'habit', 'direct', 'direct', 'direct', 'habit', 'direct', 'direct']
    """
    counts = dict.fromkeys(shares, 0)
    for number in itertools.count(1):
        name = max(shares, key=lambda name: shares[name] * number - counts[name])  # lags furthest behind
        counts[name] += 1
        yield name


class Mixture:
    """The documents of a base model, in the proportions of its parameters, from training problems only.

    Bases that differ in their habit only are given the same drills and problems by the same seeds, and the same first
    attempts where the task writes them alike. ParameterError names what the task does not have.
    """

    def __init__(self, parameters: BaseModelParameters, task: Task) -> None:
        one_of("habit", parameters.habit, task.conditions)
        bands = band_shares(parameters.bands, task)
        cue, drill = parameters.cued_share, parameters.drill_share
        habit = (1 - cue) * parameters.habit_share
        self.task, self.habit, self.chance = task, parameters.habit, parameters.solution_probability
        self.forms, self.bands = deal({"drill": drill, "problem": 1 - drill}), deal(bands)
        # Dealt in each band by itself: the dose is the same at every difficulty.
        self.kinds = {band: deal({"cue": cue, "habit": habit, "direct": 1 - cue - habit}) for band in bands}

    def draw(self, count: int, seed: int) -> list[Document]:
        """Return the next `count` documents; the seed decides all but their proportions."""
        num_drills = [next(self.forms) for _ in range(count)].count("drill")
        kinds: dict[str, list[str]] = defaultdict(list)  # band -> what its documents show
        for _ in range(count - num_drills):
            band = next(self.bands)
            kinds[band].append(next(self.kinds[band]))
        rng = random.Random(derive_seed(seed, "drills"))
        drills = (self.task.drill(rng) for _ in range(num_drills))
        documents = [Document("", text, "drill", scored) for text, scored in drills]
        for band, shown in kinds.items():
            own = derive_seed(seed, "problems", band)
            problems = self.task.problems("train", len(shown), own, band)
            for number, (problem, kind) in enumerate(zip(problems, shown, strict=True)):
                documents.append(self._solution(problem, kind, derive_seed(own, number)))
        return documents

    def _solution(self, problem: Any, kind: str, seed: int) -> Document:
        cued, shown = kind == "cue", {"cue": CUED, "habit": self.habit}.get(kind, kind)
        script = self.task.write_trace(problem, shown, random.Random(seed), self.chance)
        text = self.task.render(script, problem)
        return Document(self.task.prompt(problem, cue=cued), text, f"cued_{shown}" if cued else shown)


def band_shares(text: str, task: Task) -> dict[str, float]:
    """Read parameter `bands`, 'common=0.3 four=0.7': band -> share; empty is the task's first band alone.

    ParameterError with one line.
    """
    parts = [part.partition("=") for part in text.split()] or [("", "=", "1")]
    try:
        shares = {band_of(task, band): float(share) for band, _, share in parts}
    except ValueError as error:
        raise ParameterError(f"bands = {text!r}: {error}") from None
    if len(shares) < len(parts) or not min(shares.values()) >= 0 or abs(sum(shares.values()) - 1) > 1e-6:
        raise ParameterError(f"bands = {text!r}: must name each band once, with shares that sum to 1")
    return shares


def sample_documents(parameters: BaseModelParameters, count: int) -> pd.DataFrame:
    """Return table `documents`: `count` documents of the mixture, in its proportions."""
    mixture = Mixture(parameters, load_task(parameters.task))
    documents = mixture.draw(count, derive_seed(parameters.seed, "documents"))
    return pd.DataFrame(documents)[["prompt", "completion", "kind"]]


def encode(document: Document, vocabulary: dict[str, int]) -> tuple[list[int], list[int]]:
    """Return token ids and labels of a document, both of length T; labels without loss are -100.

    The tokenizer is word-level, so that a look-up per word is the whole of tokenisation and a call of it would
    only cost time (a test holds the two to each other).
    """
    prompt_ids = [vocabulary["<bos>"], *(vocabulary[word] for word in document.prompt.split())]
    completion_ids = [*(vocabulary[word] for word in document.completion.split()), vocabulary["<eos>"]]
    labels = completion_ids
    if document.scored is not None:
        pairs = zip(completion_ids, (*document.scored, False), strict=True)
        labels = [token if is_scored else IGNORED_LABEL for token, is_scored in pairs]
    return prompt_ids + completion_ids, [IGNORED_LABEL] * len(prompt_ids) + labels


def padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """Return rows as a tensor (N, T), filled up on the right.

    That needs no attention mask: a causal model never looks there, and the loss skips it.
    """
    width = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])


def starting_model(parameters: BaseModelParameters) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return the trunk in `init_from` and its tokenizer, or a model of random weights over the task's vocabulary.

    ParameterError where the trunk is of another task.
    """
    words = load_task(parameters.task).vocabulary
    if parameters.init_from:
        model, tokenizer = load_checkpoint(parameters.init_from)
        if unknown := [word for word in words if word not in tokenizer.get_vocab()]:
            said = f"does not know {' '.join(unknown[:5])} of {parameters.task}"
            raise ParameterError(f"init_from = {parameters.init_from!r}: {said}")
        return model, tokenizer
    sizes = parameters.model_dump(include=SHAPE)
    return build_model(vocab_size=len(words), seed=parameters.seed, **sizes), build_tokenizer(words)


def pretrain(
    parameters: BaseModelParameters, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> pd.DataFrame:
    """Train `model` in place until `parameters.num_tokens` are seen; return table `losses`, one row a step.

    Without a budget nothing is trained, and the table is the one that the checkpoint in `init_from` carries.
    """
    if not parameters.num_tokens:
        recorded = Path(parameters.init_from) / "losses.parquet"
        return read_table(recorded, "losses") if recorded.is_file() else empty_table("losses")
    # A trunk and what goes on from it must not read the same documents; bases of one trunk must.
    part = "mixture" if parameters.init_from else "trunk"
    mixture = Mixture(parameters, load_task(parameters.task))
    optimizers = build_optimizers(model, parameters)
    base_rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    vocabulary, is_fused = tokenizer.get_vocab(), is_supported(model)
    model.train()
    log: list[tuple[int, float, float, int, float]] = []
    num_tokens, num_scored, start = 0, 0, time.perf_counter()
    while num_tokens < parameters.num_tokens:
        factor = 1.0 if parameters.schedule == "constant" else 1.0 - num_tokens / parameters.num_tokens
        for optimizer, rate in zip(optimizers, base_rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * factor
        seed = derive_seed(parameters.seed, "pretraining", part, len(log))
        documents = mixture.draw(parameters.documents_per_step, seed)
        rows = [encode(document, vocabulary) for document in documents]
        in_batch = sum(label != IGNORED_LABEL for _, labels in rows for label in labels)
        num_scored += in_batch
        # Of all steps so far and not of this one: a batch with more search in it, which is longer, would weigh each
        # word of it less, and how often the base comes to search would be below its share of documents.
        scored_a_step = num_scored / (len(log) + 1)
        loss = 0.0
        for chosen in batches_by_length([len(ids) for ids, _ in rows], TOKENS_PER_PASS):
            input_ids = padded([rows[index][0] for index in chosen], vocabulary["<pad>"])
            labels = padded([rows[index][1] for index in chosen], IGNORED_LABEL)
            read, asked = input_ids[:, :-1], labels[:, 1:]
            real = read != vocabulary["<pad>"]
            scores = logits(model, read, real=real) if is_fused else model(read, use_cache=False).logits[real]
            losses = torch.nn.CrossEntropyLoss(ignore_index=IGNORED_LABEL, reduction="sum")
            total = losses(scores, asked[real])
            (total / scored_a_step).backward()
            loss += float(total.detach()) / in_batch
        check_finite("base_model", len(log) + 1, loss=loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_CLIP)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        num_tokens += sum(len(ids) for ids, _ in rows)
        elapsed = time.perf_counter() - start
        log.append((len(log) + 1, loss, base_rates[0] * factor, num_tokens, elapsed))
        if len(log) % parameters.logging_steps == 0:
            pace = f"{num_tokens / elapsed:,.0f} tokens/s"
            print(f"step {len(log)}  loss {loss:.3f}  tokens {num_tokens:,}  {pace}")
    model.eval()
    return pd.DataFrame(log, columns=["step", "loss", "learning_rate", "num_tokens", "elapsed_s"])


def build_optimizers(model: PreTrainedModel, parameters: BaseModelParameters) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices inside the blocks, and AdamW, which stays far behind on these, for all else.

    Source: K. Jordan, "Muon: an optimizer for hidden layers in neural networks" (2024): hidden matrices only.
    """
    matrices: list[Tensor] = []
    others: list[Tensor] = []
    for name, parameter in model.named_parameters():
        (matrices if parameter.ndim == 2 and "layers." in name else others).append(parameter)
    adamw = torch.optim.AdamW(others, lr=parameters.adamw_learning_rate, betas=ADAMW_BETAS, weight_decay=0.0)
    return [Muon(matrices, lr=parameters.learning_rate), adamw]


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised in float32: for hidden matrices only; no weight decay.

    Each (A, B) matrix moves by `lr` * sqrt(max(1, A / B)) along the orthogonalised Nesterov momentum. The update of
    `torch.optim.Muon`, but for its bfloat16: a processor without that arithmetic takes fifteen times as long for it,
    as long as for half of the model's own passes, and another result would come out on each kind of machine.
    Source: K. Jordan, "Muon" (2024).
    """

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                buffer = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
                buffer.lerp_(parameter.grad, 1 - group["momentum"])
                update = orthogonalise(parameter.grad.lerp(buffer, group["momentum"]))
                scale = max(1.0, parameter.shape[0] / parameter.shape[1]) ** 0.5
                parameter.add_(update, alpha=-group["lr"] * scale)


def orthogonalise(matrix: Tensor) -> Tensor:
    """Return `matrix` (A, B) with singular values pushed to about 1 by five Newton-Schulz iterations.

    Source: K. Jordan, "Muon: an optimizer for hidden layers in neural networks" (2024): coefficients, iterations.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.mT if tall else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.mT  # (A, A)
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
