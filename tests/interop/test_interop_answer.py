"""The answer to a question as a data frame, and as a file."""

import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars
import pytest

from flowlab.core.errors import LedgerError
from flowlab.interop.answer import write_answer
from flowlab.ledger.connection import Table, read

QUESTION = """
    select 3::integer as whole, 0.1::double as number, 'a, "b"' as text, '' as empty, null::varchar as nothing,
        [1, null, 3] as list
    union all select 2, 'nan'::double, 'x', 'y', 'z', []"""


@pytest.mark.parametrize(
    ("asked", "dtype", "value"),
    [
        ("7::integer", polars.Int64, 7),
        ("7::utinyint", polars.Int64, 7),
        ("sum(7::bigint)", polars.Int64, 7),
        ("18446744073709551615::ubigint", polars.Decimal(38, 0), Decimal(2**64 - 1)),
        ("-170141183460469231731687303715884105::hugeint", polars.Decimal(38, 0), Decimal(-(2**127 // 1000))),
        ("1.5::float", polars.Float64, 1.5),
        ("0.1::double", polars.Float64, 0.1),
        ("1.50", polars.Decimal(3, 2), Decimal("1.50")),
        ("true", polars.Boolean, True),
        ("'a'", polars.String, "a"),
        ("null", polars.Int64, None),
        ("[1, null]", polars.List(polars.Int64), [1, None]),
        ("[[0.5::double]]", polars.List(polars.List(polars.Float64)), [[0.5]]),
        ("['a']", polars.List(polars.String), ["a"]),
        ("array_value(1, 2)", polars.List(polars.Int64), [1, 2]),
        ("date '2026-01-02'", polars.Date, date(2026, 1, 2)),
        ("time '01:02:03'", polars.Time, time(1, 2, 3)),
        ("timestamp '2026-01-02 03:04:05.678901'", polars.Datetime("us"), datetime(2026, 1, 2, 3, 4, 5, 678901)),
        (
            "timestamptz '2026-01-02 03:04:05+02'",
            polars.Datetime("us", "UTC"),
            datetime(2026, 1, 2, 1, 4, 5, tzinfo=UTC),
        ),
        ("interval 90 second", polars.Duration("us"), timedelta(seconds=90)),
        ("'a'::blob", polars.Binary, b"a"),
        ("'00000000-0000-0000-0000-000000000001'::uuid", polars.String, "00000000-0000-0000-0000-000000000001"),
        ("{'a': 1, 'b': [2]}", polars.String, '{"a": 1, "b": [2]}'),
        ("""'{"a": 1}'::json""", polars.String, '{"a": 1}'),
    ],
)
def test_each_type_has_its_dtype(template: Path, asked: str, dtype: Any, value: Any) -> None:
    column = read(template, f"select {asked} as v").frame()["v"]
    assert (column.dtype, column.to_list()) == (dtype, [value])


def test_a_column_without_rows_has_its_dtype_too(template: Path) -> None:
    frame = read(template, "select run_id, seed, changed_keys from runs").frame()
    assert frame.schema == {"run_id": polars.String, "seed": polars.Int64, "changed_keys": polars.List(polars.String)}
    assert frame.height == 0


def test_a_number_that_comes_late_keeps_its_digits() -> None:
    answer = Table(["v"], ["DOUBLE"], [(1.0,)] * 1000 + [(1.5,)])
    assert answer.frame()["v"][-1] == 1.5


def test_columns_of_one_name_are_told_apart(template: Path) -> None:
    assert read(template, "select 1 as a, 2 as a, 3 as a_2").frame().to_dicts() == [{"a": 1, "a_3": 2, "a_2": 3}]


@pytest.mark.parametrize("asked", ["date '20000-01-01'", "340282366920938463463374607431768211455::uhugeint"])
def test_what_a_frame_cannot_hold_is_one_sentence(template: Path, asked: str) -> None:
    with pytest.raises(LedgerError, match=r'column \'v\' has a .* that a data frame cannot hold.*"v"::varchar'):
        read(template, f"select {asked} as v").frame()


def test_a_csv_file_tells_null_from_empty_text_and_keeps_every_digit(template: Path, tmp_path: Path) -> None:
    write_answer(read(template, QUESTION), tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == (
        "whole,number,text,empty,nothing,list\n"
        '3,0.1,"a, ""b""","",,"[1, null, 3]"\n'
        "2,NaN,x,y,z,[]\n"
    )  # fmt: skip


def test_times_in_a_csv_file_are_iso_8601(template: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("old")
    asked = "timestamp '2026-01-02 03:04:05.5' as a, date '2026-01-02' as b, time '01:02:03' as c"
    write_answer(read(template, f"select {asked}, {{'k': [1]}} as d"), path)
    assert path.read_text() == (
        "a,b,c,d\n"
        '2026-01-02T03:04:05.500000,2026-01-02,01:02:03.000000000,"{""k"": [1]}"\n'
    )  # fmt: skip


def test_a_parquet_file_comes_back_as_it_was(template: Path, tmp_path: Path) -> None:
    answer = read(template, QUESTION)
    write_answer(answer, tmp_path / "a.parquet")
    assert polars.read_parquet(tmp_path / "a.parquet").equals(answer.frame())
    seen = duckdb.sql(f"select whole, list from '{tmp_path / 'a.parquet'}'")
    assert ([str(kind) for kind in seen.types], seen.fetchall()) == (
        ["BIGINT", "BIGINT[]"],
        [(3, [1, None, 3]), (2, [])],
    )


def test_whole_numbers_and_decimals_are_digits_in_a_csv_file(template: Path, tmp_path: Path) -> None:
    question = "select 18446744073709551615::ubigint as a, 100::hugeint as b, 1.50 as c, 1e22::double as d"
    write_answer(read(template, question), tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == "a,b,c,d\n18446744073709551615,100,1.50,1e+22\n"


@pytest.mark.parametrize(("asked", "kind"), [("'a'::blob", "binary"), ("interval 90 second", "duration")])
def test_a_file_that_cannot_be_written_leaves_the_old_one(
    template: Path, tmp_path: Path, asked: str, kind: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("old")
    with pytest.raises(LedgerError, match=rf"a\.csv cannot be written: datatype {kind}.* cannot be written to CSV"):
        write_answer(read(template, f"select {asked} as v"), path)
    assert path.read_text() == "old"
    assert sorted(file.name for file in tmp_path.iterdir() if "a.csv" in file.name) == ["a.csv"]


def test_polars_is_imported_by_nobody_who_does_not_ask() -> None:
    code = (
        "import sys, flowlab.cli.main, flowlab.cli.judge, flowlab.cli.interop, flowlab.ledger.connection, "
        "flowlab.interop.answer, flowlab.interop.wandb_export; print('polars' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"
