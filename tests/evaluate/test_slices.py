import numpy as np
import pytest

from flowlab.evaluate import slices
from flowlab.evaluate.slices import fit_thresholds, maneuver_slots
from flowlab.study.slices import SliceSettings, slices_for

CHANNELS = ("gas", "steering")


def frame_masks(truth, channels, given=None):
    return slices.frame_masks(truth, channels, slices_for(given, channels))


def slot_masks(truth, channels, given=None):
    return slices.slot_masks(truth, channels, slices_for(given, channels))


def steering_chunks(*rows):
    """(N, H, 2) with that steering and gas 0.9, which must never matter."""
    steering = np.array(rows, dtype=np.float32)
    return np.stack([np.full_like(steering, 0.9), steering], axis=-1)


TRUTH = steering_chunks(
    [0.0, 0.04, -0.04],  # flat
    [0.0, 0.0, 0.05],  # neither: the last slot is not below 0.05
    [0.0, 0.3, -0.6],  # spike, to the right
    [0.5, 0.5, 0.5],  # neither: 0.5 is not above 0.5
)


def test_a_frame_is_flat_if_all_its_slots_are():
    assert frame_masks(TRUTH, CHANNELS)["flat_frame"].tolist() == [True, False, False, False]


def test_a_frame_is_a_spike_if_any_slot_is_on_either_side():
    assert frame_masks(TRUTH, CHANNELS)["spike_frame"].tolist() == [False, False, True, False]


def test_overall_holds_every_frame():
    assert frame_masks(TRUTH, CHANNELS)["overall"].tolist() == [True] * 4


def test_slot_slices_hold_the_slots_that_fulfil_them():
    masks = slot_masks(TRUTH, CHANNELS)
    assert masks["spike_slot"].sum() == 1
    assert masks["spike_slot"][2, 2]
    assert masks["flat_slot"].sum() == 3 + 2 + 1


def test_the_numbered_slots_partition_the_chunk():
    masks = slot_masks(TRUTH, CHANNELS)
    numbered = np.stack([masks[f"slot:{slot}"] for slot in (1, 2, 3)])
    assert (numbered.sum(axis=0) == 1).all()
    assert masks["slot:1"][:, 0].all()


def test_steering_is_found_by_name_not_by_position():
    swapped = TRUTH[..., ::-1]
    assert frame_masks(swapped, ("steering", "gas"))["spike_frame"].tolist() == [False, False, True, False]


def test_a_robot_arm_has_no_steering_slices():
    masks = frame_masks(TRUTH, ("elbow", "wrist")) | slot_masks(TRUTH, ("elbow", "wrist"))
    assert sorted(masks) == ["overall", "slot:1", "slot:2", "slot:3"]


BOUNDS = [
    ({"above": 0.3}, [0.3, 0.31, -0.9], [False, True, False]),
    ({"below": -0.3}, [-0.3, -0.31, 0.9], [False, True, False]),
    ({"size_above": 0.3, "above": 0.0}, [-0.5, 0.5, 0.2], [False, True, False]),
    ({"above": -0.1, "below": 0.1}, [-0.1, 0.0, 0.1], [False, True, False]),
]


@pytest.mark.parametrize(("bounds", "actions", "inside"), BOUNDS, ids=str)
def test_a_slot_is_in_a_slice_if_all_bounds_hold(bounds, actions, inside):
    truth = np.array(actions, np.float32).reshape(1, 3, 1)
    given = {"mine": SliceSettings(channel="gripper", slots="each", **bounds)}
    assert slot_masks(truth, ("gripper",), given)["mine"].tolist() == [inside]


def test_slices_that_are_given_replace_flowlabs_own():
    given = {"full-gas": SliceSettings(channel="gas", above=0.8, slots="all")}
    assert frame_masks(TRUTH, CHANNELS, given)["full-gas"].tolist() == [True] * 4
    assert sorted(frame_masks(TRUTH, CHANNELS, given) | slot_masks(TRUTH, CHANNELS, given)) == [
        "full-gas",
        "overall",
        "slot:1",
        "slot:2",
        "slot:3",
    ]


def test_bounds_are_compared_in_the_precision_of_the_actions():
    """float32(0.3) is above 0.3 in float64, and not above 0.3 in its own precision."""
    given = {"mine": SliceSettings(channel="x", above=0.3, slots="any")}
    truth = np.full((1, 1, 1), 0.3, np.float32)
    assert frame_masks(truth, ("x",), given)["mine"].tolist() == [False]
    assert frame_masks(truth.astype(np.float64), ("x",), given)["mine"].tolist() == [True]


def channel(*values):
    return np.array(values, dtype=np.float32).reshape(-1, 1, 1)


def test_a_threshold_is_the_090_quantile_of_the_size():
    assert fit_thresholds(channel(*(-1) ** np.arange(11) * np.arange(11) / 10), ["gas"])["gas"] == pytest.approx(0.9)


def test_a_channel_mostly_at_rest_is_thresholded_among_its_active_values():
    brake = channel(*[0.0] * 989, *(np.arange(11) + 1) / 11)
    assert fit_thresholds(brake, ["brake"])["brake"] == pytest.approx(10 / 11)


def test_a_channel_that_never_moves_has_no_maneuvers():
    brake = channel(0.0, 0.0, 1e-4)
    thresholds = fit_thresholds(brake, ["brake"])
    assert thresholds == {"brake": 0.0}
    assert not maneuver_slots(brake[..., 0], thresholds["brake"]).any()


def test_a_pedal_often_fully_down_still_has_maneuvers():
    gas = channel(0.1, 0.2, 1.0, 1.0, 1.0)
    threshold = fit_thresholds(gas, ["gas"])["gas"]
    assert maneuver_slots(gas[..., 0], threshold).ravel().tolist() == [False, False, True, True, True]


def test_a_maneuver_is_a_slot_that_reaches_the_threshold_on_either_side():
    steering = np.array([[0.1, -0.8, 0.0], [0.7, 0.7, 0.75]], dtype=np.float32)
    assert maneuver_slots(steering, 0.75).tolist() == [[False, True, False], [False, False, True]]
