"""GRPO by TRL on the verifier's reward, with every value that the argument rests on written out.

Differences from the papers: none in the algorithm. Rollouts come from `extrabitter.models.rollouts` instead of
`model.generate`, and the loss is TRL's own on trimmed micro-batches (`extrabitter.training.loss`); with
`rollouts = "generate"` both are TRL's as it comes, with "vllm" only the sampler is, and the loss alone where several
processes share a step.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from functools import partial, update_wrapper, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # rollout_func's contract is under test

from accelerate import PartialState
from datasets import Dataset
from transformers import PrinterCallback
from trl import GRPOConfig, GRPOTrainer

from extrabitter.models.hub import check_lengths, encode_prompts, end_ids, load_for_stage
from extrabitter.models.rollouts import generate
from extrabitter.models.sampling import SamplingParameters
from extrabitter.models.tiny import mask_tokens, masked_token_ids, save_checkpoint, set_up_process
from extrabitter.params import GrpoParameters
from extrabitter.seeding import derive_seed
from extrabitter.tasks import Prompt, Task, band_of, load_task
from extrabitter.tasks.wording import choose_wording
from extrabitter.training.exploration import WeightedGRPOTrainer, explore
from extrabitter.training.loss import ExactGRPOTrainer, TrimmedGRPOTrainer
from extrabitter.training.rewards import correct_reward, format_reward
from extrabitter.training.steps import StepTable
from extrabitter.training.trainers import common_arguments, lent_to_trl

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

RewardFunction = Callable[..., list[float]]


def build_config(parameters: GrpoParameters, output_dir: str) -> GRPOConfig:
    """Return TRL's configuration of a run; nothing that bears on a result is left to a default."""
    return GRPOConfig(
        output_dir=output_dir,
        # The objective.
        loss_type=parameters.loss_type,  # Source: Dr. GRPO, arXiv 2503.20783, section 3 (constant normaliser)
        scale_rewards=parameters.scale_rewards,  # Source: the same; "group" is DeepSeekMath, 2402.03300, eq. 3
        beta=parameters.beta,  # Source: DAPO, arXiv 2503.14476, section 2.3, has no KL term; DeepSeekMath .04
        epsilon=parameters.epsilon,  # Source: PPO, arXiv 1707.06347, section 6.1 (.2)
        epsilon_high=None,  # ours: symmetric clipping; one update a batch keeps the ratio at 1, nothing is clipped
        delta=None,
        num_iterations=1,  # Source: DeepSeekMath, 2402.03300, section 4.2: a single update a batch
        importance_sampling_level="token",  # Source: DeepSeekMath, eq. 3
        multi_objective_aggregation="sum_then_normalize",  # ours: the sum of the parts is the reward
        mask_truncated_completions=False,  # ours: a completion cut at the cap is wrong, and counts as wrong
        top_entropy_quantile=1.0,  # ours: all tokens
        entropy_coef=0.0,  # ours: what search survives must survive without a bonus
        use_adaptive_entropy=False,
        off_policy_mask_threshold=None,
        reward_weights=[1.0, parameters.format_weight] if parameters.format_weight else [1.0],
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
        lr_scheduler_type=parameters.lr_scheduler_type,  # ours: constant, so that a step's place has no effect
        disable_dropout=True,
        tf32=False,
        activation_checkpointing=parameters.activation_checkpointing,
        log_completions=False,
        **common_arguments(parameters),
    )


