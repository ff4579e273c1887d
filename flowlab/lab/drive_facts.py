"""What `flowlab drives show` tells of a study's drives: how long each is, its side, its faults, what channels do."""

from collections import defaultdict
from typing import Any, NamedTuple

from flowlab.core.errors import DriveError, LeftOutDriveError
from flowlab.core.types import Drive, Split
from flowlab.core.vocabulary import OVERALL
from flowlab.drives.faults import drive_reasons
from flowlab.drives.source import open_source
from flowlab.drives.splits import choose_split
from flowlab.drives.windows import cut_windows
from flowlab.evaluate.slices import frame_masks
from flowlab.lab.drives import RefusedDrive, load_drives, named_blocks, without_left_out
from flowlab.lab.survey import ChannelFacts, channels_of, length_of
from flowlab.study.settings import WindowSettings
from flowlab.study.slices import SliceSettings, slices_for
from flowlab.study.study import Study

UNUSED = "unused"


class Described(NamedTuple):
    """Drives of a study, and whether they can be used."""

    drives: list[dict[str, Any]]  # one record each
    channels: list[ChannelFacts]  # over all drives that can be read; none if there is no frame
    error: DriveError | None  # why a cache cannot be built from them
    window: tuple[int, int]  # frames of its history and of its chunk


def describe_drives(study: Study) -> Described:
    """The drives of a study.

    A record has length, rate, strata, side of the split, windows and their slices, channels, rows left out. A drive
    that cannot be used has 0 frames and says why in `refused`, and in `left_out`, shortly, if the others do without it.
    `same_as` names drives of identical content.
    """
    source = open_source(study.file.drives, study.root, study.file.split.blocks)
    drives = load_drives(source)
    split = choose_split(drives, named_blocks(drives, study.file.split))
    digests = {drive.drive_id: source.digest(drive.drive_id) for drive in drives if isinstance(drive, Drive)}
    names_of = defaultdict(list)
    for name, digest in digests.items():
        names_of[digest].append(name)
    slices = slices_for(study.file.slices, source.channels)
    records = []
    for drive in drives:
        of = {"driver": drive.driver, "track": drive.track, "task": drive.task}
        content = (
            _nothing(drive, slices) if isinstance(drive, RefusedDrive) else _content(drive, study.file.windows, slices)
        )
        same = names_of.get(digests.get(drive.drive_id, ""), [])
        others = [name for name in same if name != drive.drive_id]
        records.append(
            {"drive_id": drive.drive_id, "side": _side(drive.drive_id, split)} | of | content | {"same_as": others}
        )
    readable = [drive for drive in drives if isinstance(drive, Drive) and len(drive)]
    window = study.file.windows.history, study.file.windows.horizon
    return Described(records, channels_of(readable) if readable else [], _why_unusable(split, drives), window)


def _side(drive_id: str, split: Split) -> str:
    return " + ".join(side for side, names in split.to_json().items() if drive_id in names) or UNUSED


def _why_unusable(split: Split, drives: list[Drive | RefusedDrive]) -> DriveError | None:
    """What a build of the cache would refuse these drives for."""
    try:
        used = without_left_out(split, drives)
    except DriveError as error:
        return error
    in_use = {*used.train, *used.val}
    refused = [drive for drive in drives if isinstance(drive, RefusedDrive) and drive.drive_id in in_use]
    if not refused:
        return None
    others = ", ".join(drive.drive_id for drive in refused[1:])
    return DriveError(f"{refused[0].error}{f' Nor can be used: {others}.' if others else ''}")


def _nothing(drive: RefusedDrive, slices: dict[str, SliceSettings]) -> dict[str, Any]:
    left_out = drive.error.reason if isinstance(drive.error, LeftOutDriveError) else None
    in_frames = {name: 0 for name, settings in slices.items() if settings.slots != "each"}
    return {
        "frames": 0,
        "seconds": 0.0,
        "hz": None,
        "gap_p95_s": None,
        "windows": 0,
        "slices": in_frames,
        "channels": {},
        "skipped": [],
        "reasons": [],
        "notes": [],
        "refused": str(drive.error),
        "left_out": left_out,
    }


def _content(drive: Drive, windows: WindowSettings, slices: dict[str, SliceSettings]) -> dict[str, Any]:
    cut = cut_windows(drive, windows)
    masks = frame_masks(drive.action[cut.chunk], drive.channels, slices)
    length = length_of(drive)
    channels = channels_of([drive]) if len(drive) else []
    return {
        "frames": length.frames,
        "seconds": round(length.seconds or 0.0, 1),
        "hz": None if length.hz is None else round(length.hz, 2),
        "gap_p95_s": None if length.gap_p95_s is None else round(length.gap_p95_s, 3),
        "windows": len(cut.chunk),
        "slices": {name: int(mask.sum()) for name, mask in masks.items() if name != OVERALL},
        "channels": {
            one.name: {key: value for key, value in one._asdict().items() if key != "name"} for one in channels
        },
        "skipped": [str(one) for one in drive.skipped],
        "reasons": [
            {"reason": reason.text, "rows": reason.rows, "of": reason.of, "first": str(reason.first)}
            for reason in drive_reasons(drive)
        ],
        "notes": list(drive.notes),
        "refused": None,
        "left_out": None,
    }
