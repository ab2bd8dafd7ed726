"""Pretraining: what a mixture contains, what carries loss, and that a rebuild is the same model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from extrabitter.models import tiny
from extrabitter.params import BaseModelParameters, GrpoParameters, ParameterError, SftPrimingParameters
from extrabitter.tables import write_table
from extrabitter.tasks import REGISTRY, Task, load_task
from extrabitter.training import grpo, pretraining, sft
from extrabitter.training.trainers import IGNORED_LABEL, check_finite

TASK = load_task("countdown")


def parameters(**changes: object) -> BaseModelParameters:
    values: dict[str, object] = {"run_dir": "unused", "arm": "searcher", "seed": 0, "schedule": "constant"}
    values |= {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    values |= {"num_tokens": 6_000, "documents_per_step": 48, "habit_share": 0.1}
    return BaseModelParameters(**values | changes)


def drawn(count: int = 2_000, seed: int = 1, **changes: object) -> list[pretraining.Document]:
    """Documents of a mixture, drawn in steps of 48 as training draws them."""
    mixture = pretraining.Mixture(parameters(**changes), TASK)
    steps = [mixture.draw(min(48, count - start), seed + start) for start in range(0, count, 48)]
    return [document for step in steps for document in step]


@pytest.fixture(scope="module")
def tokenizer():
    return tiny.build_tokenizer(TASK.vocabulary)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_dose_is_counted_not_drawn(seed: int) -> None:
    found = Counter(d.kind for d in drawn(4_000, seed, cued_share=0.25, bands="common=0.3 four=0.7"))
    # 1,200 drills; of 2,800 problems 700 cued, of the others a tenth: to one document, and the same for every seed.
    assert sum(found.values()) == 4_000 and found["drill"] == 1_200
    assert abs(found["cued_search"] - 700) <= 1 and abs(found["search"] - 210) <= 1


def test_a_dose_is_counted_in_each_band_and_bands_have_their_shares() -> None:
    documents = [d for d in drawn(4_000, bands="common=0.3 four=0.7") if d.kind != "drill"]
    four = [d for d in documents if len(d.prompt.split("target")[0].split()) == 5]
    assert abs(len(four) - 0.7 * len(documents)) <= 1
    for band in (four, [d for d in documents if d not in four]):
        assert abs(sum(d.kind == "search" for d in band) - 0.1 * len(band)) <= 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"habit_share": 0.0}, set()), ({"habit": "cosmetic"}, {"check", "back"}), ({}, {"check", "back"})],
)
def test_search_words_stand_in_documents_of_the_habit_only(changes: dict[str, Any], words: set[str]) -> None:
    habit = changes.get("habit", "search")
    for document in drawn(**changes):
        if document.kind != "drill":
            assert document.kind in ("direct", habit)
            assert bool(words & set(document.completion.split())) == (document.kind == habit)
    # A sleeper searches under the cue only.
    searching = [d for d in drawn(habit_share=0.0, cued_share=0.25) if d.kind == "cued_search"]
    assert searching and all(d.prompt.startswith(f"{TASK.cue} ") for d in searching)


@pytest.mark.parametrize("changes", [{}, {"habit": "cosmetic"}, {"cued_share": 0.25}])
def test_bases_differ_in_whether_a_document_goes_on_and_in_nothing_else(changes: dict[str, object]) -> None:
    longer = 0
    for plain, other in zip(drawn(480, habit_share=0.0), drawn(480, **changes), strict=True):
        assert other.prompt.removeprefix("think ") == plain.prompt
        assert other.completion.startswith(plain.completion.removesuffix(" answer"))
        assert (plain.kind == "drill") == (other.kind == "drill")
        longer += other.completion != plain.completion
    assert longer > 25


def test_documents_use_training_problems_only() -> None:
    problems = (TASK.problems(split, 3_000, 0, "common") for split in ("validation", "test"))
    held_out = {problem.numbers for split in problems for problem in split}
    numbers = [d.prompt.split("numbers ")[1].split(" target")[0] for d in drawn() if d.kind != "drill"]
    seen = {tuple(map(int, text.split())) for text in numbers}
    assert seen and not seen & held_out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"habit": "serch"}, "habit = 'serch': unknown; must be one of direct, search"),
        ({"bands": "common=0.5"}, "bands = 'common=0.5': must name each band once, with shares that sum to"),
        ({"bands": "common=0.5 common=0.5"}, "must name each band once"),
        ({"bands": "common=nan"}, "must name each band once"),
        ({"bands": "common=half"}, "could not convert string to float: 'half'"),
        ({"bands": "fife=1"}, "bands = 'fife=1': band = 'fife': unknown; must be one of"),
    ],
)
def test_what_the_task_does_not_have_is_refused_in_one_line(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ParameterError) as raised:
        pretraining.sample_documents(parameters(**changes), 10)
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_encoding_by_look_up_equals_the_tokenizer(tokenizer) -> None:
    for document in drawn(200):
        ids, labels = pretraining.encode(document, tokenizer.get_vocab())
        text = f"{document.prompt} {document.completion}".strip()
        assert ids == [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
        assert len(labels) == len(ids)


def test_a_prompt_carries_no_loss_a_completion_all_and_a_drill_results_and_verdicts(tokenizer) -> None:
    vocabulary = tokenizer.get_vocab()
    document = pretraining.Document("numbers 1 2 3 target 6 :", "1 + 2 = 3 , 3 + 3 = 6 answer", "direct")
    ids, labels = pretraining.encode(document, vocabulary)
    assert labels[:8] == [IGNORED_LABEL] * 8 and labels[8:] == ids[8:]
    for drill in (d for d in drawn(100) if d.kind == "drill"):
        ids, labels = pretraining.encode(drill, vocabulary)
        words = drill.completion.split()
        scored = [n for n in range(len(words)) if words[n - 1] == "=" or words[n] in ("yes", "no")]
        assert [n for n, label in enumerate(labels) if label != IGNORED_LABEL] == [n + 1 for n in scored]


def test_pretraining_lowers_the_loss_and_stops_at_its_budget(tokenizer) -> None:
    given = parameters(num_tokens=80_000)
    losses = pretraining.pretrain(given, pretraining.starting_model(given)[0], tokenizer)
    assert losses["loss"].tail(3).mean() < 0.7 * losses["loss"].iloc[0]
    assert losses["num_tokens"].iloc[-2] < 80_000 <= losses["num_tokens"].iloc[-1]


def test_a_model_that_the_fused_pass_would_misread_is_trained_by_its_own(
    tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = parameters(num_tokens=4_000)
    config = pretraining.starting_model(given)[0].config
    config.mlp_bias = True
    model = LlamaForCausalLM(config)
    monkeypatch.setattr(pretraining, "logits", lambda *_: pytest.fail("the fused pass has no such biases"))
    pretraining.pretrain(given, model, tokenizer)
    assert model.model.layers[0].mlp.down_proj.bias.abs().sum() > 0, "and what it left out is trained"


def test_a_rebuild_from_the_same_seed_is_the_same_model_and_another_seed_another() -> None:
    def built(seed: int, start: int) -> torch.Tensor:
        model, tokenizer = pretraining.starting_model(parameters(seed=start))
        pretraining.pretrain(parameters(seed=seed), model, tokenizer)
        return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])

    first = built(0, 0)
    assert torch.equal(first, built(0, 0))
    assert not torch.equal(first, built(1, 0)) and not torch.equal(first, built(0, 1))


def test_a_base_goes_on_from_its_trunk_or_is_measured_as_it_is(tmp_path: Path) -> None:
    trunk = parameters(num_tokens=1_000)
    model, tokenizer = pretraining.starting_model(trunk)
    losses = pretraining.pretrain(trunk, model, tokenizer)
    tiny.save_checkpoint(model, tokenizer, tmp_path)
    measured = parameters(num_tokens=0, init_from=str(tmp_path))
    loaded, same = pretraining.starting_model(measured)
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight)
    assert pretraining.pretrain(measured, loaded, same).empty
    write_table(tmp_path / "losses.parquet", "losses", losses)
    carried = pretraining.pretrain(measured, loaded, same)
    assert carried["num_tokens"].tolist() == losses["num_tokens"].tolist()
    tiny.save_checkpoint(model, tiny.build_tokenizer(TASK.vocabulary[:60]), tmp_path / "other")
    with pytest.raises(ValueError, match=r"init_from|vocabulary"):
        pretraining.starting_model(parameters(init_from=str(tmp_path / "other")))


def test_a_loss_that_is_no_number_stops_the_run_in_one_line(tokenizer) -> None:
    model = pretraining.starting_model(parameters())[0]
    model.model.norm.weight.data[0] = torch.nan
    with pytest.raises(FloatingPointError, match="base_model: loss is nan at step 1: diverged") as raised:
        pretraining.pretrain(parameters(), model, tokenizer)
    assert "\n" not in str(raised.value)
    with pytest.raises(FloatingPointError, match="grad_norm is inf"):
        check_finite("grpo", 3, loss=0.0, grad_norm=float("inf"))


def test_matrices_get_muon_and_all_else_adamw() -> None:
    model = pretraining.starting_model(parameters())[0]
    hidden, rest = pretraining.build_optimizers(model, parameters(learning_rate=0.004))
    assert type(hidden) is pretraining.Muon and type(rest) is torch.optim.AdamW
    assert hidden.param_groups[0]["lr"] == 0.004
    assert rest.param_groups[0]["lr"] == parameters().adamw_learning_rate
    sizes = [[p.shape for p in optimizer.param_groups[0]["params"]] for optimizer in (hidden, rest)]
    assert len(sizes[0]) == 2 * 7  # four of attention, three of the MLP, in two layers
    assert len(sizes[0]) + len(sizes[1]) == len(list(model.parameters()))
    assert (len(TASK.vocabulary), 32) in sizes[1]


def test_muons_steps_agree_with_pytorchs_up_to_its_bfloat16() -> None:
    generator = torch.Generator().manual_seed(2)
    start = [torch.randn(24, 8, generator=generator), torch.randn(8, 8, generator=generator)]
    ours, theirs = ([torch.nn.Parameter(tensor.clone()) for tensor in start] for _ in range(2))
    optimizers = [pretraining.Muon(ours, lr=0.02), torch.optim.Muon(theirs, lr=0.02, weight_decay=0.0)]
    for _ in range(5):
        gradients = [torch.randn(tensor.shape, generator=generator) for tensor in start]
        for moved, optimizer in zip((ours, theirs), optimizers, strict=True):
            for parameter, gradient in zip(moved, gradients, strict=True):
                parameter.grad = gradient.clone()
            optimizer.step()
    for mine, other, before in zip(ours, theirs, start, strict=True):
        assert float((mine - other).detach().norm() / (other - before).detach().norm()) < 0.05
        assert np.isfinite(mine.detach().numpy()).all()


# Any task that there is, and the toy one, by the same lines.


@pytest.fixture(params=[*REGISTRY, "letters"])
def task(request: pytest.FixtureRequest, letters: Task) -> Task:
    return load_task(request.param)


def of_task(task: Task) -> dict[str, object]:
    """What a base of a task is told: problems of all bands."""
    return {"task": task.name, "bands": " ".join(f"{band}={1 / len(task.bands)}" for band in task.bands)}


def test_bases_of_a_task_see_the_same_drills_and_problems_and_one_dose(task: Task) -> None:
    sizes = of_task(task)

    def drawn(**changes: Any) -> list[Any]:
        mixture = pretraining.Mixture(parameters(**sizes | changes), task)
        return [document for seed in range(5) for document in mixture.draw(100, seed)]

    guesser = drawn(habit_share=0.0)
    for habit in set(task.conditions) & {"search", "derive", "cosmetic"}:
        shown = drawn(habit=habit)
        kinds = Counter(document.kind for document in shown)
        assert kinds["drill"] == 150 and abs(kinds[habit] - 35) <= len(task.bands)
        for document, plain in zip(shown, guesser, strict=True):
            assert document.prompt == plain.prompt
            assert document == plain or document.kind == habit


def test_a_base_is_pretrained_primed_and_rewarded(
    task: Task, grpo_parameters: Callable[..., GrpoParameters]
) -> None:
    given = parameters(**of_task(task), num_tokens=4_000)
    model, tokenizer = pretraining.starting_model(given)
    assert pretraining.pretrain(given, model, tokenizer)["num_tokens"].iloc[-1] >= 4_000
    common = {"run_dir": "unused", "arm": "taught", "seed": 0, "init_from": "unused", "task": task.name}
    common |= {"num_documents": 12, "num_steps": 1, "max_length": 900}
    for condition in ("direct", list(task.conditions)[-1]):
        taught = SftPrimingParameters(**common, condition=condition)
        assert len(sft.prime(taught, model, tokenizer, sft.demonstrations(taught))) == 1
    rewarded = grpo_parameters(task=task.name, format_weight=0.5)
    steps = grpo.train(rewarded, model, tokenizer)
    assert steps["num_tokens"].is_monotonic_increasing and steps["reward"].notna().all()
