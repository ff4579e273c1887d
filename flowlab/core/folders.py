"""Folders that are there whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flowlab.core.errors import BusyError, StudyError
from flowlab.core.locks import hold

CLAIM = ".flowlab-writes-here"
"""The file that says whose a half-written folder is; locked by the process that writes."""


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path` to write into; it takes the place of `path` at the end, or is gone after an error.

    Raises StudyError if there is something at `path` already, or none can be made; an empty folder is as good as none.
    """
    path = path.absolute()
    require_free(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
    except OSError as error:
        raise StudyError(f"{path} cannot be made: {error.strerror}. Name another folder.") from None
    with _becoming(path, partial):
        yield partial
    sync(path.parent)


@contextmanager
def claimed_folder(path: Path) -> Iterator[Path]:
    """The folder PATH.partial to write into; it takes the place of `path` at the end, or is gone after an error.

    For what takes long: what a process that was killed has left there is removed, and what anybody else put there is
    not. Raises StudyError if `path` is no new or empty folder, BusyError while another process writes to it.
    """
    path = path.resolve()
    require_free(path)
    partial = path.with_name(f"{path.name}.partial")
    claim = partial / CLAIM
    if partial.exists() and not claim.is_file() and (not partial.is_dir() or any(partial.iterdir())):
        raise StudyError(f"{partial} is in the way, and flowlab did not make it. Move it, or name another folder.")
    partial.mkdir(parents=True, exist_ok=True)
    with hold(claim, 0, BusyError(f"another flowlab process writes {path}. Wait for it, or name another folder.")):
        with _becoming(path, partial):
            for left in set(partial.iterdir()) - {claim}:
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            yield partial
        (path / CLAIM).unlink()
    sync(path.parent)


@contextmanager
def _becoming(path: Path, partial: Path) -> Iterator[None]:
    """What is written to `partial` meanwhile is `path` at the end, or gone after an error."""
    try:
        yield
        _sync_all(partial)
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def require_free(path: Path) -> None:
    """Raises StudyError unless `path` is an empty folder, or nothing yet."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        what = "is not empty" if path.is_dir() else "is a file"
        raise StudyError(f"{path} {what}; a folder is written that is new or empty. Name another one.")


def _sync_all(folder: Path) -> None:
    for file in sorted(folder.rglob("*")):
        sync(file)
    sync(folder)


def sync(path: Path) -> None:
    """Make a file's content, or a folder's list of names, survive a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
