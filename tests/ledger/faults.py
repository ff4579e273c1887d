"""Processes that the fault tests start and kill. Run as `python faults.py kill|write|read|fill ...`."""

import os
import signal
import sys
import time
from pathlib import Path

from flowlab.core.errors import FlowlabError
from flowlab.ledger.connection import read
from flowlab.ledger.ingest import ingest
from flowlab.ledger.rebuild import rebuild
from flowlab.ledger.verify import verify
from tests.ledger.ledger_files import write_run


def kill_ingesting(ledger: Path, runs: Path, delays_s: list[float]) -> None:
    """For each delay: a process that begins to ingest, and SIGKILL after that long. Prints how many died at work."""
    import duckdb  # noqa: F401  (loaded before the fork, so that the delay falls into the work)
    import duckdb_sqlalchemy  # noqa: F401
    from alembic import command  # noqa: F401

    num_died = 0
    for delay_s in delays_s:
        child = os.fork()
        if child == 0:
            ingest(ledger, runs)
            os._exit(0)
        time.sleep(delay_s)
        os.kill(child, signal.SIGKILL)
        num_died += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    sys.stdout.write(str(num_died))


def write_runs(ledger: Path, runs: Path, name: str, num: int, seconds: float) -> None:
    """Write runs and ingest after each, `num` of them or for so many seconds. Prints how many."""
    until, index = time.monotonic() + seconds, 0
    while index < num and time.monotonic() < until:
        write_run(runs, f"{name}-{index}", 0.3, lever=name, seed=1001 + index)
        problems = ingest(ledger, runs).problems
        assert problems == [], problems
        index += 1
    sys.stdout.write(str(index))


def read_until(ledger: Path, num_runs: int, seconds: float) -> None:
    """Ask for the verdicts until `num_runs` runs are there, or for so long; no answer may lack what an earlier had."""
    seen, until = 0, time.monotonic() + seconds
    while seen < num_runs and time.monotonic() < until:
        read(ledger, "select * from verdicts")
        ((now,),) = read(ledger, "select count(*) from final_metrics").rows
        if now < seen:
            raise SystemExit(f"{now} runs after {seen}")
        seen = now
        time.sleep(0.03)


def fill_disk(ledger: Path, runs: Path, disk: Path) -> None:
    """Write and ingest runs until `disk` is full; make room, and see that nothing is lost. Prints the complaint."""
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(2_000_000))
    complaint, num_written = "", 0
    for index in range(400):
        try:
            write_run(runs, f"r{index:03}", 0.3, seed=1001 + index, num_steps=300)
            num_written = index + 1
            ingest(ledger, runs)
        except FlowlabError as error:
            complaint = str(error)
            break
    sys.stdout.write(complaint)
    if ledger.exists():
        read(ledger, "select * from verdicts")
    ballast.unlink()
    ingest(ledger, runs)
    verify(ledger, runs)
    ((finished,),) = read(ledger, "select count(*) from final_metrics").rows
    assert finished == num_written > 0, (finished, num_written)
    anew = disk.with_name("anew.duckdb")
    assert rebuild(anew, runs).head == verify(ledger, runs).head


if __name__ == "__main__":
    task, ledger, runs, *rest = sys.argv[1:]
    if task == "kill":
        kill_ingesting(Path(ledger), Path(runs), [float(text) for text in rest])
    if task == "write":
        write_runs(Path(ledger), Path(runs), rest[0], int(rest[1]), float(rest[2]))
    if task == "read":
        read_until(Path(ledger), int(rest[0]), float(rest[1]))
    if task == "fill":
        fill_disk(Path(ledger), Path(runs), Path(rest[0]))
