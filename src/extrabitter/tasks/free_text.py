"""English, whatever the task: how a problem is asked, and the one reader of what a completion hands in.

A stage asks here whether it speaks to its model in the task's grammar or in English behind worked examples, and nothing
else about words: the same SFT, GRPO and evaluation run on a model of a million parameters and on one from a hub.

Thinking is taken off first: what stands between <think> and </think>, what stands before a </think> that nothing
opened (the template did), and what stands behind a <think> that nothing closes; other names of the tag likewise.
Then the last *closed* answer counts: one between <answer> and </answer>, else one in a LaTeX box, else one behind
"answer:" or "the answer is". An answer that is opened, and behind which there is nothing but signs, was cut, and
nothing is handed in. A tag that is only mentioned is prose.

Text that stops a completion (the next problem of a few-shot prompt) does so behind an answer only, and never in a
thought: before an answer, it is the problem said again.

Model output is hostile: each pattern is bounded and read once over a bounded text, and nothing here raises.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, NamedTuple

from extrabitter.params import LanguageParameters, ParameterError
from extrabitter.seeding import derive_seed
from extrabitter.tasks import Prompt, Task, Trace, Wording, band_of

QUESTION, SOLUTION = "Problem:", "Solution:"  # of a plain prompt
MAX_CHARACTERS = 20_000  # of a completion; longer ones are not read
MAX_ANSWER = 2_000  # characters of what is handed in
MAX_BOXES = 16  # openings of boxes that are looked at, from the last
MAX_STOPS = 20  # places in a completion at which it may be found to go on to something else

REASONS = {
    "no_answer": "nothing is handed in",
    "open_answer": "an answer is opened and not closed",
    "not_read": f"no text, or over {MAX_CHARACTERS} characters",
}

_THOUGHTS = r"(?:think(?:ing)?|thoughts?|reasoning|scratchpad)>"
_THOUGHT = re.compile(rf"<{_THOUGHTS}.*?(?:</{_THOUGHTS}|\Z)", re.IGNORECASE | re.DOTALL)
_THOUGHT_END = re.compile(rf"</{_THOUGHTS}", re.IGNORECASE)
_OPENED = re.compile(r"<(/?)think(?:ing)?>", re.IGNORECASE)
_TAG = re.compile(r"<(/?)answer>", re.IGNORECASE)
_BOX = re.compile(r"\\boxed\s{0,3}\{")
_SAID = re.compile(r"\banswer\b[*_]{0,3}(?: is|:| =)[*_]{0,3}:?[*_]{0,3}", re.IGNORECASE)
_QUOTED = ("and", "or", "...", "…")  # between tags that are only mentioned: "between <answer> and </answer>"
_WORD = re.compile(r"(?<![\\a-z<])[a-z]{2,}", re.IGNORECASE)
# Where a spoken answer ends: at the end of a sentence or line, unless arithmetic goes on behind it.
_GOES_ON = r"(?!(?:x|plus|minus|times|over|less|mod|multiplied|divided|added|squared|cubed|to the|factorial|percent)\b)"
_SAID_END = re.compile(
    rf"\.[*_\"'”’)]{{0,3}}(?=\s*\n|\s*$)|\.\s+(?={_GOES_ON}[a-z<#])|\n\s{{0,20}}(?={_GOES_ON}[a-z<#])",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Asked:
    """A game in English: plain text to be continued, or a conversation, behind worked examples (problem, script).

    A task's English derives from it and says what a question and a solution are.
    """

    style: Literal["plain", "chat"]
    shots: Sequence[tuple[Any, Any]] = ()

    @property
    def stops(self) -> tuple[str, ...]:
        """Return what opens another problem where a plain prompt has shown how that goes."""
        return (f"\n{QUESTION}",) if self.style == "plain" else ()

    def prompt(self, problem: Any, cue: bool = False) -> Prompt:
        """Return what the model is asked; English has no cue."""
        shown = [(self.question(each), self.solution(script, each)) for each, script in self.shots]
        if self.style == "plain":
            parts = [f"{QUESTION} {asked}\n{SOLUTION} {answered}\n" for asked, answered in shown]
            return "\n".join([*parts, f"{QUESTION} {self.question(problem)}\n{SOLUTION}"])
        messages = []
        for asked, answered in shown:
            messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
        return [*messages, {"role": "user", "content": self.question(problem)}]

    def demonstration(self, script: Any, problem: Any) -> Prompt:
        """Return a script in words: a text that follows its prompt, or the next turn of the conversation.

        ParameterError for filler, which has no words.
        """
        if script.num_filler:
            raise ParameterError("condition = 'filler': dots have no words; only with prompt 'grammar'")
        text = self.solution(script, problem)
        return [{"role": "assistant", "content": text}] if self.style == "chat" else f" {text}"

    def question(self, problem: Any) -> str:
        """Return a problem in words."""
        raise NotImplementedError

    def solution(self, script: Any, problem: Any) -> str:
        """Return a script in words, handed in at its end."""
        raise NotImplementedError


class HandedIn(NamedTuple):
    """What is handed in, as written, and "ok" or a key of REASONS.

    `body` is the completion up to where it goes on to something else, thoughts and all.
    """

    text: str
    reason: str
    body: str


class _Answer(NamedTuple):
    text: str
    end: int


def hand_in(text: object, stops: Sequence[str] = ()) -> HandedIn:
    """Find what a completion hands in; never raises.

    >>> hand_in("3 * 8 = 24, so <answer> 3 * 8 + 9 </answer>. Is 4 * 4 nicer?").text
    ' 3 * 8 + 9 '
    >>> hand_in("<think> <answer> 3 * 8 + 9 </answer> hm").reason
    'no_answer'
    """
    if not isinstance(text, str) or len(text) > MAX_CHARACTERS:
        return HandedIn("", "not_read", "")
    plain = _without_thoughts(text)
    if any(stop in plain for stop in stops):
        first = min((answer.end for kind in _answers(plain) for answer in kind[:1]), default=len(plain))
        end = min((place for stop in stops if (place := plain.find(stop, first)) >= 0), default=len(plain))
        text, plain = text[:end], plain[:end]
    if _is_cut(plain):
        return HandedIn("", "open_answer", text)
    answer = next((kind[-1] for kind in _answers(plain) if kind), None)
    return HandedIn(answer.text, "ok", text) if answer else HandedIn("", "no_answer", text)


def _without_thoughts(text: str) -> str:
    """Put spaces in place of thoughts: places in the text do not move."""
    text = _THOUGHT.sub(lambda thought: " " * len(thought[0]), text)
    ends = [end.end() for end in _THOUGHT_END.finditer(text)]  # of thoughts that nothing opened
    return " " * ends[-1] + text[ends[-1] :] if ends else text


def _answers(text: str) -> Iterator[list[_Answer]]:
    """Yield the closed answers of each kind in their order: tags, then boxes, then spoken ones."""
    yield _tagged(text)[0]
    yield _boxed(text)[0]
    said = list(_SAID.finditer(text))
    yield [_said(text, match) for match in said[:1] + said[-1:]]


def _tagged(text: str) -> tuple[list[_Answer], int | None]:
    """Return what stands between tags, and where the last opened one stands that is not closed."""
    found, opened = [], None
    for match in _TAG.finditer(text):
        if not match[1]:
            opened = match.end()
        elif opened is not None:
            inside = text[opened : match.start()]
            if inside[:8].strip().lower() not in _QUOTED or len(inside) > 8:
                found.append(_Answer(inside, match.end()))
            opened = None
    return found, opened


def _boxed(text: str) -> tuple[list[_Answer], int | None]:
    """Return the first and the last closed box that holds something, and where a last one stands that is open."""
    starts = [match.end() for match in _BOX.finditer(text)]
    found: list[_Answer] = []
    opened = None
    for start in [*starts[:1], *starts[-MAX_BOXES:]]:
        depth = 1
        for brace in re.finditer(r"[{}]", text[start : start + MAX_ANSWER]):
            depth += 1 if brace[0] == "{" else -1
            if not depth:
                inside = text[start : start + brace.start()]
                if inside.strip():
                    found.append(_Answer(inside, start + brace.end()))
                break
        opened = start if depth else None
    return found, opened


def _said(text: str, match: re.Match[str]) -> _Answer:
    said = text[match.end() : match.end() + MAX_ANSWER]
    begin = len(said) - len(said.lstrip())
    end = _SAID_END.search(said, begin)
    stop = end.start() if end else len(said)
    return _Answer(said[begin:stop], match.end() + stop)


def _is_cut(text: str) -> bool:
    """Return whether a text ends in an answer that it does not close: in nothing but arithmetic behind its opening."""
    tags, tag = _tagged(text)
    opened = tag if tag is not None or tags else _boxed(text)[1]
    if opened is None:
        return False
    return not _WORD.search(re.sub(r"<[^<>]{0,20}$", "", text[opened : opened + MAX_ANSWER]))


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
    tags = _OPENED.findall(prompt[-1000:])
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
