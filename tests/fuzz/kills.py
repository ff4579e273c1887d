"""Kills commands at random moments and gives them again: `python -m tests.fuzz.kills --count 100 --seed 1`.

Each kill is SIGKILL to a process that does the command; then the same command is given to its end, and the study must
be what it is where nobody was killed: metric rows and policies byte for byte, each run finished once, a ledger that
verifies. Commands run in forks of this process, which has imported everything: so the moments fall into the work.
"""

import argparse
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from tests.cli.test_campaign import EASY
from tests.cli.tiny_study import write_tiny
from tests.fuzz.mutate import damaged

RUN = ("run", "--lever", "delta-off", "--seeds", "1003", "--executor")
LOADED = (
    "flowlab.cli.prepare", "flowlab.lab.caches", "flowlab.lab.launch", "flowlab.lab.processes", "flowlab.lab.stacking",
    "flowlab.lab.status", "torch._dynamo", "zarr",
)  # fmt: skip
"""Modules that are loaded once, before the forks."""

PATIENCE_S = 1200.0  # a busy machine gives a command seconds in minutes
MOST_WAITS = 60
WAIT_S = 0.5


class Kind(NamedTuple):
    """A command, the state of the study that it starts from, and whether resume files are damaged after the kill."""

    start: str
    arguments: tuple[str, ...]
    damage: bool = False


KINDS = {
    "run inline": Kind("cached", (*RUN, "inline")),
    "cache build": Kind("bare", ("cache", "build")),
    "ingest": Kind("unread", ("status",)),
    "damaged resume": Kind("cached", (*RUN, "inline"), damage=True),
    "stack": Kind("judged", ("stack", "delta-off")),
    "rebuild": Kind("judged", ("ledger", "rebuild")),
    "run processes": Kind("cached", (*RUN, "processes")),
    "export": Kind("judged", ("ledger", "export", "out")),
}


class Ended(NamedTuple):
    """A command's exit code, None if it was killed, what it said, and how long it took."""

    code: int | None
    said: str
    seconds: float


def command(folder: Path, arguments: tuple[str, ...], kill_after_s: float | None = None) -> Ended:
    """Give a flowlab command in `folder`, or kill it after that long."""

    def work() -> int:
        import flowlab.lab.sealing as sealing
        import flowlab.train.fit as fit
        import flowlab.verdict.panel_size as panel_size
        from flowlab.cli.main import run_command

        fit.RESUME_EVERY_S, fit.RESUME_SHARE = 0.0, 1e9  # a run keeps what it needs to go on after every step
        sealing.NUM_LEVERS, panel_size.LEVERS_PER_SIZE = 1000, 1000  # changes no outcome
        os.chdir(folder)
        return run_command(list(arguments))

    return in_child(work, kill_after_s)


def in_child(work: Callable[[], int], kill_after_s: float | None = None) -> Ended:
    """Do `work` in a fork, whose output is kept; SIGKILL after that long."""
    with tempfile.TemporaryFile() as said:
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            code = 99
            try:
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
                code = work()
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        deadline = began + (PATIENCE_S if kill_after_s is None else kill_after_s)
        while (status := os.waitpid(child, os.WNOHANG)) == (0, 0):
            if time.monotonic() >= deadline:
                os.kill(child, signal.SIGKILL)
                status = os.waitpid(child, 0)
                break
            time.sleep(0.002)
        said.seek(0)
        text = said.read().decode(errors="replace")
        code = os.WEXITSTATUS(status[1]) if os.WIFEXITED(status[1]) else None
        if code is None and kill_after_s is None:
            raise TimeoutError(f"{PATIENCE_S} s: {text}")
        return Ended(code, text, time.monotonic() - began)


def again(folder: Path, arguments: tuple[str, ...], ends: Counter[str]) -> str:
    """Give the command to its end, once more while workers of the killed one still hold their runs; "" or a fault."""
    for _ in range(MOST_WAITS):
        done = command(folder, arguments)
        if done.code != 2 or "another process" not in done.said:
            break
        ends["waited for orphans"] += 1
        time.sleep(WAIT_S)
    if "Traceback" in done.said:
        return f"a traceback: {done.said[-1500:]}"
    already = ("stack" in arguments and "is stacked already" in done.said) or (
        "export" in arguments and "out is not empty" in done.said
    )
    return "" if done.code == 0 or (done.code == 2 and already) else f"ended with {done.code}: {done.said[-1500:]}"


