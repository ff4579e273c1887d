from pathlib import Path

import numpy as np
import pytest

from flowlab.core.seeds import numpy_stream
from flowlab.core.vocabulary import CHANNELS
from flowlab.drives.conformance import SourceConformance
from flowlab.drives.synthetic import SyntheticSource, draw_synthetic, embed_states
from flowlab.drives.windows import cut_windows
from flowlab.study.settings import SyntheticDrives, WindowSettings

STEERING = CHANNELS.index("steering")


def make_source(**settings) -> SyntheticSource:
    return SyntheticSource(SyntheticDrives(source="synthetic", **settings), Path())


class TestSyntheticConforms(SourceConformance):
    def source(self):
        return make_source(count=3, frames=80)


class TestSyntheticWithChannelsOfItsOwnConforms(SourceConformance):
    def source(self):
        return make_source(count=3, frames=80, channels=("x", "y", "z", "gripper"))


def test_the_default_channels_have_the_numbers_that_they_always_had():
    assert make_source(count=2, frames=60, seed=3).digest("drive_01") == "6682c7ced5522f7a"


def test_the_last_of_other_channels_is_the_one_with_two_modes():
    cars, arm = make_source(), make_source(channels=("x", "y", "z", "gripper"))
    action, own = cars.load("drive_00").action, arm.load("drive_00").action
    np.testing.assert_array_equal(own[:, [0, 1, 3]], action)
    np.testing.assert_allclose(own[:, 2], (own[:, 0] - own[:, 1]) / 2, atol=1e-7)  # a quarter of the bend


def test_fewer_channels_keep_the_two_modes():
    action = make_source().load("drive_00").action
    for names, columns in ((("gripper",), [2]), (("x", "gripper"), [0, 2])):
        drive = make_source(channels=names).load("drive_00")
        assert drive.channels == names
        np.testing.assert_array_equal(drive.action, action[:, columns])


def test_steering_is_exactly_one_of_two_values_as_labelled():
    sample = draw_synthetic(100, numpy_stream(0, "t"), gap=0.5, mean=0.25)
    assert sample.conditions.shape == (100, 12, 32) and sample.conditions.dtype == np.float32
    assert sample.actions.shape == (100, 6, 3) and sample.actions.dtype == np.float32
    assert (sample.actions[sample.modes == 1, :, STEERING] == 0.5).all()
    assert (sample.actions[sample.modes == 0, :, STEERING] == 0.0).all()


def test_the_upper_mode_has_the_mass_asked_for():
    sample = draw_synthetic(10_000, numpy_stream(0, "t"), mass=0.7)
    assert sample.modes.mean() == pytest.approx(0.7, abs=4 * np.sqrt(0.7 * 0.3 / 10_000))


def test_the_mode_is_independent_of_the_condition():
    sample = draw_synthetic(10_000, numpy_stream(0, "t"), mass=0.5)
    for state in sample.states.T:
        assert abs(np.corrcoef(state, sample.modes)[0, 1]) < 0.04


def test_noise_has_the_standard_deviation_asked_for():
    sample = draw_synthetic(10_000, numpy_stream(0, "t"), gap=0.0, noise=0.1)
    assert sample.actions[..., STEERING].std() == pytest.approx(0.1, rel=0.02)


def test_unimodal_steering_is_a_known_function_of_the_state():
    sample = draw_synthetic(50, numpy_stream(0, "t"), unimodal=True)
    first, last = sample.actions[:, 0, STEERING], sample.actions[:, -1, STEERING]
    np.testing.assert_allclose(first, 0.8 * np.sin(np.pi / 2 * sample.states[:, 0]), rtol=1e-5)
    np.testing.assert_allclose(last, first / 2, rtol=1e-5)
    assert (sample.modes == -1).all()


def test_the_condition_gives_the_state_back_by_a_linear_map():
    sample = draw_synthetic(50, numpy_stream(0, "t"), num_tokens=2, width=4)
    embedding = np.stack([embed_states(row[None], 2, 4).ravel() for row in np.eye(3, dtype=np.float32)])
    states, *_ = np.linalg.lstsq(embedding.T, sample.conditions.reshape(50, 8).T, rcond=None)
    np.testing.assert_allclose(states.T, sample.states, atol=1e-4)


def test_gas_and_brake_are_the_two_signs_of_half_the_second_state():
    sample = draw_synthetic(50, numpy_stream(0, "t"))
    gas, brake = sample.actions[:, 0, CHANNELS.index("gas")], sample.actions[:, 0, CHANNELS.index("brake")]
    np.testing.assert_allclose(gas - brake, sample.states[:, 1] / 2, atol=1e-7)
    assert (np.minimum(gas, brake) == 0).all()


def test_default_drives_hold_both_flat_and_spike_windows():
    source = make_source()
    for drive_id in source.drive_ids():
        drive = source.load(drive_id)
        steering = np.abs(drive.action[cut_windows(drive, WindowSettings()).chunk, STEERING])
        assert (steering > 0.5).any(axis=1).mean() > 0.2
        assert (steering < 0.05).all(axis=1).mean() > 0.1


def test_a_fork_holds_one_mode_until_it_ends():
    mode = make_source(frames=1000, mass=0.5).modes("drive_00")
    changes = mode[:-1][np.diff(mode) != 0], mode[1:][np.diff(mode) != 0]
    assert (np.minimum(*changes) == -1).all()
    assert set(mode) == {-1, 0, 1}


def test_steering_in_a_fork_is_that_of_its_mode():
    source = make_source(frames=1000, mean=0.1, gap=0.8)
    steering, mode = source.load("drive_00").action[:, STEERING], source.modes("drive_00")
    np.testing.assert_allclose(steering[mode == 1], 0.5, atol=0.1)
    np.testing.assert_allclose(steering[mode == 0], -0.3, atol=0.1)
    assert (np.abs(steering[mode == -1]) < 0.05).all()


def test_nothing_but_steering_tells_which_mode_was_drawn():
    left, right = make_source(mass=0.0), make_source(mass=1.0)
    one, two = left.load("drive_00"), right.load("drive_00")
    assert (one.action[:, STEERING] != two.action[:, STEERING]).any()
    np.testing.assert_array_equal(one.speed_mps, two.speed_mps)
    np.testing.assert_array_equal(one.waypoints, two.waypoints)
    np.testing.assert_array_equal(np.delete(one.action, STEERING, 1), np.delete(two.action, STEERING, 1))
    rows = np.arange(len(one))
    np.testing.assert_array_equal(left.images(one, rows, 8, 8), right.images(two, rows, 8, 8))


def test_the_image_shows_that_a_fork_comes_next():
    source = make_source()
    drive, mode = source.load("drive_00"), source.modes("drive_00")
    last_straight = np.flatnonzero((mode[:-1] == -1) & (mode[1:] >= 0))
    green = source.images(drive, last_straight, 8, 8)[..., 1]
    assert (green == 255).all()


def test_waypoints_are_on_the_arc_of_the_bend():
    drive = make_source().load("drive_00")
    bend = (drive.speed_mps - 10.0) / 3.0
    x, y = drive.waypoints[:, -1, 0], drive.waypoints[:, -1, 1]
    # On a circle through the origin, tangent to x: curvature = 2 y / (x^2 + y^2).
    np.testing.assert_allclose(2 * y / (x**2 + y**2), 0.02 * bend, atol=1e-6)


def test_another_seed_gives_other_drives():
    assert make_source(seed=0).digest("drive_00") != make_source(seed=1).digest("drive_00")
