"""Drills of Knights & Knaves: what traces are made of, without the habit of making them.

Every base reads them. What they open with, "known" and a list of roles, opens no trace; and the words that begin a
habit ("check", "back") bear no loss in them. So they teach how to derive, to compare and to turn an assumption round,
and not to do it. Loss is borne by whatever the text in front of it determines; names in front of "so" do, since an
unknown speaker taken for a known one is the commonest error of bases that are not told.
"""

from __future__ import annotations

import random

from extrabitter.tasks import SupportsRandom
from extrabitter.tasks.knights.problems import NAMES, ROLES, Statement, draw_problem, next_step
from extrabitter.tasks.knights.traces import KNOWN, OPPOSITE, check_words, listed, prompt, step_words

SHARES = {"look": 0.3, "facts": 0.2, "tests": 0.15, "recall": 0.15, "walk": 0.2}  # ours
NUM_LOOKS, MAX_LOOKED_UP, NUM_FACTS, NUM_TESTS, MAX_KNOWN = 3, 8, 3, 2, 5
BANDS = ("people4", "islands33", "islands34", "islands44")  # of the puzzles in "recall" and "walk"


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

    def put(self, words: list[str], bears_loss: bool) -> None:
        """Write words that do or do not bear loss."""
        self.words += words
        self.marks += [bears_loss] * len(words)

    def given(self, known: dict[str, str]) -> None:
        """Write what is known at the beginning."""
        self.put([KNOWN, *listed(known), ";"], False)

    def said(self, words: list[str], told: bool) -> None:
        """Write a step or test: its speaker is anybody, and so is what is said unless a puzzle has told it."""
        place = words.index("says") + 1
        self.put(words[:1], told)
        self.put(words[1:place], True)
        self.put(words[place : place + 3], told)
        self.put(words[place + 3 :], True)

    def step(self, statement: Statement, known: dict[str, str], name: str, role: str, told: bool) -> None:
        """Write a step, and enter what it finds."""
        words = step_words(statement, known, name)
        known[name] = role
        self.said([*words, *listed(known), ";"], told)

    def test(self, statement: Statement, known: dict[str, str], told: bool) -> dict[str, str]:
        """Write a check and, where it refutes the first of what is known, the other assumption; return that."""
        self.put(["check"], False)
        self.said([*check_words(statement, known), "yes" if statement.fits(known) else "no"], told)
        if statement.fits(known):
            self.put([";"], False)
            return {}
        name, role = next(iter(known.items()))
        self.put(["back"], False)
        self.put([name, role, "assume", name, OPPOSITE[role], ";"], True)
        return {name: OPPOSITE[role]}

    def look(self) -> None:
        """Say again, in another order, which word stands behind each name: finding is learnt soonest alone."""
        names = self.rng.sample(NAMES, self.rng.randint(3, MAX_LOOKED_UP))
        behind = {name: self.rng.choice((*NAMES, *ROLES, *OPPOSITE)) for name in names}
        self.put([KNOWN, *listed(behind), ";"], False)
        for _ in range(NUM_LOOKS):
            for name in self.rng.sample(names, len(names)):
                self.put([name], False)
                self.put([behind[name]], True)
            self.put([";"], False)

    def facts(self) -> None:
        """Steps on statements by anybody about anybody."""
        names = self.rng.sample(NAMES, MAX_KNOWN + NUM_FACTS)
        count = self.rng.randint(1, MAX_KNOWN)
        known = {name: self.rng.choice(ROLES) for name in names[:count]}
        self.given(known)
        for new in names[count : count + NUM_FACTS]:
            statement = self._about(new, [*known])
            _, name, role = next(step for step in [next_step([statement], known)] if step is not None)
            self.step(statement, known, name, role, told=False)

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
            self.given(known)
            speaker = self.rng.choice(names)
            self.test(self._about(speaker, [name for name in names if name != speaker]), known, told=False)

    def recall(self) -> None:
        """Copy a puzzle's statements in another order."""
        problem = draw_problem("train", self.rng.choice(BANDS), self.rng)
        self.put([*prompt(problem).split()[:-1], KNOWN], False)
        for statement in self.rng.sample(problem.statements, len(problem.statements)):
            words = str(statement).split()
            self.put(words[:1], False)
            self.put([*words[1:], ";"], True)

    def walk(self) -> None:
        """Go on from the middle of one island's derivation, to the end of the search."""
        problem = draw_problem("train", self.rng.choice(BANDS), self.rng)
        island = self.rng.choice(problem.islands)
        self.put(prompt(problem).split()[:-1], False)
        known = {island[0].speaker: self.rng.choice(ROLES)}
        for _ in range(self.rng.randrange(len(island) - 1)):
            self._walk_on(island, known, write=False)
        self.given(known)
        while known:
            while len(known) < len(island):
                self._walk_on(island, known, write=True)
            known = self.test(island[-1], known, told=True)

    def _walk_on(self, island: tuple[Statement, ...], known: dict[str, str], write: bool) -> None:
        step = next_step(island, known)
        assert step is not None  # bands in order never stop before the end
        if write:
            self.step(*step[:1], known, *step[1:], told=True)
        else:
            known[step[1]] = step[2]
