"""The ledger of problems kept, gained and lost agrees with counting by hand, and its net with pass@k."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from extrabitter import ledger
from extrabitter.metrics import pass_at_k


def samples(correct: dict[str, str], seed: int = 0) -> pd.DataFrame:
    """Rows of table `completions`: per problem a string of 1 (right) and 0, one letter a sample."""
    return pd.DataFrame(
        [
            {"seed": seed, "problem": problem, "sample": index, "correct": mark == "1"}
            for problem, marks in correct.items()
            for index, mark in enumerate(marks)
        ]
    )


def test_each_problem_stands_on_one_side() -> None:
    before = ledger.solved_within(samples({"a": "01", "b": "00", "c": "10", "d": "00"}), 2)
    after = ledger.solved_within(samples({"a": "10", "b": "01", "c": "00", "d": "00"}), 2)
    (row,) = ledger.ledger(before, after).to_dict("records")
    assert row == {"seed": 0, "kept": 0.25, "gained": 0.25, "lost": 0.25, "never": 0.25, "net": 0.0}


def test_only_the_samples_asked_for_count() -> None:
    found = samples({"a": "0010", "b": "1000"})
    assert ledger.solved_within(found, 2).set_index("problem")["solved"].to_dict() == {"a": False, "b": True}
    later = ledger.solved_within(found, 2, skip=2).set_index("problem")["solved"].to_dict()
    assert later == {"a": True, "b": False}
    for k, skip in ((5, 0), (3, 2), (1, 4)):
        with pytest.raises(ValueError, match=f"k: {k} samples from index {skip}"):
            ledger.solved_within(found, k, skip)
    assert ledger.solved_within(found.iloc[:0], 4).empty


def test_problems_and_seeds_of_one_side_only_are_left_out() -> None:
    before = ledger.solved_within(pd.concat([samples({"a": "1", "b": "0"}), samples({"a": "1"}, seed=1)]), 1)
    after = ledger.solved_within(samples({"b": "1", "c": "1"}), 1)
    shares = ledger.ledger(before, after)
    assert shares["seed"].tolist() == [0] and shares["gained"].tolist() == [1.0]


def test_the_net_is_the_difference_of_unbiased_pass_at_k_in_the_mean() -> None:
    rng = np.random.default_rng(5)
    k, chances = 4, {"before": rng.uniform(0, 0.4, 400), "after": rng.uniform(0.1, 0.6, 400)}
    marks, curve = {}, {}
    for name, chance in chances.items():
        drawn = rng.random((400, 32)) < chance[:, None]
        texts = {str(i): "".join("01"[int(hit)] for hit in row) for i, row in enumerate(drawn)}
        marks[name] = ledger.solved_within(samples(texts), k)
        curve[name] = np.mean([pass_at_k(32, int(row.sum()), k) for row in drawn])
    net = ledger.of_net(marks["before"], marks["after"])
    assert net.lower < curve["after"] - curve["before"] < net.upper
    assert net.value == pytest.approx(ledger.ledger(marks["before"], marks["after"])["net"].item())


def test_seeds_are_what_the_net_varies_over() -> None:
    before = pd.concat([samples({"a": "0", "b": "0"}, seed) for seed in range(3)])
    after = pd.concat(
        [samples({"a": "1", "b": mark}, seed) for seed, mark in enumerate("001")], ignore_index=True
    )
    net = ledger.of_net(ledger.solved_within(before, 1), ledger.solved_within(after, 1))
    assert net.num_seeds == 3 and net.value == pytest.approx(2 / 3)


def test_the_largest_k_is_that_of_the_poorest_problem_of_the_poorest_arm() -> None:
    table = pd.concat(
        [samples({"a": "000", "b": "00"}).assign(arm="x"), samples({"a": "0000"}).assign(arm="y")]
    )
    assert ledger.largest_k(table, ["x", "y"]) == 2 and ledger.largest_k(table, ["y"]) == 4
    assert ledger.largest_k(table, ["x", "z"]) == 0


def test_first_steps_are_counted_by_how_they_are_written() -> None:
    texts = ["9 + 7 = 16 , 16 - 8 = 8 answer", "9 + 7 = 16 check 16 no", "7 + 9 = 16", "", "8 * 2 = 16"]
    rows = [{"seed": 0, "problem": "a", "sample": i, "completion": text} for i, text in enumerate(texts)]
    (found,) = ledger.first_steps(pd.DataFrame(rows), 4).to_dict("records")
    assert found["distinct"] == 3 and found["commonest"] == 0.5
    assert found["effective"] == pytest.approx(np.exp(0.5 * np.log(2) + 2 * 0.25 * np.log(4)))
