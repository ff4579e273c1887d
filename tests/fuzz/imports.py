"""Imports files that were damaged or filled with odd values: `python -m tests.fuzz.imports --count 500 --seed 1`.

Each mutant of a csv, a parquet, an MLflow store and an offline run of W&B must be imported, or be one short sentence
with nothing imported. Says which seed makes each one that is neither.
"""

import argparse
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from datetime import date
from pathlib import Path
from types import FrameType
from typing import Any

import pyarrow
import pyarrow.parquet

from flowlab.core.errors import FlowlabError
from flowlab.interop.import_runs import import_runs
from flowlab.interop.metric_map import MetricMap
from flowlab.interop.mlflow_store import read_store
from flowlab.interop.wandb_export import read_exports
from flowlab.journal.journal import RUN_JOURNAL, read_journal
from flowlab.ledger.ingest import ingest
from flowlab.ledger.migrate import migrate
from tests.interop.foreign_files import offline_records, pilot, write_offline

SECONDS = 30  # that one import may take
MESSAGE_CHARS = 900
TEXTS = [
    "", "nan", "-inf", "1e303", "1e400", "-5", "9223372036854775808", "1.5", "0x10", "1_0", "\u0663", "1,5", "1" * 5000,
    "x" * 200_000, "\x00", "a\nb", '"', "\u202e", "1e999999999", "253402300800", "seed", "../../x", "{", "[" * 5000,
]  # fmt: skip
NUMBERS = [0, -1, 2**63 - 1, -(2**63), 1.5, 1e303, 253_402_300_800_000, float("inf"), 5e-324]
BYTES = [b"", b"\xff", b"\xff\x00", b"\\xff", b"q" * 9000]


def base_files(folder: Path) -> list[Path]:
    """A good file of each kind."""
    history = ["run_id,run,_step,_timestamp,seed,config.lr,loss,note"]
    for run in range(3):
        name = "baseline" if run < 2 else "Wide, deep"
        history += [
            f'r{run},"{name}",{step},{1_700_000_000 + step},{run},0.1,{1 / (step + 1)},"a ""b"""' for step in range(8)
        ]
    (folder / "history.csv").write_text("\n".join(history) + "\n")
    columns = _columns()
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "history.parquet")
    pilot(folder / "mlflow.db")
    config: dict[str, Any] = {"seed": 1, "opt": {"lr": 0.1}}
    steps = [{"loss": 1 / (step + 1), "val/l1": 0.5, "note": "x" * 4000} for step in range(20)]
    write_offline(folder / "run.wandb", offline_records("r1", "baseline", config, steps))
    return [folder / name for name in ("history.csv", "history.parquet", "mlflow.db", "run.wandb")]


def _columns() -> dict[str, Any]:
    return {
        "run": ["baseline"] * 8 + ["wide"] * 8,
        "_step": list(range(8)) * 2,
        "_timestamp": [1_700_000_000.5 + step for step in range(16)],
        "seed": [1] * 16,
        "config.lr": ["0.1"] * 16,
        "loss": [1 / (step + 1) for step in range(16)],
    }


def mutate(path: Path, chance: random.Random) -> str:
    """Change the file in place; what was done to it."""
    if chance.random() < 0.5:
        return _mutate_bytes(path, chance)
    kinds: dict[str, Callable[[Path, random.Random], str]] = {
        ".csv": _mutate_cells,
        ".parquet": _mutate_column,
        ".db": _mutate_rows,
        ".wandb": _mutate_records,
    }
    return kinds[path.suffix](path, chance)


def _mutate_bytes(path: Path, chance: random.Random) -> str:
    content = bytearray(path.read_bytes())
    how = chance.choice(["flip", "cut", "insert", "remove", "zero"])
    for _ in range(chance.choice([1, 1, 3, 20])):
        at = chance.randrange(len(content))
        length = chance.choice([1, 4, 100])
        if how == "flip":
            content[at] ^= 1 << chance.randrange(8)
        elif how == "cut":
            del content[max(at, 1) :]
        elif how == "insert":
            content[at:at] = chance.randbytes(length)
        elif how == "remove":
            del content[at : min(at + length, len(content) - 1)]
        else:
            content[at : at + length] = bytes(len(content[at : at + length]))
    path.write_bytes(content)
    return how


