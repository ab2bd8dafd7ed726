"""Typed parameters of the five stages: every name, unit and bound a run may be given.

One model a stage. The notebook's parameters cell holds literals under the same names, the profile's
YAML sets some of them, and both are checked against these models: an unknown name, a wrong type or a
value out of bounds is one line that names the field, the value and what is allowed. Values that bear on
the book's claims are argued in the notebooks, beside the number.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

MAX_TOKENS = 4096
NAME = r"^[a-z][a-z0-9_]*$"
_ARM, _STEPS = r"^[a-z0-9_]+$", r"^(\d+( \d+)*)?$"
# What these patterns allow, in words.
_ALLOWED = {
    NAME: "a name of lower-case letters, digits and _",
    _ARM: "lower-case letters, digits and _",
    _STEPS: "whole numbers with a space between them",
}

# How a wrong value is quoted: enough to find it by, however much there is of it.
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 200

# Kinds of values that stages share, with their bounds.
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, le=1)]
Few = Annotated[int, Field(ge=1, le=64)]
Many = Annotated[int, Field(ge=1, le=4096)]
Positive = Annotated[int, Field(ge=1)]
Budget = Annotated[int, Field(ge=0)]
Problems = Annotated[int, Field(ge=1, le=100_000)]
Cap = Annotated[int, Field(ge=8, le=MAX_TOKENS, description="cap of a completion, in tokens")]
Masked = Annotated[str, Field(description="words whose logits are -inf in the forward, e.g. 'check back'")]
Bias = Annotated[
    float, Field(ge=-60, le=20, description="added to logits of words that begin a search, until one does")
]


class OneLineError(Exception):
    """An error whose message, one line, says all there is to say: a notebook shows it without its traceback."""

    def _render_traceback_(self) -> list[str]:
        """Tell IPython what to show."""
        return [f"{type(self).__name__}: {self}"]


class ParameterError(OneLineError, ValueError):
    """A parameter or a profile is wrong."""


class StrictModel(BaseModel):
    """Frozen, no coercion, no unknown keys, no NaN."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class StageParameters(StrictModel):
    """What every stage is told."""

    stage: ClassVar[str]

    run_dir: str = Field(min_length=1, description="folder that the run becomes when it is complete")
    task: str = Field("countdown", pattern=NAME, description="the game: a key of tasks.REGISTRY")
    arm: str = Field(pattern=_ARM, description="name of the arm, e.g. searcher")
    seed: int = Field(ge=0, lt=2**31, description="root seed of the run")
    threads: Few = Field(1, description="CPU threads of this job; reruns agree only at the same number")
    overwrite: bool = Field(False, description="replace a run of other parameters that lies at run_dir")

    def _rules(self) -> Iterator[tuple[object, str, str]]:
        """What bounds alone cannot say: whether a rule is broken, by which parameter, and what must hold."""
        yield from ()

    @model_validator(mode="after")
    def _consistent(self) -> StageParameters:
        for broken, name, rule in self._rules():
            if broken:
                raise ValueError(f"{name} = {getattr(self, name)!r}: {rule}")
        return self

    def _is_set(self, name: str) -> bool:
        """Whether a parameter that the stage has is another than by default."""
        field = type(self).model_fields.get(name)
        return field is not None and getattr(self, name) != field.default


class LanguageParameters(StageParameters):
    """How a stage speaks to its model: in the grammar of our own bases, or to any causal language model in English."""

    trains: ClassVar[bool] = False

    prompt: Literal["grammar", "plain", "chat"] = Field(
        "grammar", description="grammar: our own bases | English: plain text or the tokenizer's chat template"
    )
    few_shot: int = Field(0, ge=0, le=32, description="English: worked training problems in the prompt")
    revision: str = Field("", description="English: branch, tag or commit of a hub id; empty: main")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="English: of weights, in training of the forward pass; auto: float32 on a CPU, else bfloat16",
    )
    device: str = Field("auto", description="English: auto, cpu or cuda[:n]")
    band: str = Field("", description="range of difficulty, of the task's; empty: its first")

    def _rules(self) -> Iterator[tuple[object, str, str]]:
        if self.prompt == "grammar":
            for name in ("few_shot", "revision", "dtype", "device"):
                yield self._is_set(name), name, "only with prompt 'plain' or 'chat'"
            return
        cards = "must be auto, cpu or cuda in training; CUDA_VISIBLE_DEVICES picks a card"
        yield self.trains and self.device not in ("auto", "cpu", "cuda"), "device", cards
        for name in ("masked_words", "search_bias", "cue", "num_attempts"):
            yield self._is_set(name), name, "only with prompt 'grammar'"


