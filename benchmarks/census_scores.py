"""How well the census of behaviours in free text agrees with labels: precision, recall and F1, with intervals.

    python benchmarks/census_scores.py

writes `scores.csv` beside the labelled texts anew; how these were made and labelled is in their README.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from extrabitter.digests import REPOSITORY
from extrabitter.seeding import derive_seed
from extrabitter.statistics import bootstrap_interval, wilson_interval
from extrabitter.tasks import BEHAVIOURS, load_task

TASK = "countdown"  # whose problems the texts are on
FOLDER = REPOSITORY / "tests" / "data" / "census"
SCORES = "scores.csv"
SETS = {"development": "development.yaml", "first test": "first_test.yaml", "test": "test.yaml"}
ASKED = (*BEHAVIOURS, "verification or backtracking")
COLUMNS = ("set", "behaviour", "measure", "value", "lower", "upper", "count")


class LabelledText(NamedTuple):
    """A text on a problem, and the behaviours it shows by its labels."""

    writer: str
    problem: str
    text: str
    shows: frozenset[str]


def load_labelled(path: Path) -> list[LabelledText]:
    """Read labelled texts; ValueError names an entry whose labels are no behaviours."""
    texts = []
    for place, entry in enumerate(yaml.safe_load(path.read_text(encoding="utf-8"))):
        if unknown := set(entry["shows"]) - set(BEHAVIOURS):
            raise ValueError(f"{path.name}: entry {place} shows {', '.join(sorted(unknown))}, no behaviours")
        problem = f"{'-'.join(map(str, sorted(entry['numbers'])))}:{entry['target']}"
        texts.append(LabelledText(entry["writer"], problem, entry["text"], frozenset(entry["shows"])))
    return texts


def score(shown: NDArray[np.bool_], found: NDArray[np.bool_], seed: int = 0) -> pd.DataFrame:
    """Score what was found in texts against what they show, (N,) each: rows precision, recall (Wilson), F1 (bootstrap).

    A measure without denominator is NaN: a detector that finds nothing has no precision.
    """
    both = int((shown & found).sum())
    rng = np.random.default_rng(seed)
    intervals = {
        "precision": (wilson_interval(both, int(found.sum())), int(found.sum())),
        "recall": (wilson_interval(both, int(shown.sum())), int(shown.sum())),
        "F1": (bootstrap_interval(np.stack([shown, found], axis=1).astype(float), rng, _f1), len(shown)),
    }
    rows = [(measure, *interval, count) for measure, (interval, count) in intervals.items()]
    return pd.DataFrame(rows, columns=list(COLUMNS[2:]))


def _f1(pairs: NDArray[np.float64]) -> float:
    shown, found = pairs[:, 0] > 0, pairs[:, 1] > 0
    total = shown.sum() + found.sum()
    return float(2 * (shown & found).sum() / total) if total else float("nan")


def scores_table() -> pd.DataFrame:
    """Score every behaviour that the census of the task's English finds, on every set; columns as in COLUMNS."""
    task, tables = load_task(TASK), []
    wording = task.english("chat")
    assert wording is not None
    for name, file in SETS.items():
        texts = load_labelled(FOLDER / file)
        traces = [wording.parse(text.text, task.read_problem(text.problem)) for text in texts]
        everything = [{use.behaviour for use in trace.uses} for trace in traces]
        for behaviour in ASKED:
            parts = set(behaviour.split(" or "))
            shown = np.array([bool(parts & text.shows) for text in texts])
            found = np.array([bool(parts & each) for each in everything])
            table = score(shown, found, derive_seed(0, "census scores", "census", behaviour))
            tables.append(table.assign(set=name, behaviour=behaviour))
    return pd.concat(tables, ignore_index=True)[list(COLUMNS)]


if __name__ == "__main__":
    scores_table().to_csv(FOLDER / SCORES, index=False, float_format="%.6f")
    print(pd.read_csv(FOLDER / SCORES).to_string(index=False))
