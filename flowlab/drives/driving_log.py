"""Reads driving_log.csv of the Udacity simulator's recorder: what each row says, and why a row cannot be used."""

import csv
import math
import re
from bisect import bisect_left
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from flowlab.core.errors import DriveError
from flowlab.core.types import Skipped

FILE_NAME = "driving_log.csv"
COLUMNS = ("center", "left", "right", "steering", "throttle", "brake", "speed")
RANGES = {"steering": (-1.0, 1.0), "throttle": (0.0, 1.0), "brake": (0.0, 1.0), "speed": (-100.0, 300.0)}
"""What each number may be; speed in miles per hour, as a car could be driven."""

RANGE_SLACK = 1e-3
MPS_PER_MPH = 0.44704
SHOWN_CHARS = 40
TIME_STAMP = re.compile(r"_(\d{4})_(\d\d)_(\d\d)_(\d\d)_(\d\d)_(\d\d)_(\d{3})\.\w+$", re.ASCII)
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(nan|inf|infinity)", re.ASCII | re.IGNORECASE)
DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+([eE][-+]?\d+)?", re.ASCII)
SIDE_CAMERA = re.compile(r"(left|right)_", re.IGNORECASE)

OF_SIDE_CAMERA, WRITTEN_TWICE, HEADER_AGAIN = "row of a side camera", "row written twice", "header once more"
RECOGNISED = {
    OF_SIDE_CAMERA: "rows are of the left and right cameras: only those of the centre are used",
    WRITTEN_TWICE: "rows are in the log more than once: each is used once",
    HEADER_AGAIN: "rows are the header once more",
}
"""Rows that are left out because it is known what they are; they are no faults."""

MORE_CELLS = "more cells than columns"
COMMAS_FOR_POINTS = "Its numbers seem to have decimal commas (0,5 for 0.5), which part them in two: write points."
UNQUOTED = "A column was put in, or a text holds a comma that is not in quotes: which cell is which cannot be told."


class LogRow(NamedTuple):
    """One usable row. `number` counts the file's rows of data from 0; `image` is a bare file name."""

    number: int
    image: str
    time_us: int
    steering: float
    gas: float
    brake: float
    speed_mps: float


def read_driving_log(path: Path) -> tuple[list[LogRow], list[Skipped]]:
    """The usable rows in the file's order, and the others with what is wrong with them, or what they are (RECOGNISED).

    With or without a header; a header may put the columns in another order. Each line is read by itself, so that a
    quote that is never closed costs one row. Raises DriveError if it is no such file.
    """
    lines = _split_lines(path)
    header = _as_header(lines[0], path) if lines else None
    if header is not None:
        lines = lines[1:]
    names = list(COLUMNS) if header is None else header
    columns = {name: names.index(name) for name in COLUMNS if name in names}
    lines = _without_last_comma(lines, len(names))
    rows: list[LogRow] = []
    others: list[Skipped] = []
    seen: set[tuple] = set()
    for number, line in enumerate(lines):
        again = _as_header(line, path) if "center" in map(str.lower, line) else None
        if again is not None and again != names:
            raise DriveError(
                f"{path} has a second header at row {number} with other columns ({', '.join(again)[:200]}). Part it "
                f"into one folder for each recording."
            )
        if again is not None:
            others.append(Skipped(number, HEADER_AGAIN, "the header once more"))
            continue
        row = _read_row(number, line, columns, names)
        if isinstance(row, Skipped):
            others.append(row)
        elif row[1:] in seen:
            others.append(Skipped(number, WRITTEN_TWICE, f"{row.image} with the same values as before"))
        else:
            seen.add(row[1:])
            rows.append(row)
    return rows, others