class BaseModelParameters(StageParameters):
    """Pretrain a small base model on a mixture of documents."""

    stage: ClassVar[str] = "base_model"

    init_from: str = Field("", description="checkpoint to go on from (the trunk), or empty: from scratch")
    architecture: Literal["llama", "qwen2"] = Field("llama", description="model architecture")
    hidden_size: int = Field(128, ge=8, le=4096, description="width of the residual stream")
    num_hidden_layers: Few = Field(4, description="number of transformer blocks")
    num_attention_heads: Few = Field(4, description="attention heads; divides half of hidden_size")
    num_key_value_heads: Few = Field(1, description="heads of keys and values; divides num_attention_heads")
    intermediate_size: int = Field(384, ge=8, le=16384, description="width of the MLP")
    num_tokens: Budget = Field(
        2_000_000,
        description="budget, in tokens seen: bases differ in length, never in tokens; 0: only measure init_from",
    )
    documents_per_step: Positive = Field(192, description="documents in a step's batch")
    bands: str = Field(
        "", description="difficulty of problem documents, e.g. 'common=0.3 four=0.7'; empty: the first band"
    )
    drill_share: Share = Field(0.3, description="share of documents that drill arithmetic or comparison")
    cued_share: Share = Field(0.0, description="share of problem documents with the cue, which search")
    habit: str = Field("search", description="condition of the task that documents of habit_share show")
    habit_share: Share = Field(0.0, description="share of uncued problem documents that show the habit")
    solution_probability: Share = Field(0.45, description="chance that an attempt is a drawn solution")
    learning_rate: Rate = Field(0.02, description="peak rate of Muon, for matrices inside the blocks")
    adamw_learning_rate: Rate = Field(3e-3, description="peak rate of AdamW, for all other weights")
    schedule: Literal["constant", "linear"] = Field("linear", description="of the learning rate; linear to 0")
    enforce_bars: bool = Field(False, description="fail the run when a competence bar is missed")
    num_bar_problems: Problems = Field(200, description="validation problems per competence bar")
    max_completion_length: Cap = 288
    logging_steps: Positive = Field(100, description="steps between printed lines")

    def _rules(self) -> Iterator[tuple[object, str, str]]:
        width, heads, shared = self.hidden_size, self.num_attention_heads, self.num_key_value_heads
        # A head's dimensions are rotated in pairs.
        yield width % (2 * heads), "num_attention_heads", f"must divide half of hidden_size ({width / 2:g})"
        yield heads % shared, "num_key_value_heads", f"must divide num_attention_heads ({heads})"
        nothing = not (self.num_tokens or self.init_from)
        yield nothing, "num_tokens", "must be at least 1 where init_from is empty"


class SftPrimingParameters(LanguageParameters):
    """Prime a model with supervised fine-tuning on written traces."""

    stage: ClassVar[str] = "sft_priming"
    trains: ClassVar[bool] = True

    init_from: str = Field(min_length=1, description="checkpoint to prime")
    condition: str = Field(min_length=1, description="what the traces show: a condition of the task")
    solution_probability: Share = Field(
        0.45, description="chance that an attempt is a drawn solution; as in the base's documents"
    )
    num_documents: int = Field(1000, ge=1, le=10_000_000, description="distinct traces in the priming set")
    num_steps: Positive = Field(100, description="optimiser steps, where num_tokens is 0")
    num_tokens: Budget = Field(
        0, description="budget, in tokens seen: conditions differ in length, never in tokens; 0: num_steps"
    )
    per_device_train_batch_size: Positive = Field(32, description="traces in a step")
    learning_rate: Rate = Field(5e-4, description="peak rate of AdamW")
    max_length: int = Field(256, ge=8, le=MAX_TOKENS, description="cap of prompt + completion, in tokens")


