"""The interface of a task: problems, prompts, exact solutions, verifier and trace parser in one place.

Rewards and evaluation call the same verifier, and the prompt's writer sits beside the reader of its answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol


class SupportsRandom(Protocol):
    """A generator of uniform numbers in [0, 1): `random.Random` and `numpy.random.Generator` both are."""

    def random(self) -> float:
        """Return the next number."""
        ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verifier's judgement: `reason` names why, `value` is what the answer evaluates to, if it does."""

    correct: bool
    reason: str
    value: Fraction | None = None


class Task(Protocol):
    """What stages and chapters may ask of a task."""

    name: str
    vocabulary: tuple[str, ...]

    def generate_problems(
        self, split: str, count: int, seed: int, num_numbers: int = 3, distinct: bool = False
    ) -> list[Any]:
        """Draw problems of a split, the same ones for the same arguments."""
        ...

    def render_prompt(self, problem: Any, cue: bool = False) -> str:
        """Return the prompt that states a problem."""
        ...

    def solve(self, problem: Any) -> Sequence[Any]:
        """Return all solutions."""
        ...

    def verify_completion(self, text: str, problem: Any) -> Verdict:
        """Judge a model's completion; never raises."""
        ...

    def write_trace(self, problem: Any, condition: Any, rng: SupportsRandom) -> Any:
        """Draw the trace of a worked problem."""
        ...

    def render_trace(self, trace: Any, problem: Any) -> str:
        """Return the text of a trace."""
        ...

    def parse_trace(self, text: str, problem: Any) -> Any:
        """Read a completion back into a trace, as far as it goes; never raises."""
        ...


def load_task(name: str) -> Task:
    """Return the task called `name`; ValueError names the tasks there are.

    >>> load_task("countdown").name
    'countdown'
    """
    if name != "countdown":
        raise ValueError(f"task: unknown {name!r}; must be one of countdown")
    from extrabitter.tasks.countdown import Countdown

    return Countdown()
