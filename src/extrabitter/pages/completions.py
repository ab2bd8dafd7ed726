"""Completions on pages: marked where their task sees a behaviour, and a browser of many, before and after RL.

    data = collect(page.table("completions"))
    save_script(data, output_dir)
    browser_html(data)

Which problems and samples the browser shows is decided by a hash of the problem's name and by a bound on their number,
never by what the completions say. Completions are hostile. They reach a page as character data only, escaped to the
last character, inside an element that MathJax ignores; the browser's script holds them as strings without a single
character that HTML knows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from IPython.display import HTML

from extrabitter.pages.chapter import inert
from extrabitter.pages.plots import describe, in_order, model_of
from extrabitter.pages.text import as_script, render
from extrabitter.seeding import derive_seed
from extrabitter.tasks import BEHAVIOURS, Task, load_task

MAX_WORDS = 400  # of a completion shown; the rest is said to be cut
MAX_WORD_CHARACTERS = 40

TITLES = {
    "verification": "verification: says whether the attempt is right",
    "backtracking": "backtracking: drops the attempt and begins another",
    "subgoal_setting": "subgoal: names a step to reach on the way",
    "backward_chaining": "backward chaining: works from the goal",
}

Stretch = tuple[str | None, str]  # a behaviour or none, and the words that show it

MAX_PROBLEMS = 200  # of all seeds together
MAX_SAMPLES = 4  # of each problem
# Both lie beside the page in the book; see html_extra_path in _config.yml.
FOLDER = "completions_browser"
_DATA, _PROGRAM = f"{FOLDER}/data.js", f"{FOLDER}/browser.js"


def shown_stretches(text: str, task: Task, problem: str) -> tuple[list[Stretch], int]:
    """Cut a completion's first MAX_WORDS words into stretches of one behaviour or none; also how many are left out.

    The task reads it; every word is in exactly one stretch. A text on a problem that the task cannot read has one. The
    words are still hostile.
    """
    words, num_words = text.split()[:MAX_WORDS], len(text.split())
    try:
        uses = task.parse(" ".join(words), task.read_problem(problem)).uses
    except ValueError:
        uses = ()
    found: list[Stretch] = []
    position = 0
    for use in sorted(uses, key=lambda use: (use.start, use.end)):
        if use.start >= position:
            found.append((None, _join(words[position : use.start])))
            found.append((use.behaviour, _join(words[use.start : use.end])))
            position = use.end
    found.append((None, _join(words[position:])))
    return [stretch for stretch in found if stretch[1]], num_words - len(words)


def plain_text(text: str) -> str:
    """Cut a text to what a page shows; still to be escaped."""
    return _join(text.split()[:MAX_WORDS])


def _join(words: Sequence[str]) -> str:
    """Join words, long ones cut, characters visible that are invisible or reorder others."""
    cut = (w if len(w) <= MAX_WORD_CHARACTERS else w[:MAX_WORD_CHARACTERS] + "…" for w in words)
    return " ".join("".join(char if char.isprintable() else "\ufffd" for char in word) for word in cut)


def completion_markup(prompt: str, shown: tuple[list[Stretch], int], note: str, title: str = "") -> str:
    """Return one prompt and completion, as `shown_stretches` gives it, as HTML with a title above and a note below."""
    stretched, num_left_out = shown
    said = {"title": title, "prompt": plain_text(prompt), "note": note, "titles": TITLES}
    return render("completion.html", stretches=stretched, num_left_out=num_left_out, **said)


def completions_html(completions: pd.DataFrame, titles: Sequence[str], task: str = "countdown") -> HTML:
    """Show rows of table `completions`, each under its title and with its verdict."""
    reader = load_task(task)
    markup = ""
    for row, title in zip(completions.to_dict("records"), titles, strict=True):
        shown = shown_stretches(row["completion"], reader, row["problem"])
        markup += completion_markup(row["prompt"], shown, verdict_note(row), title)
    return inert(markup)


def verdict_note(row: Mapping[Hashable, Any]) -> str:
    """Say in a line, of a row of table `completions`, how it was judged and which behaviours it shows."""
    parts = ["right" if row["correct"] else f"wrong ({row['reason']})"]
    if row["truncated"]:
        parts.append("cut off at the cap")
    for behaviour in BEHAVIOURS:
        if count := row[f"{behaviour}_count"]:
            functional = row[f"{behaviour}_functional_count"]
            parts.append(f"{behaviour.replace('_', ' ')} {count}, of which functional {functional}")
    return "; ".join(parts)


def key_html() -> HTML:
    """Show what each mark means."""
    return inert(render("key.html", titles={behaviour: TITLES[behaviour] for behaviour in BEHAVIOURS}))


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
    few = completions[drawn & (completions["sample"] < MAX_SAMPLES)].sort_values("sample")
    samples = defaultdict[tuple[int, str, str], list[dict[Any, Any]]](list)
    for row in few.to_dict("records"):
        samples[row["seed"], row["arm"], row["problem"]].append(row)
    seeds = sorted(set(asked["seed"]))
    runs = [(seed, arm) for seed in seeds for arm in in_order(set(asked.loc[asked["seed"] == seed, "arm"]))]
    content: dict[str, Any] = {
        "behaviours": [[behaviour, TITLES[behaviour]] for behaviour in BEHAVIOURS],
        "seeds": seeds,
        "pairs": _pairs(runs),
        "runs": [
            [seed, describe(arm).words, "before RL" if arm.startswith("before_") else "after RL", "runs.html"]
            for seed, arm in runs
        ],
        "problems": [],
        "completions": [],
    }
    for seed, problem in order:
        entry, prompt = {}, ""
        for index, (its_seed, arm) in enumerate(runs):
            if its_seed == seed and (rows := samples.get((seed, arm, problem))):
                entry[str(index)] = [_sample(row, reader) for row in rows]
                prompt = prompt or plain_text(rows[0]["prompt"])
        content["problems"].append([seed, problem, prompt])
        content["completions"].append(entry)
    num_problems = len(asked[["seed", "problem"]].drop_duplicates())
    return BrowserData(content, len(few), len(completions), len(order), num_problems)


def _pairs(runs: Sequence[tuple[int, str]]) -> list[list[Any]]:
    """Pair each model after RL with its start: label, seed, index before, index after; one without is its own."""
    pairs = []
    for after, (seed, arm) in enumerate(runs):
        if not arm.startswith("before_"):
            model, own = model_of(arm), arm.replace("after_", "before_")
            starts = [(seed, own), (seed, own.replace(model, describe(arm).starts_as or model))]
            before = next((runs.index(start) for start in starts if start in runs), after)
            pairs.append([describe(arm).words, seed, before, after])
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


def save_script(data: BrowserData, output_dir: str | Path) -> Path:
    """Write the data as a script where the book's build finds it."""
    path = Path(output_dir) / "_extra" / _DATA
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(as_script("window.completionsBrowser", data.content), encoding="ascii")
    return path


def browser_html(data: BrowserData) -> HTML:
    """Show the browser: the opening view as plain HTML, which the script replaces where scripts run."""
    content, panes = data.content, ""
    for label, _, before, after in content["pairs"][:1]:
        # A run is of one seed: where it answered, the problem is that seed's.
        entry: dict[str, Any] = next((own for own in content["completions"] if str(after) in own), {})
        for index in dict.fromkeys((before, after)):
            for _, note, prompt, marked, num_left_out in entry.get(str(index), [])[:1]:
                shown = [(BEHAVIOURS[place - 1] if place else None, text) for place, text in marked]
                title = f"{label}, {content['runs'][index][2]}"
                panes += completion_markup(prompt, (shown, num_left_out), note, title)
    return inert(render("browser.html", panes=panes, data=_DATA, program=_PROGRAM))
