"""Work on many items by a few threads, in the order in which they come."""

import os
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

MOST_THREADS = 8


def num_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def for_each(items: Iterable[tuple], work: Callable[..., Any]) -> None:
    """`work(*item)` for every item, on a thread for each core; raises what the first one raises.

    Items are taken a few at a time, so that a video's frames are not all in memory before the first one is done.
    """
    threads = min(MOST_THREADS, num_cores())
    if threads == 1:
        for item in items:
            work(*item)
        return
    waiting: deque[Future] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            waiting.append(pool.submit(work, *item))
            if len(waiting) > 2 * threads:
                waiting.popleft().result()
        while waiting:
            waiting.popleft().result()
