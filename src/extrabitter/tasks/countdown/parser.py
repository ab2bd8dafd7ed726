"""The parser and verifier of Countdown completions: tolerant of where a text ends or breaks, exact in what it has read.

The grammar is in `traces`. A false equation or a wrong verdict parses like a right one; what it amounts to, `replay`
says. Model output is hostile: nothing here raises on text, and work is linear in a bounded text.

When a use of a behaviour is functional:
- *verification* ("check 8 no"): it names the problem's target and says "yes" behind an attempt that hits, "no" behind
  one that does not; an attempt that breaks the rules does not hit.
- *backtracking* ("back ..."): what follows is legal and new. Legal: it restates the target and either the given
  numbers or numbers that legal steps of an earlier attempt had left, and its own steps follow the rules to the end.
  New: no earlier attempt made the same computation, order of operands and of independent steps aside.
- *subgoal setting* ("aim 16"): a step of that attempt other than its last reaches it, by legal steps.
- *backward chaining* ("need 8 - 6 = 2"): the equation is true, one operand is the target, the other a number that the
  attempt starts from.

An attempt is finished when a verdict, "back" or "answer" follows, or when it has used up its numbers by the rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from extrabitter.tasks import Attempt, Use, Verdict
from extrabitter.tasks.countdown.problems import MAX_VALUE, OPERATIONS, TRUE_EQUATIONS, Problem, Step
from extrabitter.tasks.countdown.traces import VOCABULARY
from extrabitter.tasks.grammar import Broken, Reader

_NUMBERS = {str(value): value for value in range(MAX_VALUE + 1)}
_SIGNS = frozenset("+-*/")
_EQUATION = (_NUMBERS, _SIGNS, _NUMBERS, ("=",), _NUMBERS)


# Numbers left -> the legal steps that led there; filled by `replay`.
Paths = dict[tuple[int, ...], tuple[Step, ...]]


class Replay(NamedTuple):
    """What an attempt amounts to: a reason, the value reached (None unless legal), and its identity.

    `key` is the same for two attempts that make the same computation: their steps, also those made before a
    restart, in an order that does not depend on how they were written down.
    """

    reason: str
    value: int | None
    key: tuple[Step, ...]


def _canonical(step: Step) -> Step:
    left, operation, right, result = step
    return Step(right, operation, left, result) if operation in "+*" and left < right else step


def replay(numbers: Sequence[int], steps: Sequence[Step], problem: Problem, paths: Paths) -> Replay:
    """Carry out an attempt; enter the numbers it leaves on its way, and the way there, into `paths`."""
    left = list(numbers)
    path = paths.get(tuple(sorted(left)))
    steps = [_canonical(step) for step in steps]
    if path is None:
        return Replay("numbers_not_reached", None, tuple(sorted(steps)))
    key = tuple(sorted([*path, *steps]))
    for count, step in enumerate(steps, 1):
        if step.operation not in OPERATIONS:
            return Replay("operation_not_allowed", None, key)
        if step.left in left:
            left.remove(step.left)
            if step.right in left:
                left.remove(step.right)
                if step not in TRUE_EQUATIONS:
                    return Replay("wrong_arithmetic", None, key)
                left.append(step.result)
                if len(left) > 1:
                    paths[tuple(sorted(left))] = (*path, *steps[:count])
                continue
        return Replay("number_not_available", None, key)
    if len(left) > 1:
        return Replay("numbers_unused", None, key)
    return Replay("correct" if left[0] == problem.target else "wrong_value", left[0], key)


@dataclass(slots=True)
class _Draft:
    """An attempt as far as it was read; `begun` is where its "back" stands, `target` the one restated there."""

    numbers: list[int]
    begun: int | None = None
    target: int | None = None
    start: int = 0
    end: int = 0
    need: Step | None = None
    aim: int | None = None
    steps: list[Step] = field(default_factory=list)
    compared: int = 0
    said: Literal["yes", "no", ""] = ""
    is_followed: bool = False


class Reading(Reader):
    """What a completion does. A word "back" opens an attempt even if nothing follows it.

    >>> Reading.parse("9 - 7 = 2 , 6 + 2 = 8 answer", Problem((6, 7, 9), 8)).verdict
    Verdict(correct=True, reason='correct', value='8')
    """

    vocabulary = VOCABULARY
    max_characters = 20_000

    def __init__(self, text: str, problem: Problem) -> None:
        """Read a text."""
        self.paths: Paths = {problem.numbers: ()}
        self.seen: set[tuple[Step, ...]] = set()
        self.last = Replay("", None, ())
        super().__init__(text, problem)

    def judge(self) -> Verdict:
        """Judge the attempt that was made last."""
        reason, value, _ = self.last
        return Verdict(reason == "correct", reason, "" if value is None else str(value))

    def number(self) -> int:
        return int(self.take(*_NUMBERS))

    def equation(self) -> Step:
        left, operation, right, equals, result = self.words[self.position : self.position + 5]
        if operation in _SIGNS and equals == "=" and all(each in _NUMBERS for each in (left, right, result)):
            self.position += 5
            return Step(_NUMBERS[left], operation, _NUMBERS[right], _NUMBERS[result])
        for fitting in _EQUATION:  # move to the first word that does not belong into an equation
            if self.word not in fitting:
                break
            self.position += 1
        raise Broken

    def read(self) -> None:
        self.attempt(_Draft(list(self.problem.numbers)))
        while self.word == "back":
            self.attempt(_Draft([], self.position))
        self.take("answer")

    def attempt(self, draft: _Draft) -> None:
        try:
            self.draft(draft)
        finally:
            self.enter(draft)

    def draft(self, draft: _Draft) -> None:
        if draft.begun is not None:
            draft.start = draft.end = self.position = draft.begun + 1
            draft.numbers.append(self.number())
            while self.word in _NUMBERS:
                draft.numbers.append(self.number())
            self.take("target")
            draft.target = self.number()
            self.take(":")
        draft.start = draft.end = self.position
        if self.word == "need":
            self.position += 1
            draft.need = self.equation()
            self.take(",")
        if self.word == "aim":
            self.position += 1
            draft.aim = self.number()
            self.take(",")
        draft.steps.append(self.equation())
        draft.end = self.position
        while self.word == ",":
            self.position += 1
            draft.steps.append(self.equation())
            draft.end = self.position
        if self.word == "check":
            self.position += 1
            draft.compared = self.number()
            draft.said = self.take("yes", "no")  # type: ignore[assignment]
        draft.is_followed = self.word in ("back", "answer")

    def enter(self, draft: _Draft) -> None:
        """Carry an attempt out by the rules; enter it, and its uses of behaviours."""
        steps, need, said = draft.steps, draft.need, draft.said
        if not steps and need is None and draft.aim is None and draft.begun is None:
            return
        self.last = replay(draft.numbers, steps, self.problem, self.paths)
        reason, value, key = self.last
        legal, hits, repeated = value is not None, reason == "correct", key in self.seen
        target = self.problem.target
        finished = legal or (bool(steps) and (draft.is_followed or said != ""))
        if finished:
            self.seen.add(key)
        if draft.begun is not None:
            functional = legal and not repeated and draft.target == target
            self.uses.append(Use("backtracking", draft.begun, draft.start, functional))
        at = draft.start
        if need is not None:
            other = {need.left: need.right, need.right: need.left}.get(target)  # than the target
            functional = other in draft.numbers and need in TRUE_EQUATIONS
            self.uses.append(Use("backward_chaining", at, at + 6, functional))
            at += 7
        if draft.aim is not None:
            reached = legal and any(step.result == draft.aim for step in steps[:-1])
            self.uses.append(Use("subgoal_setting", at, at + 2, reached))
        is_true = said != "" and draft.compared == target and (said == "yes") == hits
        if said:
            self.uses.append(Use("verification", draft.end, draft.end + 3, is_true))
        outcome: Literal["hit", "miss", "illegal"] = "hit" if hits else "miss" if legal else "illegal"
        span, counts = (draft.start, draft.end), (len(steps), sum([step in TRUE_EQUATIONS for step in steps]))
        self.attempts.append(Attempt(*span, outcome, finished, finished and repeated, said, is_true, *counts))