def _mutate_cells(path: Path, chance: random.Random) -> str:
    lines = path.read_text().split("\n")
    for _ in range(chance.choice([1, 1, 2, 12])):
        row = chance.randrange(len(lines) - 1)
        cells = lines[row].split(",")
        cells[chance.randrange(len(cells))] = chance.choice([*TEXTS, f'"{chance.choice(TEXTS)}"'])
        lines[row] = ",".join(cells)
    path.write_text("\n".join(lines), errors="surrogatepass")
    return "cells"


def _mutate_column(path: Path, chance: random.Random) -> str:
    columns = _columns()
    name = chance.choice([*columns, "_odd", "config.odd", "odd", "random_seed"])
    number = chance.choice([2**31 - 1, 2**62, 1, 0])
    kinds: list[Callable[[], Any]] = [
        lambda: pyarrow.array([number] * 16, pyarrow.int64()),
        lambda: pyarrow.array([number % 2**31] * 16, pyarrow.int32()).view(pyarrow.date32()),
        lambda: pyarrow.array([number] + [1] * 15, pyarrow.timestamp(chance.choice(["s", "ms", "us", "ns"]))),
        lambda: pyarrow.array([number] * 16, pyarrow.timestamp("us", tz=chance.choice(["Nowhere/City", "+25:99"]))),
        lambda: pyarrow.array([number] * 16, pyarrow.duration("s")),
        lambda: pyarrow.array([chance.choice(BYTES) for _ in range(16)]),
        lambda: pyarrow.array([chance.choice(TEXTS) for _ in range(16)]),
        lambda: pyarrow.array([chance.choice(TEXTS) for _ in range(16)]).dictionary_encode(),
        lambda: pyarrow.array([chance.choice([float("nan"), 1e308, None]) for _ in range(16)]),
        lambda: pyarrow.array([[1.0, None]] * 16),
        lambda: pyarrow.array([{"seed": number, "b": {"c": date(2026, 1, 1)}}] * 16),
        lambda: pyarrow.nulls(16),
        lambda: pyarrow.array([True, None] * 8),
        lambda: pyarrow.array([chance.choice(BYTES) for _ in range(16)], pyarrow.binary()).cast("string", safe=False),
    ]
    try:
        columns[name] = chance.choice(kinds)()
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    except pyarrow.ArrowInvalid:  # what Arrow does not write: half of a character, a moment that is too far
        columns[name] = pyarrow.array([b"\xff"] * 16)
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return f"column {name}"


def _mutate_rows(path: Path, chance: random.Random) -> str:
    with closing(sqlite3.connect(path)) as store:
        table = chance.choice(["experiments", "runs", "metrics", "params", "tags"])
        columns = [row[1] for row in store.execute(f"pragma table_info({table})")]
        rows = store.execute(f"select * from {table}").fetchall()
        store.execute(f"drop table {table}")
        names = ", ".join(f'"{column}"' for column in columns)
        store.execute(f"create table {table} ({names})")  # without types, so that it takes anything
        changed = [list(row) for row in rows]
        for _ in range(chance.choice([1, 1, 2, 12])):
            row = chance.choice(changed)
            row[chance.randrange(len(row))] = chance.choice([*TEXTS, *NUMBERS, *BYTES, None])
        if chance.random() < 0.1:
            changed += changed[:1]
        store.executemany(f"insert into {table} values ({', '.join('?' * len(columns))})", changed)
        if chance.random() < 0.3:
            column = chance.choice(columns)
            store.execute(f'update {table} set "{column}" = cast("{column}" || x\'ff\' as text)')
        store.commit()
    return f"rows of {table}"


