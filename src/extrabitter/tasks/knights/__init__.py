"""The Knights & Knaves task: everything the stages and chapters need of it, under one name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from extrabitter.tasks import SEARCH, Opening, Task
from extrabitter.tasks.knights import parser, problems, traces
from extrabitter.tasks.knights.drills import draw_drill
from extrabitter.tasks.knights.english import REASONS, English
from extrabitter.tasks.knights.problems import Problem


class Knights(Task):
    """Who is a knight, who is a knave? See `Task` for what each method is asked."""

    name = "knights"
    vocabulary = traces.VOCABULARY
    openings: Mapping[str, Opening] = {**Task.openings, SEARCH: Opening(("assume",), "start")}
    bands: Mapping[str, str] = {name: band.meaning for name, band in problems.BANDS.items()}
    conditions: Mapping[str, str] = {name: condition.meaning for name, condition in traces.CONDITIONS.items()}
    reasons: Mapping[str, str] = {**parser.REASONS, **REASONS}

    read_problem = staticmethod(problems.read_problem)
    draw = staticmethod(problems.draw_problem)
    state = staticmethod(traces.state)
    drill = staticmethod(draw_drill)
    write = staticmethod(traces.write)
    render = staticmethod(traces.render)
    parse = staticmethod(parser.Reading.parse)
    true_verdict = staticmethod(parser.true_verdict)
    english = English

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

    def num_distinct(self, split: str, band: str, count: int) -> int:
        """Return how many distinct problems may be drawn; the smallest split of the smallest band has more."""
        return problems.MAX_DISTINCT
