"""GRPO by TRL on the verifier's reward, with every value that the argument rests on written out.

Differences from the papers: none in the algorithm. Rollouts come from `extrabitter.models.rollouts` instead of
`model.generate`, and the loss is TRL's own on trimmed micro-batches (`extrabitter.training.loss`); with
`rollouts = "generate"` both are TRL's as it comes, with "vllm" only the sampler is. Rewards keep TRL's contract:
completions and columns in, one float a completion out; GRPO weighs them and logs each apart.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # rollout_func's contract is under test

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from extrabitter.behaviours.measures import measure_trace, summarise
from extrabitter.models.hub import as_read, check_lengths, decode, encode_prompts, end_ids
from extrabitter.models.rollouts import Rollouts, SamplingParameters, generate
from extrabitter.models.tiny import mask_tokens, masked_token_ids, word_ids
from extrabitter.params import GrpoParameters
from extrabitter.seeding import derive_seed
from extrabitter.tables import SCHEMAS, validate_table
from extrabitter.tasks import Prompt, Task, Trace, Wording, band_of, load_task
from extrabitter.tasks.free_text import choose_wording, read_completion
from extrabitter.training.exploration import beginnings, with_hints
from extrabitter.training.loss import TrimmedGRPOTrainer
from extrabitter.training.rewards import rewards_of
from extrabitter.training.trainers import check_finite, common_arguments, lent_to_trl


def build_config(parameters: GrpoParameters, output_dir: str) -> GRPOConfig:
    """Return TRL's configuration of a run; nothing that bears on a result is left to a default."""
    return GRPOConfig(
        output_dir=output_dir,
        # The objective.
        loss_type=parameters.loss_type,  # Source: Dr. GRPO, arXiv 2503.20783, section 3 (constant normaliser)
        scale_rewards=parameters.scale_rewards,  # Source: the same; "group" is DeepSeekMath, 2402.03300, eq. 3
        beta=parameters.beta,  # Source: DAPO, arXiv 2503.14476, section 2.3, has no KL term; DeepSeekMath .04
        epsilon=0.2,  # Source: PPO, arXiv 1707.06347, section 6.1 (.2)
        epsilon_high=parameters.epsilon_high,  # Source: DAPO, section 3.1, has .28; one update a batch clips nothing
        delta=None,
        num_iterations=parameters.num_iterations,  # Source: DeepSeekMath, 2402.03300, section 4.2: a single update
        importance_sampling_level="token",  # Source: DeepSeekMath, eq. 3
        multi_objective_aggregation="sum_then_normalize",  # ours: the sum of the parts is the reward
        mask_truncated_completions=False,  # ours: a completion cut at the cap is wrong, and counts as wrong
        top_entropy_quantile=1.0,  # ours: all tokens
        entropy_coef=parameters.entropy_coef,  # ours: what search survives must survive without a bonus
        use_adaptive_entropy=False,
        off_policy_mask_threshold=None,
        reward_weights=[weight for _, weight in rewards_of(parameters)],
        # The data: G completions of each prompt, one optimiser step on each batch of them.
        num_generations=parameters.num_generations,  # Source: DeepSeekMath 64; ours 8, because of the CPU
        per_device_train_batch_size=parameters.per_device_train_batch_size,
        gradient_accumulation_steps=parameters.gradient_accumulation_steps,
        steps_per_generation=parameters.gradient_accumulation_steps,  # each step on completions of its own
        max_completion_length=parameters.max_completion_length,
        max_steps=parameters.num_steps,
        shuffle_dataset=False,  # ours: problems are drawn by label, and arms of one seed see the same ones
        # The sampler.
        temperature=parameters.temperature,  # Source: R1, arXiv 2501.12948: 1 in training
        top_p=1.0,  # ours, because any filter makes the sampler another policy than the one that is trained
        top_k=0,
        min_p=None,
        repetition_penalty=1.0,
        use_vllm=parameters.rollouts == "vllm",
        vllm_mode="server" if parameters.vllm_server else "colocate",
        vllm_server_base_url=parameters.vllm_server or None,
        vllm_gpu_memory_utilization=parameters.vllm_gpu_memory_utilization,
        vllm_importance_sampling_correction=True,  # corrects for vLLM's kernels; not read by the other samplers
        learning_rate=parameters.learning_rate,  # ours, from pilots: 1e-6 of the papers is for 1e9 parameters
        lr_scheduler_type="constant",  # ours: constant, so that a step's place has no effect
        disable_dropout=True,
        tf32=False,
        activation_checkpointing=parameters.activation_checkpointing,
        log_completions=False,
        **common_arguments(parameters),
    )


