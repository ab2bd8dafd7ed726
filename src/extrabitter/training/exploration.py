"""What is put into a run's samples from outside, and only while it trains: a word, a beginning, or a whole trace.

TRL takes what it is given for the policy's own: a hint is not weighed back, and learning from it is fine-tuning with an
advantage for a weight.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from extrabitter.models.rollouts import Rollouts
from extrabitter.params import GrpoParameters
from extrabitter.seeding import derive_seed
from extrabitter.tasks import SEARCH, Task

END = "<eos>"  # of a beginning that is the whole
Draw = Callable[[list[str]], list[str]]  # prompts with beginnings -> what the model writes behind them


def beginnings(
    parameters: GrpoParameters,
    task: Task,
    problems: Mapping[str, Any],
    prompts: Sequence[str],
    step: int,
    draw: Draw,
) -> list[str]:
    """Return the words that each completion of a step is begun with, "" for none; `problems` are by prompt.

    - opening: of every second completion its first attempt, if search begins behind one, and a word that begins it;
    - prefix: a written search, of which each step shows less, the last nothing;
    - trace: of the first of each group a whole written search; it ends there.
    """
    words, place = task.openings[SEARCH]
    begun = [""] * len(prompts)
    rng = random.Random(derive_seed(parameters.seed, "hint", step))
    if parameters.hint == "opening":
        asked = list(prompts[1::2])
        drawn = [""] * len(asked) if place == "start" else draw(asked)
        for number, (prompt, text) in enumerate(zip(asked, drawn, strict=True)):
            attempt = _first_attempt(task, problems[prompt], text)
            if attempt or place == "start":
                begun[2 * number + 1] = f"{attempt} {words[0]}".strip()
        return begun
    for row, prompt in enumerate(prompts):
        if parameters.hint == "prefix" or row % parameters.num_generations == 0:
            shown = _written_search(task, problems[prompt], rng)
            left = 1.0 if parameters.hint == "trace" else 1 - step / max(1, parameters.num_steps - 1)
            begun[row] = " ".join(shown[: round(left * len(shown))])
    return begun


def _written_search(task: Task, problem: Any, rng: random.Random) -> list[str]:
    """Return the words of a search that solves a problem, and of its end."""
    while True:
        text = task.render(task.write_trace(problem, "search", rng), problem)
        if task.verify(text, problem).correct:
            return [*text.split(), END]


def _first_attempt(task: Task, problem: Any, text: str) -> str:
    """Return a completion up to the end of its first attempt; "" where it finishes none, or searches anyway."""
    attempts = task.parse(text, problem).attempts
    return " ".join(text.split()[: attempts[0].end]) if attempts and attempts[0].finished else ""


def with_hints(
    hints: Sequence[Sequence[int]], drawn: Rollouts, ends: Collection[int], cap: int
) -> dict[str, list[list[Any]]]:
    """Put hints in front of what was drawn behind them, `cap` tokens at most; one that is the whole ends there.

    A hint's log-probabilities are given as 0: TRL does not read them.
    """
    found: dict[str, list[list[Any]]] = {"completion_ids": [], "logprobs": []}
    for hint, ids, logprobs in zip(hints, drawn.completion_ids, drawn.logprobs, strict=True):
        behind = slice(0, 0 if hint and hint[-1] in ends else None)
        found["completion_ids"].append([*hint, *ids[behind]][:cap])
        found["logprobs"].append([*[0.0] * len(hint), *logprobs[behind]][:cap])
    return found
