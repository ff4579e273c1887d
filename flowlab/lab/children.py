"""Processes that this one starts: Ctrl-C does not reach them, and none of them outlives it."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

POLL_S = 0.2


@contextmanager
def ignored_interrupt() -> Iterator[None]:
    """Processes started inside ignore Ctrl-C for life: it reaches a whole process group, and the parent decides."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def die_with(parent: int) -> None:
    """End this process when that parent of it is gone, kill -9 included: no orphan keeps a run's lock."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
