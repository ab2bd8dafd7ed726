"""Training of base models, by demonstration and by reward, on any task."""

from __future__ import annotations

import math

IGNORED_LABEL = -100  # of a token that bears no loss


def check_finite(stage: str, step: int, **values: float) -> None:
    """Raise FloatingPointError with one line where a value is no number: a run that has diverged ends here."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise FloatingPointError(
                f"{stage}: {name} is {value} at step {step}: training has diverged; lower learning_rate"
            )
