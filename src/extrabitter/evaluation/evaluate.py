"""Evaluate a checkpoint: completions, measures with intervals, pass@k, and the probability that it searches.

What is sampled here is read by the parser that GRPO's rewards use, in the task's grammar or in English, so that a
number on a page and a reward in a run mean one thing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from extrabitter.behaviours.measures import MEASURES, Measure, measure_trace
from extrabitter.models.hub import as_read, check_lengths, decode, encode_prompts, end_ids
from extrabitter.models.rollouts import SamplingParameters, generate
from extrabitter.models.tiny import mask_tokens, masked_token_ids, next_token_probabilities, word_ids
from extrabitter.params import BehaviourEvaluationParameters
from extrabitter.seeding import derive_seed
from extrabitter.statistics import Interval, bootstrap_interval, clustered_share, pass_at_k
from extrabitter.tables import count, empty_table
from extrabitter.tasks import SEARCH, Task, Wording, band_of, load_task
from extrabitter.tasks.free_text import choose_wording, read_completion

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Array = NDArray[np.float64]


class Subject(NamedTuple):
    """Who is asked, what, and in which words."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    task: Task
    wording: Wording


def sample_completions(
    subject: Subject,
    problems: Sequence[Any],
    num_samples: int,
    sampling: SamplingParameters,
    seed: int,
    *,
    band: str = "",
    cue: bool = False,
    prefixes: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Sample `num_samples` completions of each problem; return table `completions`, one row a completion.

    `prefixes`, one per problem, is text that the completion has to begin with (an intervention); it is part of the
    completion that is measured, and is for a grammar's prompts, which are text. CheckpointError where prompt and cap
    are longer than the model reads.
    """
    model, tokenizer, task, wording = subject
    given = list(prefixes) if prefixes is not None else [""] * len(problems)
    prompts = [wording.prompt(problem, cue) for problem in problems]
    shown = [as_read(tokenizer, prompt) for prompt in prompts]
    begun = [f"{prompt} {start}" if start else prompt for prompt, start in zip(prompts, given, strict=True)]
    prompt_ids, ends = encode_prompts(tokenizer, begun), end_ids(model, tokenizer)
    check_lengths(model, max(map(len, prompt_ids), default=0) + sampling.max_completion_length)
    generator = torch.Generator(device=model.device).manual_seed(seed)
    rollouts = generate(
        model, prompt_ids, num_samples, sampling, end_ids=ends, generator=generator, with_logprobs=False
    )
    rows = []
    for index, (ids, was_cut) in enumerate(zip(rollouts.completion_ids, rollouts.truncated, strict=True)):
        place, sample = divmod(index, num_samples)
        problem, prefix = problems[place], given[place]
        written = decode(tokenizer, ids, ends)
        written = f"{prefix} {written}".strip() if prefix else written
        text, trace, truncated = read_completion(wording, problem, written, shown[place], bool(was_cut))
        row = {"problem": problem.identifier, "band": band_of(task, band), "sample": sample}
        row |= {"prompt": shown[place], "completion": text}
        row |= {"num_completion_tokens": len(ids) + len(prefix.split()), "truncated": truncated}
        rows.append(row | measure_trace(trace))
    return pd.DataFrame(rows) if rows else empty_table("completions")


def evaluate(
    parameters: BehaviourEvaluationParameters, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> dict[str, pd.DataFrame]:
    """Return what a run of stage `behaviour_evaluation` writes: completions, summary, counts, pass_at_k.

    Of who speaks the grammar the summary has one more measure, `search_probability`.
    """
    task, problems, seed = load_task(parameters.task), evaluation_problems(parameters), parameters.seed
    subject = Subject(model, tokenizer, task, choose_wording(task, parameters))
    names = ("temperature", "top_k", "top_p", "min_p", "max_completion_length")
    sampling = SamplingParameters(**{name: getattr(parameters, name) for name in names})
    asked: dict[str, Any] = {"band": parameters.band, "cue": parameters.cue}
    own = derive_seed(seed, "evaluation sampling", parameters.arm)
    completions = sample_completions(subject, problems, parameters.num_samples, sampling, own, **asked)
    summary, counts = summary_table(completions, seed), count(completions)
    if parameters.prompt == "grammar":
        own, cap = derive_seed(seed, "search probability", parameters.arm), parameters.max_completion_length
        each = search_probability(subject, problems, own, cap, cue=parameters.cue)
        row = mean_interval(each, derive_seed(own, "bootstrap"))._asdict() | {"count": len(each)}
        summary.loc[len(summary)] = {"measure": "search_probability", **row}
    pass_at_k = pass_at_k_table(counts, parameters.max_k)
    return {"completions": completions, "summary": summary, "counts": counts, "pass_at_k": pass_at_k}


def evaluation_problems(parameters: BehaviourEvaluationParameters) -> list[Any]:
    """Return the problems of an evaluation, each once: the same ones for all arms of a seed.

    Those of the training split are the problems of GRPO with that seed and band, in the order in which it meets them.
    """
    task = load_task(parameters.task)
    band = band_of(task, parameters.band)
    seed = derive_seed(parameters.seed, "evaluation", parameters.split, band)
    if parameters.split == "train":
        seed = derive_seed(parameters.seed, "grpo", "problems")
    return task.problems(parameters.split, parameters.num_problems, seed, band, distinct=True)


def summary_table(
    completions: pd.DataFrame, seed: int = 0, measures: Mapping[str, Measure] = MEASURES
) -> pd.DataFrame:
    """Return table `summary`: each measure, its 95 % interval and the number of things it is an average of.

    A measure is a ratio of two sums over completions (say hits / attempts). Its interval takes *problems* for the
    units: completions of one problem are not independent. That of a share is right at 0 and at 1 (`clustered_share`),
    that of any other measure a bootstrap. A measure without denominator (the verdict accuracy of a model that gives
    none) is missing, not zero.
    """
    problems, rows = completions["problem"].to_numpy(), []
    for name, measure in measures.items():
        parts = pd.DataFrame({"top": measure.numerator(completions), "all": measure.denominator(completions)})
        is_share = bool(((parts["top"] >= 0) & (parts["top"] <= parts["all"])).all())
        sums = parts.groupby(problems, sort=True).sum().to_numpy(float)  # (B, 2)
        sums = sums[sums[:, 1] > 0]
        rng = np.random.default_rng(derive_seed(seed, "bootstrap", name))
        found = clustered_share(*sums.T) if is_share else bootstrap_interval(sums, rng, ratio_of_sums)
        rows.append({"measure": name, **found._asdict(), "count": int(parts["all"].sum())})
    return pd.DataFrame(rows)


def ratio_of_sums(pairs: Array) -> float:
    """Return the ratio of the sums of two columns, (B, 2); NaN where the second is 0."""
    top, bottom = pairs.sum(axis=0)
    return float(top / bottom) if bottom else float("nan")


def pass_at_k_table(counts: pd.DataFrame, max_k: int) -> pd.DataFrame:
    """Return table `pass_at_k` for k = 1, 2, 4 … `max_k`: unbiased, with an interval over problems."""
    rows, most = [], int(min(max_k, counts["num_samples"].min()))
    for k in (2**power for power in range(most.bit_length())):
        each = [pass_at_k(n, c, k) for n, c in zip(counts["num_samples"], counts["num_correct"], strict=True)]
        rows.append((k, *share_of(each, counts)))
    return pd.DataFrame(rows, columns=["k", *Interval._fields])


def share_of(each: Sequence[float], counts: pd.DataFrame) -> Interval:
    """Return the mean over problems of shares that were estimated from so many samples each, and its interval."""
    weights = np.full(len(counts), counts["num_samples"].mean())
    return clustered_share(np.clip(each, 0, 1) * weights, weights)


def mean_interval(each: Array, seed: int) -> Interval:
    """Return a mean over problems and its bootstrap interval, for values that are no shares of samples."""
    return bootstrap_interval(each, np.random.default_rng(seed))


def search_probability(
    subject: Subject, problems: Sequence[Any], seed: int, max_completion_length: int, *, cue: bool = False
) -> Array:
    """Return, per problem, the probability that a completion begins to search, from one that does not; shape (B,).

    It is read off the softmax where the task's search begins, and resolves what no sample would ever show: the p0 of a
    base that never searches. Behind attempts these are those of a completion that is drawn with the words masked; with
    s_t the unmasked model's chance behind each, 1 - prod(1 - s_t) is without bias.
    """
    words, place = subject.task.openings[SEARCH]
    ids, sampling = word_ids(subject.tokenizer, words), SamplingParameters(max_completion_length)
    begun = [(row, "") for row in range(len(problems))]
    if place != "start":
        with masked(subject.model, ids):
            plain = sample_completions(subject, problems, 1, sampling, seed, cue=cue)
        begun = [
            (row, " ".join(text.split()[: attempt.end]))
            for row, text in enumerate(plain["completion"])
            for attempt in subject.task.parse(text, problems[row]).attempts
            if attempt.finished
        ]
    rows, prefixes = [row for row, _ in begun], [prefix for _, prefix in begun]
    chance = next_words(subject, [problems[row] for row in rows], prefixes, cue)[:, ids].sum(axis=1)
    stays = np.zeros(len(problems))
    np.add.at(stays, rows, np.log1p(-np.minimum(chance, 1 - 1e-12)))
    return -np.expm1(stays)


@contextmanager
def masked(model: PreTrainedModel, token_ids: Sequence[int]) -> Iterator[None]:
    """Mask further tokens for a while; what was masked before stays so."""
    before = masked_token_ids(model)
    mask_tokens(model, [*before, *token_ids])
    try:
        yield
    finally:
        mask_tokens(model, before)


def next_words(
    subject: Subject, problems: Sequence[Any], prefixes: Sequence[str], cue: bool = False
) -> Array:
    """Return the distribution of the word behind each problem's prompt and the beginning of a completion, (N, V)."""
    pairs = zip(problems, prefixes, strict=True)
    texts = [f"{subject.wording.prompt(problem, cue)} {prefix}".strip() for problem, prefix in pairs]
    sequences = [subject.tokenizer(text)["input_ids"] for text in texts]
    return next_token_probabilities(subject.model, sequences, subject.tokenizer.pad_token_id).cpu().numpy()
