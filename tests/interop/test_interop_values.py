"""Values that are no numbers, times or text: SQLite and Parquet hold what a tracker never wrote."""

import sqlite3
import struct
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from flowlab.core.errors import LedgerError
from flowlab.interop.foreign_table import read_table
from flowlab.interop.import_runs import Imported, import_runs
from flowlab.interop.metric_map import MetricMap
from flowlab.interop.mlflow_store import read_store
from flowlab.interop.wandb_export import read_exports
from flowlab.ledger.ingest import ingest
from tests.interop.foreign_files import HISTORY, MlflowStore, pilot
from tests.ledger.ledger_files import table


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("update metrics set value = 'abc' where step = 0", "metrics"),
        ("update metrics set step = 'q' where step = 0", "metrics"),
        ("update metrics set step = 1.5 where step = 0", "metrics"),
        ("update metrics set key = x'ff' where step = 0", "metrics"),
        ("update metrics set key = cast(x'ff' as text) where step = 0", "metrics"),
        ("update params set value = x'ff'", "params"),
        ("update runs set name = x'ff00'", "runs"),
        ("update runs set start_time = 'yesterday'", "runs"),
        ("update runs set start_time = 1e300", "runs"),
        ("update runs set end_time = 253402300800000", "runs"),
        ("update runs set run_uuid = x'ff' where name <> 'baseline'", "runs"),
        ("update tags set value = x'ff' where key = 'mlflow.runName'", "tags"),
        ("update experiments set creation_time = x'ff'", "experiments"),
        ("update experiments set name = cast(x'ff' as text)", "experiments"),
    ],
)
def test_a_row_that_mlflow_does_not_write_is_one_sentence(
    runs: Path, tmp_path: Path, statement: str, name: str
) -> None:
    path = pilot(tmp_path / "mlflow.db").path
    with sqlite3.connect(path) as store:
        assert store.execute(statement).rowcount > 0
    store.close()
    with pytest.raises(LedgerError, match=f"the table {name} has a row of .* that MLflow does not write") as told:
        import_runs(read_store(path, None, None), runs, "test", "baseline", MetricMap.parse([]))
    assert "\n" not in str(told.value)
    assert not list(runs.glob("*/journal.jsonl"))


def test_of_a_row_that_mlflow_does_not_write_the_run_is_told_and_no_value(runs: Path, tmp_path: Path) -> None:
    store = MlflowStore(tmp_path / "mlflow.db")
    store.run("a" * 32, "baseline", {"loss": [(0, 1.0)]}, params={"token": "my-secret"})
    store.execute("update params set value = cast('my-secret' as blob) where key = 'token'")
    with pytest.raises(LedgerError) as told:
        read_store(store.path, None, None)
    assert str(told.value) == (
        f"{store.path}: the table params has a row of run {'a' * 32} that MLflow does not write: the value of 'token' "
        f"is bytes that are no text, expected text. Mend or delete that row in a copy, and import the copy."
    )


@pytest.mark.parametrize(
    "statement",
    [
        "update runs set name = x'ff', end_time = 'never' where lifecycle_stage = 'deleted'",
        "update params set value = x'ff' where run_uuid = 'gone'",
        "update metrics set value = 'abc', step = 1.5 where run_uuid = 'gone'",
        "update tags set value = x'ff' where key = 'mlflow.note.content'",
        "update runs set name = cast(x'ff' as text) where experiment_id = 0",
        "update metrics set value = 'abc' where run_uuid = 'other'",
        "update experiments set name = x'ff', creation_time = 'once' where experiment_id = 0",
    ],
)
def test_only_what_is_imported_is_looked_at(runs: Path, tmp_path: Path, statement: str) -> None:
    store = pilot(tmp_path / "mlflow.db")
    store.run("gone", "baseline", {"loss": [(0, 1.0)]}, params={"lr": "1"}, stage="deleted")
    store.run("other", "x", {"loss": [(0, 1.0)]}, params={"lr": "1"}, tags={"mlflow.note.content": "n"}, experiment=0)
    store.execute(f"insert into tags values ('mlflow.note.content', 'n', '{'a' * 32}')")
    store.execute(statement)
    done = import_runs(read_store(store.path, "pilot", None), runs, "test", "baseline", MetricMap.parse([]))
    assert [run.lever for run in done.added] == ["control", "control", "delta-off"]


