"""How well detectors of behaviours in free text agree with labels: precision, recall and F1, with intervals.

`python -m extrabitter.behaviours.agreement` writes `scores.csv` beside the labelled traces anew; how these were made and
labelled is in their README.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import yaml

from extrabitter.tasks.countdown.census import take_census
from extrabitter.statistics import Interval, bootstrap_interval, wilson_interval
from extrabitter.digests import REPOSITORY
from extrabitter.tables import BEHAVIOURS
from extrabitter.behaviours.keywords import count_keywords
from extrabitter.seeding import derive_seed

FOLDER = REPOSITORY / "tests" / "data" / "census"
SCORES = "scores.csv"
SETS = {"development": "development.yaml", "first test": "first_test.yaml", "test": "test.yaml"}
REFLECTION = "verification or backtracking"  # what keywords may be held against
COLUMNS = ("set", "detector", "behaviour", "measure", "value", "lower", "upper", "count")


@dataclass(frozen=True)
class LabelledText:
    """A text on a problem, and the behaviours it shows by its labels."""

    writer: str
    numbers: tuple[int, ...]
    target: int
    text: str
    shows: frozenset[str]


class Detector(NamedTuple):
    """A way to tell whether a text shows a behaviour; `finds` may be asked for `behaviours` only."""

    name: str
    behaviours: tuple[str, ...]
    finds: Callable[[LabelledText, str], bool]


def _census_finds(text: LabelledText, behaviour: str) -> bool:
    census = take_census(text.text, text.numbers, text.target)
    return any(census.shows(part) for part in _parts(behaviour))


def _parts(behaviour: str) -> Sequence[str]:
    return behaviour.split(" or ")


DETECTORS = (
    Detector("census", (*BEHAVIOURS, REFLECTION), _census_finds),
    Detector("keywords", (REFLECTION,), lambda text, _: count_keywords(text.text) > 0),
)


def load_labelled(path: Path) -> list[LabelledText]:
    """Read labelled texts; ValueError names an entry whose labels are no behaviours."""
    texts = []
    for position, entry in enumerate(yaml.safe_load(path.read_text(encoding="utf-8"))):
        unknown = set(entry["shows"]) - set(BEHAVIOURS)
        if unknown:
            raise ValueError(
                f"{path.name}: entry {position} shows {', '.join(sorted(unknown))}, no behaviours"
            )
        texts.append(
            LabelledText(
                entry["writer"],
                tuple(sorted(entry["numbers"])),
                entry["target"],
                entry["text"],
                frozenset(entry["shows"]),
            )
        )
    return texts


def score(
    detector: Detector, behaviour: str, texts: Sequence[LabelledText]
) -> dict[str, tuple[Interval, int]]:
    """Return precision, recall (Wilson) and F1 (bootstrap over texts), each with the texts it is a share of.

    A measure without denominator is NaN: a detector that finds nothing has no precision.
    """
    shown = np.array([any(part in text.shows for part in _parts(behaviour)) for text in texts])
    found = np.array([detector.finds(text, behaviour) for text in texts])
    both = int((shown & found).sum())
    rng = np.random.default_rng(derive_seed(0, "census scores", detector.name, behaviour))
    pairs = np.stack([shown, found], axis=1)
    return {
        "precision": (wilson_interval(both, int(found.sum())), int(found.sum())),
        "recall": (wilson_interval(both, int(shown.sum())), int(shown.sum())),
        "F1": (bootstrap_interval(pairs, rng, _f1), len(texts)),
    }


def _f1(pairs: np.ndarray) -> float:
    shown, found = pairs[:, 0] > 0, pairs[:, 1] > 0
    total = shown.sum() + found.sum()
    return float(2 * (shown & found).sum() / total) if total else float("nan")


def scores_table(folder: Path = FOLDER) -> pd.DataFrame:
    """Score every detector on every behaviour of every set; columns as in COLUMNS."""
    rows = []
    for name, file in SETS.items():
        texts = load_labelled(folder / file)
        for detector in DETECTORS:
            for behaviour in detector.behaviours:
                for measure, (interval, count) in score(detector, behaviour, texts).items():
                    rows.append((name, detector.name, behaviour, measure, *interval, count))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def read_scores(folder: Path = FOLDER) -> pd.DataFrame:
    """Read the published scores."""
    return pd.read_csv(folder / SCORES)


if __name__ == "__main__":
    scores_table().to_csv(FOLDER / SCORES, index=False, float_format="%.6f")
    print(read_scores().to_string(index=False))
