"""Values that are no numbers, times or text: SQLite and Parquet hold what a tracker never wrote."""

import itertools
import re
import struct
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from flowlab.core.errors import LedgerError
from flowlab.core.types import MetricRow
from flowlab.interop.cells import text_of
from flowlab.interop.foreign_table import read_table
from flowlab.interop.import_runs import Imported, import_runs
from flowlab.interop.metric_map import MetricMap
from flowlab.interop.mlflow_store import read_store
from flowlab.interop.wandb_export import read_exports
from flowlab.journal.journal import RUN_JOURNAL, read_journal
from flowlab.ledger.ingest import ingest
from tests.interop.foreign_files import HISTORY, MlflowStore, pilot
from tests.ledger.ledger_files import table


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("update metrics set value = 'abc'", "12 of 12 rows of the table metrics have a value that is no number"),
        (
            "update metrics set step = 'q' where key = 'loss' or step = 0",
            "9 of 12 rows of .* have a step that is no number",
        ),
        ("update metrics set step = step + 0.5", "all 12 rows of the table metrics are at fractional steps"),
        (
            "update params set value = x'ff' where key = 'lr'",
            "the value of 'lr' in the table params of run .* is bytes",
        ),
        ("update params set key = cast(key as blob)", "a key in the table params of run .* is bytes, expected text"),
        ("update runs set start_time = 'yesterday'", "start_time of run .* is no number, expected milliseconds"),
        ("update runs set start_time = 1e300", r"start_time of run .* is 1e\+300, expected milliseconds"),
        ("update runs set end_time = 253402300800000", "end_time of run .* is 253402300800000, .* up to the year 9999"),
    ],
)
def test_a_store_most_of_which_mlflow_does_not_write_is_one_sentence(
    runs: Path, tmp_path: Path, statement: str, words: str
) -> None:
    store = pilot(tmp_path / "mlflow.db")
    assert store.execute(statement) > 0
    with pytest.raises(LedgerError, match=words) as told:
        import_runs(read_store(store.path, None, None), runs, "test", "baseline", MetricMap.parse([]))
    assert str(store.path) in str(told.value)
    assert "\n" not in str(told.value)
    assert not list(runs.glob("*/journal.jsonl"))


@pytest.mark.parametrize(
    ("statement", "note"),
    [
        ("update runs set start_time = 1e300 where name <> 'baseline'", r"start_time of run 'c+' is 1e\+300"),
        ("update runs set end_time = -1 where name <> 'baseline'", "end_time of run 'c+' is -1, expected milliseconds"),
        ("insert into params values (x'00', 'my-secret', '{lever}')", "a key in the table params of run 'c+' is bytes"),
        ("update params set value = x'ff' where run_uuid = '{lever}' and key = 'lr'", "the value of 'lr' in the table"),
    ],
)
def test_one_run_that_cannot_be_read_is_left_out(runs: Path, tmp_path: Path, statement: str, note: str) -> None:
    store = pilot(tmp_path / "mlflow.db")
    assert store.execute(statement.format(lever="c" * 32)) == 1
    done = import_runs(read_store(store.path, None, None), runs, "test", "baseline", MetricMap.parse([]))
    assert [run.lever for run in done.added] == ["control", "control"]
    assert re.match(rf"1 of 3 runs of mlflow\.db left out: .*{note}", done.notes[0])
    assert "secret" not in done.notes[0]


@pytest.mark.parametrize(
    ("change", "note", "final"),
    [
        ("step = 5.5 where step = 0", "at a fractional step, left out: loss (1)", 0.25),
        ("step = 10.5 where step = 10", "at a fractional step, left out: loss (1)", 0.25),
        ("value = 'x' where step = 0", "that are no numbers, left out: loss (1)", 0.25),
        ("value = 'x' where step = 10", "that are no numbers, left out: loss (1)", None),
        ("step = 'q' where step = 0", "at a step that is no number, left out: loss (1)", None),
    ],
)
def test_a_point_that_cannot_be_read_is_left_out(
    runs: Path, tmp_path: Path, change: str, note: str, final: float | None
) -> None:
    store = MlflowStore(tmp_path / "mlflow.db")
    store.run("a" * 32, "baseline", {"loss": [(0, 1.0), (10, 0.25)], "other": [(0, 1.0)]}, params={"seed": "1"})
    assert store.execute(f"update metrics set {change} and key = 'loss'") == 1
    done = import_runs(read_store(store.path, None, None), runs, "test", "baseline", MetricMap.parse([]))
    assert any(note in told for told in done.notes)
    assert final_values(runs).get("loss") == final


def final_values(runs: Path) -> dict[str, float]:
    """What the journal of the one run says that it ended with, by metric."""
    (journal,) = runs.glob(f"*/{RUN_JOURNAL}")
    rows = [row for line in read_journal(journal)[0] for row in line.get("rows", [])]
    named = [dict(zip(MetricRow._fields, row, strict=False)) for row in rows]
    return {row["metric"]: row["value"] for row in named if row["step"] == -1}