def look(folder: Path) -> dict[str, Any]:
    """What a study consists of, apart from times: in a child, so that this process opens no ledger between forks."""

    def work() -> int:
        (folder / "looked.json").write_text(json.dumps(_look(folder, folder.parent / "empty.duckdb")))
        return 0

    done = in_child(work)
    assert done.code == 0, done.said
    found = json.loads((folder / "looked.json").read_text())
    (folder / "looked.json").unlink()
    return found


def _look(folder: Path, empty: Path) -> dict[str, Any]:
    from flowlab.cache.verify import verify_cache
    from flowlab.core.digest import digest_bytes
    from flowlab.ledger.connection import read
    from flowlab.ledger.ingest import ingest
    from flowlab.ledger.verify import verify

    runs, ledger = folder / "runs", folder / "ledger.duckdb"
    found: dict[str, Any] = {"toml": (folder / "experiments.toml").read_text()}
    for path in sorted((folder / "caches").glob("*.zarr")):
        attributes = verify_cache(path).attributes
        found[path.name] = {name: value for name, value in attributes.items() if name != "built_us"}
    for pattern in ("caches/**/*.safetensors", "caches/inputs/*", "caches/stats/*", "runs/*/policy*.safetensors"):
        for path in sorted(folder.glob(pattern)):
            found[str(path.relative_to(folder))] = digest_bytes(path.read_bytes())
    for path in sorted(folder.glob("runs/*/draws.zarr/**/*")):
        if path.is_file():
            found[str(path.relative_to(folder))] = digest_bytes(path.read_bytes())
    if (folder / "out").is_dir():
        import duckdb

        for path in sorted((folder / "out").glob("*.parquet")):
            found[f"out/{path.name}"] = len(duckdb.sql(f"select * from '{path}'").fetchall())
    if runs.is_dir():
        assert ingest(ledger, runs).problems == []
        assert ingest(ledger, runs).num_rows == 0
        with patch("flowlab.ledger.replay.migrate", lambda path: shutil.copy(empty, path)):  # which takes seconds
            verify(ledger, runs)
        rows = "select run_id, metric, channel, slice, readout, step, drive, value from metrics order by all"
        found["metrics"] = repr(read(ledger, rows).rows)
        found["status"] = read(ledger, "select run_id, status from run_status order by all").rows
        found["verdicts"] = repr(read(ledger, "select lever, decision, reason from verdicts order by all").rows)
        found["stacks"] = read(ledger, "select lever from stacks").rows
        told = "select run_id, what from events where what not in ('resumed', 'planned', 'started') order by all"
        found["events"] = read(ledger, told).rows
        journals = sorted(folder.glob("runs/*/journal.jsonl"))
        found["finished"] = [[path.parent.name, path.read_text().count('"kind":"finished"')] for path in journals]
    return found


def leftovers(folder: Path) -> list[str]:
    """Files that a process leaves when it is killed, and that nobody needs."""
    found = [*folder.rglob("*.partial"), *folder.rglob("*.rebuilt*"), *folder.glob("runs/*/resume.safetensors")]
    return sorted(str(path.relative_to(folder)) for path in found)


def make_stages(folder: Path) -> None:
    """The study in each state that a command starts from: bare, cached, judged, unread."""
    bare = write_tiny(folder / "bare", steps=25)
    path = bare / "experiments.toml"
    text = path.read_text().replace('rule = "panel"', 'rule = "easy"').replace("frames = 120", "frames = 90")
    path.write_text(text + EASY)
    before = bare
    for name, *commands in (
        ("cached", ("cache", "build"), ("rule", "seal")),
        ("judged", (*RUN, "inline"), ("verdict",)),
    ):
        before = Path(shutil.copytree(before, folder / name))
        for arguments in commands:
            done = command(before, arguments)
            assert done.code == 0, done.said
    unread = Path(shutil.copytree(before, folder / "unread"))
    (unread / "ledger.duckdb").unlink()
    journal = unread / "runs" / "study.jsonl"
    lines = [line for line in journal.read_text().splitlines(keepends=True) if '"kind":"ingested"' not in line]
    journal.write_text("".join(lines))


def damage_resumes(folder: Path, chance: random.Random, ends: Counter[str]) -> None:
    """Damage each resume file, or put another run's in its place."""
    found = sorted(folder.glob("runs/*/resume.safetensors"))
    for path in found:
        others = [other for other in found if other != path]
        if others and chance.random() < 0.2:
            shutil.copy(chance.choice(others), path)
        else:
            path.write_bytes(damaged(path.read_bytes(), chance))
        ends["resume files damaged"] += 1


