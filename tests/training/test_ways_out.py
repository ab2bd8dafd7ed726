"""What arms that get a base out are paid besides, and what is put into their samples."""

from __future__ import annotations

from math import comb
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extrabitter.params import GrpoParameters, ParameterError, validate
from extrabitter.tasks import load_task
from extrabitter.training import exploration, rewards

TASK = load_task("countdown")
PROBLEM = TASK.read_problem("3-8-9:33")
GUESS = "3 * 8 = 24 , 24 + 9 = 33"
SEARCH = f"9 + 8 = 17 , 17 + 3 = 20 check 33 no back 3 8 9 target 33 : {GUESS} check 33 yes"


def asked(**changes: Any) -> GrpoParameters:
    return GrpoParameters(**{"run_dir": "unused", "arm": "test", "seed": 0, "init_from": "unused", **changes})


def paid(parameters: GrpoParameters, texts: list[str]) -> list[list[float]]:
    traces = [TASK.parse(f"{text} answer", PROBLEM) for text in texts]
    return [reward(texts, traces=traces, trainer_state=None) for reward, _ in rewards.rewards_of(parameters)]


@given(st.lists(st.booleans(), min_size=8, max_size=8), st.integers(1, 8))
def test_what_a_group_is_paid_together_is_its_chance_with_k_tries(right: list[bool], k: int) -> None:
    own = rewards.together(lambda **columns: [float(each) for each in right], asked(pass_at=k))
    values, wrong = own(), 8 - sum(right)
    assert np.mean(values) == pytest.approx(1 - comb(wrong, k) / comb(8, k))
    assert all(value == 1 for value, each in zip(values, right, strict=True) if each)


def test_verdicts_are_paid_once_and_only_if_all_are_true() -> None:
    false = SEARCH.replace("check 33 no", "check 33 yes")
    right, bonus = paid(asked(bonus="verdicts"), [SEARCH, GUESS, false])
    assert right == [1.0, 1.0, 1.0] and bonus == [1.0, 0.0, 0.0]


def test_what_was_seen_often_is_no_longer_new_and_each_run_counts_anew() -> None:
    reward = rewards.novelty_reward()
    assert reward(["a b", "b a", "c"]) == [2**-0.5, 2**-0.5, 1.0]
    assert reward(["a b"]) == [3**-0.5] and rewards.novelty_reward()(["a b"]) == [1.0]
    names = [own.__name__ for own, _ in rewards.rewards_of(asked(bonus="novelty", format_weight=0.1))]
    assert names == ["correct_reward", "format_reward", "novelty"]


def begun(hint: str, step: int, drawn: str = f"{GUESS} answer") -> list[str]:
    given = asked(hint=hint, num_steps=11, num_generations=4), TASK, {"it": PROBLEM}, ["it"] * 8, step
    return exploration.beginnings(*given, lambda of: [drawn] * len(of))


def test_an_opening_is_put_behind_every_second_first_attempt() -> None:
    assert begun("opening", 0) == ["", f"{GUESS} check"] * 4
    assert begun("opening", 0, drawn="3 * 8 =") == [""] * 8


def test_a_prefix_is_a_written_search_and_shrinks_to_nothing() -> None:
    first, middle, last = (begun("prefix", step) for step in (0, 5, 10))
    whole = [text.removesuffix(" <eos>") for text in first]
    assert not set(first) & set(whole)
    assert all(TASK.verify(own, PROBLEM).correct for own in whole)
    assert last == [""] * 8
    lengths = [sum(len(text.split()) for text in each) for each in (first, middle)]
    assert lengths[1] == pytest.approx(lengths[0] / 2, rel=0.3)
    assert begun("prefix", 5) == middle


def test_a_trace_is_shown_once_in_a_group() -> None:
    shown = begun("trace", 3)
    assert [bool(text) for text in shown] == [True, False, False, False] * 2
    assert "check" in shown[0] and TASK.verify(shown[0].removesuffix(" <eos>"), PROBLEM).correct


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hint": "prefix", "rollouts": "generate"}, "hint = 'prefix': needs rollouts 'batched'"),
        ({"pass_at": 9}, "pass_at = 9: must be at most num_generations"),
        ({"bonus": "verdicts", "prompt": "plain"}, "bonus = 'verdicts': only with prompt 'grammar'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    given_values = {"run_dir": "unused", "arm": "test", "seed": 0, "init_from": "unused", **changes}
    with pytest.raises(ParameterError, match=message.replace("(", r"\\(")):
        validate(GrpoParameters, given_values, "grpo")


@pytest.mark.parametrize("hint", ["opening", "prefix", "trace"])
def test_a_run_learns_from_what_is_put_in(hint: str, grpo_parameters: Any) -> None:
    from extrabitter.models.tiny import build_model, build_tokenizer, set_up_process
    from extrabitter.training import grpo

    set_up_process(1)
    tokenizer = build_tokenizer(TASK.vocabulary)
    model = build_model("llama", len(tokenizer), 32, 1, 2, 64, seed=0)
    parameters = grpo_parameters(hint=hint, num_steps=3, max_completion_length=80)
    steps = grpo.train(parameters, model, tokenizer)
    if hint == "opening":  # a random model finishes no attempt
        assert steps["correct_reward"].max() == 0
    else:
        assert steps["correct_reward"].iloc[0] > 0 and steps["frac_searches"].iloc[0] > 0
    assert steps["mean_completion_tokens"].max() <= 80