def run_stage(parameters: GrpoParameters, folder: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Train from `init_from`; leave `checkpoint/`, and `checkpoint-<step>/` for each of `save_steps`, in `folder`.

    Returns table `steps` and the record of the model that was loaded.
    """
    set_up_process(parameters.threads)
    model, tokenizer, record = load_for_stage(parameters, parameters.init_from, training=True)
    steps = train(
        parameters, model, tokenizer, lambda step: save_checkpoint(model, tokenizer, folder / f"checkpoint-{step}")
    )
    if PartialState().is_main_process:
        save_checkpoint(model, tokenizer, folder / "checkpoint")
    return steps, record


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
    if masked and parameters.rollouts == "vllm":
        raise ValueError("masked_words: vLLM does not see the mask of the forward pass; use rollouts = 'batched'")
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
    problems = task.problems("train", count, seed, band_of(task, parameters.band))
    prompts = [wording.prompt(problem) for problem in problems]
    longest = max(map(len, encode_prompts(tokenizer, prompts)))
    check_lengths(model, longest + parameters.max_completion_length)
    table = StepTable(parameters, task, wording, tokenizer, ends, on_save)
    rewards = [correct_reward, format_reward] if parameters.format_weight else [correct_reward]
    rewards = [permuted(reward, parameters) for reward in rewards] if parameters.permute_rewards else rewards
    trainer_class = ExactGRPOTrainer if parameters.rollouts == "generate" else TrimmedGRPOTrainer
    if parameters.forced_search_share and parameters.forced_search_weighted:
        trainer_class = WeightedGRPOTrainer
    trainer = trainer_class(
        model=model,
        reward_funcs=[update_wrapper(partial(reward, task=task, wording=wording), reward) for reward in rewards],
        args=build_config(parameters, output_dir),
        train_dataset=Dataset.from_dict({"prompt": prompts, "problem": [p.identifier for p in problems]}),
        processing_class=tokenizer,
        callbacks=[table],
        rollout_func=batched_rollouts(parameters, task, ends) if parameters.rollouts == "batched" else None,
    )
    trainer.table = table
    trainer.remove_callback(PrinterCallback)
    return trainer, table


def batched_rollouts(
    parameters: GrpoParameters, task: Task, ends: Collection[int]
) -> Callable[[list[Prompt], GRPOTrainer], dict[str, Any]]:
    """Return a `rollout_func` for TRL that samples with `extrabitter.models.rollouts`.

    TRL passes each prompt once per generation, repeated (its docstring says without duplicates).
    """
    seed = derive_seed(parameters.seed, "grpo", "rollouts")
    sampling = SamplingParameters(parameters.max_completion_length, temperature=parameters.temperature)
    generators: dict[torch.device, torch.Generator] = {}

    def rollout(prompts: list[Prompt], trainer: GRPOTrainer) -> dict[str, Any]:
        model, tokenizer = trainer.model, trainer.processing_class
        if model.device not in generators:
            generators[model.device] = torch.Generator(model.device).manual_seed(seed)
        generator = generators[model.device]
        prompt_ids = encode_prompts(tokenizer, prompts)
        rollouts = generate(model, prompt_ids, 1, sampling, end_ids=ends, generator=generator)
        completion_ids, logprobs = rollouts.completion_ids, rollouts.logprobs
        if share := parameters.forced_search_share:
            completion_ids, logprobs, trainer.exploration_weights = explore(
                model, tokenizer, task, prompt_ids, rollouts, sampling, share, ends, generator
            )
        return {"prompt_ids": prompt_ids, "completion_ids": completion_ids, "logprobs": logprobs}

    return rollout


def permuted(reward: RewardFunction, parameters: GrpoParameters) -> RewardFunction:
    """Return `reward` with its values permuted inside each group, alike for all components: a control.

    What a group is paid stays, which completion is paid for becomes chance.
    """
    size = parameters.num_generations

    @wraps(reward)
    def permuted_reward(*args: Any, trainer_state: Any, **columns: Any) -> list[float]:
        values = np.reshape(reward(*args, **columns), (-1, size))  # (B, G)
        seed = derive_seed(parameters.seed, "permute_rewards", trainer_state.global_step)
        order = np.random.default_rng(seed).permuted(np.tile(np.arange(size), (len(values), 1)), axis=1)
        return np.take_along_axis(values, order, axis=1).ravel().tolist()

    return permuted_reward
