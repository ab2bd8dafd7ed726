"""One side of a measurement of `bench.py`, in a process of its own.

It gets ready, says so, and then does one round for each line that it reads, so that two processes can take turns.
Each line that it prints is one JSON object: `{}` once ready, what a round took, and at the end what holds for all.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

START = time.perf_counter()
Round = Callable[[], dict[str, Any]]


def main() -> None:
    """Measure what the first argument says."""
    job = json.loads(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries and kernels print is no answer
    if (core := job.get("core")) is not None:  # before PyTorch counts the cores that it may use
        os.sched_setaffinity(0, {core})
    take_round, flops_per_token = KINDS[job["kind"]](job)
    print("{}", file=answers, flush=True)
    for _ in sys.stdin:
        print(json.dumps(take_round()), file=answers, flush=True)
    of_all: dict[str, float] = {}
    if flops_per_token:
        of_all["peak_rss_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        if job["sampler"] == "ours":
            of_all |= {"flops_per_token": flops_per_token, "peak_gflops": peak_gflops()}
    print(json.dumps(of_all), file=answers, flush=True)


def set_up(job: dict[str, Any]) -> None:
    """Make this the process that ours runs in; that of stock is as PyTorch leaves it, but for memory kept if asked."""
    import torch

    from extrabitter.models.tiny import keep_freed_memory, set_up_process

    if job["sampler"] == "ours":
        set_up_process(job["threads"])
        return
    torch.set_num_threads(job["threads"])
    if job["sampler"] == "kept":
        keep_freed_memory()


def importing(job: dict[str, Any]) -> tuple[Round, int]:
    """Measure from a bare interpreter to a module that can train."""
    import extrabitter.training.grpo

    assert extrabitter.training.grpo
    seconds = time.perf_counter() - START
    return lambda: {"wall_s": seconds}, 0


def kernel_start(job: dict[str, Any]) -> tuple[Round, int]:
    """Measure how long a Jupyter kernel takes to start and answer, as each run's notebook waits for one."""
    from jupyter_client.manager import start_new_kernel

    def take_round() -> dict[str, Any]:
        begun = time.perf_counter()
        manager, client = start_new_kernel(kernel_name="python3")
        seconds = time.perf_counter() - begun
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        return {"wall_s": seconds}

    return take_round, 0


def peak_gflops() -> float:
    """Return the rate of a large matrix multiplication, the best of 5, in 1e9 operations a second."""
    import torch

    a = torch.randn(1024, 1024)
    return 2 * 1024**3 / min(timed(lambda: a @ a)[0]["wall_s"] for _ in range(5)) / 1e9


