"""How `drives convert` chooses drives, size and rate; that it writes whole folders or none."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from flowlab.cli.main import run_command
from flowlab.core.errors import DriveError, LeftOutDriveError, StudyError
from flowlab.core.types import Drive
from flowlab.lab import conversion
from flowlab.lab.conversion import Converted, convert_drives
from flowlab.study.study import Study, load_study
from tests.encoder.memory_source import MemorySource, numbered_drive
from tests.lab.small_study import Said, small_text


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Four synthetic drives of 90 frames at 10 Hz."""
    (tmp_path / "experiments.toml").write_text(small_text(""))
    return load_study(tmp_path)


@dataclass
class Case:
    """Converts given drives instead of the study's."""

    study: Study
    monkeypatch: pytest.MonkeyPatch

    def convert(self, source: MemorySource, size: tuple[int, int] | None = (2, 2)) -> tuple[Converted, list[str]]:
        said = Said()
        self.monkeypatch.setattr(conversion, "open_source", lambda *_: source)
        done = convert_drives(self.study, self.study.root / "out", None, size, 100, said)
        return done, [line for line in said.lines if line != "convert drives"]


@pytest.fixture
def case(study: Study, monkeypatch: pytest.MonkeyPatch) -> Case:
    return Case(study, monkeypatch)


def at_hz(drive_id: str, hz: float, num: int = 20) -> Drive:
    return replace(numbered_drive(drive_id, num), time_us=np.round(np.arange(num) * 1e6 / hz).astype(np.int64))


def ran(study: Study, *options: str) -> int:
    """The exit code of `drives convert` into the folder `out` of the study."""
    return run_command(
        ["drives", "convert", f"{study.root}/out", "--to", "lerobot", "--study", str(study.root), *options]
    )


def episode_drives(folder: Path) -> list[str]:
    return pq.read_table(folder / "meta/episodes")["source_drive"].to_pylist()


@pytest.mark.parametrize(("hz", "fps"), [(10, 10), (30, 30), (12.5, 12.5), (29.97, 30), (0.5, 0.5)])
def test_the_rate_is_whole_where_that_fits(case, hz, fps):
    done, said = case.convert(MemorySource([at_hz("a", hz)]))
    assert done.layout.fps == fps
    assert not any("not regular" in line for line in said)


def test_over_many_frames_only_the_precise_rate_fits(case):
    done, _ = case.convert(MemorySource([at_hz("a", 29.97, num=1000)]))
    assert done.layout.fps == 29.97


def test_a_recording_that_is_not_regular_is_said_and_keeps_its_times(case):
    drive = at_hz("a", 10)
    drive.time_us[10:] += 500_000
    done, said = case.convert(MemorySource([drive, at_hz("b", 10)]))
    assert said == [
        "1 of 2 drives are not regular at 10 Hz, by up to 0.50 s (a): LeRobot's own timestamp is frame / 10, and the "
        "recorded times are in observation.time_us"
    ]
    times = pq.read_table(done.folder / "data")["observation.time_us"].to_pylist()
    assert times[:20] == drive.time_us.tolist()


def test_images_are_of_the_size_they_were_recorded_in(case):
    drive = replace(numbered_drive("a", 3), image_size=(4, 5))
    done, said = case.convert(MemorySource([drive]), size=None)
    assert (done.layout.height, done.layout.width, said) == (4, 5, [])


def test_images_without_a_size_are_as_the_encoder_takes_them(case):
    done, said = case.convert(MemorySource([numbered_drive("a", 3)]), size=None)
    assert (done.layout.height, done.layout.width) == (16, 16)
    assert said == ["these drives have images of no size of their own: 16 x 16, as the study's encoder takes"]


