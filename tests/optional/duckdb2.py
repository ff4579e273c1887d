"""Does every view give the same rows under DuckDB 2 as under ours? `make duckdb2`, or with --ledger one of your own.

DuckDB 2 goes into an environment of its own that is thrown away, and opens a copy of a filled ledger, read-only. There,
each view is asked as the ledger has it, as its file makes it afresh, and as its own text makes it again. Whole numbers
and texts must be the same; of floats the largest difference is told, for variances add up in the order of a plan. It
fails beyond 1e-9 of a number. Where DuckDB 2 cannot be installed it says so and is skipped.
"""

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from flowlab.ledger.migrate import migrations_dir
from tests.verdict.test_views import fill_ledger

WANTED = "duckdb>=2.0,<3"
MOST = 1e-9

ASK = """
import json, re, sys
from pathlib import Path
import duckdb

ledger, folder = sys.argv[1:]
files = {file.stem.partition("_")[2]: file.read_text() for file in sorted(Path(folder).glob("*.sql"))}
connection = duckdb.connect(ledger, read_only=True)
connection.execute("set threads = 1")
answers = {"version": duckdb.__version__}

def plain(value):
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in sorted(value.items(), key=lambda pair: str(pair[0]))}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value if isinstance(value, (int, float, str, type(None))) else str(value)

def ask(cursor):
    return {name: [plain(row) for row in cursor.execute(f"select * from {name}").fetchall()] for name in files}

answers["stored"] = ask(connection)
afresh = connection.cursor()
for name in files:
    afresh.execute(re.sub("^create view", "create temp view", files[name], count=1, flags=re.M))
answers["afresh"] = ask(afresh)
printed = dict(afresh.execute("select view_name, sql from duckdb_views() where temporary").fetchall())
again = connection.cursor()
for name in files:
    again.execute(re.sub("^CREATE (TEMP )?VIEW (temp.)?(main.)?", "create temp view ", printed[name]))
answers["again"] = ask(again)
answers["printed"] = {name: " ".join(printed[name].split()) for name in files}
json.dump(answers, sys.stdout)
"""
"""Runs where flowlab is not installed: duckdb and the view files are all it needs."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ledger", type=Path, help="a ledger of your own; it is copied, and must be up to date")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        other = install(folder / "venv")
        if other is None:
            print(f"SKIPPED: {WANTED} cannot be installed here, so nothing was compared", file=sys.stderr)
            return 0
        ledger = folder / "copy.duckdb"
        shutil.copy(asked.ledger or fill_ledger(folder), ledger)
        ours, theirs = (answers(Path(python), ledger) for python in (sys.executable, other))
    return compare(ours, theirs)


def install(venv: Path) -> Path | None:
    """The Python that has DuckDB 2; None where there is none to be had."""
    python = venv / "bin" / "python"
    for command in (
        [sys.executable, "-m", "venv", str(venv)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", WANTED],
    ):
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return None
    return python


def answers(python: Path, ledger: Path) -> dict[str, Any]:
    command = [str(python), "-c", ASK, str(ledger), str(migrations_dir() / "views")]
    return json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def compare(ours: dict[str, Any], theirs: dict[str, Any]) -> int:
    """1 if a view differs, as it was stored by ours, made afresh by either, or made again of its own text."""
    failed = []
    print(f"DuckDB {ours['version']} and {theirs['version']}, {len(ours['stored'])} views")
    for view, rows in ours["stored"].items():
        others = {
            f"{how} in {each['version']}": difference(rows, each[how][view])
            for each in (ours, theirs)
            for how in ("stored", "afresh", "again")
        }
        worst = max(others, key=lambda how: others[how])
        if others[worst] > 0:
            print(f"{view}: floats differ by up to {others[worst]:.1e} of themselves ({worst})")
        if others[worst] > MOST:
            failed.append(view)
    printed = [view for view in ours["printed"] if ours["printed"][view] != theirs["printed"][view]]
    print(f"printed otherwise: {len(printed)} ({', '.join(printed)})")
    print(f"FAILED: {', '.join(failed)}" if failed else "all rows are the same but for that")
    return bool(failed)


def difference(rows: list[Any], others: list[Any]) -> float:
    """The largest relative difference of a float; infinity where anything else differs."""
    if len(rows) != len(others):
        return math.inf
    pairs = zip(sorted(rows, key=_in_order), sorted(others, key=_in_order), strict=True)
    return max((_difference(row, other) for row, other in pairs), default=0.0)


def _in_order(row: Any) -> str:
    """By all that is no float, then by floats as far as they agree."""
    rounded = json.loads(json.dumps(row), parse_float=lambda text: f"{float(text):.6g}")
    return json.dumps(rounded)


def _difference(one: Any, other: Any) -> float:
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return max(map(_difference, one, other), default=0.0)
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return max((_difference(one[key], other[key]) for key in one), default=0.0)
    if isinstance(one, float) and isinstance(other, float) and one != other:
        return abs(one - other) / max(abs(one), abs(other))
    return 0.0 if one == other else math.inf


if __name__ == "__main__":
    sys.exit(main())
