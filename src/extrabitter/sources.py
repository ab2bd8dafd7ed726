"""The values that the stages run with, each with its source: what the page on methods shows.

`SOURCES` names every parameter that bears on a result, `FIXED` what stands in the code and in no profile. Sources were
collected from the comments beside the values, from the profiles and from the lab log. One that begins with "ours" is a
choice of this book, with the reason that was written down when it was made; where none was, it says so. The values of
`FIXED` are copies, because training code is not imported here: `tests/test_hyperparameters.py` holds them to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from extrabitter.params import STAGES

# What a run is called, what it reads, where it runs, how fast, and what it keeps. An arm's start is what the arm is.
PLUMBING = frozenset(
    {
        *("run_dir", "arm", "seed", "init_from", "checkpoint", "revision", "threads", "device"),
        *("num_processes", "accelerate_config", "activation_checkpointing", "torch_compile"),
        *("vllm_server", "vllm_gpu_memory_utilization", "logging_steps", "save_steps"),
    }
)
NO_REASON = "no reason is on record"
_OPEN = f"ours; {NO_REASON}"
_SIZE = f"{NO_REASON} for its size"
_FILTER = "ours: any filter makes the sampler another policy than the one that is trained"
_KNOCK_OUT = "ours: the knock-out; the words are impossible in training and in evaluation, all else stays"
_CAP = "ours, from pilots: room for more attempts than documents ever show"

_LANGUAGE = {
    "prompt": "ours: the grammar for our own bases, natural English for all other models",
    "few_shot": "ours: none; two for SmolLM2, which without examples hands in hardly any answer",
    "shots_show": _OPEN,
    "dtype": "ours: trained weights stay float32, because small steps vanish in weights of fewer digits",
    "num_numbers": "ours, from a pilot: on four numbers a base missed most bars; two are for English only",
}

SOURCES: dict[str, dict[str, str]] = {
    "base_model": {
        "architecture": "ours: Llama, with Qwen2 as a check, so that every tool takes it like any other model",
        "hidden_size": "ours: about a million parameters, minutes of one core; wider, tried since, is better early",
        "num_hidden_layers": "ours: as hidden_size; half of them, tried since, do as well early",
        "num_attention_heads": "ours: as hidden_size",
        "intermediate_size": "ours: as hidden_size",
        "num_tokens": f"ours: in tokens, because bases with longer documents would otherwise see more; {_SIZE}",
        "documents_per_step": _OPEN,
        "four_number_share": "ours, from a pilot: a base that saw a few four-number problems missed most bars on them",
        "drill_share": f"ours: a base that cannot add or compare chokes on RL for other reasons than search; {_SIZE}",
        "cued_share": f"ours: searches under a cue that RL and tests never give; latent has as many as rich; {_SIZE}",
        "search_share": "ours: the dose, on which the arms differ",
        "cosmetic_share": "ours: a control, the words of search with a coin for a judge, as often as search in rich",
        "solution_probability": f"ours: one proposal of first attempts for all kinds of document; {_SIZE}",
        "optimizer": "ours, from pilots; AdamW, tried since at three rates, stays far behind",
        "learning_rate": "ours; as in the README of KellerJordan/Muon; half of it, tried since, is worse",
        "adamw_learning_rate": f"ours; {NO_REASON}; tried since, a third is worse, three times better early",
        "schedule": "ours: to nought where a base ends, constant for a trunk, from which training goes on",
        "enforce_bars": "ours: a base below a bar is kept and named beside verdicts; the replication stops at one",
        "num_bar_problems": _OPEN,
        "max_completion_length": _CAP,
    },
    "sft_priming": {
        **_LANGUAGE,
        "condition": "Gandhi et al., arXiv 2503.01307; ours: a program writes, direct and cosmetic are controls",
        "solution_probability": "ours: as in the base's documents, or priming would also teach to guess better",
        "num_documents": "ours, from pilots: a short priming taught the words of search and lost the verdicts",
        "num_steps": "ours, from pilots: many small steps did better than fewer large ones on as many tokens",
        "per_device_train_batch_size": "ours, from pilots: as num_steps",
        "learning_rate": "ours, from pilots: 1e-5 of the papers is for 1e9 parameters",
        "max_length": _OPEN,
    },
    "grpo": {
        **_LANGUAGE,
        "num_steps": "ours: what a core can pay for, fixed beforehand; no arm is extended because of what it shows",
        "num_generations": "ours: 8, because of the CPU; DeepSeekMath, arXiv 2402.03300, has 64",
        "per_device_train_batch_size": _OPEN,
        "gradient_accumulation_steps": "ours: memory against time; each step trains on completions of its own",
        "max_completion_length": f"{_CAP}; where it is tight, for one attempt and its verdict",
        "temperature": "DeepSeek-R1, arXiv 2501.12948: 1 in training",
        "learning_rate": "ours, from pilots: 1e-6 of the papers is for 1e9 parameters",
        "lr_scheduler_type": "ours: constant, so that a step's place has no effect",
        "loss_type": "Dr. GRPO, arXiv 2503.20783, section 3 (constant normaliser)",
        "scale_rewards": "Dr. GRPO, arXiv 2503.20783, section 3; 'group' is DeepSeekMath, arXiv 2402.03300, eq. 3",
        "beta": "DAPO, arXiv 2503.14476, section 2.3, has no KL term; DeepSeekMath has 0.04",
        "epsilon": "PPO, arXiv 1707.06347, section 6.1",
        "format_weight": "ours: none, but for arms on how search dies; a tenth as in Gandhi et al., arXiv 2503.01307",
        "masked_words": _KNOCK_OUT,
        "permute_rewards": "ours: a control; what a group is paid stays, which completion is paid for becomes chance",
        "forced_search_share": f"ours: search is forced, so that the sampler stops being the barrier; {_SIZE}",
        "forced_search_weighted": "ours: weighted, the gradient is again the policy's; unweighted is the contrast",
        "rollouts": "ours: the distribution of TRL's generate, which a test holds it to, at less cost",
    },
    "behaviour_evaluation": {
        **_LANGUAGE,
        "split": "ours: test once, by the predictions page; validation for the bank and for pilots",
        "solutions": "ours: rare for sharper or broader, since bases that saw three numbers do not combine four",
        "num_problems": "ours: enough to resolve one percent",
        "num_samples": _OPEN,
        "temperature": "ours: 1, as in RL",
        "top_k": _FILTER,
        "top_p": _FILTER,
        "min_p": _FILTER,
        "max_completion_length": _CAP,
        "masked_words": _KNOCK_OUT,
        "forced_words": "ours: empty; forcing is for interventions",
        "cue": "ours: RL and tests never give the cue",
        "max_k": "ours: all samples of a problem, or half of them where the other half is the null",
    },
    "will_it_choke": {
        **_LANGUAGE,
        "num_problems": _OPEN,
        "num_samples": f"ours: the largest k and group size that can be read off; {_SIZE}",
        "num_attempts": _OPEN,
        "max_completion_length": _CAP,
        "gpu": "vendors' data sheets, dense figures; bears on the estimate of cost only",
        "num_steps": "ours: as in GRPO's default; bears on the estimate of cost only",
    },
}


_ADAM = "Adam, arXiv 1412.6980, section 2"
_NOTHING_CLIPPED = "ours: symmetric clipping; one update a batch keeps the ratio at 1, nothing is clipped"
_NO_BONUS = "ours: what search survives must survive without a bonus"
_LLAMA = "Llama, arXiv 2302.13971, section 2.3"
_MUON = "K. Jordan, Muon: an optimizer for hidden layers in neural networks (2024)"
_DRILLS = "ours, from a pilot: drills of four comparisons"
_AS_TRL = "TRL, as it comes; written out because conditions are compared at equal values"
_TRL_DEFAULT = "ours: TRL's default made explicit"
_COST_ONLY = "ours: the share of the peak that a careful set-up reaches; bears on the estimate of cost only"
_AS_BARS = "ours: as the bars of a base ask for"

# By stage, then by module and name in the code: the value and its source.
FIXED: dict[str, dict[str, tuple[Any, str]]] = {
    "base_model": {
        "pretraining.MUON_MOMENTUM": (0.95, f"{_MUON}, its default"),
        "muon.COEFFICIENTS": ((3.4445, -4.7750, 2.0315), f"{_MUON}: steepest quintic at zero"),
        "muon.NUM_ITERATIONS": (5, _MUON),
        "muon.EPSILON": (1e-7, "torch.optim.Muon, its default; a test holds the update to PyTorch's"),
        "pretraining.ADAMW_BETAS": ((0.9, 0.95), _LLAMA),
        "pretraining.weight_decay": (0.0, _OPEN),
        "pretraining.GRADIENT_CLIP": (1.0, _LLAMA),
        "tasks.countdown_problems.MIN_NUMBER": (1, _OPEN),
        "tasks.countdown_problems.MAX_NUMBER": (
            20,
            "ours: up to fifteen there are few enough to learn by heart",
        ),
        "tasks.countdown_problems.MAX_VALUE": (60, f"ours: each value is one word; {_SIZE}"),
        "tasks.countdown_problems.MIN_SOLUTION_SHARE": (
            {2: 0.0, 3: 0.1, 4: 0.0},
            "ours: where one attempt in twenty hits, search at chance fits under no cap that trains in minutes",
        ),
        "tasks.countdown_problems.SPLITS": ({"train": 0.7, "validation": 0.1, "test": 0.2}, _OPEN),
        "tasks.countdown.NUM_FACTS": (3, _OPEN),
        "tasks.countdown.NUM_COMPARISONS": (4, _DRILLS),
        "tasks.countdown.EQUAL_SHARE": (0.45, _DRILLS),
        "tasks.countdown.CLOSE_SHARE": (0.2, _DRILLS),
        "tasks.countdown.MAX_CLOSE": (3, _DRILLS),
        "tasks.countdown_traces.retry_solution_probability": (
            0.15,
            "ours, from a pilot: hardly more often than chance has it, so that long searches are common",
        ),
        "tasks.countdown_traces.give_up_probability": (
            0.12,
            "ours, from a pilot: searches end early enough that few are cut off under the cue",
        ),
        "tasks.countdown_traces.max_attempts": (12, "ours: leaves room under the cap used in RL"),
        "tasks.countdown_traces.RANDOM_YES_PROBABILITY": (
            0.5,
            "ours: makes random verdicts stop a search about as early as true ones do",
        ),
        "competence.NUM_SAMPLES": (4, _OPEN),
        "competence.SHARE_FACTOR": (1.25, f"ours: how far a share may be from the nominal one; {_SIZE}"),
        "competence.ZERO_PROBABILITY": (
            1e-5,
            f"ours: a base that never saw uncued search stays below; {_SIZE}",
        ),
    },
    "sft_priming": {
        "sft.loss_type": ("nll", _AS_TRL),
        "sft.completion_only_loss": (True, "ours: prompts are given, not to be learnt"),
        "sft.packing": (False, "ours: documents do not see each other, positions start at 0 as in sampling"),
        "sft.gradient_accumulation_steps": (1, _AS_TRL),
        "sft.lr_scheduler_type": ("linear", "ours: priming is read where it ends, not at several steps"),
        "sft.warmup_steps": (0, _AS_TRL),
        "sft.adam_beta1": (0.9, _ADAM),
        "sft.adam_beta2": (0.999, _ADAM),
        "sft.adam_epsilon": (1e-8, _ADAM),
        "sft.weight_decay": (0.0, "ours: as in GRPO"),
        "sft.max_grad_norm": (1.0, _TRL_DEFAULT),
    },
    "grpo": {
        "grpo.epsilon_high": (None, _NOTHING_CLIPPED),
        "grpo.delta": (None, _NOTHING_CLIPPED),
        "grpo.num_iterations": (1, "DeepSeekMath, arXiv 2402.03300, section 4.2: a single update a batch"),
        "grpo.importance_sampling_level": ("token", "DeepSeekMath, arXiv 2402.03300, eq. 3"),
        "grpo.multi_objective_aggregation": (
            "sum_then_normalize",
            "ours: the sum of the parts is the reward",
        ),
        "grpo.mask_truncated_completions": (
            False,
            "ours: what is cut at the cap is wrong, and counts as wrong",
        ),
        "grpo.top_entropy_quantile": (1.0, "ours: all tokens"),
        "grpo.entropy_coef": (0.0, _NO_BONUS),
        "grpo.use_adaptive_entropy": (False, _NO_BONUS),
        "grpo.off_policy_mask_threshold": (None, "ours: each step trains on completions of its own"),
        "grpo.shuffle_dataset": (False, "ours: problems are drawn by label, arms of one seed see the same"),
        "grpo.top_p": (1.0, _FILTER),
        "grpo.top_k": (0, _FILTER),
        "grpo.min_p": (None, _FILTER),
        "grpo.repetition_penalty": (1.0, _FILTER),
        "grpo.vllm_importance_sampling_correction": (
            True,
            "ours: corrects for vLLM's kernels; only with vLLM",
        ),
        "grpo.warmup_steps": (0, "ours: as the constant rate, so that a step's place has no effect"),
        "grpo.adam_beta1": (0.9, _ADAM),
        "grpo.adam_beta2": (0.999, _ADAM),
        "grpo.adam_epsilon": (1e-8, _ADAM),
        "grpo.weight_decay": (0.0, "ours: nothing but the reward moves the weights"),
        "grpo.max_grad_norm": (1.0, _TRL_DEFAULT),
        "grpo.disable_dropout": (True, _OPEN),
        "models.MASKED_LOGIT": (-1e9, "ours: finite, or the entropy of a masked token would be no number"),
    },
    "behaviour_evaluation": {
        "evaluation.NUM_RESAMPLES": (1000, _OPEN),
        "estimates.NUM_RESAMPLES": (1000, _OPEN),
    },
    "will_it_choke": {
        "probe.GROUP_SIZES": ((8, 16, 32, 64), _OPEN),
        "priming_advice.COMPETENT": (0.98, _AS_BARS),
        "priming_advice.TRUE_VERDICTS": (0.95, _AS_BARS),
        "training_costs.GENERATION_UTILISATION": (0.1, _COST_ONLY),
        "training_costs.TRAINING_UTILISATION": (0.3, _COST_ONLY),
    },
}


def parameter_table(stage: str, arms: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return one row a parameter of a stage: parameter, meaning, default, used (by these arms), source.

    `arms` are the parameters that runs recorded, one mapping an arm; a run from before a parameter has no value of it.
    """
    recorded, fields = list(arms), STAGES[stage].model_fields
    rows = []
    for name, source in SOURCES[stage].items():
        field = fields[name]
        values = [_shown(values[name]) for values in recorded if name in values]
        row = {"parameter": name, "meaning": field.description or ""}
        row |= {"default": "none" if field.is_required() else _shown(field.default)}
        rows.append(row | {"used": _used(values, bool(recorded)), "source": source})
    return pd.DataFrame(rows)


