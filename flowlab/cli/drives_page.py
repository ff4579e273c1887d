"""What `flowlab drives show` prints: tables that fit a terminal of 80 columns, however long the drives' names are."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from flowlab.cli.screen import out, plain, say, show, table
from flowlab.lab.drive_facts import Described
from flowlab.lab.survey import ChannelFacts

MOST_DRIVES = 40
"""Of more than so many, the first and the last few are shown."""
SHOWN_AT_ENDS = 6
MOST_TOLD = 8
"""Lines of one kind, and strata of one kind."""
SHORTEST_NAME, LONGEST_CHANNEL, LONGEST_STRATUM = 12, 28, 32
BETWEEN = 3
"""Columns of the terminal between two columns of a table."""

Record = dict[str, Any]


def show_drives(study: str, described: Described) -> None:
    """All of it: tables to stdout, and what there is to say of single drives to stderr."""
    drives, screen = described.drives, out()
    sides = _by_side(drives)
    shown = drives if len(drives) <= MOST_DRIVES else [*drives[:SHOWN_AT_ENDS], *drives[-SHOWN_AT_ENDS:]]
    columns, rows = _drive_table(shown, screen.width)
    screen.print(table(columns, rows, f"drives of study {study}", RIGHT))
    if len(shown) < len(drives):
        say(f"{len(drives) - len(shown)} drives between these are not shown; flowlab drives show --json has all")
    screen.print(table(["side", "drives", "frames", "of all", "seconds", "windows"], _side_rows(sides), "", RIGHT))
    if described.channels:
        screen.print(table(CHANNEL_COLUMNS, [_channel_row(channel) for channel in described.channels], "", RIGHT))
    in_use = {side: own for side, own in sides.items() if side in ("train", "val", "train + val")}
    if in_use and drives[0]["slices"]:
        columns = ["windows in slice", *(column for side in in_use for column in (side, "of it"))]
        screen.print(table(columns, _slice_rows(in_use), "", RIGHT))
    strata = [row for key in ("driver", "track", "task") for row in _stratum_rows(key, drives, list(sides))]
    if strata:
        screen.print(table(["drives by", "", *sides], strata))
    reasons = _reason_rows(drives)
    if reasons:
        screen.print(table(["rows left out, since", "rows", "drives", "the first in"], reasons))
    _tell_of_drives(drives, str(described.error or ""))
    _tell_of_windows(drives, "{} + {} frames".format(*described.window))


CHANNEL_COLUMNS = ["channel", "low", "median", "high", "rests at", "at rest"]
RIGHT = {"seconds", "Hz", "p95 s", "of all", "of it", *CHANNEL_COLUMNS[1:]}
"""Columns of numbers that are texts already."""


def shortened(text: str, width: int) -> str:
    """`text`, or its beginning and its end where it is longer than `width`: "episode...0012#003"."""
    text = plain(text)
    if len(text) <= width:
        return text
    end = (width - 3) // 2
    return f"{text[: width - 3 - end]}...{text[-end:]}"


def _side(drive: Record) -> str:
    return "left out" if drive["left_out"] is not None and drive["side"] != "unused" else drive["side"]


def _by_side(drives: list[Record]) -> dict[str, list[Record]]:
    """The drives of each side that has some; those that train on both sides by name are one of their own."""
    sides: dict[str, list[Record]] = {side: [] for side in ("train", "val", "train + val", "unused", "left out")}
    for drive in drives:
        sides[_side(drive)].append(drive)
    return {side: own for side, own in sides.items() if own}


def _drive_table(drives: list[Record], width: int) -> tuple[list[str], list[list[Any]]]:
    """The columns and rows of the table of drives, their names shortened so that it fits `width`."""
    columns = ["side", "frames", "seconds", "Hz", "p95 s", "windows"]
    facts: list[list[Any]] = [
        [
            _side(drive),
            drive["frames"],
            f"{drive['seconds']:.1f}",
            _number(drive["hz"], ".2f"),
            _number(drive["gap_p95_s"], ".3f"),
            drive["windows"],
        ]
        for drive in drives
    ]
    if any(drive["skipped"] for drive in drives):
        columns.append("left out")
        facts = [[*row, len(drive["skipped"])] for row, drive in zip(facts, drives, strict=True)]
    widths = [max(len(show(cell)) for cell in cells) for cells in zip(columns, *facts, strict=True)]
    room = max(SHORTEST_NAME, width - 1 - sum(BETWEEN + one for one in widths) - 1)
    rows = [[shortened(drive["drive_id"], room), *row] for row, drive in zip(facts, drives, strict=True)]
    return ["drive", *columns], rows


def _number(value: float | None, form: str) -> str | None:
    return None if value is None else format(value, form)


def _side_rows(sides: dict[str, list[Record]]) -> list[list[Any]]:
    total = sum(_sum("frames", own) for own in sides.values())
    return [
        [
            side,
            len(own),
            _sum("frames", own),
            _share(_sum("frames", own), total),
            f"{_sum('seconds', own):.1f}",
            _sum("windows", own),
        ]
        for side, own in sides.items()
    ]


def _sum(key: str, drives: Iterable[Record]) -> Any:
    return sum(drive[key] for drive in drives)


def _share(part: int, of: int) -> str:
    return f"{part / of:.1%}" if of else ""


def _channel_row(channel: ChannelFacts) -> list[str]:
    values = (channel.low, channel.median, channel.high, channel.rest)
    return [
        shortened(channel.name, LONGEST_CHANNEL),
        *(f"{value:.4g}" for value in values),
        f"{channel.rest_share:.1%}",
    ]


def _slice_rows(sides: dict[str, list[Record]]) -> list[list[Any]]:
    """How many windows of each side are in each slice, and what share of the side's windows that is."""
    names = next(iter(sides.values()))[0]["slices"]
    rows = []
    for name in names:
        row: list[Any] = [name]
        for own in sides.values():
            num = sum(drive["slices"][name] for drive in own)
            row += [num, _share(num, _sum("windows", own))]
        rows.append(row)
    return rows


