import platform
import subprocess
import sys

import pytest

from flowlab.core.memory import free_memory

FAULTS = """
import resource
import sys
from flowlab.core.memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
step = lambda: [b"x" * 20_000_000 for _ in range(4)] and None
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps memory in its own way")
def test_memory_that_was_freed_does_not_come_page_by_page_again():
    """80 MB ten times are 195,000 pages of 4,096 bytes."""
    script = [sys.executable, "-c", FAULTS]
    given_back, kept = (int(subprocess.check_output([*script, how])) for how in ("given back", "kept"))
    assert kept < given_back / 4


@pytest.mark.skipif(platform.system() != "Linux", reason="only Linux says")
def test_some_memory_is_free():
    free = free_memory()
    assert free is not None and 2**27 < free < 2**50
