"""The chance that a decoder begins a search is that of drawing from the filtered softmax, noughts included."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from extrabitter.evaluation import decoding
from extrabitter.models import tiny as models
from extrabitter.evaluation.evaluate import next_word_probabilities
from extrabitter.models.tiny import word_ids
from extrabitter.tables import validate_table
from extrabitter.models.sampling import draw
from extrabitter.tasks import countdown

ATTEMPTS = pd.DataFrame(
    {
        "problem": ["6-7-9:8", "6-7-9:8", "2-3-4:24"],
        "prefix": ["9 - 7 = 2 , 6 + 2 = 8", "9 + 7 = 16 , 16 - 6 = 10", "4 + 3 = 7 , 7 + 2 = 9"],
    }
)


@pytest.fixture(scope="module")
def checkpoint():
    tokenizer = models.build_tokenizer(countdown.VOCABULARY)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    return models.build_model("llama", len(countdown.VOCABULARY), **shape, seed=0), tokenizer


def test_every_decoder_is_measured_as_it_draws(checkpoint) -> None:
    model, tokenizer = checkpoint
    table = decoding.decoding_table(model, tokenizer, ATTEMPTS, 0)
    validate_table("decoding", table)
    found = table.set_index("decoder")
    texts = [
        f"{countdown.render_prompt(countdown.Problem.from_identifier(problem))} {prefix}"
        for problem, prefix in ATTEMPTS.itertuples(index=False)
    ]
    logits = torch.from_numpy(next_word_probabilities(model, tokenizer, texts)).log()
    ids = torch.tensor(word_ids(tokenizer, countdown.SEARCH_WORDS))
    generator = torch.Generator().manual_seed(3)
    for name, sampling in decoding.DECODERS.items():
        drawn, _ = draw(logits.repeat_interleave(30_000, dim=0), sampling, generator)
        shares = torch.isin(drawn, ids).view(3, -1).double().mean(dim=1)
        expected = float((shares[:2].mean() + shares[2]) / 2)  # problems count alike, whatever their attempts
        assert found.at[name, "value"] == pytest.approx(expected, abs=4 * (0.05 / 30_000) ** 0.5), name
    assert found.at[decoding.PLAIN, "frac_unreachable"] == 0
    # Of nearly equal words, five of a vocabulary leave the search words out somewhere.
    assert found.at["top-k 5", "frac_unreachable"] > 0


def test_masked_words_are_out_of_every_decoders_reach(checkpoint) -> None:
    model, tokenizer = checkpoint
    models.mask_tokens(model, word_ids(tokenizer, countdown.SEARCH_WORDS))
    try:
        table = decoding.decoding_table(model, tokenizer, ATTEMPTS, 0)
    finally:
        models.mask_tokens(model, [])
    assert (table["value"] == 0).all() and (table["frac_unreachable"] == 1).all()


def test_without_attempts_the_chance_is_missing(checkpoint) -> None:
    table = decoding.decoding_table(*checkpoint, ATTEMPTS.iloc[:0], 0)
    assert np.isnan(table["value"]).all() and np.isnan(table["frac_unreachable"]).all()
