"""The completions browser: real completions before and after RL side by side, as data that one page's script reads.

    data = collect(page.table("completions"))
    save_script(data, output_dir)
    browser_html(data)

Which problems and samples are shown is decided by a hash of the problem's name and by a bound on their number, never by
what the completions say. Completions are hostile: the script holds them as strings without a
single character that HTML knows, and the page writes them as text.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from IPython.display import HTML

from extrabitter.pages.arms import describe, in_order, model_of, words
from extrabitter.pages.chapter import inert
from extrabitter.pages.highlighting import (
    TITLES,
    completion_markup,
    plain_text,
    shown_stretches,
    verdict_note,
)
from extrabitter.seeding import derive_seed
from extrabitter.tasks import BEHAVIOURS, Task, load_task

MAX_PROBLEMS = 200  # of all seeds together
MAX_SAMPLES = 4  # of each problem
# Both lie beside the page in the book; see html_extra_path in _config.yml.
FOLDER = "completions_browser"
_DATA, _PROGRAM = f"{FOLDER}/data.js", f"{FOLDER}/browser.js"


@dataclass(frozen=True)
class BrowserData:
    """What the page shows, and what it was drawn from."""

    content: dict[str, Any]
    num_shown: int
    num_completions: int
    num_problems_shown: int
    num_problems: int


def collect(completions: pd.DataFrame, task: str = "countdown") -> BrowserData:
    """Draw problems and samples of a store's table `completions` for the browser."""
    reader = load_task(task)
    asked = completions[["seed", "arm", "problem"]].drop_duplicates()
    order = _order(asked)
    drawn = pd.MultiIndex.from_frame(completions[["seed", "problem"]]).isin(order)
    samples: dict[tuple[int, str, str], list[dict[Any, Any]]] = {}
    for row in completions[drawn & (completions["sample"] < MAX_SAMPLES)].sort_values("sample").to_dict("records"):
        samples.setdefault((row["seed"], row["arm"], row["problem"]), []).append(row)
    seeds, answered = sorted(set(asked["seed"])), set(zip(asked["seed"], asked["arm"], strict=True))
    runs = [(seed, arm) for seed in seeds for arm in in_order(set(asked["arm"])) if (seed, arm) in answered]
    content: dict[str, Any] = {
        "behaviours": [[behaviour, TITLES[behaviour]] for behaviour in BEHAVIOURS],
        "seeds": seeds,
        "pairs": _pairs(runs),
        "runs": [
            [seed, words(model_of(arm)), "before RL" if arm.startswith("before_") else "after RL", "runs.html"]
            for seed, arm in runs
        ],
        "problems": [],
        "completions": [],
    }
    shown = 0
    for seed, problem in order:
        entry, prompt = {}, ""
        for index, (its_seed, arm) in enumerate(runs):
            if its_seed == seed and (rows := samples.get((seed, arm, problem))):
                entry[str(index)] = [_sample(row, reader) for row in rows]
                prompt = prompt or plain_text(rows[0]["prompt"])
        content["problems"].append([seed, problem, prompt])
        content["completions"].append(entry)
        shown += sum(map(len, entry.values()))
    num_problems = len(asked[["seed", "problem"]].drop_duplicates())
    return BrowserData(content, shown, len(completions), len(order), num_problems)


def _pairs(runs: Sequence[tuple[int, str]]) -> list[list[Any]]:
    """Pair each model after RL with its start: label, seed, index before, index after; one without is its own."""
    pairs = []
    for after, (seed, arm) in enumerate(runs):
        if not arm.startswith("before_"):
            model, own = model_of(arm), arm.replace("after_", "before_")
            starts = [(seed, own), (seed, own.replace(model, describe(arm).starts_as or model))]
            before = next((runs.index(start) for start in starts if start in runs), after)
            pairs.append([words(model), seed, before, after])
    return pairs


def _order(asked: pd.DataFrame) -> list[tuple[Any, str]]:
    """Draw (seed, problem) by hash, those that most arms answered first, seeds in turn."""
    counts = asked.groupby(["seed", "problem"]).size().reset_index(name="count")
    counts["hash"] = [derive_seed(0, "browser", name) for name in counts["problem"]]
    counts = counts.sort_values(["count", "hash"], ascending=[False, True])
    counts["rank"] = counts.groupby("seed").cumcount()
    drawn = counts.sort_values(["rank", "seed"]).head(MAX_PROBLEMS)
    return list(zip(drawn["seed"], drawn["problem"], strict=True))


def _sample(row: Mapping[Any, Any], task: Task) -> list[Any]:
    shown, num_left_out = shown_stretches(row["completion"], task, row["problem"])
    names = [None, *BEHAVIOURS]
    marked = [[names.index(behaviour), text] for behaviour, text in shown]
    return [int(bool(row["correct"])), verdict_note(row), plain_text(row["prompt"]), marked, num_left_out]


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
    content, panes = data.content, ""
    for label, seed, before, after in content["pairs"][:1]:
        entries = zip(content["problems"], content["completions"], strict=True)
        entry: dict[str, Any] = next((own for (its, _, _), own in entries if its == seed and str(after) in own), {})
        for index in dict.fromkeys((before, after)):
            if str(index) in entry:
                _, note, prompt, marked, num_left_out = entry[str(index)][0]
                shown = [(BEHAVIOURS[place - 1] if place else None, text) for place, text in marked]
                title = f"{label}, {content['runs'][index][2]}"
                panes += completion_markup(prompt, (shown, num_left_out), note, title)
    return inert(
        f'<div class="eb-browser" id="completions-browser"><noscript><p>Scripts are off: this is the first view.</p>'
        f'</noscript><div class="eb-panes">{panes or html.escape("No completions were evaluated.")}</div></div>'
        f'<script src="{_DATA}"></script><script src="{_PROGRAM}"></script>'
    )
