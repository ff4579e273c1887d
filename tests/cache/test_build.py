import dataclasses
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import flowlab.cache.build
from flowlab.cache.build import build_cache
from flowlab.cache.cache import open_cache
from flowlab.cache.pieces import Pieces
from flowlab.cache.shared_frames import require_no_shared_stretch
from flowlab.core.errors import CacheBuildError, CacheMismatchError, LeftOutDriveError
from flowlab.core.locks import hold
from flowlab.core.progress import SILENT, Silent
from flowlab.core.types import ConditionSpec, Drive, Split
from flowlab.core.vocabulary import CHANNELS
from flowlab.encoder.drive_vit import DriveViT
from tests.cache.number_encoder import NumberEncoder
from tests.cache.three_drives import SPLIT, VARIANTS, WINDOWS, three_drives
from tests.encoder.memory_source import FIRST_FRAME, MemorySource, numbered_drive
from tests.encoder.tiny_encoder import TINY

ROOT = Path(__file__).parents[2]
ONE = Split(train=("a",), val=("a",))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_cache(three_drives(), SPLIT, WINDOWS, NumberEncoder(), VARIANTS, tmp_path_factory.mktemp("caches"))


class Told(Silent):
    """Progress that keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


def chunk_files(store: Path) -> dict[str, bytes]:
    return {str(p.relative_to(store)): p.read_bytes() for p in store.rglob("*") if p.is_file() and "/c/" in str(p)}


def build_one(drive: Drive, folder: Path, encoder: NumberEncoder | None = None) -> Path:
    return build_cache(MemorySource([drive]), ONE, WINDOWS, encoder or NumberEncoder(), VARIANTS, folder)


def test_a_condition_shows_the_frames_of_its_own_window(built: Path):
    train = open_cache(built).split("train")
    rows = train.frame_index - FIRST_FRAME
    assert torch.equal(train.condition["normal"][:, 0].long(), rows)


def test_the_chunk_starts_at_the_frame_after_now(built: Path):
    train = open_cache(built).split("train")
    gas_row = (train.action[:, :, 0] * 1000).round().long()
    now = train.frame_index[:, -1] - FIRST_FRAME
    assert torch.equal(gas_row, torch.stack([now + 1, now + 2], dim=1))


def test_history_action_speed_time_and_waypoints_are_of_the_window_s_frames(built: Path):
    val = open_cache(built).split("val")
    rows = val.frame_index - FIRST_FRAME
    assert torch.equal((val.history_action[:, :, 0] * 1000).round().long(), rows)
    assert torch.equal((val.speed_mps * 100).round().long(), rows)
    assert torch.equal(val.time_us, rows * 100_000)
    assert val.waypoints is not None
    assert torch.equal(val.waypoints[:, 9, 0], rows[:, -1] / 2)


def test_drives_stand_in_the_split_s_order_and_windows_in_time_order(built: Path):
    train = open_cache(built).split("train")
    assert train.drive_ids == ("b", "a")
    assert train.drive.tolist() == [0] * (1300 - 4) + [1] * (900 - 4)
    assert (train.frame_index[1:1296, -1] > train.frame_index[:1295, -1]).all()


def test_without_history_the_past_actions_are_zero_and_the_frames_are_not(built: Path):
    train = open_cache(built).split("train")
    condition = train.condition
    assert torch.equal(condition["no-history"][:, 0], condition["normal"][:, 0])
    assert torch.equal(condition["normal"][:, 1], train.history_action[:, :, 0].half())
    assert condition["no-history"][:, 1].count_nonzero() == 0


def test_no_history_cannot_be_had_by_patching_the_history_token(tmp_path: Path):
    encoder = DriveViT(TINY, CHANNELS, True, 3).freeze()
    path = build_cache(MemorySource([numbered_drive("a", 12)]), ONE, WINDOWS, encoder, VARIANTS, tmp_path)
    condition = open_cache(path).split("train").condition
    summary = encoder.spec.groups[0]
    assert summary.name == "summary"
    assert (condition["normal"][:, 0] - condition["no-history"][:, 0]).abs().max() > 0.01


def test_each_frame_passes_the_image_part_once_for_both_variants_and_both_sides(tmp_path: Path):
    encoder = NumberEncoder()
    build_one(numbered_drive("a", 40), tmp_path, encoder)
    assert encoder.frames_seen == 40


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path, built: Path):
    again = build_cache(three_drives(), SPLIT, WINDOWS, NumberEncoder(), VARIANTS, tmp_path)
    assert again.name == built.name
    assert chunk_files(again) == chunk_files(built)


def test_what_is_built_is_not_built_again(built: Path):
    encoder = NumberEncoder()
    assert build_cache(three_drives(), SPLIT, WINDOWS, encoder, VARIANTS, built.parent) == built
    assert encoder.frames_seen == 0


def test_another_order_of_drives_is_another_cache(built: Path, tmp_path: Path):
    other = build_cache(
        three_drives(), Split(train=("a", "b"), val=("c",)), WINDOWS, NumberEncoder(), VARIANTS, tmp_path
    )
    assert other.name != built.name


def test_a_build_killed_in_the_middle_ends_with_the_same_bytes(tmp_path: Path, built: Path):
    builder = subprocess.Popen([sys.executable, "-m", "tests.cache.build_slowly", str(tmp_path)], cwd=ROOT)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("*.partial/pieces/*.piece")):
        assert time.monotonic() < deadline and builder.poll() is None, "the build did not get to its first piece"
        time.sleep(0.01)
    builder.send_signal(signal.SIGKILL)
    assert builder.wait() == -signal.SIGKILL
    assert not list(tmp_path.glob("*.zarr"))

    encoder = NumberEncoder()
    path = build_cache(three_drives(), SPLIT, WINDOWS, encoder, VARIANTS, tmp_path)
    assert encoder.frames_seen == 1300 + 50  # drive a was finished
    assert path.name == built.name
    assert chunk_files(path) == chunk_files(built)
    assert not list(tmp_path.glob("*.partial"))


def test_nan_speed_drops_exactly_the_windows_that_see_it(tmp_path: Path):
    drive = numbered_drive("a", 20)
    drive.speed_mps[7] = np.nan
    cache = open_cache(build_one(drive, tmp_path))
    now = cache.split("train").frame_index[:, -1] - FIRST_FRAME
    assert now.tolist() == [2, 3, 4, 5, 6, 10, 11, 12, 13, 14, 15, 16, 17]
    assert cache.attributes["dropped"] == {"speed_mps": 3}


def test_a_condition_beyond_half_precision_is_dropped_by_that_name(tmp_path: Path):
    cache = open_cache(build_one(numbered_drive("a", 20), tmp_path, NumberEncoder(scale=3860)))
    assert cache.num_windows("train") == 15  # of 16: 16 x 3860 is below 65504, 17 x 3860 is not
    assert cache.attributes["dropped"] == {"condition": 1}


def test_a_condition_that_is_often_beyond_half_precision_is_refused(tmp_path: Path):
    with pytest.raises(CacheBuildError, match="condition of 11 of 16 windows of drive 'a' is not finite"):
        build_one(numbered_drive("a", 20), tmp_path, NumberEncoder(scale=10_000))


def test_a_drive_without_waypoints_makes_a_cache_without_them(tmp_path: Path):
    cache = open_cache(build_one(numbered_drive("a", 20, waypoints=False), tmp_path))
    assert cache.split("train").waypoints is None


def test_an_encoder_that_breaks_its_promise_is_refused(tmp_path: Path):
    encoder = NumberEncoder()
    encoder.spec = ConditionSpec(7, encoder.spec.groups)
    with pytest.raises(CacheMismatchError, match=r"shape \(16, 2, 3\).*2 tokens of width 7"):
        build_one(numbered_drive("a", 20), tmp_path, encoder)


def test_a_side_without_windows_is_refused(tmp_path: Path):
    source = MemorySource([numbered_drive("a", 20), numbered_drive("c", 4)])
    with pytest.raises(CacheBuildError, match="val drives hold no whole window of 3 \\+ 2 frames"):
        build_cache(source, Split(("a",), ("c",)), WINDOWS, NumberEncoder(), VARIANTS, tmp_path)
    assert not list(tmp_path.glob("*.zarr"))


def test_a_second_builder_waits_for_the_first_and_finds_it_done(
    tmp_path: Path, built: Path, monkeypatch: pytest.MonkeyPatch
):
    """The first ends while the second says that it waits."""
    monkeypatch.setattr("flowlab.core.locks.TELL_AFTER_S", 0.0)
    first = hold(tmp_path / f"{built.stem}.lock")
    first.__enter__()
    said = []

    def end_the_first(message: str) -> None:
        said.append(message)
        shutil.copytree(built, tmp_path / built.name)
        first.__exit__(None, None, None)

    progress, encoder = SimpleNamespace(say=end_the_first, task=SILENT.task), NumberEncoder()
    path = build_cache(three_drives(), SPLIT, WINDOWS, encoder, VARIANTS, tmp_path, progress)
    assert path == tmp_path / built.name and encoder.frames_seen == 0
    assert said == [f"waiting for another flowlab process, which builds cache {built.stem}"]


def test_a_disk_that_refuses_is_one_sentence_and_leaves_nothing_visible(tmp_path: Path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(CacheBuildError, match=r"File too large.*same command again"):
            build_cache(three_drives(), SPLIT, WINDOWS, NumberEncoder(), VARIANTS, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.glob("*.zarr"))
    path = build_cache(three_drives(), SPLIT, WINDOWS, NumberEncoder(), VARIANTS, tmp_path)
    assert open_cache(path).num_windows("val") == 46


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheBuildError, match=r"Not a directory|File exists"):
        build_one(numbered_drive("a", 20), tmp_path / "file")


def test_what_a_builder_left_when_killed_after_the_renaming_is_removed(tmp_path: Path):
    path = build_one(numbered_drive("a", 20), tmp_path)
    path.with_name(f"{path.name}.partial").joinpath("pieces").mkdir(parents=True)
    assert build_one(numbered_drive("a", 20), tmp_path) == path
    assert not list(tmp_path.glob("*.partial"))


def test_the_content_of_a_drive_is_part_of_the_name(tmp_path: Path):
    drive = numbered_drive("a", 20)
    action = drive.action.copy()
    action[3, 2] += 0.1
    first, second = build_one(drive, tmp_path), build_one(dataclasses.replace(drive, action=action), tmp_path)
    assert first != second


def test_drives_whose_names_meet_have_two_pieces(tmp_path: Path):
    names = ["lake/b", "lake~b", "lake", "lake/" + "b" * 300, "lake%2Fb"]
    drives = [numbered_drive(name, 20 + place, seed=place) for place, name in enumerate(names)]
    path = build_cache(
        MemorySource(drives), Split(tuple(names[1:]), (names[0],)), WINDOWS, NumberEncoder(), VARIANTS, tmp_path
    )
    train = open_cache(path).split("train")
    assert torch.bincount(train.drive).tolist() == [17, 18, 19, 20]
    assert len({tuple(train.action[train.drive == place][:, 0, 2].tolist()) for place in range(4)}) == 4


@pytest.mark.parametrize("byte", [3, 20, -1])
def test_a_piece_that_was_damaged_is_encoded_again(tmp_path: Path, byte: int):
    pieces = Pieces(tmp_path)
    pieces.write("a", {"action": np.arange(6, dtype=np.float32)})
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    assert pieces.read("a") is not None
    content[byte] ^= 1
    path.write_bytes(content)
    assert pieces.read("a") is None


def test_a_damaged_cache_is_built_anew_and_said(tmp_path: Path):
    path = build_one(numbered_drive("a", 20), tmp_path)
    before = chunk_files(path)
    chunk = path / "train/action/c/0/0/0"
    chunk.write_bytes(bytes(len(chunk.read_bytes())))
    told = Told()
    assert (
        build_cache(MemorySource([numbered_drive("a", 20)]), ONE, WINDOWS, NumberEncoder(), VARIANTS, tmp_path, told)
        == path
    )
    assert chunk_files(path) == before
    assert told.said == [f"cache {path.stem}: train/action/c/0/0/0 is not what was written: it is built anew"]


@pytest.mark.parametrize(
    ("train", "num"),
    [
        ([9, 9, 9, 1, 2, 3, 4, 5, 8, 8], 5),  # a stretch of it
        ([1, 9, 2, 9, 3, 9, 4, 9, 6], 5),  # thinned, or every second image compressed once more
        ([1, 2, 3, 4, 8, 8, 8, 8, 8], 0),  # four of them
        ([0, 0, 0, 0, 0, 0, 0], 0),  # it stands still
        ([6, 5, 4, 3, 2, 1, 0], 0),  # the other way round: simple images that two drives happen to share
    ],
)
def test_a_recording_that_is_on_both_sides_is_found_by_its_images(train: list[int], num: int):
    frames = {"a": np.array(train, np.int64), "b": np.array([0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6], np.int64)}
    if num:
        with pytest.raises(CacheMismatchError, match=f"'a' and 'b' show the same images, {num} different ones"):
            require_no_shared_stretch(frames, Split(("a",), ("b",)), 5)
    else:
        require_no_shared_stretch(frames, Split(("a",), ("b",)), 5)


def test_drives_that_share_many_simple_images_in_no_order_are_no_copies():
    draw = np.random.default_rng(0)
    frames = {name: draw.integers(0, 256, 400) for name in "ab"}  # 256 images are all there are
    require_no_shared_stretch(frames, Split(("a",), ("b",)), 12)


def test_a_stretch_of_the_validation_drive_is_not_trained_on(tmp_path: Path):
    drive = numbered_drive("a", 30)
    rows = slice(10, 20)
    part = dataclasses.replace(
        numbered_drive("b", 10), action=drive.action[rows], time_us=drive.time_us[:10], speed_mps=drive.speed_mps[:10]
    )
    source = MemorySource([drive, part])
    source.images = lambda drive, rows, height, width: MemorySource.images(  # type: ignore[method-assign]
        source, source.drives["a"], rows + (10 if drive.drive_id == "b" else 0), height, width
    )
    with pytest.raises(CacheMismatchError, match="10 different ones in the same order"):
        build_cache(source, Split(("b",), ("a",)), WINDOWS, NumberEncoder(), VARIANTS, tmp_path)
    assert not list(tmp_path.glob("*.zarr"))


@pytest.mark.parametrize(("rows", "is_copy"), [(slice(10, 27), True), (slice(10, 26), False), (slice(30, 60), False)])
def test_without_a_camera_a_stretch_is_found_by_what_it_does(rows: slice, is_copy: bool):
    drive = numbered_drive("a", 60)
    kept = numbered_drive("b", 60, seed=1)
    action, speed = (np.array(array) for array in (kept.action, kept.speed_mps))
    here = slice(0, rows.stop - rows.start)
    if rows.start == 30:  # it stands still there in both
        drive.action[rows], drive.speed_mps[rows], action[here], speed[here] = 0.5, 0.0, 0.5, 0.0
    action[here], speed[here] = drive.action[rows], drive.speed_mps[rows]
    grey = {name: np.full(60, 127) for name in "ab"}
    split, drives = Split(("b",), ("a",)), [drive, dataclasses.replace(kept, action=action, speed_mps=speed)]
    if is_copy:  # 17 rows are 12 stretches of 6
        with pytest.raises(CacheMismatchError, match=r"'b' and 'a' do the same, without a camera .*, 12 different"):
            require_no_shared_stretch(grey, split, 12, drives)
    else:
        require_no_shared_stretch(grey, split, 12, drives)


def test_a_source_slower_or_faster_than_the_encoder_gives_the_same_bytes(tmp_path: Path, built: Path):
    class Slow(MemorySource):
        def images(self, *asked: Any) -> NDArray[np.uint8]:
            time.sleep(0.005)
            return super().images(*asked)

    slow = build_cache(
        Slow(list(three_drives().drives.values())), SPLIT, WINDOWS, NumberEncoder(), VARIANTS, tmp_path / "source"
    )
    busy = build_cache(three_drives(), SPLIT, WINDOWS, NumberEncoder(frame_s=2e-5), VARIANTS, tmp_path / "encoder")
    assert chunk_files(slow) == chunk_files(busy) == chunk_files(built)


def test_windows_of_frames_with_many_features_come_fewer_at_a_time_and_are_the_same(
    tmp_path: Path, built: Path, monkeypatch: pytest.MonkeyPatch
):
    seen = []

    class Watched(NumberEncoder):
        def encode_windows(self, features: torch.Tensor, *given: Any) -> torch.Tensor:
            seen.append(features.numel())
            return super().encode_windows(features, *given)

    monkeypatch.setattr(flowlab.cache.build, "MOST_FEATURES", 100)
    few = build_cache(three_drives(), SPLIT, WINDOWS, Watched(), VARIANTS, tmp_path)
    assert max(seen) <= 100
    assert chunk_files(few) == chunk_files(built)


def test_what_a_source_raises_while_images_are_read_comes_out_as_it_is(tmp_path: Path):
    class Torn(MemorySource):
        def images(self, drive: Drive, *asked: Any) -> NDArray[np.uint8]:
            if drive.drive_id == "b":
                raise LeftOutDriveError("torn video", "drive b is torn")
            return super().images(drive, *asked)

    torn = Torn(list(three_drives().drives.values()))
    with pytest.raises(LeftOutDriveError, match="drive b is torn"):
        build_cache(torn, SPLIT, WINDOWS, NumberEncoder(), VARIANTS, tmp_path)
    encoder = NumberEncoder()
    build_cache(three_drives(), SPLIT, WINDOWS, encoder, VARIANTS, tmp_path)
    assert encoder.frames_seen == 1300 + 50  # drive a was finished before
