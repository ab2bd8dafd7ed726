"""The grammar of Countdown completions: traces written with each behaviour on a switch, and read back.

    completion := "."*  attempt [verdict] ("back" NUM+ "target" NUM ":" attempt [verdict])*  "answer"
    attempt    := ["need" NUM OP NUM "=" NUM ","]  ["aim" NUM ","]  step ("," step)*
    step       := NUM OP NUM "=" NUM
    verdict    := "check" NUM ("yes" | "no")

"answer" submits the last attempt. "check" restates the target and "back" the numbers and the target, so that
a later attempt sees the same local context as a first one. The parser reads syntax only; whether a step is
true, a number available or a verdict right is for `countdown_verifier` and `extrabitter.behaviours.measures` to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from extrabitter.tasks import SupportsRandom
from extrabitter.tasks.countdown.problems import (
    MAX_VALUE,
    Attempt,
    AttemptTable,
    Problem,
    Step,
    attempt_table,
    combine,
)

SPECIAL_WORDS = ("<pad>", "<bos>", "<eos>", "<unk>")
VOCABULARY: tuple[str, ...] = (
    *SPECIAL_WORDS,
    *map(str, range(MAX_VALUE + 1)),
    *"+-*/=,:.",
    *("numbers", "target", "think", "check", "yes", "no", "back", "need", "aim", "answer"),
)
SEARCH_WORDS = ("check", "back")  # what may follow a first attempt, other than its submission
SUBMIT_WORD = "answer"
RANDOM_YES_PROBABILITY = 0.5  # ours: makes random verdicts stop a search about as early as true ones do


@dataclass(frozen=True)
class TraceCondition:
    """How traces are written: which behaviours they show, and how well attempts are guessed.

    The first attempt of every condition is drawn alike: with `solution_probability` a uniform solution, else a
    uniform legal attempt. Later ones are solutions with `retry_solution_probability` only, so that searches are
    as long as those of a model that guesses hardly better than chance, and none is made twice. A search stops
    when it says "yes" (silently, without `verification`), gives up after a "no" with `give_up_probability`, and
    ends at `max_attempts`. Without `backtracking` there is one attempt. With `verdicts` "random" a coin says yes
    or no. `ending` "right" or "wrong" redraws the submitted attempt if it is not so, and leaves the number of
    attempts as it came, unless none is left to draw: the trace then ends at the last attempt that fits. Its verdict
    becomes that of the attempt drawn, or stays as it was with `keeps_verdict`. With `restart_probability` a later
    attempt that shares its first steps with an earlier one restarts from the numbers after those steps instead of
    the given ones.
    """

    verification: bool = False
    backtracking: bool = False
    subgoal_setting: bool = False
    backward_chaining: bool = False
    verdicts: Literal["true", "random"] = "true"
    ending: Literal["right", "wrong", "any"] = "any"
    keeps_verdict: bool = False
    solution_probability: float = 0.45
    retry_solution_probability: float = 0.15
    give_up_probability: float = 0.12
    max_attempts: int = 12  # of three numbers: leaves room under the cap of 288 tokens used in RL
    num_filler: int = 0
    restart_probability: float = 0.0


class Check(NamedTuple):
    """A verdict as written: the number compared with, and "yes" or "no"."""

    number: int
    says_yes: bool


class TraceAttempt(NamedTuple):
    """One attempt as written.

    `numbers` are those it starts from: the given ones, or those after "back", in the order written. `target`
    is the one restated after "back"; None for the first attempt, or where the text ends before it.
    """

    numbers: tuple[int, ...]
    steps: Attempt
    target: int | None = None
    need: Step | None = None
    aim: int | None = None
    check: Check | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """A completion's structure, as far as it was read; `reason` is a key of the parser's TRACE_REASONS."""

    attempts: tuple[TraceAttempt, ...]
    num_filler: int = 0
    reason: str = "ok"

    @property
    def well_formed(self) -> bool:
        """Return whether the grammar reads the completion to its end."""
        return self.reason == "ok"

    @property
    def answered(self) -> bool:
        """Return whether the completion submits an attempt."""
        return self.reason in ("ok", "trailing_words")


def write_trace(problem: Problem, condition: TraceCondition, rng: SupportsRandom) -> Trace:
    """Draw a trace of `problem`; ValueError if the ending asked for is impossible."""
    table = attempt_table(problem.numbers)
    chosen, says_yes = _draw_attempts(table, problem, condition, rng)
    attempts: list[TraceAttempt] = []
    paths: dict[tuple[int, ...], Attempt] = {}  # numbers left after some steps -> the latest way there
    for position, index in enumerate(chosen):
        numbers, steps = problem.numbers, table.attempt(index)
        if condition.restart_probability:
            states = _states(problem.numbers, steps)
            # The last state has one number left and nothing to try.
            for length in range(len(steps) - 1, 0, -1):
                shared = paths.get(states[length]) == steps[:length]
                if shared and rng.random() < condition.restart_probability:
                    numbers, steps = states[length], steps[length:]
                    break
            for length in range(1, len(states)):
                paths[states[length]] = table.attempt(index)[:length]
        attempts.append(
            TraceAttempt(
                numbers,
                steps,
                problem.target if position else None,
                _backward_step(numbers, steps, problem.target) if condition.backward_chaining else None,
                steps[-2].result if condition.subgoal_setting and len(steps) > 1 else None,
                Check(problem.target, says_yes[position]) if condition.verification else None,
            )
        )
    return Trace(tuple(attempts), condition.num_filler)


def _draw_attempts(
    table: AttemptTable, problem: Problem, condition: TraceCondition, rng: SupportsRandom
) -> tuple[list[int], list[bool]]:
    """Return the indices of the attempts made and whether each one's verdict is yes."""
    hits = table.hits(problem.target)
    size = len(table)
    chosen: list[int] = []
    says_yes: list[bool] = []

    def draw(first: int, count: int) -> int:
        """Draw uniformly among `count` attempts from `first` on, one not chosen before."""
        index = first + int(rng.random() * count)
        while index in chosen:
            index = first + int(rng.random() * count)
        return index

    for _ in range(condition.max_attempts if condition.backtracking else 1):
        if len(chosen) == size:
            break
        chance = condition.retry_solution_probability if chosen else condition.solution_probability
        if rng.random() < chance and any(index not in chosen for index in hits):
            index = draw(hits.start, len(hits))
        else:
            index = draw(0, size)
        chosen.append(index)
        is_hit = index in hits
        says_yes.append(is_hit if condition.verdicts == "true" else rng.random() < RANDOM_YES_PROBABILITY)
        if says_yes[-1] or rng.random() < condition.give_up_probability:
            break
    if condition.ending == "any" or (chosen[-1] in hits) == (condition.ending == "right"):
        return chosen, says_yes
    wanted = [
        index
        for index in (hits if condition.ending == "right" else range(size))
        if index not in chosen and (index in hits) == (condition.ending == "right")
    ]
    if not wanted:  # all that would do have been tried: the trace ends at the last of them
        fitting = [n for n, index in enumerate(chosen) if (index in hits) == (condition.ending == "right")]
        if not fitting:
            raise ValueError(f"problem {problem.identifier}: has no attempt for ending {condition.ending!r}")
        return chosen[: fitting[-1] + 1], says_yes[: fitting[-1] + 1]
    chosen[-1] = wanted[int(rng.random() * len(wanted))]
    if condition.verdicts == "true" and not condition.keeps_verdict:
        says_yes[-1] = condition.ending == "right"
    return chosen, says_yes


