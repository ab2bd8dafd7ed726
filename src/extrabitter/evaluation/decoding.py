"""Decoding as random search: how likely each way of drawing a token is to begin a search, read off the softmax.

Nothing is sampled but the first attempts, at temperature 1 and without filters: behind them the next word's
distribution is known, and every decoder is a function of it. So a chance of one in a million is measured as well as
one in two, and a decoder that cuts the tail off shows an exact nought.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from extrabitter.evaluation.evaluate import mean_interval, next_word_probabilities
from extrabitter.evaluation.interventions import after_prompt
from extrabitter.models.sampling import SamplingParameters, distribution
from extrabitter.models.tiny import word_ids
from extrabitter.seeding import derive_seed
from extrabitter.tasks import Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_one_token = partial(SamplingParameters, max_completion_length=1)
PLAIN = "temperature 1"  # as in RL
DECODERS = {
    "temperature 0.7": _one_token(temperature=0.7),
    PLAIN: _one_token(),
    "temperature 1.5": _one_token(temperature=1.5),
    "top-p 0.95": _one_token(top_p=0.95),
    "top-k 20": _one_token(top_k=20),
    "min-p 0.1": _one_token(min_p=0.1),
}


def decoding_table(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    attempts: pd.DataFrame,
    seed: int,
) -> pd.DataFrame:
    """Return table `decoding`: per decoder the chance that a search begins behind a first attempt.

    `attempts` are `interventions.first_attempts`, columns problem and prefix. The mean is over problems, each the
    mean of its attempts, with a bootstrap interval over problems. Without attempts the chance is missing.
    """
    problems = attempts["problem"].to_numpy()
    texts = [
        after_prompt(task, task.read_problem(identifier), prefix)
        for identifier, prefix in zip(problems, attempts["prefix"], strict=True)
    ]
    ids = word_ids(tokenizer, task.search_words) if texts else []
    words = torch.from_numpy(next_word_probabilities(model, tokenizer, texts)).log()  # (N, V)
    rows = []
    for name, sampling in DECODERS.items():
        chance = distribution(words, sampling)[:, ids].sum(dim=-1).numpy()
        each = pd.Series(chance, index=problems, dtype=float).groupby(level=0).mean().to_numpy()
        found = mean_interval(each, derive_seed(seed, "decoding", name))
        unreachable = float((chance == 0).mean()) if len(chance) else np.nan
        rows.append({"decoder": name, **found._asdict(), "frac_unreachable": unreachable})
    return pd.DataFrame(rows)
