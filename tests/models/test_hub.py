"""Models of others: loaded or refused in one line, one notion of end, and one policy whatever their settings say."""

from __future__ import annotations

import copy
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
from transformers import GenerationConfig, PreTrainedTokenizerFast

from extrabitter.models import hub
from extrabitter.models.fused import is_supported
from extrabitter.models.rollouts import Rollouts, SamplingParameters, generate
from extrabitter.models.tiny import CheckpointError, load_checkpoint

WORDS = ["<pad>", "<s>", "</s>", "<turn_end>", "user", "model", "good", "bye", "more", "rubbish"]
WORDS += ["so", "3", "8", "9", "*", "+", "<answer>", "</answer>"]
EOS, TURN_END = WORDS.index("</s>"), WORDS.index("<turn_end>")
TEMPLATE = (
    "{{ bos_token }}{% for turn in messages %} {{ 'model' if turn.role == 'assistant' else 'user' }}"
    " {{ turn.content }} <turn_end>{% endfor %}{% if add_generation_prompt %} model{% endif %}"
)
QUESTION = [{"role": "user", "content": "good"}]


def words_tokenizer(
    template: str = TEMPLATE, special: tuple[str, ...] = ("<turn_end>",)
) -> PreTrainedTokenizerFast:
    """A word-level tokenizer with a chat template, whose turns end in a token that is not its end of text."""
    ids = {word: number for number, word in enumerate(WORDS)}
    inner = Tokenizer(models.WordLevel(ids, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    named = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    built = PreTrainedTokenizerFast(tokenizer_object=inner, padding_side="left", **named)
    built.add_tokens([AddedToken(word, special=True) for word in special], special_tokens=True)
    built.chat_template = template
    return built


def build(family: str = "Llama", vocab_size: int = len(WORDS), **options: Any) -> Any:
    """A random model whose next words are far from uniform."""
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
    shape |= {"intermediate_size": 32, "head_dim": 8, "initializer_range": 0.4, "tie_word_embeddings": True}
    ids = {"eos_token_id": EOS, "bos_token_id": 1, "pad_token_id": 0}
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(vocab_size=vocab_size, **{**shape, **ids, **options})
    return getattr(transformers, f"{family}ForCausalLM")(config).eval()


def say(model: Any, *follows: tuple[str, str]) -> Any:
    """Set the weights so that each word is followed by another, whatever stands before it."""
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(len(WORDS), model.config.hidden_size))
        model.lm_head.weight.zero_()
        for before, behind in follows:
            model.lm_head.weight[WORDS.index(behind), WORDS.index(before)] = 9.0
    return model


def talker(family: str) -> Any:
    """A model that says "good bye", ends its turn, and would go on with rubbish."""
    steps = ["model", "good", "bye", "<turn_end>", "more", "rubbish", "more"]
    model = build(family, hidden_size=32, tie_word_embeddings=False)
    return say(model, *pairwise(steps))


# What ends a turn.


@pytest.mark.parametrize("family", ["Llama", "Qwen3"])
@pytest.mark.parametrize("where", ["generation_config", "config", "template"])
def test_a_turn_ends_at_each_id_that_the_model_names(family: str, where: str, tmp_path: Path) -> None:
    model = talker(family)
    if where != "template":
        getattr(model, where).eos_token_id = [EOS, TURN_END]
    model.save_pretrained(tmp_path)
    template = TEMPLATE if where == "template" else TEMPLATE.replace(" <turn_end>", "")
    words_tokenizer(template).save_pretrained(tmp_path)
    loaded, tokenizer, _ = hub.load_pretrained(str(tmp_path))
    prompts = hub.encode_prompts(tokenizer, [QUESTION])
    ends = hub.end_ids(loaded, tokenizer)
    assert ends == {EOS, TURN_END}
    rollouts = generate(loaded, prompts, 1, SamplingParameters(12, temperature=0), end_ids=ends)
    assert [WORDS[token] for token in rollouts.completion_ids[0]] == ["good", "bye", "<turn_end>"]
    assert rollouts.truncated == [False]
    assert hub.decode(tokenizer, rollouts.completion_ids[0], ends) == "good bye"


@pytest.mark.parametrize("end", ["", "{{ eos_token }}", " rubbish", "{{ raise_exception('no') }}"])
def test_a_template_without_a_turn_end_of_its_own_adds_none(end: str) -> None:
    tokenizer = words_tokenizer(TEMPLATE.replace(" <turn_end>", end))
    assert hub.end_ids(build(), tokenizer) == {EOS}
    tokenizer.chat_template = None
    assert hub.end_ids(build(), tokenizer) == {EOS}


@pytest.mark.parametrize("special", [("<answer>", "</answer>", "<turn_end>"), ("<turn_end>",)])
def test_tags_are_read_whether_or_not_they_are_special_tokens(special: tuple[str, ...]) -> None:
    tokenizer, text = words_tokenizer(special=special), "so <answer> 3 * 8 + 9 </answer>"
    ids = [WORDS.index(word) for word in f"{text} <turn_end> <pad>".split()]
    assert hub.decode(tokenizer, ids, hub.end_ids(build(), tokenizer)) == text


# One policy whatever the path.

# Every field of GenerationConfig that changes scores or stopping, with a value that does.
HARMFUL: dict[str, Any] = {"repetition_penalty": 1.5, "encoder_repetition_penalty": 1.5}
HARMFUL |= {"no_repeat_ngram_size": 2, "encoder_no_repeat_ngram_size": 2, "bad_words_ids": [[5], [6, 7]]}
HARMFUL |= {"suppress_tokens": [5, 6], "begin_suppress_tokens": [7, 8], "sequence_bias": [[[5], 9.0]]}
HARMFUL |= {"forced_bos_token_id": 5, "forced_eos_token_id": 6, "decoder_start_token_id": 3}
HARMFUL |= {"exponential_decay_length_penalty": [2, 2.0], "length_penalty": 3.0}
HARMFUL |= {"diversity_penalty": 0.5, "early_stopping": True, "min_length": 30, "min_new_tokens": 8}
HARMFUL |= {"max_length": 14, "max_new_tokens": 3, "max_time": 1e-4, "stop_strings": ["good"]}
HARMFUL |= {"eos_token_id": [5, 6], "pad_token_id": 4, "bos_token_id": 3, "do_sample": False}
HARMFUL |= {"temperature": 0.3, "top_k": 2, "top_p": 0.5, "min_p": 0.2, "top_h": 0.4, "typical_p": 0.3}
HARMFUL |= {"epsilon_cutoff": 0.05, "eta_cutoff": 0.05, "renormalize_logits": True}
HARMFUL |= {"remove_invalid_values": True, "guidance_scale": 2.0, "watermarking_config": {"bias": 9.0}}
HARMFUL |= {"num_beams": 3, "num_beam_groups": 3, "num_return_sequences": 2, "penalty_alpha": 0.6}
HARMFUL |= {"dola_layers": "low", "constraints": [1], "force_words_ids": [[5]], "token_healing": True}
HARMFUL |= {"prompt_lookup_num_tokens": 3, "assistant_early_exit": 1, "use_mtp": True}
# How it is computed and what comes back, not what is drawn.
HARMLESS = {
    *("_from_model_config", "transformers_version", "use_cache", "cache_implementation", "cache_config"),
    *("max_cache_len", "compile_config", "disable_compile", "continuous_batching_config", "low_memory"),
    *("prefill_chunk_size", "output_attentions", "output_hidden_states", "output_scores", "output_logits"),
    *("return_dict_in_generate", "is_assistant", "num_assistant_tokens", "num_assistant_tokens_schedule"),
    *("assistant_confidence_threshold", "max_matching_ngram_size", "assistant_lookbehind"),
    *("target_lookbehind", "assistant_ensemble_weight", "speculation_type"),
}


def forward_logprobs(model: Any, prompt: list[int], completion: list[int], temperature: float) -> Any:
    """The log-probabilities of a completion by one full forward pass."""
    with torch.no_grad():
        logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1] / temperature
    return logits.log_softmax(dim=-1).gather(1, torch.tensor(completion)[:, None])[:, 0]