def _states(numbers: tuple[int, ...], steps: Attempt) -> list[tuple[int, ...]]:
    """Return the numbers left before the first step and after each one, ascending."""
    left = list(numbers)
    states = [numbers]
    for step in steps:
        left.remove(step.left)
        left.remove(step.right)
        left.append(step.result)
        states.append(tuple(sorted(left)))
    return states


def _backward_step(numbers: tuple[int, ...], steps: Attempt, target: int) -> Step | None:
    """Return what the last operation would need to give the target, solved for the value not given.

    None where the last step has no given number. A product that cannot reach the target is replaced by the
    difference.
    """
    if len(steps) < 2:
        return None
    last = steps[-1]
    given = last.right if last.left == steps[-2].result else last.left
    if given not in numbers:
        return None
    if last.operation == "*":
        left, operation, right = target, "/", given
    elif last.operation == "+":
        left, operation, right = target, "-", given
    elif given == last.left:
        left, operation, right = given, "-", target
    else:
        left, operation, right = max(target, given), "+", min(target, given)
    result = combine(left, operation, right)
    if result is None:
        left, operation, right = max(target, given), "-", min(target, given)
        result = left - right
    return Step(left, operation, right, result)


def render_trace(trace: Trace, problem: Problem) -> str:
    """Return the text of a complete trace; ValueError if the trace is of other numbers."""
    if trace.attempts[0].numbers != problem.numbers:
        raise ValueError(f"trace: starts from {trace.attempts[0].numbers}, the problem has {problem.numbers}")
    parts = ["."] * trace.num_filler
    for position, (numbers, steps, target, need, aim, check) in enumerate(trace.attempts):
        if position:
            parts.append(f"back {' '.join(map(str, numbers))} target {target} :")
        if need is not None:
            parts.append(f"need {need[0]} {need[1]} {need[2]} = {need[3]} ,")
        if aim is not None:
            parts.append(f"aim {aim} ,")
        parts.append(" , ".join([f"{left} {op} {right} = {result}" for left, op, right, result in steps]))
        if check is not None:
            parts.append(f"check {check[0]} {'yes' if check[1] else 'no'}")
    parts.append(SUBMIT_WORD)
    return " ".join(parts)
