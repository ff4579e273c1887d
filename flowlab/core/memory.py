"""How much main memory is free, and what the C library does with what was given back to it."""

import ctypes
import platform
from pathlib import Path

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # glibc's malloc.h
MOST_KEPT = 2**31 - 1
GROWTH = 2**28
LARGEST = 2**25  # the most that glibc takes; what is larger goes back to the system all the same


def keep_freed_memory() -> None:
    """Have memory that was freed stay with this process, up to 2 GiB of it.

    Training asks for the same sizes at every step, and what had gone back to the system comes again page by page, each
    of them zeroed: 90,000 page faults a step at the published size. Does nothing where the C library is not glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    for what, value in ((M_MMAP_THRESHOLD, LARGEST), (M_TRIM_THRESHOLD, MOST_KEPT), (M_TOP_PAD, GROWTH)):
        mallopt(what, value)


def free_memory() -> int | None:
    """Bytes of main memory that a process can still get; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError, IndexError):
        return None
