"""The completions browser: real completions before and after RL side by side, as data that one page's script reads.

Which problems and samples are shown is decided by a hash of the problem's name and by a bound on the size of the
script, never by what the completions say. Completions are hostile: the script holds them as strings without a
single character that HTML knows, and the page writes them as text.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from IPython.display import HTML

from extrabitter.pages.arms import base_of
from extrabitter.runs import Run, find_runs
from extrabitter.pages.plots import arm_label
from extrabitter.pages.highlighting import TITLES, completion_markup, plain_text, shown_segments, verdict_note
from extrabitter.tables import BEHAVIOURS
from extrabitter.pages.chapter import inert
from extrabitter.seeding import derive_seed

STAGE = "behaviour_evaluation"
OPENING = "rich"
MAX_PROBLEMS = 40  # of each seed and kind of problem
MAX_SAMPLES = 4  # of each problem
MAX_SCRIPT_BYTES = 1_500_000
# Both lie beside the page in the book; see html_extra_path in _config.yml.
FOLDER = "completions_browser"
_DATA, _PROGRAM = f"{FOLDER}/data.js", f"{FOLDER}/browser.js"

_AFTER_RL = re.compile(r"(?:^|/)grpo/([a-z0-9_]+)/seed=\d+/checkpoint(?:-(\d+))?$")


@dataclass(frozen=True)
class Evaluated:
    """One evaluated checkpoint as the browser lists it; `step` is 0 before RL.

    `problems` says which kind of problem it was given, where that is not the usual one.
    """

    run: Run
    model: str
    problems: str
    step: int
    label: str


@dataclass
class BrowserData:
    """What the page shows, and what it was drawn from."""

    content: dict[str, Any]
    num_shown: int = 0
    num_completions: int = 0
    num_problems_shown: int = 0
    num_problems: int = 0
    num_samples_shown: int = 0
    num_samples: int = 0
    # Of the view that the page opens with: title, prompt, completion, note.
    opening: list[tuple[str, str, str, str]] = field(default_factory=list)


def list_evaluated(results_dir: str | Path) -> list[Evaluated]:
    """List the evaluated checkpoints of the grammar by model and step, those before RL first."""
    steps = {
        (run.arm, run.seed): run.manifest["parameters"]["num_steps"] for run in find_runs(results_dir, "grpo")
    }
    found = []
    for run in find_runs(results_dir, STAGE):
        if "completions.parquet" not in run.manifest["files"]:
            continue  # in natural English: behaviours are counted there, and have no places to mark
        parameters = run.manifest["parameters"]
        after = _AFTER_RL.search(parameters["checkpoint"])
        model = base_of(after[1] if after else run.arm)
        step = int(after[2] or steps.get((after[1], run.seed), 0)) if after else 0
        when = "before RL" if not after else f"after {step} steps of RL" if step else "after RL"
        problems = _problems(parameters)
        label = when + _conditions(parameters) + f", {problems}" * bool(problems)
        found.append(Evaluated(run, model, problems, step, label))
    # Of two evaluations of one checkpoint on one kind of problem, the one with more problems holds the other's.
    found.sort(key=lambda one: -int(one.run.manifest["parameters"]["num_problems"]))
    largest = {(one.run.seed, one.model, one.label): one for one in reversed(found)}
    # The page opens with the first model: the one that the argument is about, by name and not by what it wrote.
    return sorted(
        largest.values(),
        key=lambda one: (one.run.seed, one.problems, one.model != OPENING, one.model, one.step, one.label),
    )


def _problems(parameters: Mapping[str, Any]) -> str:
    """Name the kind of problem that an evaluation was given; empty for the usual one."""
    numbers = int(parameters["num_numbers"])
    kinds = [f"{numbers} numbers"] * (numbers != 3)
    kinds += ["rare solutions"] * (parameters.get("solutions") == "rare")  # older manifests say nothing of it
    return ", ".join(kinds)


def _conditions(parameters: Mapping[str, Any]) -> str:
    """Say what sets an evaluation apart from the plain one."""
    said = ", with the cue" if parameters["cue"] else ""
    said += f", “{parameters['masked_words']}” masked" if parameters["masked_words"] else ""
    return said + (f", “{parameters['forced_words']}” forced" if parameters["forced_words"] else "")


def pairs_of(evaluated: Sequence[Evaluated], results_dir: str | Path) -> list[tuple[str, int, int]]:
    """Pair each trained model with where it started: (label, index before, index after), by seed, model, problems.

    The start is the evaluation of the checkpoint that RL was given; without one, of the model of the same name.
    A model that was never trained further is paired with itself.
    """
    started_from = {
        (base_of(run.arm), run.seed): run.manifest["parameters"]["init_from"]
        for run in find_runs(results_dir, "grpo")
    }
    pairs = []
    for seed, model, problems in dict.fromkeys((one.run.seed, one.model, one.problems) for one in evaluated):
        there = {
            index: one
            for index, one in enumerate(evaluated)
            if (one.run.seed, one.problems) == (seed, problems)
        }
        own = [index for index, one in there.items() if one.model == model]
        given = started_from.get((model, seed))
        starts = [
            index
            for index, one in there.items()
            if one.step == 0 and one.run.manifest["parameters"]["checkpoint"] == given
        ]
        before = next((index for index in [*own, *starts] if _is_before(evaluated[index])), own[0])
        pairs.append((arm_label(model) + f", {problems}" * bool(problems), before, own[-1]))
    return pairs


def on_the_way(evaluated: Sequence[Evaluated], results_dir: str | Path) -> str:
    """Say of which models steps before the last one of RL can be picked."""
    last = {
        base_of(run.arm): run.manifest["parameters"]["num_steps"] for run in find_runs(results_dir, "grpo")
    }
    between: dict[str, set[int]] = {}
    for one in evaluated:
        if 0 < one.step < last.get(one.model, 0):
            between.setdefault(arm_label(one.model), set()).add(one.step)
    if not between:
        return "No checkpoint between the first and the last step of RL was kept in this profile"
    said = [
        f"{label}, after {', '.join(map(str, sorted(found)))} steps, where a seed has them"
        for label, found in between.items()
    ]
    return (
        f"Checkpoints on that way can be picked for {'; '.join(said)}; of other models at most the two ends"
    )


def _is_before(one: Evaluated) -> bool:
    return one.label.startswith("before RL")


def collect(results_dir: str | Path) -> BrowserData:
    """Draw problems and samples of all evaluated checkpoints for the browser, within MAX_SCRIPT_BYTES."""
    evaluated = list_evaluated(results_dir)
    pairs = pairs_of(evaluated, results_dir)
    content: dict[str, Any] = {
        "behaviours": [[behaviour, TITLES[behaviour]] for behaviour in BEHAVIOURS],
        "seeds": sorted({one.run.seed for one in evaluated}),
        "pairs": [[label, evaluated[after].run.seed, before, after] for label, before, after in pairs],
        "runs": [
            [
                one.run.seed,
                arm_label(one.model),
                one.label,
                f"run_pages/{STAGE}/{one.run.arm}-seed-{one.run.seed}.html",
            ]
            for one in evaluated
        ],
        "problems": [],
        "completions": [],
    }
    data = BrowserData(content)
    tables = [one.run.table("completions") for one in evaluated]
    data.num_completions = sum(len(table) for table in tables)
    data.num_samples = max((int(table["sample"].max()) + 1 for table in tables if len(table)), default=0)
    left = MAX_SCRIPT_BYTES - len(script(content))
    drawn, data.num_problems = _draw(evaluated, tables)
    samples_shown = 0
    for seed, problem in drawn:
        entry = {}
        for index, (one, table) in enumerate(zip(evaluated, tables, strict=True)):
            if one.run.seed == seed:
                rows = table[(table["problem"] == problem) & (table["sample"] < MAX_SAMPLES)]
                if len(rows):
                    entry[str(index)] = [
                        _sample(row) for row in rows.sort_values("sample").to_dict("records")
                    ]
        left -= len(_json(entry)) + len(_json([seed, problem, _say(problem)])) + 2
        if left < 0:
            break
        content["problems"].append([seed, problem, _say(problem)])
        content["completions"].append(entry)
        data.num_shown += sum(len(samples) for samples in entry.values())
        samples_shown = max(samples_shown, *(len(samples) for samples in entry.values()))
    data.num_problems_shown, data.num_samples_shown = len(content["problems"]), samples_shown
    data.opening = _opening(content)
    return data


def _draw(
    evaluated: Sequence[Evaluated], tables: Sequence[pd.DataFrame]
) -> tuple[list[tuple[int, str]], int]:
    """Order (seed, problem) by hash, best covered first, at most MAX_PROBLEMS a seed and kind; and count them all."""
    groups: dict[tuple[int, str], dict[str, int]] = {}
    for one, table in zip(evaluated, tables, strict=True):
        counts = groups.setdefault((one.run.seed, one.problems), {})
        for problem in table["problem"].unique():
            counts[str(problem)] = counts.get(str(problem), 0) + 1
    ranked = []
    for (seed, _), counts in groups.items():
        # Problems that every model was given come first: only those can be compared.
        order = sorted(counts, key=lambda name: (-counts[name], derive_seed(0, "browser", name)))
        ranked += [(rank, seed, problem) for rank, problem in enumerate(order[:MAX_PROBLEMS])]
    return [(seed, problem) for _, seed, problem in sorted(ranked)], sum(map(len, groups.values()))


def _sample(row: Mapping[Any, Any]) -> list[Any]:
    stretches, num_left_out = shown_segments(row["completion"])
    names = [None, *BEHAVIOURS]
    marked = [[names.index(behaviour), text] for behaviour, text in stretches]
    return [int(bool(row["correct"])), verdict_note(row), plain_text(row["prompt"]), marked, num_left_out]


def _say(problem: str) -> str:
    """Write a problem's name as a sentence, if it has the form of a Countdown problem.

    >>> _say("6-7-9:8")
    'reach 8 from 6, 7, 9'
    """
    numbers, _, target = problem.partition(":")
    return f"reach {target} from {numbers.replace('-', ', ')}" if target else problem


def _opening(content: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """First problem's first sample, before and after RL, of the first model that has both."""
    for label, seed, before, after in content["pairs"]:
        for (its_seed, _, _), entry in zip(content["problems"], content["completions"], strict=True):
            if its_seed == seed and str(before) in entry and str(after) in entry:
                shown = []
                for index in dict.fromkeys((before, after)):
                    _, note, prompt, marked, _ = entry[str(index)][0]
                    shown.append(
                        (
                            f"{label}, {content['runs'][index][2]}",
                            prompt,
                            " ".join(t for _, t in marked),
                            note,
                        )
                    )
                return shown
    return []


def script(content: Mapping[str, Any]) -> str:
    """Write the data as a script in ASCII without <, > and &: nothing in it can open or end a tag."""
    return f"window.completionsBrowser = {_json(content)};\n"


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def save_script(data: BrowserData, output_dir: str | Path) -> Path:
    """Write the data script where the book's build finds it."""
    path = Path(output_dir) / "_extra" / _DATA
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script(data.content), encoding="ascii")
    return path


def browser_html(data: BrowserData) -> HTML:
    """Show the browser: the opening view as plain HTML, which the script replaces where scripts run."""
    panes = "".join(
        completion_markup(prompt, completion, note, title) for title, prompt, completion, note in data.opening
    )
    return inert(
        f'<div class="eb-browser" id="completions-browser"><noscript><p>Scripts are off: this is the first view.</p>'
        f'</noscript><div class="eb-panes">{panes or html.escape("No completions were evaluated.")}</div></div>'
        f'<script src="{_DATA}"></script><script src="{_PROGRAM}"></script>'
    )