def test_drives_of_two_sizes_need_one_to_be_given(case):
    drives = [replace(numbered_drive("a", 3), image_size=(4, 5)), replace(numbered_drive("b", 3), image_size=(8, 5))]
    with pytest.raises(StudyError, match=r"a 4 x 5, b 8 x 5\). Give --image-height and --image-width"):
        case.convert(MemorySource(drives), size=None)
    assert not (case.study.root / "out").exists()


class Torn(MemorySource):
    """Drive `torn` cannot be used: known at once, or only once its images are read."""

    def __init__(self, num: int, known: bool, error: DriveError | None = None) -> None:
        super().__init__([numbered_drive(name, num) for name in ("a", "b", "torn")])
        self.known, self.error = known, error or LeftOutDriveError("torn video", "drive torn has a torn video.")

    def load(self, drive_id: str) -> Drive:
        if drive_id == "torn" and self.known:
            raise self.error
        return super().load(drive_id)

    def images(self, drive: Drive, rows: NDArray[np.int64], height: int, width: int) -> NDArray[np.uint8]:
        if drive.drive_id == "torn":
            self.known = True
            raise self.error
        return super().images(drive, rows, height, width)


@pytest.mark.parametrize("known", [True, False])
def test_a_drive_that_may_be_left_out_is_named_and_the_others_are_written(case, known):
    done, said = case.convert(Torn(5, known))
    assert episode_drives(done.folder) == ["a", "b"]
    assert any("drive torn has a torn video" in line for line in said)


@pytest.mark.parametrize("known", [True, False])
def test_a_drive_that_is_refused_refuses_the_whole(case, known):
    with pytest.raises(DriveError, match="torn is no log"):
        case.convert(Torn(5, known, DriveError("torn is no log")))
    assert not list(case.study.root.glob("out*"))


def test_the_command_writes_the_drives_named_and_prints_how_to_read_them(study, capsys):
    code = ran(study, "--drives", "drive_02,drive_00")
    told = capsys.readouterr()
    assert code == 0
    assert episode_drives(study.root / "out") == ["drive_00", "drive_02"]
    assert told.out.endswith(
        f'[drives]\nsource = "lerobot"\nroot = "{study.root}/out"\ncamera = "observation.images.front"\n'
        f'speed = "observation.speed_mps"\nwaypoints = "observation.waypoints"\ntime = "observation.time_us"\n'
    )
    assert "2 episodes, 180 frames at 10 Hz, images 16 x 16" in told.err


def test_with_json_the_command_prints_one_document(study, capsys):
    ran(study, "--json")
    facts = json.loads(capsys.readouterr().out)
    assert (facts["frames"], facts["fps"], facts["height"]) == (360, 10, 16)
    assert facts["episodes"][3] == {"drive_id": "drive_03", "frames": 90}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--drives", "drive_9"], "unknown drive 'drive_9': did you mean 'drive_0"),
        (["--image-height", "8"], "--image-height and --image-width go together"),
        (["--drives", ""], "unknown drive ''"),
        (["--drives", "drive_01,drive_01"], "--drives names drive 'drive_01' twice"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_writes_nothing(study, capsys, options, sentence):
    assert ran(study, *options) == 2
    assert sentence in capsys.readouterr().err
    assert not list(study.root.glob("out*"))


def test_a_folder_with_something_in_it_is_not_written_to(study, capsys):
    (study.root / "out").mkdir()
    (study.root / "out" / "mine").touch()
    assert ran(study) == 2
    assert "out is not empty" in capsys.readouterr().err
    assert [path.name for path in (study.root / "out").iterdir()] == ["mine"]


def test_ctrl_c_leaves_nothing_and_says_that_the_command_begins_anew(study, capsys, monkeypatch):
    def interrupted(source, drives, layout, folder, progress):
        (folder / "data").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(conversion, "write_lerobot", interrupted)
    assert ran(study) == 130
    assert capsys.readouterr().err.endswith(
        f"stopped. {study.root}/out is not written: the same command begins it anew.\n"
    )
    assert not list(study.root.glob("out*"))
