"""Numbers of others that the book sets beside its own, as they printed them; each marked as theirs on its page."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd


class PrimingResult(NamedTuple):
    """Accuracy on Countdown of one run, before RL and after 250 steps of PPO."""

    model: str
    condition: str
    arm: str  # the arm of this book that asks the same question, or empty
    start: float
    end: float


# One run each, behaviours judged by a language model, accuracy on problems of three and four numbers.
# Source: Gandhi et al., arXiv 2503.01307, in the results of its repository, kanishkg/cognitive-behaviors.
GANDHI_PRIMING = (
    PrimingResult("Llama-3.2-3B", "not primed", "absent", 0.000, 0.338),
    PrimingResult("Llama-3.2-3B", "empty chain of thought", "", 0.060, 0.410),
    PrimingResult("Llama-3.2-3B", "dots of the same length", "sft_filler", 0.111, 0.381),
    PrimingResult("Llama-3.2-3B", "backtracking only", "sft_backtracking", 0.409, 0.769),
    PrimingResult(
        "Llama-3.2-3B", "backtracking and verification", "sft_verification_backtracking", 0.419, 0.774
    ),
    PrimingResult("Llama-3.2-3B", "backtracking and backward chaining", "", 0.310, 0.773),
    PrimingResult("Llama-3.2-3B", "backtracking and subgoals", "", 0.176, 0.706),
    PrimingResult("Llama-3.2-3B", "all four", "sft_all_behaviours", 0.352, 0.736),
    PrimingResult("Llama-3.2-3B", "all four, every answer wrong", "sft_incorrect", 0.283, 0.735),
    PrimingResult("Llama-3.2-3B", "traces written by people", "", 0.012, 0.563),
    PrimingResult("Llama-3.2-3B", "curated pretraining", "", 0.001, 0.489),
    PrimingResult("Llama-3.2-3B", "control of curated pretraining", "", 0.001, 0.368),
    PrimingResult("Qwen-2.5-3B", "not primed", "rich", 0.006, 0.535),
)


def gandhi_priming() -> pd.DataFrame:
    """Return their runs: model, condition, arm, start, end."""
    return pd.DataFrame(GANDHI_PRIMING, columns=list(PrimingResult._fields))