@dataclass
class Campaign:
    """Where the stages lie, what each command makes of them undisturbed, and what became of those that were killed."""

    folder: Path
    expected: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    ends: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def measure(self, name: str) -> None:
        """Do the command of that kind undisturbed."""
        study = Path(shutil.copytree(self.folder / KINDS[name].start, self.folder / "undisturbed"))
        done = command(study, KINDS[name].arguments)
        assert done.code == 0 and "Traceback" not in done.said, done.said
        self.seconds[name], self.expected[name] = done.seconds, look(study)
        shutil.rmtree(study)

    def kill(self, name: str, chance: random.Random) -> None:
        """One to three kills, each at a moment of its own, the command once more, and a look at what is there then."""
        if name not in self.expected:
            self.measure(name)
        kind = KINDS[name]
        study = Path(shutil.copytree(self.folder / kind.start, self.folder / "study"))
        moments = []
        for _ in range(chance.choice([1, 2, 3])):  # what was killed once may be killed while it goes on, too
            moments.append(self.seconds[name] * chance.uniform(0.3 if kind.damage else 0.0, 0.9))
            killed = command(study, kind.arguments, moments[-1])
            if killed.code is not None:
                self.ends["was done before"] += 1
                self.seconds[name] = min(self.seconds[name], max(killed.seconds, 1.0))
                break
            self.ends["killed"] += 1
            self.ends[f"killed: {name}"] += 1
            if kind.damage:
                damage_resumes(study, chance, self.ends)
        fault = again(study, kind.arguments, self.ends)
        try:
            found = look(study)
        except AssertionError as error:
            found, fault = {}, fault or str(error)
        fault = fault or self._difference(name, found)
        for left in leftovers(study):
            self.ends[f"left over: {_kind_of(left)}"] += 1
        if fault:
            after = ", ".join(f"{moment:.2f}" for moment in moments)
            self.faults.append(f"{name}, killed after {after} of {self.seconds[name]:.2f} s: {fault}")
            shutil.copytree(study, self.folder / f"fault-{len(self.faults)}")
        shutil.rmtree(study)

    def _difference(self, name: str, found: dict[str, Any]) -> str:
        expected = self.expected[name]
        keys = [key for key in sorted(expected.keys() | found.keys()) if expected.get(key) != found.get(key)]
        return "".join(f"\n{key} was {str(expected.get(key))[:500]}, is {str(found.get(key))[:500]}" for key in keys)


def _kind_of(left: str) -> str:
    """The name of a leftover without what differs each time."""
    return ".".join(part for part in Path(left).name.split(".") if not part.isdigit())


def campaign(folder: Path, count: int, seed: int) -> Campaign:
    """At least `count` kills, the kinds in turn. Tells each fault at once."""
    for name in LOADED:
        importlib.import_module(name)
    from flowlab.ledger.migrate import migrate

    if not (folder / "unread").exists():
        make_stages(folder)
    spare = Path(shutil.copytree(folder / "unread", folder / "spare"))
    migrate(folder / "empty.duckdb")  # loads what a ledger needs, too
    _look(spare, folder / "empty.duckdb")
    shutil.rmtree(spare)
    done = Campaign(folder)
    names = list(KINDS)
    number = 0
    while done.ends["killed"] < count and number < 2 * count:
        name, chance = names[number % len(names)], random.Random(f"{seed} {number}")
        num_faults = len(done.faults)
        try:
            done.kill(name, chance)
        except Exception:
            done.faults.append(f"{name} {number}: {traceback.format_exc(limit=-4)}")
            shutil.rmtree(folder / "study", ignore_errors=True)
            shutil.rmtree(folder / "undisturbed", ignore_errors=True)
        for fault in done.faults[num_faults:]:
            sys.stdout.write(f"{number}: {fault}\n")
        sys.stdout.write(f"{number} {name} {done.ends['killed']} killed\n")
        sys.stdout.flush()
        number += 1
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="Where the studies are kept, faults among them; else nowhere.")
    given = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        done = campaign(given.folder or Path(scratch), given.count, given.seed)
    ends = ", ".join(f"{name} {number}" for name, number in sorted(done.ends.items()))
    took = f"seed {given.seed}, {time.monotonic() - began:.0f} s"
    sys.stdout.write(f"{ends}; {len(done.faults)} faults ({took})\n")
    raise SystemExit(bool(done.faults))


if __name__ == "__main__":
    main()