def _split_lines(path: Path) -> list[list[str]]:
    """The cells of each line that has any text."""
    if path.exists() and not path.is_file():  # a pipe could be waited on without end
        raise DriveError(f"{path} is no file. Remove it, or its folder.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DriveError(f"{path} cannot be read: {error.strerror}.") from None
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DriveError(f"{path} is UTF-16 text, expected UTF-8. Save it as UTF-8.")
    text = content.decode("utf-8-sig", errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    return [_split_cells(line) for line in text.split("\n") if line.strip(" \t,\0")]


def _split_cells(line: str) -> list[str]:
    if '"' not in line:
        return [cell.strip() for cell in line.split(",")]
    try:
        return [cell.strip() for cell in next(csv.reader([line], skipinitialspace=True))]
    except csv.Error:
        return [line]  # one cell: fewer than there are columns


def _as_header(line: list[str], path: Path) -> list[str] | None:
    """The names of the columns, or None if it is no header. Raises DriveError for one without the columns it needs."""
    names = [cell.lower() for cell in line]
    if names[-1] == "":
        names.pop()
    is_foreign = len(names) > 3 and all(name and not any(map(str.isdigit, name)) for name in names)
    if "center" not in names and not is_foreign:
        return None
    expected = f"its header must name each of {', '.join(COLUMNS)} once (left and right may be absent)"
    for name in COLUMNS:
        if name not in names and name not in ("left", "right"):
            raise DriveError(f"{path} has no column {name!r}; {expected}.")
        if names.count(name) > 1:
            raise DriveError(f"{path} has {names.count(name)} columns {name!r}; {expected}.")
    return names


def _without_last_comma(lines: list[list[str]], num_columns: int) -> list[list[str]]:
    """The lines without the empty cell after a last comma, if every whole line has one."""
    longer = [line for line in lines if len(line) == num_columns + 1]
    if any(line[-1] for line in longer) or any(len(line) == num_columns for line in lines):
        return lines
    return [line[:-1] if len(line) == num_columns + 1 else line for line in lines]


def _read_row(number: int, line: list[str], columns: dict[str, int], names: list[str]) -> LogRow | Skipped:
    """The row, or what is wrong with it. A row with another number of cells is never read: they may have moved."""
    if len(line) != len(names):
        return _wrong_number(number, line, len(names))
    image = line[columns["center"]].replace("\\", "/").rpartition("/")[2].strip()
    if SIDE_CAMERA.match(image):
        return Skipped(number, OF_SIDE_CAMERA, f"{_shown(image)} is of a side camera")
    values = {}
    for name, (low, high) in RANGES.items():
        text = line[columns[name]]
        if not NUMBER.fullmatch(text):
            hint = COMMAS_FOR_POINTS if DECIMAL_COMMA.fullmatch(text) else ""
            return Skipped(number, f"{name} is no number", f"{name} is {_shown(text)}, expected a number", None, hint)
        value = float(text)
        if not low - RANGE_SLACK <= value <= high + RANGE_SLACK:
            detail = f"{name} is {text[:SHOWN_CHARS]}, expected a finite number in [{low:g}, {high:g}]"
            if not math.isfinite(value):
                return Skipped(number, f"{name} is not finite", detail)
            return Skipped(number, f"{name} is out of its range [{low:g}, {high:g}]", detail, value)
        values[name] = min(max(value, low), high)
    time_us = read_time_us(image) if image.isprintable() else None
    if time_us is None:
        return Skipped(number, "image without a time stamp in its name", f"{_shown(image)} carries no time stamp")
    speed_mps = values["speed"] * MPS_PER_MPH
    return LogRow(number, image, time_us, values["steering"], values["throttle"], values["brake"], speed_mps)


def _wrong_number(number: int, line: list[str], expected: int) -> Skipped:
    """What is wrong with a row that has more or fewer cells than there are columns."""
    detail = f"{len(line)} columns, expected {expected}"
    if len(line) < expected:
        mark = next((mark for mark in (";", "\t", "|") if sum(cell.count(mark) for cell in line) >= expected - 1), None)
        if mark is None:
            return Skipped(number, "fewer cells than columns", detail)
        hint = f"Its cells are parted by {mark!r}: write commas, and points in numbers."
        return Skipped(number, f"cells parted by {mark!r}", f"{detail} parted by commas", None, hint)
    # A machine that writes 0,5 writes no 0.5; what is left are pairs of whole numbers, one for each cell too many.
    has_points = any("." in cell and NUMBER.fullmatch(cell) for cell in line)
    num_pairs, place = 0, 0
    while place < len(line) - 1:
        is_pair = DECIMAL_COMMA.fullmatch(f"{line[place]},{line[place + 1]}") is not None
        num_pairs, place = num_pairs + is_pair, place + 1 + is_pair
    is_decimal = not has_points and num_pairs >= len(line) - expected
    return Skipped(number, MORE_CELLS, detail, None, COMMAS_FOR_POINTS if is_decimal else UNQUOTED)


def _shown(text: str) -> str:
    return repr(text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}...")


def read_time_us(image: str) -> int | None:
    """Microseconds since 1970 of a name like center_2024_01_31_22_05_51_453.jpg, taken as UTC; None if it has no such
    stamp.
    """
    match = TIME_STAMP.search(image)
    if match is None:
        return None
    *parts, millisecond = map(int, match.groups())
    try:
        moment = datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]
    except ValueError:
        return None
    return int(moment.timestamp()) * 1_000_000 + millisecond * 1000


def longest_advance(times: Sequence[int]) -> list[int]:
    """The positions of a longest strictly increasing subsequence: one stamp that is far off costs one row, not all
    after it.
    """
    ends: list[int] = []
    end_positions: list[int] = []
    before: list[int] = []
    for position, time in enumerate(times):
        place = bisect_left(ends, time)
        before.append(end_positions[place - 1] if place else -1)
        ends[place : place + 1] = [time]
        end_positions[place : place + 1] = [position]
    chosen = []
    position = end_positions[-1] if end_positions else -1
    while position >= 0:
        chosen.append(position)
        position = before[position]
    return chosen[::-1]