def fixed_table(stage: str) -> pd.DataFrame:
    """Return one row a value that stands in a stage's code: name (with its module), value, source."""
    rows = [(name, _shown(value), source) for name, (value, source) in FIXED[stage].items()]
    return pd.DataFrame(rows, columns=["name", "value", "source"])


def count_sources() -> dict[str, int]:
    """Count values by where they come from; a parameter that stages share, with its source, counts once.

    Keys: parameters, fixed, cited, ours (with a reason), open (ours, without one on record, or none for the size).
    """
    parameters = {item for own in SOURCES.values() for item in own.items()}
    fixed = [(name, source) for own in FIXED.values() for name, (_, source) in own.items()]
    sources = [source for _, source in [*parameters, *fixed]]
    own = [source for source in sources if source.startswith("ours")]
    unexplained = sum(NO_REASON in source for source in own)
    return {
        "parameters": len(parameters),
        "fixed": len(fixed),
        "cited": len(sources) - len(own),
        "ours": len(own) - unexplained,
        "open": unexplained,
    }


def _used(values: list[str], any_run: bool) -> str:
    """Say which values arms were run with, the commonest first, with the number of arms where they differ."""
    if not values:
        return "not recorded" if any_run else "not run"
    counts = Counter(values).most_common()
    if len(counts) == 1:
        return counts[0][0]
    return "\n".join(f"{value} ({count} arms)" if count > 1 else value for value, count in counts)


def _shown(value: Any) -> str:
    """Write a value as a reader would.

    >>> [_shown(value) for value in (2_800_000, 1.5e-4, "", None, True, (8, 16), {3: 0.1})]
    ['2,800,000', '0.00015', 'empty', 'none', 'yes', '8, 16', '3: 0.1']
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{_shown(key)}: {_shown(item)}" for key, item in value.items())
    if isinstance(value, tuple | list):
        return ", ".join(_shown(item) for item in value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value).strip() or "empty"
