"""SFT priming: what is learnt, what is not, and that a run repeats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from extrabitter.params import SftPrimingParameters

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
    from extrabitter.params import SftPrimingParameters

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
    from extrabitter.training import sft
    from extrabitter.models.rollouts import SamplingParameters, generate

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
    from extrabitter.training import sft

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
    from extrabitter.training import sft

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

    from extrabitter.training import sft
    from extrabitter.models.tiny import load_checkpoint, save_checkpoint

    model = build_tiny_model()
    sft.prime(sft_parameters(num_steps=2), model, tiny_tokenizer, DOCUMENTS)
    save_checkpoint(model, tiny_tokenizer, tmp_path)
    loaded, tokenizer = load_checkpoint(tmp_path)
    assert type(model).forward is type(loaded).forward
    assert "forward" not in model.__dict__
    ids = torch.tensor([tokenizer(DOCUMENTS[0]["prompt"])["input_ids"]])
    assert torch.equal(model(ids).logits, loaded(ids).logits)


def test_trimmed_batches_have_the_gradients_of_trls_own(
    tiny_tokenizer: PreTrainedTokenizerFast,
    build_tiny_model: Callable[..., PreTrainedModel],
    sft_parameters: Callable[..., SftPrimingParameters],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import datasets
    import torch
    from trl import SFTTrainer

    from extrabitter.training import sft

    monkeypatch.setattr(sft, "TOKENS_PER_MICRO_BATCH", 40)
    repeats = [1, 1, 3, 1, 2, 4, 1, 1]
    records = [
        {"prompt": document["prompt"], "completion": " " + " , ".join([document["completion"]] * repeat)}
        for document, repeat in zip(DOCUMENTS, repeats, strict=False)
    ]
    gradients, losses, num_calls = [], [], []
    for trainer_class in (SFTTrainer, sft.TrimmedSFTTrainer):
        model = build_tiny_model()
        trainer = trainer_class(
            model=model,
            args=sft.build_config(sft_parameters(num_steps=1, max_length=256), str(tmp_path)),
            train_dataset=datasets.Dataset.from_list(records),
            processing_class=tiny_tokenizer,
        )
        batch = next(iter(trainer.get_train_dataloader()))
        num_items = (batch["labels"] != sft.IGNORED_LABEL).sum()
        model.train()
        loss = trainer.compute_loss(model, dict(batch), num_items_in_batch=num_items)
        loss.backward()
        losses.append(float(loss.detach()))
        num_calls.append(len(trainer._metrics["train"]["entropy"]))
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert num_calls[0] == 1
    assert num_calls[1] > 3
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert float((gradients[1] - gradients[0]).norm() / gradients[0].norm()) < 1e-5


def test_micro_batches_hold_every_row_once_without_common_padding() -> None:
    import torch

    from extrabitter.training import sft

    lengths = torch.tensor([3, 9, 1, 9, 4, 2])
    mask = (torch.arange(9) < lengths[:, None]).long()
    inputs = {"input_ids": mask * torch.arange(1, 7)[:, None], "attention_mask": mask}
    batches = list(sft.micro_batches(inputs, max_tokens=10))
    assert sorted(int(row[0]) for batch in batches for row in batch["input_ids"]) == [1, 2, 3, 4, 5, 6]
    assert all(
        int(batch["attention_mask"].sum(dim=1).max()) == batch["input_ids"].shape[1] for batch in batches
    )
    assert all(batch["input_ids"].numel() <= 10 for batch in batches)
