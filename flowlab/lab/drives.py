"""What there is to know of a study's drives before anything is trained: which can be used, and what each lacks."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from flowlab.core.errors import DriveError, LeftOutDriveError
from flowlab.core.plugins import Source
from flowlab.core.progress import SILENT, Progress
from flowlab.core.types import Drive, Split
from flowlab.drives.blocks import block_suffix, parent_of
from flowlab.drives.faults import drive_reasons
from flowlab.drives.splits import choose_split
from flowlab.study.split import SplitSettings

MOST_LEFT_OUT = 0.5
"""The share of a source's drives that may be left out one by one."""


class RefusedDrive(NamedTuple):
    """A drive that cannot be used, and why. A split counts it by its name, so that no other drive takes its place."""

    drive_id: str
    error: DriveError
    driver: str = ""
    track: str = ""
    task: str = ""


def load_drives(
    source: Source, drive_ids: Sequence[str] | None = None, progress: Progress = SILENT
) -> list[Drive | RefusedDrive]:
    """Those drives of the source, or every one in order of its ids."""
    names = source.drive_ids() if drive_ids is None else drive_ids
    drives: list[Drive | RefusedDrive] = []
    with progress.task("look at the drives", len(names), "drives") as task:
        for drive_id in names:
            try:
                drives.append(source.load(drive_id))
            except DriveError as error:
                drives.append(RefusedDrive(drive_id, error))
            task.advance()
    return drives


def split_loaded(drives: list[Drive | RefusedDrive], settings: SplitSettings, progress: Progress = SILENT) -> Split:
    """The split of those drives; tells what was left out of those that it uses, and which drives are left out whole.

    Raises the DriveError of the first refused drive that trains or validates, unless it may be left out.
    """
    split = without_left_out(choose_split(drives, named_blocks(drives, settings)), drives, progress)
    _require_usable([drive for drive in drives if drive.drive_id in {*split.train, *split.val}], progress)
    return split


def usable_drives(drives: list[Drive | RefusedDrive], progress: Progress = SILENT) -> list[Drive]:
    """The drives without those that may be left out, whatever a split does with them. Tells and raises as for one."""
    left_out = _left_out(drives)
    for name, error in left_out.items():
        progress.say(f"drive {name} is left out: {error}")
    return _require_usable([drive for drive in drives if drive.drive_id not in left_out], progress)


def _require_usable(used: Sequence[Drive | RefusedDrive], progress: Progress) -> list[Drive]:
    """The same drives, with what was left out of them told. Raises the DriveError of the first that is refused."""
    refused = [drive for drive in used if isinstance(drive, RefusedDrive)]
    if refused:
        more = f" {len(refused) - 1} more cannot be used either: flowlab drives show." if len(refused) > 1 else ""
        raise type(refused[0].error)(f"{refused[0].error}{more}")
    drives = [drive for drive in used if isinstance(drive, Drive)]
    counts: dict[str, int] = {}
    for drive in drives:
        for note in drive.notes:
            progress.say(f"note: drive {drive.drive_id}: {note}")
        for reason in drive_reasons(drive):
            counts[reason.text] = counts.get(reason.text, 0) + reason.rows
    if counts:
        told = ", ".join(f"{text}: {rows}" for text, rows in sorted(counts.items(), key=lambda item: -item[1]))
        progress.say(
            f"{sum(counts.values())} rows of the recordings cannot be used ({told}); flowlab drives show names them"
        )
    return drives


def named_blocks(drives: list[Drive | RefusedDrive], settings: SplitSettings) -> SplitSettings:
    """`settings` with block 0 for each named block of a drive that cannot be read: it is the only one that is there."""
    there = {drive.drive_id for drive in drives}
    refused = {drive.drive_id for drive in drives if isinstance(drive, RefusedDrive)}

    def as_there(names: tuple[str, ...]) -> tuple[str, ...]:
        firsts = {name: f"{parent_of(name)}{block_suffix(0)}" for name in names if name not in there}
        return tuple(dict.fromkeys(first if (first := firsts.get(name)) in refused else name for name in names))

    if settings.blocks is None:
        return settings
    val = None if settings.val is None else as_there(settings.val)
    return settings.model_copy(update={"val": val, "without": as_there(settings.without)})


def without_left_out(split: Split, drives: list[Drive | RefusedDrive], progress: Progress = SILENT) -> Split:
    """The split without the drives that may be left out; each is named.

    Raises DriveError where these are most of what there is: then it is a fault of the whole, or a side has none left.
    """
    left_out = _left_out(drives)
    kept = {side: tuple(name for name in names if name not in left_out) for side, names in split.to_json().items()}
    for side, names in split.to_json().items():
        for name in names:
            if name in left_out:
                progress.say(f"drive {name} is left out of {side}: {left_out[name]}")
        if not kept[side]:
            raise DriveError(
                f"none of the {len(names)} drives of {side} can be used. The first: {left_out[names[0]]} "
                f"Choose others in [split]."
            )
    return Split(**kept)


def _left_out(drives: Sequence[Drive | RefusedDrive]) -> dict[str, LeftOutDriveError]:
    """The same as `left_out_drives`. Raises DriveError where these are most of the drives."""
    left_out = left_out_drives(drives)
    if len(left_out) > MOST_LEFT_OUT * len(drives):
        reasons = Counter(error.reason for error in left_out.values()).most_common()
        told = ", ".join(f"{reason}: {number}" for reason, number in reasons)
        first = next(iter(left_out.values()))
        raise DriveError(f"{len(left_out)} of {len(drives)} drives cannot be used ({told}). The first: {first}")
    return left_out


def left_out_drives(drives: Sequence[Drive | RefusedDrive]) -> dict[str, LeftOutDriveError]:
    """The drives that may be left out, with the reason why each of them cannot be used."""
    broken = {drive.drive_id: drive.error for drive in drives if isinstance(drive, RefusedDrive)}
    return {name: error for name, error in broken.items() if isinstance(error, LeftOutDriveError)}
