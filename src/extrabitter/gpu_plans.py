"""What the GPU profiles would cost: memory and hours of each GRPO run on its card, estimated and not run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import pandas as pd

from extrabitter.config import GrpoParameters, StageParameters
from extrabitter.training_costs import GPUS, NUM_PARAMETERS, estimate_cost, training_memory

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
