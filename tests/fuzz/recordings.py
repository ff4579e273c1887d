"""Mutants of a sound driving_log.csv, read as a study reads them: `python -m tests.fuzz.recordings --count 1000`.

Each is either read as a drive that keeps its promises or refused with one of flowlab's sentences; a traceback, a drive
that is none, and a mutant that takes too long are what is looked for.
"""

import argparse
import random
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from flowlab.core.errors import FlowlabError
from flowlab.drives.faults import drive_reasons
from flowlab.drives.source import open_source
from flowlab.study.settings import UdacityDrives
from tests.drives.recordings import HEADER, image_name, row_of, write_images

NUM_ROWS = 60
SLOW_S = 5.0
ODD_CELLS = [
    *[
        "",
        " ",
        "nan",
        "-inf",
        "1e400",
        "1e-400",
        "0x10",
        "1_0",
        "0,5",
        "-",
        "+",
        ".",
        "1.5.2",
        "٣",
        "½",
        "\ufeff",
        "\x00",
    ],
    *[
        "center",
        "speed",
        "x" * 200_000,
        "9" * 5000,
        "IMG/..",
        "../../etc",
        image_name(2),
        "left_" + image_name(3),
        "True",
    ],
    *["IMG/center_9999_99_99_99_99_99_999.jpg", "IMG/center_0001_01_01_00_00_00_000.jpg", "IMG/" + "n" * 300 + ".jpg"],
    "IMG/a\x00b_2024_01_31_22_05_00_300.jpg",
]
MARKS = [
    b",",
    b";",
    b"\t",
    b'"',
    b"'",
    b"\n",
    b"\r",
    b"\r\n",
    b"\x00",
    b"\xff",
    b"\xe4",
    b"\x0b",
    b"\x1c",
    b"\xe2\x80\xa8",
]

Mutation = Callable[[bytes, random.Random], bytes]


def sound_log(stream: random.Random) -> bytes:
    """A log of 60 rows, with or without a header, sometimes with few rows."""
    rows = [row_of(number, round(stream.uniform(-1, 1), 4)) for number in range(stream.choice([NUM_ROWS, NUM_ROWS, 3]))]
    return "\n".join([HEADER, *rows] if stream.random() < 0.7 else rows).encode() + b"\n"


def flip_bytes(content: bytes, stream: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(stream.choice([1, 3, 30])):
        changed[stream.randrange(len(changed))] = stream.randrange(256)
    return bytes(changed)


def put_marks(content: bytes, stream: random.Random) -> bytes:
    for _ in range(stream.choice([1, 5, 40])):
        place = stream.randrange(len(content))
        content = content[:place] + stream.choice(MARKS) + content[place + stream.randrange(2) :]
    return content


def cut_out(content: bytes, stream: random.Random) -> bytes:
    start = stream.randrange(len(content))
    return content[:start] + content[start + stream.choice([1, 50, len(content)]) :]


def swap_cells(content: bytes, stream: random.Random) -> bytes:
    lines = [line.split(b",") for line in content.split(b"\n")]
    for _ in range(stream.choice([1, 4, 80])):
        one, two = stream.choice(lines), stream.choice(lines)
        here, there = stream.randrange(len(one)), stream.randrange(len(two))
        one[here], two[there] = two[there], one[here]
    return b"\n".join(b",".join(line) for line in lines)


def odd_cells(content: bytes, stream: random.Random) -> bytes:
    lines = [line.split(b",") for line in content.split(b"\n")]
    column, cell = stream.randrange(7), stream.choice(ODD_CELLS).encode()
    for line in lines if stream.random() < 0.3 else stream.choices(lines, k=stream.choice([1, 3])):
        if column < len(line):
            line[column] = cell
    return b"\n".join(b",".join(line) for line in lines)


def move_rows(content: bytes, stream: random.Random) -> bytes:
    lines = content.split(b"\n")
    ways = [
        lambda: stream.sample(lines, len(lines)),
        lambda: lines * 2,
        lambda: stream.choices(lines, k=len(lines)),
        lambda: [line for line in lines if stream.random() < 0.5],
        lambda: lines[::-1],
    ]
    return b"\n".join(stream.choice(ways)()) + b"\n"


def other_encoding(content: bytes, stream: random.Random) -> bytes:
    return content.decode(errors="replace").encode(
        stream.choice(["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "utf-7", "cp037"]), errors="replace"
    )


MUTATIONS: tuple[Mutation, ...] = (
    flip_bytes,
    put_marks,
    cut_out,
    swap_cells,
    odd_cells,
    move_rows,
    other_encoding,
)


def mutant(seed: int) -> bytes:
    """The log with that number: one to three mutations of a sound one."""
    stream = random.Random(seed)
    content = sound_log(stream)
    for mutation in stream.choices(MUTATIONS, k=stream.choice([1, 1, 2, 3])):
        content = mutation(content, stream) or b"\n"
    return content


def prepare(study: Path) -> Path:
    """The folder of the one drive of a study, with its images."""
    write_images(study / "rec" / "d" / "IMG", NUM_ROWS)
    return study / "rec" / "d"


def read(study: Path, content: bytes) -> str:
    """What becomes of that log: "read", or the kind of flowlab's error. Raises whatever else comes."""
    (study / "rec" / "d" / "driving_log.csv").write_bytes(content)
    source = open_source(UdacityDrives(source="udacity", roots=("rec",)), study)
    try:
        drive = source.load("d")
    except FlowlabError as error:
        assert "\n" not in str(error) and len(str(error)) < 2000, f"no sentence: {str(error)[:3000]!r}"
        return type(error).__name__
    assert (np.diff(drive.time_us) > 0).all() and (np.diff(drive.frame_index) > 0).all()
    assert (abs(drive.action) <= 1).all() and (drive.action[:, :2] >= 0).all() and np.isfinite(drive.speed_mps).all()
    assert all(reason.rows <= max(1, 0.02 * reason.of) for reason in drive_reasons(drive))
    assert source.images(drive, np.arange(min(2, len(drive))), 8, 8).any()
    source.digest("d")
    return "read"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    given = parser.parse_args()
    ends: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        for seed in range(given.first, given.first + given.count):
            began = time.monotonic()
            try:
                end = read(Path(folder), mutant(seed))
            except Exception:
                print(f"mutant {seed}:")  # noqa: T201
                traceback.print_exc()
                end = "TRACEBACK"
            ends[end] += 1
            if time.monotonic() - began > SLOW_S:
                ends["SLOW"] += 1
                print(f"mutant {seed} took {time.monotonic() - began:.1f} s")  # noqa: T201
    print(f"{given.count} mutants: {', '.join(f'{name} {count}' for name, count in ends.most_common())}")  # noqa: T201


if __name__ == "__main__":
    main()