def train(
    parameters: GrpoParameters,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    on_save: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Train `model` in place; return table `steps`. `on_save(step)` is called after each of `save_steps`.

    Raises one line where prompts and cap are longer than the model's positions, and where training diverges.
    """
    masked = masked_token_ids(model)
    ends = end_ids(model, tokenizer)
    with lent_to_trl(model, tokenizer, ends) as output_dir:
        trainer, table = build_trainer(parameters, model, tokenizer, ends, output_dir, on_save)
        if trainer.ref_model is not None and masked:
            mask_tokens(trainer.ref_model, masked)
        trainer.train()
    return table.dataframe()


def build_trainer(
    parameters: GrpoParameters,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    ends: Collection[int],
    output_dir: str,
    on_save: Callable[[int], None] | None = None,
) -> tuple[GRPOTrainer, StepTable]:
    """Assemble TRL's trainer (problems, rewards, sampler, loss) and the table that listens to it."""
    task = load_task(parameters.task)
    wording = choose_wording(task, parameters)
    count = parameters.num_steps * parameters.completions_per_step // parameters.num_generations
    seed = derive_seed(parameters.seed, "grpo", "problems")
    problems = drawn_problems(parameters, task, count, seed)
    prompts = [wording.prompt(problem) for problem in problems]
    longest = max(map(len, encode_prompts(tokenizer, prompts)))
    check_lengths(model, longest + parameters.max_completion_length)
    table = StepTable(parameters, task, wording, tokenizer, ends, on_save)
    hinted = dict(zip(map(str, prompts), problems, strict=True)) if parameters.hint != "none" else {}
    trainer = TrimmedGRPOTrainer(
        model=model,
        reward_funcs=[reward for reward, _ in rewards_of(parameters)],
        args=build_config(parameters, output_dir),
        train_dataset=Dataset.from_dict({"prompt": prompts, "problem": [p.identifier for p in problems]}),
        processing_class=tokenizer,
        callbacks=[table],
        rollout_func=batched_rollouts(parameters, ends, task, hinted)
        if parameters.rollouts == "batched"
        else None,
    )
    trainer.table, trainer.trimmed = table, parameters.rollouts != "generate"
    trainer.remove_callback(PrinterCallback)
    return trainer, table


def drawn_problems(parameters: GrpoParameters, task: Task, count: int, seed: int) -> list[Any]:
    """Return a run's problems in their order; a share of them, spread evenly, is of the easier band."""
    problems = task.problems("train", count, seed, band_of(task, parameters.band))
    places = np.flatnonzero(np.diff(np.floor(np.arange(count + 1) * parameters.easy_share)))
    easy = task.problems("train", len(places), derive_seed(seed, "easy"), band_of(task, parameters.easy_band))
    for place, problem in zip(places, easy, strict=True):
        problems[place] = problem
    return problems


def batched_rollouts(
    parameters: GrpoParameters, ends: Collection[int], task: Task, problems: dict[str, Any]
) -> Callable[[list[Prompt], GRPOTrainer], dict[str, Any]]:
    """Return a `rollout_func` for TRL that samples with `extrabitter.models.rollouts`, hints in front if there are any.

    TRL passes each prompt once per generation, repeated (its docstring says without duplicates). `problems` are by
    prompt.
    """
    seed = derive_seed(parameters.seed, "grpo", "rollouts")
    sampling = SamplingParameters(parameters.max_completion_length, temperature=parameters.temperature)
    generator: torch.Generator | None = None

    def rollout(prompts: list[Prompt], trainer: GRPOTrainer) -> dict[str, Any]:
        nonlocal generator
        model, tokenizer = trainer.model, trainer.processing_class
        generator = generator or torch.Generator(model.device).manual_seed(seed)
        prompt_ids = encode_prompts(tokenizer, prompts)

        def draw(begun: Sequence[Sequence[int]]) -> Rollouts:
            return generate(model, begun, 1, sampling, end_ids=ends, generator=generator)

        def written(begun: list[str]) -> list[str]:
            drawn = draw(encode_prompts(tokenizer, begun))
            return [decode(tokenizer, ids, ends) for ids in drawn.completion_ids]

        hints: list[list[int]] = [[] for _ in prompts]
        if parameters.hint != "none":
            step, names = trainer.state.global_step, [str(prompt) for prompt in prompts]
            texts = beginnings(parameters, task, problems, names, step, written)
            hints = [word_ids(tokenizer, text.split()) for text in texts]
        drawn = draw([[*prompt, *hint] for prompt, hint in zip(prompt_ids, hints, strict=True)])
        cap = sampling.max_completion_length
        return {"prompt_ids": prompt_ids, **with_hints(hints, drawn, ends, cap)}

    return rollout


@dataclass
class StepTable(TrainerCallback):
    """Listens to the trainer: a row of table `steps` each step, a printed line every `logging_steps`.

    The text that is judged is decoded here, from the token ids and by the models' own rule: TRL's decoding drops
    special tokens, among them tags that a tokenizer may know as such.
    """

    parameters: GrpoParameters
    task: Task
    wording: Wording
    tokenizer: PreTrainedTokenizerBase
    ends: Collection[int]
    on_save: Callable[[int], None] | None = None
    rows: list[dict[str, float]] = field(default_factory=list)
    row: dict[str, float] = field(default_factory=dict)  # of this step
    num_tokens: int = 0
    begun = sampled = rewarded = 0.0  # seconds

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
            rows.append({**measure_trace(trace), "num_completion_tokens": len(ids), "truncated": cut})
        completions = pd.DataFrame(rows)
        self.num_tokens += int(completions["num_completion_tokens"].sum())
        self.row = {**summarise(completions), "num_tokens": self.num_tokens}
        return traces

    def take_rewards(self, rewards: dict[str, np.ndarray], total: np.ndarray) -> None:
        """Take over a step's reward parts and their weighted sum, (B * G,) each."""
        correct, formatted = rewards.get("correct_reward", self.row["pass@1"]), rewards.get("format_reward")
        groups = total.reshape(-1, self.parameters.num_generations)  # (B, G)
        self.row |= {
            "reward": total.mean(),
            "reward_std": groups.std(axis=1, ddof=1).mean(),
            "correct_reward": float(np.mean(correct)),
            "format_reward": np.nan if formatted is None else formatted.mean(),
            "frac_informative_groups": (np.ptp(groups, axis=1) > 0).mean(),
        }
        self.rewarded = clock()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop the clock of a step."""
        now = clock()
        # A second update on the same completions draws none, and has a row of its own.
        drawn = max(self.sampled, self.begun)
        self.row = {**self.row, "step": state.global_step, "rollout_s": drawn - self.begun}
        self.row |= {"train_s": now - max(self.rewarded, self.begun), "step_s": now - self.begun}
        budget = self.parameters.num_tokens
        control.should_training_stop |= bool(budget) and self.num_tokens >= budget

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
        if step % self.parameters.logging_steps == 0 or step == last:
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
