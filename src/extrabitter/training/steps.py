"""What a GRPO run records: one row of table `steps` each optimiser step, reward parts and behaviours apart.

The text that is judged is decoded here, from the token ids and by the models' own rule: TRL's decoding drops special
tokens, among them tags that a tokenizer may know as such. Where several processes share a step, each reads its own
completions, and the row is made of all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
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


@dataclass
class StepTable(TrainerCallback):
    """Listens to the trainer: a row of table `steps` each step, a printed line every `logging_steps`."""

    parameters: GrpoParameters
    task: Task
    wording: Wording
    tokenizer: PreTrainedTokenizerBase
    ends: Collection[int]
    on_save: Callable[[int], None] | None = None

    def __post_init__(self) -> None:
        """Begin without a step."""
        self.rows: list[dict[str, float]] = []
        self.row: dict[str, float] = {}  # of this step
        self.num_tokens = 0
        self.begun = self.sampled = self.rewarded = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock of a step."""
        self.begun = clock()

    def read(
        self, prompts: Sequence[Prompt], completion_ids: Sequence[list[int]], names: Sequence[str]
    ) -> list[Trace]:
        """Read a step's completions of the problems called `names`, once for all rewards and for the table."""
        self.sampled = clock()
        traces, rows = [], []
        for prompt, ids, name in zip(prompts, completion_ids, names, strict=True):
            shown, text = as_read(self.tokenizer, prompt), decode(self.tokenizer, ids, self.ends)
            cut = ids[-1] not in self.ends
            _, trace, cut = read_completion(self.wording, self.task.read_problem(name), text, shown, cut)
            traces.append(trace)
            rows.append({**measure_trace(trace, cut), "num_completion_tokens": len(ids), "truncated": cut})
        everywhere = pd.DataFrame(gather_object(rows))
        self.num_tokens += int(everywhere["num_completion_tokens"].sum())
        self.row = {**summarise(everywhere), "num_tokens": self.num_tokens}
        return traces

    def take_rewards(self, rewards: dict[str, np.ndarray]) -> None:
        """Take over a step's reward parts, (B * G,) each, of all processes."""
        formatted = rewards.get("format_reward")
        total = rewards["correct_reward"]
        if formatted is not None:
            total = total + self.parameters.format_weight * formatted
        groups = total.reshape(-1, self.parameters.num_generations)  # (B, G)
        self.row |= {
            "reward": total.mean(),
            "reward_std": groups.std(axis=1, ddof=1).mean(),
            "correct_reward": rewards["correct_reward"].mean(),
            "format_reward": np.nan if formatted is None else formatted.mean(),
            "frac_informative_groups": (np.ptp(groups, axis=1) > 0).mean(),
        }
        self.rewarded = clock()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop the clock of a step."""
        now = clock()
        times = {"rollout_s": self.sampled - self.begun, "train_s": now - self.rewarded, "step_s": now - self.begun}
        self.row |= {"step": state.global_step, **times}

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any
    ) -> None:
        """Take over what only TRL knows, print a line now and then, and let checkpoints be kept."""
        step, last = state.global_step, self.parameters.num_steps
        if not logs or "loss" not in logs or step != self.row.get("step"):
            return
        check_finite("grpo", step, loss=logs["loss"], grad_norm=logs["grad_norm"])
        self.row |= {key: logs[key] for key in ("loss", "grad_norm", "learning_rate", "entropy")}
        self.rows.append(self.row)
        if state.is_world_process_zero and (step % self.parameters.logging_steps == 0 or step == last):
            print(
                f"step {step}/{last}  reward {self.row['reward']:.3f}  searches {self.row['frac_searches']:.3f}  "
                f"tokens {self.row['mean_completion_tokens']:.0f}  {self.row['step_s']:.1f} s a step",
                flush=True,
            )
        if self.on_save is not None and str(step) in self.parameters.save_steps.split():
            self.on_save(step)

    def dataframe(self) -> pd.DataFrame:
        """Return table `steps`, validated; what a wording does not tell is missing."""
        types = {column.name: "int64" if column.dtype == "int" else "float64" for column in SCHEMAS["steps"]}
        steps = pd.DataFrame(self.rows).reindex(columns=list(types)).astype(types)
        validate_table("steps", steps)
        return steps


def clock() -> float:
    """Return the time in seconds, when a GPU has done what it was given: a program goes on while it works."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()
