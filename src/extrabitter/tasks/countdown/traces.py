"""The grammar of Countdown completions, and scripts in it: written with each behaviour on a switch.

    completion := "."*  attempt [verdict] ("back" NUM+ "target" NUM ":" attempt [verdict])*  "answer"
    attempt    := ["need" NUM OP NUM "=" NUM ","]  ["aim" NUM ","]  step ("," step)*
    step       := NUM OP NUM "=" NUM
    verdict    := "check" NUM ("yes" | "no")

"answer" hands in the last attempt. "check" restates the target and "back" the numbers and the target, so that a
later attempt sees the same local context as a first one.

The conditions follow Gandhi et al. (arXiv 2503.01307), Countdown. What differs: a program writes the traces, so that a
behaviour is there or not by construction; attempts of all conditions come from one proposal distribution, so that
conditions differ in what is done with a guess and not in how good it is; and *direct*, *cosmetic* and a filler whose
length says nothing of the problem are added as controls.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from extrabitter.tasks import SPECIAL_WORDS, SupportsRandom
from extrabitter.tasks.countdown.problems import (
    BANDS,
    MAX_VALUE,
    Attempt,
    AttemptTable,
    Problem,
    Step,
    attempt_table,
    combine,
    draw_problem,
)

VOCABULARY: tuple[str, ...] = (
    *SPECIAL_WORDS,
    *map(str, range(MAX_VALUE + 1)),
    *"+-*/=,:.",
    *("numbers", "target", "think", "check", "yes", "no", "back", "need", "aim", "answer"),
)
RETRY_SOLUTION_PROBABILITY = 0.15
GIVE_UP_PROBABILITY = 0.12
RANDOM_YES_PROBABILITY = 0.5  # ours: makes random verdicts stop a search about as early as true ones do


@dataclass(frozen=True)
class Condition:
    """How scripts are written: which behaviours they show, and how attempts are drawn.

    The first attempt of every condition is drawn alike: with the caller's solution probability a uniform solution,
    else a uniform legal attempt. Later ones are solutions with `RETRY_SOLUTION_PROBABILITY` only, so that searches
    are as long as those of a model that guesses hardly better than chance, and none is made twice. A search stops
    when it says "yes" (silently, without `verification`), gives up after a "no" with `GIVE_UP_PROBABILITY`, and ends
    at `max_attempts`. Without `backtracking` there is one attempt. With `verdicts` "random" a coin says yes or no.
    `hands_in_miss`: a search that ends in a hit goes back and hands in one of its misses, or any where it made none.
    `filler`: dots in front, as many as make it as long as a script of all behaviours on *another* problem.
    """

    meaning: str
    verification: bool = False
    backtracking: bool = False
    subgoal_setting: bool = False
    backward_chaining: bool = False
    verdicts: Literal["true", "random"] = "true"
    hands_in_miss: bool = False
    filler: bool = False
    max_attempts: int = 12  # of three numbers: leaves room under the cap of 288 tokens used in RL


_SEARCH = Condition("attempts, each with a true verdict, until one says yes", True, True)
# Its attempts are longer, so that fewer of them fit under the cap.
_ALL = Condition("all four behaviours", True, True, True, True, max_attempts=8)
CONDITIONS: dict[str, Condition] = {
    "direct": Condition("one attempt, handed in at once"),
    "search": _SEARCH,
    "cosmetic": replace(_SEARCH, meaning="the words of search, with a coin for a judge", verdicts="random"),
    "filler": Condition(
        "direct behind dots, as many as another problem's all_behaviours is longer", filler=True
    ),
    # The miss handed in is one more attempt.
    "wrong": replace(_SEARCH, meaning="search that hands in a miss", hands_in_miss=True, max_attempts=11),
    "verification": Condition("one attempt and a true verdict on it", verification=True),
    "backtracking": Condition("attempts, given up without a word, until one hits", backtracking=True),
    "subgoal_setting": Condition("one attempt behind the value it will pass through", subgoal_setting=True),
    "backward_chaining": Condition("one attempt behind a step back from the target", backward_chaining=True),
    "all_behaviours": _ALL,
}


class Check(NamedTuple):
    """A verdict as written: the number compared with, and "yes" or "no"."""

    number: int
    says_yes: bool


class ScriptAttempt(NamedTuple):
    """One attempt: the numbers it starts from, given or after "back"; the target is restated after "back" only."""

    numbers: tuple[int, ...]
    steps: Attempt
    target: int | None = None
    need: Step | None = None
    aim: int | None = None
    check: Check | None = None


@dataclass(frozen=True, slots=True)
class Script:
    """What a written completion says: attempts behind filler words, the last of them handed in."""

    attempts: tuple[ScriptAttempt, ...]
    num_filler: int = 0


def write_script(
    problem: Problem, condition: Condition, rng: SupportsRandom, solution_probability: float = 0.45
) -> Script:
    """Draw a script of `problem` that shows a condition."""
    table, numbers, target = attempt_table(problem.numbers), problem.numbers, problem.target
    chosen, says_yes = _draw_attempts(table, table.hits(target), condition, rng, solution_probability)
    attempts = []
    for position, (steps, says) in enumerate(zip(map(table.attempt, chosen), says_yes, strict=True)):
        restated = target if position else None
        need = _backward_step(numbers, steps, target) if condition.backward_chaining else None
        aim = steps[-2].result if condition.subgoal_setting and len(steps) > 1 else None
        check = Check(target, says) if condition.verification else None
        attempts.append(ScriptAttempt(numbers, steps, restated, need, aim, check))
    script = Script(tuple(attempts))
    return replace(script, num_filler=_draw_filler(script, problem, rng)) if condition.filler else script


def _draw_attempts(
    table: AttemptTable, hits: range, condition: Condition, rng: SupportsRandom, first_chance: float
) -> tuple[list[int], list[bool]]:
    """Return the indices of the attempts made and whether each one's verdict is yes."""
    size = len(table)
    chosen: list[int] = []
    says_yes: list[bool] = []

    def draw(first: int, count: int) -> int:
        """Draw uniformly among `count` attempts from `first` on, one not chosen before."""
        while (index := first + int(rng.random() * count)) in chosen:
            pass
        return index

    for _ in range(condition.max_attempts if condition.backtracking else 1):
        if len(chosen) == size:
            break
        chance = RETRY_SOLUTION_PROBABILITY if chosen else first_chance
        if rng.random() < chance and any(index not in chosen for index in hits):
            index = draw(hits.start, len(hits))
        else:
            index = draw(0, size)
        chosen.append(index)
        is_hit = index in hits
        says_yes.append(is_hit if condition.verdicts == "true" else rng.random() < RANDOM_YES_PROBABILITY)
        if says_yes[-1] or rng.random() < GIVE_UP_PROBABILITY:
            break
    if condition.hands_in_miss and chosen[-1] in hits:
        misses = [i for i in chosen if i not in hits] or [i for i in range(size) if i not in hits]
        chosen.append(misses[int(rng.random() * len(misses))])
        says_yes.append(False)
    return chosen, says_yes


