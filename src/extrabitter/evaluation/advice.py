"""Which priming to try before RL: a rule of ours over what the probe measures, with its reasons.

The rule asks three questions in order, each with a threshold that this repository already uses:
1. *Can it do the steps?* Below the bars of `competence` for arithmetic and form, traces of search would be written on
   sand: train the base further.
2. *Is search there to be found?* If a GRPO step at the defaults holds less than one completion that searches, RL has
   nothing to select: prime.
3. *Does it pay?* If searching on from the model's own first attempt does not gain, with interval, RL would select
   against it: prime.
Otherwise no priming is needed. The set is `verification_backtracking`: the two behaviours that turn one attempt into
several, in traces short enough to search many times under the cap. Its size, the steps on it and their rate are those
of the book's priming experiments (profile `reference`), with bases of a million parameters: a pilot with fewer and
gentler steps cost such a base its arithmetic, and no other size of model was tried.

This is a rule, not a prediction: nothing here was calibrated on outcomes of RL.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from extrabitter.params import GrpoParameters, StrictModel
from extrabitter.statistics import Interval

COMPETENT = 0.98  # of steps right and of completions well formed, as the bars of a base ask for
TRUE_VERDICTS = 0.95  # likewise
COMPLETIONS_PER_STEP: int = GrpoParameters.model_fields["per_device_train_batch_size"].default
CONDITION = "verification_backtracking"
# As in profiles/reference.yaml, which a test holds them to.
NUM_DOCUMENTS = 25_600
NUM_STEPS = 800
BATCH_SIZE = 32
LEARNING_RATE = 0.003


class Advice(StrictModel):
    """What to do before RL, which priming and how much of it (empty and 0: none), and why."""

    verdict: Literal["ready", "prime", "train the base"]
    condition: str = Field("", description="a key of priming.CONDITIONS, or empty")
    # The names of the stage's parameters.
    num_documents: int = 0
    num_steps: int = 0
    per_device_train_batch_size: int = 0
    learning_rate: float = 0.0
    reason: str


def advise(
    frac_right_steps: float,
    frac_well_formed: float,
    search_probability: float,
    search_advantage: Interval,
    verdict_accuracy: float,
) -> Advice:
    """Apply the rule to measured shares; NaN stands for what could not be measured, and counts as not reached."""
    if not (frac_right_steps >= COMPETENT and frac_well_formed >= COMPETENT):
        return Advice(
            verdict="train the base",
            reason=f"{_share(frac_right_steps)} of its steps are right, {_share(frac_well_formed)} of its completions "
            f"well formed; both have to reach {_share(COMPETENT)}",
        )
    expected = search_probability * COMPLETIONS_PER_STEP
    if not expected >= 1:
        return _prime(
            f"a step of {COMPLETIONS_PER_STEP} completions holds {expected:.2g} that search: too few to be found"
        )
    if not search_advantage.lower > 0:
        verdicts = (
            f"{_share(verdict_accuracy)} of its verdicts are true, and {_share(TRUE_VERDICTS)} have to be"
            if not verdict_accuracy >= TRUE_VERDICTS
            else "its verdicts are true, so it searches too briefly or guesses too badly"
        )
        return _prime(f"searching gains {_points(search_advantage)}: not surely a gain; {verdicts}")
    return Advice(
        verdict="ready",
        reason=f"about {expected:.3g} of {COMPLETIONS_PER_STEP} completions search, and searching gains "
        f"{_points(search_advantage)}",
    )


def _prime(reason: str) -> Advice:
    return Advice(
        verdict="prime",
        condition=CONDITION,
        num_documents=NUM_DOCUMENTS,
        num_steps=NUM_STEPS,
        per_device_train_batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        reason=reason,
    )


def _share(value: float) -> str:
    return f"{100 * value:.3g} %" if value == value else "an unmeasured share"  # NaN differs from itself


def _points(gain: Interval) -> str:
    if gain.value != gain.value:
        return "an unmeasured number of points"
    return f"{100 * gain.value:+.1f} points ({100 * gain.lower:+.1f} to {100 * gain.upper:+.1f})"
