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


def nest(store: MlflowStore, child: str, parent: str) -> None:
    store.execute(f"insert into tags values ('mlflow.parentRunId', '{parent}', '{child}')")


def test_parents_of_nested_runs_are_no_runs(runs: Path, tmp_path: Path) -> None:
    store = pilot(tmp_path / "mlflow.db")
    for run_id, name in (("sweep", "sweep"), ("outer", "study")):
        store.run(run_id, name, {"loss": [(0, 0.1)]}, params={"seed": "1"})
    for child in "abc":
        nest(store, child * 32, "sweep")
    nest(store, "sweep", "outer")
    done = import_runs(read_store(store.path, None, None, "seed"), runs, "test", "baseline", MetricMap.parse([]))
    assert [run.foreign.name for run in done.added] == ["baseline", "baseline", "Delta Off"]
    assert done.notes == ["parents of nested runs, which are no runs of their own, left out: 2 (sweep, study)"]


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED", "RUNNING", "SCHEDULED"])
@pytest.mark.parametrize(("stage", "experiment"), [("active", 1), ("deleted", 1), ("active", 0), ("deleted", 0)])
def test_a_parent_is_one_whatever_became_of_its_child(tmp_path: Path, status: str, stage: str, experiment: int) -> None:
    store = pilot(tmp_path / "mlflow.db")
    store.run(
        "child", "child", status=status, stage=stage, experiment=experiment, tags={"mlflow.parentRunId": "c" * 32}
    )
    found = read_store(store.path, "pilot", None)
    assert "c" * 32 not in [run.run_id for run in found.runs]
    assert found.notes[-1] == "parents of nested runs, which are no runs of their own, left out: 1 (Delta Off)"


def test_a_control_that_is_a_parent_is_one_sentence(runs: Path, tmp_path: Path) -> None:
    store = pilot(tmp_path / "mlflow.db")
    store.run("sweep", "sweep", {"loss": [(0, 0.1)]})
    nest(store, "a" * 32, "sweep")
    words = r"--control sweep is a parent of nested runs, which is left out\. .*Runs are called: baseline, Delta Off\.$"
    with pytest.raises(LedgerError, match=words):
        import_runs(read_store(store.path, None, None), runs, "test", "sweep", MetricMap.parse([]))


def test_a_run_that_says_that_it_is_nested_in_itself_is_a_run(tmp_path: Path) -> None:
    store = pilot(tmp_path / "mlflow.db")
    nest(store, "c" * 32, "c" * 32)
    assert (len(read_store(store.path, None, None).runs), read_store(store.path, None, None).notes) == (3, [])


def two_workspaces(path: Path, name: str = "pilot") -> Path:
    store = pilot(path)
    store.execute(f"insert into experiments values (7, '{name}', '', 'active', 2000, 2000, 'team')")
    store.run("d" * 32, "other", {"loss": [(0, 0.1)]}, params={"seed": "1"}, experiment=7)
    return store.path


@pytest.mark.parametrize(("name", "asked"), [("pilot", None), ("pilot", "pilot"), ("big", None)])
def test_experiments_of_several_workspaces_are_listed_with_them(tmp_path: Path, name: str, asked: str | None) -> None:
    path = two_workspaces(tmp_path / "mlflow.db", name)
    words = rf"pilot \(ID 1, workspace default\), {name} \(ID 7, workspace team\)\. Name one: --experiment ID"
    with pytest.raises(LedgerError, match=words):
        read_store(path, asked, None)


def test_an_unknown_experiment_lists_all_with_their_workspaces(tmp_path: Path) -> None:
    path = two_workspaces(tmp_path / "mlflow.db")
    words = r"unknown experiment 'tem/pilot' in .*: did you mean 'team/pilot'\? Known: .*default/Default, default/pilot"
    with pytest.raises(UnknownNameError, match=words):
        read_store(path, "tem/pilot", None)


def test_without_workspaces_experiments_are_listed_by_name(tmp_path: Path) -> None:
    store = pilot(tmp_path / "mlflow.db")
    store.run("d" * 32, "other", {"loss": [(0, 0.1)]}, experiment=0)
    with pytest.raises(LedgerError, match=r"runs of 2 experiments: Default, pilot\. Name one: --experiment NAME"):
        read_store(store.path, None, None)


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