def _draw_filler(script: Script, problem: Problem, rng: SupportsRandom) -> int:
    """Return by how many words a script of all behaviours on another training problem is longer than this one."""
    band = next(band for band in BANDS.values() if band.num_numbers == len(problem.numbers))
    other = problem
    while other == problem:
        other = draw_problem("train", band, rng)
    longer = render_script(write_script(other, _ALL, rng), other)
    return max(0, len(longer.split()) - len(render_script(script, problem).split()))


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
    more, less = max(target, given), min(target, given)
    backwards = {"*": (target, "/", given), "+": (target, "-", given), "-": (more, "+", less)}
    step = (given, "-", target) if last.operation == "-" and given == last.left else backwards[last.operation]
    result = combine(*step)
    return Step(more, "-", less, more - less) if result is None else Step(*step, result)


def render_script(script: Script, problem: Problem) -> str:
    """Return the text of a complete script."""
    parts = ["."] * script.num_filler
    for position, (numbers, steps, target, need, aim, check) in enumerate(script.attempts):
        if position:
            parts.append(f"back {' '.join(map(str, numbers))} target {target} :")
        if need is not None:
            parts.append(f"need {need} ,")
        if aim is not None:
            parts.append(f"aim {aim} ,")
        parts.append(" , ".join(map(str, steps)))
        if check is not None:
            parts.append(f"check {check.number} {'yes' if check.says_yes else 'no'}")
    parts.append("answer")
    return " ".join(parts)
