"""A census of the four behaviours in free text about a Countdown problem, by rules.

The rules look at structure first: the equations that a text states are replayed against the numbers given, which
tells attempts, new starts, steps that work from the target, and computations made twice. Words count only where
they stand in the right place of that structure: "wrong" behind a value that was reached, "instead" between two
computations, "need" in front of a number that is not reached yet. The definitions, and what does not count, are
in `tests/data/census/README.md`; how often the rules agree with labels is measured there too, by
`benchmarks/census_scores.py`.

The four are those of Gandhi et al. (arXiv 2503.01307), who let a language model find them. What differs: rules, that
anyone can rerun and read; a behaviour has to be carried out and not only announced.

Model output is hostile: patterns repeat within bounds, the text is cut at `free_text.MAX_CHARACTERS`, and
nothing here raises on text.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, NamedTuple

from extrabitter.tasks import BEHAVIOURS
from extrabitter.tasks.countdown.arithmetic import compile_phrases
from extrabitter.tasks.countdown.equations import Equation, Mention, Statements, read_statements

# What an equation does: a step of an attempt; a step worked out from the target; the same computation again; the
# distance by which an attempt missed; none of these.
Role = Literal["forward", "backward", "repeat", "gap", "aside"]
Numbers = Counter[Fraction]
MAX_STATES = 64  # that a new attempt may go back to
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\n")

words = compile_phrases("census")  # each for one place in the structure of a text


def _alone(number: int) -> str:
    """Return a pattern of a number that stands alone."""
    return rf"(?<![\d.])0*{number}(?![\d.]*\d)"


class Finding(NamedTuple):
    """One place in the text where a behaviour shows."""

    behaviour: str
    start: int
    end: int


@dataclass
class FoundAttempt:
    """Forward steps that build on each other, from the given numbers or from a state reached before.

    `num_steps` counts all results stated from its beginning to that of the next one, checks and repetitions too.
    """

    equations: list[Equation] = field(default_factory=list)
    value: Fraction | None = None  # once all numbers are used up
    num_steps: int = 0
    num_right_steps: int = 0

    @property
    def identity(self) -> tuple[str, Fraction | None]:
        """Return what two spellings of one computation share: all operations, and the result."""
        operations = "".join(equation.operations for equation in self.equations)
        return "".join(sorted(operations)), self.equations[-1].result

    @property
    def is_true(self) -> bool:
        """Return whether all its steps are."""
        return all(equation.stated in (None, equation.value) for equation in self.equations)


class Census(NamedTuple):
    """What a text does: places that show a behaviour, in order, and attempts."""

    findings: tuple[Finding, ...]
    attempts: tuple[FoundAttempt, ...]


@dataclass
class _Replay:
    """A text on a problem, its equations carried out by the rules."""

    text: str
    mentions: tuple[Mention, ...]
    equations: tuple[Equation, ...]
    numbers: tuple[int, ...]
    target: int
    roles: list[Role] = field(default_factory=list)
    attempts: list[FoundAttempt] = field(default_factory=list)
    attempt_of: list[int] = field(default_factory=list)  # of each equation; -1 before the first attempt

    def sentence_before(self, position: int) -> str:
        """Return the sentence in front of a position, 160 characters at most."""
        start = max(0, position - 160)
        *_, begin = start, *(match.end() for match in _SENTENCE_END.finditer(self.text, start, position))
        return self.text[begin:position]

    def sentence_behind(self, position: int) -> str:
        """Return what is left of the sentence at a position, 160 characters at most."""
        end = _SENTENCE_END.search(self.text, position, position + 160)
        return self.text[position : end.start() if end else position + 160]


def take_census(text: str, numbers: Sequence[int], target: int) -> Census:
    """Find the behaviours in a text that works on a problem; never raises.

    >>> found = take_census("2 + 3 = 5, too small. 2 * 3 = 6, which is it.", (2, 3), 6)
    >>> [finding.behaviour for finding in found.findings]
    ['verification', 'backtracking', 'verification']
    """

    def as_number(match: re.Match[str]) -> str:
        return str(target).ljust(len(match[0])) if len(str(target)) <= len(match[0]) else match[0]

    replay = _carry_out(read_statements(words["target_in_sum"].sub(as_number, text)), numbers, target)
    findings = [*_verifications(replay), *_backtracks(replay), *_subgoals(replay), *_backward_steps(replay)]
    for equation, number in zip(replay.equations, replay.attempt_of, strict=True):
        if replay.attempts and equation.stated is not None:
            attempt = replay.attempts[max(number, 0)]
            attempt.num_steps += 1
            attempt.num_right_steps += equation.value == equation.stated
    findings.sort(key=lambda finding: (finding.start, BEHAVIOURS.index(finding.behaviour)))
    return Census(tuple(findings), tuple(replay.attempts))


def _carry_out(statements: Statements, numbers: Sequence[int], target: int) -> _Replay:
    """Say of each equation what it does, and which attempt it belongs to."""
    replay = _Replay(statements.text, statements.mentions, statements.equations, tuple(numbers), target)
    state: Numbers = Counter(map(Fraction, numbers))
    history = [state]  # states there were, the latest last
    after: dict[object, Numbers] = {}  # a computation -> the state that it led to
    reached, seen = set[Fraction](), set[object]()
    is_restored = False
    for equation in statements.equations:
        operands: Numbers = Counter(map(Fraction, equation.numbers))
        result = equation.result
        role: Role = "aside"
        if equation.key in seen:
            role = "repeat"
            if equation.key in after and after[equation.key] is not state:
                state, is_restored = after[equation.key], True
        elif result is not None and any(operands <= old for old in reversed(history)):
            role = "forward"
            if is_restored or not replay.attempts or not operands <= state:
                replay.attempts.append(FoundAttempt())
            if not operands <= state:
                state = next(old for old in reversed(history) if operands <= old)
            is_restored = False
            state = state - operands
            state[result] += 1
            # The given numbers stay first: a new attempt may always begin with them.
            history = [history[0], *history[1:][-MAX_STATES:], state]
            after[equation.key] = state
            reached.add(result)
            replay.attempts[-1].equations.append(equation)
            replay.attempts[-1].value = result if state.total() == 1 else None
        elif target in operands and replay.attempts and replay.attempts[-1].value in operands:
            role = "gap"
        elif target not in reached and _leads_back(replay, equation, reached) and _is_sound(replay, equation):
            role = "backward"
        seen.add(equation.key)
        replay.roles.append(role)
        replay.attempt_of.append(len(replay.attempts) - 1)
    return replay


def _leads_back(replay: _Replay, equation: Equation, reached: set[Fraction]) -> bool:
    """Return whether an equation that is no forward step works from the target."""
    operands, target = set(equation.numbers), replay.target
    before = replay.sentence_before(equation.start)
    # "40 = 28 + 12", or "if we had 28, 28 + 12 = 40"
    supposes = target in (equation.value, equation.result) and not operands & reached
    # "98 = 90 + 8" behind a 90 that was made: the 8 is worked out from the target
    splits = equation.result_first and target == equation.stated and not words["answers"].search(before)
    return (
        target in operands
        or (supposes and (equation.result_first or words["supposed"].search(before) is not None))
        or (splits and 0 < len(operands - reached - set(replay.numbers)) < len(operands))
    )


def _is_sound(replay: _Replay, equation: Equation) -> bool:
    """Return whether a step from the target says something: "1 - 1 - 1" on a line without words does not."""
    line = replay.sentence_before(equation.end) + replay.sentence_behind(equation.end)
    return set(equation.numbers) != {replay.target} or re.search("[a-z]{2}", line) is not None


def _verifications(replay: _Replay) -> Iterable[Finding]:
    """Find values compared with the target, and computations made again to see whether they are right."""
    text, equations = replay.text, replay.equations
    missed = [attempt for attempt in replay.attempts if attempt.value not in (None, replay.target)]
    misses = {attempt.equations[-1].start for attempt in missed}  # where they end
    compared = re.compile(f"{_alone(replay.target)}|{words['target_in_words'].pattern}")
    previous_end = 0
    for index, (equation, role) in enumerate(zip(equations, replay.roles, strict=True)):
        end = equations[index + 1].start if index + 1 < len(equations) else len(text)
        behind = text[equation.end : max(equation.end, min(end, equation.end + 400))]
        lead = text[max(previous_end, equation.start - 100) : equation.end]
        previous_end = equation.end
        if role == "gap":
            yield Finding("verification", equation.start, equation.end)
        number = replay.attempt_of[index]
        is_again = role == "repeat" or (role == "aside" and index > 0)
        if role == "forward" and number >= 1:  # the attempt before, in another spelling
            is_again = replay.attempts[number].identity == replay.attempts[number - 1].identity
        if is_again and equation.stated is not None and words["checking"].search(lead):
            yield Finding("verification", equation.start, equation.end)
        if role == "backward":
            continue
        if mark := words["mark"].match(behind):
            yield Finding("verification", equation.end, equation.end + mark.end())
        elif found := _find_verdict(behind, compared, equation.start in misses):
            yield Finding("verification", equation.end + found[0], equation.end + found[1])


def _find_verdict(behind: str, compared: re.Pattern[str], is_miss: bool) -> tuple[int, int] | None:
    """Return where the text behind a computation judges what was reached, looking three sentences on."""
    for number, (start, end) in enumerate(_sentences(behind)[:3]):
        sentence = behind[start:end]
        for match in words["verdict"].finditer(sentence):
            lead = sentence[: match.start()]
            is_noun = words["article"].search(lead) or words["of_an_answer"].match(sentence, match.end())
            if not is_noun and not words["hoped"].search(lead):
                return start + match.start(), start + match.end()
        for match in compared.finditer(sentence):
            lead = sentence[: match.start()]
            if any(words[name].search(lead) for name in ("hoped", "answers", "result_of")):
                continue
            # "24 + 17 = 41. We need 42 first": the next sentence looks forward, not back.
            if number and words["names_a_goal"].search(lead) and not words["looking_back"].search(lead):
                continue
            in_apposition = not match[0].isdigit() and words["in_apposition"].fullmatch(lead)
            if is_miss or in_apposition or words["relation"].search(lead):
                return start, end
    return None


def _sentences(text: str) -> list[tuple[int, int]]:
    """Return where sentences begin and end; a line is one or more."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    if not ends or ends[-1] < len(text):
        ends.append(len(text))
    return list(zip([0, *ends], ends, strict=False))


