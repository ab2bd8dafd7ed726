"""Completions in a grammar, whatever the task: words under a cursor, read up to where a text ends or breaks.

Model output is hostile: a longer text than a task reads is refused, and what a reader raises stays in here.
"""

from __future__ import annotations

from typing import Any, ClassVar

from extrabitter.tasks import SPECIAL_WORDS, Attempt, Trace, Use, Verdict

REASONS = {
    "not_text": "the completion is not a string",
    "too_long": "longer than the verifier reads",
    "unfinished": "the text ends before the word 'answer'",
    "truncated": "cut at the length cap before an answer",
    "unknown_word": "a word outside the vocabulary",
    "unexpected_word": "a word the grammar does not allow at its place",
    "trailing_words": "words after 'answer'",
}


class Broken(Exception):
    """The text leaves the grammar at a word; caught where it is read."""


class Reader:
    """What a completion does, read word by word; an empty word stands at the end for good.

    What was read before a break is kept. Filler in front, and end and padding words at the end, are passed over.
    """

    vocabulary: ClassVar[tuple[str, ...]]
    max_characters: ClassVar[int]  # of a completion; longer ones are not read

    def __init__(self, text: str, problem: Any) -> None:
        """Read a text; `form` then is "ok", or says where it broke."""
        words = text.split()
        while words and words[-1] in ("<eos>", "<pad>"):
            words.pop()
        self.words = [*words, *[""] * 5]  # nobody looks more than five words ahead
        self.problem = problem
        self.position = 0
        while self.word == ".":
            self.position += 1
        self.num_filler = self.position
        self.attempts: list[Attempt] = []
        self.uses: list[Use] = []
        try:
            self.read()
            self.form = "trailing_words" if self.word else "ok"
        except Broken:
            is_known = self.word in self.vocabulary and self.word not in SPECIAL_WORDS
            self.form = ("unexpected_word" if is_known else "unknown_word") if self.word else "unfinished"

    def read(self) -> None:
        """Read attempts up to the word that hands the last one in; Broken where the text leaves the grammar."""
        raise NotImplementedError

    def judge(self) -> Verdict:
        """Judge what a well-formed completion hands in."""
        raise NotImplementedError

    @property
    def word(self) -> str:
        """Return the word under the cursor."""
        return self.words[self.position]

    def take(self, *expected: str) -> str:
        """Return the word under the cursor and go on; Broken where it is none of those expected."""
        word = self.words[self.position]
        if word not in expected:
            raise Broken
        self.position += 1
        return word

    @classmethod
    def parse(cls, text: object, problem: Any, truncated: bool = False) -> Trace:
        """Read a completion; never raises. Cut at the cap, it has reason "truncated" in place of "unfinished"."""
        if not isinstance(text, str) or len(text) > cls.max_characters:
            form = "too_long" if isinstance(text, str) else "not_text"
            return Trace((), (), Verdict(False, form), form, answered=False)
        reader = cls(text, problem)
        form, answered = reader.form, reader.form in ("ok", "trailing_words")
        reason = "truncated" if truncated and form == "unfinished" else form
        verdict = reader.judge() if form == "ok" else Verdict(False, reason)
        return Trace(tuple(reader.attempts), tuple(reader.uses), verdict, form, answered, reader.num_filler)