class GrpoParameters(LanguageParameters):
    """Train a model by GRPO on the verifier's 0/1 reward."""

    stage: ClassVar[str] = "grpo"
    trains: ClassVar[bool] = True

    init_from: str = Field(min_length=1, description="checkpoint to train")
    num_steps: Positive = Field(100, description="optimiser steps, each on freshly sampled completions")
    num_tokens: Budget = Field(
        0, description="budget, in generated tokens: arms differ in length; num_steps is the most; 0: none"
    )
    num_generations: int = Field(8, ge=2, le=4096, description="completions of a group, G of one prompt")
    per_device_train_batch_size: Positive = Field(
        256, description="completions trained on at once; all of a step's on a CPU"
    )
    gradient_accumulation_steps: Many = Field(1, description="such batches in a step; memory against time")
    activation_checkpointing: bool = Field(False, description="recompute activations instead of keeping them")
    max_completion_length: Cap = 288
    temperature: float = Field(1.0, gt=0, le=10, description="sampling temperature")
    learning_rate: Rate = Field(1.5e-4, description="rate of AdamW")
    scale_rewards: Literal["group", "batch", "none"] = Field("none", description="what divides advantages")
    loss_type: Literal["dr_grpo", "grpo", "dapo"] = Field(
        "dr_grpo", description="what a token's loss is divided by"
    )
    beta: float = Field(0.0, ge=0, le=10, description="weight of the KL term to the starting checkpoint")
    num_iterations: Few = Field(1, description="updates on each batch of completions")
    epsilon_high: Rate = Field(
        0.2, description="upper end of clipping; only from the second update on anything is clipped"
    )
    entropy_coef: float = Field(0.0, ge=0, le=10, description="weight of an entropy bonus in the loss")
    pass_at: Few = Field(
        1, description="pay completions by what k of their group reach together; 1: each by itself"
    )
    bonus: Literal["none", "verdicts", "novelty"] = Field(
        "none",
        description="paid besides, once a completion: for true verdicts only | for words put together as rarely",
    )
    bonus_weight: Share = Field(0.5, description="weight of the bonus")
    hint: Literal["none", "opening", "prefix", "trace"] = Field(
        "none",
        description="put in: a search's first word | a written search's beginning, less each step | one in a group",
    )
    easy_share: Share = Field(0.0, description="share of problems of easy_band, the others are of band")
    easy_band: str = Field("", description="band of the easier problems; empty: the task's first")
    format_weight: Share = Field(0.0, description="weight of the format reward; 0: not used")
    masked_words: Masked = ""
    search_bias: Bias = 0.0
    permute_rewards: bool = Field(False, description="shuffle rewards inside each group (control)")
    rollouts: Literal["batched", "generate", "vllm"] = Field("batched", description="sampler of completions")
    vllm_server: str = Field(
        "", description="address of TRL's vLLM server, e.g. http://node1:8000; empty: vLLM on training GPUs"
    )
    vllm_gpu_memory_utilization: Rate = Field(0.3, description="share of a training GPU's memory for vLLM")
    save_steps: str = Field("", pattern=_STEPS, description="steps to keep a checkpoint at, e.g. '50 100'")
    logging_steps: Positive = Field(5, description="steps between printed lines")

    @property
    def completions_per_step(self) -> int:
        """Completions of an optimiser step."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps

    def _rules(self) -> Iterator[tuple[object, str, str]]:
        yield from super()._rules()
        batches, size = self.gradient_accumulation_steps, self.num_generations
        rule = f"times gradient_accumulation_steps ({batches}) must be a multiple of num_generations ({size})"
        yield self.per_device_train_batch_size * batches % size, "per_device_train_batch_size", rule
        unseen = bool(self.masked_words) and self.rollouts == "vllm"
        yield unseen, "masked_words", "vLLM does not see the mask of the forward pass; use rollouts 'batched'"
        for name in ("vllm_gpu_memory_utilization", "vllm_server"):
            yield self.rollouts != "vllm" and self._is_set(name), name, "only with rollouts 'vllm'"
        for name in ("hint", "bonus"):
            yield self._is_set(name) and self.prompt != "grammar", name, "only with prompt 'grammar'"
        yield self._is_set("hint") and self.rollouts != "batched", "hint", "needs rollouts 'batched'"
        yield self.pass_at > size, "pass_at", f"must be at most num_generations ({size})"
        biased = self.search_bias and self.rollouts != "batched"
        yield biased, "search_bias", f"needs rollouts 'batched', not {self.rollouts!r}"
        late = [step for step in self.save_steps.split() if not 1 <= int(step) <= self.num_steps]
        yield late, "save_steps", f"must lie in 1..num_steps ({self.num_steps})"


class BehaviourEvaluationParameters(LanguageParameters):
    """Sample a checkpoint on held-out problems and measure success and behaviours."""

    stage: ClassVar[str] = "behaviour_evaluation"

    checkpoint: str = Field(min_length=1, description="checkpoint to evaluate")
    split: Literal["validation", "test", "train"] = Field(
        "test", description="problems to draw from; train: what GRPO trains this seed on, from its first"
    )
    num_problems: Problems = Field(200, description="distinct problems")
    num_samples: Many = Field(8, description="completions of each problem")
    temperature: float = Field(1.0, ge=0, le=10, description="sampling temperature; 0: greedy")
    top_k: int = Field(0, ge=0, description="keep only the k most likely tokens; 0: all")
    top_p: Rate = Field(1.0, description="keep the most likely tokens of this total probability")
    min_p: Share = Field(
        0.0, lt=1, description="drop tokens below this share of the likeliest one's probability"
    )
    max_completion_length: Cap = 288
    masked_words: Masked = ""
    search_bias: Bias = 0.0
    cue: bool = Field(False, description="begin the prompt with the cue word")
    max_k: Many = Field(8, description="largest k of pass@k; at most num_samples")

    def _rules(self) -> Iterator[tuple[object, str, str]]:
        yield from super()._rules()
        yield self.max_k > self.num_samples, "max_k", f"must be at most num_samples ({self.num_samples})"


class WillItChokeParameters(LanguageParameters):
    """Probe a checkpoint: what GRPO would find in it, before anything is trained."""

    stage: ClassVar[str] = "will_it_choke"

    checkpoint: str = Field(min_length=1, description="checkpoint to probe")
    num_problems: int = Field(100, ge=2, le=100_000, description="validation problems")
    num_samples: int = Field(64, ge=2, le=4096, description="completions of each problem")
    num_attempts: Many = Field(4, description="first attempts of each problem to intervene behind")
    max_completion_length: Cap = 288


# What the command `probe` draws of a model in English: those are a hundred times as large as ours.
ENGLISH_SIZES = {"num_problems": 20, "num_samples": 8, "max_completion_length": 512}

STAGES: dict[str, type[StageParameters]] = {
    model.stage: model
    for model in (
        BaseModelParameters,
        SftPrimingParameters,
        GrpoParameters,
        BehaviourEvaluationParameters,
        WillItChokeParameters,
    )
}

Model = TypeVar("Model", bound=StrictModel)


def validate(model: type[Model], values: Mapping[str, Any], where: str) -> Model:
    """Build `model` from `values`, or raise ParameterError with one line that begins with `where`."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise ParameterError(f"{where}: {_explain(model, error)}") from None