def _backtracks(replay: _Replay) -> Iterable[Finding]:
    """Find new starts: behind an attempt that missed, or behind words that give a computation up."""
    seen: set[object] = set()
    previous: FoundAttempt | None = None
    for number, attempt in enumerate(replay.attempts):
        start, end = attempt.equations[0].start, attempt.equations[0].end
        position = bisect_left(replay.attempt_of, number)
        last_end = replay.equations[position - 1].end if position else None  # of the last computation before
        is_new = attempt.identity not in seen
        seen.add(attempt.identity)
        if last_end is not None and is_new and not (previous and previous.value == replay.target):
            between = replay.text[max(last_end, start - 400) : start]
            if (previous and previous.value is not None) or words["given_up"].search(between):
                yield Finding("backtracking", start, end)
        previous = attempt
    # Computations given up for one from the target.
    for index, (equation, role) in enumerate(zip(replay.equations, replay.roles, strict=True)):
        if role == "backward" and index:
            between = replay.text[max(replay.equations[index - 1].end, equation.start - 400) : equation.start]
            if words["given_up"].search(between):
                yield Finding("backtracking", equation.start, equation.end)


def _open_mentions(replay: _Replay) -> Iterable[tuple[Mention, str, str]]:
    """Yield numbers named before they are reached, neither given nor the target, with the sentence around each."""
    reached: dict[Fraction | None, int] = {}  # a value -> where it was reached first
    for equation, role in zip(replay.equations, replay.roles, strict=True):
        if role in ("forward", "repeat"):
            reached.setdefault(equation.result, equation.end)
    for mention in replay.mentions:
        is_known = mention.value in (*replay.numbers, replay.target)
        if not is_known and reached.get(Fraction(mention.value), len(replay.text)) > mention.start:
            yield mention, replay.sentence_before(mention.start), replay.sentence_behind(mention.end)


