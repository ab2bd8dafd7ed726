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

# The line that ends a traceback, behind the mark of its process.
_ERROR = re.compile(r"\b[A-Za-z_.]*(?:Error|Exception|Interrupt): [^\n]+")
# What accelerate sets where the weights are not whole in each process.
_SHARDING = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
CHECKPOINT, STEPS, MODEL, PARAMETERS = "checkpoint", "steps.parquet", "model.json", "parameters.json"


def launch_command(parameters: GrpoParameters, folder: Path) -> list[str]:
    """Return the command that trains in `num_processes` processes here, or in those of accelerate's YAML."""
    if parameters.accelerate_config:
        command = [sys.executable, "-m", "accelerate.commands.launch"]
        command += ["--config_file", parameters.accelerate_config]
    else:  # PyTorch's own launcher, which knows processes on CPUs too
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(parameters.num_processes)]
    return [*command, "-m", "extrabitter.training.distributed", str(folder)]


def train(parameters: GrpoParameters, checkpoint_dir: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Train from `init_from` in several processes and leave the checkpoint in `checkpoint_dir`.

    Returns table `steps` and the record of the model that was loaded. RuntimeError with the first error that was
    said when a process fails.
    """
    with tempfile.TemporaryDirectory(dir=checkpoint_dir.parent, prefix=".distributed-") as scratch:
        folder = Path(scratch)
        (folder / PARAMETERS).write_text(json.dumps(parameters.model_dump()), encoding="utf-8")
        reason = "nothing was said"
        with subprocess.Popen(
            launch_command(parameters, folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as processes:
            assert processes.stdout is not None
            for line in processes.stdout:
                print(line, end="", flush=True)
                error = _ERROR.search(line)
                if error and reason == "nothing was said":
                    reason = error[0].strip()
        if processes.returncode or not (folder / STEPS).is_file():
            raise RuntimeError(f"grpo: the training processes failed ({reason})")
        steps = tables.read_table(folder / STEPS, "steps")
        record = json.loads((folder / MODEL).read_text(encoding="utf-8"))
        (folder / CHECKPOINT).rename(checkpoint_dir)
    return steps, record


def work(folder: Path) -> None:
    """Train as one of several processes; the first writes checkpoint and table into `folder`."""
    from accelerate import PartialState

    from extrabitter.models import hub, tiny
    from extrabitter.training import grpo

    values = json.loads((folder / PARAMETERS).read_text(encoding="utf-8"))
    parameters = validate(GrpoParameters, values, "grpo")
    tiny.set_up_process(parameters.threads)
    state = PartialState(cpu=hub.on_cpu(parameters))
    sharded = [name for name in _SHARDING if os.environ.get(name, "").lower() in ("1", "true")]
    if sharded:
        raise ValueError(f"accelerate_config: must be plain data parallel; {sharded[0]} cuts the weights up")
    if state.num_processes != parameters.num_processes:
        raise ValueError(
            f"num_processes = {parameters.num_processes}: accelerate started {state.num_processes}; must be equal"
        )
    model, tokenizer, record = hub.load_for_stage(parameters, parameters.init_from, training=True)
    steps = grpo.train(parameters, model, tokenizer)
    if state.is_main_process:
        tiny.save_checkpoint(model, tokenizer, folder / CHECKPOINT)
        (folder / MODEL).write_text(json.dumps(record), encoding="utf-8")
        tables.write_table(folder / STEPS, "steps", steps)
    state.wait_for_everyone()


if __name__ == "__main__":
    work(Path(sys.argv[1]))
