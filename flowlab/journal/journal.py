"""Journals: append-only files of JSON lines. Workers write these; only the ingester turns them into ledger rows.

A line is whole or it is not there: it is fsynced before `append` returns, and a tail without its newline (a process was
killed while writing) is ignored by readers and cut off by the next writer.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, NoReturn, Self

from flowlab.core.errors import LedgerError, NoLocksError
from flowlab.core.files import trouble
from flowlab.core.folders import sync
from flowlab.core.locks import hold_descriptor, no_access

RUN_JOURNAL = "journal.jsonl"
STUDY_JOURNAL = "study.jsonl"
LAST_WORDS = ("finished", "crashed")
END_BYTES = 1 << 16


class Journal:
    """One journal, open for appending. Several processes may append to one: each line is written under a lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not path.exists()
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise no_access(path, error) from None
        try:
            with hold_descriptor(self._file, path):
                _cut_torn_tail(self._file)
        except NoLocksError:
            self.close()
            if is_new:
                path.unlink(missing_ok=True)
            raise
        if is_new:
            sync(path.parent)

    def append(self, kind: str, **fields: Any) -> None:
        """Write one line, durable on return. Raises LedgerError for a number that is not finite."""
        self.append_all([{"kind": kind} | fields])

    def append_all(self, lines: Iterable[dict[str, Any]]) -> None:
        """Write some lines, each with its `kind`, by one write: durable on return. Raises as `append` does."""
        time_us = time.time_ns() // 1000
        content = b"".join(
            encode(line["kind"], {"kind": line["kind"], "time_us": time_us} | line, self.path) for line in lines
        )
        try:
            with hold_descriptor(self._file, self.path):
                _cut_torn_tail(self._file)
                _write_whole(self._file, content)
                os.fsync(self._file)
        except OSError as error:
            raise LedgerError(
                f"{self.path} cannot be written: {trouble(error)} What it held before is whole: give the command again."
            ) from None

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def encode(kind: str, record: dict[str, Any], path: Path) -> bytes:
    """A line of the journal at `path`. Raises LedgerError for a number that is not finite."""
    try:
        return json.dumps(record, separators=(",", ":"), allow_nan=False).encode() + b"\n"
    except ValueError:
        raise LedgerError(
            f"a {kind!r} line for {path} holds NaN or infinity; the ledger expects finite numbers. "
            f"Record the run as crashed instead."
        ) from None


class Line(NamedTuple):
    """One complete line: its byte offset in the journal, and what it says, or why it cannot be read."""

    position: int
    fields: dict[str, Any]
    problem: str = ""
    raw: bytes = b""

    @property
    def end(self) -> int:
        """The byte offset after its newline."""
        return self.position + len(self.raw)


def read_lines(path: Path, offset: int = 0, most: int | None = None) -> tuple[list[Line], int]:
    """The complete lines from byte `offset` on, and the offset after the last one. A torn tail is left for later.

    `most`: read no more lines than these.
    """
    content = read_whole_lines(path, offset) if most is None else _first_lines(path, offset, most)
    return parse_lines(content, offset), offset + len(content)


def read_whole_lines(path: Path, offset: int, end: int | None = None) -> bytes:
    """The bytes of the complete lines from byte `offset` on; none if there is no such file. Raises LedgerError.

    `end`: read nothing from that byte on.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            content = file.read() if end is None else file.read(max(0, end - offset))
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise LedgerError(f"the journal {path} cannot be read: {error.strerror}.") from None
    return content[: content.rfind(b"\n") + 1]


def _first_lines(path: Path, offset: int, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            content = b"".join(islice(file, most))
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise LedgerError(f"the journal {path} cannot be read: {error.strerror}.") from None
    return content[: content.rfind(b"\n") + 1]


def parse_lines(content: bytes, offset: int) -> list[Line]:
    """The lines in `content`, which stands at byte `offset` of its journal and ends with a newline."""
    lines, position = [], offset
    for raw in _split_at_newlines(content):
        lines.append(_parse(raw, position))
        position += len(raw)
    return lines


def read_journal(path: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """What the lines from `offset` on say, and the offset after them; nothing for a journal that is not there.

    Raises LedgerError, with file and line number, for a complete line that is not a journal line.
    """
    lines, after = read_lines(path, offset)
    for line in lines:
        if line.problem:
            raise LedgerError(f"{place(path, line.position)}: {line.problem}.")
    return [line.fields for line in lines], after


def last_word(path: Path) -> str:
    """The kind of the last line that says how a run stands (started, finished, crashed); "" if none does.

    The journal is read from its end: after either last word a run writes a few short lines, or what it was scored
    with later.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            num_bytes = END_BYTES
            while True:
                file.seek(max(0, size - num_bytes))
                content = file.read(num_bytes)
                lines = parse_lines(content[: content.rfind(b"\n") + 1], 0)  # the first may be half a line
                for line in reversed(lines):
                    if line.fields.get("kind") in ("started", *LAST_WORDS):
                        return line.fields["kind"]
                if num_bytes >= size:
                    return ""
                num_bytes *= 8
    except OSError:
        return ""


def digest_part(content: bytes) -> str:
    """The digest of a part of a journal: SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


def place(path: Path, position: int) -> str:
    """Where a person finds the line that starts at byte `position`: file name and line number."""
    with path.open("rb") as file:
        number = file.read(position).count(b"\n") + 1
    return f"{path}, line {number}"


def _split_at_newlines(content: bytes) -> list[bytes]:
    return [part + b"\n" for part in content.split(b"\n")[:-1]]


def _parse(raw: bytes, position: int) -> Line:
    try:
        value = json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        return Line(position, {}, f"not a JSON line ({error})", raw)
    if not isinstance(value, dict) or type(value.get("kind")) is not str or type(value.get("time_us")) is not int:
        problem = "not a journal line: expected an object with 'kind' and 'time_us'"
        return Line(position, {}, problem, raw)
    return Line(position, value, "", raw)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a finite number")


def _cut_torn_tail(file: int) -> None:
    """Cut what follows the last newline. Reads back in blocks, so a long journal costs one byte in the usual case."""
    end = size = os.fstat(file).st_size
    block = 1
    while end > 0:
        start = max(0, end - block)
        newline = os.pread(file, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end, block = start, 1 << 16
    if end < size:
        os.ftruncate(file, end)


def _write_whole(file: int, line: bytes) -> None:
    while line:
        line = line[os.write(file, line) :]
