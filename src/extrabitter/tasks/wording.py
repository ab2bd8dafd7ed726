"""How a stage speaks to its model: in the task's grammar, or in English behind worked examples.

The stages ask this and nothing else about words, so that the same SFT, GRPO and evaluation run on a model of a
million parameters and on a checkpoint from a hub.
"""

from __future__ import annotations

import random
import re
from itertools import islice
from typing import Any

from extrabitter.params import LanguageParameters, ParameterError
from extrabitter.seeding import derive_seed
from extrabitter.tasks import Prompt, Task, Trace, Wording, band_of
from extrabitter.tasks.free_text import hand_in

MAX_STOPS = 20  # places in a completion at which it may be found to go on to something else
_THOUGHT = re.compile(r"<(/?)think(?:ing)?>", re.IGNORECASE)


def choose_wording(task: Task, parameters: LanguageParameters) -> Wording:
    """Return the wording that a stage's parameters ask for; ParameterError where the task has none of it."""
    if parameters.prompt == "grammar":
        return task
    shots = worked_examples(task, parameters.few_shot, parameters.seed, band_of(task, parameters.band))
    wording = task.english(parameters.prompt, shots)
    if wording is None:
        raise ParameterError(
            f"{parameters.stage}: prompt = {parameters.prompt!r}: {task.name} has no English; must be grammar"
        )
    return wording


def worked_examples(task: Task, count: int, seed: int, band: str) -> list[tuple[Any, Any]]:
    """Draw solved training problems of a band as (problem, script), each with a right direct answer."""
    rng = random.Random(derive_seed(seed, "examples"))
    problems = task.problems("train", count, derive_seed(seed, "examples"), band)
    return [(problem, task.write_trace(problem, "direct", rng, 1.0)) for problem in problems]


def behind_prompt(prompt: str, completion: str) -> str:
    """Return a completion with the thought that its prompt, as the model reads it, opens and leaves open.

    Chat templates of reasoning models end in <think>; the completion alone would not say that it begins in a thought.

    >>> behind_prompt("<|assistant|> <think>", "3 * 8, hm")
    '<think>3 * 8, hm'
    """
    tags = _THOUGHT.findall(prompt[-1000:])
    # Without a space, so that words keep their numbers.
    return f"<think>{completion.lstrip()}" if tags and not tags[-1] else completion


def read_completion(
    wording: Wording, problem: Any, text: str, prompt: str = "", truncated: bool = False
) -> tuple[str, Trace, bool]:
    """Return a completion up to where it goes on to something else, as it is read, and whether the cap cut it.

    `prompt` is the one that the model read. A completion goes on where one of the wording's stops stands behind an
    answer; before one, say in a problem that is said again or in a thought, the same text stops nothing.
    """
    found = re.finditer("|".join(map(re.escape, wording.stops)) or "(?!)", text)
    for place in (match.start() for match in islice(found, MAX_STOPS)):
        begun = behind_prompt(prompt, text[:place])
        # To read at each place all that a text does would cost far more.
        if hand_in(begun, wording.stops).reason == "ok":
            return text[:place], wording.parse(begun, problem), False
    return text, wording.parse(behind_prompt(prompt, text), problem, truncated), truncated


def spoken(completion: Prompt) -> str:
    """Return a completion's text, which TRL hands over as turns where the prompt was a conversation.

    >>> spoken([{"role": "assistant", "content": "3"}]), spoken("3")
    ('3', '3')
    """
    if isinstance(completion, str):
        return completion
    return "".join(str(turn.get("content") or "") for turn in completion)
