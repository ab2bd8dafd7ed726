"""A results folder as a finished profile leaves it, made up in seconds: for tests of figures, chapters and the book.

The completions are real text, written by the task's own trace writer and measured by the real parser; curves
and losses are smooth inventions. Everything follows from the seeds. No number in it means anything.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from extrabitter import runs as artifacts
from extrabitter import digests as provenance
from extrabitter import tables as records
from extrabitter.runs import Status
from extrabitter.behaviours.measures import MEASURES, measure_completion, summarise
from extrabitter.params import stage_parameters
from extrabitter.evaluation.decoding import DECODERS
from extrabitter.evaluation.probe import PLACES
from extrabitter.seeding import derive_seed
from extrabitter.tasks import countdown

PRIMED = ("sft_verification_backtracking", "sft_direct")
# Share that searches and chance of a good guess, before and after RL.
MODELS = {
    "absent": ((0.0, 0.2), (0.0, 0.35)),
    "rich": ((0.1, 0.2), (0.95, 0.25)),
    "sft_verification_backtracking": ((0.9, 0.2), (1.0, 0.28)),
    "sft_direct": ((0.0, 0.22), (0.0, 0.36)),
}
NUM_STEPS = 40
SEARCH = countdown.TraceCondition(verification=True, backtracking=True)
EVERYTHING = countdown.TraceCondition(
    verification=True, backtracking=True, subgoal_setting=True, backward_chaining=True
)


def write_results(
    root: Path,
    seeds: Sequence[int] = (0,),
    failed: Iterable[tuple[str, str, int]] = (),
    num_problems: int = 30,
    num_samples: int = 4,
) -> Path:
    """Write runs of every stage and arm below `root`; those in `failed` (stage, arm, seed) end in a status only."""
    failed = set(failed)
    for seed in seeds:
        for stage, arm, tables in _runs(seed, num_problems, num_samples):
            if (stage, arm, seed) in failed:
                path = root / stage / arm / f"seed={seed}"
                artifacts.write_status(
                    path, Status("failed", "ModelError: loss is not finite at step 3", 12.0)
                )
            else:
                write_run(root, stage, arm, seed, tables)
    return root


def write_run(root: Path, stage: str, arm: str, seed: int, tables: Mapping[str, pd.DataFrame]) -> None:
    """Write one complete run with its tables below `root`."""
    path = root / stage / arm / f"seed={seed}"
    path.mkdir(parents=True)
    for name, table in tables.items():
        records.write_table(path / f"{name}.parquet", name, table)
    _write_manifest(path, stage, arm, seed)
    artifacts.write_status(path, Status("ok", wall_s=90.0))


def completions_table(arm: str, seed: int, num_problems: int, num_samples: int) -> pd.DataFrame:
    """Made-up table `completions` of an evaluation arm such as grpo_rich."""
    model = arm.removeprefix("base_").removeprefix("grpo_")
    share, skill = MODELS[model][arm.startswith("grpo_")]
    rng = random.Random(derive_seed(seed, "synthetic", arm))
    rows = []
    for problem in countdown.generate_problems("test", num_problems, derive_seed(seed, "p"), distinct=True):
        for sample in range(num_samples):
            searches = rng.random() < share
            base = (EVERYTHING if rng.random() < 0.2 else SEARCH) if searches else countdown.TraceCondition()
            condition = countdown.TraceCondition(**{**vars(base), "solution_probability": skill})
            text = countdown.render_trace(countdown.write_trace(problem, condition, rng), problem)
            truncated = rng.random() < 0.03
            if truncated:
                text = text[: len(text) // 2]
            rows.append(
                {
                    "problem": problem.identifier,
                    "num_numbers": len(problem.numbers),
                    "target": problem.target,
                    "sample": sample,
                    "prompt": countdown.render_prompt(problem),
                    "completion": text,
                    "num_completion_tokens": len(text.split()),
                    "truncated": truncated,
                    **measure_completion(text, problem, truncated),
                }
            )
    return pd.DataFrame(rows)


def probe_tables(seed: int, chance: float) -> dict[str, pd.DataFrame]:
    """Made-up tables of a probe whose model begins to search with a chance, where searching pays."""
    ends = {"lower": 0.9 * chance, "upper": min(1.0, 1.1 * chance)}
    behaviours = pd.DataFrame(
        {
            "behaviour": behaviour,
            "place": PLACES[behaviour],
            **{f"p0_{way}{end}": chance for way in ("sampled", "forced") for end in ("", "_lower", "_upper")},
            "frac_functional": 1.0,
            "success_with": 0.6 + 0.01 * seed,
            "success_without": 0.3,
            "advantage": 0.3,
            "advantage_lower": 0.2,
            "advantage_upper": 0.4,
            "num_problems": 40,
            "num_pairs": 80,
        }
        for behaviour in ("search", "verification", "backtracking")
    )
    decoding = pd.DataFrame(
        {"decoder": name, "value": 0.0, "lower": 0.0, "upper": 0.0, "frac_unreachable": 1.0}
        if name == "top-k 5"
        else {"decoder": name, "value": chance, **ends, "frac_unreachable": 0.0}
        for name in DECODERS
    )
    return {"probe_behaviours": behaviours, "decoding": decoding}


def _runs(seed: int, num_problems: int, num_samples: int) -> list[tuple[str, str, dict[str, pd.DataFrame]]]:
    runs = [
        (
            "base_model",
            arm,
            {"losses": _losses(seed, arm), "bars": _bars(seed, arm), "documents": _documents(seed)},
        )
        for arm in ("trunk", "absent", "rich")
    ]
    runs += [("sft_priming", arm, {"losses": _losses(seed, arm)}) for arm in PRIMED]
    runs += [("grpo", f"grpo_{model}", {"steps": steps_table(seed, model, NUM_STEPS)}) for model in MODELS]
    for model in MODELS:
        for arm in (model if model in PRIMED else f"base_{model}", f"grpo_{model}"):
            completions = completions_table(arm, seed, num_problems, num_samples)
            tables = {"completions": completions, "summary": summary_table(completions)}
            runs.append(("behaviour_evaluation", arm, {**tables, "pass_at_k": _pass_at_k(completions)}))
    return runs


def _losses(seed: int, arm: str) -> pd.DataFrame:
    rng = np.random.default_rng(derive_seed(seed, "losses", arm))
    step = np.arange(1, 101)
    return pd.DataFrame(
        {
            "step": step,
            "loss": 1.2 + 2.5 * np.exp(-step / 20) + rng.normal(0, 0.03, len(step)),
            "learning_rate": 0.02 * (1 - step / 101),
            "num_tokens": step * 20_000,
            "elapsed_s": step * 0.8,
        }
    )


def _bars(seed: int, arm: str) -> pd.DataFrame:
    values = [("arithmetic steps right", 0.99, 0.98, ">="), ("truncated", 0.01, 0.02, "<=")]
    if arm == "rich":
        values += [
            ("uncued search, teacher-forced", 0.09, 0.08, ">="),
            ("cued: 'yes' verdicts true", 0.93, 0.95, ">="),
        ]
    rows = [
        {
            "bar": f"3 numbers: {name}",
            "value": value + 1e-4 * seed,
            "lower": value - 0.01,
            "upper": value + 0.01,
            "threshold": threshold,
            "direction": direction,
            "passed": bool(value >= threshold if direction == ">=" else value <= threshold),
        }
        for name, value, threshold, direction in values
    ]
    return pd.DataFrame(rows)


def _documents(seed: int) -> pd.DataFrame:
    rng = random.Random(derive_seed(seed, "documents"))
    rows = []
    for index, problem in enumerate(countdown.generate_problems("train", 40, derive_seed(seed, "documents"))):
        searches = index % 4 == 0
        trace = countdown.write_trace(problem, SEARCH if searches else countdown.TraceCondition(), rng)
        kind = "cued" if searches else "direct"
        prompt = countdown.render_prompt(problem, cue=searches)
        rows.append({"prompt": prompt, "completion": countdown.render_trace(trace, problem), "kind": kind})
    return pd.DataFrame(rows)


def steps_table(seed: int, model: str, num_steps: int) -> pd.DataFrame:
    """Made-up table `steps` of GRPO from a model of MODELS."""
    rng = np.random.default_rng(derive_seed(seed, "steps", model))
    (share_0, skill_0), (share_1, skill_1) = MODELS[model]
    step = np.arange(1, num_steps + 1)
    progress = 1 / (1 + np.exp(-(step - num_steps / 2) / 4))
    share, skill = share_0 + (share_1 - share_0) * progress, skill_0 + (skill_1 - skill_0) * progress
    attempts = 1 + 1.6 * share
    reward = 1 - (1 - skill) ** attempts + rng.normal(0, 0.01, num_steps)
    table = {
        "step": step,
        "loss": rng.normal(0, 0.01, num_steps),
        "grad_norm": np.full(num_steps, 0.3),
        "learning_rate": np.full(num_steps, 1.5e-4),
        "entropy": 1.2 - 0.5 * progress,
        "reward": reward,
        "reward_std": np.sqrt(np.clip(reward * (1 - reward), 0, 1)),
        "correct_reward": reward,
        "format_reward": np.full(num_steps, np.nan),
        "frac_informative_groups": 1 - reward**8 - (1 - reward) ** 8,
        "mean_completion_tokens": 12 + 25 * (attempts - 1),
        "frac_truncated": 0.05 * share,
        "frac_well_formed": np.full(num_steps, 0.99),
        "frac_searches": share,
        "mean_attempts": attempts,
        "hit_rate": skill,
        "verdict_accuracy": np.where(share > 0, 0.95, np.nan),
        "rollout_s": np.full(num_steps, 1.1),
        "train_s": np.full(num_steps, 0.9),
        "step_s": np.full(num_steps, 2.0),
    }
    for behaviour in records.BEHAVIOURS:
        seen = behaviour in ("verification", "backtracking")
        table[f"mean_{behaviour}_count"] = (attempts - 1) * seen
        table[f"frac_with_{behaviour}"] = share * seen
    return pd.DataFrame(table)


def summary_table(completions: pd.DataFrame) -> pd.DataFrame:
    """Made-up table `summary` of completions: true values, invented intervals."""
    values = summarise(completions)
    counts = {name: int(measure.denominator(completions).sum()) for name, measure in MEASURES.items()}
    rows = [
        {"measure": name, "value": value, "lower": 0.95 * value, "upper": 1.05 * value, "count": counts[name]}
        for name, value in values.items()
    ]
    chance = max(values["frac_searches"], 1e-7)
    read_off = {"value": chance, "lower": 0.9 * chance, "upper": 1.1 * chance, "count": 30}
    return pd.DataFrame([*rows, {"measure": "search_probability", **read_off}])


def _pass_at_k(completions: pd.DataFrame) -> pd.DataFrame:
    right = completions.groupby("problem")["correct"].mean().to_numpy()
    ks = [k for k in (1, 2, 4, 8) if k <= completions.groupby("problem").size().min()]
    values = [float((1 - (1 - right) ** k).mean()) for k in ks]
    return pd.DataFrame(
        {
            "k": ks,
            "value": values,
            "lower": [0.95 * v for v in values],
            "upper": [min(1.0, 1.05 * v) for v in values],
        }
    )


def _write_manifest(path: Path, stage: str, arm: str, seed: int) -> None:
    files = {file.name: provenance.file_sha256(file) for file in sorted(path.glob("*.parquet"))}
    manifest = {
        "schema_version": artifacts.SCHEMA_VERSION,
        "stage": stage,
        "arm": arm,
        "seed": seed,
        "parameters": _parameters(path, stage, arm, seed),
        "commit": "0" * 40,
        "dirty": False,
        "code_sha256": "c" * 64,
        "input_sha256": "",
        "predictions_sha256": "",
        "packages": {"python": "3.11"},
        "machine": {"cpu": "made-up processor", "num_cores": 2, "gpu": "", "system": "Linux"},
        "threads": 1,
        "wall_s": 90.0,
        "peak_rss_mb": 512.0,
        "files": files,
    }
    artifacts.write_json(path / artifacts.MANIFEST, manifest)


def _parameters(path: Path, stage: str, arm: str, seed: int) -> dict[str, object]:
    own: dict[str, object] = {"run_dir": str(path), "arm": arm, "seed": seed}
    if stage == "base_model" and arm != "trunk":
        own["init_from"] = "base_model/trunk"
    if stage == "base_model" and arm == "rich":
        own |= {"cued_share": 0.25, "search_share": 0.1}
    if stage == "sft_priming":
        own |= {"init_from": "base_model/absent", "condition": arm.removeprefix("sft_")}
    if stage == "grpo":
        own |= {"init_from": _checkpoint(arm.removeprefix("grpo_"), seed), "num_steps": NUM_STEPS}
        own |= {"max_completion_length": 24} if "tight" in arm else {}
        own |= {"format_weight": 0.1} if "bonus" in arm else {}
    if stage == "will_it_choke":
        own["checkpoint"] = _checkpoint(arm.removeprefix("probe_"), seed)
    if stage == "behaviour_evaluation":
        own["checkpoint"] = _checkpoint(arm.removeprefix("base_"), seed)
    return stage_parameters(stage, own).model_dump()


def _checkpoint(arm: str, seed: int) -> str:
    """Where the checkpoint of a model lies, as a profile's job would name it."""
    stage = "grpo" if arm.startswith("grpo_") else "sft_priming" if arm in PRIMED else "base_model"
    return f"runs/made_up/{stage}/{arm}/seed={seed}/checkpoint"
