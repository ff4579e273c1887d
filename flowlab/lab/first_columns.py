"""Which columns of some recordings a first study reads: the keys of its table [drives]."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flowlab.core.errors import MissingError, StudyError
from flowlab.core.vocabulary import CHANNEL_RANGES
from flowlab.drives.driving_log import FILE_NAME
from flowlab.study.drive_folders import drives_below
from flowlab.study.settings import DrivesSettings, UdacityDrives
from flowlab.study.template import key_of, quoted
from flowlab.study.template_tables import Channel

RAW = "_raw"
"""Follows the name of a channel that has not the range which the name promises."""


@dataclass(frozen=True)
class Columns:
    """What is read. `settings` open the recordings where they are, with all channels that there are."""

    settings: DrivesSettings
    head: str  # the line [drives], with a comment
    keys: tuple[str, ...] = ()  # lines of TOML between the root and the channels
    has_images: bool = True
    channels: tuple[tuple[str, str], ...] | None = None  # (channel, its name in the data set); None where it is given
    warnings: tuple[str, ...] = ()

    def table(self, root: str, chosen: tuple[str, ...]) -> str:
        """The keys of [drives], for recordings that the study finds at `root`, with these channels."""
        lines = [f'source = "{self.settings.source}"', f"root = {quoted(root)}", *self.keys]
        if self.channels is not None:
            lines += ["", "[drives.channels]  # what this study calls it = what the data set calls it"]
            lines += [f"{key_of(name)} = {quoted(column)}" for name, column in self.channels if name in chosen]
            others = [f"#   {key_of(name)} = {quoted(column)}" for name, column in self.channels if name not in chosen]
            if others:
                lines += ["# These move less, and are not predicted. Move a line up to have one predicted:", *others]
        return "\n".join(lines) + "\n"


def as_given(root: str) -> Path:
    """The folder that `root` means on a command line.

    Raises StudyError if it names nothing, MissingError if it is no folder.
    """
    if not root.strip():
        raise StudyError(f"--root {root!r} names no folder. Give --root the folder that the recordings lie in.")
    there = Path(os.path.expanduser(root))  # noqa: PTH111 -- Path.expanduser raises for a user that does not exist
    if not there.is_dir():
        raise MissingError(f"no folder {there}. Give --root the folder that the recordings lie in.")
    return there


def from_study(folder: Path, root: Path) -> str:
    """`root` as the study in `folder` finds it: an absolute path as it is, a relative one from the study's folder."""
    if root.is_absolute():
        return str(root)
    try:
        return Path(os.path.relpath(root.resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive of a Windows machine
        return str(root.resolve())


def udacity_columns(root: Path) -> Columns:
    """Those of the Udacity simulator's recorder. Raises MissingError if there is no recording below `root`."""
    if not drives_below(root, FILE_NAME):
        raise MissingError(f"{root} holds no drives: no {FILE_NAME} anywhere below it. Give --root another folder.")
    return Columns(
        UdacityDrives(source="udacity", roots=(str(root.absolute()),)),
        "[drives]  # folders of the Udacity simulator's recorder; a relative root starts at this file's folder",
    )


def as_promised(columns: Columns, facts: Sequence[Channel]) -> tuple[Columns, dict[str, str]]:
    """The columns with steering, gas and brake called so if they have the range of such a channel; and which are."""
    if columns.channels is None:
        return columns, {}
    names = {}
    for one in facts:
        name = one.name.removesuffix(RAW)
        low, high = CHANNEL_RANGES.get(name, (0.0, 0.0))
        if one.name.endswith(RAW) and low <= one.low and one.high <= high:
            names[one.name] = name
    return replace(columns, channels=tuple((names.get(name, name), told) for name, told in columns.channels)), names
