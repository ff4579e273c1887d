"""Locks between processes: one flock on a file, held by a with statement and gone with the process that holds it."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

POLL_S = 0.01


@contextmanager
def hold(path: Path, patience_s: float | None = None, busy: Exception | None = None) -> Iterator[None]:
    """The lock on the file `path`, which is made if need be. Waits for it, `patience_s` seconds at most if given.

    Raises `busy`, else BlockingIOError, when another process has held it for all that time; 0 does not wait at all.
    """
    with path.open("ab") as file:
        take(file.fileno(), patience_s, busy)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


@contextmanager
def hold_descriptor(file: int) -> Iterator[None]:
    """The lock on an open file, waited for as long as it takes."""
    take(file)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def take(file: int, patience_s: float | None = None, busy: Exception | None = None) -> None:
    """Lock an open file until it is closed. Raises as `hold` does."""
    if patience_s is None:
        fcntl.flock(file, fcntl.LOCK_EX)
        return
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                raise (busy or error) from None
            time.sleep(POLL_S)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock on `path`; False where there is no such file."""
    if not path.exists():
        return False
    try:
        with path.open("ab") as file:
            take(file.fileno(), patience_s=0)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