def _subgoals(replay: _Replay) -> Iterable[Finding]:
    """Find values named as something to make before they are made."""
    for mention, before, behind in _open_mentions(replay):
        if words["operating"].search(re.split(r"[,;:]", before)[-1]) or words["counted"].match(behind):
            continue
        lead = replay.text[max(0, mention.start - 60) : mention.start]
        is_led = any(words[name].search(lead) for name in ("named_a_goal", "article_before", "roughly"))
        is_followed = words["is_a_goal"].match(behind) or words["or_so"].match(behind)
        if is_led or is_followed or words["names_a_goal"].search(before):
            yield Finding("subgoal_setting", mention.start, mention.end)
    first = replay.equations[0].start if replay.equations else len(replay.text)
    for match in words["decade"].finditer(replay.text, 0, first):
        yield Finding("subgoal_setting", *match.span())


def _backward_steps(replay: _Replay) -> Iterable[Finding]:
    """Find steps worked out from the target: equations with it, and values one inverse step before it."""
    for equation, role in zip(replay.equations, replay.roles, strict=True):
        if role == "backward":
            yield Finding("backward_chaining", equation.start, equation.end)
    target, operands = replay.target, {*replay.numbers, 2}  # 2: halves and doubles are said without a number
    one_before = {value for n in operands for value in (target - n, target + n, n - target, target * n)}
    one_before |= {target // n for n in operands if n and target % n == 0}
    target_number = _alone(target)
    is_split = re.compile(rf"{target_number}[^.\d\n]{{0,12}}\b(?:is|are|equals|as|means)\b")
    stands_there = re.compile(f"{target_number}|{words['the_end'].pattern}")
    for mention, before, behind in _open_mentions(replay):
        if mention.value not in one_before or words["distance"].match(behind):
            continue
        lead = replay.text[max(0, mention.start - 160) : mention.start]
        question = lead[: len(lead) - len(before)].rstrip()
        asked = question[slice(*_sentences(question)[-1])] if question.endswith("?") else ""
        has_cue = words["works_back"].search(asked + before + behind) or is_split.search(before)
        if has_cue and stands_there.search(lead + behind):
            yield Finding("backward_chaining", mention.start, mention.end)
