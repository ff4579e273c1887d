"""`flowlab init`: looks at recordings and writes a study that fits them."""

import shutil
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowlab.core.errors import DriveError, StudyError, unknown_name
from flowlab.core.progress import SILENT, Progress
from flowlab.core.types import Drive
from flowlab.core.vocabulary import DEFAULT_CHANNEL
from flowlab.drives.blocks import block_suffix, cut_blocks, cut_out, parent_of
from flowlab.drives.source import open_source
from flowlab.drives.splits import LEAST_VAL, MOST_VAL, Recorded, choose_blocks, choose_val_names, is_fitting
from flowlab.drives.windows import cut_windows
from flowlab.lab.first_choices import choose_channels, choose_windows
from flowlab.lab.first_columns import Columns, as_given, as_promised, from_study, udacity_columns
from flowlab.lab.first_recipe import fitted
from flowlab.lab.first_slices import Sides
from flowlab.lab.lerobot_columns import lerobot_columns
from flowlab.lab.recordings_seen import Found, look_at, narrowed, seen_of
from flowlab.lab.survey import channels_of
from flowlab.study.draft import SIMULATED
from flowlab.study.settings import WindowSettings
from flowlab.study.split import SplitSettings
from flowlab.study.template import draft_study, require_free, write_study
from flowlab.study.template_tables import MOST_LISTED, counted, drives_table, listed, said_of, split_table

COLUMNS = {"lerobot": lerobot_columns, "udacity": udacity_columns}
SOURCES = (*SIMULATED, *COLUMNS)
MEMOS = "caches"
FEW_BLOCKS = 5
"""Fewer stretches of one recording are not split: there would be next to nothing to validate on."""


class Halves(NamedTuple):
    """A split, and the drives (or the blocks of one) that train and that validate."""

    settings: SplitSettings
    train: list[Drive]
    val: list[Drive]


def start_study(
    folder: Path,
    source: str,
    root: str | None,
    name: str | None = None,
    progress: Progress = SILENT,
) -> Path:
    """The path of a new experiments.toml in `folder`, which is made if need be; the study in it is checked first.

    `root` is where recordings lie, relative to the current folder as any path on a command line. `name` is the study's,
    by default its folder's. Whatever is raised, nothing is written: UnknownNameError for an unknown source, StudyError
    if there is a study already or an argument does not fit, MissingError if `root` holds no drives, DriveError for
    drives that no study can be made of.
    """
    require_free(folder)
    if source not in SOURCES:
        raise unknown_name("source", source, SOURCES)
    if source in SIMULATED:
        if root is not None:
            raise StudyError(f"source {source!r} makes its own drives and reads no recordings. Leave --root out.")
        return write_study(folder, draft_study(folder, SIMULATED[source], name)[0])
    if root is None:
        raise StudyError(f"source {source!r} reads recordings. Say where they lie: --root PATH.")
    there = as_given(root)
    columns = COLUMNS[source](there)
    with tempfile.TemporaryDirectory() as scratch:
        found = look_at(open_source(columns.settings, Path(scratch)), progress)
        text = _text(folder, from_study(folder, there), columns, found, name, progress)
        path = write_study(folder, text)
        with suppress(OSError):  # what was read need not be read again; without it, it is
            shutil.copytree(Path(scratch) / MEMOS, folder / MEMOS, dirs_exist_ok=True)
    return path


def has_gpu() -> bool:
    """Whether runs have a CUDA device here."""
    import torch

    return torch.cuda.is_available()


def _text(folder: Path, root: str, columns: Columns, found: Found, name: str | None, progress: Progress) -> str:
    """The study's file, checked; tells on the way what was found and how it is split."""
    columns, names = as_promised(columns, channels_of(found.drives))
    found = narrowed(found, {name: names.get(name, name) for name in found.channels})
    found = narrowed(found, {name: name for name in choose_channels(found.action, channels_of(found.drives))})
    seen = seen_of(found)
    progress.say(f"found {seen.in_words()}")
    for told in columns.warnings:
        progress.say(f"WARNING: {told}")
    _say_unusable(found, progress)
    if all(one.low == one.high for one in seen.channels):
        _tell_still(found, progress)
    windows = choose_windows(seen.usual_hz, seen.gap_p95_s)
    halves = _halves(found, windows)
    sides = Sides(found.channels, _chunks(halves.train, windows), _chunks(halves.val, windows))
    share = _say_split(halves, sides, progress)
    draft = replace(
        fitted(columns, found, seen, sides, windows, has_gpu()),
        drives=drives_table(columns.head, columns.table(root, found.channels), seen),
        split=split_table(halves.settings, share),
    )
    text, _ = draft_study(folder, draft, name)
    return text


