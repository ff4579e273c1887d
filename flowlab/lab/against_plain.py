"""The benchmarks that have a plain way: which fit this machine, and what they tell, row by row, as it comes.

They are scripts, each in a process of its own: what one leaves in memory, or sets, does not reach the next.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from flowlab.core.errors import MissingError, RunFailedError, unknown_name
from flowlab.core.files import shipped_folder
from flowlab.core.memory import free_memory

GIB = 2**30


@dataclass(frozen=True)
class Benchmark:
    """One script of benchmarks/, what it asks, and what it needs."""

    question: str
    sizes: tuple[str, ...] = ()  # smallest first; the first alone is what --quick runs
    memory_gib: tuple[float, ...] = (1.0,)  # one a size
    cores: int = 1


BENCHMARKS = {
    "step": Benchmark("a training step", ("tiny", "demo", "published"), (1.0, 1.0, 8.0)),
    "data": Benchmark("the batches of four runs", ("tiny", "demo", "published"), (1.0, 1.0, 2.0)),
    "cache_load": Benchmark("reading a cache", (), (2.0,)),
    "panel": Benchmark("32 draws a frame", ("demo", "published"), (1.0, 6.0)),
    "screen": Benchmark("a whole run", ("demo", "published"), (1.0, 8.0)),
    "campaign": Benchmark("eight runs on two cores", ("tiny", "demo"), (2.0, 2.0), cores=2),
    "build": Benchmark("a cache build", (), (2.0,)),
}
"""In the order in which they are run."""


@dataclass(frozen=True)
class Chosen:
    """What is run of one benchmark, and a sentence for each thing that is left out."""

    name: str
    sizes: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    is_run: bool = True


def benchmarks_dir() -> Path:
    """The folder of the scripts: inside the installed package, or at the top of the repository."""
    return shipped_folder("benchmarks", "turns.py", MissingError)


def choose(names: list[str], quick: bool) -> list[Chosen]:
    """What of these benchmarks fits this machine, or of all for none. Raises UnknownNameError for one there is not."""
    for name in names:
        if name not in BENCHMARKS:
            raise unknown_name("benchmark", name, BENCHMARKS)
    free, cores = free_memory(), len(os.sched_getaffinity(0))
    memory = inf if free is None else free / GIB  # where the system does not say
    return [fitting(name, memory, cores, quick) for name in names or BENCHMARKS]


def fitting(name: str, memory_gib: float, cores: int, quick: bool) -> Chosen:
    """What of one benchmark fits a machine with so much free memory and so many cores."""
    asked = BENCHMARKS[name]
    if cores < asked.cores:
        return Chosen(name, (), (f"{name}: it needs {asked.cores} cores, this process has {cores}",), is_run=False)
    sizes = asked.sizes[:1] if quick else asked.sizes
    needed = dict(zip(asked.sizes or ("",), asked.memory_gib, strict=True))
    small = tuple(size for size in sizes or ("",) if needed[size] <= memory_gib)
    left_out = tuple(
        f"{name}{f' at {size} size' if size else ''}: it needs {needed[size]:g} GiB, {memory_gib:.1f} are free"
        for size in sizes or ("",)
        if size not in small
    )
    return Chosen(name, tuple(size for size in small if size), left_out, is_run=bool(small))


def rows_of(chosen: Chosen, quick: bool) -> Iterator[dict[str, Any]]:
    """The rows of one benchmark as they come. Raises RunFailedError with its last line if it fails.

    Whoever stops asking, or is interrupted, ends the process, and what it had started and written with it.
    """
    script = benchmarks_dir() / f"{chosen.name}.py"
    # What was killed may have a file under way for a moment longer.
    scratch = tempfile.TemporaryDirectory(prefix="flowlab-bench-", ignore_cleanup_errors=True)
    with scratch as folder, (Path(folder) / "complaints").open("w+") as complaints:
        command = [sys.executable, str(script), "--json", "--out", str(Path(folder) / "rows.json")]
        command += ["--parent", str(os.getpid())]
        command += ["--sizes", *chosen.sizes] if chosen.sizes else []
        command += ["--quick"] if quick else []
        environment = os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": folder}
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=complaints, text=True, env=environment, start_new_session=True
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                yield json.loads(line)
            code = process.wait()
        finally:
            with suppress(ProcessLookupError):  # nobody is left of it
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process.stdout.close()
        if code:
            complaints.seek(0)
            last = (complaints.read().strip().splitlines() or ["it says nothing"])[-1]
            raise RunFailedError(f"benchmark {chosen.name} ended with exit code {code}: {last}. Try it alone: {script}")
