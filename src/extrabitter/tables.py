"""The tables a run writes: each column's name, type, unit and meaning, and how a table meets the disk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import pandas as pd

from extrabitter.params import OneLineError

BEHAVIOURS = ("verification", "backtracking", "subgoal_setting", "backward_chaining")


class TableError(OneLineError, ValueError):
    """A table does not have the form its name promises; the message is one line."""


class Column(NamedTuple):
    """One column of a table."""

    name: str
    dtype: Literal["int", "float", "str", "bool"]
    unit: str
    meaning: str


def _interval(of: str) -> tuple[Column, ...]:
    return (
        Column("value", "float", "", of),
        Column("lower", "float", "", "lower end of the 95 % interval"),
        Column("upper", "float", "", "upper end of the 95 % interval"),
    )


def _named_interval(name: str, of: str) -> tuple[Column, ...]:
    return (
        Column(name, "float", "", of),
        Column(f"{name}_lower", "float", "", "lower end of its 95 % interval"),
        Column(f"{name}_upper", "float", "", "upper end of its 95 % interval"),
    )


_BEHAVIOUR_COUNTS = tuple(
    column
    for b in BEHAVIOURS
    for column in (
        Column(f"{b}_count", "int", "", f"times {b} occurs in the completion"),
        Column(f"{b}_functional_count", "int", "", f"times {b} does its work, not only its words"),
    )
)

_BEHAVIOUR_RATES = tuple(
    column
    for b in BEHAVIOURS
    for column in (
        Column(f"mean_{b}_count", "float", "", f"mean times of {b} in a completion"),
        Column(f"frac_with_{b}", "float", "", f"share of completions with {b}"),
    )
)

_SAMPLED = (
    Column("problem", "str", "", "the task's name of the problem, e.g. 6-7-9:8"),
    Column("band", "str", "", "range of difficulty that the problem is of"),
    Column("sample", "int", "", "index of the completion for this problem, from 0"),
    Column("prompt", "str", "", "prompt as given to the model"),
    Column("completion", "str", "", "completion as written by the model"),
    Column("num_completion_tokens", "int", "tokens", "length of the completion"),
    Column("truncated", "bool", "", "cut at the cap before it ended"),
)
_MEASURED = (
    Column("correct", "bool", "", "the verifier accepts the submitted answer"),
    Column("reason", "str", "", "the verifier's named reason"),
    Column("value", "str", "", "what the answer amounts to, in words; empty where it does to nothing"),
    Column("well_formed", "bool", "", "the parser reads the completion to its end"),
    Column("answered", "bool", "", "the completion submits an answer"),
    Column("num_filler", "int", "", "filler words in front"),
    Column("num_attempts", "int", "", "attempts made"),
    Column("num_hits", "int", "", "attempts that solve the problem by the rules"),
    Column("first_attempt_hit", "bool", "", "the first attempt solves the problem"),
    Column("num_repeated_attempts", "int", "", "attempts equal to an earlier one"),
    Column("num_steps", "int", "", "steps written"),
    Column("num_right_steps", "int", "", "steps that are right"),
    Column("num_verdicts", "int", "", "verdicts given"),
    Column("num_true_verdicts", "int", "", "verdicts that are true"),
    Column("num_yes_verdicts", "int", "", "verdicts that say yes"),
    Column("num_true_yes_verdicts", "int", "", "verdicts that say yes and are true"),
    Column("num_hit_verdicts", "int", "", "verdicts given on attempts that hit"),
    Column("num_true_hit_verdicts", "int", "", "true verdicts on attempts that hit"),
    Column("num_miss_verdicts", "int", "", "verdicts given on attempts that miss"),
    Column("num_true_miss_verdicts", "int", "", "true verdicts on attempts that miss"),
    *_BEHAVIOUR_COUNTS,
)

SCHEMAS: dict[str, tuple[Column, ...]] = {
    "losses": (
        Column("step", "int", "steps", "optimiser step, from 1"),
        Column("loss", "float", "nats/token", "mean loss of the step's batch"),
        Column("learning_rate", "float", "", "learning rate of the step"),
        Column("num_tokens", "int", "tokens", "tokens seen up to and with this step"),
        Column("elapsed_s", "float", "s", "wall time since the first step began"),
    ),
    "bars": (
        Column("bar", "str", "", "competence bar"),
        *_interval("measured value"),
        Column("threshold", "float", "", "value that the bar asks for"),
        Column("direction", "str", "", "'>=' or '<=': how value and threshold must lie"),
        Column("passed", "bool", "", "the bar is met"),
    ),
    "documents": (
        Column("prompt", "str", "", "prompt of a sampled training document"),
        Column("completion", "str", "", "its completion"),
        Column("kind", "str", "", "drill, or the condition that it shows; cued_search behind the cue"),
    ),
    "steps": (
        Column("step", "int", "steps", "optimiser step, from 1"),
        Column("loss", "float", "", "GRPO loss"),
        Column("grad_norm", "float", "", "norm of the gradient before clipping"),
        Column("learning_rate", "float", "", "learning rate of the step"),
        Column("entropy", "float", "nats/token", "mean entropy of the next-token distribution"),
        Column("reward", "float", "", "mean total reward"),
        Column("reward_std", "float", "", "mean standard deviation of the reward inside a group"),
        Column("correct_reward", "float", "", "mean reward for a right answer"),
        Column("format_reward", "float", "", "mean reward for the format; missing when not used"),
        Column("frac_informative_groups", "float", "", "share of groups whose rewards differ"),
        Column("mean_completion_tokens", "float", "tokens", "mean length of a completion"),
        Column("num_tokens", "int", "tokens", "tokens of all completions up to and with this step"),
        Column("frac_truncated", "float", "", "share of completions cut at the cap"),
        Column("frac_well_formed", "float", "", "share of completions that parse to the end"),
        Column("frac_searches", "float", "", "share of completions with backtracking or verification"),
        Column("mean_attempts", "float", "", "attempts per completion (m)"),
        Column("hit_rate", "float", "", "share of attempts that hit (h)"),
        Column("verdict_accuracy", "float", "", "share of true verdicts (v); missing without verdicts"),
        *_BEHAVIOUR_RATES,
        Column("rollout_s", "float", "s", "wall time of sampling"),
        Column("train_s", "float", "s", "wall time of the gradient step"),
        Column("step_s", "float", "s", "wall time of the whole step"),
    ),
    "completions": (*_SAMPLED, *_MEASURED),
    "counts": (
        Column("problem", "str", "", "the task's name of the problem"),
        Column("num_samples", "int", "", "its completions"),
        Column("num_correct", "int", "", "of which right"),
        Column("num_tokens", "int", "tokens", "length of its completions together"),
    ),
    "runs": (
        Column("state", "str", "", "ok, or failed"),
        Column("reason", "str", "", "why it failed, in one line"),
        Column("parameters", "str", "JSON", "what the run was told"),
        Column("machine", "str", "JSON", "processor, cores, card, system"),
        Column("versions", "str", "JSON", "versions of Python and packages"),
        Column("model", "str", "JSON", "what the checkpoint turned out to be"),
        Column("commit", "str", "", "commit that it was run from"),
        Column("code_sha256", "str", "", "hash of the stage's code"),
        Column("input_sha256", "str", "", "hash of the weights that it started from"),
        Column("predictions_sha256", "str", "", "hash of the predictions when it was run"),
        Column("result_sha256", "str", "", "hash of its results, where it was taken"),
        Column("dirty", "bool", "", "the tree had changes that were not committed"),
        Column("threads", "int", "", "threads of a core"),
        Column("seconds", "float", "s", "wall time"),
        Column("peak_rss_mb", "float", "MB", "most memory taken"),
    ),
    "summary": (
        Column("measure", "str", "", "name of the measure"),
        *_interval("value over all completions; missing where undefined"),
        Column("count", "int", "", "number of units behind the value"),
    ),
    "pass_at_k": (
        Column("k", "int", "", "samples allowed"),
        *_interval("unbiased chance that one of k samples is right"),
    ),
    "informative_groups": (
        Column("num_generations", "int", "", "completions in a group (G)"),
        *_interval("unbiased share of groups that are neither all right nor all wrong"),
        Column("first_step", "float", "steps", "GRPO step at which one is first to be expected; infinite: none seen"),
        Column("first_step_lower", "float", "steps", "the same at the upper end of the share"),
    ),
    "probe_behaviours": (
        Column("behaviour", "str", "", "behaviour, or search: any of the task's search words"),
        Column("place", "str", "", "where its first word may stand"),
        *_named_interval("p0_sampled", "share of completions, sound ones only, in which it does its work"),
        Column("frac_functional", "float", "", "share of its occurrences that do their work"),
        *_named_interval("p0_forced", "teacher-forced probability of its first word at that place"),
        Column("success_with", "float", "", "success where its first word was forced"),
        Column("success_without", "float", "", "success where another word was drawn instead"),
        *_named_interval("advantage", "difference of the two, averaged within problems"),
        Column("num_problems", "int", "", "problems behind the advantage"),
        Column("num_pairs", "int", "", "pairs of completions behind the advantage"),
    ),
}

_IS_DTYPE = {
    "int": pd.api.types.is_integer_dtype,
    "float": pd.api.types.is_float_dtype,
    "bool": pd.api.types.is_bool_dtype,
    "str": pd.api.types.is_string_dtype,
}


def validate_table(name: str, df: pd.DataFrame) -> None:
    """Check a table against its schema; raise TableError: table, column, what is wrong."""
    if name not in SCHEMAS:
        raise TableError(f"table {name!r}: unknown; must be one of {', '.join(SCHEMAS)}")
    expected, present = [column.name for column in SCHEMAS[name]], [str(column) for column in df.columns]
    for column_name in [*expected, *present]:
        if column_name not in present:
            raise TableError(f"table {name}: column {column_name!r} is missing; it has {', '.join(present)}")
        if column_name not in expected:
            raise TableError(f"table {name}: column {column_name!r} is unknown; allowed: {', '.join(expected)}")
    for column in SCHEMAS[name]:
        # An empty column has no type of its own to check.
        if len(df) and not _IS_DTYPE[column.dtype](df[column.name]):
            found = df[column.name].dtype
            raise TableError(f"table {name}: column {column.name!r} has type {found}; it must be {column.dtype}")


def write_table(path: str | Path, name: str, df: pd.DataFrame, leading: Sequence[str] = ()) -> Path:
    """Write a table as parquet, columns in the schema's order; all of it or nothing is on disk.

    Of a table that was stacked, `leading` names the columns in front, which no schema has.
    """
    validate_table(name, df.drop(columns=list(leading)))
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    ordered = df[[*leading, *(column.name for column in SCHEMAS[name])]].reset_index(drop=True)
    try:
        # Published tables are committed: completions shrink to half of what the default codec leaves of them.
        ordered.to_parquet(partial, index=False, compression="zstd", compression_level=9)
        with open(partial, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def read_table(path: str | Path, name: str, leading: Sequence[str] = ()) -> pd.DataFrame:
    """Read a table, with the columns that were put in front of it, and check it.

    Raises TableError with one line when it is absent, unreadable or wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise TableError(f"table {name}: no file {path}")
    try:
        df = pd.read_parquet(path)
        validate_table(name, df.drop(columns=list(leading)))
    except TableError as error:
        raise TableError(f"{error} ({path})") from None
    except (OSError, ValueError, KeyError) as error:  # pyarrow raises the first two for a damaged file
        first_line = str(error).splitlines()[0]
        raise TableError(f"table {name}: {path} is not readable as parquet ({first_line})") from None
    return df


def empty_table(name: str) -> pd.DataFrame:
    """Return a table without rows."""
    return pd.DataFrame({column.name: pd.Series(dtype=column.dtype) for column in SCHEMAS[name]})
