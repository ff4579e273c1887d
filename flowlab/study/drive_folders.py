"""Finds the folders of drives below some roots, and gives each drive an id that no other one has."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from flowlab.core.errors import DriveError

IMAGES = "IMG"
ROOT_ID = "."
"""The id of a root that is a drive itself, where a folder below it has the root's own name."""


def find_drive_folders(roots: Iterable[Path], file_name: str) -> dict[str, Path]:
    """The folder of each drive by its id: its path below the root, or the root's own name if the root is the drive.

    Links to folders are followed. Raises DriveError for two folders that would have one id, and for one folder that is
    reached twice: its recording could train under one name and validate under the other.
    """
    folders: dict[str, Path] = {}
    ids: dict[Path, str] = {}
    for root in roots:
        if not root.is_dir():
            raise DriveError(f"drives.roots has {root}, which is not a folder. Set it to where the recordings are.")
        found = drives_below(root, file_name)
        if not found:
            raise DriveError(f"no {file_name} anywhere below {root}. Set drives.roots to where the recordings are.")
        for drive_id, folder in found.items():
            if drive_id in folders:
                raise DriveError(
                    f"{folders[drive_id]} and {folder} would both be drive {drive_id!r}. Rename one of the folders, or "
                    f"name one of them in drives.roots."
                )
            other = ids.setdefault(folder.resolve(), drive_id)
            if other != drive_id:
                raise DriveError(
                    f"{folder} is found twice, as {min(other, drive_id)!r} and {max(other, drive_id)!r}. Name folders "
                    f"in drives.roots that do not hold each other, and remove links to recordings that are there."
                )
            folders[drive_id] = folder
    return folders


def drives_below(root: Path, file_name: str) -> dict[str, Path]:
    """The same below one folder, which may hold none."""
    found = {folder.relative_to(root).as_posix(): folder for folder in _walk(root, file_name)}
    own_name = root.resolve().name
    if ROOT_ID in found and own_name and own_name not in found:
        found[own_name] = found.pop(ROOT_ID)
    return found


def _walk(root: Path, file_name: str) -> Iterator[Path]:
    """The folders that hold such a file, `root` and all below it, also behind links. Images are not looked through.

    A link to a folder that the way to it leads through is left alone: what is behind it is found there already.
    """
    real_above: dict[str, frozenset[Path]] = {str(root): frozenset()}
    for place, below, files in os.walk(root, onerror=_refuse, followlinks=True):
        folder = Path(place)
        _require_readable_name(folder)
        _require_whole_links(folder, [name for name in files if name != file_name])
        on_the_way = real_above.pop(place) | {folder.resolve()}
        is_drive = file_name in files
        if is_drive:
            yield folder
        below[:] = sorted(
            name for name in below if not (is_drive and name == IMAGES) and (folder / name).resolve() not in on_the_way
        )
        real_above |= dict.fromkeys((os.path.join(place, name) for name in below), on_the_way)  # noqa: PTH118


def _require_whole_links(folder: Path, names: list[str]) -> None:
    for link in (folder / name for name in names):
        if link.is_symlink() and not link.exists():
            raise DriveError(f"{link} is a link to {link.readlink()}, which is not there. Mend the link, or remove it.")


def _require_readable_name(folder: Path) -> None:
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise DriveError(f"the name of folder {os.fsencode(folder)!r} is not UTF-8 text. Rename it.") from None


def _refuse(error: OSError) -> None:
    raise DriveError(
        f"{error.filename} cannot be looked into: {error.strerror}. Make it readable, or move it away."
    ) from None
