"""How many instructions does the plain way take for one of flowlab's, where seconds are noise?

One training step of each way and one panel frame of each (K = 32, heun of 4 steps), counted by callgrind, a part of
valgrind, which must be installed. Counting is on for these alone, after one of each to warm up. The ratio is of
instructions, plain / flowlab, and hardly changes beside other work. It is no ratio of time: a vector instruction does
eight additions, and a load that waits for memory counts as one. valgrind offers no AVX-512, so MKL and torch may take
other kernels than they do outside. What torch does in the backward pass happens in a thread of its own; it is counted.

One command, 5 minutes on a quiet core, most of it the import of torch.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

SIZES = ("tiny", "demo")
ROWS = {"step": ("plain, checkpoints", "plain", "flowlab, alone", "flowlab, a run of 4"), "panel": ("plain", "flowlab")}
SOLVER_STEPS = 4
Mark = Callable[[], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--counted", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.counted:
        count(asked.size)
        return
    if shutil.which("valgrind") is None:
        print("valgrind is not installed, so nothing was counted. On Debian: apt-get install valgrind")
        return
    with tempfile.TemporaryDirectory() as folder:
        told = counted(Path(folder), asked.size)
    print(f"million instructions at {asked.size} size, one thread\n{'what':<32} {'millions':>10} {'plain / this':>13}")
    for question, ways in ROWS.items():
        of = told[f"{question}: plain"]
        for way in ways:
            one = told[f"{question}: {way}"]
            print(f"{f'{question}: {way}':<32} {one / 1e6:>10,.1f} {of / one:>13.2f}")
    path = Path(__file__).parent / "results" / "instructions.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"size": asked.size, "instructions": told}, indent=2) + "\n")


def counted(folder: Path, size: str) -> dict[str, float]:
    """Instructions by question and way, of a process of its own under callgrind."""
    command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/out"]
    command += [sys.executable, __file__, "--counted", "--size", size]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    if done.returncode:
        sys.exit(f"counting ended with exit code {done.returncode}:\n{done.stderr[-2000:]}")
    names = [f"{question}: {way}" for question, ways in ROWS.items() for way in ways]
    dumps = [folder / f"out.{number}" for number in range(1, len(names) + 1)]
    found = {name: total(dump) for name, dump in zip(names, dumps, strict=True)}
    alone = "step: flowlab, a run of 4"
    return found | {alone: found[alone] / 4}


def total(dump: Path) -> float:
    """The instructions of one dump of callgrind's."""
    for line in dump.read_text().splitlines():
        if line.startswith(("totals:", "summary:")):
            return float(line.split()[1])
    raise ValueError(f"callgrind wrote no total into {dump.name}")


def count(size: str) -> None:
    """Do each thing with counting on, and have its count written. Each has been done once before."""
    for work in works(size):
        work(begin, end)


def begin() -> None:
    control("-i", "on")


def end() -> None:
    control("-d")
    control("-i", "off")


def control(*what: str) -> None:
    """Tell callgrind, which runs this process, to begin, to end, or to write what it has counted."""
    subprocess.run(["callgrind_control", *what, str(os.getpid())], check=True, capture_output=True)


def works(size: str) -> list[Callable[[Mark, Mark], object]]:
    """What is counted, in the order of ROWS: each calls the two functions that it is given around it."""
    import torch
    from made import SIZES as ALL
    from made import cohort_of, ignore, make, plain_of, train
    from panel import DRAWS, SOLVER, flowlab_draws
    from plain import PlainRun, sample

    from flowlab.train.fit import Listener, fit

    torch.set_num_threads(1)
    one = ALL[size]
    made = make(one, one.recipe.train.batch * 8, torch.device("cpu"))
    trained = train(one, made, 1)
    condition, noise = made.data.condition[:1], torch.randn(1, DRAWS, *made.data.action.shape[1:])

    def twice(work: Callable[[], object], begin: Mark, end: Mark) -> None:
        work()
        begin()
        work()
        end()

    def plain_step(checkpoints: bool) -> Callable[[Mark, Mark], object]:
        return partial(twice, PlainRun(one.recipe, made.windows, 0, torch.device("cpu"), checkpoints).step)

    def flowlab_step(num_runs: int) -> Callable[[Mark, Mark], object]:
        def train_two(begin: Mark, end: Mark) -> None:
            marks = iter((begin, end))
            cohort = cohort_of(one.recipe, range(num_runs), 2)
            fit(cohort, made.data, made.validation, Listener(ignore, ignore, ignore, stepped=lambda _: next(marks)()))

        return train_two

    plain = partial(sample, plain_of(trained, one, made), condition, noise, SOLVER, SOLVER_STEPS)
    ours = partial(flowlab_draws, trained, condition.float(), noise, SOLVER, SOLVER_STEPS)
    panels = [partial(twice, plain), partial(twice, ours)]
    return [plain_step(True), plain_step(False), flowlab_step(1), flowlab_step(4), *panels]


if __name__ == "__main__":
    main()
