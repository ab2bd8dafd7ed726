"""Export a task's problems and traces as a folder that `datasets.load_dataset` reads, with a card that says what it is.

One configuration `problems` with the task's splits, which share no problem; and one `traces_<condition>` for each
condition, on training problems only, in the grammar and, where the task speaks it, in English.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from huggingface_hub import DatasetCard, DatasetCardData

from extrabitter.digests import git_state
from extrabitter.params import ParameterError
from extrabitter.runs import write_json
from extrabitter.seeding import derive_seed
from extrabitter.tasks import Task
from extrabitter.tasks.wording import spoken

RECORD = "provenance.json"
TEMPLATE = Path(__file__).parent / "templates" / "data_card.md.jinja"
# Drawn of a band; the same ones count once.
NUM_PROBLEMS = {"train": 5_000, "validation": 1_000, "test": 1_000}


def write_data(folder: Path, name: str, task: Task, bands: Sequence[str], num_traces: int, seed: int) -> None:
    """Fill a folder with data set `name`: problems of these bands, `num_traces` traces a condition, card and record.

    Traces are on problems of the first band.
    """
    tables = {"problems": {split: _problems(task, split, bands, seed) for split in NUM_PROBLEMS}}
    for condition in task.conditions:
        tables[f"traces_{condition}"] = {"train": _traces(task, condition, bands[0], num_traces, seed)}
    configs: list[dict[str, Any]] = []
    for config, splits in tables.items():
        (folder / "data" / config).mkdir(parents=True)
        paths = {split: f"data/{config}/{split}.parquet" for split in splits}
        for split, table in splits.items():
            table.to_parquet(folder / paths[split], index=False)
        files = [{"split": split, "path": path} for split, path in paths.items()]
        configs.append({"config_name": config, "data_files": files})
    configs[0]["default"] = True
    asked = {"task": task.name, "bands": list(bands), "num_traces": num_traces, "seed": seed}
    write_json(folder / RECORD, {"made_by": "extrabitter export data", **git_state(), "parameters": asked})
    data = DatasetCardData(
        license="cc-by-4.0",
        language=["en"],
        task_categories=["text-generation"],
        tags=[task.name, "reinforcement-learning"],
        pretty_name=f"{task.name}: problems and traces",
        configs=configs,
    )
    said: dict[str, Any] = {"name": name, "task": task, "tables": tables, "asked": asked}
    card = DatasetCard.from_template(data, str(TEMPLATE), **said, record=RECORD)
    (folder / "README.md").write_text(f"{card}\n", encoding="utf-8")


def _problems(task: Task, split: str, bands: Sequence[str], seed: int) -> pd.DataFrame:
    rows = []
    for band in bands:
        drawn = task.problems(split, NUM_PROBLEMS[split], derive_seed(seed, "export problems"), band)
        for problem in dict.fromkeys(drawn):
            counts = {"num_answers": task.count_answers(problem), "num_solutions": len(task.solve(problem))}
            rows.append({**_said(task, problem, band), **counts})
    return pd.DataFrame(rows)


def _traces(task: Task, condition: str, band: str, count: int, seed: int) -> pd.DataFrame:
    english = task.english("plain")
    rows = []
    for place, problem in enumerate(task.problems("train", count, derive_seed(seed, "export"), band)):
        # The same numbers for every condition, so that all begin alike.
        script = task.write_trace(problem, condition, random.Random(derive_seed(seed, "export trace", place)))
        row = {**_said(task, problem, band), "completion": task.render(script, problem)}
        row["completion_in_english"] = ""
        if english is not None:
            with contextlib.suppress(ParameterError):  # filler has no words
                row["completion_in_english"] = spoken(english.demonstration(script, problem))
        rows.append(row)
    return pd.DataFrame(rows)


def _said(task: Task, problem: Any, band: str) -> dict[str, Any]:
    english = task.english("plain")
    said = {"problem": problem.identifier, "band": band, "prompt": task.prompt(problem)}
    return {**said, "prompt_in_english": spoken(english.prompt(problem)) if english else ""}
