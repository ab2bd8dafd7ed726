"""GRPO steps of the GPU profiles on a GPU, beside what is estimated for them.

    python benchmarks/gpu_steps.py [--output gpu_steps.csv] [--models Qwen/Qwen2.5-0.5B ...] [--commit HASH]

Each model has the shape that its configuration on the hub gives, random weights, and a vocabulary of numbered words:
memory and time are those of the model, and its completions run to their cap, as the estimates assume. Everything else
is the profile's, but for three things. Completions come from the book's own sampler and not from vLLM. A step has fewer
micro-batches: each takes what it takes, and a step is their sum. And every second completion is paid, since groups in
which all are paid alike are left out of training. Rows are written as they come. It takes five minutes.
"""

from __future__ import annotations

import argparse
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pandas as pd
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from extrabitter.training import grpo
from extrabitter.params import GrpoParameters
from extrabitter.gpu_plans import CARDS
from extrabitter.models.tiny import SPECIAL_WORDS, build_tokenizer
from extrabitter.plan import make_plan
from extrabitter.models.hub import load_for_stage
from extrabitter.digests import git_state, machine, package_versions
from extrabitter.training_costs import card_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

RESULTS = Path(__file__).with_suffix(".csv")  # committed: what the book shows
MICRO_BATCHES, NUM_STEPS = 8, 2
DEVICE = "cuda"
# Source: config.json of each model on the hub.
SHAPES: dict[str, dict[str, Any]] = {
    "Qwen/Qwen2.5-0.5B": {
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "vocab_size": 151_936,
    },
    "meta-llama/Llama-3.2-1B": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128_256,
    },
    "Qwen/Qwen2.5-3B": {
        "hidden_size": 2048,
        "intermediate_size": 11_008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "vocab_size": 151_936,
    },
    "meta-llama/Llama-3.2-3B": {
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 28,
        "num_attention_heads": 24,
        "num_key_value_heads": 8,
        "vocab_size": 128_256,
    },
}


def build(name: str) -> PreTrainedModel:
    """Return a model of the shape of `name`, random weights, on torch's default device."""
    config_class, model_class = (
        (Qwen2Config, Qwen2ForCausalLM) if name.startswith("Qwen/") else (LlamaConfig, LlamaForCausalLM)
    )
    return model_class(config_class(**SHAPES[name], tie_word_embeddings=True, max_position_embeddings=4096))


def planned_runs() -> dict[str, tuple[str, GrpoParameters]]:
    """Return the profile and the parameters of the first GRPO run of each model, by hub id."""
    found: dict[str, tuple[str, GrpoParameters]] = {}
    for profile in CARDS:
        for job in make_plan(profile).jobs.values():
            if isinstance(job.parameters, GrpoParameters) and not job.inputs:
                found.setdefault(job.parameters.init_from, (profile, job.parameters))
    return found


def as_measured(parameters: GrpoParameters, folder: str) -> GrpoParameters:
    """Return the parameters of a planned run with another sampler, fewer micro-batches and fewer steps."""
    share = GrpoParameters.model_fields["vllm_gpu_memory_utilization"].default
    changes = {"init_from": folder, "rollouts": "batched", "vllm_gpu_memory_utilization": share}
    changes |= {"gradient_accumulation_steps": MICRO_BATCHES, "num_steps": NUM_STEPS, "logging_steps": 1}
    return GrpoParameters(**(parameters.model_dump() | changes))


def paid_in_turn(completions: list[Any], **columns: Any) -> list[float]:
    """Pay every second completion, so that no group of a step is idle."""
    return [float(number % 2) for number in range(len(completions))]


paid_in_turn.__name__ = grpo.correct_reward.__name__  # the step's table knows it by this


def measure(name: str, profile: str, planned: GrpoParameters) -> dict[str, Any]:
    """Train a model of this shape for `NUM_STEPS` steps; return a row of the table, of its last step."""
    with tempfile.TemporaryDirectory() as folder:
        with torch.device(DEVICE):
            build(name).save_pretrained(folder)
        num_words = SHAPES[name]["vocab_size"] - len(SPECIAL_WORDS)
        words = tuple(f"word{number}" for number in range(num_words))
        build_tokenizer(SPECIAL_WORDS + words).save_pretrained(folder)
        torch.cuda.empty_cache()
        parameters = as_measured(planned, folder)
        model, tokenizer, _ = load_for_stage(parameters, folder, training=True)
        sampling: list[int] = []  # bytes: peaks until each step's completions are there
        sample = grpo.generate

        def sample_and_note(*arguments: Any, **options: Any) -> Any:
            torch.cuda.reset_peak_memory_stats()
            completions = sample(*arguments, **options)
            sampling.append(torch.cuda.max_memory_allocated())
            torch.cuda.reset_peak_memory_stats()
            return completions

        with mock.patch.multiple(grpo, generate=sample_and_note, correct_reward=paid_in_turn):
            steps = grpo.train(parameters, model, tokenizer)
        training = torch.cuda.max_memory_allocated()
    last = steps.iloc[-1]
    return {
        "model": name,
        "profile": profile,
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "gpu": machine()["gpu"],
        "completions": parameters.completions_per_step,
        "mean_completion_tokens": last["mean_completion_tokens"],
        "has_reference": parameters.beta > 0,
        # The reference model's pass of a KL term is over before rewards are, and counts as sampling.
        "extra_forwards": int(parameters.activation_checkpointing),
        "rollout_s": last["rollout_s"],
        "train_s": last["train_s"],
        "step_s": last["step_s"],
        "sampling_gib": sampling[-1] / 2**30,
        "training_gib": training / 2**30,
    }


def main() -> None:
    """Measure what was asked for, and write the table after each model."""
    runs = planned_runs()
    parser = argparse.ArgumentParser(description="GRPO steps of the GPU profiles, beside their estimates")
    parser.add_argument("--output", type=Path, help="where the table goes; all models: gpu_steps.csv here")
    parser.add_argument("--models", nargs="+", choices=list(runs), default=list(runs), help="hub ids")
    state = git_state()
    commit = state["commit"] + "-dirty" * state["dirty"]
    parser.add_argument("--commit", default=commit, help="where this is no checkout: its commit")
    arguments = parser.parse_args()
    output = arguments.output or RESULTS
    if set(arguments.models) != set(runs) and arguments.output is None:
        parser.error("--output: must be given with --models, so that no row of other models is lost")
    if not torch.cuda.is_available():
        parser.error("PyTorch sees no GPU")
    try:
        card_of(machine()["gpu"])
    except ValueError as error:
        parser.error(str(error))
    rows = []
    for name in sorted(arguments.models, key=list(SHAPES).index):
        about = {"date": datetime.now(UTC).date().isoformat(), "commit": arguments.commit}
        versions = package_versions()
        about |= {package: versions[package] for package in ("torch", "trl", "transformers")}
        rows.append(measure(name, *runs[name]) | about)
        pd.DataFrame(rows).to_csv(output, index=False)
        print(pd.DataFrame(rows).iloc[-1].to_string(), flush=True)


if __name__ == "__main__":
    main()