def _stratum_rows(key: str, drives: list[Record], sides: list[str]) -> list[list[Any]]:
    """How many drives of each driver (track, task) are on each side; nothing if no drive says its own."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for drive in drives:
        counts[drive[key]][_side(drive)] += 1
    if set(counts) == {""}:
        return []
    names = sorted(counts, key=lambda name: (-counts[name].total(), name))
    shown, rest = (names, []) if len(names) <= MOST_TOLD + 1 else (names[:MOST_TOLD], names[MOST_TOLD:])
    rows = [[key, shortened(name, LONGEST_STRATUM), *(counts[name][side] for side in sides)] for name in shown]
    if rest:
        others = sum((counts[name] for name in rest), Counter[str]())
        rows.append([key, f"({len(rest)} more)", *(others[side] for side in sides)])
    return rows


def _reason_rows(drives: list[Record]) -> list[list[Any]]:
    """Each reason for which rows are left out, the most frequent first."""
    rows: Counter[str] = Counter()
    names = defaultdict(list)
    for drive in drives:
        for reason in drive["reasons"]:
            rows[reason["reason"]] += reason["rows"]
            names[reason["reason"]].append(drive["drive_id"])
    return [
        [reason, num, len(names[reason]), shortened(names[reason][0], SHORTEST_NAME)]
        for reason, num in rows.most_common()
    ]


def _tell_of_drives(drives: list[Record], error: str) -> None:
    """What was left out of single drives, what else there is to say of them, and which cannot be used; but what the
    command ends with is said there.
    """
    sides = {drive["drive_id"]: drive["side"] for drive in drives}
    _tell([line for drive in drives for line in _lines_of(drive, sides)], len(drives))
    left_out = Counter(drive["left_out"] for drive in drives if drive["left_out"] is not None)
    if left_out:
        told = ", ".join(f"{reason}: {num}" for reason, num in left_out.most_common())
        say(f"{left_out.total()} of {len(drives)} drives are left out ({told})")
    refused = [drive for drive in drives if drive["refused"] and drive["refused"] not in error]
    _tell([f"{drive['drive_id']}: {drive['refused']}" for drive in refused], len(drives))


def _tell_of_windows(drives: list[Record], window: str) -> None:
    """Which drives that can be used are too short or too broken for a window, or that it is all of a side."""
    short = []
    for side in ("train", "val"):
        own = [drive for drive in drives if side in drive["side"].split(" + ") and not drive["refused"]]
        none = [drive for drive in own if drive["windows"] == 0]
        if none and len(none) == len(own):
            say(f"no drive of {side} has a window of {window}: a build of the cache refuses that")
        else:
            short += [drive["drive_id"] for drive in none if drive["drive_id"] not in short]
    _tell([f"{name}: has no window of {window}" for name in short], len(drives))


def _tell(lines: list[str], num_drives: int) -> None:
    shown = lines if num_drives <= MOST_DRIVES else lines[:MOST_TOLD]
    for line in shown:
        say(line)
    if len(shown) < len(lines):
        say(f"... and {len(lines) - len(shown)} more such lines; flowlab drives show --json has all")


def _lines_of(drive: Record, sides: dict[str, str]) -> list[str]:
    """What there is to say of a drive that can be used, given the side of each."""
    name = drive["drive_id"]
    lines = [
        f"{name}: {reason['rows']} of {reason['of']} rows cannot be used, {reason['reason']}; the first is "
        f"{reason['first']}"
        for reason in drive["reasons"]
    ]
    lines += [f"{name}: {note}" for note in drive["notes"]]
    later = [other for other in drive["same_as"] if other > name]
    if later:
        lines.append(f"{name}: the same recording, with identical content, is there as {', '.join(later)}")
    if drive["side"] == "val":
        trains = [other for other in drive["same_as"] if "train" in sides[other].split(" + ")]
        if trains:
            lines.append(f"{name} validates and trains as {', '.join(trains)}: a build of the cache refuses that")
    return lines
