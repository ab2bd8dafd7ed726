"""The Knights & Knaves task: everything the stages and chapters need of it, under one name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from extrabitter.tasks import Opening, SupportsRandom, Task, band_of
from extrabitter.tasks.knights import parser, problems, traces
from extrabitter.tasks.knights.drills import draw_drill
from extrabitter.tasks.knights.english import REASONS, English
from extrabitter.tasks.knights.problems import Problem
from extrabitter.tasks.knights.traces import Script


class Knights(Task):
    """Who is a knight, who is a knave? See `Task` for what each method is asked."""

    name = "knights"
    vocabulary = traces.VOCABULARY
    cue = traces.CUE
    answer_word = traces.ANSWER_WORD
    search_words = ("check", "back")
    search_opening = Opening(("assume",), "start")
    openings: Mapping[str, Opening] = {
        "verification": Opening(("check",), "after_attempt"),
        "backtracking": Opening(("back",), "after_miss"),
        "subgoal_setting": Opening(("aim",), "start"),
        "backward_chaining": Opening(("need",), "start"),
    }
    bands: Mapping[str, str] = {name: band.meaning for name, band in problems.BANDS.items()}
    conditions: Mapping[str, str] = {name: condition.meaning for name, condition in traces.CONDITIONS.items()}
    reasons: Mapping[str, str] = {**parser.REASONS, **REASONS}

    read_problem = staticmethod(problems.read_problem)
    drill = staticmethod(draw_drill)
    render = staticmethod(traces.render)
    parse = staticmethod(parser.parse)
    true_verdict = staticmethod(parser.true_verdict)
    english = English

    def problems(
        self, split: str, count: int, seed: int, band: str = "", distinct: bool = False
    ) -> list[Problem]:
        """Draw problems: structures by chance, names from twelve letters."""
        return problems.draw_problems(split, count, seed, band_of(self, band), distinct)

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

    def for_page(self, problem: Problem) -> tuple[str, list[dict[str, str]]]:
        """Return the prompt and everybody's role, an entry an island."""
        (roles,) = problem.solutions
        return self.prompt(problem), [
            {said.speaker: roles[said.speaker] for said in one} for one in problem.islands
        ]

    def write_trace(
        self, problem: Problem, condition: str, rng: SupportsRandom, solution_probability: float = 0.45
    ) -> Script:
        """Draw a script; direct answers are right, only "noisy" ones go by `solution_probability`."""
        return traces.write_trace(problem, condition, rng, solution_probability)
