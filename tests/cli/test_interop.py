"""`flowlab ledger export|import|tensorboard`, through the true command line."""

import json
import sqlite3
from pathlib import Path

import duckdb
import pytest

from tests.cli.tiny_study import ask, flowlab, write_tiny

STORE = """
create table experiments (experiment_id integer, name text, lifecycle_stage text, creation_time bigint);
create table runs (
    run_uuid text, name text, status text, start_time bigint, end_time bigint, lifecycle_stage text,
    experiment_id integer);
create table metrics ("key" text, value float, timestamp bigint, run_uuid text, step bigint, is_nan boolean);
create table params ("key" text, value text, run_uuid text);
create table tags ("key" text, value text, run_uuid text);
insert into experiments values (1, 'pilot', 'active', 2000);
insert into runs values
    ('a1', 'baseline', 'FINISHED', 1, 2, 'active', 1), ('b2', 'Delta Off', 'FINISHED', 3, 4, 'active', 1);
insert into params values ('seed', '1001', 'a1'), ('seed', '1001', 'b2'), ('delta', '10', 'a1'), ('delta', '0', 'b2');
insert into metrics values
    ('val/l1', 0.40, 1, 'a1', 0, 0), ('val/l1', 0.37, 1, 'b2', 0, 0), ('loss', 0, 1, 'a1', 0, 1);
"""
IMPORT = (
    "ledger",
    "import",
    "mlflow.db",
    "--from",
    "mlflow",
    "--control",
    "baseline",
    "--map",
    "val/l1=l1::overall:meank",
    "--seed-from",
    "seed",
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study into which an MLflow store with two runs was imported."""
    folder = write_tiny(tmp_path_factory.mktemp("interop"))
    store = sqlite3.connect(folder / "mlflow.db")
    store.executescript(STORE)
    store.close()
    done = flowlab(folder, *IMPORT, "--json")
    assert [(run["lever"], run["seed"], run["new"]) for run in json.loads(done.stdout)["runs"]] == [
        ("control", 1001, True),
        ("delta-off", 1001, True),
    ]
    assert "note: values that are NaN or infinite, left out: loss (1)" in done.stderr
    return folder


def test_imported_runs_are_in_the_ledger_and_pair(study: Path) -> None:
    (pair,) = ask(study, "select lever, metric, readout, round(delta, 6) as delta from pairs")
    assert pair == {"lever": "delta-off", "metric": "l1", "readout": "meank", "delta": -0.03}
    assert {row["origin"] for row in ask(study, "select origin from runs")} == {
        "mlflow:mlflow.db#a1",
        "mlflow:mlflow.db#b2",
    }
    assert "imported-delta-off-" in flowlab(study, "status").stdout


def test_importing_again_says_that_there_is_nothing(study: Path) -> None:
    assert "nothing to import; 2 were imported before" in flowlab(study, *IMPORT).stderr
    assert len(ask(study, "select * from runs")) == 2


def test_an_export_opens_and_the_second_into_one_folder_is_refused(study: Path) -> None:
    told = flowlab(study, "ledger", "export", "out").stderr
    assert "duckdb new.duckdb < schema.sql" in told
    with duckdb.connect() as connection:
        connection.execute(f"set file_search_path = '{study / 'out'}'")
        connection.execute((study / "out" / "schema.sql").read_text())
        assert connection.sql("select count(*) from pairs").fetchall() == [(1,)]
    again = flowlab(study, "ledger", "export", "out", code=2).stderr
    assert "is not empty; a folder is written that is new or empty" in again


def test_event_files_of_one_run(study: Path) -> None:
    pytest.importorskip("tensorboard")
    (run,) = ask(study, "select run_id from runs where lever = 'control'")
    done = flowlab(study, "ledger", "tensorboard", run["run_id"], "--out", "events", "--json")
    assert json.loads(done.stdout) == {"folder": "events", "num_runs": 1, "num_values": 2, "empty": []}
    assert [path.name for path in (study / "events").iterdir()] == [run["run_id"]]
    wrong = flowlab(study, "ledger", "tensorboard", "nothing", "--out", "events", code=2).stderr
    assert wrong.startswith("error: unknown run 'nothing': ")


def test_an_answer_goes_into_a_file(study: Path) -> None:
    told = flowlab(study, "sql", "select lever, seed, changed_keys from runs order by lever", "--out", "answer.csv")
    assert (told.stdout, told.stderr) == ("", "2 rows, 3 columns: answer.csv\n")
    assert (
        study / "answer.csv"
    ).read_text() == 'lever,seed,changed_keys\ncontrol,1001,[]\ndelta-off,1001,"[""delta""]"\n'
    done = flowlab(study, "sql", "select seed from runs", "--out", "answer.parquet", "--json")
    assert json.loads(done.stdout) == {"file": "answer.parquet", "rows": 2}
    assert duckdb.sql(f"select sum(seed) from '{study / 'answer.parquet'}'").fetchall() == [(2002,)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("select 1", "--out", "a.xlsx"), "--out got 'a.xlsx', expected a file that ends in .csv or .parquet"),
        (("select nothing", "--out", "never.csv"), "DuckDB cannot answer this"),
        (("select 1", "--out", "experiments.toml/a.csv"), "experiments.toml"),
    ],
)
def test_an_answer_that_cannot_be_written_is_one_sentence(study: Path, arguments: tuple[str, ...], words: str) -> None:
    before = sorted(study.iterdir())
    told = flowlab(study, "sql", *arguments, code=2).stderr
    assert words in told
    assert told.count("\n") == 1
    assert sorted(study.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("mlflow.db", "experiments.toml", "--from", "mlflow"), "reads one SQLite file, got 2"),
        (("experiments.toml", "--from", "mlflow"), "cannot be read as an MLflow tracking store in SQLite"),
        (("experiments.toml", "--from", "wandb"), "experiments.toml has no column _step or Step"),
        (("absent.csv", "--from", "wandb"), "absent.csv is not there"),
        (("mlflow.db", "--from", "comet"), "'comet' is not one of 'mlflow', 'wandb'"),
    ],
)
def test_a_wrong_file_is_one_sentence(study: Path, arguments: tuple[str, ...], words: str) -> None:
    before = sorted((study / "runs").iterdir())
    told = flowlab(study, "ledger", "import", *arguments, "--control", "baseline", code=2).stderr
    assert words in told
    assert sorted((study / "runs").iterdir()) == before
