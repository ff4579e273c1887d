"""What ends a command without a sentence of its own."""

import subprocess
import sys

FAILING = """
import sys
from flowlab.cli import main

def fails(**_):
    raise RuntimeError(sys.argv[1])

main.lazy_group = lambda *_: type("Command", (), {"main": staticmethod(fails)})
sys.exit(main.run_command([]))
"""


def failing(message: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", FAILING, message], capture_output=True, text=True, timeout=60)


def test_no_memory_is_one_sentence() -> None:
    told = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
    done = failing(told)
    assert done.returncode == 2 and done.stderr.startswith(f"error: out of memory ({told}). "), done.stderr


def test_a_defect_shows_where_it_is() -> None:
    done = failing("a defect")
    assert done.returncode == 1 and "Traceback" in done.stderr
