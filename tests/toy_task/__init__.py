"""Letters: put four letters in order. The smallest task that fulfils the protocol, in one folder.

    completion := attempt [verdict] ("back" attempt [verdict])* "answer"
    attempt    := LETTER LETTER LETTER LETTER
    verdict    := "check" ("yes" | "no")

`REGISTRY["letters"] = "toy_task:Letters"` makes it known.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, permutations
from typing import Any, Literal, NamedTuple

from extrabitter.tasks import SEARCH, SPECIAL_WORDS, Attempt, Opening, Task, Trace, Use, Verdict

LETTERS = "abcdefgh"
# In the list of all sets, modulo ten.
PLACES = {"train": range(7), "validation": range(7, 8), "test": range(8, 10)}
MAX_CHARACTERS = 2_000
MAX_ATTEMPTS, GIVE_UP = 6, 0.1


@dataclass(frozen=True, slots=True)
class Problem:
    """Letters in the order in which they are given."""

    letters: str

    @property
    def identifier(self) -> str:
        """Return the name used in tables."""
        return self.letters


class Made(NamedTuple):
    """An attempt as written, and whether the verdict behind it is yes; None where there is none."""

    letters: str
    says_yes: bool | None = None


def _sets(split: str, band: str) -> list[tuple[str, ...]]:
    """Return the sets of letters of a split and band; orders of one set are never in two splits."""
    num_different = 3 if band == "twins" else 4
    every = [s for s in combinations_with_replacement(LETTERS, 4) if len(set(s)) == num_different]
    return [letters for place, letters in enumerate(every) if place % 10 in PLACES[split]]


class Letters(Task):
    """The task; what each member is, the protocol says."""

    name = "letters"
    vocabulary = (*SPECIAL_WORDS, *LETTERS, "sort", ":", "think", "check", "yes", "no", "back", "answer")
    openings: Mapping[str, Opening] = {
        SEARCH: Opening(("check", "back"), "after_attempt"),
        "verification": Opening(("check",), "after_attempt"),
        "backtracking": Opening(("back",), "after_miss"),
    }
    bands: Mapping[str, str] = {
        "twins": "two of the four letters are the same",
        "different": "all four differ",
    }
    conditions: Mapping[str, str] = {
        "direct": "one attempt, handed in at once",
        "search": "attempts, each with a true verdict, until one says yes",
        "cosmetic": "the words of search, with a coin for a judge",
    }
    reasons: Mapping[str, str] = {
        "correct": "the letters in order",
        "out_of_order": "the letters, in another order",
        "other_letters": "not the letters that were given",
        "unfinished": "the text ends before 'answer'",
        "truncated": "cut at the length cap before 'answer'",
        "unexpected_word": "a word that the grammar does not allow at its place",
        "not_read": f"no text, or over {MAX_CHARACTERS} characters",
    }

    def draw(self, split: str, band: str, rng: random.Random) -> Problem:
        """Draw a set of letters of a split, and an order of it that is not yet right."""
        sets = _sets(split, band)
        while True:
            letters = rng.choice(sets)
            problem = Problem("".join(rng.sample(letters, 4)))
            if problem.letters != "".join(letters):
                return problem

    def num_distinct(self, split: str, band: str, count: int) -> int:
        """Return how many orders there are that are not right."""
        return sum(self.count_answers(Problem("".join(letters))) - 1 for letters in _sets(split, band))

    def read_problem(self, identifier: str) -> Problem:
        """Return the problem of that name."""
        if len(identifier) != 4 or not set(identifier) <= set(LETTERS):
            raise ValueError(f"problem = {identifier!r}: must be four letters of {LETTERS}")
        return Problem(identifier)

    def state(self, problem: Problem) -> str:
        """Return the prompt."""
        return f"sort {' '.join(problem.letters)} :"

    def solve(self, problem: Problem) -> Sequence[str]:
        """Return the one solution."""
        return ["".join(sorted(problem.letters))]

    def count_answers(self, problem: Problem) -> int:
        """Return how many orders there are."""
        return len(set(permutations(problem.letters)))

    def drill(self, rng: Any) -> tuple[str, list[bool]]:
        """Draw two letters, and put them in order."""
        pair = [LETTERS[int(rng.random() * len(LETTERS))] for _ in range(2)]
        return " ".join([*pair, ":", *sorted(pair)]), [False] * 3 + [True] * 2

    def write(self, problem: Problem, condition: str, rng: Any, solution_probability: float) -> list[Made]:
        """Draw orders, right ones with the given chance."""
        orders = sorted({"".join(order) for order in permutations(problem.letters)})
        script: list[Made] = []
        while True:
            fresh = [order for order in orders if order not in [made.letters for made in script]]
            is_right = rng.random() < solution_probability and orders[0] in fresh
            order = orders[0] if is_right else fresh[int(rng.random() * len(fresh))]
            if condition == "direct":
                return [Made(order)]
            script.append(Made(order, rng.random() < 0.5 if condition == "cosmetic" else order == orders[0]))
            if script[-1].says_yes or len(script) == MAX_ATTEMPTS or rng.random() <= GIVE_UP:
                return script

    def render(self, script: Sequence[Made], problem: Problem) -> str:
        """Return the text of a script."""
        parts = []
        for letters, says_yes in script:
            verdict = "" if says_yes is None else f" check {'yes' if says_yes else 'no'}"
            parts.append(" ".join(letters) + verdict)
        return " back ".join(parts) + " answer"

    def parse(self, text: object, problem: Problem, truncated: bool = False) -> Trace:
        """Read a completion."""
        if not isinstance(text, str) or len(text) > MAX_CHARACTERS:
            return Trace((), (), Verdict(False, "not_read"), "not_read", answered=False)
        words = text.split()
        attempts: list[Attempt] = []
        uses: list[Use] = []
        made: list[str] = []
        position, begun, form = 0, -1, ""
        while not form:
            start = position
            while position < len(words) and words[position] in LETTERS and position < start + 4:
                position += 1
            letters = "".join(words[start:position])
            finished = position == start + 4
            outcome: Literal["hit", "miss", "illegal"] = "illegal"
            if sorted(letters) == sorted(problem.letters):
                outcome = "hit" if letters == "".join(sorted(letters)) else "miss"
            if begun >= 0:
                uses.append(Use("backtracking", begun, start, outcome != "illegal" and letters not in made))
            said: Literal["yes", "no", ""] = ""
            end = position
            if finished and words[position : position + 1] == ["check"]:
                position += 1
                if words[position : position + 1] in (["yes"], ["no"]):
                    said = "yes" if words[position] == "yes" else "no"
                    position += 1
                    uses.append(Use("verification", end, position, (said == "yes") == (outcome == "hit")))
            is_true = said != "" and (said == "yes") == (outcome == "hit")
            if letters or begun >= 0:
                told = (finished, letters in made, said, is_true, 1, finished)
                attempts.append(Attempt(start, end, outcome, *told))
                made.append(letters)
            ahead = words[position] if position < len(words) else ""
            if finished and ahead == "back" and (said or words[position - 1] != "check"):
                begun, position = position, position + 1
                continue
            is_ok = finished and ahead == "answer" and position == len(words) - 1
            form = "ok" if is_ok else "unexpected_word" if ahead else "unfinished"
        if form != "ok":
            reason = "truncated" if truncated and form == "unfinished" else form
            return Trace(tuple(attempts), tuple(uses), Verdict(False, reason), form, answered=False)
        reason = {"hit": "correct", "miss": "out_of_order", "illegal": "other_letters"}[attempts[-1].outcome]
        return Trace(tuple(attempts), tuple(uses), Verdict(reason == "correct", reason, made[-1]))

    def true_verdict(self, problem: Problem, prefix: str) -> str:
        """Return the verdict on the last attempt."""
        attempts = self.parse(prefix, problem).attempts
        return f"check {'yes' if attempts and attempts[-1].outcome == 'hit' else 'no'}"
