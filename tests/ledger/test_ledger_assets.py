"""A ledger of every revision of the schema that was ever released: upgraded, judged, verified, and made anew.

tests/assets/ledgers/make.py wrote them, each with the flowlab of its time.
"""

import tarfile
from pathlib import Path

import duckdb
import pytest

from flowlab.core.errors import ChainBrokenError
from flowlab.ledger.connection import read
from flowlab.ledger.ingest import ingest
from flowlab.ledger.migrate import migrate, migrations_dir
from flowlab.ledger.rebuild import rebuild
from flowlab.ledger.verify import verify
from flowlab.verdict.rejudged import rejudge
from flowlab.verdict.seal import rules_in_force
from tests.ledger.ledger_files import contents

ASSETS = Path(__file__).parent.parent / "assets" / "ledgers"
REVISIONS = sorted(path.name.split("_")[0] for path in (migrations_dir() / "versions").glob("[0-9]*.py"))

VERDICTS = {
    "delta-off": ("stack", "drop"),  # 0.3274 and 0.3276: 0.0092 better than the panel's 0.3367, not 0.015
    "depth-2": ("triage", "drop"),
    "good": ("stack", "stack"),
    "unstable": ("triage", "drop"),
    "waiting": ("stack", "undecided"),
}


@pytest.fixture
def study(tmp_path: Path, revision: str) -> Path:
    """The folder of a study of that revision."""
    with tarfile.open(ASSETS / f"{revision}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def run_waiting_at_1002(runs: Path) -> None:
    """The run that lever `waiting` waits for, with the numbers of its first."""
    journal = runs / "waiting-1001" / "journal.jsonl"
    (runs / "waiting-1002").mkdir()
    again = journal.read_text().replace("waiting-1001", "waiting-1002").replace('"seed":1001', '"seed":1002')
    (runs / "waiting-1002" / "journal.jsonl").write_text(again)


@pytest.mark.parametrize("revision", REVISIONS)
def test_an_old_ledger_is_upgraded_and_judged(study: Path, revision: str) -> None:
    ledger = study / "ledger.duckdb"
    migrate(ledger)
    rows = read(ledger, "select lever, stage_reached, decision, owed from verdicts").rows
    assert {lever: (stage, decision) for lever, stage, decision, _ in rows} == VERDICTS
    assert {owed for lever, _, _, owed in rows if lever == "waiting"} == {"waiting@1002"}
    assert read(ledger, "select detail from events where what = 'conflict'").rows == [
        ("metrics: depth-2-1001 flow_mse overall 0: value was 1.0, then 9.0",)
    ]


@pytest.mark.parametrize("revision", REVISIONS)
def test_an_old_ledger_verifies_once_it_is_upgraded_and_takes_new_runs(study: Path, revision: str) -> None:
    ledger, runs = study / "ledger.duckdb", study / "runs"
    migrate(ledger)
    first = verify(ledger, runs)
    run_waiting_at_1002(runs)
    assert ingest(ledger, runs).problems == []
    assert verify(ledger, runs, first.head).num_entries == first.num_entries + 1
    rows = read(ledger, "select decision from verdicts where lever = 'waiting'").rows
    assert rows == [("stack",)]


@pytest.mark.parametrize("revision", REVISIONS)
def test_the_journals_of_an_old_ledger_make_the_same_rows(study: Path, revision: str) -> None:
    ledger, runs = study / "ledger.duckdb", study / "runs"
    migrate(ledger)
    old = contents(ledger)
    ledger.rename(study / "old.duckdb")
    rebuild(ledger, runs)
    assert contents(ledger) == old
    verify(ledger, runs)


@pytest.mark.parametrize("revision", ["0003"])
def test_columns_that_somebody_added_by_hand_are_in_nobody_s_way(study: Path, revision: str) -> None:
    """They are named like columns of views, and stay empty in what comes in; `verify` names the first."""
    ledger, runs = study / "ledger.duckdb", study / "runs"
    with duckdb.connect(str(ledger)) as connection:
        for table, column in {"runs": "status", "metrics": "position", "rules": "seed", "events": "lever"}.items():
            connection.execute(f"alter table {table} add column {column} text default 'mine'")
    migrate(ledger)
    run_waiting_at_1002(runs)
    assert ingest(ledger, runs).problems == []
    rows = read(ledger, "select decision from verdicts where lever = 'waiting'").rows
    assert rows == [("stack",)]
    ((sealed, rule),) = rules_in_force(ledger)
    other = rule.model_copy(update={"name": "other"})
    assert {row.lever for row in rejudge(other, sealed, ledger)} == VERDICTS.keys()
    with pytest.raises(ChainBrokenError, match=r"table events was changed \(column lever\)"):
        verify(ledger, runs)
