"""The grid of shapes: the cheapest base that clears every bar, one knob at a time.

    python benchmarks/grid.py countdown [--seed 100] [--output grid_countdown.csv]

Around a centre, each shape that may be cheaper is trained by the recipe of profile `bank`, trunk then searcher, on a
trunk seed that no series uses, and its bars are measured. Then all shapes, random ones, take turns at what costs time:
a token of pretraining, of long searches and of a GRPO step, in processor time. The choice is by bars and cost alone,
so that what costs more than a shape that clears every bar is not trained. A row a shape; those that are there are not
trained again.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import pandas as pd
from bench import Measuring, Row

from extrabitter.evaluation.competence import measure_bars
from extrabitter.models.tiny import build_model, round_to_float16, set_up_process
from extrabitter.params import BaseModelParameters
from extrabitter.profiles import load_profile
from extrabitter.tasks import load_task
from extrabitter.training.pretraining import pretrain, starting_model

CENTRE = {"num_key_value_heads": 1, "hidden_size": 128, "intermediate_size": 384}
LAYERS = {"countdown": 2, "knights": 4}  # the second game's facts were not learnt with two
TURNS = {"hidden_size": 96, "intermediate_size": 256, "num_key_value_heads": 2}  # with heads of 32
WORKLOADS = {"countdown": "search", "knights": "islands"}
COSTS = {"pretraining": 50_000, "rollouts": 256, "step": 256}  # kind of work -> how much of it is a round
ROUNDS = 3


def shapes(task: str) -> list[dict[str, int]]:
    """Return the centre of a task's grid and what differs from it in one knob."""
    centre = {"num_hidden_layers": LAYERS[task], **CENTRE}
    turned = [
        centre | {knob: value} for knob, value in {"num_hidden_layers": LAYERS[task] - 1, **TURNS}.items()
    ]
    return [{**shape, "num_attention_heads": shape["hidden_size"] // 32} for shape in [centre, *turned]]


def missed_bars(task: str, shape: dict[str, int], seed: int) -> str:
    """Train a base of `shape` and say which bars it missed; of more key-value heads nothing is asked."""
    if shape["num_key_value_heads"] > 1:
        return "not trained: dearer than the centre"
    stage = load_profile("bank").tasks[task].stages.base_model
    assert stage is not None
    model = None
    for arm in ("trunk", "searcher"):
        values: dict[str, Any] = {**stage.defaults, **(stage.arms[arm] or {}), **shape, "task": task}
        values.pop("experiment", None)
        parameters = BaseModelParameters(run_dir="unused", arm=arm, seed=seed, **values)
        if model is None:
            model, tokenizer = starting_model(parameters)
        pretrain(parameters, model, tokenizer)
    round_to_float16(model)
    bars = measure_bars(parameters, model, tokenizer)
    return "; ".join(f"{row.bar} {row.value:.3f}" for row in bars[~bars["passed"]].itertuples()) or "none"


def costs(task: str) -> dict[str, list[float]]:
    """Return what each shape does in a second of processor time, by kind of work: medians of rounds by turns."""
    found = {}
    for kind, count in COSTS.items():
        job = {"engine": "ours", "kind": kind, "workload": WORKLOADS[task], "count": count, "threads": 1}
        processes = [Measuring({**job, "sizes": shape}) for shape in shapes(task)]
        rounds = [[process.take_round() for process in processes] for _ in range(ROUNDS)]
        for process in processes:
            process.end()
        speeds = [[took["tokens"] / took["cpu_s"] for took in each] for each in rounds]
        found[f"{kind}_tokens_per_cpu_s"] = [statistics.median(own) for own in zip(*speeds, strict=True)]
    return found


def main() -> None:
    """Measure every shape of a task's grid."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=LAYERS)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    output = arguments.output or Path(__file__).parent / f"grid_{arguments.task}.csv"
    known: list[Row] = pd.read_csv(output).to_dict("records") if output.is_file() else []
    set_up_process(1)
    rows: list[Row] = []
    for shape in shapes(arguments.task):
        row = next((row for row in known if all(row[knob] == value for knob, value in shape.items())), None)
        if row is None:
            words = load_task(arguments.task).vocabulary
            size = build_model(architecture="llama", vocab_size=len(words), seed=0, **shape).num_parameters()
            missed = missed_bars(arguments.task, shape, arguments.seed)
            row = {**shape, "num_parameters": size, "missed": missed}
        rows.append(row)
        pd.DataFrame(rows).to_csv(output, index=False)
    pd.DataFrame(rows).assign(**costs(arguments.task)).to_csv(output, index=False)


if __name__ == "__main__":
    main()