def _say_unusable(found: Found, progress: Progress) -> None:
    reasons = [f"left out by split.without: {said_of(name, why)}" for name, why in found.barred.items()]
    reasons += [said_of(name, why) for name, why in found.left_out.items()]
    for reason in reasons[:MOST_LISTED]:
        progress.say(reason)
    if len(reasons) > MOST_LISTED:
        progress.say(f"and {len(reasons) - MOST_LISTED:,} more that cannot be used: flowlab drives show")


def _tell_still(found: Found, progress: Progress) -> None:
    """Says loudly that no action ever changes; raises DriveError where there is no unit to give margins in."""
    still = f"no action ever changes in {counted(len(found.drives), 'drive')}: there is nothing to learn"
    if DEFAULT_CHANNEL not in found.channels:
        raise DriveError(f"{still}. Give --root another data set.")
    progress.say(f"WARNING: {still}")


def _halves(found: Found, windows: WindowSettings) -> Halves:
    """Whole drives on one side each; of one drive alone blocks, or if it is too short all of it on both sides.

    Raises DriveError where no drive is long enough for one window.
    """
    num = {drive.drive_id: len(_chunks([drive], windows)) for drive in found.drives}
    usable = [drive for drive in found.drives if num[drive.drive_id]]
    if not usable:
        longest = max(found.drives, key=len)
        raise DriveError(
            f"no drive is long enough: a window is {windows.history + windows.horizon} frames without a step over "
            f"{windows.max_gap_s:g} s, and the longest drive, {longest.drive_id!r}, has {len(longest)} frames. Record "
            f"longer drives."
        )
    if len(usable) > 1:
        val = choose_val_names(
            [Recorded(one.drive_id, one.driver, one.track, one.task, num[one.drive_id]) for one in usable]
        )
        settings = SplitSettings(val=tuple(val), without=tuple(sorted(found.barred)))
        return Halves(
            settings,
            [drive for drive in usable if drive.drive_id not in val],
            [drive for drive in usable if drive.drive_id in val],
        )
    return _one_recording(found, usable[0], windows)


def _one_recording(found: Found, drive: Drive, windows: WindowSettings) -> Halves:
    """The blocks of the only drive that can be used; whatever else is there is left out."""
    others = tuple(sorted({*found.barred, *found.left_out, *(one.drive_id for one in found.drives)} - {drive.drive_id}))
    elapsed_us = np.maximum(np.diff(drive.time_us), 0)
    blocks, suffixes = choose_blocks(float(elapsed_us.sum()) / 1e6)
    names = {f"{drive.drive_id}{block_suffix(one.number)}": one for one in cut_blocks(drive.time_us, blocks)}
    parts = {name: cut_out(drive, one, name) for name, one in names.items()}
    val = [name for name in (f"{drive.drive_id}{suffix}" for suffix in suffixes) if name in parts]
    sides = [part for name, part in parts.items() if name not in val], [parts[name] for name in val]
    if len(parts) < FEW_BLOCKS or not all(len(_chunks(side, windows)) for side in sides):
        return Halves(SplitSettings(scale="overfit", without=others), [drive], [drive])
    without = tuple(f"{name}{block_suffix(0)}" for name in others)
    return Halves(SplitSettings(blocks=blocks, val=tuple(val), without=without), *sides)


def _chunks(drives: list[Drive], windows: WindowSettings) -> NDArray[np.float32]:
    """The true chunks (N, H, A) of those drives' windows that are numbers."""
    cut = [drive.action[cut_windows(drive, windows).chunk] for drive in drives]
    chunks = np.concatenate(cut)
    return chunks[np.isfinite(chunks).all(axis=(1, 2))]


def _say_split(halves: Halves, sides: Sides, progress: Progress) -> float | None:
    """The share of the windows that validate, None where they also train; tells it, and what it is worth."""
    settings = halves.settings
    if settings.scale == "overfit":
        progress.say(
            f"WARNING: train = validation. {halves.train[0].drive_id!r} is the only drive that can be used, and too "
            f"short to be split: the study says how well a policy learns it by heart, and nothing else. Record more."
        )
        return None
    total = len(sides.val) + len(sides.train)
    share = len(sides.val) / total
    names = listed(settings.val or ())
    progress.say(f"validation: {share:.0%} of the frames ({len(sides.val):,} of {total:,}), {names}")
    if settings.blocks is not None:
        alone = parent_of(halves.train[0].drive_id)
        progress.say(
            f"WARNING: {alone!r} is one recording alone. Train and validation are stretches of it "
            f"({settings.blocks.gap_s:g} s apart), neighbours in time, place and light: a verdict says little beyond "
            f"it. Record more drives, and let whole ones validate."
        )
    elif not is_fitting(len(sides.val), total):
        progress.say(f"the drives' lengths allow no share between {float(LEAST_VAL):.0%} and {float(MOST_VAL):.0%}")
    return share
