"""Decisions are recorded by one step of their own, once; asking writes nothing."""

from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest

from flowlab.cli import judge
from flowlab.ledger.connection import read, reading
from flowlab.ledger.ingest import ingest
from flowlab.verdict.record import read_reversals, record_decisions
from tests.ledger.ledger_files import write_run
from tests.verdict.campaign import Campaign, panel_rule


@pytest.fixture
def decided(ledger: Path, runs: Path) -> Campaign:
    """`good` is stacked, `bad` dropped, `waiting` undecided."""
    campaign = Campaign(ledger, runs, panel_rule())
    campaign.controls({1001: 0.40, 1002: 0.38})
    for lever, values in {"good": (0.36, 0.36), "bad": (0.41,), "waiting": (0.36,)}.items():
        for seed, value in zip((1001, 1002), values, strict=False):
            campaign.run(lever, seed, value)
    ingest(ledger, runs)
    return campaign


def test_what_is_decided_is_recorded_once(decided: Campaign) -> None:
    assert record_decisions(decided.runs, decided.ledger) == 2
    assert record_decisions(decided.runs, decided.ledger) == 0
    rows = read(decided.ledger, "select lever, decision, cache_id from recorded_verdicts order by all").rows
    assert rows == [("bad", "drop", "cache"), ("good", "stack", "cache")]


def test_what_tells_of_decisions_is_judged_once(decided: Campaign) -> None:
    record_decisions(decided.runs, decided.ledger)
    with reading(decided.ledger):
        read_reversals(decided.ledger)
        ((_, plan),) = read(decided.ledger, "explain (format json) select * from verdicts").rows
    assert "lever_decisions" in plan and "metrics" not in plan


def test_a_run_that_comes_in_later_is_recorded_then(decided: Campaign) -> None:
    record_decisions(decided.runs, decided.ledger)
    decided.run("waiting", 1002, 0.36)
    ingest(decided.ledger, decided.runs)
    assert record_decisions(decided.runs, decided.ledger) == 1


def test_asking_writes_nothing(decided: Campaign) -> None:
    study = SimpleNamespace(ledger=decided.ledger, runs=decided.runs)
    journal = decided.runs / "study.jsonl"
    before = (journal.read_bytes(), decided.ledger.read_bytes())
    assert len(judge.read_for(study, [])) == 3
    assert (journal.read_bytes(), decided.ledger.read_bytes()) == before


def test_a_decision_that_the_views_no_longer_bear_out_is_told(decided: Campaign) -> None:
    record_decisions(decided.runs, decided.ledger)
    assert read_reversals(decided.ledger) == []
    with duckdb.connect(str(decided.ledger)) as connection:
        connection.execute("update rule_stages set bar = 1")
    assert [(row.lever, row.recorded, row.decision) for row in read_reversals(decided.ledger)] == [
        ("good", "stack", "drop")
    ]


def test_who_may_not_write_gets_an_answer_from_what_the_ledger_has(
    decided: Campaign, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    path = write_run(decided.runs, "late", 0.3, "waiting", 1003)
    monkeypatch.setattr("os.access", lambda path, how: False)
    study = SimpleNamespace(ledger=decided.ledger, runs=decided.runs)
    before = (decided.runs / "study.jsonl").read_bytes()
    judge.ingest_all(study)
    told = capsys.readouterr()
    assert told.out == "" and "note: you may not write" in told.err
    assert f"so {len(path.read_bytes().splitlines())} lines of journals are unread: the answer is from" in told.err
    assert (decided.runs / "study.jsonl").read_bytes() == before
    assert len(judge.read_for(study, [])) == 3
