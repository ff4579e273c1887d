"""Looks at recordings that a first study is to be written for: which can be used, and what they hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flowlab.core.errors import DriveError
from flowlab.core.plugins import Source
from flowlab.core.progress import Progress
from flowlab.core.types import Drive
from flowlab.lab.drives import MOST_LEFT_OUT, RefusedDrive, left_out_drives, load_drives
from flowlab.lab.survey import channels_of, length_of
from flowlab.study.template_tables import Seen, listed


@dataclass(frozen=True)
class Found:
    """The drives that can be used, in order of their ids. `barred` are others that would stop a build, with the reason;
    `left_out` those that are left out anyway.
    """

    drives: list[Drive]
    barred: dict[str, str]
    left_out: dict[str, str]

    @property
    def channels(self) -> tuple[str, ...]:
        """What all of them have."""
        return self.drives[0].channels

    @property
    def action(self) -> NDArray[np.float32]:
        """The actions (N, A) of all of them."""
        return np.concatenate([drive.action for drive in self.drives])


def look_at(source: Source, progress: Progress) -> Found:
    """What is there. A recording that is there twice counts once.

    Raises the DriveError of the first drive that cannot be used if those are most: it is then a fault of the whole.
    """
    loaded = load_drives(source, progress=progress)
    names = [drive.drive_id for drive in loaded]
    drives = [drive for drive in loaded if isinstance(drive, Drive) and len(drive)]
    errors = {drive.drive_id: drive.error for drive in loaded if isinstance(drive, RefusedDrive)}
    if len(errors) > MOST_LEFT_OUT * len(names):
        first = next(iter(errors.values()))
        most = f"{len(errors)} of {len(names)} drives cannot be used. The first: " if len(names) > 1 else ""
        raise DriveError(f"{most}{first}")
    if not drives:
        raise DriveError(f"none of the drives has a frame: {listed(names)}. Name another folder.")
    left_out = {name: str(error) for name, error in left_out_drives(loaded).items()}
    barred = {name: str(error) for name, error in errors.items() if name not in left_out}
    twins = _twins(source, drives)
    return Found([drive for drive in drives if drive.drive_id not in twins], barred | twins, left_out)


def narrowed(found: Found, channels: Mapping[str, str]) -> Found:
    """The same with those channels alone, by what they are called and what they will be."""
    places = [found.channels.index(name) for name in channels]
    new = tuple(channels.values())
    return replace(
        found, drives=[replace(drive, channels=new, action=drive.action[:, places]) for drive in found.drives]
    )


def seen_of(found: Found) -> Seen:
    """The same for people."""
    lengths = [length_of(drive) for drive in found.drives]
    rates = [length.hz for length in lengths if length.hz is not None]
    steps = np.concatenate([np.diff(drive.time_us) for drive in found.drives]) / 1e6
    sizes = [drive.image_size for drive in found.drives if drive.image_size is not None]
    return Seen(
        drives={drive.drive_id: len(drive) for drive in found.drives},
        seconds=sum(length.seconds or 0.0 for length in lengths),
        hz=(min(rates), max(rates)) if rates else None,
        usual_hz=float(np.median(rates)) if rates else None,
        gap_p95_s=float(np.quantile(steps, 0.95)) if len(steps) else None,
        image_size=sizes[0] if sizes else None,
        channels=channels_of(found.drives),
        names={what: _names(found.drives, what) for what in ("driver", "track", "task")},
        unusable=found.barred | found.left_out,
    )


def _names(drives: Sequence[Drive], what: str) -> list[str]:
    return sorted({getattr(drive, what) for drive in drives} - {""})


def _twins(source: Source, drives: Sequence[Drive]) -> dict[str, str]:
    """The drives that hold the same recording as one before them, with that said."""
    first: dict[str, str] = {}
    twins = {}
    for drive in drives:
        same = first.setdefault(source.digest(drive.drive_id), drive.drive_id)
        if same != drive.drive_id:
            twins[drive.drive_id] = f"it holds the same recording as {same!r}"
    return twins
