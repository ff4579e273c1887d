"""What there is to know of a study's drives before anything is trained."""

from typing import Any

from flowlab.core.vocabulary import OVERALL
from flowlab.drives.source import open_source
from flowlab.drives.splits import choose_split
from flowlab.drives.windows import cut_windows
from flowlab.evaluate.slices import frame_masks
from flowlab.study.slices import slices_for
from flowlab.study.study import Study


def describe_drives(study: Study) -> list[dict[str, Any]]:
    """One record per drive: length, rate, driver, track, side of the split, windows and their slices, rows left out."""
    source = open_source(study.file.drives, study.root)
    drives = [source.load(drive_id) for drive_id in source.drive_ids()]
    split = choose_split(drives, study.file.split)
    records = []
    for drive in drives:
        windows = cut_windows(drive, study.file.windows)
        slices = slices_for(study.file.slices, drive.channels)
        masks = frame_masks(drive.action[windows.chunk], drive.channels, slices)
        seconds = float(drive.time_us[-1] - drive.time_us[0]) / 1e6 if len(drive) > 1 else 0.0
        sides = [side for side, ids in (("train", split.train), ("val", split.val)) if drive.drive_id in ids]
        records.append(
            {
                "drive_id": drive.drive_id,
                "side": " + ".join(sides) or "unused",
                "driver": drive.driver,
                "track": drive.track,
                "frames": len(drive),
                "seconds": round(seconds, 1),
                "hz": round((len(drive) - 1) / seconds, 1) if seconds else None,
                "windows": len(windows.chunk),
                "slices": {name: int(mask.sum()) for name, mask in masks.items() if name != OVERALL},
                "skipped": list(drive.skipped),
            }
        )
    return records
