"""Tiny models shared by the tests; nothing is downloaded and nothing is read from disk."""

from __future__ import annotations

import os

# Before torch is imported: tests are timed, and compared bit by bit, on one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedModel, PreTrainedTokenizerFast

SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")
OPERATORS = ("+", "-", "*", "/", "=", ",", ":", ".")
WORDS = ("numbers", "target", "think", "check", "yes", "no", "back", "need", "aim", "answer")
TINY_VOCABULARY = (*SPECIALS, *(str(number) for number in range(61)), *OPERATORS, *WORDS)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --require-browser: tests of pages then fail where Chromium or npm is missing, instead of being skipped."""
    parser.addoption(
        "--require-browser",
        action="store_true",
        help="fail where Chromium or npm is missing, instead of skipping the tests that need them",
    )


@pytest.fixture(scope="session")
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer over the Countdown words."""
    from extrabitter.models import build_tokenizer, set_threads

    set_threads(1)
    return build_tokenizer(TINY_VOCABULARY)


@pytest.fixture(scope="session")
def build_tiny_model() -> Callable[..., PreTrainedModel]:
    """A builder of two-layer Llama or Qwen2 models whose next-token distributions are far from uniform."""

    def build(architecture: str = "llama", seed: int = 0, **sizes: int) -> PreTrainedModel:
        from extrabitter.models import build_model, set_threads

        set_threads(1)
        shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        model = build_model(architecture, len(TINY_VOCABULARY), **{**shape, **sizes}, seed=seed)
        for parameter in model.parameters():  # at the usual .02 every prediction would be nearly uniform
            if parameter.dim() == 2:
                parameter.data.mul_(4.0)
        return model

    return build
