"""A task: problems, prompts, traces, solver, parser and verifier behind one interface.

Nothing outside a task's own folder knows what its problems are made of. Rewards, evaluation and pages see a
problem (a frozen value with a name), a `Trace` (what a completion does, judged by the task's rules) and a
`Verdict`; all measures are computed from traces alone. A text is split into words at white space, and every
position in a `Trace` is the index of such a word.
"""

from __future__ import annotations

import hashlib
import importlib
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any, Literal, NamedTuple, Protocol

from extrabitter.params import ParameterError
from extrabitter.seeding import derive_seed

Prompt = str | list[dict[str, str]]  # text, or a conversation for a tokenizer's chat template

# What a trace can show, in the order in which pages list it.
# Source: Gandhi et al., arXiv 2503.01307, section 2.
BEHAVIOURS = ("verification", "backtracking", "subgoal_setting", "backward_chaining")
SEARCH = "search"  # the mode as a whole
SPECIAL_WORDS = ("<pad>", "<bos>", "<eos>", "<unk>")  # the beginning of every vocabulary
SPLITS = {"train": 0.7, "validation": 0.1, "test": 0.2}  # shares of what a game tells its splits apart by


class SupportsRandom(Protocol):
    """A generator of uniform numbers in [0, 1): `random.Random` and `numpy.random.Generator` both are."""

    def random(self) -> float:
        """Return the next number."""


class Verdict(NamedTuple):
    """A verifier's judgement: `reason` names why, `value` is what the answer amounts to, in words, if anything."""

    correct: bool
    reason: str
    value: str = ""


class Attempt(NamedTuple):
    """One attempt of a completion, words `start` to `end`, judged by the task's rules.

    `finished`: it was made, and not cut off in the middle. `repeated`: an earlier attempt made the same
    computation. `said`: the verdict written behind it, "" where there is none; `verdict_true`: that verdict is
    the case.
    """

    start: int
    end: int
    outcome: Literal["hit", "miss", "illegal"]
    finished: bool = True
    repeated: bool = False
    said: Literal["yes", "no", ""] = ""
    verdict_true: bool = False
    num_steps: int = 0
    num_right_steps: int = 0


class Use(NamedTuple):
    """One place, words `start` to `end`, where a behaviour's words stand; `functional`: they do their work."""

    behaviour: str
    start: int
    end: int
    functional: bool


@dataclass(frozen=True, slots=True)
class Trace:
    """What a completion does: its attempts, its uses of behaviours in order, and the answer that it hands in.

    `form` is "ok" where the reader reads the text to its end, and else says where it broke.
    """

    attempts: tuple[Attempt, ...]
    uses: tuple[Use, ...]
    verdict: Verdict
    form: str = "ok"
    answered: bool = True
    num_filler: int = 0

    @property
    def well_formed(self) -> bool:
        """Return whether the text is read to its end."""
        return self.form == "ok"


class Opening(NamedTuple):
    """How a behaviour begins: its first words, and where the first of them may stand."""

    words: tuple[str, ...]
    place: Literal["start", "after_attempt", "after_miss"]


class Wording(Protocol):
    """How problems are put to a model and how its text is read: in the task's grammar, or in English."""

    @property
    def stops(self) -> tuple[str, ...]:
        """Return what ends a completion once it stands behind an answer; nothing in a grammar."""
        return ()

    def prompt(self, problem: Any, cue: bool = False) -> Prompt:
        """Return what the model is asked."""

    def demonstration(self, script: Any, problem: Any) -> Prompt:
        """Return a script of `Task.write_trace` as an answer to `prompt`, of the same kind."""

    def parse(self, text: object, problem: Any, truncated: bool = False) -> Trace:
        """Read a completion, cut at the cap if `truncated`; bounded, and never raises."""


