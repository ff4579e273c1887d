"""A digest is known from stamps while nothing changed, and anew whenever something has."""

import os
from pathlib import Path

import numpy as np
import pytest

from flowlab.core.errors import DriveError
from flowlab.drives import carracing, image_check, udacity
from flowlab.drives.carracing import CarRacingSource, recordings_folder
from flowlab.drives.memo import read_memo
from flowlab.drives.recording import Recording, write_recording
from flowlab.study.settings import CarRacingDrives
from tests.drives.recordings import image_name, row_of, source_of, write_sound


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_sound(tmp_path / "rec" / "a")
    return tmp_path / "rec" / "a"


def digest(folder: Path) -> str:
    return source_of(folder.parents[1]).digest("a")


def refuse(*given: object) -> None:
    raise AssertionError(f"was asked for {given}")


def test_a_digest_that_is_known_reads_neither_log_nor_image(folder, monkeypatch):
    before = digest(folder)
    monkeypatch.setattr(udacity, "read_driving_log", refuse)
    monkeypatch.setattr(image_check, "_check_image", refuse)
    assert digest(folder) == before


def grow(folder: Path) -> None:
    with (folder / "driving_log.csv").open("a") as file:
        file.write(row_of(3) + "\n")


def mend(folder: Path) -> None:
    path = folder / "driving_log.csv"
    path.write_text(path.read_text().replace("0.25", "0.35", 1))


def mend_with_the_old_time(folder: Path) -> None:
    path = folder / "driving_log.csv"
    stat = path.stat()
    mend(folder)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def record_again(folder: Path) -> None:
    path = folder / "IMG" / image_name(1)
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    path.write_bytes(content)


def remove(folder: Path) -> None:
    (folder / "IMG" / image_name(1)).unlink()


@pytest.mark.parametrize("change", [grow, mend, mend_with_the_old_time, record_again, remove])
def test_whatever_changes_is_seen(folder, change):
    before = digest(folder)
    change(folder)
    assert digest(folder) != before


def test_a_touched_file_has_the_same_digest(folder):
    before = digest(folder)
    (folder / "driving_log.csv").touch()
    (folder / "IMG" / image_name(1)).touch()
    assert digest(folder) == before


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"memo": 1, "version": 1, "digest": "x"}', "[" * 9999, "\xff"]
)
def test_a_memo_that_is_none_is_made_anew(folder, content):
    before = digest(folder)
    (memo,) = (folder.parents[1] / "caches" / "drives" / "udacity").iterdir()
    memo.write_text(content, encoding="latin-1")
    assert digest(folder) == before
    assert read_memo(memo) is not None


def test_a_digest_that_was_edited_in_a_memo_is_not_believed(folder):
    before = digest(folder)
    (memo,) = (folder.parents[1] / "caches" / "drives" / "udacity").iterdir()
    memo.write_text(memo.read_text().replace(before, "0" * 16))
    assert digest(folder) == before


def test_a_memo_that_cannot_be_written_costs_nothing_but_time(folder):
    (folder.parents[1] / "caches").write_text("no folder")
    assert digest(folder) == digest(folder)


def test_a_log_that_grows_while_it_is_read_is_a_sentence(folder, monkeypatch):
    read = udacity.check_images
    monkeypatch.setattr(udacity, "check_images", lambda *given: (grow(folder), read(*given))[1])
    with pytest.raises(DriveError, match="was written to while it was read"):
        digest(folder)


def recorded(gas: float) -> Recording:
    """A drive of three frames, as the recorder of CarRacing would write it."""
    action = np.full((3, 3), [gas, 0, 0], np.float32)
    images = np.zeros((3, 84, 96, 3), np.uint8)
    times = np.arange(3) * 100_000
    return Recording(images, times, np.ones(3, np.float32), action, np.zeros((3, 10, 2), np.float32), "calm", "1")


def test_recorded_drives_are_known_by_stamps_too_and_another_recording_is_seen(tmp_path, monkeypatch):
    settings = CarRacingDrives(source="carracing", count=1)
    path = recordings_folder(settings, tmp_path) / "drive_00.npz"
    write_recording(path, recorded(gas=0.5))
    before = CarRacingSource(settings, tmp_path).digest("drive_00")
    assert before == recorded(gas=0.5).digest()
    with monkeypatch.context() as patch:
        patch.setattr(carracing, "read_recording", refuse)
        assert CarRacingSource(settings, tmp_path).digest("drive_00") == before
    source = CarRacingSource(settings, tmp_path)
    source.load("drive_00")
    write_recording(path, recorded(gas=0.6))
    assert source.digest("drive_00") == recorded(gas=0.6).digest() != before
