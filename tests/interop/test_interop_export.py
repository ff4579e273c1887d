"""A ledger written as Parquet and SQL opens in any DuckDB, and says there what it said here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from flowlab.core.errors import StudyError
from flowlab.interop.export import export_ledger
from flowlab.ledger.connection import open_ledger, read, records
from flowlab.ledger.verify import verify

BARE = """
import importlib.abc, json, sys

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "flowlab":
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
import duckdb
connection = duckdb.connect(sys.argv[1])
connection.execute(open("schema.sql").read())
said = {}
for name in ("verdicts", "chain", "owed_runs"):
    answer = connection.execute(f"select * from {name} order by all")
    said[name] = [dict(zip([column[0] for column in answer.description], row)) for row in answer.fetchall()]
print(json.dumps(said))
assert "flowlab" not in sys.modules
"""


def test_without_flowlab_it_gives_the_same_verdicts_and_chain(judged: Path, tmp_path: Path) -> None:
    exported = export_ledger(judged, tmp_path / "out")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    told = subprocess.run(
        [sys.executable, "-I", "-c", BARE, str(tmp_path / "new.duckdb")],
        cwd=tmp_path / "out", env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    said = json.loads(told.stdout)
    assert said["verdicts"] == read(judged, "select * from verdicts order by all").records()
    assert [(row["lever"], row["decision"]) for row in said["verdicts"]] == [("wide", "stack")]
    assert said["owed_runs"] == []
    assert said["chain"] == read(judged, "select * from chain order by all").records()
    assert said["chain"][-1]["hash"] == exported.head


def test_what_was_made_from_it_is_a_ledger_again(judged: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    exported = export_ledger(judged, out)
    new = tmp_path / "new.duckdb"
    with duckdb.connect(str(new)) as connection:
        connection.execute(f"set file_search_path = '{out}'")
        connection.execute((out / "schema.sql").read_text())
    found = verify(new, judged.parent / "runs")
    assert (found.head, found.num_journals, found.gone) == (exported.head, 4, [])
    with open_ledger(new, read_only=True) as copy, open_ledger(judged, read_only=True) as original:
        for name, count in exported.rows.items():
            rows = sorted(map(repr, records(copy.execute(f"select * from {name}"))))
            assert len(rows) == count
            assert rows == sorted(map(repr, records(original.execute(f"select * from {name}"))))


def test_a_table_is_one_file_and_the_readme_says_how(judged: Path, tmp_path: Path) -> None:
    exported = export_ledger(judged, tmp_path / "out")
    with open_ledger(judged, read_only=True) as connection:
        tables = [
            name
            for (name,) in connection.execute("select table_name from duckdb_tables() where not internal").fetchall()
        ]
    names = {f"{name}.parquet" for name in tables} | {"schema.sql", "README.txt"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    assert set(exported.rows) == set(tables)
    assert (exported.rows["runs"], exported.rows["metrics"]) == (4, 20)
    told = (tmp_path / "out" / "README.txt").read_text()
    assert "duckdb new.duckdb < schema.sql" in told
    assert "Runs of one base_id" in told
    bases = duckdb.sql(f"select count(base_id), count(distinct base_id) from '{tmp_path / 'out' / 'runs.parquet'}'")
    assert bases.fetchall() == [(4, 1)]
    codec = duckdb.sql(f"select distinct compression from parquet_metadata('{tmp_path / 'out' / 'metrics.parquet'}')")
    assert codec.fetchall() == [("ZSTD",)]


def test_an_empty_ledger_goes_too_and_an_empty_folder_will_do(ledger: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    exported = export_ledger(ledger, tmp_path / "out")
    assert (exported.rows["chain"], exported.head) == (0, "0" * 64)


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_nothing_that_is_there_is_written_over(judged: Path, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    if kind == "folder":
        out.mkdir()
        (out / "mine.txt").write_text("mine")
    else:
        out.write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StudyError, match=r"out is (not empty|a file); a folder is written that is new or empty"):
        export_ledger(judged, out)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_breaks_off_leaves_nothing(judged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("flowlab.interop.export._script", full)
    with pytest.raises(OSError, match="No space left"):
        export_ledger(judged, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


def test_a_folder_that_cannot_be_made_is_named_as_it_was_given(judged: Path) -> None:
    with pytest.raises(StudyError, match=r"^/proc/x cannot be made: .*\. Name another folder\.$"):
        export_ledger(judged, Path("/proc/x"))
