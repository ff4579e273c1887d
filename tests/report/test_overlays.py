"""Predictions in a page are those of the run, to a step of the two bytes that hold them; what is missing is told."""

import base64
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from flowlab.core.progress import SILENT
from flowlab.lab.checkpoints import open_checkpoint
from flowlab.lab.predictions import predict
from flowlab.report.campaign import read_campaign
from flowlab.report.overlays import STEPS, _drive, read_overlays
from flowlab.report.pictures import COLUMNS, ROWS
from flowlab.report.predicted import MOST_RUNS, Predicted, read_predicted
from flowlab.study.study import Study, load_study


@pytest.fixture(scope="module")
def overlays(finished: Study):
    return read_overlays(read_campaign(finished), SILENT, {})


@pytest.fixture
def own(finished: Study, tmp_path: Path) -> Study:
    """The finished study, for one test to change."""
    return load_study(Path(shutil.copytree(finished.root, tmp_path / "study")))


def unpacked(shared: dict, text: str, channel: int) -> np.ndarray:
    numbers = np.frombuffer(base64.b64decode(text), "<i2")
    low, high = shared["low"][channel], shared["high"][channel]
    return low + (numbers + STEPS / 2) / STEPS * (high - low)


def test_what_is_drawn_is_what_the_run_predicts(finished: Study, overlays) -> None:
    run = overlays.shared["runs"][0]["id"]
    predictions = predict(open_checkpoint(finished, run), "meank")
    for drive in overlays.drives:
        rows = predictions.frames.frame_drives == np.array(drive["name"])
        for channel in range(len(overlays.shared["channels"])):
            told = unpacked(overlays.shared, drive["runs"][0][channel], channel)
            truth = unpacked(overlays.shared, drive["truth"][channel], channel)
            half = (overlays.shared["high"][channel] - overlays.shared["low"][channel]) / STEPS
            np.testing.assert_allclose(told, predictions.prediction[rows][:, 0, channel], atol=half)
            np.testing.assert_allclose(truth, predictions.frames.truth[rows][:, 0, channel], atol=half)


def test_the_control_comes_first_and_then_each_lever_once(overlays) -> None:
    levers = [run["lever"] for run in overlays.shared["runs"]]
    assert levers[0] == "control"
    assert set(levers[:3]) == {"control", "regression", "rungs"}


def test_windows_hold_the_largest_steering(finished: Study, overlays) -> None:
    found = read_predicted(read_campaign(finished), SILENT, {})
    steering = found.channels.index("steering")
    largest = np.abs(found.truth[:, :, steering]).max()
    assert max(max(np.abs(one["truth"])) for one in overlays.windows) == pytest.approx(largest, abs=1e-4)
    assert all(len(one["truth"]) == found.truth.shape[1] for one in overlays.windows)


def test_frames_before_a_window_are_those_of_its_drive(overlays) -> None:
    assert {len(one["before"]) for one in overlays.windows if one["place"] >= 6} <= {6}
    assert all(len(one["before"]) <= one["place"] for one in overlays.windows)


def test_every_drive_has_pictures_of_its_frames(overlays) -> None:
    for drive in overlays.drives:
        pictures = drive["pictures"]
        assert len(pictures["sheets"]) == -(-len(pictures["places"]) // (COLUMNS * ROWS))
        assert pictures["places"][0] == 0
        assert all(sheet.startswith("data:image/jpeg;base64,") for sheet in pictures["sheets"])


def test_draws_that_are_not_the_journals_are_left_out_and_told(own: Study) -> None:
    (run,) = own.runs.glob("regression-*")
    chunk = next(path for path in sorted((run / "draws.zarr").rglob("*")) if path.is_file() and "c" in path.parts)
    content = bytearray(chunk.read_bytes())
    content[0] ^= 1
    chunk.write_bytes(content)
    found = read_overlays(read_campaign(own), SILENT, {})
    assert "regression" not in [run["lever"] for run in found.shared["runs"]]
    assert any("not what its journal names" in note for note in found.notes)


def test_without_draws_the_section_says_so(own: Study) -> None:
    for bank in own.runs.glob("*/draws.zarr"):
        shutil.rmtree(bank)
    found = read_overlays(read_campaign(own), SILENT, {})
    assert found.absent == "No run has kept its draws here, so there are no predictions to show."


def test_recordings_that_changed_are_not_shown(own: Study) -> None:
    path = own.root / "experiments.toml"
    path.write_text(path.read_text().replace("frames = 90", "frames = 91"))
    found = read_overlays(read_campaign(load_study(own.root)), SILENT, {})
    assert found.drives[0]["pictures"] is None
    assert any("not the one that was cached" in note for note in found.notes)


def test_forty_runs_on_five_drives_take_less_than_six_megabytes() -> None:
    """15,000 frames of 3 channels: a run takes 2 x 45,000 bytes, and a third more as text."""
    num, drive = 15_000, np.repeat(np.arange(5), 3_000)
    chunk = np.zeros((num, 1, 3), np.float32)
    now = np.arange(num)
    found = Predicted(
        ("a", "b", "c"), "mean", tuple("vwxyz"), drive, now, now * 100_000, chunk, {"one": chunk}, []
    )  # fmt: skip
    size = sum(
        len(json.dumps(_drive(found, name, np.flatnonzero(drive == n), np.zeros(3), np.ones(3))))
        for n, name in enumerate(found.drive_ids)
    )
    without_runs, of_a_run = size - 120_000, 120_000
    assert without_runs < 400_000
    assert without_runs + MOST_RUNS * of_a_run < 6_000_000
