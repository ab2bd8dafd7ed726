"""GRPO in several processes, one a GPU: the first one writes what came of it.

A notebook's kernel is one process, and a GPU that it has touched cannot be shared by processes it forks: so the kernel
only waits, and reads the result from a folder. Data parallel: each process holds the whole model, and TRL's own loss
runs on its share of the completions.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from extrabitter import tables
from extrabitter.params import GrpoParameters, validate

_ERROR = re.compile(r"\b[A-Za-z_.]*(?:Error|Exception|Interrupt): [^\n]+")  # the end of a traceback
_SHARDING = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")  # set where weights are not whole in each process
STEPS, MODEL, PARAMETERS = "steps.parquet", "model.json", "parameters.json"


def launch_command(parameters: GrpoParameters, folder: Path) -> list[str]:
    """Return the command that trains in `num_processes` processes here, or in those of accelerate's YAML."""
    launcher = ["accelerate.commands.launch", "--config_file", parameters.accelerate_config]
    if not parameters.accelerate_config:  # PyTorch's own launcher, which knows processes on CPUs too
        launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(parameters.num_processes)]
    return [sys.executable, "-m", *launcher, "-m", "extrabitter.training.distributed", str(folder)]


def run_stage(parameters: GrpoParameters, folder: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Train as `grpo.run_stage` does, in several processes. RuntimeError with the first error that one of them said."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".distributed-") as name:
        scratch = Path(name)
        (scratch / PARAMETERS).write_text(json.dumps(parameters.model_dump()), encoding="utf-8")
        said = ""
        with subprocess.Popen(
            launch_command(parameters, scratch), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as processes:
            assert processes.stdout is not None
            for line in processes.stdout:
                print(line, end="", flush=True)
                error = None if said else _ERROR.search(line)
                said = error[0].strip() if error else said
        if processes.returncode or not (scratch / MODEL).is_file():
            raise RuntimeError(f"grpo: the training processes failed ({said or 'nothing was said'})")
        steps = tables.read_table(scratch / STEPS, "steps")
        (scratch / "checkpoint").rename(folder / "checkpoint")
        return steps, json.loads((scratch / MODEL).read_text(encoding="utf-8"))


def work(folder: Path) -> None:
    """Train as one of several processes; the first writes checkpoint, table and record into `folder`."""
    from accelerate import PartialState

    from extrabitter.models.hub import on_cpu
    from extrabitter.training import grpo

    values = json.loads((folder / PARAMETERS).read_text(encoding="utf-8"))
    parameters = validate(GrpoParameters, values, "grpo")
    state = PartialState(cpu=on_cpu(parameters))
    sharded = [name for name in _SHARDING if os.environ.get(name, "").lower() in ("1", "true")]
    if sharded:
        raise ValueError(f"accelerate_config: must be plain data parallel; {sharded[0]} cuts the weights up")
    if state.num_processes != parameters.num_processes:
        raise ValueError(
            f"num_processes = {parameters.num_processes}: accelerate started {state.num_processes}; must be equal"
        )
    steps, record = grpo.run_stage(parameters, folder)
    if state.is_main_process:
        tables.write_table(folder / STEPS, "steps", steps)
        (folder / MODEL).write_text(json.dumps(record), encoding="utf-8")
    state.wait_for_everyone()


if __name__ == "__main__":
    work(Path(sys.argv[1]))
