"""Knights & Knaves in English: prompts for any language model, and the roles that its text hands in.

The puzzles are those of the grammar, in its splits; letters become first names. An answer is what is handed in
(`tasks.free_text`), and is read whole: each person with one role, and nothing else but punctuation and small words.
How a completion gets there is not read: a trace in English has no uses, and at most one attempt, its answer.
"""

from __future__ import annotations

import re
from typing import Literal

from extrabitter.tasks import Attempt, Trace, Verdict, free_text
from extrabitter.tasks.knights.parser import judge_roles
from extrabitter.tasks.knights.problems import Problem, Statement
from extrabitter.tasks.knights.traces import Attempted, Script, aimed

_FIRST_NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hal", "Ivy", "Jon", "Kim", "Leo")
PEOPLE = {name[0]: name for name in _FIRST_NAMES}
REASONS = {**free_text.REASONS, "not_roles": "what is handed in is not a list of people and their roles"}
_LETTER = {name.lower(): letter for letter, name in PEOPLE.items()}
_TOKEN = re.compile(r"[a-z]+|[^a-z\s]", re.IGNORECASE)
_SMALL = frozenset(("is", "a", "and", "are", "the", "both", "all"))
_MARKS = frozenset(".,;:=()*-_–—→>[]{}\"'`|&")  # what lists are punctuated with
_SAID = {
    "same": "{0} and {1} are of the same kind",
    "differs": "{0} and {1} are of different kinds",
    "and": "{0} and {1} are both knights",
    "or": "{0} or {1} is a knight, or both",
    "if": "{0} is a knight if {1} is",
}


class English(free_text.Asked):
    """The game in English."""

    def question(self, problem: Problem) -> str:
        """Return the puzzle in words."""
        told = " ".join(f"{PEOPLE[s.speaker]} says: {claim(s)}." for s in problem.statements)
        return (
            f"Each of {len(problem.people)} people is either a knight, who always tells the truth, or a knave, who "
            f"always lies. {told} Who is what? Work it out first, then give everybody's role between <answer> and "
            f'</answer>, like this: "Ada knight, Ben knave".'
        )

    def solution(self, script: Script, problem: Problem) -> str:
        """Return a script in words, handed in at its end."""
        roles, sentences = dict(script.roles), []
        for statements, attempts in zip(problem.islands, script.islands, strict=False):
            if script.aims and (first := aimed(statements)):
                kind = "the same kind" if first.other == "knight" else "different kinds"
                sentences.append(f"{PEOPLE[first.speaker]} and {PEOPLE[first.subject]} must be of {kind}.")
            if script.needs:
                last = statements[-1]
                sentences.append(f"If {PEOPLE[last.speaker]} is a knight, it must hold that {claim(last)}.")
            for attempt in attempts:
                sentences += _attempt(attempt)
            roles.update(attempts[-1].known)
        answer = ", ".join(f"{PEOPLE[name]} {roles[name]}" for name in problem.people)
        return " ".join([*sentences, f"<answer> {answer} </answer>"])

    def parse(self, text: object, problem: Problem, truncated: bool = False) -> Trace:
        """Read what a completion hands in."""
        handed = free_text.hand_in(text, self.stops)
        if handed.reason != "ok":
            reason = "truncated" if truncated and handed.reason != "not_read" else handed.reason
            return Trace((), (), Verdict(False, reason), handed.reason, answered=False)
        roles = read_roles(handed.text)
        if roles is None:
            return Trace((), (), Verdict(False, "not_roles"), "not_roles")
        verdict = judge_roles(roles, problem)
        outcome: Literal["hit", "miss", "illegal"] = "illegal"
        if verdict.reason in ("correct", "wrong_role"):
            outcome = "hit" if verdict.correct else "miss"
        end = len(handed.body.split())
        return Trace((Attempt(0, end, outcome),), (), verdict)


def read_roles(text: str) -> list[tuple[str, str]] | None:
    """Read "Ada is a knight, Ben a knave" to its end; None where anything in it says more than roles.

    >>> read_roles(" Ada: knight, Ben: knave. ")
    [('A', 'knight'), ('B', 'knave')]
    """
    roles: list[tuple[str, str]] = []
    waiting: list[str] = []
    for token in _TOKEN.findall(text):
        word = token.lower()
        if word in _LETTER:
            waiting.append(_LETTER[word])
        elif word in ("knight", "knave", "knights", "knaves"):
            if not waiting:
                return None
            roles += [(letter, word.rstrip("s")) for letter in waiting]
            waiting = []
        elif word not in _SMALL and token not in _MARKS:
            return None
    return roles if roles and not waiting else None


def claim(statement: Statement) -> str:
    """Return what is said.

    >>> claim(Statement("A", "B", "is", "knave"))
    'Ben is a knave'
    """
    subject = PEOPLE[statement.subject]
    if statement.relation == "is":
        return f"{subject} is a {statement.other}"
    return _SAID[statement.relation].format(subject, PEOPLE[statement.other])


def _attempt(attempt: Attempted) -> list[str]:
    name, role = attempt.assumed
    sentences = [f"Assume that {PEOPLE[name]} is a {role}."]
    for statement, found, what in attempt.steps:
        speaker = PEOPLE[statement.speaker]
        sentences.append(f"{speaker} says that {claim(statement)}, so {PEOPLE[found]} is a {what}.")
    for statement in attempt.tested:
        fits = "fits" if statement.fits(attempt.known) else "does not fit"
        sentences.append(f"{PEOPLE[statement.speaker]} says that {claim(statement)}, which {fits}.")
    if attempt.refuted:
        name, role = attempt.refuted
        sentences.append(f"So {PEOPLE[name]} cannot be a {role}.")
    return sentences