class Task(Wording, Protocol):
    """What the stages and pages may ask of a task, which derives from it; see CONTRIBUTING for the smallest one.

    A problem is frozen and hashable, and its `identifier` names it without loss, so that tables hold that and nothing
    else. A task's grammar is a wording: that of the book's own bases, whose completions end in the word "answer".
    """

    name: str
    vocabulary: tuple[str, ...]  # begins with SPECIAL_WORDS
    cue: str = "think"  # word in front of a prompt that asks for search
    openings: Mapping[str, Opening] = {  # search as a whole, and behaviours -> how they begin
        SEARCH: Opening(("check", "back"), "after_attempt"),  # where a direct answer goes on otherwise
        "verification": Opening(("check",), "after_attempt"),
        "backtracking": Opening(("back",), "after_miss"),
        "subgoal_setting": Opening(("aim",), "start"),
        "backward_chaining": Opening(("need",), "start"),
    }
    bands: Mapping[str, str]  # range of difficulty -> one sentence; the first is the default
    conditions: Mapping[str, str]  # what a trace can show -> one sentence; "direct" and "search" at least
    reasons: Mapping[str, str]  # the verifier's reasons -> what each means

    def problems(
        self, split: str, count: int, seed: int, band: str = "", distinct: bool = False
    ) -> list[Any]:
        """Draw problems of a split and band, the same ones for the same arguments; with `distinct` none twice.

        ParameterError for a split or band that there is not, and where there may be too few distinct problems.
        """
        band, split = band_of(self, band), one_of("split", split, SPLITS)
        if distinct and count > (most := self.num_distinct(split, band, count)):
            raise ParameterError(
                f"count = {count}: must be at most {most}, the {split} problems with {self.bands[band]}"
            )
        rng = random.Random(derive_seed(seed, self.name, split, *self.stream(band)))
        drawn: list[Any] = []
        seen = set[Any]()
        while len(drawn) < count:
            problem = self.draw(split, band, rng)
            if not (distinct and problem in seen):
                seen.add(problem)
                drawn.append(problem)
        return drawn

    def draw(self, split: str, band: str, rng: random.Random) -> Any:
        """Draw a problem; splits share none."""

    def num_distinct(self, split: str, band: str, count: int) -> int:
        """Return how many distinct problems there are, or any number from `count` on where there are as many."""

    def stream(self, band: str) -> tuple[str | int, ...]:
        """Return the labels of a band's random numbers."""
        return (band,)

    def read_problem(self, identifier: str) -> Any:
        """Return the problem of that name; ValueError where there is none."""

    def state(self, problem: Any) -> str:
        """Return a problem in the grammar."""

    def prompt(self, problem: Any, cue: bool = False) -> str:
        """Return the prompt that states a problem; the cue in front of it asks for search."""
        return f"{self.cue} {self.state(problem)}" if cue else self.state(problem)

    def solve(self, problem: Any) -> Sequence[Any]:
        """Return all solutions."""

    def count_answers(self, problem: Any) -> int:
        """Return how many distinct legal answers a problem has, right or wrong, as an enumerator goes through them."""

    def drill(self, rng: SupportsRandom) -> tuple[str, list[bool]]:
        """Draw a document of the atoms of traces: its text, and which of its words bear loss."""

    def write_trace(
        self, problem: Any, condition: str, rng: SupportsRandom, solution_probability: float = 0.45
    ) -> Any:
        """Draw a script of `problem` that shows a condition; proposals are right with the given chance."""
        return self.write(problem, one_of("condition", condition, self.conditions), rng, solution_probability)

    def write(self, problem: Any, condition: str, rng: SupportsRandom, solution_probability: float) -> Any:
        """Draw the script of `write_trace`."""

    def render(self, script: Any, problem: Any) -> str:
        """Return the text of a script in the grammar."""

    def demonstration(self, script: Any, problem: Any) -> str:
        """Return the text of a script, as an answer to `prompt`."""
        return self.render(script, problem)

    def verify(self, text: object, problem: Any) -> Verdict:
        """Judge the answer of a completion in the grammar, as `parse` does; bounded, and never raises."""
        return self.parse(text, problem).verdict

    def true_verdict(self, problem: Any, prefix: str) -> str:
        """Return the true verdict in words behind a legal attempt, as a checking trace would write it."""

    def for_page(self, problem: Any) -> Any:
        """Return what a page's own judge is told of a problem, as JSON; its name, if that says all."""
        return problem.identifier

    def english(
        self, style: Literal["plain", "chat"], shots: Sequence[tuple[Any, Any]] = ()
    ) -> Wording | None:
        """Return the English wording behind worked examples (problem, script); None where there is none."""
        return None


# Where each task lives: module and class. A test, or a reader, adds one by a line of its own.
REGISTRY: dict[str, str] = {
    "countdown": "extrabitter.tasks.countdown:Countdown",
    "knights": "extrabitter.tasks.knights:Knights",
}


def load_task(name: str) -> Task:
    """Return the task called `name`, the only way to one; ParameterError names the tasks there are.

    >>> load_task("countdown").name
    'countdown'
    """
    module, _, attribute = REGISTRY[one_of("task", name, REGISTRY)].partition(":")
    task: Task = getattr(importlib.import_module(module), attribute)()
    return task


def one_of(what: str, name: str, known: Iterable[str]) -> str:
    """Return a name; ParameterError says which ones there are where it is not known."""
    if name not in known:
        raise ParameterError(f"{what} = {name!r}: unknown; must be one of {', '.join(known)}")
    return name


@lru_cache(maxsize=65536)
def split_of(key: str) -> str:
    """Return the split of all problems that share a key, by a stable hash; what is trained on never moves."""
    position = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    ends = zip(SPLITS, accumulate(SPLITS.values()), strict=True)
    return next((split for split, end in ends if position < end), "test")


def band_of(task: Task, band: str) -> str:
    """Return `band`, or the task's first one where it is empty; ParameterError names the bands there are."""
    return one_of("band", band, task.bands) if band else next(iter(task.bands))
