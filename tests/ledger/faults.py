"""Processes that the fault tests start and kill. Run as `python faults.py kill|write|read ...`."""

import os
import signal
import sys
import time
from pathlib import Path

from ledger_files import write_run

from flowlab.ledger.connection import read
from flowlab.ledger.ingest import ingest


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


def write_runs(ledger: Path, runs: Path, name: str, num: int) -> None:
    """Write `num` runs and ingest after each."""
    for index in range(num):
        write_run(runs, f"{name}-{index}", 0.3, lever=name, seed=1001 + index)
        ingest(ledger, runs)


def read_until(ledger: Path, num_runs: int) -> None:
    """Ask for the verdicts until `num_runs` runs are there; no answer may ever lack rows that an earlier one had."""
    seen = 0
    while seen < num_runs:
        read(ledger, "select * from verdicts")
        ((now,),) = read(ledger, "select count(*) from final_metrics").rows
        if now < seen:
            raise SystemExit(f"{now} runs after {seen}")
        seen = now
        time.sleep(0.03)


if __name__ == "__main__":
    task, ledger, runs, *rest = sys.argv[1:]
    if task == "kill":
        kill_ingesting(Path(ledger), Path(runs), [float(text) for text in rest])
    if task == "write":
        write_runs(Path(ledger), Path(runs), rest[0], int(rest[1]))
    if task == "read":
        read_until(Path(ledger), int(rest[0]))
