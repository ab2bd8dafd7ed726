"""The Countdown task: combine the given numbers, each once, so that the target comes out."""

from __future__ import annotations

from collections.abc import Mapping

from extrabitter.tasks import Opening, SupportsRandom, Task, band_of
from extrabitter.tasks.countdown import problems, traces
from extrabitter.tasks.countdown.english import REASONS, English
from extrabitter.tasks.countdown.parser import parse
from extrabitter.tasks.countdown.problems import MAX_VALUE, OPERATIONS, Problem, combine
from extrabitter.tasks.countdown.traces import CONDITIONS, Script

NUM_FACTS = 3
NUM_COMPARISONS = 4
# Source: pilot, drills of four comparisons
EQUAL_SHARE = 0.45
CLOSE_SHARE = 0.20
MAX_CLOSE = 3


class Countdown(Task):
    """The task as the stages ask for it; what each member is, the protocol says."""

    name = "countdown"
    vocabulary = traces.VOCABULARY
    cue = "think"
    answer_word = "answer"
    search_words = ("check", "back")
    search_opening = Opening(search_words, "after_attempt")
    openings: Mapping[str, Opening] = {
        "verification": Opening(("check",), "after_attempt"),
        "backtracking": Opening(("back",), "after_miss"),
        "subgoal_setting": Opening(("aim",), "start"),
        "backward_chaining": Opening(("need",), "start"),
    }
    bands: Mapping[str, str] = {name: band.meaning for name, band in problems.BANDS.items()}
    conditions: Mapping[str, str] = {name: condition.meaning for name, condition in CONDITIONS.items()}
    reasons: Mapping[str, str] = REASONS

    read_problem = staticmethod(problems.read_problem)
    solve = staticmethod(problems.solve)
    render = staticmethod(traces.render_script)
    parse = staticmethod(parse)
    english = English

    def problems(
        self, split: str, count: int, seed: int, band: str = "", distinct: bool = False
    ) -> list[Problem]:
        """Draw problems; splits share no multiset of numbers. ValueError where a split has too few distinct ones."""
        return problems.generate_problems(split, count, seed, problems.BANDS[band_of(self, band)], distinct)

    def prompt(self, problem: Problem, cue: bool = False) -> str:
        """Return the prompt of a problem; the cue word in front asks for search.

        >>> Countdown().prompt(Problem((6, 7, 9), 8))
        'numbers 6 7 9 target 8 :'
        """
        prompt = f"numbers {' '.join(map(str, problem.numbers))} target {problem.target} :"
        return f"{self.cue} {prompt}" if cue else prompt

    def count_answers(self, problem: Problem) -> int:
        """Return how many legal attempts there are on the problem's numbers, each counted once."""
        return len(problems.attempt_table(problem.numbers))

    def drill(self, rng: SupportsRandom) -> tuple[str, list[bool]]:
        """Draw three arithmetic facts or four comparisons; their results and verdicts bear loss, the rest is random."""
        if rng.random() < 0.5:
            text = " , ".join([_fact(rng) for _ in range(NUM_FACTS)])
        else:
            text = " , ".join([_comparison(rng) for _ in range(NUM_COMPARISONS)])
        words = text.split()
        return text, [word in ("yes", "no") or words[place - 1] == "=" for place, word in enumerate(words)]

    def write_trace(
        self, problem: Problem, condition: str, rng: SupportsRandom, solution_probability: float = 0.45
    ) -> Script:
        """Draw a script of a problem that shows a condition."""
        return traces.write_script(problem, CONDITIONS[condition], rng, solution_probability)

    def true_verdict(self, problem: Problem, prefix: str) -> str:
        """Return the true verdict behind a completion's last attempt, e.g. "check 8 no"."""
        attempts = parse(prefix, problem).attempts
        hit = bool(attempts) and attempts[-1].outcome == "hit"
        return f"check {problem.target} {'yes' if hit else 'no'}"


def _below(rng: SupportsRandom, stop: int) -> int:
    return int(rng.random() * stop)


def _fact(rng: SupportsRandom) -> str:
    """Draw an operation, its smaller operand, then its larger one: every true equation can come."""
    operation = OPERATIONS[_below(rng, len(OPERATIONS))]
    # The largest smaller operand, so that a larger one with a result in range exists.
    bound = {"+": MAX_VALUE // 2, "-": MAX_VALUE, "*": int(MAX_VALUE**0.5)}[operation]
    right = _below(rng, bound + 1)
    largest = {"+": MAX_VALUE - right, "-": MAX_VALUE, "*": MAX_VALUE // max(right, 1)}[operation]
    left = right + _below(rng, largest - right + 1)
    return f"{left} {operation} {right} = {combine(left, operation, right)}"


def _comparison(rng: SupportsRandom) -> str:
    """Draw two values, equal, close or any, and say whether they are equal."""
    first = _below(rng, MAX_VALUE + 1)
    kind = rng.random()
    if kind < EQUAL_SHARE:
        second = first
    elif kind < EQUAL_SHARE + CLOSE_SHARE:
        distance = (1 + _below(rng, MAX_CLOSE)) * (1 if rng.random() < 0.5 else -1)
        second = first + distance if 0 <= first + distance <= MAX_VALUE else first - distance
    else:
        second = (first + 1 + _below(rng, MAX_VALUE)) % (MAX_VALUE + 1)
    return f"{first} check {second} {'yes' if first == second else 'no'}"
