"""Made-up recordings in the format of the Udacity simulator's recorder, for tests."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from flowlab.drives.udacity import UdacitySource
from flowlab.study.settings import UdacityDrives

HEADER = "center,left,right,steering,throttle,brake,speed"


def image_name(number: int, camera: str = "center") -> str:
    """The name of the image that is taken `number` tenths of a second after the first one."""
    minute, second = 5 + number // 600, number // 10 % 60
    return f"{camera}_2024_01_31_22_{minute:02d}_{second:02d}_{number % 10}00.jpg"


def row_of(number: int, steering: object = 0.25, throttle: object = 0.5, brake: object = 0, speed: object = 10) -> str:
    return f"IMG/{image_name(number)},,,{steering},{throttle},{brake},{speed}"


def write_log(folder: Path, rows: Sequence[str], header: str | None = HEADER) -> None:
    lines = [header, *rows] if header else rows
    (folder / "driving_log.csv").write_text("\n".join(lines) + "\n")


def write_images(folder: Path, num: int) -> None:
    """Images of the first `num` moments, dark, in a new folder."""
    folder.mkdir(parents=True)
    first = folder / image_name(0)
    Image.new("RGB", (8, 8), (1, 20, 30)).save(first)
    for number in range(1, num):
        (folder / image_name(number)).write_bytes(first.read_bytes())


def write_sound(folder: Path, num: int = 3, steering: float = 0.25) -> None:
    """A recording of `num` frames at 10 Hz."""
    write_images(folder / "IMG", num)
    write_log(folder, [row_of(number, steering=steering) for number in range(num)])


def source_of(study: Path, *roots: str, max_fault_share: float = 0.02) -> UdacitySource:
    """The source of the recordings below those roots of a study, `rec` where none is given."""
    return UdacitySource(
        UdacityDrives(source="udacity", roots=roots or ("rec",), max_fault_share=max_fault_share), study
    )
