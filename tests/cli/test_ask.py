"""`flowlab sql` prints what was asked, with every digit; `flowlab compare` what differs between two runs."""

import json
import struct
import threading
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowlab.cli.ask import told, told_single
from flowlab.cli.main import run_command
from flowlab.ledger.connection import open_ledger, read
from tests.cli.tiny_study import flowlab_here, write_tiny
from tests.verdict.campaign import Campaign, panel_rule

WIDE = "select 'control-1001-abcdefgh' as run_id, 0.123456789012345678::double as value, 'a b c d e' as why"


@pytest.fixture
def study(tmp_path: Path, ledger: Path) -> Path:
    """A study with a ledger in which there is nothing."""
    return write_tiny(tmp_path)


@given(st.floats())
def test_a_number_is_told_by_digits_that_give_it_back(value: float) -> None:
    assert struct.pack("d", float(told(value))) == struct.pack("d", value) or value != value


@given(st.floats(width=32))
def test_so_is_a_single_by_nine_at_most(value: float) -> None:
    text = told_single(value)
    assert value != value or struct.pack("f", float(text)) == struct.pack("f", value)
    assert len(text.partition("e")[0].strip("-").replace(".", "").strip("0")) <= 9


def test_values_are_told_as_duckdb_says_them(template: Path) -> None:
    asked = (
        "null, '', 'a', true, 1.50, 0.1::float, 1/3::double, 1e-300::double, 18446744073709551615::ubigint, [1, null], "
        "{'k': [0.5::double]}, date '2026-01-02', timestamp '2026-01-02 03:04:05.5', '\\xAA'::blob, 'nan'::double"
    )
    answer = read(template, f"select {asked}")
    pairs = zip(answer.types, answer.rows[0], strict=True)
    assert [told_single(value) if kind == "FLOAT" else told(value) for kind, value in pairs] == [
        "NULL", "", "a", "true", "1.50", "0.1", "0.3333333333333333", "1e-300", "18446744073709551615", "[1, NULL]",
        "{'k': [0.5]}", "2026-01-02", "2026-01-02 03:04:05.500000", "\\xaa", "nan",
    ]  # fmt: skip


def test_numbers_that_json_lacks_are_not_taken_for_missing_ones(study: Path) -> None:
    asked = "select 'nan'::double as a, '-inf'::double as b, [1.5, 'inf'::double] as c, null as d"
    assert json.loads(flowlab_here(study, "sql", asked, "--json").stdout) == [
        {"a": "NaN", "b": "-Infinity", "c": [1.5, "Infinity"], "d": None}
    ]


def test_a_row_is_a_line_where_nobody_watches(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    done = flowlab_here(study, "sql", f"select *, repeat('x', 3000) as long from ({WIDE})")
    assert done.stdout.splitlines()[2] == f"control-1001-abcdefgh  0.12345678901234568  a b c d e  {'x' * 3000}"
    assert done.stderr.endswith("1 row\n")


def test_a_row_that_does_not_fit_is_a_record(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert flowlab_here(study, "sql", WIDE).stdout.splitlines() == [
        "-[ 1 ]----------------------------------",
        "run_id: control-1001-abcdefgh",
        "value:  0.12345678901234568",
        "why:    a b c d e",
    ]
    told = flowlab_here(study, "sql", WIDE, "--format", "table").stdout.splitlines()
    assert told[2] == "control-1001-abcdefgh  0.12345678901234568  a b c d e"


def test_a_long_answer_is_whole_and_says_how_many_rows(study: Path) -> None:
    done = flowlab_here(study, "sql", "select range as a from range(2000)")
    assert done.stdout.split()[2:] == [str(number) for number in range(2000)]
    assert done.stderr.endswith("2,000 rows\n")


@pytest.mark.parametrize("asked", [("--csv",), ("--format", "csv")])
def test_csv_goes_to_stdout_as_it_would_to_a_file(study: Path, asked: tuple[str, ...]) -> None:
    done = flowlab_here(study, "sql", "select 0.1::double as a, null as b, 'x, y' as c, [1] as d", *asked)
    assert done.stdout == 'a,b,c,d\n0.1,,"x, y",[1]\n'


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (("--csv", "--json"), "printed in one way, got csv and json"),
        (("--csv", "--format", "table"), "printed in one way, got csv and table"),
        (("--csv", "--out", "a.csv"), "--out writes a file by its ending, .csv: leave csv out"),
        (("--format", "xml"), "'xml' is not one of"),
    ],
)
def test_two_ways_at_once_are_refused(study: Path, asked: tuple[str, ...], why: str) -> None:
    assert why in flowlab_here(study, "sql", "select 1", *asked, code=2).stderr
    assert not (study / "a.csv").exists()


