"""Rollouts: the distribution of `model.generate`, and every option that the experiments use."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedModel

EOS = 2
BUILDERS = ["llama", "qwen2"]


def _prompts(count: int, shortest: int = 4, longest: int = 10, seed: int = 0) -> list[list[int]]:
    import torch

    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(shortest, longest + 1, (count,), generator=generator).tolist()
    return [[1, *torch.randint(4, 80, (length - 1,), generator=generator).tolist()] for length in lengths]


def _stock_greedy(model: PreTrainedModel, prompts: list[list[int]], length: int) -> list[list[int]]:
    import torch

    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    rows = model.generate(ids, attention_mask=mask, max_new_tokens=length, do_sample=False)[
        :, width:
    ].tolist()
    return [row[: row.index(EOS) + 1] if EOS in row else row for row in rows]


def _with_frequent_eos(model: PreTrainedModel) -> PreTrainedModel:
    """Lengthen the embedding of eos, so that completions end at all ages."""
    model.lm_head.weight.data[EOS] *= 3
    return model


@pytest.mark.parametrize("architecture", BUILDERS)
def test_greedy_completions_are_those_of_generate_on_1000_prompts(
    architecture: str, build_tiny_model: Callable[..., PreTrainedModel]
) -> None:
    from extrabitter.models.rollouts import SamplingParameters, generate

    model = _with_frequent_eos(build_tiny_model(architecture))
    prompts = _prompts(1000)
    rollouts = generate(model, prompts, 1, SamplingParameters(30, temperature=0), end_ids=[EOS])
    assert rollouts.completion_ids == _stock_greedy(model, prompts, 30)
    assert rollouts.truncated == [row[-1] != EOS for row in rollouts.completion_ids]
    assert 0 < sum(rollouts.truncated) < 1000


@pytest.mark.parametrize("family", ["Llama", "Qwen2"])
def test_grouped_queries_are_those_of_generate(family: str) -> None:
    import torch
    import transformers

    from extrabitter.models.rollouts import SamplingParameters, generate

    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(
        vocab_size=83,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        intermediate_size=64,
        initializer_range=0.2,
        eos_token_id=EOS,
        pad_token_id=0,
        rope_theta=100.0,
    )
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    for name, bias in model.named_parameters():  # Qwen2's, which begin at zero
        if name.endswith("bias"):
            torch.nn.init.normal_(bias, std=0.2)
    prompts = _prompts(50)
    rollouts = generate(model, prompts, 1, SamplingParameters(20, temperature=0), end_ids=[EOS])
    assert rollouts.completion_ids == _stock_greedy(model, prompts, 20)


@pytest.mark.parametrize("width", [1, 2, 3, 200])
def test_the_width_of_a_chunk_changes_no_greedy_completion(
    width: int, build_tiny_model: Callable[..., PreTrainedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    from extrabitter.models import decoder
    from extrabitter.models import rollouts

    model = _with_frequent_eos(build_tiny_model())
    sampling = rollouts.SamplingParameters(60, temperature=0)
    prompts = _prompts(60)
    expected = rollouts.generate(model, prompts, 2, sampling, end_ids=[EOS])
    monkeypatch.setattr(decoder, "WIDTH", width)
    found = rollouts.generate(model, prompts, 2, sampling, end_ids=[EOS])
    assert found.completion_ids == expected.completion_ids
    assert found.completion_ids[0] == found.completion_ids[1]


def test_chunks_are_wide_where_the_weights_outgrow_the_processors_cache_and_never_beyond_their_own(
    build_tiny_model: Callable[..., PreTrainedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    from extrabitter.models import decoder

    model = build_tiny_model()
    assert decoder.Decoder(model, 20).width == decoder.WIDTH
    monkeypatch.setattr(decoder, "OUTGROWN", 0)
    assert decoder.Decoder(model, 20).width == decoder.WIDE
    monkeypatch.setattr(decoder, "CACHE_BYTES", 0)
    assert 1 <= decoder.Decoder(model, 2000).width < decoder.WIDE


@pytest.mark.parametrize("architecture", BUILDERS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.6},
        {"top_k": 5},
        {"top_p": 0.7},
        {"min_p": 0.2},
        {"top_k": 20, "top_p": 0.9, "min_p": 0.02},
    ],
    ids=str,
)
def test_sampled_tokens_have_the_frequencies_of_generates_distribution(
    architecture: str, options: dict[str, float], build_tiny_model: Callable[..., PreTrainedModel]
) -> None:
    import torch
    from transformers import GenerationConfig

    from extrabitter.models.rollouts import SamplingParameters, generate

    model, draws = build_tiny_model(architecture), 20_000
    prompt = _prompts(1)[0]
    generator = torch.Generator().manual_seed(1)
    # eos is -1, which no token is: every completion then has its second token.
    rollouts = generate(
        model, [prompt], draws, SamplingParameters(2, **options), end_ids=[], generator=generator
    )
    tokens = torch.tensor(rollouts.completion_ids)  # (N, 2)
    favourite = int(tokens[:, 0].mode().values)
    given_favourite = tokens[tokens[:, 0] == favourite, 1]
    config = GenerationConfig(
        max_new_tokens=1,
        do_sample=True,
        return_dict_in_generate=True,
        output_scores=True,
        **{"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, **options},
    )
    for context, sample in ((prompt, tokens[:, 0]), ([*prompt, favourite], given_favourite)):
        scores = model.generate(torch.tensor([context]), generation_config=config).scores[0][
            0
        ]  # stock, filtered
        probabilities = scores.double().softmax(dim=-1)
        frequencies = torch.bincount(sample, minlength=len(probabilities)) / len(sample)
        standard_error = (probabilities * (1 - probabilities) / len(sample)).sqrt()
        assert ((frequencies - probabilities).abs() <= 4 * standard_error + 1 / len(sample)).all()
        assert (frequencies[probabilities == 0] == 0).all()


def test_log_probabilities_are_those_of_a_forward_pass_over_the_completion(
    build_tiny_model: Callable[..., PreTrainedModel],
) -> None:
    import torch

    from extrabitter.models.rollouts import SamplingParameters, generate

    model = _with_frequent_eos(build_tiny_model())
    prompts, temperature, forced = _prompts(6), 0.8, [5, 6]
    rollouts = generate(
        model,
        prompts,
        3,
        SamplingParameters(25, temperature=temperature),
        end_ids=[EOS],
        generator=torch.Generator().manual_seed(0),
        forced_ids=forced,
    )
    for row, (completion, logprobs) in enumerate(
        zip(rollouts.completion_ids, rollouts.logprobs, strict=True)
    ):
        prompt = prompts[row // 3]
        assert completion[:2] == forced
        assert len(completion) == len(logprobs) <= 25
        with torch.no_grad():
            logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1] / temperature
        expected = logits.log_softmax(dim=-1).gather(1, torch.tensor(completion)[:, None])[:, 0]
        assert torch.allclose(torch.tensor(logprobs), expected, atol=1e-4)


@pytest.mark.parametrize("architecture", BUILDERS)
def test_masked_tokens_are_never_drawn_and_the_rest_keeps_its_proportions(
    architecture: str, build_tiny_model: Callable[..., PreTrainedModel]
) -> None:
    import torch

    from extrabitter.models.tiny import mask_tokens
    from extrabitter.models.rollouts import SamplingParameters, generate

    model, prompts = build_tiny_model(architecture), _prompts(1)
    plain = model(torch.tensor(prompts)).logits[0, -1].softmax(dim=-1)
    likeliest = int(plain.argmax())
    mask_tokens(model, [likeliest, EOS])
    rollouts = generate(
        model,
        prompts,
        5000,
        SamplingParameters(3),
        end_ids=[EOS],
        generator=torch.Generator().manual_seed(0),
    )
    tokens = torch.tensor(rollouts.completion_ids)
    assert not torch.isin(tokens, torch.tensor([likeliest, EOS])).any()
    plain[[likeliest, EOS]] = 0
    expected = plain / plain.sum()
    frequencies = torch.bincount(tokens[:, 0], minlength=len(expected)) / 5000
    assert ((frequencies - expected).abs() <= 4 * (expected / 5000).sqrt() + 1 / 5000).all()


def test_models_unknown_to_the_decoder_go_to_generate_and_say_so(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from extrabitter.models import rollouts as hub_generate
    from extrabitter.models.rollouts import SamplingParameters, generate

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=83, n_embd=32, n_layer=2, n_head=2, initializer_range=0.3, eos_token_id=EOS, bos_token_id=1
    )
    model = GPT2LMHeadModel(config).eval()
    model.generation_config.pad_token_id = 0
    prompts = _prompts(20)
    with caplog.at_level(logging.WARNING, logger="extrabitter.models.rollouts"):
        greedy = generate(model, prompts, 2, SamplingParameters(12, temperature=0), end_ids=[EOS])
    assert [record.getMessage() for record in caplog.records] == [
        "GPT2LMHeadModel: sampled by model.generate, which is slower"
    ]
    assert greedy.completion_ids[::2] == greedy.completion_ids[1::2] == _stock_greedy(model, prompts, 12)
    # Scores that would not fit are kept for fewer rows at a time, or for none.
    monkeypatch.setattr(hub_generate, "SCORE_BYTES", 3 * 4 * 83 * 12 * 5)
    narrow = generate(model, prompts, 2, SamplingParameters(12, temperature=0), end_ids=[EOS])
    assert narrow.completion_ids == greedy.completion_ids
    assert np.allclose(np.concatenate(narrow.logprobs), np.concatenate(greedy.logprobs), atol=1e-5)
    without = generate(
        model, prompts, 2, SamplingParameters(12, temperature=0), end_ids=[EOS], with_logprobs=False
    )
    assert without.completion_ids == greedy.completion_ids
    assert np.isnan(np.concatenate(without.logprobs)).all()
    seeded = [
        generate(
            model,
            prompts,
            2,
            SamplingParameters(12),
            end_ids=[EOS],
            forced_ids=[7],
            generator=torch.Generator().manual_seed(4),
        )
        for _ in range(2)
    ]
    assert seeded[0] == seeded[1]
    assert all(completion[0] == 7 for completion in seeded[0].completion_ids)


def test_one_seed_gives_the_same_rollouts_and_another_does_not(
    build_tiny_model: Callable[..., PreTrainedModel],
) -> None:
    import torch

    from extrabitter.models.rollouts import SamplingParameters, generate

    model = _with_frequent_eos(build_tiny_model())
    first, same, other = (
        generate(
            model,
            _prompts(30),
            4,
            SamplingParameters(20),
            end_ids=[EOS],
            generator=torch.Generator().manual_seed(seed),
        )
        for seed in (0, 0, 1)
    )
    assert first == same
    assert first != other


def test_training_mode_and_weights_survive_a_call_and_changed_weights_count(
    build_tiny_model: Callable[..., PreTrainedModel],
) -> None:
    import torch

    from extrabitter.models.rollouts import SamplingParameters, generate

    model, prompts, sampling = build_tiny_model().train(), _prompts(20), SamplingParameters(10, temperature=0)
    before = [parameter.clone() for parameter in model.parameters()]
    first = generate(model, prompts, 1, sampling, end_ids=[EOS])
    assert model.training
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight.mul_(-1)
        model.model.layers[1].mlp.up_proj.weight.mul_(-1)
    assert generate(model, prompts, 1, sampling, end_ids=[EOS]).completion_ids != first.completion_ids


def test_nothing_to_do_is_done_and_impossible_arguments_are_named(
    build_tiny_model: Callable[..., PreTrainedModel],
) -> None:
    from extrabitter.models.rollouts import SamplingParameters, generate

    model = build_tiny_model()
    assert generate(model, [], 4, SamplingParameters(5), end_ids=[EOS]).completion_ids == []
    assert len(generate(model, _prompts(2), 3, SamplingParameters(1), end_ids=[EOS]).completion_ids) == 6
    for name, value in (
        ("temperature", -1),
        ("top_k", -1),
        ("top_p", 0.0),
        ("min_p", 1.0),
        ("max_completion_length", 0),
    ):
        with pytest.raises(ValueError, match=f"{name}: must be"):
            SamplingParameters(**{"max_completion_length": 5, name: value})
    with pytest.raises(ValueError, match="prompts of at least one token"):
        generate(model, [[]], 1, SamplingParameters(5), end_ids=[EOS])
    with pytest.raises(ValueError, match="forced_ids"):
        generate(model, _prompts(1), 1, SamplingParameters(2), end_ids=[EOS], forced_ids=[4, 5])


def test_two_threads_draw_a_share_each_and_the_same_greedy_completions(
    build_tiny_model: Callable[..., PreTrainedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from extrabitter.models import rollouts

    model, prompts = _with_frequent_eos(build_tiny_model()), _prompts(60)
    greedy, sampled = rollouts.SamplingParameters(20, temperature=0), rollouts.SamplingParameters(20)
    shares: list[int] = []

    def seen(work: object, items: object, number: int, generator: object) -> object:
        shares.append(number)
        return original(work, items, number, generator)

    def draw(sampling: rollouts.SamplingParameters, seed: int) -> rollouts.Rollouts:
        generator = torch.Generator().manual_seed(seed)
        return rollouts.generate(model, prompts, 2, sampling, end_ids=[EOS], generator=generator)

    original = rollouts.side_by_side
    monkeypatch.setattr(rollouts, "side_by_side", seen)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = draw(greedy, 0)
        torch.set_num_threads(2)
        together = draw(greedy, 0)
        first, same, other = (draw(sampled, seed) for seed in (0, 0, 1))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert shares == [1, 2, 2, 2, 2]
    assert together.completion_ids == alone.completion_ids
    assert first == same and first != other


def test_a_model_too_large_for_the_cache_and_few_rows_are_not_shared(
    build_tiny_model: Callable[..., PreTrainedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from extrabitter.models import decoder
    from extrabitter.models import rollouts

    model, least = build_tiny_model(), rollouts.LEAST_SHARE
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert [rollouts._shares(model, rows) for rows in (2 * least - 1, 2 * least, 100 * least)] == [1, 2, 4]
    monkeypatch.setattr(decoder, "OUTGROWN", 0)
    assert rollouts._shares(model, 100 * least) == 1
