"""Locks between processes: one flock on a file, held by a with statement and gone with the process that holds it.

Where the file system has no locks at all, every way in here raises NoLocksError, and where this user may not make the
file, NoAccessError: who takes a lock need not think of either.
"""

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flowlab.core.errors import NoAccessError, NoLocksError
from flowlab.core.files import NO_ACCESS

POLL_S = 0.01
TELL_AFTER_S = 1.0
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)

Tell = Callable[[], object]
"""Says once what is waited for."""


@contextmanager
def hold(
    path: Path, patience_s: float | None = None, busy: Exception | None = None, tell: Tell | None = None
) -> Iterator[None]:
    """The lock on the file `path`, which is made if need be. Waits for it, `patience_s` seconds at most if given.

    Raises `busy`, else BlockingIOError, when another process has held it for all that time; 0 does not wait at all.
    `tell` is called once if it takes longer than a second.
    """
    is_new = not path.exists()
    try:
        file = path.open("ab")
    except OSError as error:
        raise no_access(path, error) from None
    with file:
        try:
            take(file.fileno(), path, patience_s, busy, tell)
        except NoLocksError:
            if is_new:
                path.unlink(missing_ok=True)  # nothing stays behind of what cannot be begun
            raise
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


@contextmanager
def hold_descriptor(file: int, path: Path) -> Iterator[None]:
    """The lock on the open file `path`, waited for as long as it takes."""
    take(file, path)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def take(
    file: int, path: Path, patience_s: float | None = None, busy: Exception | None = None, tell: Tell | None = None
) -> None:
    """Lock the open file `path` until it is closed. Waits, tells and raises as `hold` does."""
    if patience_s is None and tell is None:
        _took(file, path, fcntl.LOCK_EX)
        return
    begin, is_told = time.monotonic(), tell is None
    while not _took(file, path, fcntl.LOCK_EX | fcntl.LOCK_NB):
        waited_s = time.monotonic() - begin
        if patience_s is not None and waited_s >= patience_s:
            raise busy or BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(path))
        if tell is not None and not is_told and waited_s >= TELL_AFTER_S:
            tell()
            is_told = True
        time.sleep(POLL_S)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock on `path`; False where there is no such file.

    True also where nobody can tell: the file may not be read, or this file system has no locks.
    """
    try:
        with path.open("rb") as file:
            return not _took(file.fileno(), path, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return False
    except (OSError, NoLocksError):
        return True


def _took(file: int, path: Path, how: int) -> bool:
    """Whether the lock was to be had, at once if `how` says so. Raises NoLocksError."""
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in NO_LOCKS:
            raise NoLocksError(path, os.strerror(error.errno or 0)) from None
        raise
    return True


def no_access(path: Path, error: OSError) -> Exception:
    """What to raise where `path` could not be opened for writing: NoAccessError, or `error` where that is not why."""
    return NoAccessError(path) if error.errno in NO_ACCESS else error