def stage_parameters(stage: str, values: Mapping[str, Any]) -> StageParameters:
    """Validate the parameters of one run of `stage`; raise ParameterError with one line."""
    if stage not in STAGES:
        raise ParameterError(f"stage = {stage!r}: must be one of {', '.join(STAGES)}")
    return validate(STAGES[stage], values, stage)


def notebook_parameters(stage: str, namespace: Mapping[str, Any]) -> StageParameters:
    """Validate a stage notebook's globals; call it in the first cell after the parameters.

    Every public int, float, str or bool in the namespace counts as a parameter, so that a misspelt name
    given to papermill, which papermill itself only warns of, stops the run here.
    """
    public = {name: value for name, value in namespace.items() if not name.startswith("_")}
    literals = {name: value for name, value in public.items() if isinstance(value, int | float | str)}
    return stage_parameters(stage, literals)


def _explain(model: type[BaseModel], error: ValidationError) -> str:
    """Say the first thing that is wrong: field, value, what is allowed; and how many more there are."""
    problems = error.errors(include_url=False)
    first = problems[0]
    field, given = ".".join(str(part) for part in first["loc"]), _SHORT.repr(first["input"])
    if first["type"] == "extra_forbidden":
        known = _fields_at(model, first["loc"][:-1])
        similar = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
        meant = f"did you mean {similar[0]}? " if similar else ""
        line = f"{field} = {given}: unknown name; {meant}allowed: {', '.join(known)}"
    elif first["type"] == "missing":
        line = f"{field}: missing; it must be given"
    elif first["type"] == "value_error":
        line = str(first["ctx"]["error"])
    elif first["type"] == "string_pattern_mismatch":
        line = f"{field} = {given}: must be {_ALLOWED.get(first['ctx']['pattern'], 'of another form')}"
    else:
        line = f"{field} = {given}: {first['msg'].replace('Input should', 'must')}"
    return line + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else "")


def _fields_at(model: type[BaseModel], location: tuple[str | int, ...]) -> list[str]:
    """Names allowed at a location inside a model; keys of a dict on the way are skipped."""
    current: Any = model
    for part in location:
        field = current.model_fields.get(part)
        if field is None:
            continue
        inner = [arg for arg in getattr(field.annotation, "__args__", ()) if hasattr(arg, "model_fields")]
        current = inner[-1] if inner else field.annotation
    return sorted(getattr(current, "model_fields", {}))