def timed(call: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    """Return the wall and processor seconds of a call, and its result."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}, result


def rollouts(job: dict[str, Any]) -> tuple[Round, int]:
    """Sample `count` completions, by ours or by stock `model.generate`."""
    import torch
    from workloads import MAX_COMPLETION_LENGTH, NUM_GENERATIONS, build, prompts

    from extrabitter.models.rollouts import SamplingParameters, generate

    set_up(job)
    model, tokenizer = build(job["workload"])
    group = 256 if job["kind"] == "pass_at_256" else NUM_GENERATIONS
    distinct = prompts(tokenizer, job["count"] // group)
    sampling = SamplingParameters(MAX_COMPLETION_LENGTH[job["workload"]])
    generator = torch.Generator().manual_seed(0)
    eos = tokenizer.eos_token_id

    def ours(given: list[list[int]]) -> int:
        found = generate(model, given, group, sampling, eos_token_id=eos, generator=generator)
        return sum(map(len, found.completion_ids))

    def stock(given: list[list[int]]) -> int:
        width = max(map(len, given))
        rows = [[0] * (width - len(prompt)) + prompt for prompt in given for _ in range(group)]
        ids = torch.tensor(rows)
        output = model.generate(
            ids,
            attention_mask=(ids != 0).long(),
            do_sample=True,
            top_k=0,
            max_new_tokens=sampling.max_completion_length,
        )[:, width:]
        ended = (output == eos).cumsum(dim=1)
        return int((ended == 0).sum() + (ended.max(dim=1).values > 0).sum())

    sampler = ours if job["sampler"] == "ours" else stock

    def take_round(given: list[list[int]] = distinct) -> dict[str, Any]:
        seconds, tokens = timed(lambda: sampler(given))
        return {**seconds, "tokens": tokens}

    take_round(distinct[:2])
    return take_round, 2 * num_weights(model)


def step(job: dict[str, Any]) -> tuple[Round, int]:
    """Take whole GRPO steps of `count` completions: sampling, rewards, loss and update."""
    from workloads import MAX_COMPLETION_LENGTH, NUM_GENERATIONS, build, length_reward

    from extrabitter.training import grpo
    from extrabitter.params import GrpoParameters

    class StepClock(grpo.StepTable):
        """The table of steps, and the processor seconds of the last one."""

        cpu_s = 0.0

        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            self.cpu_begun = time.process_time()
            super().on_step_begin(*args, **kwargs)

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            self.cpu_s = time.process_time() - self.cpu_begun
            super().on_step_end(*args, **kwargs)

    set_up(job)
    length_reward.__name__ = "correct_reward"
    grpo.correct_reward = length_reward  # type: ignore[assignment]
    # A rate of nearly zero keeps the completions as long as they are.
    parameters = GrpoParameters(
        run_dir="unused",
        arm="bench",
        seed=0,
        init_from="unused",
        learning_rate=1e-9,
        num_generations=NUM_GENERATIONS,
        per_device_train_batch_size=job["count"],
        max_completion_length=MAX_COMPLETION_LENGTH[job["workload"]],
        logging_steps=1000,
        num_steps=2,
        rollouts="batched" if job["sampler"] == "ours" else "generate",
    )

    def take_round() -> dict[str, Any]:
        model, tokenizer = build(job["workload"])
        clock = StepClock(parameters)
        with tempfile.TemporaryDirectory() as folder:
            grpo.build_trainer(parameters, model, tokenizer, clock, folder).train()
        last = clock.dataframe().iloc[1]  # the first step warms up
        parts = {"wall_s": last["step_s"], "rollout_s": last["rollout_s"], "train_s": last["train_s"]}
        return {**parts, "cpu_s": clock.cpu_s, "tokens": last["mean_completion_tokens"] * job["count"]}

    # A forward and a backward pass, and the sampling: eight operations for each weight and token.
    return take_round, 8 * num_weights(build(job["workload"])[0])


def pretraining(job: dict[str, Any]) -> tuple[Round, int]:
    """Train a base model from scratch on about `count` tokens of the workload's documents."""
    from extrabitter.params import BaseModelParameters
    from extrabitter.models.tiny import build_model, build_tokenizer
    from extrabitter.training.pretraining import pretrain
    from extrabitter.tasks.countdown import VOCABULARY

    set_up(job)
    recipe = {**job["recipe"], "run_dir": "unused", "arm": "bench", "seed": 0, "num_tokens": job["count"]}
    parameters = BaseModelParameters(**recipe)
    tokenizer = build_tokenizer(VOCABULARY)

    def build() -> Any:
        return build_model("llama", len(tokenizer), 128, 4, 4, 384, seed=0)

    def take_round() -> dict[str, Any]:
        model = build()
        seconds, losses = timed(lambda: pretrain(parameters, model, tokenizer))
        return {**seconds, "tokens": int(losses["num_tokens"].iloc[-1])}

    take_round()
    return take_round, 6 * num_weights(build())


def num_weights(model: Any) -> int:
    """Count the weights of a model, tied ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


KINDS = {
    "rollouts": rollouts,
    "rollouts_together": rollouts,
    "pass_at_256": rollouts,
    "step": step,
    "step_together": step,
    "pretraining": pretraining,
    "import": importing,
    "kernel": kernel_start,
}


if __name__ == "__main__":
    main()
