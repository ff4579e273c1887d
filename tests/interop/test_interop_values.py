"""Values that are no numbers, times or text: SQLite and Parquet hold what a tracker never wrote."""

import sqlite3
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from flowlab.core.errors import LedgerError
from flowlab.interop.import_runs import import_runs
from flowlab.interop.metric_map import MetricMap
from flowlab.interop.mlflow_store import read_store
from flowlab.interop.wandb_export import read_exports
from flowlab.ledger.ingest import ingest
from tests.interop.foreign_files import pilot
from tests.ledger.ledger_files import table


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("update metrics set value = 'abc' where step = 0", "metrics"),
        ("update metrics set step = 'q' where step = 0", "metrics"),
        ("update metrics set step = 1.5 where step = 0", "metrics"),
        ("update metrics set key = x'ff' where step = 0", "metrics"),
        ("update params set value = x'ff'", "params"),
        ("update runs set name = x'ff00'", "runs"),
        ("update runs set start_time = 'yesterday'", "runs"),
        ("update runs set start_time = 1e300", "runs"),
        ("update runs set end_time = 99999999999999999", "runs"),
        ("update experiments set creation_time = x'ff'", "experiments"),
    ],
)
def test_a_row_that_mlflow_does_not_write_is_one_sentence(
    runs: Path, tmp_path: Path, statement: str, name: str
) -> None:
    path = pilot(tmp_path / "mlflow.db").path
    with sqlite3.connect(path) as store:
        assert store.execute(statement).rowcount > 0
    store.close()
    with pytest.raises(LedgerError, match=f"the table {name} has a row that MLflow does not write") as told:
        import_runs(read_store(path, None, None), runs, "test", "baseline", MetricMap.parse([]))
    assert "\n" not in str(told.value)
    assert not list(runs.glob("*/journal.jsonl"))


@pytest.mark.parametrize("time", ["1700000000000", "-1e300", "-1"])
def test_times_that_are_none_are_one_sentence(runs: Path, tmp_path: Path, time: str) -> None:
    path = tmp_path / "baseline.csv"
    path.write_text(f"_step,_timestamp,loss\n0,{time},0.5\n")
    with pytest.raises(LedgerError, match=r"expected a time up to the year 9999\. Are these milliseconds\?"):
        import_runs(read_exports([path], None, None), runs, "test", "baseline", MetricMap.parse([]))
    assert not list(runs.glob("*/journal.jsonl"))


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
