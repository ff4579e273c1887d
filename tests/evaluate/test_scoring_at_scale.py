"""Scoring in one grouped pass gives, to the bit, what a mask for each slice and drive gives, in little memory."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowlab.core.types import MetricRow
from flowlab.core.vocabulary import OVERALL
from flowlab.evaluate import places as places_module
from flowlab.evaluate.definitions import MetricDefinitions, define_metrics
from flowlab.evaluate.frames import ValidationFrames
from flowlab.evaluate.metrics import score, score_each_draw, score_l1_at
from flowlab.evaluate.places import Places
from flowlab.evaluate.slices import frame_masks, slot_masks
from flowlab.study.slices import SliceSettings
from tests.evaluate.made_frames import made_frames

SLICES = {
    "left": SliceSettings(channel="x", below=0.0, slots="any"),
    "high": SliceSettings(channel="x", above=0.3, slots="each"),
}
CHANNELS = ("x", "y", "z")


def made(num: int, horizon: int, num_channels: int, num_drives: int, seed: int) -> ValidationFrames:
    """Frames whose drives come in no order, with actions that round when they are added up."""
    stream = np.random.default_rng(seed)
    truth = stream.uniform(-1, 1, (num, horizon, num_channels)).astype(np.float32)
    drive = stream.integers(0, num_drives, num)
    return made_frames(truth, CHANNELS[:num_channels], drive=drive, drive_ids=[f"d{i}" for i in range(num_drives)])


def definitions_of(frames: ValidationFrames) -> MetricDefinitions:
    return define_metrics(SLICES, frames.channels, dict.fromkeys(frames.channels, 0.9))


def by_masks(prediction: np.ndarray, frames: ValidationFrames) -> dict[tuple[str, str, str, str], float]:
    """The plain way: a mask for each slice and drive, and all errors in memory at once."""
    error = np.abs(prediction.astype(np.float64) - frames.truth)
    kinds = frame_masks(frames.truth, frames.channels, SLICES)
    masks = {(where, ""): mask for where, mask in kinds.items()}
    for position, drive_id in enumerate(frames.drive_ids):
        masks |= {(where, drive_id): mask & (frames.drive == position) for where, mask in kinds.items()}
    found = {("num_frames", "", *where): float(mask.sum()) for where, mask in masks.items() if mask.any()}
    means = {where: error.mean(axis=1)[mask].mean(axis=0) for where, mask in masks.items() if mask.any()}
    for where, mask in slot_masks(frames.truth, frames.channels, SLICES).items():
        if mask.any():
            means[where, ""] = error[mask].mean(axis=0)
    for where, mean in means.items():
        found |= {("l1", name, *where): float(value) for name, value in zip(frames.channels, mean, strict=True)}
        found["l1", "", *where] = float(mean.mean())
    return found


def values(rows: list[MetricRow]) -> dict[tuple[str, str, str, str], float]:
    return {(row.metric, row.channel, row.slice, row.drive): row.value for row in rows}


@settings(max_examples=60, deadline=None)
@given(
    num=st.integers(0, 40),
    horizon=st.integers(1, 9),
    num_channels=st.integers(1, 3),
    num_drives=st.integers(1, 12),
    block=st.integers(2, 50),
    seed=st.integers(0, 2**32 - 1),
)
def test_one_pass_has_the_bits_of_a_mask_for_each_place(
    num: int, horizon: int, num_channels: int, num_drives: int, block: int, seed: int
) -> None:
    frames = made(num, horizon, num_channels, num_drives, seed)
    prediction = np.random.default_rng([seed, 1]).uniform(-1, 1, frames.truth.shape).astype(np.float32)
    expected = by_masks(prediction, frames)
    definitions = definitions_of(frames)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(places_module, "BLOCK_FRAMES", block)
        found = values(score(prediction, frames, definitions, readout="r"))
        alone = values(score_l1_at(Places(frames, definitions), prediction, readout="r"))
        each = values(score_each_draw(prediction[:, None], frames, definitions))
    assert {key: value for key, value in found.items() if key[0] in ("l1", "num_frames")} == expected
    whole = {key: value for key, value in expected.items() if key[0] == "l1" and (key[3] == "" or key[2] == OVERALL)}
    assert alone == {key: value for key, value in whole.items() if not key[2].startswith(("slot:", "high"))}
    assert {key: each[key] for key in expected} == pytest.approx(expected, rel=1e-13)  # slots are added otherwise there


@pytest.mark.parametrize("num_channels", [1, 3])
def test_blocks_change_no_bit_of_many_frames(monkeypatch: pytest.MonkeyPatch, num_channels: int) -> None:
    """Long sums are where the order of adding shows."""
    frames = made(30_000, 6, num_channels, 7, 0)
    stream = np.random.default_rng(1)
    draws = stream.uniform(-1, 1, (30_000, 3, 6, num_channels)).astype(np.float32)
    in_blocks = score(draws[:, 0], frames, definitions_of(frames), readout="r")
    each_in_blocks = score_each_draw(draws, frames, definitions_of(frames), clip=True)
    monkeypatch.setattr(places_module, "BLOCK_FRAMES", 10**9)
    assert score(draws[:, 0], frames, definitions_of(frames), readout="r") == in_blocks
    assert score_each_draw(draws, frames, definitions_of(frames), clip=True) == each_in_blocks
    expected = by_masks(draws[:, 0], frames)
    assert {key: value for key, value in values(in_blocks).items() if key in expected} == expected


def test_the_peak_of_scoring_is_at_most_twice_its_arrays() -> None:
    """However many drives there are: 500 of 40 frames, with a history of 6."""
    num = 20_000
    stream = np.random.default_rng(0)
    truth = stream.uniform(-1, 1, (num, 6, 3)).astype(np.float32)
    drive_ids = [f"d{i}" for i in range(500)]
    frames = made_frames(truth, CHANNELS, drive=np.arange(num) // 40, drive_ids=drive_ids, history=6)
    prediction = stream.uniform(-1, 1, truth.shape).astype(np.float32)
    arrays = (truth, prediction, frames.drive, frames.frame_index, frames.time_us, frames.history_action)
    definitions = definitions_of(frames)
    tracemalloc.start()
    rows = score(prediction, frames, definitions, readout="r")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(rows) > 500
    assert peak <= 2 * sum(array.nbytes for array in arrays)
