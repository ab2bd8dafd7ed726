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

from extrabitter.evaluation.evaluate import next_word_probabilities
from extrabitter.evaluation.interventions import after_prompt
from extrabitter.statistics import bootstrap_interval
from extrabitter.models.tiny import word_ids
from extrabitter.models.sampling import SamplingParameters, distribution
from extrabitter.seeding import derive_seed
from extrabitter.tasks.countdown import SEARCH_WORDS, Problem

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


_one_token = partial(SamplingParameters, max_completion_length=1)
PLAIN = "temperature 1"  # as in RL
DECODERS = {
    "temperature 0.7": _one_token(temperature=0.7),
    PLAIN: _one_token(),
    "temperature 1.5": _one_token(temperature=1.5),
    "temperature 2": _one_token(temperature=2.0),
    "top-p 0.99": _one_token(top_p=0.99),
    "top-p 0.95": _one_token(top_p=0.95),
    "top-k 20": _one_token(top_k=20),
    "top-k 5": _one_token(top_k=5),
    "min-p 0.01": _one_token(min_p=0.01),
    "min-p 0.1": _one_token(min_p=0.1),
}


def decoding_table(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, attempts: pd.DataFrame, seed: int
) -> pd.DataFrame:
    """Return table `decoding`: per decoder the chance that a search begins behind a first attempt.

    `attempts` are `interventions.first_attempts`, columns problem and prefix. The mean is over problems, each the
    mean of its attempts, with a bootstrap interval over problems. Without attempts the chance is missing.
    """
    texts = [
        after_prompt(Problem.from_identifier(identifier), prefix)
        for identifier, prefix in zip(attempts["problem"], attempts["prefix"], strict=True)
    ]
    words = torch.from_numpy(next_word_probabilities(model, tokenizer, texts)).log()  # (N, V)
    ids = word_ids(tokenizer, SEARCH_WORDS)
    rows = []
    for name, sampling in DECODERS.items():
        chance = distribution(words, sampling)[:, ids].sum(dim=-1).numpy()
        each = pd.Series(chance, index=attempts["problem"].to_numpy()).groupby(level=0).mean()
        rng = np.random.default_rng(derive_seed(seed, "decoding", name))
        unreachable = float((chance == 0).mean()) if len(chance) else np.nan
        rows.append(
            {
                "decoder": name,
                **bootstrap_interval(each.to_numpy(), rng)._asdict(),
                "frac_unreachable": unreachable,
            }
        )
    return pd.DataFrame(rows)