def test_two_runs_of_one_id_are_refused(tmp_path: Path) -> None:
    store = pilot(tmp_path / "mlflow.db")
    store.execute("create table twice as select * from runs")
    store.execute("drop table runs")
    store.execute("create table runs as select * from twice union all select * from twice")
    with pytest.raises(LedgerError, match=f"the table runs has the run '{'a' * 32}' twice"):
        read_store(store.path, None, None)


def test_an_experiment_id_may_be_text(runs: Path, tmp_path: Path) -> None:
    store = pilot(tmp_path / "mlflow.db")
    store.execute("drop table experiments")
    store.execute("create table experiments (experiment_id text, name text, lifecycle_stage text, creation_time)")
    store.execute("insert into experiments values ('1) or 1=1 --', 'odd', 'active', 1)")
    store.execute("update runs set experiment_id = '1) or 1=1 --' where name = 'baseline'")
    done = import_runs(read_store(store.path, None, None), runs, "test", "baseline", MetricMap.parse([]))
    assert [run.lever for run in done.added] == ["control", "control"]


def test_the_last_moment_of_the_year_9999_is_a_time(ledger: Path, runs: Path, tmp_path: Path) -> None:
    store = pilot(tmp_path / "mlflow.db")
    store.execute("update runs set end_time = 253402300799999")
    import_runs(read_store(store.path, None, None), runs, "test", "baseline", MetricMap.parse([]))
    ingest(ledger, runs)
    ended = {row["detail"].partition("ended ")[2] for row in table(ledger, "events") if row["what"] == "imported"}
    assert ended == {"9999-12-31T23:59:59+00:00"}


def from_wandb(runs: Path, path: Path, control: str = "baseline") -> Imported:
    return import_runs(read_exports([path], None, None), runs, "test", control, MetricMap.parse([]))


@pytest.mark.parametrize(
    ("time", "told"),
    [
        ("1700000000000", "1.7e+12"),
        ("-1e300", "-1e+300"),
        ("-1", "-1"),
        ("1e304", "1e+304"),
        ("253402300800", "2.53402e+11"),
    ],
)
def test_times_that_are_none_are_one_sentence(runs: Path, tmp_path: Path, time: str, told: str) -> None:
    path = tmp_path / "baseline.csv"
    path.write_text(f"_step,_timestamp,loss\n0,1,0.5\n1,{time},0.5\n")
    with pytest.raises(LedgerError) as caught:
        from_wandb(runs, path)
    assert str(caught.value) == (
        f"{path}, line 3: _timestamp is {told}, expected a time up to the year 9999. Are these milliseconds? Give "
        f"seconds since 1970, or leave the column out."
    )
    assert not list(runs.glob("*/journal.jsonl"))


def parquet(path: Path, **columns: object) -> Path:
    """A history of two runs at two steps each, with these columns beside it."""
    names, steps = pyarrow.array(["baseline", "baseline", "wide", "wide"]), pyarrow.array([0, 1, 0, 1])
    loss = pyarrow.array([1.0, 0.5, 1.0, 0.25])
    pyarrow.parquet.write_table(pyarrow.table({"run": names, "_step": steps, "loss": loss} | columns), path)
    return path


def no_text(*contents: bytes) -> pyarrow.Array:
    """A column of text whose bytes are these, UTF-8 or not."""
    ends = [sum(map(len, contents[:number])) for number in range(len(contents) + 1)]
    buffers = [None, pyarrow.py_buffer(struct.pack(f"<{len(ends)}i", *ends)), pyarrow.py_buffer(b"".join(contents))]
    return pyarrow.Array.from_buffers(pyarrow.string(), len(contents), buffers)


ODD = {
    "text": no_text(b"a", b"\xff\xfe", b"b", b""),
    "date": pyarrow.array([1, 2**30, 1, 1], pyarrow.int32()).view(pyarrow.date32()),
    "zone": pyarrow.array([1, 2, 3, 4], pyarrow.timestamp("us", tz="Nowhere/City")),
    "time": pyarrow.array([1, 2**62, 3, 4], pyarrow.timestamp("us")),
}


@pytest.mark.parametrize("kind", ODD)
def test_a_parquet_column_that_nobody_uses_may_hold_anything(runs: Path, tmp_path: Path, kind: str) -> None:
    done = from_wandb(runs, parquet(tmp_path / "a.parquet", _odd=ODD[kind], _timestamp=pyarrow.array([1.0] * 4)))
    assert (list(done.num_values.values()), done.notes[1:]) == ([3, 3], [])


