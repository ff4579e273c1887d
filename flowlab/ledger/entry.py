"""An entry: one line of the study's journal, with all rows that it brings into the ledger."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from flowlab.journal.journal import RUN_JOURNAL, STUDY_JOURNAL, Line, digest_part, parse_lines, place
from flowlab.journal.values import BadLine
from flowlab.ledger.rows import RUN_KINDS, Maker, Row, event_row, rows_of
from flowlab.ledger.study_rows import STUDY_KINDS

INGESTED = "ingested"
MOST_TOLD = 600


class Part(NamedTuple):
    """Complete lines of a run's journal, from one byte offset to another; `digest` is of these bytes."""

    journal: str
    from_offset: int
    to_offset: int
    digest: str


@dataclass
class Entry:
    """What one line of the study's journal says. Rows are in the order in which they were said."""

    line: Line
    kind: str
    subject: str  # what it is about: a run's journal, a rule, a lever
    journal: str  # which journal its rows are from
    rows: list[tuple[str, Row, Row]] = field(default_factory=list)  # table, row, where its line is
    problems: list[str] = field(default_factory=list)
    is_first: bool = True  # nothing of `journal` was read before
    up_to_offset: int = 0  # in `journal`
    num_lines: int = 1
    num_bytes: int = 0

    @property
    def time_us(self) -> int:
        return time_or_zero(self.line.fields.get("time_us"))

    @property
    def run_id(self) -> str | None:
        return None if self.journal == STUDY_JOURNAL else self.journal.split("/")[0]


def make_entry(runs_dir: Path, line: Line, offsets: dict[str, int]) -> Entry:
    """The entry that `line` of the study's journal is; `offsets` tells how far each journal was read before it."""
    kind = line.fields.get("kind", "unreadable")
    if kind == INGESTED:
        try:
            return _ingested(runs_dir, line, offsets)
        except BadLine as error:
            line = line._replace(problem=str(error))
    entry = Entry(line, kind, _subject(line.fields), STUDY_JOURNAL, up_to_offset=line.end, num_bytes=len(line.raw))
    entry.is_first = line.position == 0
    _collect(entry, runs_dir, [line], STUDY_KINDS)
    return entry


def parse_order(line: Line) -> Part:
    """The part of a journal that a line `ingested` names. Raises BadLine."""
    from flowlab.journal.study_lines import Ingested

    order = Ingested.read(line.fields | {"kind": INGESTED, "time_us": time_or_zero(line.fields.get("time_us"))})
    part = Part(order.journal, order.from_offset, order.to_offset, order.digest)
    folder, slash, name = part.journal.partition("/")
    if not slash or name != RUN_JOURNAL or folder in ("", ".", "..") or not is_name(folder):
        raise BadLine(f"journal is {part.journal!r}, expected <run id>/{RUN_JOURNAL}")
    if not 0 <= part.from_offset < part.to_offset:
        raise BadLine(f"from_offset {part.from_offset} and to_offset {part.to_offset} name no part of a journal")
    return part


def is_name(folder: str) -> bool:
    """Whether a folder's name is text that a journal line can hold and a file system can find."""
    try:
        return "\0" not in folder and bool(folder.encode())
    except UnicodeEncodeError:
        return False


def _ingested(runs_dir: Path, line: Line, offsets: dict[str, int]) -> Entry:
    """The entry of the part of a run's journal that `line` orders."""
    journal, begin, end, digest = parse_order(line)
    known = offsets.get(journal, 0)
    entry = Entry(line, INGESTED, journal, journal, is_first=known == 0, up_to_offset=max(end, known))
    low = min(begin, known)  # `known` is before `begin` if an older flowlab read what was there
    content = _read(runs_dir / journal, low, end)
    if low + len(content) < end or digest_part(content[begin - low :]) != digest:
        sentence = f"{journal}: bytes {begin} to {end} are gone, or are not those that were read at first"
        entry.problems.append(f"{runs_dir / sentence}. Put the old journal back; without it the ledger lacks this run.")
        at = {"journal": journal, "position": begin, "run_id": entry.run_id, "time_us": entry.time_us}
        entry.rows.append(("events", event_row(at, "missing_part", sentence), at))
        entry.up_to_offset = known  # whatever stands there by now is still to be read
        return entry
    lines = parse_lines(content[known - low :], known)
    entry.num_lines, entry.num_bytes = len(lines), end - known
    _collect(entry, runs_dir, lines, RUN_KINDS)
    return entry


def _collect(entry: Entry, runs_dir: Path, lines: list[Line], makers: dict[str, Maker]) -> None:
    where: Row = {"journal": entry.journal} | ({} if entry.run_id is None else {"run_id": entry.run_id})
    for line in lines:
        at = where | {"position": line.position, "time_us": time_or_zero(line.fields.get("time_us"))}
        try:
            entry.rows += [(table, row, at) for table, row in rows_of(line, where, makers)]
        except ValueError as error:
            sentence = f"{place(runs_dir / entry.journal, line.position)}: {error}"
            told = sentence if len(sentence) <= MOST_TOLD else f"{sentence[:MOST_TOLD]}..."  # the ledger keeps it whole
            entry.problems.append(f"{told}. The line was left out.")
            event = event_row(at, "unreadable_line", sentence.removeprefix(f"{runs_dir}/"))
            entry.rows.append(("events", event, at))


def _read(path: Path, begin: int, end: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(begin)
            return file.read(max(0, min(end, path.stat().st_size) - begin))
    except OSError:
        return b""


def _subject(fields: dict[str, Any]) -> str:
    rule = fields.get("rule")
    named = rule.get("name") if isinstance(rule, dict) else None
    found = named or fields.get("lever") or fields.get("cache_id") or fields.get("control_digest") or ""
    return found if isinstance(found, str) else ""


def time_or_zero(value: Any) -> int:
    return value if type(value) is int and 0 <= value < 2**63 else 0
