"""How the benchmarks that have a plain way measure and tell: ways to do one thing, timed in turns.

A benchmark of this kind is one command. It prints a table of at most 100 columns and writes
benchmarks/results/NAME.json; `--quick` takes fewer turns, `--out FILE` puts the JSON elsewhere, `--json` prints no
table but each row as a line of JSON, as soon as it is there. `flowlab bench` runs them so and gathers the rows.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from flowlab.lab.children import die_with

TURNS, QUICK_TURNS = 5, 2


@dataclass(frozen=True)
class Times:
    """What one way took, turn by turn, in seconds: on the wall, and of the processor (all threads of this process)."""

    wall_s: list[float]
    processor_s: list[float]

    @property
    def wall(self) -> float:
        return median(self.wall_s)

    @property
    def processor(self) -> float:
        return median(self.processor_s)


@dataclass(frozen=True)
class Row:
    """One question at one size. Times are of one unit of work; ratios above 1 say that flowlab is the quicker."""

    question: str
    size: str
    flowlab: Times
    plain: Times | None = None
    plain_checkpoints: Times | None = None  # with activation checkpointing, where that makes a difference
    note: str = ""


def in_turns(ways: dict[str, Callable[[], Any]], turns: int, warm: bool = True) -> dict[str, Times]:
    """Each way once, in the order given, and all over again `turns` times. `warm`: once more before, not counted.

    A way that returns Times has measured itself, once or more often; its medians are that turn's time.
    """
    if warm:
        for way in ways.values():
            way()
    taken = {name: Times([], []) for name in ways}
    for _ in range(turns):
        for name, way in ways.items():
            own = timed(way)
            taken[name].wall_s.append(own.wall)
            taken[name].processor_s.append(own.processor)
    return taken


def timed(way: Callable[[], Any]) -> Times:
    """What `way` took, once."""
    begin, busy = time.perf_counter(), time.process_time()
    found = way()
    wait_for_device()
    if isinstance(found, Times):
        return found
    return Times([time.perf_counter() - begin], [time.process_time() - busy])


class Laps:
    """Times between moments of a program that goes on: from the call of `lap` number `first` to number `last`.

    Only there a GPU is waited for: in between it may lag behind, as it does when nobody measures.
    """

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last, self.num = first, last, 0
        self.at: dict[int, tuple[float, float]] = {}

    def lap(self, *_: object) -> None:
        self.num += 1
        if self.num in (self.first, self.last):
            wait_for_device()
            self.at[self.num] = (time.perf_counter(), time.process_time())

    def times(self, share: float = 1.0) -> Times:
        """The mean interval between two calls, times `share`."""
        (wall, busy), (wall_end, busy_end) = self.at[self.first], self.at[self.last]
        share /= self.last - self.first
        return Times([share * (wall_end - wall)], [share * (busy_end - busy)])


def wait_for_device() -> None:
    """So that what was asked of a GPU is done when the clock is read."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def device() -> torch.device:
    """What is measured on: the GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name() -> str:
    """The GPU's name; or the processor's, with the threads that torch uses."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f"{processor_name()}, {threads} thread{'s' * (threads > 1)}"


def processor_name() -> str:
    """The processor's own name where the system tells it."""
    told = Path("/proc/cpuinfo")
    if told.exists():
        for line in told.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def load_average() -> float | None:
    """How many processes wanted a processor over the last minute, this one among them; None where nobody counts."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def options(what: str, sizes: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The options that all of these benchmarks have."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--repeats", type=int, help=f"turns of each way, {TURNS} unless --quick, then {QUICK_TURNS}")
    parser.add_argument("--quick", action="store_true", help="fewer turns")
    parser.add_argument("--json", action="store_true", help="print each row as a line of JSON instead of a table")
    parser.add_argument("--out", type=Path, help="where the JSON goes, instead of benchmarks/results")
    parser.add_argument("--parent", type=int, help="end when the process of that number does, which started this one")
    if sizes:
        parser.add_argument("--sizes", nargs="+", choices=sizes, default=list(sizes))
    return parser


def turns_of(asked: argparse.Namespace) -> int:
    """How many turns each way gets."""
    return max(1, asked.repeats or (QUICK_TURNS if asked.quick else TURNS))


class Told:
    """Prints rows as they come, and writes them all at the end."""

    def __init__(self, name: str, asked: argparse.Namespace, unit: str, scale: float) -> None:
        if asked.parent:
            die_with(asked.parent)
        self.name, self.asked, self.unit, self.scale = name, asked, unit, scale
        self.begin, self.load, self.rows = time.perf_counter(), load_average(), []  # type: ignore[var-annotated]
        self.say(f"{name}: {unit}, medians of {turns_of(asked)} turns, on {device_name()}")
        self.say(
            f"{'question':<24} {'size':<16} {'plain+ckpt':>10} {'plain':>9} {'flowlab':>9}"
            f" {'ratios wall':>13} {'of processor':>13}"
        )

    def say(self, line: str) -> None:
        if not self.asked.json:
            print(line, flush=True)

    def row(self, row: Row) -> None:
        """Take in one row, and print it."""
        told = row_json(row) | {"unit": self.unit, "scale": self.scale}
        self.rows.append(told)
        if self.asked.json:
            print(json.dumps({"device": device_name(), **told}), flush=True)

        def cell(times: Times | None, width: int) -> str:
            return f"{three_digits(times.wall * self.scale):>{width}}" if times else " " * width

        def ratios(kind: str) -> str:
            both = [told[f"{key}_{kind}"] for key in ("ratio_checkpoints", "ratio")]
            return " / ".join("-" if ratio is None else ratio_text(ratio) for ratio in both)

        self.say(
            f"{row.question:<24} {row.size:<16} {cell(row.plain_checkpoints, 10)} {cell(row.plain, 9)}"
            f" {cell(row.flowlab, 9)} {ratios('wall'):>13} {ratios('processor'):>13}"
        )
        if row.note:
            self.say(f"    {row.note}")

    def end(self) -> None:
        """Say how long it took, and write the JSON."""
        took_s = time.perf_counter() - self.begin
        told = {
            "benchmark": self.name,
            "device": device_name(),
            "load": [self.load, load_average()],
            "turns": turns_of(self.asked),
            "took_s": round(took_s, 1),
            "rows": self.rows,
        }
        self.say(f"ratios: plain with checkpointing / without. {took_s:.0f} s; load before, after: {told['load']}")
        path = self.asked.out or Path(__file__).parent / "results" / f"{self.name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(told, indent=2) + "\n")


def three_digits(value: float) -> str:
    """Three digits, and all of them of a larger number."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ratio_text(ratio: float) -> str:
    """Two decimals, none of a large one."""
    return f"{ratio:.2f}" if ratio < 100 else f"{ratio:,.0f}"


def row_json(row: Row) -> dict[str, Any]:
    """A row with its medians and ratios, as it is written."""
    told: dict[str, Any] = {"question": row.question, "size": row.size, "note": row.note}
    for way in ("plain_checkpoints", "plain", "flowlab"):
        times: Times | None = getattr(row, way)
        told[way] = times and {"wall": times.wall, "processor": times.processor, **asdict(times)}
    for key, plain in (("ratio_checkpoints", row.plain_checkpoints), ("ratio", row.plain)):
        told[f"{key}_wall"] = plain and plain.wall / row.flowlab.wall
        told[f"{key}_processor"] = plain and plain.processor / row.flowlab.processor
    return told
