"""What a GRPO run records: one row of table `steps` each optimiser step, reward parts and behaviours apart.

The text that is judged is decoded here, from the token ids and by the models' own rule: TRL's decoding drops special
tokens, among them tags that a tokenizer may know as such. Where several processes share a step, each sees its own
completions, and the row is made of all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from accelerate.utils import gather_object
from transformers import TrainerCallback

from extrabitter.behaviours.measures import measure_trace, summarise
from extrabitter.models.hub import as_read, decode
from extrabitter.params import GrpoParameters
from extrabitter.tables import SCHEMAS, validate_table
from extrabitter.tasks import Prompt, Task, Trace, Wording
from extrabitter.tasks.wording import read_completion
from extrabitter.training import check_finite

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

RewardFunction = Callable[..., list[float]]


class StepTable(TrainerCallback):
    """Listens to the trainer: a row of table `steps` each step, a printed line every `logging_steps`."""

    def __init__(
        self,
        parameters: GrpoParameters,
        task: Task,
        wording: Wording,
        tokenizer: PreTrainedTokenizerBase,
        ends: Collection[int],
        on_save: Callable[[int], None] | None = None,
    ) -> None:
        self.parameters, self.task, self.wording, self.on_save = parameters, task, wording, on_save
        self.tokenizer, self.ends = tokenizer, ends
        self.save_steps = {int(step) for step in parameters.save_steps.split()}
        self.rows: list[dict[str, float]] = []
        self.row: dict[str, float] = {}
        self.traces: list[Trace] = []  # of this step and process
        self.parts: dict[str, np.ndarray] = {}  # reward parts of this step, (B * G,) each
        self.num_tokens = 0
        self.begun = self.sampled = self.rewarded = 0.0

    def recorded(self, name: str, reward: RewardFunction) -> RewardFunction:
        """Return `reward` under a name, of which this table sees what goes in and what comes out."""

        def recorded_reward(
            prompts: list[Prompt], completion_ids: list[list[int]], problem: list[str], **columns: Any
        ) -> list[float]:
            if not self.parts:
                self.sampled = clock()
                self._read(prompts, completion_ids, problem)
            values = reward(problem=problem, traces=self.traces, **columns)
            self.parts[name] = np.array(gather_object(values))
            self.rewarded = clock()
            return values

        recorded_reward.__name__ = name
        return recorded_reward

    def _read(
        self, prompts: Sequence[Prompt], completion_ids: Sequence[list[int]], problem: Sequence[str]
    ) -> None:
        """Read this step's completions once, for all rewards and for the table."""
        self.traces, rows = [], []
        for prompt, ids, name in zip(prompts, completion_ids, problem, strict=True):
            shown = as_read(self.tokenizer, prompt)
            text = decode(self.tokenizer, ids, self.ends)
            cut = ids[-1] not in self.ends
            _, trace, cut = read_completion(self.wording, self.task.read_problem(name), text, shown, cut)
            self.traces.append(trace)
            rows.append({**measure_trace(trace, cut), "num_completion_tokens": len(ids), "truncated": cut})
        everywhere = pd.DataFrame(gather_object(rows))
        self.num_tokens += int(everywhere["num_completion_tokens"].sum())
        self.row = summarise(everywhere)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock of a step."""
        self.parts = {}
        self.begun = clock()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Complete the step's row, but for what TRL logs afterwards."""
        now = clock()
        formatted = self.parts.get("format_reward")
        rewards = self.parts["correct_reward"]
        if formatted is not None:
            rewards = rewards + self.parameters.format_weight * formatted
        groups = rewards.reshape(-1, self.parameters.num_generations)  # (B, G)
        self.row |= {
            "step": state.global_step,
            "num_tokens": self.num_tokens,
            "reward": rewards.mean(),
            "reward_std": groups.std(axis=1, ddof=1).mean(),
            "correct_reward": self.parts["correct_reward"].mean(),
            "format_reward": np.nan if formatted is None else formatted.mean(),
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
        check_finite("grpo", state.global_step, loss=logs["loss"], grad_norm=logs["grad_norm"])
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
        """Return table `steps`, validated; what a wording does not tell is missing."""
        columns = {column.name: column.dtype for column in SCHEMAS["steps"]}
        types = {name: "int64" if dtype == "int" else "float64" for name, dtype in columns.items()}
        steps = pd.DataFrame(self.rows).reindex(columns=list(columns)).astype(types)
        validate_table("steps", steps)
        return steps


def clock() -> float:
    """Return the time in seconds, when a GPU has done what it was given: a program goes on while it works."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()
