import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from flowlab.cache.build import build_cache
from flowlab.cache.cache import open_cache
from flowlab.core.errors import CacheMismatchError
from flowlab.core.types import ConditionSpec
from flowlab.evaluate import frames as frames_module
from flowlab.evaluate.frames import ValidationFrames, cover, read_frames
from tests.cache.number_encoder import NumberEncoder
from tests.cache.three_drives import SPLIT, VARIANTS, WINDOWS, three_drives
from tests.encoder.memory_source import FIRST_FRAME
from tests.evaluate.made_frames import made_frames

TRUTH = np.arange(5 * 2 * 1, dtype=np.float32).reshape(5, 2, 1)


@pytest.fixture
def frames() -> ValidationFrames:
    """Frames 7 and 8 of drive b, then 7, 8 and 9 of drive a, each with a truth of its own."""
    return made_frames(TRUTH, ["x"], drive=[0, 0, 1, 1, 1], drive_ids=("b", "a", "unused"), now=[7, 8, 7, 8, 9])


def test_a_frame_is_known_by_its_drive_and_the_index_of_now(frames):
    assert frames.frame_drives == ["b", "b", "a", "a", "a"]
    assert frames.now.tolist() == [7, 8, 7, 8, 9]


def test_frames_are_taken_in_the_order_asked_for(frames):
    taken = frames.take(np.array([4, 0]))
    assert (taken.frame_drives, taken.now.tolist()) == (["a", "b"], [9, 7])
    assert taken.truth.ravel().tolist() == [8, 9, 0, 1]
    assert {len(part) for part in (taken.time_us, taken.history_action, taken.speed_mps, taken.condition)} == {2}


def test_the_digest_is_over_channels_drives_frames_and_true_chunks(frames):
    """Written out: a head in canonical JSON, then per frame, by drive and index, its index and its chunk."""
    head = b'{"channels":["x"],"drives":[["a",3],["b",2]],"horizon":2}'
    rows = [(7, (4.0, 5.0)), (8, (6.0, 7.0)), (9, (8.0, 9.0)), (7, (0.0, 1.0)), (8, (2.0, 3.0))]
    content = b"".join(np.array(now, "<i8").tobytes() + np.array(chunk, "<f4").tobytes() for now, chunk in rows)
    assert frames.digest() == hashlib.blake2b(head + content, digest_size=8).hexdigest()


def test_the_digest_does_not_know_what_a_policy_sees_nor_in_which_order(frames):
    seen = replace(
        frames,
        frame_index=frames.frame_index[:, 1:],
        history_action=frames.history_action[:, 1:] + 1,
        waypoints=np.zeros((5, 10, 2), np.float32),
        condition=torch.ones(5, 3, 2),
        drive_ids=("b", "a"),
    )
    swapped = replace(frames, drive=1 - frames.drive, drive_ids=("a", "b")).take(np.array([3, 1, 4, 0, 2]))
    assert frames.digest() == seen.digest() == swapped.digest()


def test_the_digest_is_the_same_in_small_blocks(frames, monkeypatch):
    whole = frames.digest()
    monkeypatch.setattr(frames_module, "BLOCK_ROWS", 2)
    assert frames.digest() == whole


CHANGES = {
    "a truth by one bit": lambda frames: replace(frames, truth=np.nextafter(frames.truth, np.float32(99))),
    "the channels": lambda frames: replace(frames, channels=("y",)),
    "a drive's name": lambda frames: replace(frames, drive_ids=("b", "c", "unused")),
    "the frames": lambda frames: replace(frames, frame_index=frames.frame_index + 1),
    "one frame less": lambda frames: frames.take(np.arange(4)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_digest_changes_with(frames, change):
    assert CHANGES[change](frames).digest() != frames.digest()


def test_other_frames_cover_the_control_s_in_the_control_s_order(frames):
    more = made_frames(
        np.concatenate([TRUTH[::-1], [[[90], [91]]]]).astype(np.float32),
        ["x"],
        drive=[1, 1, 1, 0, 0, 2],
        drive_ids=("b", "a", "other"),
        now=[9, 8, 7, 8, 7, 7],
        history=1,
    )
    rows = cover(frames, more)
    assert rows.tolist() == [4, 3, 2, 1, 0]
    assert more.take(rows).digest() == frames.digest()


def test_frames_that_are_missing_are_counted_and_the_first_is_named(frames):
    with pytest.raises(
        CacheMismatchError, match=r"lacks 2 of the control's 5 .* the first of them frame 8 of drive b\."
    ):
        cover(frames, frames.take(np.array([0, 3, 4])))


def test_no_frames_cover_nothing(frames):
    none = frames.take(np.arange(0))
    assert cover(none, frames).tolist() == cover(none, none).tolist() == []
    with pytest.raises(CacheMismatchError, match="lacks 5 of the control's 5"):
        cover(frames, none)


def test_another_truth_is_refused_even_by_the_sign_of_a_zero(frames):
    other = replace(frames, truth=frames.truth.copy())
    other.truth[0, 0, 0] = -0.0
    with pytest.raises(CacheMismatchError, match=r"other true actions .* on 1 of 5 .* frame 7 of drive b\."):
        cover(frames, other)


def test_other_channels_and_horizons_are_refused(frames):
    with pytest.raises(CacheMismatchError, match=r"chunks of 2 slots of y; the control's have 2 of x\."):
        cover(frames, replace(frames, channels=("y",)))
    with pytest.raises(CacheMismatchError, match=r"chunks of 1 slots of x"):
        cover(frames, replace(frames, truth=frames.truth[:, :1]))


class OneFrameEncoder(NumberEncoder):
    spec = ConditionSpec(1, NumberEncoder.spec.groups)


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same drives with three frames of history, and with one: the second holds two more frames per drive."""
    folder = tmp_path_factory.mktemp("caches")
    short = WINDOWS.model_copy(update={"history": 1})
    one = build_cache(three_drives(), SPLIT, WINDOWS, NumberEncoder(), VARIANTS, folder)
    return one, build_cache(three_drives(), SPLIT, short, OneFrameEncoder(), VARIANTS, folder)


def test_frames_are_read_from_a_cache_without_what_it_does_not_have(caches):
    cache = open_cache(caches[0])
    frames = read_frames(cache.split("val"), cache.channels, tokens=[1])
    assert (len(frames), frames.horizon, frames.channels) == (46, 2, ("gas", "brake", "steering"))
    assert frames.now[0] == FIRST_FRAME + 2
    assert frames.speed_mps.shape == (46, 3)
    assert frames.condition.shape == (46, 1, 3)
    bare = read_frames(cache.split("val", variants=()), cache.channels, rows=np.array([3, 1]))
    assert bare.condition.shape == (2, 0, 0)
    assert bare.now.tolist() == [FIRST_FRAME + 5, FIRST_FRAME + 3]


def test_a_cache_of_shorter_history_covers_the_control_s_frames_and_not_the_other_way(caches):
    control, own = (read_frames(open_cache(path).split("val", variants=()), "abc") for path in caches)
    rows = cover(control, own)
    assert rows.tolist() == list(range(2, 48))
    assert own.take(rows).digest() == control.digest()
    with pytest.raises(CacheMismatchError, match="lacks 2 of the control's 48"):
        cover(own, control)
