"""A drive that a source holds among others, and that cannot be used: the rest goes on without it, and it is named."""

import sys
import types
from pathlib import Path

import pytest

from flowlab.cache.cache import open_cache
from flowlab.core.errors import DriveError, LeftOutDriveError
from flowlab.core.types import Drive
from flowlab.drives.synthetic import SyntheticSource
from flowlab.lab.caches import frames_wanted, prepare_cache, val_drives
from flowlab.lab.drives import RefusedDrive, split_loaded
from flowlab.study.settings import SplitSettings, SyntheticDrives
from flowlab.study.study import load_study
from tests.lab.small_study import CPU, Said, small_text


def broken(drive_id: str, reason: str = "no video") -> RefusedDrive:
    return RefusedDrive(drive_id, LeftOutDriveError(reason, f"drive {drive_id!r} has {reason}."))


def drives(num: int, *without: str) -> list[Drive | RefusedDrive]:
    source = SyntheticSource(SyntheticDrives(source="synthetic", count=num, frames=2), Path())
    return [broken(name) if name in without else source.load(name) for name in source.drive_ids()]


def test_what_is_left_out_is_named_and_no_other_drive_takes_its_place():
    said = Said()
    split = split_loaded(drives(6, "drive_01", "drive_05"), SplitSettings(num_val=2), said)
    assert (split.train, split.val) == (("drive_00", "drive_02", "drive_03"), ("drive_04",))
    assert said.lines == [
        "drive drive_01 is left out of train: drive 'drive_01' has no video.",
        "drive drive_05 is left out of val: drive 'drive_05' has no video.",
    ]


def test_a_side_without_any_usable_drive_is_an_error():
    told = r"none of the 1 drives of val can be used. The first: drive 'drive_03' has no video."
    with pytest.raises(DriveError, match=told):
        split_loaded(drives(4, "drive_03"), SplitSettings(num_val=1))


def test_most_drives_failing_is_a_fault_of_the_whole():
    found = [*drives(4, "drive_01", "drive_02"), broken("drive_04", "no rows")]
    told = r"3 of 5 drives cannot be used \(no video: 2, no rows: 1\). The first: drive 'drive_01' has no video."
    with pytest.raises(DriveError, match=told):
        split_loaded(found, SplitSettings(num_val=1))


class Torn(SyntheticSource):
    """One of its drives turns out to have a torn image once images are read."""

    torn: str | None = "drive_01"
    known: set[str] = set()

    def load(self, drive_id):
        if drive_id in self.known:
            raise LeftOutDriveError("torn", f"drive {drive_id!r} is torn.")
        return super().load(drive_id)

    def images(self, drive, rows, height, width):
        if drive.drive_id == self.torn:
            self.known.add(drive.drive_id)
            self.load(drive.drive_id)
        return super().images(drive, rows, height, width)


@pytest.fixture
def torn_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    module = types.ModuleType("torn_recordings")
    module.source = lambda settings, folder: Torn(SyntheticDrives(source="synthetic", count=4, frames=90), folder)
    monkeypatch.setitem(sys.modules, "torn_recordings", module)
    monkeypatch.setattr(Torn, "known", set())
    text = small_text("").replace('source = "synthetic"\ncount = 4\nframes = 90', 'source = "torn_recordings:source"')
    (tmp_path / "experiments.toml").write_text(text)
    return load_study(tmp_path)


def test_what_only_reading_tells_leaves_the_drive_out_and_its_mending_takes_it_in(torn_study, monkeypatch):
    study, said = torn_study, Said()
    first = prepare_cache(study, frames_wanted(study), CPU, said)
    cache = open_cache(first.path)
    assert cache.attributes["identity"]["split"]["train"] == ["drive_00", "drive_02"]
    assert val_drives(cache) == ("drive_03",)
    assert said.lines.count("drive 'drive_01' is torn.") == 1
    assert "drive drive_01 is left out of train: drive 'drive_01' is torn." in said.lines
    assert not prepare_cache(study, frames_wanted(study), CPU).is_new

    monkeypatch.setattr(Torn, "torn", None)
    Torn.known.clear()
    again = prepare_cache(study, frames_wanted(study), CPU, said)
    assert again.is_new and any("have changed (+ drive_01)" in line for line in said.lines)
    assert open_cache(again.path).attributes["identity"]["split"]["train"] == ["drive_00", "drive_01", "drive_02"]
