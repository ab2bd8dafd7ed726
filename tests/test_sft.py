"""SFT priming: what is learnt, what is not, and that a run repeats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from extrabitter.config import SftPrimingParameters

DOCUMENTS = [
    {
        "prompt": f"numbers 6 7 {number} target 8 :",
        "completion": f"{number} - 7 = 2 , 6 + 2 = 8 check 8 yes answer",
        "numbers": [6, 7, number],
        "target": 8,
    }
    for number in range(1, 16)
]


@pytest.fixture
def sft_parameters() -> Callable[..., SftPrimingParameters]:
    """Runs of a few steps."""
    from extrabitter.config import SftPrimingParameters

    def build(**changes: Any) -> SftPrimingParameters:
        values = {"num_steps": 20, "per_device_train_batch_size": 8, "learning_rate": 1e-2, "max_length": 64}
        identity = {
            "run_dir": "unused",
            "arm": "test",
            "seed": 0,
            "init_from": "unused",
            "condition": "verification",
        }
        return SftPrimingParameters(**{**identity, **values, **changes})

    return build


def test_priming_teaches_the_completions_and_ends_them(
    tiny_tokenizer: PreTrainedTokenizerFast,
    build_tiny_model: Callable[..., PreTrainedModel],
    sft_parameters: Callable[..., SftPrimingParameters],
) -> None:
    from extrabitter import sft
    from extrabitter.rollouts import SamplingParameters, generate

    model = build_tiny_model()
    losses = sft.prime(sft_parameters(num_steps=60), model, tiny_tokenizer, DOCUMENTS)
    assert losses["step"].tolist() == list(range(1, 61))
    assert losses["loss"].iloc[-1] < 0.5 * losses["loss"].iloc[0]
    assert losses["learning_rate"].is_monotonic_decreasing
    prompt = tiny_tokenizer(DOCUMENTS[0]["prompt"])["input_ids"]
    rollouts = generate(
        model, [prompt], 1, SamplingParameters(40, temperature=0), eos_token_id=tiny_tokenizer.eos_token_id
    )
    words = tiny_tokenizer.decode(rollouts.completion_ids[0], skip_special_tokens=True).split()
    assert words[-4:] == ["check", "8", "yes", "answer"]
    assert rollouts.truncated == [False]


def test_the_loss_is_on_the_completion_only_and_no_word_is_lost_at_the_seam(
    tiny_tokenizer: PreTrainedTokenizerFast,
    build_tiny_model: Callable[..., PreTrainedModel],
    sft_parameters: Callable[..., SftPrimingParameters],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from extrabitter import sft

    seen = []
    compute_loss = sft.SFTTrainer.compute_loss

    def spy(self: Any, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        seen.append({key: value.clone() for key, value in inputs.items() if hasattr(value, "clone")})
        return compute_loss(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(sft.SFTTrainer, "compute_loss", spy)
    parameters = sft_parameters(num_steps=1, per_device_train_batch_size=len(DOCUMENTS))
    sft.prime(parameters, build_tiny_model(), tiny_tokenizer, DOCUMENTS)
    expected = set()
    for document in DOCUMENTS:
        prompt = tiny_tokenizer(document["prompt"])["input_ids"]
        completion = tiny_tokenizer(document["completion"], add_special_tokens=False)["input_ids"]
        expected.add((*prompt, *completion, tiny_tokenizer.eos_token_id))
        assert tiny_tokenizer.unk_token_id not in prompt + completion
    rows = seen[0]
    found = {
        tuple(ids[mask.bool()].tolist())
        for ids, mask in zip(rows["input_ids"], rows["attention_mask"], strict=True)
    }
    assert found == expected
    scored = {tuple(labels[labels != -100].tolist()) for labels in rows["labels"]}
    assert scored == {row[len(tiny_tokenizer(DOCUMENTS[0]["prompt"])["input_ids"]) :] for row in expected}


def test_two_runs_with_one_seed_are_identical_and_another_seed_differs(
    tiny_tokenizer: PreTrainedTokenizerFast,
    build_tiny_model: Callable[..., PreTrainedModel],
    sft_parameters: Callable[..., SftPrimingParameters],
) -> None:
    from extrabitter import sft

    runs = [
        sft.prime(sft_parameters(num_steps=4, seed=seed), build_tiny_model(), tiny_tokenizer, DOCUMENTS)
        for seed in (0, 0, 1)
    ]
    columns = ["step", "loss", "learning_rate", "num_tokens"]
    assert runs[0][columns].equals(runs[1][columns])
    assert not runs[0][columns].equals(runs[2][columns])


def test_the_checkpoint_of_a_primed_model_is_that_of_a_plain_model(
    tmp_path: Path,
    tiny_tokenizer: PreTrainedTokenizerFast,
    build_tiny_model: Callable[..., PreTrainedModel],
    sft_parameters: Callable[..., SftPrimingParameters],
) -> None:
    import torch

    from extrabitter import sft
    from extrabitter.models import load_checkpoint, save_checkpoint

    model = build_tiny_model()
    sft.prime(sft_parameters(num_steps=2), model, tiny_tokenizer, DOCUMENTS)
    save_checkpoint(model, tiny_tokenizer, tmp_path)
    loaded, tokenizer = load_checkpoint(tmp_path)
    assert type(model).forward is type(loaded).forward
    assert "forward" not in model.__dict__
    ids = torch.tensor([tokenizer(DOCUMENTS[0]["prompt"])["input_ids"]])
    assert torch.equal(model(ids).logits, loaded(ids).logits)
