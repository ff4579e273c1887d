"""What journals said arrives once, and no bad line stops a good one."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from flowlab.core.digest import base_id
from flowlab.core.errors import ChainBrokenError, LedgerError, MissingError
from flowlab.core.types import MetricRow
from flowlab.journal.journal import digest_part
from flowlab.journal.lines import RunJournal, StudyJournal
from flowlab.ledger.connection import read
from flowlab.ledger.ingest import ingest
from flowlab.ledger.verify import verify
from tests.ledger.ledger_files import STEERING, contents, register, table, write_run


def test_a_run_arrives_whole(ledger: Path, runs: Path) -> None:
    write_run(runs, "r1", 0.3555)
    done = ingest(ledger, runs)
    assert (done.num_journals, done.num_lines, done.problems) == (1, 7, [])
    (run,) = table(ledger, "runs")
    assert (run["run_id"], run["lever"], run["seed"], run["control_digest"]) == ("r1", "control", 1001, "c")
    assert json.loads(run["evaluation_json"]) == {"draws": 4}
    settings = {row["key"]: json.loads(row["value_json"]) for row in table(ledger, "run_settings")}
    assert settings == {"train.lr": 1e-4, "train.steps": 10}
    assert [(row["taxonomy"], row["value"]) for row in table(ledger, "tags")] == [("scale", "pilot")]
    assert [(row["key"], row["value"]) for row in table(ledger, "environments")] == [("torch", "2")]
    assert {row["phase"]: row["seconds"] for row in table(ledger, "wall_times")} == {"train": 1.5, "evaluate": 0.5}
    assert [(row["name"], row["num_bytes"]) for row in table(ledger, "artifacts")] == [("policy.safetensors", 123)]
    (final,) = table(ledger, "final_metrics")
    assert (final["metric"], final["slice"], final["value"]) == ("l1", "spike_frame", 0.3555)


def test_every_bit_of_a_value_arrives(ledger: Path, runs: Path) -> None:
    values = [0.1 + 0.2, 1e-310, -1.7976931348623157e308, 1 / 3]
    with RunJournal.of(runs, "r1") as journal:
        register(journal, "r1")
        journal.metrics([MetricRow(f"m{index}", "", "", "", value) for index, value in enumerate(values)])
    ingest(ledger, runs)
    assert [row["value"] for row in sorted(table(ledger, "metrics"), key=lambda row: row["metric"])] == values


def test_odd_texts_arrive(ledger: Path, runs: Path) -> None:
    with RunJournal.of(runs, "r1") as journal:
        register(journal, "r1")
        journal.event("note", 'it\'s "quoted", \\ and ü\nand \ud800')
    assert ingest(ledger, runs).problems == []
    assert table(ledger, "events")[-1]["detail"] == 'it\'s "quoted", \\ and ü\nand ?'


def test_ingesting_again_adds_nothing(ledger: Path, runs: Path) -> None:
    write_run(runs, "r1")
    write_run(runs, "r2", seed=1002)
    ingest(ledger, runs)
    before = contents(ledger)
    assert ingest(ledger, runs).num_rows == 0
    assert contents(ledger) == before


def test_line_by_line_is_the_same_as_all_at_once(ledger: Path, runs: Path, template: Path, tmp_path: Path) -> None:
    path = write_run(runs, "r1")
    ingest(ledger, runs)
    slow_ledger, slow_path = tmp_path / "slow.duckdb", tmp_path / "slow" / "r1" / "journal.jsonl"
    slow_path.parent.mkdir(parents=True)
    shutil.copy(template, slow_ledger)
    for line in path.read_bytes().splitlines(keepends=True):
        with slow_path.open("ab") as file:
            file.write(line)
        ingest(slow_ledger, tmp_path / "slow")
    assert contents(slow_ledger) == contents(ledger)


def test_a_torn_line_waits_until_it_is_whole(ledger: Path, runs: Path) -> None:
    path = write_run(runs, "r1")
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])  # tears the line 'finished'
    ingest(ledger, runs)
    assert table(ledger, "final_metrics") == []
    path.write_bytes(whole)
    assert ingest(ledger, runs).num_lines == 1
    assert len(table(ledger, "final_metrics")) == 1


def _resume_with(runs: Path, value: float) -> None:
    with RunJournal.of(runs, "r1") as journal:
        journal.event("resumed", "step 2")
        journal.metrics([MetricRow(*STEERING, value)])


@pytest.mark.parametrize("between", [True, False])
def test_a_metric_that_a_resumed_run_writes_again_stays_one_row(ledger: Path, runs: Path, between: bool) -> None:
    write_run(runs, "r1", 0.25)
    if between:
        ingest(ledger, runs)
    _resume_with(runs, 0.25)
    assert ingest(ledger, runs).num_conflicts == 0
    assert [row["value"] for row in table(ledger, "metrics") if row["step"] == -1] == [0.25]


@pytest.mark.parametrize("between", [True, False])
def test_a_second_value_is_a_conflict_and_the_first_stays(ledger: Path, runs: Path, between: bool) -> None:
    write_run(runs, "r1", 0.25)
    if between:
        ingest(ledger, runs)
    _resume_with(runs, 0.5)
    assert ingest(ledger, runs).num_conflicts == 1
    assert [row["value"] for row in table(ledger, "metrics") if row["step"] == -1] == [0.25]
    (conflict,) = [row for row in table(ledger, "events") if row["what"] == "conflict"]
    assert conflict["detail"] == "metrics: r1 l1 steering spike_frame meank -1: value was 0.25, then 0.5"


BAD_LINES = [
    "nonsense",
    '{"kind":"metrics","time_us":1,"rows":[["l1","","","",1e999,-1]]}',
    '{"kind":"metrics","time_us":1,"rows":[["l1","","","","0.3",-1]]}',
    '{"kind":"metrics","time_us":1,"rows":[["l1","",""]]}',
    '{"kind":"started","time_us":1,"attempt":99999999999999999999}',
    '{"kind":"seal","time_us":1}',
    '{"kind":"invented","time_us":1}',
    '{"kind":"event","time_us":99999999999999999999,"what":"x","detail":""}',
    '{"kind":"event","time_us":1,"what":"x"}',
]


@pytest.mark.parametrize("line", BAD_LINES)
def test_a_bad_line_is_named_and_stops_nothing(ledger: Path, runs: Path, line: str) -> None:
    path = write_run(runs, "r1")
    head, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(head + line.encode() + b"\n" + b"".join(rest))
    write_run(runs, "r2")
    (problem,) = ingest(ledger, runs).problems
    assert f"{path}, line 2: " in problem
    assert len(table(ledger, "final_metrics")) == 2
    (event,) = [row for row in table(ledger, "events") if row["what"] == "unreadable_line"]
    assert event["run_id"] == "r1"
    assert event["detail"].startswith("r1/journal.jsonl, line 2: ")


def test_what_is_told_of_a_huge_line_stays_short_and_the_ledger_keeps_it_whole(ledger: Path, runs: Path) -> None:
    path = write_run(runs, "a")
    with path.open("a") as journal:
        journal.write(json.dumps({"kind": "metrics", "time_us": 1, "rows": ["x" * 50_000]}) + "\n")
    (problem,) = ingest(ledger, runs).problems
    assert len(problem) < 700 and problem.endswith("The line was left out.")
    (event,) = [row for row in table(ledger, "events") if row["what"] == "unreadable_line"]
    assert len(event["detail"]) > 50_000


def test_a_journal_in_the_folder_of_another_run_is_named(ledger: Path, runs: Path) -> None:
    path = write_run(runs, "r1")
    (runs / "copy").mkdir()
    (runs / "copy" / "journal.jsonl").write_bytes(path.read_bytes())
    (problem,) = ingest(ledger, runs).problems
    assert "run_id is 'r1', expected the folder's name 'copy'" in problem
    assert [row["run_id"] for row in table(ledger, "runs")] == ["r1"]


def test_a_journal_that_shrank_is_named_and_keeps_its_rows(ledger: Path, runs: Path) -> None:
    path = write_run(runs, "r1")
    ingest(ledger, runs)
    path.write_bytes(b"")
    (problem,) = ingest(ledger, runs).problems
    assert "the journal was cut or replaced" in problem
    assert len(table(ledger, "final_metrics")) == 1


def test_a_cache_written_twice_is_one_row(ledger: Path, runs: Path) -> None:
    for _ in range(2):
        with StudyJournal.of(runs) as journal:
            journal.cache(cache_id="k", identity={"encoder": "e"}, num_train=10, num_val=5, val_drives_digest="v")
        ingest(ledger, runs)
    assert [(row["cache_id"], row["num_train"]) for row in table(ledger, "caches")] == [("k", 10)]


def test_status_follows_the_last_line_that_tells_one(ledger: Path, runs: Path) -> None:
    seen = []
    with RunJournal.of(runs, "r1") as journal:

        def look() -> None:
            ingest(ledger, runs)
            (row,) = table(ledger, "run_status")
            seen.append((row["status"], row["num_attempts"], row["last_step"], row["reason"]))

        register(journal, "r1")
        look()
        journal.metrics([MetricRow("flow_mse", "", "overall", "", 1.0, 5)])
        journal.event("interrupted")
        look()
        journal.started(attempt=1, device="cpu", cohort_size=1, threads=1, pid=8, environment={}, git_revision="")
        journal.crashed("loss is not finite", 9)
        look()
        journal.finished()
        look()
    assert seen == [
        ("running", 1, None, None),
        ("interrupted", 1, 5, None),
        ("crashed", 2, 9, "loss is not finite"),
        ("finished", 2, 9, None),
    ]


def test_reading_before_anything_is_there_tells_the_next_step(no_ledger: Path) -> None:
    with pytest.raises(MissingError, match="Start a run first"):
        read(no_ledger, "select 1")


@pytest.mark.parametrize(
    "statement",
    ["delete from runs", "insert into runs select * from runs", "create table x (a int)", "drop view verdicts",
     "copy runs to 'x.csv'", "attach 'y.duckdb'", "set threads = 1", "create temp table t (a int)"],
)  # fmt: skip
def test_only_questions_are_answered(ledger: Path, statement: str) -> None:
    with pytest.raises(LedgerError, match=r"the ledger only answers questions, got an? \w+ statement"):
        read(ledger, statement)


@pytest.mark.parametrize(
    ("statement", "words"),
    [("selec 1", "syntax error"), ("select * from runz", "runz"), ("select 1; select 2", "got 2"), ("", "got 0")],
)
def test_a_wrong_question_gets_one_line(ledger: Path, statement: str, words: str) -> None:
    with pytest.raises(LedgerError, match=words) as caught:
        read(ledger, statement)
    assert "\n" not in str(caught.value)


def test_a_table_carries_names_types_and_rows(ledger: Path) -> None:
    answer = read(ledger, "select 1 + ? as two, 'x' as name", [1])
    assert (answer.columns, answer.types, answer.rows) == (["two", "name"], ["INTEGER", "VARCHAR"], [(2, "x")])


def test_a_journal_that_is_lost_is_told_and_what_stands_in_its_place_is_read(ledger: Path, runs: Path) -> None:
    path = write_run(runs, "r1", 0.3)
    ingest(ledger, runs)
    path.unlink()
    ledger.unlink()
    (problem,) = ingest(ledger, runs).problems
    assert "r1/journal.jsonl: bytes 0 to" in problem and "are gone" in problem
    assert [row["what"] for row in table(ledger, "events")] == ["missing_part"]
    write_run(runs, "r1", 0.4)
    assert ingest(ledger, runs).problems == []
    assert [row["value"] for row in table(ledger, "final_metrics")] == [0.4]
    verify(ledger, runs)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"journal": "../x/journal.jsonl"}, "journal is '../x/journal.jsonl', expected <run id>/journal.jsonl"),
        ({"journal": "/etc/journal.jsonl"}, "expected <run id>/journal.jsonl"),
        ({"journal": "../journal.jsonl"}, "expected <run id>/journal.jsonl"),
        ({"from_offset": -5}, "name no part of a journal"),
        ({"from_offset": 9, "to_offset": 9}, "name no part of a journal"),
        ({"to_offset": "9"}, "to_offset is '9', expected a whole number"),
    ],
)
def test_an_order_to_read_nonsense_is_left_out(ledger: Path, runs: Path, fields: dict, words: str) -> None:
    order = {"journal": "r1/journal.jsonl", "from_offset": 0, "to_offset": 9, "digest": "d"}
    with StudyJournal.of(runs) as journal:
        journal.append("ingested", **(order | fields))
    (problem,) = ingest(ledger, runs).problems
    assert words in problem
    write_run(runs, "r1", 0.3)
    assert ingest(ledger, runs).problems == []
    assert len(table(ledger, "final_metrics")) == 1
    verify(ledger, runs)


def test_a_run_cannot_say_that_its_own_journal_is_lost(ledger: Path, runs: Path) -> None:
    """What is lost is not compared with the ledger: its lines could be changed afterwards."""
    path = write_run(runs, "r1", 0.3)
    with RunJournal.of(runs, "r1") as journal:
        journal.append("event", what="missing_part", detail="so they say")
    (problem,) = ingest(ledger, runs).problems
    assert "what is 'missing_part', which is for the reader of a journal to say" in problem
    verify(ledger, runs)
    path.write_text(path.read_text().replace("0.3", "0.2"))
    with pytest.raises(ChainBrokenError, match="was made from other bytes"):
        verify(ledger, runs)


def test_bytes_that_no_order_covers_may_not_change_either(ledger: Path, runs: Path) -> None:
    path = write_run(runs, "r1", 0.3)
    content = path.read_bytes()
    last = content[:-1].rfind(b"\n") + 1
    with StudyJournal.of(runs) as journal:
        digest = digest_part(content[last:])
        journal.ingested(journal="r1/journal.jsonl", from_offset=last, to_offset=len(content), digest=digest)
    assert ingest(ledger, runs).problems == []
    assert [row["value"] for row in table(ledger, "final_metrics")] == [0.3]
    verify(ledger, runs)
    path.write_bytes(content.replace(b"0.3", b"0.2"))
    with pytest.raises(ChainBrokenError, match="has other rows than its journal says"):
        verify(ledger, runs)


def test_columns_that_follow_from_others_are_computed_as_rows_come_in(ledger: Path, runs: Path) -> None:
    write_run(runs, "r1")
    ingest(ledger, runs)
    assert table(ledger, "runs")[0]["base_id"] == base_id("c", "evaluation")
    metric, whole = (
        int.from_bytes(hashlib.md5(text).digest()[8:], "little")
        for text in (b"l1", b"2:l18:steering11:spike_frame0:5:meank")
    )
    keys = read(ledger, "select number_key from metrics where metric = 'l1'").rows
    assert keys == [((metric >> 48 << 48) + (whole >> 16),)]
