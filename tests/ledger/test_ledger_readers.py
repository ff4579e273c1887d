"""A reader reads what was there when it began, writes next to nothing, and answers where it may not write at all."""

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from flowlab.core.errors import BusyError, LedgerError, NoAccessError, NoLocksError
from flowlab.core.locks import hold
from flowlab.core.types import MetricRow
from flowlab.journal.lines import RunJournal, StudyJournal
from flowlab.ledger import connection as connections
from flowlab.ledger import ingest as ingestion
from flowlab.ledger.connection import open_ledger, read
from flowlab.ledger.ingest import ingest
from flowlab.ledger.rebuild import rebuild
from flowlab.ledger.unread import count_unread, num_unread_bytes
from flowlab.ledger.verify import verify
from tests.cli.tiny_study import write_tiny
from tests.ledger.ledger_files import contents, register, table, write_run

ASSETS = Path(__file__).parent.parent / "assets" / "ledgers"


def orders(runs: Path) -> int:
    """How many parts of journals were ordered to be read."""
    return (runs / "study.jsonl").read_text().count('"ingested"')


def metric(journal: RunJournal, step: int) -> None:
    journal.metrics([MetricRow("flow_mse", "", "overall", "", 1.0 / (step + 1), step)])


def test_a_reader_does_not_run_after_a_writer(ledger: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run writes a line whenever the reader has taken some in."""
    write = ingestion._write
    with RunJournal.of(runs, "r1") as journal:
        register(journal, "r1")

        def write_and_go_on(*given: object) -> None:
            write(*given)
            metric(journal, len(table(ledger, "metrics")))

        monkeypatch.setattr(ingestion, "_write", write_and_go_on)
        for number in (1, 2, 3):
            ingest(ledger, runs)
            assert (orders(runs), count_unread(ledger, runs)) == (number, 1)
    assert len(table(ledger, "metrics")) == 2


def test_however_much_is_unread_one_line_a_journal_is_written(ledger: Path, runs: Path) -> None:
    for name in ("r1", "r2"):
        write_run(runs, name, num_steps=200)
    assert count_unread(ledger, runs) == 14
    ingest(ledger, runs)
    assert (orders(runs), count_unread(ledger, runs)) == (2, 0)


def test_a_very_long_journal_is_read_in_parts(ledger: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowlab.ledger.unread.PART_BYTES", 250)
    with RunJournal.of(runs, "r1") as journal:
        register(journal, "r1")  # a line is longer than a part may be
        for step in range(20):
            metric(journal, step)
    ingest(ledger, runs)
    lines = map(json.loads, (runs / "study.jsonl").read_text().splitlines())
    lengths = [line["to_offset"] - line["from_offset"] for line in lines]
    assert sum(lengths) == (runs / "r1" / "journal.jsonl").stat().st_size
    assert len(lengths) > 5 and [length > 250 for length in lengths] == [True] + [False] * (len(lengths) - 1)
    assert [row["step"] for row in table(ledger, "metrics")] == list(range(20))
    assert rebuild(ledger, runs).head == verify(ledger, runs).head


def test_what_the_study_decided_can_be_read_without_the_runs(ledger: Path, runs: Path) -> None:
    write_run(runs, "r1")
    with StudyJournal.of(runs) as journal:
        journal.cache(cache_id="k", identity={}, num_train=1, num_val=1, val_drives_digest="v")
    ingest(ledger, runs, runs_too=False)
    assert (orders(runs), len(table(ledger, "caches")), len(table(ledger, "runs"))) == (0, 1, 0)


def test_a_reader_does_not_queue_behind_another(ledger: Path, runs: Path) -> None:
    write_run(runs, "r1")
    with hold(runs / "ingest.lock"):
        with pytest.raises(BusyError, match="another flowlab process reads journals into the ledger"):
            ingest(ledger, runs, patience_s=0)
        assert read(ledger, "select count(*) from runs").rows == [(0,)]
    ingest(ledger, runs, patience_s=0)
    with hold(runs / "ingest.lock"):
        assert ingest(ledger, runs, patience_s=0).num_rows == 0, "what is read already needs no lock"


def test_readers_pass_a_writer_that_waits_for_other_readers(ledger: Path) -> None:
    with open_ledger(ledger, read_only=True), hold(ledger.with_name("ledger.duckdb.lock")):
        assert read(ledger, "select 1").rows == [(1,)]


def test_values_that_come_again_are_looked_for_at_their_own_steps_only(ledger: Path, runs: Path) -> None:
    with RunJournal.of(runs, "r1") as journal:
        register(journal, "r1")
        for step in (0, 1, 2):
            metric(journal, step)
        ingest(ledger, runs)
        for step in (2, 3):
            metric(journal, step)
    done = ingest(ledger, runs)
    assert (done.num_conflicts, len(table(ledger, "metrics"))) == (0, 4)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_without_locks_nothing_is_begun_and_what_is_there_is_still_told(
    ledger: Path, runs: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    write_run(runs, "r1")

    def refuse(file: object, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    before = sorted(path.name for path in (*runs.iterdir(), *ledger.parent.iterdir()))
    with pytest.raises(NoLocksError, match=r"ingest\.lock cannot be locked: locks are what is missing"):
        ingest(ledger, runs)
    with pytest.raises(NoLocksError, match=r"r2/journal\.jsonl cannot be locked"):
        RunJournal.of(runs, "r2")
    assert not (runs / "r2" / "journal.jsonl").exists()
    shutil.rmtree(runs / "r2")
    assert sorted(path.name for path in (*runs.iterdir(), *ledger.parent.iterdir())) == before
    assert read(ledger, "select count(*) from runs").rows == [(0,)]
    assert count_unread(ledger, runs) == 7


def test_an_old_ledger_that_may_not_be_upgraded_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tarfile.open(ASSETS / "0001.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.setattr("os.access", lambda path, how: False)
    before = (tmp_path / "ledger.duckdb").read_bytes()
    with pytest.raises(LedgerError, match=r"written by an older flowlab \(revision 0001\).*you may not write"):
        ingest(tmp_path / "ledger.duckdb", tmp_path / "runs")
    assert (tmp_path / "ledger.duckdb").read_bytes() == before


ASK = """
import os, sys
from flowlab.cli.main import run_command
os.chdir(sys.argv[1])
codes = [run_command(["sql", "select count(*) as runs from runs", "--json"])]
codes += [run_command(line.split("-")) for line in sys.argv[2:]]
print("codes", codes, os.access("ledger.duckdb", os.W_OK))
"""
NO_RIGHT = "-dac_override,-dac_read_search"


def _without_rights(study: Path) -> subprocess.CompletedProcess[str]:
    """Three commands of somebody who may read the study and not write it."""
    command = [sys.executable, "-W", "ignore", "-c", ASK, str(study), "verdict", "ledger-verify"]
    for path in (study, *study.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    if os.getuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root may write anything here, and there is no setpriv to give that up")
        command = ["setpriv", "--bounding-set", NO_RIGHT, "--inh-caps", NO_RIGHT, *command]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=120)
    finally:
        for path in (study, *study.rglob("*")):
            path.chmod(0o755)


def _on_a_read_only_mount(study: Path) -> subprocess.CompletedProcess[str]:
    mount = f"mount --bind '{study}' '{study}' && mount -o remount,ro,bind '{study}'"
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode != 0:
        pytest.skip("this machine does not let us mount a folder")
    command = ["unshare", "-rm", "sh", "-c", f'{mount} && exec "$@"', "sh", sys.executable, "-W", "ignore", "-c", ASK]
    return subprocess.run([*command, str(study), "status", "sql-select 1"], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("ask", [_without_rights, _on_a_read_only_mount])
def test_who_may_not_write_gets_every_answer_and_is_told_what_is_unread(
    template: Path, tmp_path: Path, ask: Callable[[Path], subprocess.CompletedProcess[str]]
) -> None:
    """Beside the ledger lies DuckDB's log, of a process that was killed between a commit and its checkpoint."""
    study = write_tiny(tmp_path / "study")
    ledger, runs = study / "ledger.duckdb", study / "runs"
    shutil.copy(template, ledger)
    write_run(runs, "r1")
    child = os.fork()
    if child == 0:
        with open_ledger(ledger, read_only=False) as connection:
            ingestion.Writer(connection).write(_entries(ledger, runs))
            os._exit(0)
    os.waitpid(child, 0)
    assert (study / "ledger.duckdb.wal").exists()
    write_run(runs, "r2", seed=1002)
    files = {path: path.read_bytes() for path in study.rglob("*") if path.is_file()}
    done = ask(study)
    assert "codes [0, 0, 0] False" in done.stdout, done.stderr
    assert '"runs": 1' in done.stdout
    assert done.stderr.count("so 7 lines of journals are unread: the answer is from what the ledger has") >= 2
    assert {path: path.read_bytes() for path in study.rglob("*") if path.is_file()} == files


def _entries(ledger: Path, runs: Path) -> list:
    """The entries of what is unread, ordered in the study's journal."""
    from flowlab.ledger.ingest import Ingested, _order, _within_budget
    from flowlab.ledger.unread import journal_sizes

    return list(_within_budget(runs, _order(runs, journal_sizes(runs), {}, Ingested()), {}))


def test_a_place_that_may_not_be_written_is_named_before_anything_is(
    ledger: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(runs, "r1")
    monkeypatch.setattr("os.access", lambda path, how: path != ledger)
    with pytest.raises(NoAccessError, match=f"you may not write {ledger}. Ask for write access"):
        ingest(ledger, runs)
    assert sorted(path.name for path in runs.iterdir()) == ["r1"]
    assert contents(ledger)["runs"] == []


def test_who_measured_before_another_read_further_says_nothing_of_a_cut(tmp_path: Path) -> None:
    (tmp_path / "study.jsonl").write_bytes(bytes(100))
    told: list[str] = []
    assert num_unread_bytes(tmp_path, {"study.jsonl": 60}, {"study.jsonl": 80}, told.append) == 0
    assert told == []
    assert num_unread_bytes(tmp_path, {"study.jsonl": 100}, {"study.jsonl": 120}, told.append) == 0
    assert "has 100 bytes, the ledger has read 120 of them" in told[0]


def test_a_reader_leaves_nothing_beside_the_ledger(ledger: Path, tmp_path: Path) -> None:
    """No lock file, and no folder for what does not fit into memory."""
    for path in tmp_path.glob("ledger.duckdb.*"):
        path.unlink()
    assert read(ledger, "select 1 as one").rows == [(1,)]
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.duckdb"]
    with open_ledger(ledger, read_only=True) as connection:
        ((spilled,),) = connection.execute("select current_setting('temp_directory')").fetchall()
    assert not Path(spilled).is_relative_to(tmp_path)


def test_ctrl_c_in_the_middle_of_a_question_is_ctrl_c(ledger: Path) -> None:
    endless = f"select sum(range % 7) from range({10**15})"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            read(ledger, endless)
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)


def test_what_duckdb_does_not_let_go_of_after_ctrl_c_is_left(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for its threads, which may be in the middle of a join that ends tomorrow."""
    monkeypatch.setattr(connections, "CLOSE_PATIENCE_S", 0.05)
    monkeypatch.setattr(connections, "_never_closed", [])
    tomorrow = threading.Event()

    class Held:
        def close(self) -> None:
            tomorrow.wait(60)

    monkeypatch.setattr(connections, "_open", lambda *_: Held())
    with pytest.raises(KeyboardInterrupt), open_ledger(ledger, read_only=True):
        raise RuntimeError(connections.INTERRUPTED)
    assert connections.is_stuck()
    tomorrow.set()


def test_ctrl_c_while_a_ledger_is_opened_is_ctrl_c(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted:
        def execute(self, _: str) -> None:
            raise RuntimeError(connections.INTERRUPTED)

        def close(self) -> None:
            pass

    monkeypatch.setattr("duckdb.connect", lambda *_, **__: Interrupted())
    with pytest.raises(KeyboardInterrupt):
        read(ledger, "select 1")


def test_the_command_line_then_ends_without_waiting(template: Path) -> None:
    code = """
import sys, threading
from pathlib import Path
from flowlab.cli import main
from flowlab.ledger import connection

class Held:
    def close(self):
        threading.Event().wait()

connection.CLOSE_PATIENCE_S = 0.05
connection._open = lambda *_: Held()

def run_command(arguments):
    try:
        with connection.open_ledger(Path(sys.argv[1]), read_only=True):
            raise RuntimeError(connection.INTERRUPTED)
    except KeyboardInterrupt:
        print("stopped")
        return 130

main.run_command = run_command
threading.Thread(target=threading.Event().wait).start()  # as what holds the end up in DuckDB
main.main([])
"""
    done = subprocess.run([sys.executable, "-c", code, str(template)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (130, "stopped\n"), done.stderr
