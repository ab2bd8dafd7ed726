"""Completions on pages: marked where their task sees a behaviour, those of some problems side by side.

    drawn_html(page.table("completions"), ["before_searcher", "after_searcher"], 8)

Which problems are shown is decided by a hash of the name of each, never by what completions say. Completions are
hostile: they reach a page as character data only, escaped to the last character, in an element that MathJax ignores.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd
from IPython.display import HTML

from extrabitter.pages import plots
from extrabitter.pages.chapter import inert
from extrabitter.pages.text import render
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
    return inert(_side_by_side(completions, titles, load_task(task)))


def _side_by_side(completions: pd.DataFrame, titles: Sequence[str], task: Task) -> str:
    markup = ""
    for row, title in zip(completions.to_dict("records"), titles, strict=True):
        shown = shown_stretches(row["completion"], task, row["problem"])
        markup += completion_markup(row["prompt"], shown, verdict_note(row), title)
    return markup


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


def drawn(completions: pd.DataFrame, arms: Sequence[str], count: int) -> list[pd.DataFrame]:
    """Draw problems of table `completions` by hash: of each the first sample of every arm, of one seed that has it."""
    first = completions[(completions["sample"] == 0) & completions["arm"].isin(arms)]
    names = sorted(set(first["problem"]), key=lambda name: derive_seed(0, "shown", str(name)))[:count]
    asked = (first[first["problem"] == name].set_index("arm") for name in names)
    of_one_seed = (rows[rows["seed"] == rows["seed"].min()] for rows in asked)
    return [rows.loc[[arm for arm in arms if arm in rows.index]] for rows in of_one_seed]


def drawn_html(completions: pd.DataFrame, arms: Sequence[str], count: int, task: str = "countdown") -> HTML:
    """Show what these arms wrote on problems drawn by hash, a folded section a problem; the first stands open."""
    reader, problems = load_task(task), []
    for rows in drawn(completions, arms, count):
        panes = _side_by_side(rows, list(map(plots.words, rows.index)), reader)
        problems.append((plain_text(rows["prompt"].iloc[0]), panes))
    return inert(render("drawn.html", problems=problems))
