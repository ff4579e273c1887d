"""A journal line is whole or it is not there."""

import multiprocessing
from pathlib import Path

import pytest

from flowlab.core.errors import LedgerError
from flowlab.core.types import MetricRow
from flowlab.journal.journal import Journal, read_journal
from flowlab.journal.lines import RunJournal


def test_lines_come_back_in_order_with_kind_and_time(tmp_path: Path) -> None:
    with Journal(tmp_path / "a" / "j.jsonl") as journal:
        journal.append("note", text="one")
        journal.append("note", text="zwei: ü")
    lines, offset = read_journal(journal.path)
    assert [(line["kind"], line["text"]) for line in lines] == [("note", "one"), ("note", "zwei: ü")]
    assert lines[0]["time_us"] > 1_600_000_000_000_000
    assert offset == journal.path.stat().st_size


def test_reading_goes_on_from_an_offset(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.jsonl") as journal:
        journal.append("first")
        _, offset = read_journal(journal.path)
        journal.append("second")
    assert [line["kind"] for line in read_journal(journal.path, offset)[0]] == ["second"]


def test_a_missing_journal_has_no_lines(tmp_path: Path) -> None:
    assert read_journal(tmp_path / "none.jsonl") == ([], 0)


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_torn_tail_is_ignored_by_readers_and_cut_off_by_the_next_writer(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "j.jsonl"
    with Journal(path) as journal:
        journal.append("whole")
        journal.append("torn", text="x" * 30)
    path.write_bytes(path.read_bytes()[:-cut])
    lines, offset = read_journal(path)
    assert [line["kind"] for line in lines] == ["whole"]
    with Journal(path) as journal:
        assert path.stat().st_size == offset
        journal.append("next")
    assert [line["kind"] for line in read_journal(path)[0]] == ["whole", "next"]


def test_a_tail_that_tears_while_the_journal_is_open_is_cut_off_by_the_next_line(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    with Journal(path) as journal:
        journal.append("whole")
        with path.open("ab") as other:
            other.write(b'{"kind":"to')
        journal.append("next")
    assert [line["kind"] for line in read_journal(path)[0]] == ["whole", "next"]


def test_a_journal_that_is_one_torn_line_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_bytes(b'{"kind":' + b"x" * 200_000)
    assert read_journal(path) == ([], 0)
    with Journal(path):
        assert path.stat().st_size == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_not_finite_is_refused_and_nothing_is_written(tmp_path: Path, value: float) -> None:
    with RunJournal.of(tmp_path, "r1") as journal:
        with pytest.raises(LedgerError, match="NaN or infinity"):
            journal.metrics([MetricRow("l1", "steering", "overall", "meank", value)])
        assert journal.path.stat().st_size == 0


@pytest.mark.parametrize("line", ["nonsense", '{"kind": "x"}', '{"kind": "x", "time_us": NaN}', "[1]", '"x"'])
def test_a_complete_line_that_says_nothing_is_named_by_file_and_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "j.jsonl"
    with Journal(path) as journal:
        journal.append("good")
    path.write_bytes(path.read_bytes() + line.encode() + b"\n")
    with pytest.raises(LedgerError, match=r"j\.jsonl, line 2: "):
        read_journal(path)


def _append_many(path: Path, name: str) -> None:
    with Journal(path) as journal:
        for index in range(50):
            journal.append("note", name=name, index=index, padding="x" * 500)


def test_two_processes_may_append_to_one_journal(tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_append_many, args=(path, name)) for name in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    lines, _ = read_journal(path)
    for name in "ab":
        assert [line["index"] for line in lines if line["name"] == name] == list(range(50))
