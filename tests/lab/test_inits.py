"""init: what is looked at, and the study that comes of it."""

import math
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from flowlab.core.errors import DriveError, MissingError, StudyError, UnknownNameError
from flowlab.core.plugins import TABLE, study_path
from flowlab.drives.source import open_source
from flowlab.drives.udacity import UdacitySource
from flowlab.drives.windows import cut_windows
from flowlab.lab.caches import prepare_caches
from flowlab.lab.drives import load_drives, split_loaded
from flowlab.lab.inits import SOURCES, start_study
from flowlab.study.settings import DRIVES_BY_SOURCE
from flowlab.study.study import Study, load_study
from tests.drives.lerobot_folders import write_v30
from tests.drives.recordings import row_of, write_images, write_log
from tests.lab.small_study import CPU

KEYS = (0, 0, 0, 1, 0, 0, 0, -1, 0, 0)


class Heard:
    """Progress that keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def task(self, what, total, unit):
        from flowlab.core.progress import SILENT

        return SILENT.task(what, total, unit)

    def under_way(self, what):
        from flowlab.core.progress import SILENT

        return SILENT.under_way(what)

    def say(self, message: str) -> None:
        self.lines.append(message)

    def loud(self) -> list[str]:
        return [line for line in self.lines if line.startswith("WARNING")]


def keyed(number: int) -> float:
    return float(KEYS[number // 6 % len(KEYS)])


def wheel(number: int) -> float:
    return round(0.9 * math.sin(number / 9), 4)


def gentle(number: int) -> float:
    return round(0.4 * math.sin(number / 9), 4)


def record(root: Path, drives: dict[str, int], steering=keyed, scale: float = 1.0) -> Path:
    """Recordings of so many frames at 10 Hz. One image file stands for all frames: hard links."""
    for position, (drive, num) in enumerate(drives.items()):
        write_images(root / drive / "IMG", num)
        rows = [row_of(n, steering=scale * steering(n + 3 * position), throttle=n // 20 % 2) for n in range(num)]
        write_log(root / drive, rows)
    return root


def begin(folder: Path, root: Path | str | None, source: str = "udacity") -> tuple[Study, str, Heard]:
    heard = Heard()
    path = start_study(folder, source, None if root is None else str(root), progress=heard)
    return load_study(path.parent), path.read_text(), heard


def sides_of(study: Study) -> tuple[int, int]:
    """How many frames train and validate, as a build would have it."""
    blocks = study.file.split.blocks
    drives = load_drives(open_source(study.file.drives, study.root, blocks))
    split = split_loaded(drives, study.file.split)
    return tuple(sum(len(one) for one in drives if one.drive_id in side) for side in (split.train, split.val))


def arm(root: Path, lengths=(90, 60, 75), width: int = 3, names=("lift", "turn", "grip"), **more) -> Path:
    """A robot arm at 30 frames a second, its pictures in the rows: each number is a sine of its own size and pace."""

    def action(episode: int, length: int) -> list[np.ndarray]:
        times = np.arange(length)[:, None] / 30 + episode
        sizes = np.arange(1, width + 1)
        return list((sizes * np.sin(times * (1 + sizes / width))).astype(np.float32))

    more = {"kind": "image", "fps": 30, "size": (24, 32), "columns": {"action": action}} | more
    return write_v30(root, lengths, width=width, names=names, **more)


def test_every_built_in_source_can_be_begun_with():
    assert set(SOURCES) == set(TABLE["sources"]) == set(DRIVES_BY_SOURCE)


def test_three_recordings_have_a_validation_side_of_a_tenth_to_a_third(tmp_path):
    study, text, heard = begin(tmp_path / "s", record(tmp_path / "rec", {"a/x": 200, "a/y": 90, "a/z": 240}))
    train, val = sides_of(study)
    assert study.file.split.val == ("a/y",)
    assert 0.1 < val / (train + val) < 0.35
    assert "# 16% of the frames validate." in text
    assert any("validation: 16% of the frames (79 of 497), a/y" in line for line in heard.lines)
    assert not heard.loud()


def test_one_recording_alone_is_split_in_time_and_said_loudly(tmp_path):
    study, text, heard = begin(tmp_path / "s", record(tmp_path / "rec", {"lake": 600}))
    train, val = sides_of(study)
    assert study.file.split.blocks.seconds == 6.0
    assert study.file.split.val == ("lake#002", "lake#007")
    assert 0.1 < val / (train + val) < 0.35
    assert "# ONE RECORDING ALONE" in text
    (loud,) = heard.loud()
    assert "'lake' is one recording alone" in loud


def test_one_short_recording_trains_and_validates_and_that_is_said_loudly(tmp_path):
    study, text, heard = begin(tmp_path / "s", record(tmp_path / "rec", {"lake": 60}))
    assert study.file.split.scale == "overfit"
    assert "# TRAIN = VALIDATION" in text
    assert "train = validation" in heard.loud()[0]


def test_keys_are_told_from_a_wheel(tmp_path):
    keys, text, _ = begin(tmp_path / "k", record(tmp_path / "keys", {"a": 200, "b": 80}))
    turned, _, _ = begin(tmp_path / "w", record(tmp_path / "wheel", {"a": 200, "b": 80}, wheel))
    assert (keys.rule.primary.readout, turned.rule.primary.readout) == ("mediank", "meank")
    assert keys.levers == ("delta-off", "published", "lr-half", "depth-2")
    assert turned.levers == ("delta-off", "lds-off", "lr-half", "depth-2")
    assert "Driven by keyboard" in text
    assert not keys.overtaken and not turned.overtaken


def test_where_nobody_turns_sharply_a_spike_begins_earlier(tmp_path):
    study, text, _ = begin(tmp_path / "s", record(tmp_path / "rec", {"a": 300, "b": 120}, gentle))
    spike = study.slices["spike_frame"]
    assert 0.2 < spike.size_above < 0.4
    assert set(study.slices) == {"flat_frame", "spike_frame", "flat_slot", "spike_slot"}
    assert study.slices["spike_slot"].size_above == spike.size_above
    assert "of more than 0.5 there are 0 validation frames" in text
    assert study.rule.primary.slice == "spike_frame"


def test_small_batches_for_few_windows_and_images_in_their_own_shape(tmp_path):
    study, text, _ = begin(tmp_path / "s", record(tmp_path / "rec", {"a": 131, "b": 41}))  # 120 windows train
    assert study.control.train.batch == 16
    assert (study.file.encoder.image_height, study.file.encoder.image_width) == (48, 48)
    assert "images are 8 x 8 (height x width)" in text


def test_a_refused_drive_and_a_copy_are_left_out_by_name(tmp_path):
    root = record(tmp_path / "rec", {"a": 100, "b": 60, "c": 70, "d": 80})
    shutil.copytree(root / "a", root / "z")
    record(root, {"degrees": 80}, scale=25.0)
    study, text, heard = begin(tmp_path / "s", root)
    assert study.file.split.without == ("degrees", "z")
    assert "holds the same recording as 'a'" in text
    assert any("left out by split.without: drive 'degrees' is refused" in line for line in heard.lines)
    assert sum(sides_of(study)) == 310


def test_the_sizes_for_a_gpu_are_a_study_too(tmp_path, monkeypatch):
    monkeypatch.setattr("flowlab.lab.inits.has_gpu", lambda: True)
    study, _, _ = begin(tmp_path / "s", record(tmp_path / "rec", {"a": 131, "b": 41}))
    assert (study.file.encoder.width, study.control.decoder.width, study.control.train.steps) == (384, 256, 3500)


def test_a_fault_of_most_drives_stops_it(tmp_path):
    root = record(tmp_path / "rec", {"a": 80, "b": 80}, scale=25.0)
    with pytest.raises(DriveError, match=r"2 of 2 drives cannot be used\. The first: .*steering is out of its range"):
        begin(tmp_path / "s", root)
    assert not (tmp_path / "s").exists()


def test_drives_too_short_for_a_window_stop_it(tmp_path):
    with pytest.raises(DriveError, match=r"a window is 12 frames .*, 'b', has 11 frames"):
        begin(tmp_path / "s", record(tmp_path / "rec", {"a": 5, "b": 11}))
    assert not (tmp_path / "s").exists()


def test_many_drives_are_counted_not_listed(tmp_path):
    _, text, _ = begin(tmp_path / "s", record(tmp_path / "rec", {f"d{number:02d}": 20 for number in range(15)}))
    assert len(re.findall(r'#   "d\d\d" +20 frames', text)) == 12
    assert "#   and 3 more" in text


def test_what_was_read_need_not_be_read_again(tmp_path, monkeypatch):
    study, _, _ = begin(tmp_path / "s", record(tmp_path / "rec", {"a": 60, "b": 40}))
    monkeypatch.setattr("flowlab.drives.udacity.check_images", None)  # would fail if it were called
    assert sum(sides_of(study)) == 100


@pytest.mark.parametrize("given", ["rec", "./studies/../rec"])
def test_a_relative_root_is_rewritten_for_the_study(tmp_path, monkeypatch, given):
    record(tmp_path / "rec", {"a": 30, "b": 30})
    (tmp_path / "studies").mkdir()
    monkeypatch.chdir(tmp_path)
    study, _, _ = begin(Path("studies/one"), given)
    (root,) = study.file.drives.roots
    assert root == "../../rec"
    assert study_path(study.root, root).resolve() == (tmp_path / "rec").resolve()


def test_an_absolute_root_stays_absolute_and_may_be_a_drive_itself(tmp_path):
    study, _, _ = begin(tmp_path / "s", record(tmp_path, {"lake": 60}) / "lake")
    assert study.file.drives.roots == (str(tmp_path / "lake"),)
    assert UdacitySource(study.file.drives, study.root).drive_ids() == ["lake"]


@pytest.mark.parametrize(
    ("source", "root", "error", "fragment"),
    [
        ("udacty", None, UnknownNameError, "did you mean 'udacity'"),
        ("udacity", None, StudyError, "Say where they lie: --root PATH"),
        ("lerobot", None, StudyError, "Say where they lie: --root PATH"),
        ("udacity", "", StudyError, "--root '' names no folder"),
        ("lerobot", " ", StudyError, "--root ' ' names no folder"),
        ("udacity", "nowhere", MissingError, "no folder nowhere"),
        ("udacity", ".", MissingError, r"holds no drives: no driving_log\.csv"),
        ("lerobot", ".", StudyError, "no LeRobot data set: it has no meta/info.json"),
        ("carracing", ".", StudyError, "Leave --root out"),
    ],
)
def test_what_does_not_fit_is_refused_and_writes_nothing(tmp_path, monkeypatch, source, root, error, fragment):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=fragment):
        start_study(tmp_path / "study", source, root)
    assert list(tmp_path.iterdir()) == []


def test_a_study_that_is_there_is_not_written_over(tmp_path):
    path = start_study(tmp_path, "synthetic", None)
    before = path.read_bytes()
    with pytest.raises(StudyError, match=r"holds an experiments\.toml already"):
        start_study(tmp_path, "carracing", None)
    assert path.read_bytes() == before


def test_a_drive_whose_name_is_not_text_is_refused(tmp_path):
    folder = os.fsencode(tmp_path) + b"/lake_\xe9"
    os.mkdir(folder)  # noqa: PTH102 -- a name that pathlib would have to escape
    with open(folder + b"/driving_log.csv", "wb"):  # noqa: PTH123
        pass
    with pytest.raises(DriveError, match="is not UTF-8 text"):
        start_study(tmp_path / "study", "udacity", str(tmp_path))


def test_an_arm_has_channels_slices_modes_and_a_rule_of_its_own(tmp_path):
    study, text, heard = begin(tmp_path / "s", arm(tmp_path / "set"), "lerobot")
    assert study.channels == ("lift", "turn", "grip")
    assert (study.file.windows.history, study.file.windows.horizon) == (6, 16)
    assert study.file.drives.camera == "observation.images.front"
    lead = study.rule.primary.channel
    assert study.selection.channel == lead
    assert {one.channel for one in study.slices.values()} == {lead}
    assert {stage.bar_unit for stage in study.rule.stages} == {"sigma"}
    assert not study.control.action_space.merge and not study.overtaken
    assert study.levers == ("delta-off", "lds-off", "lr-half", "depth-2", "standardise")
    assert "#   lift" in text and "# task: Drive on" in text
    train, val = sides_of(study)
    assert 0.1 < val / (train + val) < 0.35
    assert not heard.loud()


def test_a_slice_is_named_after_whatever_channel_there_is(tmp_path):
    names = ("arm.lift", "x" * 64, "grip")

    def swing(episode: int, length: int) -> list[np.ndarray]:
        return [np.array([math.sin(n / 9 + episode), 1.0, 0.0], np.float32) for n in range(length)]

    study, _, _ = begin(tmp_path / "s", arm(tmp_path / "set", names=names, columns={"action": swing}), "lerobot")
    assert study.rule.primary.channel == "arm.lift"
    assert set(study.slices) <= {"high_arm_lift", "low_arm_lift"} and study.slices


def test_of_many_channels_the_most_moving_take_part_and_the_others_can_be_put_in(tmp_path):
    names = tuple(f"joint_{number}.pos" for number in range(10))
    study, text, _ = begin(tmp_path / "s", arm(tmp_path / "set", width=10, names=names), "lerobot")
    assert study.channels == tuple(f"joint_{number}" for number in range(2, 10))
    (other,) = [line for line in text.splitlines() if "joint_1 = " in line]
    text = text.replace(f"{other}\n", "").replace("[drives.channels]", f"[drives.channels]\n{other.strip('# ')}\n#")
    (study.root / "experiments.toml").write_text(text)
    assert load_study(study.root).channels == ("joint_1", *study.channels)


def test_a_recording_with_a_hole_keeps_its_real_times(tmp_path):
    def action(episode: int, length: int) -> list[np.ndarray]:
        return [np.array([math.sin(n / 9 + episode), n % 3], np.float32) for n in range(length)]

    def time_us(episode: int, length: int) -> list[int]:
        return [100_000 * n + (1_500_000 if n >= 20 else 0) for n in range(length)]  # 1.6 s from frame 19 to frame 20

    root = arm(
        tmp_path / "set",
        (60, 40),
        width=2,
        names=("a", "b"),
        fps=10,
        columns={"action": action, "observation.time_us": time_us},
        features={"observation.time_us": {"dtype": "int64", "shape": [1], "names": None}},
    )
    study, _, _ = begin(tmp_path / "s", root, "lerobot")
    drive = open_source(study.file.drives, study.root).load("episode_000000")
    assert drive.time_us[18:22].tolist() == [1_800_000, 1_900_000, 3_500_000, 3_600_000]
    rows = cut_windows(drive, study.file.windows).chunk
    assert len(rows) and not any({19, 20} <= set(window) for window in rows.tolist())


def test_without_a_video_there_is_no_camera_and_that_is_said_loudly(tmp_path):
    root = arm(tmp_path / "set", kind="video", lengths=(60, 50))
    shutil.rmtree(root / "videos")
    study, text, heard = begin(tmp_path / "s", root, "lerobot")
    assert study.file.drives.camera == "none"
    assert 'camera = "none"  # no video of observation.images.front is here' in text
    assert "there are no images" in heard.loud()[0]
    assert "dinov2" not in text


def test_steering_is_called_so_only_if_it_is_within_its_range(tmp_path):
    def driven(size: float):
        return lambda episode, length: [
            np.array([size * math.sin(n / 9 + episode), 0.5 * (n % 3)], np.float32) for n in range(length)
        ]

    for name, size in (("car", 0.9), ("degrees", 25.0)):
        arm(tmp_path / name, width=2, names=("steering", "gas"), columns={"action": driven(size)}, fps=10)
    car, _, _ = begin(tmp_path / "s1", tmp_path / "car", "lerobot")
    degrees, _, _ = begin(tmp_path / "s2", tmp_path / "degrees", "lerobot")
    assert (car.channels, car.rule.primary.slice) == (("steering", "gas"), "spike_frame")
    assert (degrees.channels, degrees.rule.primary.slice) == (("steering_raw", "gas"), "overall")


def test_actions_that_never_change_stop_it(tmp_path):
    still = {"action": lambda episode, length: [np.ones(2, np.float32)] * length}
    with pytest.raises(DriveError, match="no action ever changes"):
        begin(tmp_path / "s", arm(tmp_path / "set", width=2, names=("a", "b"), columns=still), "lerobot")


def test_a_folder_of_several_data_sets_names_them(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "meta").mkdir(parents=True)
        (tmp_path / name / "meta" / "info.json").write_text("{}")
    with pytest.raises(StudyError, match=r"holds 2, and a study reads one\. Give --root one of them: one, two"):
        start_study(tmp_path / "s", "lerobot", str(tmp_path))


def test_one_of_the_written_studies_is_built_to_its_cache(tmp_path, template):
    study, text, _ = begin(tmp_path / "s", record(tmp_path / "rec", {"lake": 260, "short": 8}, wheel))
    smaller = {"image_steps": 1, "window_steps": 1, "image_height": 16, "image_width": 16, "width": 16}
    for key, value in (smaller | {"image_width_tokens": 16}).items():
        text, count = re.subn(rf"^{key} = \d+$", f"{key} = {value}", text, count=1, flags=re.MULTILINE)
        assert count
    (study.root / "experiments.toml").write_text(text)
    shutil.copy(template, study.ledger)  # which spares it the migrations
    study = load_study(study.root)
    assert study.file.split.without == ("short#000",)
    (cache,) = prepare_caches(study, study.open_levers, CPU)
    assert cache.is_new and set(cache.levers) == {"control", *study.levers}
