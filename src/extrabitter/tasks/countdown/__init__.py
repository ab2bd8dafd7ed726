"""The Countdown task: combine the given numbers, each once, so that the target comes out."""

from __future__ import annotations

from collections.abc import Mapping

from extrabitter.tasks import SupportsRandom, Task
from extrabitter.tasks.countdown import problems, traces
from extrabitter.tasks.countdown.english import REASONS, English
from extrabitter.tasks.countdown.parser import Reading
from extrabitter.tasks.countdown.problems import MAX_VALUE, OPERATIONS, Problem, combine
from extrabitter.tasks.countdown.traces import CONDITIONS

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
    bands: Mapping[str, str] = {name: band.meaning for name, band in problems.BANDS.items()}
    conditions: Mapping[str, str] = {name: condition.meaning for name, condition in CONDITIONS.items()}
    reasons: Mapping[str, str] = REASONS

    read_problem = staticmethod(problems.read_problem)
    solve = staticmethod(problems.solve)
    draw = staticmethod(problems.draw_problem)
    num_distinct = staticmethod(problems.num_distinct)
    state = staticmethod(traces.state)
    write = staticmethod(traces.write)
    render = staticmethod(traces.render)
    parse = staticmethod(Reading.parse)
    english = English

    def stream(self, band: str) -> tuple[str | int, ...]:
        """Return the labels of a band's random numbers."""
        return (problems.BANDS[band].num_numbers, *([band] if band == "rare" else []))

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

    def true_verdict(self, problem: Problem, prefix: str) -> str:
        """Return the true verdict behind a completion's last attempt, e.g. "check 8 no"."""
        attempts = self.parse(prefix, problem).attempts
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
