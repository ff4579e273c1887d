"""runs/<run_id>: the journal of one run, its files, and the lock that keeps two processes from training it at once."""

import shutil
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from flowlab.cache.attributes import build_name, content_of
from flowlab.cache.cache import Cache
from flowlab.core.digest import digest_files
from flowlab.core.errors import BusyError, FlowlabError, ResumeError, RunFailedError, StoreError
from flowlab.core.files import trouble, write_json_atomic
from flowlab.core.locks import no_access, take
from flowlab.core.stores import Place
from flowlab.core.types import MetricRow
from flowlab.evaluate.draw_bank import BANK_FILE, BankWriter, DrawBank, bank_files, digest_bank, write_bank
from flowlab.evaluate.frames import ValidationFrames
from flowlab.journal.journal import read_lines
from flowlab.journal.lines import RunJournal
from flowlab.lab.copies import bring_progress, copy_progress
from flowlab.train.checkpoint import (
    POLICY_FILE,
    RESUME_FILE,
    Resume,
    load_resume,
    rung_file,
    save_policy,
    save_resume,
)
from flowlab.train.crash import Crash


def lock_of(run: Path) -> Path:
    """The file that is locked while a process works on the run of this folder."""
    return run / "lock"


@dataclass
class RunDir:
    """One run's folder while this process works on it. Use it in a with statement: it holds the run's lock."""

    path: Path
    copies: Place | None = None  # where runs have a second copy
    attempt: int = 0  # how often work on the run was begun before
    discarded: str = ""  # why what the run had kept to go on from was thrown away
    _copy_failed: bool = False
    _lock: IO[bytes] | None = None
    _journal: RunJournal | None = None
    _on_record: list[tuple[Any, Any]] | None = None  # name and digest of the artifacts that the journal has

    def __enter__(self) -> Self:
        self.path.mkdir(parents=True, exist_ok=True)
        path = lock_of(self.path)
        try:
            lock = path.open("ab")
        except OSError as error:
            raise no_access(path, error) from None
        busy = BusyError(f"run {self.path.name} is being trained by another process. Wait for it: flowlab status")
        try:
            take(lock.fileno(), path, 0, busy)
        except FlowlabError:
            lock.close()
            raise
        try:
            if self.copies is not None:
                bring_progress(self.path, self.copies)
        except BaseException:
            lock.close()
            raise
        self._lock = lock
        for left in self.path.glob("*.*.partial"):  # of a process that was killed while it wrote
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
        self._journal = RunJournal.of(self.path.parent, self.path.name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._lock is not None
        self.journal.close()
        self._lock.close()
        self._lock = None

    @property
    def journal(self) -> RunJournal:
        assert self._journal is not None, "open the run's folder in a with statement first"
        return self._journal

    def write_record(self, record: dict) -> None:
        """run.json: what the run is, for people and for tools that do not read journals."""
        write_json_atomic(self.path / "run.json", record)

    def metrics(self, rows: list[MetricRow]) -> None:
        if rows:
            self.journal.metrics(rows)

    def wall_time(self, phases: dict[str, float]) -> None:
        """So many seconds by phase were this run's, in this attempt."""
        self.journal.wall_time(phases, self.attempt)

    def crashed(self, crash: Crash) -> None:
        """The run's last word, said as soon as it is seen."""
        self.journal.crashed(reason=f"crashed-early, not finite: {crash.field}", step=crash.step)
        self.forget_resume()

    def interrupted(self, error: Exception) -> None:
        """Say in the journal why the run stopped before its end."""
        lines = str(error).strip().splitlines() or [""]
        self.journal.event("interrupted", f"{type(error).__name__}: {lines[0]}")

    def failed(self, error: Exception, run_ids: Sequence[str]) -> RunFailedError:
        """The error for a cohort that this run was the first of; its traceback goes to this run's log.txt."""
        log = self.path / "log.txt"
        try:
            log.write_text("".join(traceback.format_exception(error)))
            where = f"Traceback: {log.relative_to(self.path.parents[1])}."
        except OSError as refused:
            where = f"Its traceback could not be kept, {trouble(refused, log)}"
        lines = str(error).strip().splitlines() or [""]
        return RunFailedError(
            f"{', '.join(run_ids)} failed: {type(error).__name__}: {lines[0]}. {where} What else was asked for has "
            f"been trained."
        )

    def count(self, kind: str) -> int:
        """How many lines of that kind the journal holds."""
        return sum(line.fields.get("kind") == kind for line in read_lines(self.journal.path)[0])

    def resume(self, num_steps: int) -> Resume | None:
        """What the run kept to go on from, of its `num_steps` steps; a file that cannot be trusted is thrown away."""
        try:
            return load_resume(self.path / RESUME_FILE, self.path.name, num_steps)
        except ResumeError as error:
            self.discard_resume(str(error))
            return None

    def discard_resume(self, why: str) -> None:
        """The run starts anew, and its journal says why."""
        self.forget_resume()
        self.discarded = why

    def keep(self, state: Resume) -> None:
        """Keep what the run goes on from, here and in the second copy; training goes on where that is not reached."""
        save_resume(self.path / RESUME_FILE, state, self.path.name)
        if self.copies is None:
            return
        try:
            copy_progress(self.path, self.copies)
            self._copy_failed = False
        except StoreError as error:
            if not self._copy_failed:
                self.journal.event("not-copied", str(error))
            self._copy_failed = True

    def forget_resume(self) -> None:
        (self.path / RESUME_FILE).unlink(missing_ok=True)

    def save_policy(self, weights: dict, metadata: dict[str, str], rung: int | None = None) -> str:
        """The digest of the last policy, or the rung after so many steps, once it is there whole."""
        path = self.path / (POLICY_FILE if rung is None else rung_file(rung))
        save_policy(path, weights, metadata)
        digest = digest_files([path])
        self._artifact(path.name, digest, path.stat().st_size)
        return digest

    def scored(self, record: dict[str, Any], attempts: list[dict[str, Any]], rows: list[MetricRow]) -> None:
        """The whole life of a run that was not trained but scored: registered, attempted, measured, finished."""
        self.journal.whole(record, attempts, rows)
        self.write_record(record)

    def save_draws(self, bank: DrawBank, frames: ValidationFrames, name: str = BANK_FILE) -> None:
        """The draws for these frames, whole or not at all."""
        write_bank(self.path / name, bank, frames)
        self._bank_artifact(self.path / name)

    def begin_draws(self, frames: ValidationFrames, shape: tuple[int, ...], precision: str) -> BankWriter:
        """A bank for draws of that shape (K, h, M), to be written block by block and then given to `keep_draws`."""
        return BankWriter(self.path / BANK_FILE, frames, shape, precision)

    def keep_draws(self, bank: BankWriter, told: Mapping[str, Any]) -> None:
        """Put a bank that was begun in its place, with what it is of, and on record."""
        bank.finish(told)
        self._bank_artifact(bank.path)

    def _bank_artifact(self, path: Path) -> None:
        self._artifact(path.name, digest_bank(path), sum(file.stat().st_size for file in bank_files(path)))

    def trained_from(self, cache: Cache) -> None:
        """Put on record which content the cache has that the run reads; `ledger verify` compares that of all runs."""
        num_bytes = sum(array.num_bytes for array in cache.layouts.values())
        self._artifact(build_name(cache.attributes), content_of(cache.attributes), num_bytes)

    def _artifact(self, name: str, digest: str, num_bytes: int) -> None:
        """Put a file on record, once: a run that was killed and goes on may write the same one again."""
        if self._on_record is None:
            lines = [line.fields for line in read_lines(self.journal.path)[0]]
            said = [line for line in lines if line.get("kind") == "artifact"]
            self._on_record = [(line.get("name"), line.get("digest")) for line in said]  # whatever a damaged line says
        if (name, digest) not in self._on_record:
            self.journal.artifact(name, digest, num_bytes)
            self._on_record.append((name, digest))
