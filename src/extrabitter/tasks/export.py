"""Export problems and traces as a folder that `datasets.load_dataset` reads, with a card that says what they are.

One configuration `problems` with the splits of the task, which share no multiset of numbers; and one
`traces_<condition>` for each priming condition, on training problems only, in the grammar and in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from extrabitter.runs import write_json
from extrabitter.tasks.countdown.english import plain_prompt, render_solution
from extrabitter.training.priming import CONDITIONS, priming_traces
from extrabitter.digests import git_state
from extrabitter.seeding import derive_seed
from extrabitter.tasks import countdown
from extrabitter.tasks.countdown import Problem
from extrabitter.tasks.countdown.problems import SPLITS, attempt_table

RECORD = "provenance.json"
FIELDS = {
    "problem": "identifier: numbers, colon, target",
    "numbers": "given numbers, ascending; each has to be used once",
    "target": "number to reach",
    "num_attempts": "legal attempts (whole numbers from 0 to 60, with +, - and *)",
    "num_solutions": "those of them that reach the target",
    "prompt": "the problem in the grammar of the book's own models",
    "prompt_in_words": "the problem in natural English",
    "completion": "a worked solution in the grammar",
    "completion_in_words": "the same in natural English; filler has no words and is left out",
}


def write_data(folder: Path, name: str, num_numbers: Sequence[int], num_traces: int, seed: int) -> None:
    """Fill a folder with data set `name`: problems, `num_traces` traces a condition, card and record.

    `num_numbers`: problems with as many given numbers; traces are on those of the first count.
    """
    tables: dict[str, dict[str, pd.DataFrame]] = {"problems": {}}
    for split in SPLITS:
        rows = [_problem_row(p) for count in num_numbers for p in countdown.all_problems(split, count)]
        tables["problems"][split] = pd.DataFrame(rows)
    for condition in CONDITIONS:
        tables[f"traces_{condition}"] = {"train": _traces(condition, num_traces, seed, num_numbers[0])}
    for config, splits in tables.items():
        (folder / "data" / config).mkdir(parents=True)
        for split, table in splits.items():
            table.to_parquet(folder / "data" / config / f"{split}.parquet", index=False)
    asked = {"num_numbers": list(num_numbers), "num_traces": num_traces, "seed": seed}
    write_json(folder / RECORD, {"made_by": "extrabitter export data", **git_state(), "parameters": asked})
    (folder / "README.md").write_text(_card(name, tables, asked), encoding="utf-8")


def _problem_row(problem: Problem) -> dict[str, Any]:
    table = attempt_table(problem.numbers)
    return {
        "problem": problem.identifier,
        "numbers": list(problem.numbers),
        "target": problem.target,
        "num_attempts": len(table),
        "num_solutions": len(table.hits(problem.target)),
        "prompt": countdown.render_prompt(problem),
        "prompt_in_words": plain_prompt(problem),
    }


def _traces(condition: str, count: int, seed: int, num_numbers: int) -> pd.DataFrame:
    rows = []
    for problem, trace in priming_traces(condition, count, derive_seed(seed, "export"), num_numbers):
        rows.append(
            {
                "problem": problem.identifier,
                "numbers": list(problem.numbers),
                "target": problem.target,
                "prompt": countdown.render_prompt(problem),
                "completion": countdown.render_trace(trace, problem),
                "prompt_in_words": plain_prompt(problem),
                "completion_in_words": f" {render_solution(trace, problem)}",
            }
        )
    return pd.DataFrame(rows)


def _card(name: str, tables: dict[str, dict[str, pd.DataFrame]], asked: dict[str, Any]) -> str:
    configs = [
        {
            "config_name": config,
            "data_files": [{"split": split, "path": f"data/{config}/{split}.parquet"} for split in splits],
            **({"default": True} if config == "problems" else {}),
        }
        for config, splits in tables.items()
    ]
    header = {
        "license": "cc-by-4.0",
        "language": ["en"],
        "task_categories": ["text-generation"],
        "tags": ["countdown", "arithmetic", "reinforcement-learning"],
        "pretty_name": "Countdown problems and traces",
        "configs": configs,
    }
    sizes = [
        (f"`{config}`", split, f"{len(table):,}")
        for config, splits in tables.items()
        for split, table in splits.items()
    ]
    return "\n".join(
        [
            "---",
            yaml.safe_dump(header, sort_keys=False).rstrip(),
            "---",
            f"# {name}",
            "",
            "Countdown: combine all numbers, each once, with +, - and *, so that the target comes out. Problems",
            "and worked traces were generated by the package `extrabitter`; a program wrote the traces, so that a",
            "behaviour is in them or not by construction.",
            "",
            "```python",
            "from datasets import load_dataset",
            "",
            f'problems = load_dataset("{name}", "problems", split="validation")',
            f'traces = load_dataset("{name}", "traces_verification_backtracking", split="train")',
            "```",
            "",
            "| configuration | split | rows |",
            "| --- | --- | --- |",
            *(f"| {config} | {split} | {size} |" for config, split, size in sizes),
            "",
            "Splits share no multiset of numbers. Traces are on training problems, the same for every condition.",
            "",
            "| field | meaning |",
            "| --- | --- |",
            *(f"| `{field}` | {meaning} |" for field, meaning in FIELDS.items()),
            "",
            f"Made with {', '.join(f'`{key}` = `{value}`' for key, value in asked.items())}; `{RECORD}` names the",
            "commit.",
            f"`hf upload --repo-type dataset <user>/{name} {name}` uploads this folder.",
            "",
        ]
    )