@pytest.fixture
def ids(study: Path, ledger: Path, runs: Path) -> list[str]:
    """The control at 1001 and 1002, and a lever at 1001 from another device: 0.40, 0.38, 0.37."""
    campaign = Campaign(ledger, runs, panel_rule())
    campaign.run("control", 1001, 0.40)
    campaign.run("control", 1002, 0.38)
    campaign.run("wide", 1001, 0.37, device="cuda")
    campaign.verdicts()
    return [row[0] for row in read(ledger, "select run_id from runs order by lever, seed").rows]


def test_two_runs_differ_first_in_what_they_are_and_then_in_numbers(study: Path, ids: list[str]) -> None:
    done = flowlab_here(study, "compare", ids[0], ids[2])
    lines = done.stdout.splitlines()
    assert lines[:2] == [f"A: {ids[0]}", f"B: {ids[2]}"]
    facts = [line.split() for line in lines[4 : lines.index("")]]
    assert facts == [["lever", "control", "wide"], ["recipe_digest", "base", "wide-recipe"], ["device", "cpu", "cuda"]]
    (number,) = [line.split() for line in lines if line.startswith("l1 ")]
    # the controls' sd: sqrt((0.01^2 + 0.01^2) / 1)
    assert number == ["l1", "steering", "spike_frame", "meank", "0.4000", "0.3700", "-0.0300", "0.0141"]
    assert "1 numbers differ, 1 are equal" in done.stderr


def test_equal_numbers_are_shown_with_all(study: Path, ids: list[str]) -> None:
    shown = flowlab_here(study, "compare", ids[0], ids[2], "--all").stdout
    assert "l1 steering flat_frame meank" in shown


def test_the_machine_is_told_both(study: Path, ids: list[str]) -> None:
    found = json.loads(flowlab_here(study, "compare", ids[0], ids[1], "--json").stdout)
    assert found["differ"] == [{"key": "seed", "value": 1001, "other_value": 1002}]
    assert [row["difference"] for row in found["numbers"]] == [pytest.approx(-0.02)]


def test_ids_may_be_cut_short_as_long_as_one_run_begins_so(study: Path, ids: list[str]) -> None:
    assert f"B: {ids[2]}" in flowlab_here(study, "compare", "control-1001", "wi").stdout
    assert "where several begin so" in flowlab_here(study, "compare", "control", "wide", code=2).stderr


def test_who_reads_verdicts_slowly_does_not_keep_the_ledger(
    study: Path, ids: list[str], ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is printed into a pager that waits is printed once the ledger has been let go of."""
    monkeypatch.chdir(study)
    found: list[str] = []

    def write_meanwhile() -> None:
        with open_ledger(ledger, read_only=False, patience_s=0.5):
            found.append("written")

    class Pager(StringIO):
        def write(self, text: str) -> int:
            if text:
                other = threading.Thread(target=write_meanwhile)
                other.start()
                other.join()
            return super().write(text)

    with redirect_stdout(Pager()) as page:
        assert run_command(["verdict"]) == 0
    assert "wide" in page.getvalue() and found
