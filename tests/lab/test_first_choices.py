"""What a first study is given, by numbers."""

import numpy as np
import pytest

from flowlab.lab.first_choices import are_keys, choose_channels, choose_image, choose_sizes, choose_windows, margin_of
from flowlab.lab.first_slices import Sides, ends_of, wider_spikes
from flowlab.lab.survey import ChannelFacts


@pytest.mark.parametrize(
    ("hz", "horizon"), [(None, 6), (8.4, 6), (10, 6), (20, 12), (30, 16), (60, 16), (5, 3), (1, 2)]
)
def test_a_chunk_is_about_as_long_as_six_frames_of_ten_hertz(hz, horizon):
    assert choose_windows(hz, None).horizon == horizon


@pytest.mark.parametrize(("gap_s", "longest"), [(0.1, 0.5), (0.25, 0.5), (1.0, 2.0)])
def test_a_step_may_be_half_a_second_or_twice_the_usual_one(gap_s, longest):
    assert choose_windows(10, gap_s).max_gap_s == longest


@pytest.mark.parametrize(
    ("size", "patches", "patch", "image"),
    [
        (None, 32, 8, (48, 48)),
        ((80, 160), 32, 8, (32, 64)),
        ((480, 640), 32, 8, (48, 64)),
        ((160, 80), 32, 8, (64, 32)),
        ((80, 160), 128, 14, (112, 224)),
    ],
)
def test_an_image_keeps_its_shape_in_whole_patches(size, patches, patch, image):
    assert choose_image(size, patches, patch) == image


def test_sizes_are_for_the_machine_and_the_windows():
    assert choose_sizes(False, False, None, True, 100, 20).batch == 16  # a quarter, and a power of two
    assert choose_sizes(False, True, None, True, 10_000, 20_000).draws == 8
    assert choose_sizes(True, True, None, True, 10_000, 20_000).draws == 32
    assert choose_sizes(False, False, (480, 640), False, 100, 20).image_height == 16


def test_keys_are_mostly_at_three_values():
    taps = np.array([[0.0], [1.0], [0.0], [-1.0]] * 10 + [[0.37]])
    wheel = np.linspace(-1, 1, 41)[:, None]
    assert are_keys(taps)
    assert not are_keys(wheel)
    assert not are_keys(np.hstack([taps, wheel]))
    assert not are_keys(np.ones((5, 2)))


def test_a_car_keeps_its_channels_among_many():
    names = [f"lamp_{number}" for number in range(8)] + ["steering"]
    action = np.tile(np.arange(20.0)[:, None], (1, 9)) * np.array([9, 8, 7, 6, 5, 4, 3, 2, 0.01])
    facts = [ChannelFacts(name, 0.0, 1.0, 2.0, 0.0, 0.1) for name in names]
    assert choose_channels(action, facts) == [*names[:7], "steering"]


def test_a_margin_is_a_hundredth_of_a_deviation():
    assert (margin_of(38.2), margin_of(0.329)) == (0.4, 0.003)


def sides(values: np.ndarray) -> Sides:
    """A frame with a chunk of one slot for each value, every fourth of them validates."""
    chunks = values.astype(np.float32)[:, None, None]
    return Sides(("steering",), chunks[np.arange(len(values)) % 4 != 0], chunks[::4])


def test_ends_begin_at_round_numbers_and_hold_a_tenth_or_so():
    found = ends_of(sides(np.linspace(0, 10, 1001)), "steering")
    assert {name: one.settings.to_json() for name, one in found.items()} == {
        "high": {"channel": "steering", "above": 9.0, "slots": "any"},
        "low": {"channel": "steering", "below": 1.0, "slots": "any"},
    }
    assert found["high"].share == pytest.approx(0.1, abs=0.001)


def test_an_end_where_half_of_the_frames_rest_is_none():
    values = np.concatenate([np.full(500, 10.0), np.linspace(0, 9, 500)])
    assert set(ends_of(sides(values), "steering")) == {"low"}


def test_spikes_are_looked_for_on_both_sides():
    found = wider_spikes(sides(np.linspace(-0.5, 0.5, 1001)))
    assert found is not None and found.settings.size_above == 0.4
    assert wider_spikes(sides(np.zeros(1001))) is None
