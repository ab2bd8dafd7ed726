"""The parser of Countdown completions: tolerant of where a text ends or breaks, exact in what it has read.

Syntax only (the grammar is in `traces`): a false equation or a wrong verdict parses like a right one.
"""

from __future__ import annotations

from extrabitter.tasks import SPECIAL_WORDS
from extrabitter.tasks.countdown.problems import MAX_VALUE, Problem, Step
from extrabitter.tasks.countdown.traces import VOCABULARY, Check, Script, ScriptAttempt

MAX_CHARACTERS = 20_000  # of a completion; longer ones are not read

FORMS = {
    "ok": "the completion parses to its end",
    "not_text": "the completion is not a string",
    "too_long": f"over {MAX_CHARACTERS} characters",
    "unfinished": "the text ends before the word 'answer'",
    "unknown_word": "a word outside the vocabulary",
    "unexpected_word": "a word the grammar does not allow at its place",
    "trailing_words": "words after 'answer'",
}

_NUMBERS = {str(value): value for value in range(MAX_VALUE + 1)}
_WORDS = frozenset(VOCABULARY) - frozenset(SPECIAL_WORDS)
_OPERATIONS = frozenset("+-*/")


class _Broken(Exception):
    """The text leaves the grammar at a word; caught inside `parse_script`."""


class _Reader:
    """Words under a cursor; an empty word stands at the end for good."""

    __slots__ = ("position", "words")

    def __init__(self, words: list[str]) -> None:
        # An equation looks five words ahead.
        self.words = [*words, "", "", "", "", ""]
        self.position = 0

    def number(self) -> int:
        value = _NUMBERS.get(self.words[self.position])
        if value is None:
            raise _Broken
        self.position += 1
        return value

    def word(self, expected: str) -> None:
        if self.words[self.position] != expected:
            raise _Broken
        self.position += 1

    def equation(self) -> Step:
        position = self.position
        left, operation, right, equals, result = self.words[position : position + 5]
        if operation in _OPERATIONS and equals == "=":
            try:
                step = Step(_NUMBERS[left], operation, _NUMBERS[right], _NUMBERS[result])
            except KeyError:
                pass
            else:
                self.position += 5
                return step
        self._find_break()
        raise _Broken

    def _find_break(self) -> None:
        """Move to the first word that does not belong into an equation."""
        for place in range(5):
            word = self.words[self.position]
            fits = word in _OPERATIONS if place == 1 else word == "=" if place == 3 else word in _NUMBERS
            if not fits:
                return
            self.position += 1


def parse_script(text: object, problem: Problem) -> Script:
    """Read a completion as far as the grammar goes; what was read before a break is kept.

    A word "back" opens an attempt even if nothing follows it. End and padding words at the end are ignored.
    Never raises.
    """
    if not isinstance(text, str):
        return Script((), reason="not_text")
    if len(text) > MAX_CHARACTERS:
        return Script((), reason="too_long")
    words = text.split()
    while words and words[-1] in ("<eos>", "<pad>"):
        words.pop()
    num_filler = 0
    while num_filler < len(words) and words[num_filler] == ".":
        num_filler += 1
    reader = _Reader(words)
    reader.position = num_filler
    words = reader.words
    attempts: list[ScriptAttempt] = []
    numbers: tuple[int, ...] = problem.numbers
    restated: list[int] = []
    steps: list[Step] = []
    target: int | None = None
    need: Step | None = None
    aim: int | None = None
    check: Check | None = None
    reason = "ok"
    try:
        while True:
            if words[reader.position] == "need":
                reader.position += 1
                need = reader.equation()
                reader.word(",")
            if words[reader.position] == "aim":
                reader.position += 1
                aim = reader.number()
                reader.word(",")
            steps.append(reader.equation())
            while words[reader.position] == ",":
                reader.position += 1
                steps.append(reader.equation())
            if words[reader.position] == "check":
                reader.position += 1
                compared = reader.number()
                says = words[reader.position]
                if says != "yes" and says != "no":
                    raise _Broken
                reader.position += 1
                check = Check(compared, says == "yes")
            if words[reader.position] != "back":
                reader.word("answer")
                break
            attempts.append(ScriptAttempt(numbers, tuple(steps), target, need, aim, check))
            reader.position += 1
            numbers, restated, steps, target, need, aim, check = (), [], [], None, None, None, None
            restated.append(reader.number())
            while words[reader.position] in _NUMBERS:
                restated.append(reader.number())
            reader.word("target")
            target = reader.number()
            reader.word(":")
            numbers = tuple(restated)
        if words[reader.position]:
            reason = "trailing_words"
    except _Broken:
        word = words[reader.position]
        reason = "unfinished" if not word else "unexpected_word" if word in _WORDS else "unknown_word"
    if attempts or steps or need is not None or aim is not None:
        attempts.append(ScriptAttempt(numbers or tuple(restated), tuple(steps), target, need, aim, check))
    return Script(tuple(attempts), num_filler, reason, reader.position)
