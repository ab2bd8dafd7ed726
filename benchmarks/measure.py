"""One measurement of `bench.py`, in a process of its own; prints one JSON object a line."""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

START = time.perf_counter()


def main() -> None:
    """Measure what the first argument says."""
    job = json.loads(sys.argv[1])
    if job["kind"] in STARTS:
        print(json.dumps({**job, "wall_s": STARTS[job["kind"]]()}))
        return
    if (core := job.pop("core", None)) is not None:  # before PyTorch counts the cores that it may use
        os.sched_setaffinity(0, {core})
    from extrabitter.models import set_threads

    set_threads(job["threads"])
    measured = pretraining if job["kind"] == "pretraining" else step if "step" in job["kind"] else rollouts
    row = measured(job)
    if "stock_wall_s" not in row:  # where stock ran in this process too, the peak may be its
        row["peak_rss_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    row["peak_gflops"] = peak_gflops()
    row["peak_share"] = row["gflops"] / row["peak_gflops"]
    job.pop("recipe", None)
    print(json.dumps({**job, **row}))


def import_seconds() -> float:
    """Return the seconds from a bare interpreter to a module that can train."""
    import extrabitter.grpo

    assert extrabitter.grpo
    return time.perf_counter() - START


def kernel_seconds() -> float:
    """Return the seconds that a Jupyter kernel takes to start and answer, as each run's notebook waits for one."""
    from jupyter_client.manager import start_new_kernel

    begun = time.perf_counter()
    manager, client = start_new_kernel(kernel_name="python3")
    seconds = time.perf_counter() - begun
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    return seconds


STARTS = {"import": import_seconds, "kernel": kernel_seconds}


def peak_gflops() -> float:
    """Return the rate of a large matrix multiplication, the best of 5, in 1e9 operations a second."""
    import torch

    a = torch.randn(1024, 1024)
    seconds = min(timed(lambda: a @ a)[0] for _ in range(5))
    return 2 * 1024**3 / seconds / 1e9


def timed(call: Callable[[], Any]) -> tuple[float, float, Any]:
    """Return wall seconds, processor seconds and the result of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return time.perf_counter() - wall, time.process_time() - cpu, result


def rollouts(job: dict[str, Any]) -> dict[str, Any]:
    """Sample `count` completions: ours and, for `stock_rounds`, stock `model.generate` in turn."""
    import torch
    from workloads import MAX_COMPLETION_LENGTH, NUM_GENERATIONS, build, prompts

    from extrabitter.rollouts import SamplingParameters, generate

    model, tokenizer = build(job["workload"])
    group = 256 if job["kind"] == "pass_at_256" else NUM_GENERATIONS
    distinct = prompts(tokenizer, job["count"] // group)
    sampling = SamplingParameters(MAX_COMPLETION_LENGTH[job["workload"]])
    generator = torch.Generator().manual_seed(0)
    eos = tokenizer.eos_token_id

    def ours(given: list[list[int]] = distinct) -> int:
        found = generate(model, given, group, sampling, eos_token_id=eos, generator=generator)
        return sum(map(len, found.completion_ids))

    def stock(given: list[list[int]] = distinct) -> int:
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

    samplers = {"ours": ours, "stock": stock} if "stock_rounds" in job else {"ours": ours}
    for sampler in samplers.values():
        sampler(distinct[:2])
    found: dict[str, list[tuple[float, float, Any]]] = {name: [] for name in samplers}
    for number in range(job["rounds"]):
        for name, sampler in samplers.items():
            if name == "ours" or number < job["stock_rounds"]:
                found[name].append(timed(sampler))
    flops_per_token = 2 * sum(parameter.numel() for parameter in model.parameters())
    return summary(found, job["count"], flops_per_token)


def step(job: dict[str, Any]) -> dict[str, Any]:
    """Take whole GRPO steps of `count` completions: sampling, rewards, loss and update."""
    from workloads import MAX_COMPLETION_LENGTH, NUM_GENERATIONS, build, length_reward

    from extrabitter import grpo
    from extrabitter.config import GrpoParameters

    class StepClock(grpo.StepTable):
        """The table of steps, and the processor seconds of the last one."""

        cpu_s = 0.0

        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            self.cpu_begun = time.process_time()
            super().on_step_begin(*args, **kwargs)

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            self.cpu_s = time.process_time() - self.cpu_begun
            super().on_step_end(*args, **kwargs)

    length_reward.__name__ = "correct_reward"
    grpo.correct_reward = length_reward  # type: ignore[assignment]
    # A rate of nearly zero keeps the completions as long as they are.
    shared = {"run_dir": "unused", "arm": "bench", "seed": 0, "init_from": "unused", "learning_rate": 1e-9}
    shared |= {"num_generations": NUM_GENERATIONS, "per_device_train_batch_size": job["count"]}
    shared |= {
        "max_completion_length": MAX_COMPLETION_LENGTH[job["workload"]],
        "logging_steps": 1000,
        "num_steps": 2,
    }
    samplers = {"ours": "batched"} | ({"stock": "generate"} if "stock_rounds" in job else {})
    found: dict[str, list[tuple[float, float, Any]]] = {name: [] for name in samplers}
    parts: dict[str, list[float]] = defaultdict(list)
    for _ in range(job["rounds"]):
        for name, sampler in samplers.items():
            parameters = GrpoParameters(**shared, rollouts=sampler)
            model, tokenizer = build(job["workload"])
            clock = StepClock(parameters)
            with tempfile.TemporaryDirectory() as folder:
                grpo.build_trainer(parameters, model, tokenizer, clock, folder).train()
            last = clock.dataframe().iloc[1]  # the first step warms up
            found[name].append((last["step_s"], clock.cpu_s, last["mean_completion_tokens"] * job["count"]))
            for part in ("rollout_s", "train_s"):
                parts[f"{name}_{part}"].append(last[part])
    medians = {name: statistics.median(values) for name, values in parts.items()}
    flops_per_token = 8 * sum(parameter.numel() for parameter in model.parameters())
    return summary(found, job["count"], flops_per_token) | medians


def pretraining(job: dict[str, Any]) -> dict[str, Any]:
    """Train a base model from scratch on about `count` tokens of the workload's documents."""
    from extrabitter.config import BaseModelParameters
    from extrabitter.models import build_model, build_tokenizer
    from extrabitter.pretraining import pretrain
    from extrabitter.tasks.countdown import VOCABULARY

    recipe = {**job["recipe"], "run_dir": "unused", "arm": "bench", "seed": 0, "num_tokens": job["count"]}
    parameters = BaseModelParameters(**recipe)
    tokenizer = build_tokenizer(VOCABULARY)
    found = []
    for _ in range(job["rounds"] + 1):
        model = build_model("llama", len(tokenizer), 128, 4, 4, 384, seed=0)
        wall_s, cpu_s, losses = timed(lambda model=model: pretrain(parameters, model, tokenizer))
        found.append((wall_s, cpu_s, int(losses["num_tokens"].iloc[-1])))
    # The first round warms up. Forward and backward pass: six operations for each weight and token.
    flops_per_token = 6 * sum(parameter.numel() for parameter in model.parameters())
    return summary({"ours": found[1:]}, job["count"], flops_per_token)


def summary(
    found: dict[str, list[tuple[float, float, Any]]], count: int, flops_per_token: int
) -> dict[str, Any]:
    """Return medians of ours, and of stock and the ratios where there is a stock."""
    wall, cpu, tokens = (statistics.median(column) for column in zip(*found["ours"], strict=True))
    row = {
        "wall_s": wall,
        "cpu_s": cpu,
        "ms_per_completion": 1e3 * wall / count,
        "cpu_ms_per_completion": 1e3 * cpu / count,
        "tokens": tokens,
        "tokens_per_s": tokens / wall,
        "gflops": flops_per_token * tokens / wall / 1e9,
    }
    if "stock" in found:
        stock_wall, stock_cpu, _ = (statistics.median(column) for column in zip(*found["stock"], strict=True))
        row |= {"stock_wall_s": stock_wall, "stock_cpu_s": stock_cpu}
        row |= {"ratio": stock_wall / wall, "cpu_ratio": stock_cpu / cpu}
    return row


if __name__ == "__main__":
    main()