def test_text_that_is_no_utf8_is_escaped(runs: Path, tmp_path: Path) -> None:
    store = pilot(tmp_path / "mlflow.db")
    store.execute("update runs set name = cast(x'ff' as text) where name <> 'baseline'")
    store.execute("update params set value = cast(x'fe' as text) where key = 'delta'")
    store.execute("update metrics set key = cast(x'fd' as text) where key = 'loss'")
    store.execute("update experiments set name = cast(x'fc' as text) where experiment_id = 1")
    foreign = read_store(store.path, None, None)
    done = import_runs(foreign, runs, "test", "baseline", MetricMap.parse([]))
    lever = done.added[-1]
    assert (foreign.experiment, lever.foreign.name, lever.recipe["delta"]) == ("\\xfc", "\\xff", "\\xfe")
    assert lever.foreign.keys == ("val/steering_l1", "\\xfd")
    assert done.num_values[lever.run_id] == 6


def test_a_run_id_that_is_bytes_has_its_numbers(runs: Path, tmp_path: Path) -> None:
    store = pilot(tmp_path / "mlflow.db")
    for name in ("runs", "params", "metrics", "tags"):
        store.execute(f"update {name} set run_uuid = x'ff00' where run_uuid = '{'b' * 32}'")
        store.execute(f"update {name} set run_uuid = cast(x'fe' as text) where run_uuid = '{'c' * 32}'")
    done = import_runs(read_store(store.path, None, None, "seed"), runs, "test", "baseline", MetricMap.parse([]))
    assert [(run.foreign.run_id, run.seed, done.num_values[run.run_id]) for run in done.added] == [
        ("a" * 32, 1001, 6),
        ("\\xff\0", 1002, 6),
        ("\\xfe", 1001, 6),
    ]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"a", "a"),
        ("\u00fc".encode(), "\u00fc"),
        (b"\xff", r"\xff"),
        (rb"\xff", r"\\xff"),
        (rb"\\xff", r"\\\\xff"),
        (b"\\\xff", r"\\\xff"),
        (rb"\x7f", r"\x7f"),
        ("\ud800", r"\xed\xa0\x80"),
        (rb"C:\new", r"C:\new"),
    ],
)
def test_bytes_become_text(content: bytes | str, text: str) -> None:
    assert text_of(content) == text


def test_no_two_contents_become_one_text() -> None:
    parts = [b"\\", b"x", b"f", b"\xff", b"8"]
    contents = {b"".join(chosen) for count in range(7) for chosen in itertools.product(parts, repeat=count)}
    assert len({text_of(content) for content in contents}) == len(contents) == 19531


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


def test_two_runs_of_one_id_are_left_out(runs: Path, tmp_path: Path) -> None:
    store = pilot(tmp_path / "mlflow.db")
    store.execute("create table twice as select * from runs")
    store.execute("drop table runs")
    store.execute(
        f"create table runs as select * from twice union all select * from twice where run_uuid = '{'c' * 32}'"
    )
    done = import_runs(read_store(store.path, None, None), runs, "test", "baseline", MetricMap.parse([]))
    assert [run.lever for run in done.added] == ["control", "control"]
    assert f"the table runs has the run '{'c' * 32}' twice, which MLflow does not write" in done.notes[0]


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


TIMES = [
    ("1700000000000", "1.7e+12"),
    ("-1e300", "-1e+300"),
    ("-1", "-1"),
    ("1e304", "1e+304"),
    ("253402300800", "2.53402e+11"),
    ("inf", "inf"),
    ("soon", "no number"),
]


@pytest.mark.parametrize(("time", "told"), TIMES)
def test_times_that_are_none_are_one_sentence(runs: Path, tmp_path: Path, time: str, told: str) -> None:
    path = tmp_path / "baseline.csv"
    path.write_text(f"_step,_timestamp,loss\n0,{time},0.5\n1,{time},0.5\n2,1,0.5\n")
    with pytest.raises(LedgerError) as caught:
        from_wandb(runs, path)
    assert str(caught.value) == (
        f"{path}, line 2: _timestamp is {told}, expected a time up to the year 9999. Are these milliseconds? Give "
        f"seconds since 1970, or leave the column out. 2 of 3 times of baseline.csv are like that, so none is "
        f"imported. Mend them in a copy."
    )
    assert not list(runs.glob("*/journal.jsonl"))


@pytest.mark.parametrize(("time", "told"), TIMES)
def test_a_single_time_that_is_none_is_left_out(runs: Path, tmp_path: Path, time: str, told: str) -> None:
    path = tmp_path / "baseline.csv"
    path.write_text(f"_step,_timestamp,loss\n0,1,0.5\n1,{time},0.25\n")
    done = from_wandb(runs, path)
    assert list(done.num_values.values()) == [3]
    assert done.notes[0].startswith(f"1 of 2 times of baseline.csv left out: {path}, line 3: _timestamp is {told}, exp")


