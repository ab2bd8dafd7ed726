"""What the benchmarks run on: a random 0.87 M-parameter model whose completions are long, and shipped bases.

The random weights of "direct" (mean about 25 tokens of at most 200) and "search" (mean about 90 of at most 200)
write nothing that means anything; only the work is real, and their lengths do not change with a training. What the
shipped bases "absent" and "rich" take is what a reader's evaluation of them takes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from extrabitter.benchmark_tables import SHIPPED, WORKLOADS
from extrabitter.models.tiny import build_model, build_tokenizer, load_checkpoint
from extrabitter.digests import REPOSITORY
from extrabitter.tasks.countdown import VOCABULARY, generate_problems, render_prompt

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MAX_COMPLETION_LENGTH = dict.fromkeys(WORKLOADS, 200) | dict.fromkeys(SHIPPED, 288)  # 288: as in the profiles
EOS_PROBABILITY = {"direct": 1 / 25, "search": 1 / 130}  # a token; 130 because the cap cuts the longest short
NUM_GENERATIONS = 8


def build(workload: str, seed: int = 0) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return the model and tokenizer of a workload; random weights end a completion equally often at each token."""
    if workload in SHIPPED:
        return load_checkpoint(REPOSITORY / "models" / workload)
    tokenizer = build_tokenizer(VOCABULARY)
    model = build_model("llama", len(tokenizer), 128, 4, 4, 384, seed=seed)
    probability, head = EOS_PROBABILITY[workload], model.get_output_embeddings()
    bias = torch.zeros(len(tokenizer))
    bias[tokenizer.eos_token_id] = math.log(probability * (len(tokenizer) - 1) / (1 - probability))
    del head.bias
    head.register_buffer("bias", bias, persistent=False)
    return model, tokenizer


def prompts(tokenizer: PreTrainedTokenizerBase, count: int) -> list[list[int]]:
    """Return the token ids of `count` Countdown prompts of the validation problems."""
    problems = generate_problems("validation", count, seed=0)
    return [tokenizer(render_prompt(problem))["input_ids"] for problem in problems]


def length_reward(completions: list[str], **columns: object) -> list[float]:
    """Pay one completion in five, by its text: about what a base earns before RL."""
    return [float(hash_of(text) % 5 == 0) for text in completions]


def hash_of(text: str) -> int:
    """Return a stable number from a text."""
    return sum(ord(character) for character in text)
