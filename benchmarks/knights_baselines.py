"""What is cheap in Knights & Knaves: how often answers come out right that derive nothing.

A direct answer must not be cheap, or a base that never derives could learn it by luck. Each rule is fitted on training
puzzles and tried on test ones, whose structures it has not seen; all roles of a puzzle have to be right.

    python benchmarks/knights_baselines.py > results/knights_baselines.csv      a minute
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from math import log

import pandas as pd

from extrabitter.seeding import derive_seed
from extrabitter.statistics import wilson_interval
from extrabitter.tasks.knights import Knights
from extrabitter.tasks.knights.problems import NAMES, Problem

NUM_ANSWERS = (1, 10)  # distinct ones that an enumerator with a checker tries
Features = Callable[[Problem, str], list[str]]


def place(problem: Problem, person: str) -> list[str]:
    """Return where a person speaks."""
    return [str(problem.people.index(person))]


def own_statement(problem: Problem, person: str) -> list[str]:
    """Return the kind of what a person says."""
    statement = next(s for s in problem.statements if s.speaker == person)
    return [statement.other if statement.relation == "is" else statement.relation]


def pairs(problem: Problem, person: str) -> list[str]:
    """Return each pair of a person's own statement and another, names aside."""
    own = next(s for s in problem.statements if s.speaker == person)
    island = next(island for island in problem.islands if own in island)
    found = []
    for other in island:
        words = f"{own} ; {other}".split()
        names = dict.fromkeys(word for word in words if word in NAMES)
        new = dict(zip(names, NAMES, strict=False))
        found.append(" ".join(new.get(word, word) for word in words))
    return found


RULES: dict[str, Features] = {"constant": place, "own statement": own_statement, "pairs of statements": pairs}


def naive_bayes(train: Sequence[Problem], test: Sequence[Problem], features: Features) -> int:
    """Return in how many test problems everybody's likelier role, by independent features, is the right one."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for problem in train:
        for person, role in problem.solutions[0].items():
            for feature in features(problem, person):
                counts[feature][role] += 1

    def guess(problem: Problem, person: str) -> str:
        seen = [counts[feature] for feature in features(problem, person)]
        odds = sum(log((each["knight"] + 1) / (each["knave"] + 1)) for each in seen)
        return "knight" if odds > 0 else "knave"

    return sum(
        {name: guess(problem, name) for name in problem.people} in problem.solutions for problem in test
    )


def baselines(bands: Sequence[str], num_problems: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Return how often cheap answers are right: columns band, rule, value, lower, upper (95 %)."""
    rows = []
    for band in bands:
        train = Knights().problems("train", 2 * num_problems, derive_seed(seed, "train"), band)
        test = Knights().problems("test", num_problems, derive_seed(seed, "test"), band)
        sizes = [2 ** len(problem.people) for problem in test]
        for tried in NUM_ANSWERS:
            value = sum(min(1.0, tried / size) for size in sizes) / len(sizes)
            name = "blind" if tried == 1 else f"{tried} distinct answers and a checker"
            rows.append({"band": band, "rule": name, "value": value, "lower": value, "upper": value})
        for name, features in RULES.items():
            interval = wilson_interval(naive_bayes(train, test, features), len(test))
            rows.append({"band": band, "rule": name, **interval._asdict()})
    return pd.DataFrame(rows)


if __name__ == "__main__":
    baselines(["people4", "people5", "islands44"]).round(6).to_csv(sys.stdout, index=False)
