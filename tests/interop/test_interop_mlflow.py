"""What an MLflow store holds beside runs: parents, workspaces, other programs that write it, an older kind of store."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from flowlab.core.errors import BusyError, LedgerError, UnknownNameError
from flowlab.interop.import_runs import import_runs
from flowlab.interop.metric_map import MetricMap
from flowlab.interop.mlflow_store import read_store
from tests.interop.foreign_files import MlflowStore, pilot


def test_a_parent_of_nested_runs_is_no_run(runs: Path, tmp_path: Path) -> None:
    store = pilot(tmp_path / "mlflow.db")
    store.run("d" * 32, "sweep", {"loss": [(0, 0.1)]})
    for child in "abc":
        store.execute(f"insert into tags values ('mlflow.parentRunId', '{'d' * 32}', '{child * 32}')")
    done = import_runs(read_store(store.path, None, None), runs, "test", "baseline", MetricMap.parse([]))
    assert [run.foreign.name for run in done.added] == ["baseline", "baseline", "Delta Off"]
    assert done.notes == ["parents of nested runs, which are no runs of their own, left out: sweep"]


def two_workspaces(path: Path) -> Path:
    store = pilot(path)
    store.execute("insert into experiments values (7, 'pilot', '', 'active', 2000, 2000, 'team')")
    store.run("d" * 32, "other", {"loss": [(0, 0.1)]}, params={"seed": "1"}, experiment=7)
    return store.path


def test_experiments_of_one_name_are_listed_apart(tmp_path: Path) -> None:
    path = two_workspaces(tmp_path / "mlflow.db")
    words = r"pilot \(ID 1, workspace default\), pilot \(ID 7, workspace team\)\. Name one: --experiment ID"
    for asked in (None, "pilot"):
        with pytest.raises(LedgerError, match=words):
            read_store(path, asked, None)


@pytest.mark.parametrize(
    ("asked", "names"), [("7", ["other"]), ("team/pilot", ["other"]), ("1", ["baseline"] * 2 + ["Delta Off"])]
)
def test_an_experiment_may_be_named_by_id_or_workspace(tmp_path: Path, asked: str, names: list[str]) -> None:
    found = read_store(two_workspaces(tmp_path / "mlflow.db"), asked, None)
    assert ([run.name for run in found.runs], found.experiment) == (names, "pilot")


def test_a_store_without_workspaces_is_read(tmp_path: Path) -> None:
    store = pilot(tmp_path / "mlflow.db")
    store.execute("alter table experiments drop column workspace")
    assert len(read_store(store.path, None, None).runs) == 3
    with pytest.raises(UnknownNameError, match=r"unknown experiment 'pilott' in .*mlflow\.db: did you mean 'pilot'"):
        read_store(store.path, "pilott", None)


@pytest.mark.parametrize(("given", "store"), [("old", "old"), ("old/mlruns", "old/mlruns"), ("old", "old/mlruns")])
def test_an_old_file_store_names_the_command_that_mends_it(tmp_path: Path, given: str, store: str) -> None:
    (tmp_path / store / "0").mkdir(parents=True)
    (tmp_path / store / "0" / "meta.yaml").write_text("experiment_id: '0'\n")
    with pytest.raises(LedgerError) as told:
        read_store(tmp_path / given, None, None)
    folder = tmp_path / store
    assert str(told.value) == (
        f"{folder} is a folder of MLflow's old file store; expected the SQLite file of an MLflow tracking store, such "
        f"as mlflow.db. MLflow 3.10 or later makes one of it: mlflow migrate-filestore --source {folder} "
        f"--target sqlite:///mlflow.db"
    )


def test_a_store_that_is_being_written_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, connect = pilot(tmp_path / "mlflow.db"), sqlite3.connect
    with closing(connect(store.path)) as writer:
        writer.execute("begin exclusive")
        monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **k, timeout=0))
        with pytest.raises(BusyError, match=r"is being written by a program that lets nobody read\. Try again"):
            read_store(store.path, None, None)


def test_a_store_in_write_ahead_mode_is_read_as_it_was_committed(runs: Path, tmp_path: Path) -> None:
    store = pilot(tmp_path / "mlflow.db")
    with closing(sqlite3.connect(store.path)) as writer:
        writer.execute("pragma journal_mode = wal")
        writer.execute("update runs set name = 'committed' where name <> 'baseline'")
        writer.commit()
        writer.execute("update runs set name = 'half' where name = 'committed'")
        assert [run.name for run in read_store(store.path, None, None).runs][-1] == "committed"


def test_a_store_at_rest_in_a_folder_that_we_may_not_write_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = pilot(tmp_path / "mlflow.db")
    store.execute("pragma journal_mode = wal")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert len(read_store(store.path, None, None).runs) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_a_store_whose_writer_was_killed_is_one_sentence(tmp_path: Path) -> None:
    store = MlflowStore(tmp_path / "mlflow.db")
    store.run("a" * 32, "baseline", {"loss": [(step, 1.0) for step in range(3000)]})
    killed = tmp_path / "killed" / "mlflow.db"
    killed.parent.mkdir()
    with closing(sqlite3.connect(store.path)) as writer:
        writer.execute("pragma cache_size = 1")
        writer.execute("update metrics set value = 2.0")
        for path in (store.path, store.path.with_name("mlflow.db-journal")):
            shutil.copy(path, killed.parent)
    with pytest.raises(LedgerError, match=r"a program that wrote it was killed, and mlflow\.db-journal beside it"):
        read_store(killed, None, None)
