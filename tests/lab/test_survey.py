import numpy as np
import pytest

from flowlab.core.types import Drive
from flowlab.lab.survey import channels_of, length_of


def drive(time_us, action):
    num = len(time_us)
    values = np.asarray(action, np.float32).reshape(num, -1)
    names = tuple("ab")[: values.shape[1]]
    return Drive("d", names, np.arange(num), np.asarray(time_us), np.zeros(num, np.float32), values)


def test_the_rate_is_that_of_the_median_step_and_a_long_gap_shows_in_the_95th_percentile():
    times = np.cumsum([0, *[100_000] * 18, 700_000, 900_000])
    length = length_of(drive(times, np.zeros(21)))
    assert (length.frames, length.seconds, length.hz) == (21, pytest.approx(3.4), pytest.approx(10.0))
    assert length.gap_p95_s == pytest.approx(0.71, abs=0.001)  # between the 19th step, 0.7, and the 20th, 0.9: at 18.05


def test_one_frame_has_no_rate():
    assert length_of(drive([5], [0.0])) == (1, None, None, None)


def test_a_pedal_rests_at_0_and_a_held_arm_where_it_is_held():
    pedal = [0.0] * 7 + [1.0, 0.5, 0.25]
    held = [-2.0, 3.0, 3.01, 3.0, 3.0, 3.02, 2.99, 3.0, 3.0, 0.0]
    facts = channels_of([drive(np.arange(10) * 100, np.stack([pedal, held], axis=1))])
    assert [fact.name for fact in facts] == ["a", "b"]
    assert (facts[0].low, facts[0].median, facts[0].high) == (0.0, 0.0, 1.0)
    assert (facts[0].rest, facts[0].rest_share) == (0.0, pytest.approx(0.7))
    assert facts[1].rest == pytest.approx(3.0) and facts[1].rest_share == pytest.approx(0.8)


def test_a_channel_that_never_moves_is_at_rest_always_and_what_is_no_number_counts_nowhere():
    (still,) = channels_of([drive([0, 1, 2], [4.0, np.nan, 4.0])])
    assert still == ("a", 4.0, 4.0, 4.0, 4.0, 1.0)


def test_channels_are_taken_over_all_drives():
    one, other = drive([0, 1], [0.0, 1.0]), drive([0, 1], [2.0, 3.0])
    (fact,) = channels_of([one, other])
    assert (fact.low, fact.high) == (0.0, 3.0)
