"""The grid of shapes: the cheapest base that clears every bar, one knob at a time.

    python benchmarks/grid.py countdown [--seed 100] [--output grid_countdown.csv]

Each shape is trained by the recipe of profile `bank`, trunk then searcher, on a trunk seed that no series uses; then
its bars are measured, and what a token of pretraining, of long searches and of a GRPO step costs in processor time.
The choice is by bars and cost alone, so that around a centre that clears them only what may be cheaper is tried, and
more heads of keys and values, which cost sampling alone. A row a shape, written as they come; shapes that are there
are not made again.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import pandas as pd
from bench import Measuring, Row

from extrabitter.evaluation.competence import measure_bars
from extrabitter.models.tiny import round_to_float16, set_up_process
from extrabitter.params import BaseModelParameters
from extrabitter.profiles import load_profile
from extrabitter.training.pretraining import pretrain, starting_model

CENTRE = {"num_key_value_heads": 1, "hidden_size": 128, "intermediate_size": 384}
LAYERS = {"countdown": 2, "knights": 4}  # the second game's facts were not learnt with two
TURNS = {"hidden_size": 96, "intermediate_size": 256, "num_key_value_heads": 2}  # with heads of 32
WORKLOADS = {"countdown": "search", "knights": "islands"}


def shapes(task: str) -> list[dict[str, int]]:
    """Return the centre of a task's grid and what differs from it in one knob."""
    centre = {"num_hidden_layers": LAYERS[task], **CENTRE}
    turned = [
        centre | {knob: value} for knob, value in {"num_hidden_layers": LAYERS[task] - 1, **TURNS}.items()
    ]
    return [{**shape, "num_attention_heads": shape["hidden_size"] // 32} for shape in [centre, *turned]]


def measure(task: str, shape: dict[str, int], seed: int) -> Row:
    """Train a base of `shape` and return its row: parameters, bars that it missed, and three costs."""
    stage = load_profile("bank").tasks[task].stages.base_model
    assert stage is not None
    model, spent, tokens = None, 0.0, 0
    for arm in ("trunk", "searcher"):
        values: dict[str, Any] = {**stage.defaults, **(stage.arms[arm] or {}), **shape, "task": task}
        values.pop("experiment", None)
        parameters = BaseModelParameters(run_dir="unused", arm=arm, seed=seed, **values)
        if model is None:
            model, tokenizer = starting_model(parameters)
        begun = time.process_time()
        tokens += int(pretrain(parameters, model, tokenizer)["num_tokens"].iloc[-1])
        spent += time.process_time() - begun
    round_to_float16(model)
    bars = measure_bars(parameters, model, tokenizer)
    row: Row = {
        **shape,
        "num_parameters": model.num_parameters(),
        "missed": "; ".join(f"{row.bar} {row.value:.3f}" for row in bars[~bars["passed"]].itertuples()),
    }
    row["pretraining_tokens_per_cpu_s"] = tokens / spent
    for kind, column in (("rollouts", "rollout_tokens_per_cpu_s"), ("step", "step_tokens_per_cpu_s")):
        job = {"engine": "ours", "kind": kind, "workload": WORKLOADS[task], "count": 256, "threads": 1}
        job["sizes"] = shape
        process = Measuring(job)
        row[column] = max(took["tokens"] / took["cpu_s"] for took in (process.take_round() for _ in range(3)))
        process.end()
    return row


def main() -> None:
    """Measure every shape of a task's grid."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=LAYERS)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    output = arguments.output or Path(__file__).parent / f"grid_{arguments.task}.csv"
    rows = pd.read_csv(output).fillna({"missed": ""}).to_dict("records") if output.is_file() else []
    set_up_process(1)
    for shape in shapes(arguments.task):
        if not any(all(row[knob] == value for knob, value in shape.items()) for row in rows):
            rows.append(measure(arguments.task, shape, arguments.seed))
            print(rows[-1], flush=True)
            pd.DataFrame(rows).to_csv(output, index=False)


if __name__ == "__main__":
    main()