def _mutate_records(path: Path, chance: random.Random) -> str:
    """Records whose bytes were changed before their checksums were made."""
    odd = chance.choice([*TEXTS, *NUMBERS, None, True, [], {"a": {"b": 1}}])
    config = {"seed": odd if chance.random() < 0.3 else 1, chance.choice(["seed", "x.y", "_wandb"]): odd}
    history = [{"loss": odd, "_step": step if chance.random() < 0.9 else odd, "_timestamp": odd} for step in range(9)]
    records = offline_records("r1", "baseline", config, history, chance.choice([0, 1, None, -1]))
    for _ in range(chance.choice([0, 1, 3])):
        place = chance.randrange(len(records))
        record = bytearray(records[place] or b"\x00")
        record[chance.randrange(len(record))] = chance.randrange(256)
        records[place] = bytes(record)
    write_offline(path, records)
    return "records"


def try_import(path: Path, runs: Path, ledger: Path | None, seed_from: str | None) -> str:
    """How it went: `imported`, `refused`, or what is wrong with that. With a `ledger` the runs are taken into it."""
    try:
        read = read_store if path.suffix == ".db" else lambda path, *names: read_exports([path], *names)
        foreign = read(path, None, None, seed_from)
        done = import_runs(foreign, runs, "fuzz", foreign.runs[0].label or "?", MetricMap.parse([]))
    except FlowlabError as error:
        told = str(error)
        if "\n" in told or len(told) > MESSAGE_CHARS:
            return f"a message of {len(told)} characters: {told[:200]!r}"
        if list(runs.glob("*")):
            return f"half imported: {told}"
        return "refused"
    if any("\n" in note or len(note) > MESSAGE_CHARS for note in done.notes):
        return f"a long note: {max(done.notes, key=len)[:200]!r}"
    for run in done.added:
        path = runs / run.run_id / RUN_JOURNAL
        if read_journal(path)[1] != path.stat().st_size:
            return f"a journal that cannot be read: {path.read_bytes()[:200]!r}"
    if ledger is not None and (problems := ingest(ledger, runs).problems):
        return f"runs that the ledger refuses: {problems[0]}"
    return "imported"


def run(count: int, seed: int, ledger: Path | None = None) -> tuple[Counter[str], list[str]]:
    """How many mutants ended how, and the faults: one line each with what makes it again."""
    counts: Counter[str] = Counter()
    faults = []

    def stop(_: int, __: FrameType | None) -> None:
        raise TimeoutError(f"{SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    try:
        with tempfile.TemporaryDirectory() as made:
            bases = base_files(Path(made))
            for number in range(count):
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(shutil.copy(bases[number % len(bases)], folder))
                    how = mutate(path, random.Random(f"{seed} {number}"))
                    copy = None if ledger is None else Path(shutil.copy(ledger, Path(folder) / "ledger.duckdb"))
                    signal.alarm(SECONDS)
                    try:
                        ended = try_import(path, Path(folder) / "runs", copy, "seed" if number // 4 % 2 else None)
                    except BaseException as error:
                        ended = f"{type(error).__name__}: {str(error)[:200]}\n{traceback.format_exc(limit=-3)}"
                    finally:
                        signal.alarm(0)
                    if ended not in ("imported", "refused"):
                        faults.append(f"seed {seed} {number}, {path.suffix}, {how}: {ended}")
                        ended = "FAULT"
                    counts[f"{path.suffix[1:]} {ended}"] += 1
    finally:
        signal.signal(signal.SIGALRM, before)
    return counts, faults


def main() -> None:
    """Run as many as asked for, tell the counts and the faults, end with 1 if there is a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder) / "ledger.duckdb"
        migrate(ledger)
        counts, faults = run(given.count, given.seed, ledger)
    took = f"{given.count} mutants from seed {given.seed} in {time.monotonic() - began:.0f} s"
    sys.stdout.write("\n".join([f"{took}: {dict(sorted(counts.items()))}", *faults, ""]))
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    main()
