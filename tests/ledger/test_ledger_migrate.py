"""A ledger is brought up to date whole or not at all."""

from pathlib import Path

import duckdb
import pytest

from flowlab.core.errors import LedgerError
from flowlab.ledger import migrate as migrating
from flowlab.ledger.ingest import ingest
from flowlab.ledger.migrate import expected_schema, migrate, migrations_dir, schema_of
from tests.ledger.ledger_files import table, write_run


def _sql(ledger: Path, statement: str) -> list:
    with duckdb.connect(str(ledger)) as connection:
        return connection.execute(statement).fetchall()


def _views(ledger: Path) -> set[str]:
    return {name for (name,) in _sql(ledger, "select view_name from duckdb_views() where not internal")}


def _start(ledger: Path, state: str) -> None:
    if state == "an empty file":
        ledger.touch()
    if state == "an empty database":
        duckdb.connect(str(ledger)).close()
    if state == "a torn creation":
        ledger.with_name(f"{ledger.name}.partial").write_bytes(b"half a header")


@pytest.mark.parametrize("state", ["nothing", "an empty file", "an empty database", "a torn creation"])
def test_a_ledger_comes_from_nothing(no_ledger: Path, state: str) -> None:
    ledger = no_ledger
    _start(ledger, state)
    assert migrate(ledger)
    with duckdb.connect(str(ledger), read_only=True) as connection:
        assert schema_of(connection) == expected_schema()
    assert {file.stem.split("_", 1)[1] for file in (migrations_dir() / "views").iterdir()} == _views(ledger)
    assert not migrate(ledger)
    assert not ledger.with_name(f"{ledger.name}.wal").exists()


def test_views_are_applied_anew_when_their_files_changed(
    ledger: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    extra = tmp_path / "99_num_runs.sql"
    extra.write_text("create view num_runs as select count(*) as num from runs")
    files = migrating._view_files()
    monkeypatch.setattr(migrating, "_view_files", lambda: [*files, extra])
    assert migrate(ledger)
    assert _sql(ledger, "select num from num_runs") == [(0,)]
    monkeypatch.undo()
    assert migrate(ledger)
    assert "num_runs" not in _views(ledger)


def test_rows_outlive_an_upgrade_of_the_views(ledger: Path, runs: Path) -> None:
    write_run(runs, "r1")
    ingest(ledger, runs)
    _sql(ledger, "update views_applied set views_digest = 'older'")
    assert migrate(ledger)
    assert len(table(ledger, "final_metrics")) == 1


def test_another_duckdb_makes_the_views_anew(ledger: Path) -> None:
    assert not migrate(ledger)
    _sql(ledger, "comment on table views_applied is '0.1'")
    assert migrate(ledger)
    assert not migrate(ledger)


def test_an_upgrade_that_fails_leaves_the_ledger_as_it_was(
    ledger: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = _views(ledger)
    broken = tmp_path / "99_broken.sql"
    broken.write_text("create view broken as select nothing from nowhere")
    files = migrating._view_files()
    monkeypatch.setattr(migrating, "_view_files", lambda: [*files, broken])
    with pytest.raises(LedgerError, match=r"cannot be upgraded: .*nowhere"):
        migrate(ledger)
    assert _views(ledger) == before


def test_a_ledger_of_a_newer_flowlab_is_refused(ledger: Path, runs: Path) -> None:
    _sql(ledger, "update alembic_version set version_num = '9999'")
    with pytest.raises(LedgerError, match="newer flowlab: its revision is 9999, this one knows up to 0006"):
        ingest(ledger, runs)


def test_a_file_that_is_no_ledger_is_refused_and_left_alone(no_ledger: Path, runs: Path) -> None:
    ledger = no_ledger
    ledger.write_text("my thesis" * 1000)
    with pytest.raises(LedgerError, match="cannot be opened as a ledger"):
        ingest(ledger, runs)
    assert ledger.read_text() == "my thesis" * 1000
