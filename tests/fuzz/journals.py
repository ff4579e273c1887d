"""Mutants of the journals of a small judged study: `python -m tests.fuzz.journals --count 500 --seed 1`.

From the mutated journals a ledger is made from nothing: bad lines are told, and it verifies, judges and is rebuilt. The
ledger that was made before, put beside them, must not verify, unless all that it was made of still stands there.
"""

import random
import shutil
import tempfile
from functools import partial
from pathlib import Path
from unittest.mock import patch

from flowlab.core.errors import FlowlabError
from flowlab.lab.run_dir import RunDir
from flowlab.ledger.connection import read
from flowlab.ledger.ingest import ingest
from flowlab.ledger.migrate import migrate
from flowlab.ledger.rebuild import rebuild
from flowlab.ledger.verify import verify
from flowlab.verdict.judge import read_owed, read_verdicts
from flowlab.verdict.record import record_decisions
from tests.fuzz import mutate
from tests.ledger.judged_ledger import make_judged

STUDY = "study.jsonl"
THOROUGH = 5  # one mutant of so many is rebuilt, too
LINES = (
    b"null\n", b"[]\n", b"{}\n", b"\n", b" \n", b'{"kind":"finished"}\n', b'{"kind":"finished","time_us":1}\n', b"\0\n",
    b'{"kind":"ingested","time_us":1,"journal":"../x/journal.jsonl","from_offset":0,"to_offset":9,"digest":"d"}\n',
    b'{"kind":"ingested","time_us":1,"journal":"new/journal.jsonl","from_offset":0,"to_offset":9,"digest":"d"}\n',
    b'{"kind":"metrics","time_us":1e999,"rows":[]}\n', b'{"kind":"metrics","time_us":1,"rows":[[]]}\n', b"\xff\xfe\n",
    b'{"kind":"metrics","time_us":1,"rows":[["l1","steering","overall","meank",1e400,-1,""]]}\n', b'{"kind":"\n',
    b'{"kind":"artifact","time_us":-5,"name":"policy.safetensors","digest":"d","num_bytes":1}\n', b"[" * 9000 + b"\n",
    b'{"kind":"tag","time_us":1,"pad":"' + b"x" * 3_000_000 + b'"}\n', b'{"kind":"seal","time_us":1,"digest":"d"}\n',
)  # fmt: skip


class Judged:
    """The judged study: its journals as they were written, its ledger, and one without rows."""

    def __init__(self, folder: Path, empty: Path) -> None:
        self.folder, self.empty = folder, empty
        with patch("flowlab.ledger.ingest.migrate", self.copy_empty):
            self.ledger = make_judged(folder / "judged" / "ledger.duckdb", folder / "judged" / "runs")
        self.runs = folder / "judged" / "runs"
        self.content = {
            str(path.relative_to(self.runs)): path.read_bytes() for path in sorted(self.runs.rglob("*.jsonl"))
        }

    def copy_empty(self, ledger: Path) -> None:
        """What `migrate` does for a new ledger, without taking seconds."""
        if not ledger.exists():
            shutil.copy(self.empty, ledger)

    def mutant(self, chance: random.Random) -> dict[str, bytes]:
        """The journals with one or two of them changed. Without its orders the study's is as before it was read."""
        content = dict(self.content)
        if chance.random() < 0.3:
            lines = content[STUDY].splitlines(keepends=True)
            content[STUDY] = b"".join(line for line in lines if b'"ingested"' not in line)
        for _ in range(chance.choice([1, 1, 2])):
            name = STUDY if chance.random() < 0.4 else chance.choice(sorted(content))
            content[name] = changed(content[name], chance)
        return content

    def look(self, content: dict[str, bytes], thorough: bool = True) -> str:
        """What becomes of journals with that content."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            runs = Path(folder) / "runs"
            for name, text in content.items():
                (runs / name).parent.mkdir(parents=True, exist_ok=True)
                (runs / name).write_bytes(text)
            self.require_found(content, runs, Path(shutil.copy(self.ledger, Path(folder) / "old.duckdb")))
            told = self.make_anew(runs, Path(folder) / "ledger.duckdb", thorough)
            for name in content:
                if name != STUDY:
                    go_on(runs / Path(name).parent)
            return told

    def require_found(self, content: dict[str, bytes], runs: Path, old: Path) -> None:
        """Raises AssertionError if the old ledger verifies beside journals that lack what it was made of."""
        whole = all(content[name].startswith(text) for name, text in self.content.items())
        try:
            verify(old, runs)
        except FlowlabError as error:
            require_sentence(str(error))
            assert not whole, f"what it was made of is there, and yet: {error}"
            return
        assert whole, "a changed journal was not found"

    def make_anew(self, runs: Path, ledger: Path, thorough: bool) -> str:
        """Make a ledger of the journals, and all that follows from it."""
        done = ingest(ledger, runs)
        for problem in done.problems:
            require_sentence(problem)
        read(ledger, "select * from run_status")
        verdicts = str(read_verdicts(ledger))
        head = verify(ledger, runs).head
        if thorough:
            read_owed(ledger)
            read(ledger, "select * from effects")
            assert rebuild(ledger, runs).head == head, "another chain after rebuilding"
            assert str(read_verdicts(ledger)) == verdicts, "other verdicts after rebuilding"
            record_decisions(runs, ledger)
            assert not set(ingest(ledger, runs).problems) - set(done.problems)
            verify(ledger, runs)
        return "told" if done.problems else "taken without a word"


def require_sentence(told: str) -> None:
    assert "\n" not in told and len(told) < mutate.MESSAGE_CHARS, f"no sentence: {told[:300]!r}"


def go_on(run: Path) -> None:
    """What a process does with the journal of a run that it goes on with."""
    with RunDir(run) as out:
        out.count("registered")
        (run / "policy").write_bytes(b"p")
        out._artifact("policy", "d", 1)


def changed(content: bytes, chance: random.Random) -> bytes:
    """A journal with bytes, lines or values changed."""
    how = chance.randrange(6)
    lines = content.splitlines(keepends=True)
    place = chance.randrange(len(lines)) if lines else 0
    if how == 0 or not lines:
        return mutate.damaged(content, chance)
    if how == 1:
        return mutate.lines_moved(content, chance)
    if how == 2:
        lines.insert(chance.choice([place, len(lines)]), chance.choice(LINES))
    elif how == 3:
        lines[place] = lines[place][: chance.randrange(len(lines[place]))]
    else:
        try:
            lines[place] = mutate.json_changed(lines[place], chance) + b"\n"
        except ValueError:  # of a line that was changed before
            lines[place] = mutate.damaged(lines[place], chance)
    return b"".join(lines)


def run(count: int, seed: int) -> mutate.Tally:
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "empty.duckdb"
        migrate(empty)
        return run_in(Path(folder), empty, count, seed)


def run_in(folder: Path, empty: Path, count: int, seed: int) -> mutate.Tally:
    """As `run`, in a folder that is there and with a ledger without rows."""
    tally = mutate.Tally()
    judged = Judged(folder, empty)
    with (
        patch("flowlab.ledger.ingest.migrate", judged.copy_empty),
        patch("flowlab.ledger.replay.migrate", judged.copy_empty),
    ):
        for number in range(count):
            look = partial(
                judged.look, judged.mutant(random.Random(f"{seed} {number}")), number % THOROUGH == THOROUGH - 1
            )
            tally.attempt(f"seed {seed} {number}", look)
    return tally


if __name__ == "__main__":
    mutate.main(run, 500)
