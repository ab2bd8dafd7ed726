"""Show a model's completion on a page: escaped to the last character, the places marked where its task sees behaviour.

The text is hostile. It reaches the page as character data only, inside an element that MathJax ignores, so that
tags, template braces, dollar signs and code fences stay what they are: text.
"""

from __future__ import annotations

import html
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from IPython.display import HTML

from extrabitter.pages.chapter import inert
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


def stretches(text: str, task: Task, problem: str) -> list[Stretch]:
    """Cut a completion into stretches of one behaviour or none, as the task reads it; every word is in exactly one.

    A text on a problem that the task cannot read has one stretch. The words are still hostile.
    """
    words = text.split()
    try:
        uses = task.parse(text, task.read_problem(problem)).uses
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
    return [stretch for stretch in found if stretch[1]]


def shown_stretches(text: str, task: Task, problem: str) -> tuple[list[Stretch], int]:
    """Cut a completion to what a page shows: its first MAX_WORDS words as stretches, and how many are left out."""
    words = text.split()
    return stretches(" ".join(words[:MAX_WORDS]), task, problem), max(0, len(words) - MAX_WORDS)


def plain_text(text: str) -> str:
    """Cut a text to what a page shows; still to be escaped."""
    return _join(text.split()[:MAX_WORDS])


def _join(words: Sequence[str]) -> str:
    """Join words, long ones cut, characters visible that are invisible or reorder others."""
    cut = (w if len(w) <= MAX_WORD_CHARACTERS else w[:MAX_WORD_CHARACTERS] + "…" for w in words)
    return " ".join("".join(char if char.isprintable() else "\ufffd" for char in word) for word in cut)


def completion_markup(prompt: str, shown: tuple[list[Stretch], int], note: str, title: str = "") -> str:
    """Return one prompt and completion, as `shown_stretches` gives it, as HTML with a title above and a note below."""
    spans = []
    for behaviour, words in shown[0]:
        escaped = html.escape(words)
        if behaviour in TITLES:
            escaped = f'<mark class="eb-{behaviour}" title="{html.escape(TITLES[behaviour])}">{escaped}</mark>'
        spans.append(escaped)
    if shown[1]:
        spans.append(f'<span class="eb-cut">(cut: {shown[1]} more words)</span>')
    head = f'<p class="eb-title">{html.escape(title)}</p>' if title else ""
    return (
        f'<figure class="eb-completion">{head}<p class="eb-text">'
        f'<span class="eb-prompt">{html.escape(plain_text(prompt))}</span> {" ".join(spans)}</p>'
        f"<figcaption>{html.escape(note)}</figcaption></figure>"
    )


def completions_html(completions: pd.DataFrame, titles: Sequence[str], task: str = "countdown") -> HTML:
    """Show rows of table `completions`, each under its title and with its verdict."""
    reader = load_task(task)
    shown = [
        completion_markup(
            row["prompt"], shown_stretches(row["completion"], reader, row["problem"]), verdict_note(row), title
        )
        for row, title in zip(completions.to_dict("records"), titles, strict=True)
    ]
    return inert("".join(shown))


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


def key_html(behaviours: Iterable[str] = BEHAVIOURS) -> HTML:
    """Show what each mark means."""
    marks = " ".join(
        f'<li><mark class="eb-{behaviour}">{behaviour.replace("_", " ")}</mark> '
        f"{html.escape(TITLES[behaviour].split(': ', 1)[1])}</li>"
        for behaviour in behaviours
    )
    return inert(f'<ul class="eb-key">{marks}</ul>')