@pytest.mark.parametrize("kind", ODD)
def test_what_python_cannot_hold_is_one_sentence_where_it_is_used(runs: Path, tmp_path: Path, kind: str) -> None:
    path = parquet(tmp_path / "a.parquet", **{"config.odd": ODD[kind]})
    row = 1 if kind == "zone" else 2
    with pytest.raises(
        LedgerError, match=rf"a\.parquet, row {row}: 'config\.odd' holds a .* that cannot be read"
    ) as told:
        from_wandb(runs, path)
    assert "\n" not in str(told.value)
    assert not runs.exists()


def test_dates_among_the_metrics_are_no_numbers(runs: Path, tmp_path: Path) -> None:
    done = from_wandb(runs, parquet(tmp_path / "a.parquet", day=ODD["date"]))
    assert "values that are no numbers, left out: day (4)" in done.notes


def test_names_that_are_bytes_are_text(runs: Path, tmp_path: Path) -> None:
    names = pyarrow.array([b"baseline", b"baseline", b"b\xff", b"b\xff"])
    done = from_wandb(runs, parquet(tmp_path / "a.parquet", run=names))
    assert [(run.lever, run.foreign.name) for run in done.added] == [("control", "baseline"), ("b-xff", "b\\xff")]


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("0.1", 0.1),
        (" 2 ", 2.0),
        ("+5", 5.0),
        ("\u0663", 3.0),
        ("-Infinity", float("-inf")),
        ("1e400", float("inf")),
        ("5e-324", 5e-324),
        ("9007199254740993", 9007199254740992.0),
        ("0.1000000000000000055511151231257827", 0.1),
        ("1_0", None),
        ("1,5", None),
        ("true", None),
        ("2024-01-02", None),
    ],
)
def test_text_is_the_number_that_python_reads(tmp_path: Path, cell: str, value: float | None) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f'_step,loss\n0,"{cell}"\n1,\n')
    numbers = read_table(path).numbers("loss")
    assert numbers.values.to_list() == [value, None]
    assert numbers.others.to_list() == [value is None, False]


def test_whole_numbers_of_parquet_become_the_nearest_float(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", big=pyarrow.array([2**53 + 1, -(2**63), None, 3]))
    assert read_table(path).numbers("big").values.to_list() == [2.0**53, -(2.0**63), None, 3.0]


def test_the_first_setting_of_a_run_counts_whichever_column_has_it(runs: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("run,_step,config.lr,config/lr,loss\na,0,,2,1.0\na,1,3,,0.5\n")
    assert [run.recipe for run in from_wandb(runs, path, "a").added] == [{"lr": "2"}]


def test_lines_are_counted_as_an_editor_does(runs: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('_step,note,loss\n\n0,"two\nlines",1.0\n\nx,,0.5\n')
    with pytest.raises(LedgerError, match=r"a\.csv, line 6: _step is 'x', expected a whole number from 0 on"):
        from_wandb(runs, path, "a")


def test_a_long_cell_is_cut_in_a_message(runs: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"_step,loss\n{'9' * 5000},1.0\n")
    with pytest.raises(LedgerError, match=r"line 2: _step is '9{39}\.\.\., expected"):
        from_wandb(runs, path, "a")


def test_a_byte_order_mark_and_windows_lines_change_nothing(runs: Path, tmp_path: Path) -> None:
    plain, marked = tmp_path / "a.csv", tmp_path / "other" / "a.csv"
    plain.write_text(HISTORY)
    marked.parent.mkdir()
    marked.write_bytes(b"\xef\xbb\xbf" + HISTORY.replace("\n", "\r\n").encode())
    plain_points, marked_points = (
        [run.read() for run in read_exports([path], None, None).runs] for path in (plain, marked)
    )
    assert repr(marked_points) == repr(plain_points)  # as text: there is a NaN in it


def test_params_that_json_cannot_hold_are_text(ledger: Path, runs: Path, tmp_path: Path) -> None:
    day = datetime(2026, 1, 2, tzinfo=UTC)
    values = {"a": float("nan"), "b": Decimal("1.50"), "c": day, "d": {"when": day, "many": [float("inf"), 1]}}
    columns = {"_step": [0], "loss": [0.5]} | {f"config.{key}": [value] for key, value in values.items()}
    path = tmp_path / "baseline.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    import_runs(read_exports([path], None, None), runs, "test", "baseline", MetricMap.parse([]))
    assert ingest(ledger, runs).problems == []
    settings = {row["key"]: row["value_json"] for row in table(ledger, "run_settings")}
    assert settings["b"] == '"1.50"'
    assert settings["c"] == '"2026-01-02 00:00:00+00:00"'
    assert settings["d.many"] == '["inf",1.0]'