def test_moments_are_times(runs: Path, tmp_path: Path) -> None:
    moments = {unit: pyarrow.array([0, 5, 0, 9], pyarrow.timestamp(unit)) for unit in ("s", "ns")}
    for unit, factor in (("s", 1.0), ("ns", 1e-9)):
        foreign = read_exports([parquet(tmp_path / f"{unit}.parquet", _timestamp=moments[unit])], None, None)
        assert [run.ended_us for run in foreign.runs] == [int(5 * factor * 1e6), int(9 * factor * 1e6)]


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


@pytest.mark.parametrize("kind", ["date", "time"])
def test_a_cell_that_nobody_uses_may_hold_anything(runs: Path, tmp_path: Path, kind: str) -> None:
    done = from_wandb(runs, parquet(tmp_path / "a.parquet", **{"config.odd": ODD[kind]}))
    assert len(done.added) == 2  # the odd one is the second of its run, where the first one counts


def test_a_setting_that_python_cannot_hold_leaves_out_its_run(runs: Path, tmp_path: Path) -> None:
    day = pyarrow.array([1, 1, 2**30, 1], pyarrow.int32()).view(pyarrow.date32())
    done = from_wandb(runs, parquet(tmp_path / "a.parquet", **{"config.day": day}))
    assert [run.lever for run in done.added] == ["control"]
    assert "1 of 2 runs of a.parquet left out: " in done.notes[0]
    assert "a.parquet, row 3: 'config.day' holds a date32[day] that cannot be read (" in done.notes[0]


def test_settings_that_python_cannot_hold_are_one_sentence(runs: Path, tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", **{"config.odd": ODD["zone"]})
    with pytest.raises(LedgerError, match=r"a\.parquet, row 1: 'config\.odd' holds a .* that cannot be read") as told:
        from_wandb(runs, path)
    assert "\n" not in str(told.value)
    assert not runs.exists()


def test_settings_and_names_may_be_no_utf8(runs: Path, tmp_path: Path) -> None:
    names = no_text(b"baseline", b"baseline", b"w\xff", b"w\xff")
    done = from_wandb(
        runs, parquet(tmp_path / "a.parquet", run=names, **{"config.odd": no_text(b"\xfe", b"", b"b", b"")})
    )
    assert [(run.foreign.name, run.recipe) for run in done.added] == [
        ("baseline", {"odd": "\\xfe"}),
        ("w\\xff", {"odd": "b"}),
    ]


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
    assert f"1 of 2 rows of a.csv left out: {path}, line 6: _step is 'x', expected a whole number from 0 on" in (
        from_wandb(runs, path, "a").notes
    )


def test_a_long_cell_is_cut_in_a_message(runs: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"_step,loss\n{'9' * 5000},1.0\n")
    with pytest.raises(LedgerError, match=r"line 2: _step is '9{39}\.\.\., expected"):
        from_wandb(runs, path, "a")


@pytest.mark.parametrize(
    ("rows", "final"),
    [
        ("0,1.0\n1,0.5\n1.5,0.25\n", None),
        ("0,1.0\n1.5,0.25\n2,0.5\n", 0.5),
        ("0,1.0\n1,0.5\n,\n", 0.5),
        ("0,1.0\n1,0.5\n2,0,25\n", None),
        ("0,1.0\n1,0.5\n2\n", None),
        ("0,1.0\n1,0,25\n2,0.5\n", 0.5),
        ('0,1.0\n1,0.5\n2,"0.25\n', None),
    ],
)
def test_no_earlier_value_is_final_where_the_last_row_is_lost(
    runs: Path, tmp_path: Path, rows: str, final: float | None
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"_step,loss\n{rows}")
    done = from_wandb(runs, path, "a")
    assert done.notes[0].startswith(f"1 of 3 rows of a.csv left out: {path}, line ")
    assert final_values(runs).get("loss") == final


def test_a_row_without_a_run_is_no_run(runs: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("run,_step,loss\na,0,1.0\n,1,0.5\nb,0,1.0\n")
    done = from_wandb(runs, path, "a")
    assert [run.foreign.name for run in done.added] == ["a", "b"]
    assert done.notes[0] == (f"1 of 3 rows of a.csv left out: {path}, line 3: run is empty, expected the name of a run")


@pytest.mark.parametrize("column", ["_note", "run"])
def test_a_field_may_be_of_any_length_and_encoding(runs: Path, tmp_path: Path, column: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(f"_step,loss,{column}\n0,1.0,".encode() + b"y" * 200_000 + b"\xff\n")
    (run,) = from_wandb(runs, path, "a" if column == "_note" else "y" * 200_000 + "\\xff").added
    assert run.lever == "control"


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
