"""What a completion in natural English does: its answer, its equations, and the behaviours that the census finds.

The counterpart of `behaviours` for free text. Less can be told: hits, verdicts and functional behaviours need the
grammar, and are missing here rather than guessed.
"""

from __future__ import annotations

from extrabitter.behaviours.measures import SEARCH_COUNTS, Measure, column, constant, positive
from extrabitter.tasks.countdown.census import take_census
from extrabitter.tasks.countdown.english import verify_completion
from extrabitter.tables import BEHAVIOURS
from extrabitter.behaviours.keywords import count_keywords
from extrabitter.tasks.countdown import Problem

NOT_ANSWERED = ("no_answer", "open_answer", "not_read")


def measure_natural(text: str, problem: Problem) -> dict[str, bool | int | str]:
    """Return the columns of table `natural_completions` that derive from a completion's text; never raises."""
    verdict = verify_completion(text, problem)
    census = take_census(text, problem.numbers, problem.target)
    return {
        "correct": verdict.correct,
        "reason": verdict.reason,
        "answered": verdict.reason not in NOT_ANSWERED,
        "num_equations": census.num_equations,
        "num_true_equations": census.num_true_equations,
        "num_attempts": census.num_attempts,
        **{f"{behaviour}_count": census.count(behaviour) for behaviour in BEHAVIOURS},
        "keyword_count": count_keywords(text),
    }


NATURAL_MEASURES: dict[str, Measure] = {
    "pass@1": Measure(column("correct"), constant),
    "frac_answered": Measure(column("answered"), constant),
    "frac_truncated": Measure(column("truncated"), constant),
    "mean_completion_tokens": Measure(column("num_completion_tokens"), constant),
    "mean_attempts": Measure(column("num_attempts"), constant),
    "frac_true_equations": Measure(column("num_true_equations"), column("num_equations")),
    "frac_searches": Measure(positive(*SEARCH_COUNTS), constant),
    "frac_with_keywords": Measure(positive("keyword_count"), constant),
}
for _behaviour in BEHAVIOURS:
    NATURAL_MEASURES[f"mean_{_behaviour}_count"] = Measure(column(f"{_behaviour}_count"), constant)
    NATURAL_MEASURES[f"frac_with_{_behaviour}"] = Measure(positive(f"{_behaviour}_count"), constant)
