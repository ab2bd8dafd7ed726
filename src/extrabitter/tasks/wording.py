"""How a problem is put to a model, and how its text is read: in the grammar of our own bases, or in English.

The stages ask this and nothing else about words, so that the same SFT, GRPO and evaluation run on a model of a
million parameters and on a checkpoint from a hub.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

from extrabitter.behaviours.measures import MEASURES, Measure, measure_completion
from extrabitter.params import LanguageParameters, ParameterError
from extrabitter.tasks.countdown.english import (
    chat_messages,
    cut_completion,
    examples,
    plain_prompt,
    render_solution,
    verify_completion,
)
from extrabitter.behaviours.natural_measures import NATURAL_MEASURES, NOT_ANSWERED, measure_natural
from extrabitter.training.priming import CONDITIONS, EXAMPLE_CONDITIONS
from extrabitter.tasks import Verdict, countdown
from extrabitter.tasks.countdown import Problem, Trace

Prompt = str | list[dict[str, str]]  # text, or a conversation for the tokenizer's chat template


class Wording(Protocol):
    """What the stages may ask."""

    measures: ClassVar[Mapping[str, Measure]]

    def prompt(self, problem: Problem) -> Prompt:
        """Return what the model is asked."""
        ...

    def demonstration(self, trace: Trace, problem: Problem) -> Prompt:
        """Return a trace as an answer to `prompt`, of the same kind."""
        ...

    def verify(self, text: str, problem: Problem) -> Verdict:
        """Judge a completion; never raises."""
        ...

    def is_formatted(self, text: str, problem: Problem) -> bool:
        """Tell whether a completion keeps the form that is asked for, right or wrong; never raises."""
        ...

    def measure(self, text: str, problem: Problem, truncated: bool) -> dict[str, Any]:
        """Return what `measures` are made of, of a text that was or was not `truncated`; never raises."""
        ...

    def is_truncated(self, text: str, ended: bool) -> bool:
        """Tell whether a text was cut at the cap before it said all; `ended`: the model ended it."""
        ...


class Grammar:
    """The words of the book's own bases."""

    measures: ClassVar[Mapping[str, Measure]] = MEASURES

    def prompt(self, problem: Problem) -> str:
        """Return the prompt in the grammar."""
        return countdown.render_prompt(problem)

    def demonstration(self, trace: Trace, problem: Problem) -> str:
        """Return a trace in the grammar."""
        return countdown.render_trace(trace, problem)

    def verify(self, text: str, problem: Problem) -> Verdict:
        """Judge the attempt that is submitted."""
        return countdown.verify_completion(text, problem)

    def is_formatted(self, text: str, problem: Problem) -> bool:
        """Tell whether the parser reads a completion to its end."""
        return countdown.parse_trace(text, problem).well_formed

    def measure(self, text: str, problem: Problem, truncated: bool) -> dict[str, Any]:
        """Measure with the exact parser."""
        return measure_completion(text, problem, truncated)

    def is_truncated(self, text: str, ended: bool) -> bool:
        """Tell whether the model did not end the text."""
        return not ended


@dataclass(frozen=True)
class English:
    """Natural English, as plain text to be continued or as a conversation, behind worked examples."""

    style: Literal["plain", "chat"]
    shots: Sequence[tuple[str, str]] = ()

    measures: ClassVar[Mapping[str, Measure]] = NATURAL_MEASURES

    def prompt(self, problem: Problem) -> Prompt:
        """Return a text, or a conversation."""
        ask = chat_messages if self.style == "chat" else plain_prompt
        return ask(problem, self.shots)

    def demonstration(self, trace: Trace, problem: Problem) -> Prompt:
        """Return a trace in words: a text, or the next turn of the conversation."""
        if trace.num_filler:
            raise ParameterError(
                "condition = 'filler': as long as others in the grammar only; must be another here"
            )
        solution = render_solution(trace, problem)
        return [{"role": "assistant", "content": solution}] if self.style == "chat" else solution

    def verify(self, text: str, problem: Problem) -> Verdict:
        """Judge the expression that is handed in."""
        return verify_completion(text, problem)

    def is_formatted(self, text: str, problem: Problem) -> bool:
        """Tell whether an expression is handed in."""
        return verify_completion(text, problem).reason not in NOT_ANSWERED

    def measure(self, text: str, problem: Problem, truncated: bool) -> dict[str, Any]:
        """Measure by the census, up to where the text goes on to a problem of its own."""
        return measure_natural(cut_completion(text), problem)

    def is_truncated(self, text: str, ended: bool) -> bool:
        """Tell whether the model ended neither the text nor the problem, by going on to another."""
        return not ended and cut_completion(text) == text


GRAMMAR = Grammar()


def choose_wording(parameters: LanguageParameters) -> Wording:
    """Return the wording that a stage's parameters ask for; worked examples are drawn from training problems.

    ParameterError where the examples would show what no one trace shows.
    """
    if parameters.prompt == "grammar":
        return GRAMMAR
    if parameters.shots_show not in EXAMPLE_CONDITIONS:
        raise ParameterError(
            f"{parameters.stage}: shots_show = {parameters.shots_show!r}: must be one of "
            f"{', '.join(EXAMPLE_CONDITIONS)}"
        )
    return english(
        parameters.prompt, parameters.few_shot, parameters.shots_show, parameters.seed, parameters.num_numbers
    )


def english(
    style: Literal["plain", "chat"], few_shot: int, shots_show: str, seed: int, num_numbers: int
) -> English:
    """Return natural English behind `few_shot` worked training problems, which show one of `EXAMPLE_CONDITIONS`."""
    return English(style, tuple(examples(few_shot, seed, CONDITIONS[shots_show].trace, num_numbers)))


def demonstrations(wording: Wording, traces: Sequence[tuple[Problem, Trace]]) -> list[dict[str, Any]]:
    """Return worked problems as documents for SFT: dicts of prompt, completion, numbers and target."""
    return [
        {
            "prompt": wording.prompt(problem),
            "completion": wording.demonstration(trace, problem),
            "numbers": list(problem.numbers),
            "target": problem.target,
        }
        for problem, trace in traces
    ]


def spoken(completion: Prompt) -> str:
    """Return a completion's text, which TRL hands over as a turn where the prompt was a conversation.

    >>> spoken([{"role": "assistant", "content": "3"}]), spoken("3")
    ('3', '3')
    """
    if isinstance(completion, str):
        return completion
    return "".join(str(turn.get("content") or "") for turn in completion)
