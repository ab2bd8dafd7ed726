"""How arms are named: which model an arm is of, where it starts, and which experiment it belongs to."""

from __future__ import annotations

import re
from collections.abc import Iterable

# An evaluation on other problems than the usual ones of its profile, and one of a checkpoint on the way.
_OTHER_PROBLEMS = ("rare_", "common_", "three_")
ON_THE_WAY = re.compile(r"step_(\d+)_")

# Models of one later experiment, whose chapter shows them.
_OF_ONE_EXPERIMENT = {
    *("latent_weighted", "latent_forced"),
    *("ladder_003", "ladder_01", "ladder_03", "ladder_1", "ladder_3"),
    *("ladder_1_g32", "ladder_3_g32", "rich_g32", "ladder_3_b64", "rich_b64"),
    *("sft_filler", "sft_all_behaviours", "sft_incorrect", "sft_incorrect_accepted", "sft_cosmetic"),
    *("sft_mixed", "sft_mixed_cosmetic"),
    *("rich_bonus", "rich_tight", "rich_tight_bonus"),
    "cosmetic",
    *("sft_subgoal_setting", "sft_backward_chaining"),
}


def base_of(arm: str) -> str:
    """Strip stage and problems from an arm's name, so that a model keeps its name and colour before and after RL.

    >>> [base_of(arm) for arm in ("base_rich", "grpo_rich", "sft_filler", "grpo_sft_filler", "rare_grpo_rich")]
    ['rich', 'rich', 'sft_filler', 'sft_filler', 'rich']
    >>> base_of("three_sft_smollm2_search"), base_of("step_20_grpo_rich")
    ('sft_smollm2_search', 'rich')
    """
    return re.sub(
        r"^(base|grpo)_", "", re.sub(f"^({'|'.join(_OTHER_PROBLEMS)}|{ON_THE_WAY.pattern})", "", arm)
    )


def before_and_after_arms(evaluated: Iterable[str]) -> list[tuple[str, str]]:
    """Pair each arm evaluated before RL with the name of the same model's after it, on the usual test problems.

    An arm after RL whose start has no evaluation of its own begins where the base in its name does. Arms that have a
    chapter of their own are left out.

    >>> before_and_after_arms(["base_rich", "grpo_rich", "sft_direct", "rare_base_rich", "grpo_rich_permuted"])
    [('base_rich', 'grpo_rich'), ('sft_direct', 'grpo_sft_direct'), ('base_rich', 'grpo_rich_permuted')]
    """
    arms = [arm for arm in evaluated if not has_own_chapter(arm)]
    before = [arm for arm in arms if not arm.startswith("grpo_")]
    pairs = [(arm, f"grpo_{base_of(arm)}") for arm in before]
    paired = {after for _, after in pairs}
    for after in arms:
        if after.startswith("grpo_") and after not in paired:
            starts = [start for start in before if f"{after}_".startswith(f"grpo_{base_of(start)}_")]
            pairs.append((max(starts, key=len, default=arm_before(base_of(after))), after))
    return pairs


def arm_before(model: str) -> str:
    """Name the arm that evaluates a model before RL.

    >>> arm_before("rich"), arm_before("sft_filler")
    ('base_rich', 'sft_filler')
    """
    return model if model.startswith("sft_") else f"base_{model}"


def has_own_chapter(arm: str) -> bool:
    """Tell whether an arm belongs to one later experiment, whose chapter shows it; the others would drown in them.

    A checkpoint on the way is for the completions browser alone.

    >>> arms = ("grpo_latent", "grpo_latent_forced", "sft_direct", "sft_filler", "step_20_grpo_latent")
    >>> [has_own_chapter(arm) for arm in arms]
    [False, True, False, True, True]
    """
    other = arm.startswith(_OTHER_PROBLEMS) or ON_THE_WAY.match(arm) is not None
    return other or base_of(arm) in _OF_ONE_EXPERIMENT
