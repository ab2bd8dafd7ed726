from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from extrabitter import tables as records
from extrabitter.tables import TableError, read_table, write_table


def pass_at_k() -> pd.DataFrame:
    return pd.DataFrame({"k": [1, 2], "value": [0.2, 0.3], "lower": [0.1, 0.2], "upper": [0.3, 0.4]})


def test_table_comes_back_as_written_with_columns_in_the_schemas_order(tmp_path: Path) -> None:
    table = pass_at_k()[["upper", "k", "lower", "value"]]
    path = write_table(tmp_path / "pass_at_k.parquet", "pass_at_k", table)
    back = read_table(path, "pass_at_k")
    assert list(back.columns) == ["k", "value", "lower", "upper"]
    pd.testing.assert_frame_equal(back, pass_at_k())
    assert [entry.name for entry in tmp_path.iterdir()] == ["pass_at_k.parquet"]


def test_columns_in_front_of_a_stacked_table_come_back_and_must_be_there(tmp_path: Path) -> None:
    stacked = pass_at_k().assign(arm="a")
    path = write_table(tmp_path / "pass_at_k.parquet", "pass_at_k", stacked, leading=("arm",))
    assert [*read_table(path, "pass_at_k", leading=("arm",))] == ["arm", "k", "value", "lower", "upper"]
    with pytest.raises(TableError, match="column 'arm' is unknown"):
        read_table(path, "pass_at_k")
    with pytest.raises(TableError, match="seed"):
        read_table(path, "pass_at_k", leading=("seed",))


def test_same_table_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    first = write_table(tmp_path / "a.parquet", "pass_at_k", pass_at_k())
    second = write_table(tmp_path / "b.parquet", "pass_at_k", pass_at_k())
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("table", "line"),
    [
        (pass_at_k().drop(columns="lower"), "'lower' is missing; it has k, value, upper"),
        (pass_at_k().assign(extra=1), "'extra' is unknown; allowed: k, value, lower, upper"),
        (pass_at_k().assign(k=["a", "b"]), "'k' has type str; it must be int"),
        (pass_at_k().assign(value=[1, 0]), "'value' has type int64; it must be float"),
        (pass_at_k().assign(k=[True, False]), "'k' has type bool; it must be int"),
    ],
)
def test_another_form_is_one_line_and_writes_nothing(tmp_path: Path, table: pd.DataFrame, line: str) -> None:
    with pytest.raises(TableError) as caught:
        write_table(tmp_path / "pass_at_k.parquet", "pass_at_k", table)
    assert str(caught.value) == f"table pass_at_k: column {line}"
    assert not list(tmp_path.iterdir())


def test_absent_and_damaged_files_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="table losses: no file"):
        read_table(tmp_path / "losses.parquet", "losses")
    damaged = tmp_path / "pass_at_k.parquet"
    damaged.write_bytes(b"PAR1 is not enough")
    with pytest.raises(TableError, match="is not readable as parquet") as caught:
        read_table(damaged, "pass_at_k")
    assert "\n" not in str(caught.value)


def test_empty_table_with_all_columns_is_a_table(tmp_path: Path) -> None:
    empty = pd.DataFrame(columns=["k", "value", "lower", "upper"])
    assert len(read_table(write_table(tmp_path / "e.parquet", "pass_at_k", empty), "pass_at_k")) == 0


def test_every_column_has_a_type_and_a_meaning() -> None:
    for name, columns in records.SCHEMAS.items():
        assert len({column.name for column in columns}) == len(columns), name
        assert all(column.meaning for column in columns), name
        assert {column.dtype for column in columns} <= {"int", "float", "str", "bool"}, name
