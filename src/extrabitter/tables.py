"""The tables a run writes, and how they meet the disk; `tables.yaml` has each column's name, type, unit and meaning."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd
import yaml

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


def _columns(rows: Mapping[str, Any], behaviour: str = "") -> Iterator[Column]:
    """Read the columns of a table from its section of `tables.yaml`."""
    for name, said in rows.items():
        if name == "each_behaviour":
            for each in BEHAVIOURS:
                yield from _columns(said, each)
            continue
        dtype, unit, meaning = said
        called = name.format(behaviour)
        yield Column(called, "float" if dtype == "interval" else dtype, unit, meaning.format(behaviour))
        for end in ("lower", "upper") if dtype == "interval" else ():
            its_name = end if called == "value" else f"{called}_{end}"
            yield Column(its_name, "float", unit, f"{end} end of its 95 % interval")


_READ = yaml.safe_load(Path(__file__).with_name("tables.yaml").read_text(encoding="utf-8"))
SCHEMAS: dict[str, tuple[Column, ...]] = {name: tuple(_columns(rows)) for name, rows in _READ.items()}

_IS_DTYPE = {
    "int": pd.api.types.is_integer_dtype,
    "float": pd.api.types.is_float_dtype,
    "bool": pd.api.types.is_bool_dtype,
    "str": pd.api.types.is_string_dtype,
}


@contextmanager
def all_or_nothing(path: Path) -> Iterator[Path]:
    """Yield the path of a file to write, which takes the name `path` once it is whole and on disk."""
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        yield partial
        with open(partial, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def validate_table(name: str, df: pd.DataFrame) -> None:
    """Check a table against its schema; raise TableError: table, column, what is wrong."""
    expected, present = [column.name for column in SCHEMAS[name]], [str(column) for column in df.columns]
    for called in [*expected, *present]:
        where = f"table {name}: column {called!r}"
        if called not in present:
            raise TableError(f"{where} is missing; it has {', '.join(present)}")
        if called not in expected:
            raise TableError(f"{where} is unknown; allowed: {', '.join(expected)}")
    for called, dtype, *_ in SCHEMAS[name]:
        # An empty column has no type of its own to check.
        if len(df) and not _IS_DTYPE[dtype](df[called]):
            found = df[called].dtype
            raise TableError(f"table {name}: column {called!r} has type {found}; it must be {dtype}")


def write_table(path: str | Path, name: str, df: pd.DataFrame, leading: Sequence[str] = ()) -> Path:
    """Write a table as parquet, columns in the schema's order; all of it or nothing is on disk.

    Of a table that was stacked, `leading` names the columns in front, which no schema has.
    """
    validate_table(name, df.drop(columns=list(leading)))
    ordered = df[[*leading, *(column.name for column in SCHEMAS[name])]].reset_index(drop=True)
    with all_or_nothing(Path(path)) as partial:
        # Published tables are committed: completions shrink to half of what the default codec leaves of them.
        ordered.to_parquet(partial, index=False, compression="zstd", compression_level=9)
    return Path(path)


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


def count(completions: pd.DataFrame) -> pd.DataFrame:
    """Turn a table of completions into table `counts`: a row a problem, in the order of their first samples."""
    sampled = completions.groupby("problem", sort=False)
    correct, tokens = sampled["correct"], sampled["num_completion_tokens"]
    counts = {"num_samples": correct.size(), "num_correct": correct.sum(), "num_tokens": tokens.sum()}
    return pd.DataFrame(counts).astype("int64").reset_index()


def empty_table(name: str) -> pd.DataFrame:
    """Return a table without rows."""
    return pd.DataFrame({column.name: pd.Series(dtype=column.dtype) for column in SCHEMAS[name]})
