"""The Knights & Knaves task: everything the stages and chapters need of it, under one name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from extrabitter.tasks import Opening, SupportsRandom, Trace, Verdict, Wording, band_of
from extrabitter.tasks.knights import parser, problems, traces
from extrabitter.tasks.knights.drills import draw_drill
from extrabitter.tasks.knights.english import REASONS, English
from extrabitter.tasks.knights.problems import Problem
from extrabitter.tasks.knights.traces import Script

__all__ = ["Knights", "Problem", "Script"]


class Knights:
    """Who is a knight, who is a knave? See `Task` for what each method is asked."""

    name: str = "knights"
    vocabulary: tuple[str, ...] = traces.VOCABULARY
    cue: str = traces.CUE
    answer_word: str = traces.ANSWER_WORD
    search_words: tuple[str, ...] = ("check", "back")
    search_opening: Opening = Opening(("assume",), "start")
    openings: Mapping[str, Opening] = {
        "verification": Opening(("check",), "after_attempt"),
        "backtracking": Opening(("back",), "after_miss"),
        "subgoal_setting": Opening(("aim",), "start"),
        "backward_chaining": Opening(("need",), "start"),
    }
    bands: Mapping[str, str] = {name: band.meaning for name, band in problems.BANDS.items()}
    conditions: Mapping[str, str] = {name: condition.meaning for name, condition in traces.CONDITIONS.items()}
    reasons: Mapping[str, str] = {**parser.REASONS, **REASONS}

    def problems(
        self, split: str, count: int, seed: int, band: str = "", distinct: bool = False
    ) -> list[Problem]:
        """Draw problems: structures by chance, names from twelve letters."""
        return problems.draw_problems(split, count, seed, band_of(self, band), distinct)

    def read_problem(self, identifier: str) -> Problem:
        """Return the problem of that name."""
        return problems.read_problem(identifier)

    def prompt(self, problem: Problem, cue: bool = False) -> str:
        """Return the statements, each island behind a word of its own.

        >>> Knights().prompt(problems.read_problem("A:B-,B:C=A,C:A+"))
        'island 1 A says B is knave 2 B says C same A 3 C says A is knight :'
        """
        prompt = traces.prompt(problem)
        return f"{self.cue} {prompt}" if cue else prompt

    def solve(self, problem: Problem) -> Sequence[Mapping[str, str]]:
        """Return all consistent assignments of roles to people."""
        return problem.solutions

    def count_answers(self, problem: Problem) -> int:
        """Return how many assignments there are."""
        return int(2 ** len(problem.people))

    def drill(self, rng: SupportsRandom) -> tuple[str, list[bool]]:
        """Draw a document of steps, tests and copies."""
        return draw_drill(rng)

    def write_trace(
        self, problem: Problem, condition: str, rng: SupportsRandom, solution_probability: float = 0.45
    ) -> Script:
        """Draw a script; direct answers are right, only "noisy" ones go by `solution_probability`."""
        return traces.write_trace(problem, condition, rng, solution_probability)

    def render(self, script: Script, problem: Problem) -> str:
        """Return the text of a script."""
        return traces.render(script, problem)

    def parse(self, text: object, problem: Problem, truncated: bool = False) -> Trace:
        """Read a completion."""
        return parser.parse(text, problem, truncated)

    def verify(self, text: object, problem: Problem) -> Verdict:
        """Judge the roles handed in."""
        return parser.parse(text, problem).verdict

    def true_verdict(self, problem: Problem, prefix: str) -> str:
        """Return the check of the last attempt, with its true verdict."""
        return parser.true_verdict(problem, prefix)

    def english(
        self, style: Literal["plain", "chat"], shots: Sequence[tuple[Any, Any]] = ()
    ) -> Wording | None:
        """Return the English wording."""
        return English(style, tuple(shots))
