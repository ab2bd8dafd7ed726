"""What the GPU profiles would cost: memory and hours of each GRPO run, estimated, beside steps that were measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import pandas as pd

from extrabitter.config import GrpoParameters, StageParameters
from extrabitter.training_costs import (
    GPUS,
    NUM_PARAMETERS,
    TRAINING_UTILISATION,
    card_of,
    estimate_cost,
    gradient_operations,
    training_memory,
)

# The card that each profile is written for: a key of training_costs.GPUS.
CARDS = {"gpu": "A100", "gpu_small": "L40S"}


class PlannedJob(Protocol):
    """What is read of a job of `pipeline`."""

    @property
    def arm(self) -> str:
        """Name of the arm."""
        ...

    @property
    def parameters(self) -> StageParameters:
        """The run's parameters."""
        ...

    @property
    def inputs(self) -> tuple[str, ...]:
        """Keys of the jobs whose checkpoints it reads."""
        ...


def gpu_plans(jobs_of: Mapping[str, Mapping[str, PlannedJob]]) -> pd.DataFrame:
    """Return one row a GRPO run, given the jobs of each of the profiles in `CARDS`.

    Columns: profile, arm, model (its hub id), card, card_gib, memory_gib (without activations), completions (of a
    step), steps, hours (if every completion were as long as its cap, so an upper end).
    """
    rows = []
    for profile, card in CARDS.items():
        jobs = jobs_of[profile]
        for job in jobs.values():
            parameters = job.parameters
            if not isinstance(parameters, GrpoParameters):
                continue
            first = job
            while first.inputs:
                first = jobs[first.inputs[0]]
            model = getattr(first.parameters, "init_from", "")
            size = NUM_PARAMETERS[model]
            cost = estimate_cost(
                card,
                size,
                parameters.num_steps,
                parameters.completions_per_step,
                parameters.max_completion_length,
                extra_forwards=parameters.activation_checkpointing + (parameters.rollouts == "vllm"),
            )
            memory = training_memory(size, card, parameters.vllm_gpu_memory_utilization, parameters.beta > 0)
            rows.append(
                {
                    "profile": profile,
                    "arm": job.arm,
                    "model": model,
                    "card": card,
                    "card_gib": GPUS[card].memory_gib,
                    "memory_gib": memory,
                    "completions": parameters.completions_per_step,
                    "steps": parameters.num_steps,
                    "hours": cost.hours,
                }
            )
    return pd.DataFrame(rows)


def measured_steps(measured: pd.DataFrame) -> pd.DataFrame:
    """Set GRPO steps that `benchmarks/gpu_steps.py` measured beside their estimates: one row a model.

    Columns: model, gpu, completions, tokens (of a completion), memory_gib (estimated without vLLM) and measured_gib (of
    the gradient), sampling_gib (measured, of the book's own sampler), utilisation (share of the card's peak that the
    gradient reached; the estimate takes TRAINING_UTILISATION), slower (seconds of the gradient over those estimated).
    """
    rows = []
    for step in measured.to_dict("records"):
        card = card_of(step["gpu"])
        tokens = step["completions"] * step["mean_completion_tokens"]
        operations = gradient_operations(step["num_parameters"], tokens, step["extra_forwards"])
        utilisation = operations / (GPUS[card].operations_per_s * step["train_s"])
        rows.append(
            {
                "model": step["model"],
                "gpu": card,
                "completions": step["completions"],
                "tokens": step["mean_completion_tokens"],
                "memory_gib": training_memory(step["num_parameters"], card, 0.0, step["has_reference"]),
                "measured_gib": step["training_gib"],
                "sampling_gib": step["sampling_gib"],
                "utilisation": utilisation,
                "slower": TRAINING_UTILISATION / utilisation,
            }
        )
    return pd.DataFrame(rows)
