"""What a GRPO run records: one row of table `steps` each optimiser step, reward parts and behaviours apart.

Where several processes share a step, each sees its own completions, and the row is made of all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate.utils import gather_object
from transformers import TrainerCallback

from extrabitter.behaviours.measures import summarise
from extrabitter.params import GrpoParameters
from extrabitter.tables import SCHEMAS, validate_table
from extrabitter.tasks.countdown import Problem
from extrabitter.tasks.wording import Prompt, choose_wording, spoken

RewardFunction = Callable[..., list[float]]


class StepTable(TrainerCallback):
    """Listens to the trainer: a row of table `steps` each step, a printed line every `logging_steps`."""

    def __init__(self, parameters: GrpoParameters, on_save: Callable[[int], None] | None = None) -> None:
        self.parameters, self.on_save = parameters, on_save
        self.wording = choose_wording(parameters)
        self.save_steps = {int(step) for step in parameters.save_steps.split()}
        self.rows: list[dict[str, float]] = []
        self.row: dict[str, float] = {}
        self.parts: dict[str, np.ndarray] = {}  # reward parts of this step, (B * G,) each
        self.begun = self.sampled = self.rewarded = 0.0

    def recorded(self, reward: RewardFunction) -> RewardFunction:
        """Return `reward`, of which this table sees what goes in and what comes out."""

        def recorded_reward(completions: list[Prompt], **columns: Any) -> list[float]:
            if not self.parts:
                self.sampled = _clock()
                self.row = self._measured(completions, **columns)
            values = reward(completions=completions, wording=self.wording, **columns)
            self.parts[reward.__name__] = np.array(gather_object(values))
            self.rewarded = _clock()
            return values

        recorded_reward.__name__ = reward.__name__
        return recorded_reward

    def _measured(
        self,
        completions: list[Prompt],
        completion_ids: list[list[int]],
        numbers: list[list[int]],
        target: list[int],
        trainer_state: Any,
        **columns: Any,
    ) -> dict[str, float]:
        lengths = [len(ids) for ids in completion_ids]
        truncated = [
            self.wording.is_truncated(spoken(completion), ids[-1] == self.eos_token_id)
            for completion, ids in zip(completions, completion_ids, strict=True)
        ]
        rows = [
            self.wording.measure(spoken(completion), Problem(tuple(sorted(given)), goal), cut)
            for completion, given, goal, cut in zip(completions, numbers, target, truncated, strict=True)
        ]
        measured = pd.DataFrame(rows).assign(num_completion_tokens=lengths, truncated=truncated)
        everywhere = pd.DataFrame(gather_object(measured.to_dict("records")))
        return summarise(everywhere, self.wording.measures)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock of a step."""
        self.eos_token_id = kwargs["processing_class"].eos_token_id
        self.parts = {}
        self.begun = _clock()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Complete the step's row, but for what TRL logs afterwards."""
        now = _clock()
        rewards = self.parts["correct_reward"] + self.parameters.format_weight * self.parts.get(
            "format_reward", 0.0
        )
        groups = rewards.reshape(-1, self.parameters.num_generations)  # (B, G)
        self.row |= {
            "step": state.global_step,
            "reward": rewards.mean(),
            "reward_std": groups.std(axis=1, ddof=1).mean(),
            "correct_reward": self.parts["correct_reward"].mean(),
            "format_reward": self.parts["format_reward"].mean() if "format_reward" in self.parts else np.nan,
            "frac_informative_groups": (np.ptp(groups, axis=1) > 0).mean(),
            "rollout_s": self.sampled - self.begun,
            "train_s": now - self.rewarded,
            "step_s": now - self.begun,
        }

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any
    ) -> None:
        """Take over what only TRL knows, print a line now and then, and let checkpoints be kept."""
        if not logs or "loss" not in logs or state.global_step != self.row.get("step"):
            return
        self.row |= {key: logs[key] for key in ("loss", "grad_norm", "learning_rate", "entropy")}
        self.rows.append(self.row)
        step, last = state.global_step, self.parameters.num_steps
        if state.is_world_process_zero and (step % self.parameters.logging_steps == 0 or step == last):
            print(
                f"step {step}/{last}  reward {self.row['reward']:.3f}  searches {self.row['frac_searches']:.3f}  "
                f"tokens {self.row['mean_completion_tokens']:.0f}  {self.row['step_s']:.1f} s a step",
                flush=True,
            )
        if self.on_save is not None and step in self.save_steps:
            self.on_save(step)

    def dataframe(self) -> pd.DataFrame:
        """Return table `steps`, validated."""
        columns = {column.name: column.dtype for column in SCHEMAS["steps"]}
        # What free text does not tell, such as the hit rate, is missing.
        steps = pd.DataFrame(self.rows).reindex(columns=list(columns)).astype({"step": "int64"})
        steps = steps.astype({name: "float64" for name, dtype in columns.items() if dtype == "float"})
        validate_table("steps", steps)
        return steps


def _clock() -> float:
    """Return the time in seconds, when a GPU has done what it was given: a program goes on while it works."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()
