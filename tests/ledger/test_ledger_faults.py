"""Killed ingesters, and several processes at once, for real."""

import random
import shutil
import subprocess
import sys
from pathlib import Path

from ledger_files import contents, table, write_run

from flowlab.ledger.ingest import ingest
from flowlab.ledger.migrate import migrate

SCRIPT = Path(__file__).with_name("faults.py")


def _start(*arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", str(SCRIPT), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _finish(process: subprocess.Popen) -> str:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert err == ""
    return out


def _many_runs(runs: Path, num: int) -> None:
    for index in range(num):
        write_run(runs, f"r{index:02}", 0.3 + index / 1000, seed=1001 + index)


def test_an_ingester_killed_at_any_moment_leaves_a_ledger_that_opens_and_misses_nothing(
    tmp_path: Path, runs: Path, template: Path
) -> None:
    _many_runs(runs, 12)
    clean = tmp_path / "clean.duckdb"
    ingest(clean, runs)
    wanted = contents(clean)
    moments = random.Random(0)
    num_died = 0
    for trial in range(4):
        ledger = tmp_path / f"killed-{trial}.duckdb"
        if trial % 2:
            shutil.copy(template, ledger)
        delays_s = [moments.uniform(0.005, latest_s) for latest_s in (0.05, 0.15, 0.25)]
        num_died += int(_finish(_start("kill", ledger, runs, *delays_s)))
        if ledger.exists():
            migrate(ledger)
            assert set(contents(ledger)["metrics"]) <= set(wanted["metrics"])
        ingest(ledger, runs)
        assert contents(ledger) == wanted
    assert num_died >= 4  # else the moments say nothing about work in progress


def test_two_writers_and_two_readers_get_along(ledger: Path, runs: Path) -> None:
    writers = [_start("write", ledger, runs, name, 6) for name in ("lever-a", "lever-b")]
    readers = [_start("read", ledger, runs, 12) for _ in range(2)]
    for process in [*writers, *readers]:
        _finish(process)
    assert ingest(ledger, runs).num_rows == 0
    assert len(table(ledger, "final_metrics")) == 12
    once = [(row["run_id"], row["metric"], row["step"]) for row in table(ledger, "metrics")]
    assert len(once) == len(set(once)) == 12 * 4
