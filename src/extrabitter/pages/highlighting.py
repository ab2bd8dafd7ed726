"""Show a model's completion on a page: escaped to the last character, its behaviours marked.

The text is hostile. It reaches the page as character data only, inside an element that MathJax ignores, so that
tags, template braces, dollar signs and code fences stay what they are: text.
"""

from __future__ import annotations

import html
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from IPython.display import HTML

from extrabitter.tables import BEHAVIOURS
from extrabitter.pages.chapter import inert
from extrabitter.seeding import derive_seed

MAX_WORDS = 400  # of a completion shown; the rest is said to be cut
MAX_WORD_CHARACTERS = 40

TITLES = {
    "verification": "verification: states the target and says whether the attempt reached it",
    "backtracking": "backtracking: drops the attempt and restates the problem",
    "subgoal_setting": "subgoal: names a number to reach on the way",
    "backward_chaining": "backward chaining: works from the target",
}


class Segment(NamedTuple):
    """Consecutive words, and the behaviour they show, if any."""

    words: tuple[str, ...]
    behaviour: str | None


def segments(text: str) -> list[Segment]:
    """Cut a completion into stretches of one behaviour or none; every word is in exactly one.

    >>> [(" ".join(s.words), s.behaviour) for s in segments("1 + 2 = 3 check 4 no back 1 2 target 4 : 2 - 1")]
    [('1 + 2 = 3', None), ('check 4 no', 'verification'), ('back 1 2 target 4 :', 'backtracking'), ('2 - 1', None)]
    """
    words = text.split()
    found: list[Segment] = []
    plain: list[str] = []
    position = 0
    while position < len(words):
        length, behaviour = _match(words, position)
        if behaviour is None:
            plain.append(words[position])
            position += 1
            continue
        if plain:
            found.append(Segment(tuple(plain), None))
            plain = []
        found.append(Segment(tuple(words[position : position + length]), behaviour))
        position += length
    if plain:
        found.append(Segment(tuple(plain), None))
    return found


def _match(words: list[str], start: int) -> tuple[int, str | None]:
    """Number of words, from `start`, of the behaviour that begins there."""
    word = words[start]
    if word == "check":
        return min(3, len(words) - start), "verification"
    if word == "back":
        return _up_to(words, start, ":", 9), "backtracking"
    if word == "aim":
        return _up_to(words, start, ",", 3), "subgoal_setting"
    if word == "need":
        return _up_to(words, start, ",", 7), "backward_chaining"
    return 0, None


def _up_to(words: list[str], start: int, end: str, longest: int) -> int:
    window = words[start : start + longest]
    return window.index(end) + 1 if end in window else 1


def shown_segments(text: str) -> tuple[list[tuple[str | None, str]], int]:
    """Cut a completion to what a page shows: stretches as (behaviour or None, text), and how many words are left out.

    The text is still hostile: write it as text, or escape it.
    """
    shown, stretches = 0, []
    for segment in segments(text):
        words = segment.words[: MAX_WORDS - shown]
        shown += len(words)
        if words:
            stretches.append((segment.behaviour, " ".join(_legible(word) for word in words)))
    return stretches, len(text.split()) - shown


def text_markup(text: str) -> str:
    """Return a completion's words as escaped HTML with the behaviours marked."""
    stretches, num_left_out = shown_segments(text)
    spans = []
    for behaviour, words in stretches:
        escaped = html.escape(words)
        if behaviour:
            title = html.escape(TITLES[behaviour])
            escaped = f'<mark class="eb-{behaviour}" title="{title}">{escaped}</mark>'
        spans.append(escaped)
    if num_left_out:
        spans.append(f'<span class="eb-cut">{cut_note(num_left_out)}</span>')
    return " ".join(spans)


def cut_note(num_words: int) -> str:
    """Say how much of a completion is not shown."""
    return f"(cut: {num_words} more words)"


def _legible(word: str) -> str:
    """Shorten a word and make characters visible that are invisible or reorder others."""
    cut = word if len(word) <= MAX_WORD_CHARACTERS else word[:MAX_WORD_CHARACTERS] + "…"
    return "".join(char if char.isprintable() else "\ufffd" for char in cut)


def completion_markup(
    prompt: str, completion: str, note: str, title: str = "", in_grammar: bool = True
) -> str:
    """Return one prompt and completion as HTML, with a title above and a note below, both plain text.

    Only a completion `in_grammar` has its behaviours marked: in English the same words may say something else.
    """
    head = f'<p class="eb-title">{html.escape(title)}</p>' if title else ""
    text = text_markup(completion) if in_grammar else plain_markup(completion)
    return (
        f'<figure class="eb-completion">{head}<p class="eb-text">'
        f'<span class="eb-prompt">{plain_markup(prompt)}</span> {text}</p>'
        f"<figcaption>{html.escape(note)}</figcaption></figure>"
    )


def plain_markup(text: str) -> str:
    """Return words as escaped HTML without marks, as for a prompt."""
    return html.escape(plain_text(text))


def plain_text(text: str) -> str:
    """Cut a text to what a page shows; still to be escaped."""
    return " ".join(_legible(word) for word in text.split()[:MAX_WORDS])


def completions_html(completions: pd.DataFrame, titles: Sequence[str], in_grammar: bool = True) -> HTML:
    """Show rows of table `completions`, or `natural_completions`, each under its title and with its verdict."""
    return inert(
        "".join(
            completion_markup(row["prompt"], row["completion"], verdict_note(row), title, in_grammar)
            for row, title in zip(completions.to_dict("records"), titles, strict=True)
        )
    )


def drawn_problem(completions: pd.DataFrame) -> pd.DataFrame:
    """Return the first samples of one problem, one row an arm (index), of the lowest seed; drawn, not chosen.

    It is the problem with the lowest hash among those that the most arms answered.
    """
    here = completions[(completions["seed"] == completions["seed"].min()) & (completions["sample"] == 0)]
    answered_by = here.groupby("problem")["arm"].nunique()
    shared = answered_by.index[answered_by == answered_by.max()]
    problem = min(shared, key=lambda name: derive_seed(0, "example", name), default="")
    return here[here["problem"] == problem].set_index("arm")


def verdict_note(row: Mapping[Hashable, Any]) -> str:
    """Say in a line, of a row of table `completions`, how it was judged and which behaviours it shows.

    Of table `natural_completions` too, where no behaviour is known to be functional.
    """
    parts = ["right" if row["correct"] else f"wrong ({row['reason']})"]
    if row["truncated"]:
        parts.append("cut off at the cap")
    for behaviour in BEHAVIOURS:
        count = row[f"{behaviour}_count"]
        if count:
            functional = row.get(f"{behaviour}_functional_count")
            of_which = "" if functional is None else f", of which functional {functional}"
            parts.append(f"{behaviour.replace('_', ' ')} {count}{of_which}")
    return "; ".join(parts)


def key_html(behaviours: Iterable[str] = BEHAVIOURS) -> HTML:
    """Show what each mark means."""
    marks = " ".join(
        f'<li><mark class="eb-{behaviour}">{behaviour.replace("_", " ")}</mark> '
        f"{html.escape(TITLES[behaviour].split(': ', 1)[1])}</li>"
        for behaviour in behaviours
    )
    return inert(f'<ul class="eb-key">{marks}</ul>')
