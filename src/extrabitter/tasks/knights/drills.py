"""Drills of Knights & Knaves: what traces are made of, without the habit of making them.

Every base reads them. What they open with, "known" and a list of roles, opens no trace; and the words that begin a
habit ("check", "back") bear no loss in them. So they teach how to derive, to compare and to turn an assumption round,
and not to do it. Loss is borne by whatever the text in front of it determines; names in front of "so" do, since an
unknown speaker taken for a known one is the commonest error of bases that are not told.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from extrabitter.tasks import SupportsRandom
from extrabitter.tasks.knights.problems import NAMES, ROLES, Statement, draw_problem, next_step
from extrabitter.tasks.knights.traces import (
    KNOWN,
    NUMBERS,
    OPPOSITE,
    check_words,
    listed,
    number,
    state,
    step_words,
)

SHARES = {"look": 0.25, "facts": 0.15, "tests": 0.1, "recall": 0.2, "walk": 0.3}  # ours
NUM_LOOKS, MAX_LOOKED_UP, NUM_FACTS, NUM_TESTS, MAX_KNOWN = 3, 8, 3, 2, 5
BANDS = ("people4", "people5", "islands44")  # of the puzzles in "recall" and "walk"


def draw_drill(rng: SupportsRandom) -> tuple[str, list[bool]]:
    """Return a drill's text, and which of its words bear loss."""
    own = random.Random(int(rng.random() * 2**31))
    page = _Page(own)
    getattr(page, own.choices([*SHARES], [*SHARES.values()])[0])()
    return " ".join(page.words), page.marks


class _Page:
    """A drill while it is written."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.words: list[str] = []
        self.marks: list[bool] = []

    def put(self, bears_loss: bool, *words: str) -> None:
        """Write words that do or do not bear loss."""
        self.words += words
        self.marks += [bears_loss] * len(words)

    def said(self, words: Sequence[str], told: str = "") -> None:
        """Write a step or test; without the number that a puzzle has told it under, what is said is anything."""
        place = words.index("says") + 1
        self.put(bool(told), told or self.rng.choice(NUMBERS), words[0])
        self.put(True, *words[1:place])
        self.put(bool(told), *words[place : place + 3])
        self.put(True, *words[place + 3 :])

    def step(self, step: tuple[Statement, str, str], known: dict[str, str], told: str = "") -> None:
        """Write a step, and enter what it finds."""
        statement, name, role = step
        words = step_words(statement, known, name)
        known[name] = role
        self.said([*words, *listed(known)], told)

    def test(self, statement: Statement, known: dict[str, str], told: str = "") -> dict[str, str]:
        """Write a check and, where it refutes the first of what is known, the other assumption; return that."""
        self.put(False, "check")
        self.said([*check_words(statement, known), "yes" if statement.fits(known) else "no"], told)
        if statement.fits(known):
            return {}
        name, role = next(iter(known.items()))
        self.put(False, "back")
        self.put(True, name, role, "assume", name, OPPOSITE[role])
        return {name: OPPOSITE[role]}

    def look(self) -> None:
        """Say again, in another order, which word stands behind each name: finding is learnt soonest alone."""
        names = self.rng.sample(NAMES, self.rng.randint(3, MAX_LOOKED_UP))
        behind = {name: self.rng.choice((*NUMBERS, *ROLES)) for name in names}
        self.put(False, KNOWN, *listed(behind))
        for _ in range(NUM_LOOKS):
            for name in self.rng.sample(names, len(names)):
                self.put(False, name)
                self.put(True, behind[name])

    def facts(self) -> None:
        """Steps on statements by anybody about anybody."""
        names = self.rng.sample(NAMES, MAX_KNOWN + NUM_FACTS)
        count = self.rng.randint(1, MAX_KNOWN)
        known = {name: self.rng.choice(ROLES) for name in names[:count]}
        self.put(False, KNOWN, *listed(known))
        for new in names[count : count + NUM_FACTS]:
            step = next_step([self._about(new, [*known])], known)
            assert step is not None
            self.step(step, known)

    def _about(self, new: str, known: list[str]) -> Statement:
        """Draw a statement that settles `new`."""
        if len(known) == 1 or self.rng.random() < 0.5:
            speaker, subject = self.rng.sample([new, self.rng.choice(known)], 2)
            return Statement(speaker, subject, "is", self.rng.choice(ROLES))
        people = self.rng.sample([new, *self.rng.sample(known, 2)], 3)
        return Statement(people[0], people[1], self.rng.choice(("same", "differs")), people[2])

    def tests(self) -> None:
        """Checks behind lists of known roles."""
        for _ in range(NUM_TESTS):
            names = self.rng.sample(NAMES, self.rng.randint(3, MAX_KNOWN))
            known = {name: self.rng.choice(ROLES) for name in names}
            self.put(False, KNOWN, *listed(known))
            self.test(self._about(names[0], names[1:]), known)

    def recall(self) -> None:
        """Copy a puzzle's statements in another order."""
        problem = draw_problem("train", self.rng.choice(BANDS), self.rng)
        self.put(False, *state(problem).split()[:-1], KNOWN)
        for statement in self.rng.sample(problem.statements, len(problem.statements)):
            self.put(False, number(statement, problem))
            self.put(True, *str(statement).split())

    def walk(self) -> None:
        """Go on from the middle of a derivation, to the end of the search."""
        problem = draw_problem("train", self.rng.choice(BANDS), self.rng)
        self.put(False, *state(problem).split()[:-1])
        first = self.rng.randrange(len(problem.islands))
        for island in problem.islands[first:]:
            root, role = island[0].speaker, self.rng.choice(ROLES)
            known = {root: role}
            if island is problem.islands[first]:
                for _ in range(self.rng.randrange(len(island) - 1)):
                    _, name, role = next_step(island, known) or ("", root, role)
                    known[name] = role
                self.put(False, KNOWN, *listed(known))
            else:
                self.put(False, "assume")
                self.put(True, root)
                self.put(False, role)
            while known:
                while (step := next_step(island, known)) is not None:
                    self.step(step, known, number(step[0], problem))
                known = self.test(island[-1], known, number(island[-1], problem))
