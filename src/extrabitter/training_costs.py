"""What a GRPO run costs on a named GPU: an estimate from floating-point operations, with every assumption stated.

A token passes forward at 2 operations a parameter, and forward and backward at 6. A step generates G completions of
each prompt and trains on them once. Source: Kaplan et al., arXiv 2001.08361, section 2.1 (2N and 6N).

Left out: attention over the context, prompts (shared by a group), the KL term's reference model, loading and
saving, and everything that small models wait for: their kernels are done sooner than the next one starts. So the
estimate is a lower bound for them; `benchmarks/gpu_steps.csv` shows by how much on one card.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import NamedTuple


class Gpu(NamedTuple):
    """A card: peak dense operations a second in bf16 (fp16 where it has no bf16), in 1e12, and memory in GiB."""

    teraflops: float
    memory_gib: float

    @property
    def operations_per_s(self) -> float:
        """Peak dense operations a second."""
        return self.teraflops * 1e12


# Source: the vendor's data sheets, dense figures without sparsity.
GPUS: dict[str, Gpu] = {
    "T4": Gpu(65, 16),
    "V100": Gpu(125, 32),
    "L4": Gpu(121, 24),
    "A10": Gpu(125, 24),
    "RTX4090": Gpu(165, 24),
    "A6000": Gpu(155, 48),
    "L40S": Gpu(362, 48),
    "A100": Gpu(312, 80),
    "H100": Gpu(989, 80),
    "H200": Gpu(989, 141),
}
# Source: the models' cards on the hub; the embedding counted once where it is tied.
NUM_PARAMETERS = {
    "Qwen/Qwen2.5-0.5B": 494_000_000,
    "Qwen/Qwen2.5-3B": 3_090_000_000,
    "meta-llama/Llama-3.2-1B": 1_240_000_000,
    "meta-llama/Llama-3.2-3B": 3_210_000_000,
}
# Ours: shares of the peak that a careful set-up reaches. Generation is bound by memory, training less.
GENERATION_UTILISATION, TRAINING_UTILISATION = 0.10, 0.30
# Bytes a parameter: weights, gradients and AdamW's two moments, all in float32.
TRAINING_BYTES = 4 + 4 + 4 + 4
# Copies of the weights that a forward pass in bf16 keeps until its backward pass.
AUTOCAST_BYTES = 2


class Cost(NamedTuple):
    """An estimate: operations (in 1e15), hours on one card, memory of weights and optimiser in GiB."""

    gpu: str
    petaflops: float
    hours: float
    memory_gib: float
    fits: bool


def estimate_cost(
    gpu: str,
    num_parameters: int,
    num_steps: int,
    completions_per_step: int,
    completion_tokens: float,
    extra_forwards: int = 0,
) -> Cost:
    """Estimate a GRPO run; ValueError names the cards there are.

    `completion_tokens` is the mean length of a completion. `extra_forwards` are passes beside those of the plain
    algorithm: one for recomputed activations, one for log-probabilities of a sampler of its own. `fits` compares
    memory without activations and caches.

    >>> round(estimate_cost("A100", 3_000_000_000, 250, 1024, 500).hours, 1)
    13.7
    """
    _check(gpu)
    tokens = num_steps * completions_per_step * completion_tokens
    generated, trained = (
        2 * num_parameters * tokens,
        gradient_operations(num_parameters, tokens, extra_forwards),
    )
    peak = GPUS[gpu].operations_per_s
    seconds = generated / (peak * GENERATION_UTILISATION) + trained / (peak * TRAINING_UTILISATION)
    memory = num_parameters * TRAINING_BYTES / 2**30
    return Cost(gpu, (generated + trained) / 1e15, seconds / 3600, memory, memory < GPUS[gpu].memory_gib)


def gradient_operations(num_parameters: int, tokens: float, extra_forwards: int = 0) -> float:
    """Count the operations of a forward and a backward pass over tokens, and of further forward passes.

    >>> gradient_operations(1_000, 10)
    60000
    """
    return (6 + 2 * extra_forwards) * num_parameters * tokens


def training_memory(num_parameters: int, gpu: str, vllm_share: float, has_reference: bool) -> float:
    """Estimate the memory of a GRPO run on one card, in GiB, without activations; ValueError names the cards there are.

    Weights, gradients and a fused optimiser, their copies in bf16, the KL term's reference model in float32, and the
    share of the card that vLLM takes for its own copy of the weights and its cache.

    >>> round(training_memory(3_000_000_000, "A100", 0.2, has_reference=False), 1)
    66.3
    """
    _check(gpu)
    parameter_bytes = TRAINING_BYTES + AUTOCAST_BYTES + 4 * has_reference
    return num_parameters * parameter_bytes / 2**30 + vllm_share * GPUS[gpu].memory_gib


def card_of(device: str) -> str:
    """Return the key of `GPUS` in a device's name as a driver gives it; ValueError names the cards there are.

    >>> card_of("NVIDIA A100-SXM4-80GB"), card_of("NVIDIA GeForce RTX 4090"), card_of("Tesla T4")
    ('A100', 'RTX4090', 'T4')
    """
    words = re.split(r"[\s-]+", device)
    pairs = (first + second for first, second in pairwise(words))
    card = next((name for name in (*words, *pairs) if name in GPUS), device)
    _check(card)
    return card


def _check(gpu: str) -> None:
    if gpu not in GPUS:
        raise ValueError(f"gpu: unknown {gpu!r}; must be one of {', '.join(GPUS)}")
