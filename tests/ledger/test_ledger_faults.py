"""Killed ingesters, several processes at once and a full disk, for real."""

import os
import random
import shlex
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from flowlab.ledger.ingest import ingest
from flowlab.ledger.migrate import migrate
from flowlab.ledger.rebuild import rebuild
from flowlab.ledger.verify import verify
from tests.ledger.ledger_files import contents, table, write_run

SCRIPT = Path(__file__).with_name("faults.py")
TRIALS = int(os.environ.get("FAULT_TRIALS", "2"))
ASSETS = Path(__file__).parent.parent / "assets" / "ledgers"


def _start(*arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", str(SCRIPT), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _finish(process: subprocess.Popen, seconds: float = 0.0) -> str:
    out, err = process.communicate(timeout=60 + seconds)
    assert process.returncode == 0, err
    assert err == ""
    return out


def _many_runs(runs: Path, num: int) -> None:
    for index in range(num):
        write_run(runs, f"r{index:02}", 0.3 + index / 1000, seed=1001 + index)


@pytest.mark.parametrize(
    "begin", ["nothing", "an empty ledger", "a ledger of revision 0001", "a ledger of revision 0002"]
)
def test_kill_9_at_any_moment_of_ingestion_and_migration_loses_nothing(
    tmp_path: Path, template: Path, begin: str
) -> None:
    """FAULT_TRIALS (2) times five kills from each beginning; with 5 they are 100 in all."""
    moments = random.Random(begin)
    num_died = 0
    for trial in range(TRIALS):
        folder = tmp_path / f"trial-{trial}"
        ledger, runs = folder / "ledger.duckdb", folder / "runs"
        if begin.startswith("a ledger of"):
            with tarfile.open(ASSETS / f"{begin.split()[-1]}.tar.gz") as archive:
                archive.extractall(folder, filter="data")
        _many_runs(runs, 12)
        if begin == "an empty ledger":
            shutil.copy(template, ledger)
        delays_s = [moments.uniform(0.005, latest_s) for latest_s in (0.05, 0.1, 0.15, 0.2, 0.3)]
        num_died += int(_finish(_start("kill", ledger, runs, *delays_s)))
        if ledger.exists():
            migrate(ledger)
            verify(ledger, runs)
        ingest(ledger, runs)
        assert ingest(ledger, runs).num_rows == 0
        verified = verify(ledger, runs)
        anew = folder / "anew.duckdb"
        rebuild(anew, runs)
        assert contents(ledger) == contents(anew), "all that the journals hold, once"
        if not begin.startswith("a ledger of"):  # what had no chain is one entry of it
            assert rebuild(ledger, runs).head == verified.head
    assert num_died >= TRIALS  # else the moments say nothing about work in progress


def test_writers_and_readers_at_once_see_no_lock_and_every_row_arrives_once(ledger: Path, runs: Path) -> None:
    """Eight and two; for FAULT_SECONDS (8) seconds. The figures of a whole minute are in docs/benchmarks.md."""
    seconds = float(os.environ.get("FAULT_SECONDS", "8"))
    writers = [_start("write", ledger, runs, f"lever-{index}", 10_000, seconds) for index in range(8)]
    readers = [_start("read", ledger, runs, 10_000_000, seconds) for _ in range(2)]
    num_runs = sum(int(_finish(process, seconds)) for process in writers)
    for process in readers:
        _finish(process, seconds)
    assert ingest(ledger, runs).num_rows == 0
    assert len(table(ledger, "final_metrics")) == num_runs >= 8
    once = [(row["run_id"], row["metric"], row["step"]) for row in table(ledger, "metrics")]
    assert len(once) == len(set(once)) == num_runs * 4
    verified = verify(ledger, runs)
    assert rebuild(ledger, runs).head == verified.head


@pytest.mark.parametrize("full", ["the ledger's disk", "the disk of both"])
def test_a_disk_that_fills_up_is_told_and_costs_nothing(tmp_path: Path, full: str) -> None:
    disk, elsewhere = tmp_path / "disk", tmp_path / "elsewhere"
    disk.mkdir()
    runs = disk / "runs" if full == "the disk of both" else elsewhere
    inside = shlex.join([sys.executable, str(SCRIPT), "fill", str(disk / "ledger.duckdb"), str(runs), str(disk)])
    mounted = f"mount -t tmpfs -o size=8m tmpfs {shlex.quote(str(disk))}"
    if subprocess.run(["unshare", "-rm", "sh", "-c", mounted], capture_output=True).returncode != 0:
        pytest.skip("this machine does not let us mount a small disk")
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", f"{mounted} && {inside}"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "cannot be written" in done.stdout and "give the command again" in done.stdout
    assert "Traceback" not in done.stderr
