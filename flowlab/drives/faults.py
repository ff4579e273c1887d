"""Counts the rows that a drive lacks, by reason, and refuses the drive whose rows fail too often for one of them.

Rows do not fail by chance alone. A log in degrees loses its turns, one that brakes below 0 loses its braking, and what
is left looks like a drive; so more than a small share for one reason is a fault of the recording and not of its rows.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from flowlab.core.errors import FaultyDriveError
from flowlab.core.types import Drive, Skipped


class Reason(NamedTuple):
    """All rows of a drive that fail for one reason."""

    text: str
    rows: int
    of: int
    first: Skipped

    def __str__(self) -> str:
        return f"{self.rows} of {self.of} rows ({self.rows / self.of:.2%}): {self.text}; the first is {self.first}"


def as_skipped(number: int, given: Skipped | str) -> Skipped:
    """A row that a source has left out. One that is a text gets a reason: the text, whatever numbers are in it."""
    if isinstance(given, Skipped):
        return given
    detail = re.sub(r"^row \d+: ", "", str(given))
    return Skipped(number, re.sub(r"\d+", "N", detail), detail)


def count_reasons(skipped: Iterable[Skipped], num_rows: int) -> list[Reason]:
    """The reasons of those rows, out of so many, the most frequent first."""
    groups: dict[str, list[Skipped]] = {}
    for one in skipped:
        groups.setdefault(one.reason, []).append(one)
    reasons = [Reason(text, len(rows), num_rows, rows[0]) for text, rows in groups.items()]
    return sorted(reasons, key=lambda reason: -reason.rows)


def drive_reasons(drive: Drive) -> list[Reason]:
    """Why rows of a drive are left out. `Skipped` rows that are in the drive as well are counted once."""
    skipped = [as_skipped(number, given) for number, given in enumerate(drive.skipped)]
    absent = {one.row for one in skipped} - set(drive.frame_index.tolist())
    return count_reasons(skipped, len(drive) + len(absent))


def require_sound(drive_id: str, skipped: Sequence[Skipped], num_rows: int, max_share: float) -> None:
    """Raises FaultyDriveError if more than `max_share` of a drive's rows fail for one reason.

    A single row is never too many, unless the share is 0: it says nothing of the others, however short the drive.
    """
    reasons = count_reasons(skipped, num_rows)
    allowed = max(1, max_share * num_rows) if max_share else 0
    if not reasons or reasons[0].rows <= allowed:
        return
    worst = reasons[0]
    values = [one.value for one in skipped if one.reason == worst.text and one.value is not None]
    seen = f" {_unit(min(values), max(values))}" if values else ""
    hint = f" {worst.first.hint}" if worst.first.hint else ""
    others = "".join(f" Also, in {one.rows} rows: {one.text}." for one in reasons[1:3])
    raise FaultyDriveError(
        f"drive {drive_id!r} is refused, since {worst.rows} of its {num_rows} rows ({worst.rows / num_rows:.1%}, at "
        f"most {max_share:.3g} may) fail for one reason: {worst.text}.{seen}{hint} The first is {worst.first}.{others} "
        f"Mend the recording, name the drive in split.without, or raise drives.max_fault_share."
    )


def _unit(low: float, high: float) -> str:
    """What values out of a range were seen, and what they may be."""
    size = max(abs(low), abs(high))
    if high < 0 and size <= 1:
        guess = "as where braking is written as negative throttle"
    elif size <= 100:
        guess = "as in degrees or percent"
    else:
        guess = "as in another unit"
    return f"These rows have values from {low:g} to {high:g}, {guess}."
