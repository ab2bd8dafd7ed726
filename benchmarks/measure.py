"""One process of `bench.py`: an engine at a workload. A line on stdin asks for a round, a line of JSON answers it.

Engines: "ours"; "stock", TRL with `model.generate` and a loss of the whole batch, and "kept", the same with freed
memory kept; "first", the engine of an earlier checkout, whose path is given. All draw completions of random models
whose weights mean nothing: only the work is real, and lengths do not change with a training. At the end of stdin
comes what holds for all rounds: memory, and of "ours" the time of the bare operations and what the rest goes into.
"""

from __future__ import annotations

import json
import math
import os
import resource
import sys
import tempfile
import time
import timeit
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module
from types import SimpleNamespace
from typing import Any

KNOBS = ("num_hidden_layers", "num_key_value_heads")
SHAPES = {
    "countdown": (1, 1),
    "knights": (3, 1),
    "first": (4, 4),  # the bases of the first edition
}
WORKLOADS = {  # mean length that eos is as likely as at each token, cap
    "direct": (25, 200),
    "search": (130, 200),
    "islands": (250, 420),
}
PROMPT, VOCABULARY, GROUP = 10, 80, 8
Round = Callable[[], dict[str, Any]]


def main() -> None:
    """Answer rounds until stdin ends."""
    job = json.loads(sys.argv[1])
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    if job["engine"] == "first":
        sys.path.insert(0, os.path.join(job["checkout"], "src"))
    import torch

    torch.set_num_threads(job["threads"])
    if job["engine"] != "stock":
        engine(job).tiny.keep_freed_memory()
    take_round, about = KINDS[job["kind"]](job)
    print(json.dumps(take_round()), file=answers, flush=True)  # warms up
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        found = take_round()
        took = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
        print(json.dumps(took | found), file=answers, flush=True)
    memory = {"peak_rss_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9}
    print(json.dumps(memory | (about() if job["engine"] == "ours" else {})), file=answers, flush=True)


def engine(job: dict[str, Any]) -> SimpleNamespace:
    """Return the modules of a checkout's engine under today's names."""
    names = ["params", "models.tiny", "models.rollouts", "training.grpo", "training.pretraining"]
    if job["engine"] == "first":
        names = ["config", "models", "rollouts", "grpo", "pretraining"]
    found = zip(("params", "tiny", "rollouts", "grpo", "pretraining"), names, strict=True)
    ends = {"eos_token_id": 2} if job["engine"] == "first" else {"end_ids": [2]}
    return SimpleNamespace(ends=ends, **{key: import_module(f"extrabitter.{name}") for key, name in found})


def build(job: dict[str, Any]) -> tuple[Any, Any]:
    """Return a random model of the job's shape, which ends completions equally often at each token, and a tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 128, "num_attention_heads": 4, "intermediate_size": 384, "vocab_size": VOCABULARY}
    sizes |= job.get("sizes") or dict(zip(KNOBS, SHAPES[job["shape"]], strict=True))  # the grid gives its own
    sizes["max_position_embeddings"] = 1024
    sizes |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=True)).eval()
    probability, head = 1 / WORKLOADS[job["workload"]][0], model.get_output_embeddings()
    bias = torch.zeros(VOCABULARY)
    bias[2] = math.log(probability * (VOCABULARY - 1) / (1 - probability))
    del head.bias
    head.register_buffer("bias", bias, persistent=False)
    from extrabitter.tasks import load_task

    fillers = (f"word{number}" for number in range(VOCABULARY))
    return model, engine(job).tiny.build_tokenizer(
        [*load_task("countdown").vocabulary, *fillers][:VOCABULARY]
    )


def rollouts(job: dict[str, Any]) -> tuple[Round, Callable[[], dict[str, Any]]]:
    """Sample `count` completions, eight of a prompt."""
    import torch

    (model, _), used, cap = build(job), engine(job), WORKLOADS[job["workload"]][1]
    words = torch.Generator().manual_seed(0)
    prompts = torch.randint(4, VOCABULARY, (job["count"] // GROUP, PROMPT), generator=words).tolist()
    generator = torch.Generator().manual_seed(0)
    sampling = used.rollouts.SamplingParameters(cap)

    def ours() -> dict[str, Any]:
        found = used.rollouts.generate(model, prompts, GROUP, sampling, generator=generator, **used.ends)
        return {"tokens": sum(map(len, found.completion_ids))}

    def stock() -> dict[str, Any]:
        ids = torch.tensor(prompts).repeat_interleave(GROUP, dim=0)
        asked = {"do_sample": True, "top_k": 0, "max_new_tokens": cap}
        output = model.generate(ids, attention_mask=torch.ones_like(ids), **asked)[:, PROMPT:]
        ended = (output == 2).cumsum(dim=1)
        return {"tokens": int((ended == 0).sum() + (ended.max(dim=1).values > 0).sum())}

    take_round = ours if job["engine"] in ("ours", "first") else stock
    return take_round, lambda: beside(take_round, model)


def step(job: dict[str, Any]) -> tuple[Round, Callable[[], dict[str, Any]]]:
    """Take two GRPO steps on `count` completions each; the first of them warms up."""
    used, cap = engine(job), WORKLOADS[job["workload"]][1]

    def correct_reward(completions: list[str], **columns: object) -> list[float]:
        """Pay one completion in five, by its text: about what a base earns before RL."""
        return [float(sum(map(ord, text)) % 5 == 0) for text in completions]

    used.grpo.correct_reward = correct_reward
    # A rate of nearly zero keeps the completions as long as they are.
    values = {"run_dir": "unused", "arm": "bench", "seed": 0, "init_from": "unused", "learning_rate": 1e-9}
    values |= {"num_generations": GROUP, "per_device_train_batch_size": job["count"], "num_steps": 2}
    values |= {"max_completion_length": cap, "logging_steps": 1000}
    sampler = "batched" if job["engine"] in ("ours", "first") else "generate"
    parameters = used.params.GrpoParameters(**values, rollouts=sampler)
    model, tokenizer = build(job)

    def take_round() -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            if job["engine"] == "first":
                table = import_module("extrabitter.grpo_steps").StepTable(parameters)
                trainer = used.grpo.build_trainer(parameters, model, tokenizer, table, folder)
            else:
                trainer, table = used.grpo.build_trainer(parameters, model, tokenizer, {2}, folder)
            begin, end, clock = table.on_step_begin, table.on_step_end, []
            table.on_step_begin = lambda *a, **k: (clock.append(time.process_time()), begin(*a, **k))[1]
            table.on_step_end = lambda *a, **k: (end(*a, **k), clock.append(time.process_time()))[0]
            trainer.train()
        model.__dict__.pop("forward", None)  # TRL's fused head
        last = table.dataframe().iloc[1]
        parts = {"wall_s": last["step_s"], "rollout_s": last["rollout_s"], "train_s": last["train_s"]}
        return {
            **parts,
            "cpu_s": clock[3] - clock[2],
            "tokens": last["mean_completion_tokens"] * job["count"],
        }

    return take_round, lambda: beside(take_round, model, 2)


def pretraining(job: dict[str, Any]) -> tuple[Round, Callable[[], dict[str, Any]]]:
    """Train a base model of the job's shape from scratch on about `count` tokens of Countdown's documents."""
    used = engine(job)
    shape = job.get("sizes") or dict(zip(KNOBS, SHAPES[job["shape"]], strict=True))
    width, heads, inner = map(
        shape.get, ("hidden_size", "num_attention_heads", "intermediate_size"), (128, 4, 384)
    )
    values = {"run_dir": "unused", "arm": "bench", "seed": 0, "num_tokens": job["count"]}
    parameters = used.params.BaseModelParameters(**values)
    from extrabitter.tasks import load_task

    sizes: dict[str, Any] = {"seed": 0} | (
        {} if job["engine"] == "first" else {"num_key_value_heads": shape["num_key_value_heads"]}
    )

    words = load_task("countdown").vocabulary

    def take_round() -> dict[str, Any]:
        layers = shape["num_hidden_layers"]
        model = used.tiny.build_model("llama", len(words), width, layers, heads, inner, **sizes)
        losses = used.pretraining.pretrain(parameters, model, used.tiny.build_tokenizer(words))
        return {"tokens": int(losses["num_tokens"].iloc[-1])}

    return take_round, dict


def beside(take_round: Round, model: Any, num_steps: int = 1) -> dict[str, Any]:
    """Return the time of a round's matrix products and attention as bare operations, and a profile of the round."""
    import torch

    from extrabitter.models import decoder, fused

    decoded: Counter[tuple[int, int]] = Counter()  # rows, columns -> tokens decoded at once
    trained: Counter[tuple[int, int]] = Counter()  # rows, columns -> passes with a gradient

    def logits(self: Any, ids: Any, offset: Any, columns: int) -> Any:
        decoded[len(ids), columns] += 1
        return inner(self, ids, offset, columns)

    def with_gradient(trained_model: Any, ids: Any, first: int = 0) -> Any:
        trained[tuple(ids.shape)] += 1
        return of_rows(trained_model, ids, first)

    def products(*given: Any, **named: Any) -> Any:
        with torch.profiler.record_function(
            "attention to the cache"
        ):  # NumPy's, which no profile of torch shows
            return multiplied(*given, **named)

    inner, decoder.Decoder.logits = decoder.Decoder.logits, logits  # type: ignore[method-assign]
    multiplied, decoder.products = decoder.products, products
    of_rows, fused.logits = fused.logits, with_gradient
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        took = take_round()
    decoder.Decoder.logits, decoder.products = inner, multiplied  # type: ignore[method-assign]
    fused.logits = of_rows
    events = sorted(profile.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    shares = [
        f"{event.key.removeprefix('aten::')} {event.self_cpu_time_total / total:.0%}" for event in events[:8]
    ]
    pairs = ((decoding_s, decoded), (training_s, trained))
    bare = sum(n * bare_s(model.config, *shape) for bare_s, counted in pairs for shape, n in counted.items())
    return {
        "attainable_s": bare / num_steps,
        "attainable_tokens": took["tokens"],
        "profile": ", ".join(shares),
    }


def matrices(config: Any) -> Iterator[tuple[int, int, int]]:
    """Yield the fused matrices of a model: rows, columns, how many."""
    dim = config.hidden_size // config.num_attention_heads
    width, layers = config.hidden_size, config.num_hidden_layers
    yield width, (config.num_attention_heads + 2 * config.num_key_value_heads) * dim, layers
    yield width, width, layers
    yield width, 2 * config.intermediate_size, layers
    yield config.intermediate_size, width, layers
    yield width, config.vocab_size, 1


def decoding_s(config: Any, rows: int, columns: int) -> float:
    """Return the seconds of a token's products and attention for `rows` rows of `columns` tokens, in bare torch."""
    import torch

    heads, dim = config.num_key_value_heads, config.hidden_size // config.num_attention_heads
    per_head = config.num_attention_heads // heads
    query, weights = torch.ones(rows * heads, per_head, dim), torch.ones(rows * heads, per_head, columns)
    layers = range(config.num_hidden_layers)
    keys, values = (
        [torch.ones(rows * heads, *shape) for _ in layers] for shape in ((dim, columns), (columns, dim))
    )
    with torch.inference_mode():
        spent = sum(
            n * fastest(torch.mm, torch.ones(rows, a), torch.ones(a, b)) for a, b, n in matrices(config)
        )
        # Layer by layer, as in a step: no cache is read twice in a row.
        pairs = list(zip(keys, values, strict=True))
        return spent + fastest(lambda: [(torch.bmm(query, k), torch.bmm(weights, v)) for k, v in pairs])


def training_s(config: Any, rows: int, columns: int) -> float:
    """Return the seconds of the products and attention of a forward and backward pass, in bare torch."""
    import torch

    spent, tokens = 0.0, rows * columns
    for a, b, n in matrices(config):
        x, weight, gradient = torch.ones(tokens, a), torch.ones(a, b), torch.ones(tokens, b)
        spent += n * (fastest(torch.mm, x, weight) + fastest(torch.mm, gradient, weight.t()))
        spent += n * fastest(torch.mm, x.t(), gradient)
    dim = config.hidden_size // config.num_attention_heads
    query = torch.ones(rows, config.num_attention_heads, columns, dim, requires_grad=True)

    def attend() -> None:
        torch.nn.functional.scaled_dot_product_attention(query, query, query, is_causal=True).sum().backward()

    return spent + config.num_hidden_layers * fastest(attend)


def fastest(call: Callable[..., Any], *given: Any) -> float:
    """Return the shortest processor time of three calls."""
    return min(timeit.repeat(lambda: call(*given), timer=time.process_time, number=1, repeat=3))


KINDS = {"rollouts": rollouts, "step": step, "pretraining": pretraining}

if __name__ == "__main__":
    main()