def test_every_field_of_the_generation_configuration_is_known_here() -> None:
    assert set(GenerationConfig().to_dict()) == set(HARMFUL) | HARMLESS


@pytest.mark.parametrize("family", ["Llama", "Qwen3"])
@pytest.mark.parametrize("temperature", [0.7, 0.0])
def test_settings_that_a_checkpoint_brings_change_no_draw(family: str, temperature: float) -> None:
    model, prompts = build(family), [[1, 4, 6, 5], [1, 4, 7]]
    assert is_supported(model) == (family == "Llama")
    sampling, plain = SamplingParameters(16, temperature=temperature), model.generation_config

    def draw() -> Rollouts:
        seeded = torch.Generator().manual_seed(1)
        return generate(model, prompts, 8, sampling, end_ids=[EOS], generator=seeded)

    expected = draw()
    pairs = zip(expected.completion_ids, expected.logprobs, strict=True)
    for row, (completion, logprobs) in enumerate(pairs):
        own = forward_logprobs(model, prompts[row // 8], completion, temperature or 1.0)
        assert torch.allclose(torch.tensor(logprobs), own, atol=1e-4)
    for fields in (HARMFUL, *({name: value} for name, value in HARMFUL.items())):
        model.generation_config = brought = copy.deepcopy(plain)
        for name, value in fields.items():
            setattr(brought, name, value)
        assert draw() == expected, fields
        assert model.generation_config is brought


@pytest.mark.parametrize("family", ["Llama", "Qwen3"])
@pytest.mark.parametrize("temperature", [1.0, 0.0])
@pytest.mark.parametrize("with_logprobs", [True, False])
def test_logits_that_are_not_finite_are_one_line(
    family: str, temperature: float, with_logprobs: bool
) -> None:
    model = build(family)
    model.model.norm.weight.data[0] = torch.nan
    sampling = SamplingParameters(4, temperature=temperature)
    with pytest.raises(CheckpointError, match="logits are not finite") as raised:
        generate(model, [[1, 4]], 2, sampling, end_ids=[], with_logprobs=with_logprobs)
    assert "\n" not in str(raised.value)


# Checkpoints that do not fit.


def saved(folder: Path, **options: Any) -> Path:
    """The folder of a model and its tokenizer, as `save_pretrained` leaves it."""
    build(**options).save_pretrained(folder)
    words_tokenizer().save_pretrained(folder)
    return folder


def edit_weights(folder: Path, change: Any) -> None:
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, {"format": "pt"})


def edit_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}), encoding="utf-8")


