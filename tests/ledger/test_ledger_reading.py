"""Questions in a row share one opening, see what their thread writes, and let go of the ledger at the end."""

import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowlab.core.errors import LedgerError, MissingError
from flowlab.ledger import connection
from flowlab.ledger.connection import compute_once, let_go, open_ledger, read, reading
from flowlab.ledger.ingest import ingest
from tests.ledger.ledger_files import write_run

HOW_MANY = "select count(*) from runs"
WRITER = "import duckdb, sys; duckdb.connect(sys.argv[1]).execute('create table other (a int)')"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each time that a ledger is opened, whether only to read."""
    calls: list[bool] = []
    connect = connection._connect

    def counted(path: Path, read_only: bool, *rest: float) -> object:
        calls.append(read_only)
        return connect(path, read_only, *rest)

    monkeypatch.setattr(connection, "_connect", counted)
    return calls


def test_questions_within_share_one_opening_and_others_do_not(ledger: Path, opened: list[bool]) -> None:
    with reading(ledger), reading(ledger):
        assert [read(ledger, HOW_MANY).rows for _ in range(3)] == [[(0,)]] * 3
    assert opened == [True]
    read(ledger, HOW_MANY)
    read(ledger, HOW_MANY)
    assert opened == [True] * 3


def test_what_is_written_within_is_seen_within(ledger: Path, runs: Path, opened: list[bool]) -> None:
    write_run(runs, "r1")
    with reading(ledger):
        assert read(ledger, HOW_MANY).rows == [(0,)]
        ingest(ledger, runs)
        assert read(ledger, HOW_MANY).rows == [(1,)]
    assert opened == [True, True, False, True]  # anew once it has the lock, for which it lets go


def test_a_view_is_computed_once_for_those_that_read_it_until_something_is_written(ledger: Path, runs: Path) -> None:
    write_run(runs, "r1")
    ingest(ledger, runs)
    with reading(ledger):
        compute_once(ledger, "run_states", "told_runs")
        ((_, plan),) = read(ledger, "explain (format json) select * from evidence").rows
        assert "told_runs" in plan and "main.runs" not in plan and "events" not in plan
        assert len(read(ledger, "select * from evidence").rows) == 1
        compute_once(ledger, "told_runs")  # which is there already
        write_run(runs, "r2")
        ingest(ledger, runs)
        assert len(read(ledger, "select * from told_runs").rows) == 2


def test_nothing_is_computed_once_outside(ledger: Path, opened: list[bool]) -> None:
    compute_once(ledger, "told_runs")
    let_go(ledger)
    assert opened == []


def test_others_may_write_once_it_has_let_go(ledger: Path) -> None:
    with reading(ledger):
        read(ledger, HOW_MANY)
        let_go(ledger)
        subprocess.run([sys.executable, "-c", WRITER, str(ledger)], check=True)
        assert read(ledger, "select count(*) from other").rows == [(0,)]


def test_another_ledger_is_opened_by_itself(ledger: Path, template: Path, opened: list[bool]) -> None:
    with reading(ledger):
        read(template, HOW_MANY)
        read(template, HOW_MANY)
    assert opened == [True, True]


def test_what_one_question_leaves_behind_is_no_other_questions(ledger: Path) -> None:
    with reading(ledger):
        with open_ledger(ledger, read_only=True) as asked:
            asked.execute("set search_path = 'temp'")
        assert read(ledger, HOW_MANY).rows == [(0,)]


def test_others_may_write_as_soon_as_it_ends_and_not_before(ledger: Path) -> None:
    with reading(ledger):
        read(ledger, HOW_MANY)
        turned_away = subprocess.run([sys.executable, "-c", WRITER, str(ledger)], capture_output=True, text=True)
    assert turned_away.returncode == 1 and "lock" in turned_away.stderr
    subprocess.run([sys.executable, "-c", WRITER, str(ledger)], check=True)


def test_an_error_within_lets_go_too(ledger: Path) -> None:
    with pytest.raises(ZeroDivisionError), reading(ledger):
        read(ledger, HOW_MANY)
        raise ZeroDivisionError
    with open_ledger(ledger, read_only=False) as written:
        written.execute("select 1")


def test_no_ledger_is_told_by_the_first_question(no_ledger: Path) -> None:
    with reading(no_ledger), pytest.raises(MissingError):
        read(no_ledger, HOW_MANY)


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)


@settings(deadline=None, max_examples=30)
@given(texts=st.lists(TEXTS, min_size=1), number=NUMBERS, flag=st.booleans() | st.none())
def test_parameters_come_back_as_they_were_given(
    template: Path, texts: list[str], number: float, flag: bool | None
) -> None:
    asked = [texts[0], texts, number, flag]
    assert read(template, "select ? as a, ? as b, ? as c, ? as d", asked).rows == [tuple(asked)]


@pytest.mark.parametrize(
    ("question", "params"),
    [
        ("select '?' as a, ? as b", ["x"]),
        ("select ? as b, 'it''s ?' as a -- a ? in a comment", ["x"]),
        ('select ? as "a ?" /* or ? here */', ["x"]),
        ("select $1 as a, $1 as b", ["x"]),
        ("select ? as a", [date(2026, 1, 2)]),
        ("select ? as a", [["x", b"y"]]),
        ("select ? as a", ["x\0y"]),
        ("select 1 as a", []),
    ],
)
def test_whatever_else_has_a_question_mark_or_another_type_is_bound_by_duckdb(
    template: Path, question: str, params: list
) -> None:
    with duckdb.connect(":memory:") as plain:
        assert read(template, question, params).rows == plain.execute(question, params).fetchall()


def test_too_few_values_are_told(template: Path) -> None:
    with pytest.raises(LedgerError, match="DuckDB cannot answer this"):
        read(template, "select ? as a, ? as b", ["x"])


def test_a_question_with_parameters_brings_in_no_pandas(template: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from flowlab.ledger.connection import read; "
        "assert read(Path(sys.argv[1]), 'select ? as a', ['x']).rows == [('x',)]; sys.exit('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(template)]).returncode == 0


@pytest.mark.parametrize(("asked", "expected"), [("1", 1), ("0", None), ("", None), ("2,1", None), ("9999", None)])
def test_a_ledger_takes_no_more_threads_than_the_process_is_given(
    ledger: Path, monkeypatch: pytest.MonkeyPatch, asked: str, expected: int | None
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    ((found,),) = read(ledger, "select current_setting('threads')").rows
    assert found == (expected or min(4, os.cpu_count() or 1))
