"""Reads driving_log.csv of the Udacity simulator's recorder: what each row says, and why a row cannot be used."""

import csv
import io
import math
import re
from bisect import bisect_left
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from flowlab.core.errors import DriveError

FILE_NAME = "driving_log.csv"
COLUMNS = ("center", "left", "right", "steering", "throttle", "brake", "speed")
RANGES = {"steering": (-1.0, 1.0), "throttle": (0.0, 1.0), "brake": (0.0, 1.0), "speed": (-math.inf, math.inf)}
RANGE_SLACK = 1e-3
MPS_PER_MPH = 0.44704
TIME_STAMP = re.compile(r"_(\d{4})_(\d\d)_(\d\d)_(\d\d)_(\d\d)_(\d\d)_(\d{3})\.\w+$")


class LogRow(NamedTuple):
    """One usable row. `number` counts the file's rows of data from 0; `image` is a bare file name."""

    number: int
    image: str
    time_us: int
    steering: float
    gas: float
    brake: float
    speed_mps: float


def read_driving_log(path: Path) -> tuple[list[LogRow], dict[int, str]]:
    """The usable rows, and for each other row its number and what is wrong with it.

    With or without a header; a header may put the columns in another order. Raises DriveError if it is no such file.
    """
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
        lines = [line for line in csv.reader(io.StringIO(text), skipinitialspace=True) if any(map(str.strip, line))]
    except OSError as error:
        raise DriveError(f"{path} cannot be read: {error.strerror}.") from None
    except csv.Error as error:
        raise DriveError(f"{path} is not a csv file: {error}.") from None
    names = [cell.strip().lower() for cell in lines[0]] if lines else []
    columns = {name: place for place, name in enumerate(COLUMNS)}
    if "center" in names:
        lines = lines[1:]
        absent = [name for name in COLUMNS if name not in names and name not in ("left", "right")]
        if absent:
            raise DriveError(f"{path} has no column {absent[0]!r}; its header must name {', '.join(COLUMNS)}.")
        columns = {name: names.index(name) for name in COLUMNS if name in names}
    rows, faults = [], {}
    for number, line in enumerate(lines):
        row = _read_row(number, line, columns)
        if isinstance(row, str):
            faults[number] = row
        else:
            rows.append(row)
    return rows, faults


def _read_row(number: int, line: list[str], columns: dict[str, int]) -> LogRow | str:
    """The row, or what is wrong with it."""
    if len(line) <= max(columns.values()):
        return f"{len(line)} columns, expected {max(columns.values()) + 1}"
    values = {}
    for name, (low, high) in RANGES.items():
        text = line[columns[name]].strip()
        try:
            value = float(text)
        except ValueError:
            return f"{name} is {text!r}, expected a number"
        if not math.isfinite(value) or not low - RANGE_SLACK <= value <= high + RANGE_SLACK:
            return f"{name} is {text}, expected a finite number" + (
                "" if high == math.inf else f" in [{low:g}, {high:g}]"
            )
        values[name] = min(max(value, low), high)
    image = line[columns["center"]].replace("\\", "/").rpartition("/")[2].strip()
    time_us = read_time_us(image)
    if time_us is None:
        return f"{image!r} carries no time stamp"
    return LogRow(
        number,
        image,
        time_us,
        values["steering"],
        values["throttle"],
        values["brake"],
        values["speed"] * MPS_PER_MPH,
    )


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
