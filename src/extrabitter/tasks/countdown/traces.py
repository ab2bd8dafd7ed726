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
    # Its attempts are longer, so that fewer of them fit under the cap.
    "all_behaviours": Condition("all four behaviours", True, True, True, True, max_attempts=8),
}


class ScriptAttempt(NamedTuple):
    """One attempt from the given numbers; `says_yes` is the verdict on it, None where there is none."""

    steps: Attempt
    need: Step | None = None
    aim: int | None = None
    says_yes: bool | None = None


@dataclass(frozen=True, slots=True)
class Script:
    """What a written completion says: attempts behind filler words, the last of them handed in."""

    attempts: tuple[ScriptAttempt, ...]
    num_filler: int = 0


def write(
    problem: Problem, condition: str, rng: SupportsRandom, solution_probability: float = 0.45
) -> Script:
    """Draw a script of `problem` that shows a condition."""
    table, shown = attempt_table(problem.numbers), CONDITIONS[condition]
    attempts = []
    hits = table.hits(problem.target)
    for index, says_yes in _draw_attempts(len(table), hits, shown, rng, solution_probability):
        steps = table.attempt(index)
        need = _backward_step(problem, steps) if shown.backward_chaining else None
        aim = steps[-2].result if shown.subgoal_setting and len(steps) > 1 else None
        attempts.append(ScriptAttempt(steps, need, aim, says_yes if shown.verification else None))
    script = Script(tuple(attempts))
    return replace(script, num_filler=_draw_filler(script, problem, rng)) if shown.filler else script


def _draw_attempts(
    size: int, hits: range, condition: Condition, rng: SupportsRandom, first_chance: float
) -> list[tuple[int, bool]]:
    """Return which of `size` attempts are made, and whether each one's verdict is yes."""
    chosen: dict[int, bool] = {}

    def draw(first: int, count: int) -> int:
        """Draw uniformly among `count` attempts from `first` on, one not chosen before."""
        while (index := first + int(rng.random() * count)) in chosen:
            pass
        return index

    for _ in range(condition.max_attempts if condition.backtracking else 1):
        if len(chosen) == size:
            break
        chance = RETRY_SOLUTION_PROBABILITY if chosen else first_chance
        solves = rng.random() < chance and any(hit not in chosen for hit in hits)
        index = draw(hits.start, len(hits)) if solves else draw(0, size)
        is_true = condition.verdicts == "true"
        chosen[index] = index in hits if is_true else rng.random() < RANDOM_YES_PROBABILITY
        if chosen[index] or rng.random() < GIVE_UP_PROBABILITY:
            break
    made = [*chosen.items()]
    if condition.hands_in_miss and index in hits:
        misses = [i for i in chosen if i not in hits] or [i for i in range(size) if i not in hits]
        made.append((misses[int(rng.random() * len(misses))], False))
    return made


def _draw_filler(script: Script, problem: Problem, rng: SupportsRandom) -> int:
    """Return by how many words a script of all behaviours on another training problem is longer than this one."""
    band = next(name for name, band in BANDS.items() if band.num_numbers == len(problem.numbers))
    other = problem
    while other == problem:
        other = draw_problem("train", band, rng)
    longer = render(write(other, "all_behaviours", rng), other)
    return max(0, len(longer.split()) - len(render(script, problem).split()))


def _backward_step(problem: Problem, steps: Attempt) -> Step | None:
    """Return what the last operation would need to give the target, solved for the value not given.

    None where the last step has no given number. A product that cannot reach the target is replaced by the
    difference.
    """
    if len(steps) < 2:
        return None
    target, last = problem.target, steps[-1]
    given = last.right if last.left == steps[-2].result else last.left
    if given not in problem.numbers:
        return None
    more, less = max(target, given), min(target, given)
    backwards = {"*": (target, "/", given), "+": (target, "-", given), "-": (more, "+", less)}
    step = (given, "-", target) if last.operation == "-" and given == last.left else backwards[last.operation]
    result = combine(*step)
    return Step(more, "-", less, more - less) if result is None else Step(*step, result)


def state(problem: Problem) -> str:
    """Return a problem in the grammar.

    >>> state(Problem((6, 7, 9), 8))
    'numbers 6 7 9 target 8 :'
    """
    return f"numbers {' '.join(map(str, problem.numbers))} target {problem.target} :"


def render(script: Script, problem: Problem) -> str:
    """Return the text of a complete script."""
    parts = ["."] * script.num_filler
    for position, (steps, need, aim, says_yes) in enumerate(script.attempts):
        if position:
            parts.append(state(problem).replace("numbers", "back"))
        if need is not None:
            parts.append(f"need {need} ,")
        if aim is not None:
            parts.append(f"aim {aim} ,")
        parts.append(" , ".join(map(str, steps)))
        if says_yes is not None:
            parts.append(f"check {problem.target} {'yes' if says_yes else 'no'}")
    parts.append("answer")
    return " ".join(parts)