UP, NORM = "model.layers.1.mlp.up_proj.weight", "model.norm.weight"
DAMAGE: dict[str, tuple[Any, str]] = {
    "one is missing": (lambda w: {k: v for k, v in w.items() if k != UP}, f"lacks the weights {UP};"),
    "compiled": (lambda w: {f"_orig_mod.{k}": v for k, v in w.items()}, "lacks the weights .* and .* more"),
    "an adapter's": (lambda w: {f"base_model.model.{k}": v for k, v in w.items()}, "lacks the weights"),
    "one is left over": (lambda w: {**w, "extra": torch.ones(3)}, "no place for, the weights extra;"),
    "another shape": (lambda w: {**w, UP: torch.ones(3, 3)}, "cannot be loaded"),
    "not a number": (lambda w: {**w, NORM: torch.full((16,), torch.nan)}, f"{NORM} are not finite"),
    "infinite": (lambda w: {**w, UP: torch.full((32, 16), torch.inf)}, f"the weights {UP} are not finite"),
}


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("load", [load_checkpoint, hub.load_pretrained])
def test_weights_that_do_not_fit_the_configuration_are_one_line(
    kind: str, load: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    change, message = DAMAGE[kind]
    edit_weights(saved(tmp_path), change)
    transformers.utils.logging.enable_propagation()
    with pytest.raises(CheckpointError, match=message) as raised:
        load(str(tmp_path))
    assert "\n" not in str(raised.value) and not caplog.records, "the library has nothing to add"


def test_a_tokenizer_beyond_the_embedding_is_one_line_and_a_wider_head_is_none(tmp_path: Path) -> None:
    hub.load_pretrained(str(saved(tmp_path / "wide", vocab_size=len(WORDS) + 40)))
    folder = saved(tmp_path / "narrow")
    tokenizer = words_tokenizer()
    tokenizer.add_tokens(["<another>"])
    tokenizer.save_pretrained(folder)
    said = f"ids up to {len(WORDS)}, its embedding only {len(WORDS)} rows"
    with pytest.raises(CheckpointError, match=said):
        hub.load_pretrained(str(folder))


def test_pickles_code_and_damaged_files_are_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    edit_json(folder / "config.json", auto_map={"AutoModelForCausalLM": "m.M"})
    with pytest.raises(CheckpointError, match="needs code of its own"):
        hub.load_pretrained(str(folder))
    saved(folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"no \*.safetensors"):
        hub.load_pretrained(str(folder))
    (folder / "model.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(CheckpointError, match="cannot be loaded") as raised:
        hub.load_pretrained(str(folder))
    assert "\n" not in str(raised.value)


# Lengths.


@pytest.mark.parametrize(
    ("options", "longest", "message"),
    [
        ({"max_position_embeddings": 48}, 48, ""),
        ({"max_position_embeddings": 48}, 49, "49 tokens are more than the model's 48; lower"),
        ({"rope_type": "dynamic"}, 12, ""),
        ({"rope_type": "dynamic"}, 13, "13 tokens are more than the 12 up to which rope_type dynamic is"),
        ({"rope_type": "longrope"}, 13, "more than the 12 up to which rope_type longrope is exact"),
        ({"rope_type": "linear"}, 13, ""),
    ],
)
def test_lengths_that_a_model_does_not_compute_truly_are_one_line(
    options: dict[str, Any], longest: int, message: str
) -> None:
    if kind := options.get("rope_type"):
        rope: dict[str, Any] = {"rope_type": kind, "rope_theta": 10000.0, "factor": 4.0}
        if kind == "longrope":
            rope |= {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
            rope["original_max_position_embeddings"] = 12
        positions = 12 if kind == "dynamic" else 48
        options = {"rope_parameters": rope, "max_position_embeddings": positions}
    model = build(**options)
    if message:
        with pytest.raises(CheckpointError, match=message):
            hub.check_lengths(model, longest)
    else:
        hub.check_lengths(model, longest)
        ids = torch.arange(longest)[None] % len(WORDS)
        assert model(ids).logits.isfinite().all()


def test_lengths_are_checked_in_models_of_other_kinds() -> None:
    gpt2 = transformers.GPT2Config(n_positions=48, n_embd=16, n_layer=1, n_head=2)
    with pytest.raises(CheckpointError, match="49 tokens are more than the model's 48"):
        hub.check_lengths(transformers.GPT2LMHeadModel(gpt2), 49)
    mamba = transformers.MambaConfig(hidden_size=16, num_hidden_layers=1, vocab_size=20)
    hub.check_lengths(transformers.MambaForCausalLM(mamba), 10**6)  # it has no positions


# Prompts, and where models are found.


def test_the_chat_template_writes_special_tokens_once() -> None:
    tokenizer = words_tokenizer()
    plain, chat = hub.encode_prompts(tokenizer, ["3 + 8", QUESTION])
    assert tokenizer.decode(plain) == "<s> 3 + 8"
    assert tokenizer.decode(chat) == hub.as_read(tokenizer, QUESTION) == "<s> user good <turn_end> model"


def test_chat_without_a_template_and_with_a_broken_one_are_one_line() -> None:
    tokenizer, broken = words_tokenizer(), "{{ raise_exception('no\nsystem') }}"
    for template, message in ((None, "template; use 'plain'"), (broken, r"template fails \(no\)")):
        tokenizer.chat_template = template
        with pytest.raises(CheckpointError, match=message):
            hub.encode_prompts(tokenizer, [QUESTION])


def test_dtype_and_device_are_resolved_or_refused(tmp_path: Path) -> None:
    folder = str(saved(tmp_path))
    loaded, _, record = hub.load_pretrained(folder)
    assert torch.equal(loaded.lm_head.weight, build().lm_head.weight)
    assert record["num_parameters"] == sum(weights.numel() for weights in loaded.parameters())
    assert record["dtype"] == "float32" and record["device"] == "cpu" and record["has_chat_template"]
    assert hub.load_pretrained(folder, dtype="bfloat16").model.dtype == torch.bfloat16
    for changes, message in (
        ({"device": "tpu"}, "device = 'tpu'"),
        ({"device": "cuda:0"}, "device = 'cuda:0': not there"),
        ({"revision": "main"}, "a folder has no revision"),
    ):
        with pytest.raises(CheckpointError, match=message):
            hub.load_pretrained(folder, **changes)


@pytest.mark.parametrize("reference", ["nowhere", "/no/such/folder", "a b/c", "../x"])
def test_what_is_neither_folder_nor_id_is_one_line(reference: str) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint there"):
        hub.load_pretrained(reference)


def test_an_id_that_is_not_cached_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match="hf download example/model --revision v1"):
        hub.load_pretrained("example/model", revision="v1")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("GatedRepoError", "gated; accept its terms on https://huggingface.co/example/model"),
        ("RepositoryNotFoundError", "no such model, or a private one"),
        ("RevisionNotFoundError", "there is no such revision"),
        ("LocalEntryNotFoundError", "cannot be fetched"),
    ],
)
def test_refusals_of_the_hub_are_one_line_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    from huggingface_hub import errors

    kind = getattr(errors, name)
    error = kind.__new__(kind)
    Exception.__init__(error, "first line\nsecond line")

    def refuse(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(hub, "snapshot_download", refuse)
    with pytest.raises(CheckpointError, match=message) as raised:
        hub.load_pretrained("example/model")
    assert "\n" not in str(raised.value)


def test_an_id_in_the_cache_is_loaded_and_its_commit_recorded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    folder = saved(tmp_path / commit)
    asked: dict[str, Any] = {}

    def cached(hub_id: str, **options: Any) -> str:
        asked.update(options, hub_id=hub_id)
        return str(folder)

    monkeypatch.setattr(hub, "snapshot_download", cached)
    loaded = hub.load_pretrained("example/model", revision="v1")
    assert loaded.record["commit"] == commit and loaded.record["revision"] == "v1"
    assert asked["local_files_only"] is True and asked["revision"] == "v1"
    assert not any(pattern.endswith((".bin", ".py", ".pt")) for pattern in asked["allow_patterns"])
