import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flowlab.core.errors import DivergedError, StudyError, UnknownNameError
from flowlab.core.types import MetricRow, join_slice
from flowlab.evaluate.definitions import METRICS_VERSION, define_metrics
from flowlab.evaluate.metrics import require_slices, score
from flowlab.study.selection import SelectionSettings
from flowlab.study.settings import MetricKey
from flowlab.study.slices import SliceSettings
from tests.evaluate.made_frames import made_frames

CHANNELS = ("gas", "brake", "steering")
THRESHOLDS = {"gas": 0.5, "brake": 0.5, "steering": 0.4}
ACTIONS = st.floats(-1, 1, width=32)


def definitions_for(channels):
    return define_metrics(None, channels, THRESHOLDS | {name: 0.5 for name in channels if name not in THRESHOLDS})


def scored(prediction, truth, drive=None, channels=CHANNELS, drive_ids=("a", "b")):
    """The values by (metric, channel, place): a slice, a drive as `drive:a`, or a slice on a drive."""
    frames = made_frames(truth, channels, drive=drive, drive_ids=drive_ids)
    rows = score(prediction, frames, definitions_for(channels), readout="meank")
    values = {(row.metric, row.channel, join_slice(row.slice, row.drive)): row.value for row in rows}
    assert len(values) == len(rows), "one row for each (metric, channel, slice, drive)"
    assert {row.readout for row in rows} <= {"meank"}
    assert np.isfinite(list(values.values())).all()
    return values


def truth_and_prediction():
    """Two frames of two slots. Steering: a spike then a flat frame; gas: none then full; brake: untouched."""
    truth, prediction = np.zeros((2, 2, 3), np.float32), np.zeros((2, 2, 3), np.float32)
    truth[0, :, 2] = [0.25, 0.75]
    prediction[0, :, 2] = [0.5, 0.25]  # errors 0.25 and 0.5
    prediction[1, :, 2] = [-0.125, 0.125]  # errors 0.125 and 0.125, chunk mean right
    truth[1, :, 0] = 1.0  # error 1 in both slots
    return truth, prediction


HAND = {
    ("l1", "steering", "overall"): 0.25,
    ("l1", "gas", "overall"): 0.5,
    ("l1", "brake", "overall"): 0.0,
    ("l1", "", "overall"): 0.25,
    ("l1", "steering", "spike_frame"): 0.375,
    ("l1", "steering", "flat_frame"): 0.125,
    ("l1", "steering", "spike_slot"): 0.5,
    ("l1", "steering", "flat_slot"): 0.125,
    ("l1", "steering", "slot:1"): (0.25 + 0.125) / 2,
    ("l1", "steering", "slot:2"): (0.5 + 0.125) / 2,
    ("l1", "steering", "drive:a"): 0.375,
    ("l1", "gas", "drive:b"): 1.0,
    ("chunk_mean_l1", "steering", "overall"): 0.0625,  # means 0.5 against 0.375, 0 against 0
    ("chunk_mean_correlation", "steering", "overall"): 1.0,  # two points on a rising line
    ("maneuver_fraction", "steering", "overall"): 0.5,
    ("maneuver_l1", "steering", "overall"): 0.375,
    ("maneuver_slot_fraction", "steering", "overall"): 0.25,  # 0.75 reaches 0.4, and 0.25 beside it does not
    ("maneuver_slot_l1", "steering", "overall"): 0.5,
    ("maneuver_fraction", "gas", "overall"): 0.5,
    ("maneuver_l1", "gas", "overall"): 1.0,
    ("maneuver_slot_fraction", "gas", "overall"): 0.5,
    ("maneuver_slot_l1", "gas", "overall"): 1.0,
    ("maneuver_fraction", "brake", "overall"): 0.0,
    ("maneuver_slot_fraction", "brake", "overall"): 0.0,
    ("num_frames", "", "overall"): 2.0,
    ("num_frames", "", "spike_frame"): 1.0,
    ("num_frames", "", "drive:b"): 1.0,
    ("l1", "steering", "spike_frame:drive:a"): 0.375,
    ("l1", "steering", "flat_frame:drive:b"): 0.125,
    ("num_frames", "", "flat_frame:drive:b"): 1.0,
}


@pytest.mark.parametrize("key", HAND, ids=" ".join)
def test_by_hand(key):
    truth, prediction = truth_and_prediction()
    assert scored(prediction, truth, drive=np.array([0, 1]))[key] == pytest.approx(HAND[key], abs=1e-12)


def test_only_l1_and_num_frames_come_for_each_drive_of_a_frame_slice():
    """Three channels and all together make 4 l1, and num_frames is one: 5 rows where drive a has its spike frame."""
    values = scored(*reversed(truth_and_prediction()), drive=np.array([0, 1]))
    crossed = {key for key in values if ":drive:" in key[2]}
    assert {key[0] for key in crossed} == {"l1", "num_frames"}
    assert len(crossed) == 10, "drive a has no flat frame and drive b no spike"


def test_a_drive_is_a_column_and_no_part_of_the_slice():
    truth, prediction = truth_and_prediction()
    frames = made_frames(truth, drive=[0, 1])
    rows = score(prediction, frames, definitions_for(CHANNELS), readout="meank")
    assert MetricRow("l1", "steering", "spike_frame", "meank", 0.375, drive="a") in rows
    assert MetricRow("num_frames", "", "overall", "meank", 1.0, drive="b") in rows
    assert {row.slice for row in rows if row.drive} == {"overall", "spike_frame", "flat_frame"}


def test_baselines_are_scored_without_the_crossed_slices():
    truth, prediction = truth_and_prediction()
    frames = made_frames(truth, drive=[0, 1])
    rows = score(prediction, frames, definitions_for(CHANNELS), readout="repeat-last", crossed=False)
    assert {row.slice for row in rows if row.drive} == {"overall"}


def test_a_correlation_of_something_constant_is_omitted():
    truth, prediction = truth_and_prediction()
    values = scored(prediction, truth)
    assert ("chunk_mean_correlation", "gas", "overall") not in values  # the prediction is constant
    assert ("chunk_mean_correlation", "brake", "overall") not in values


def test_opposite_chunk_means_correlate_at_minus_one():
    truth = np.array([0.0, 0.1, 0.5], np.float32).reshape(3, 1, 1)
    values = scored(-truth, truth, channels=("steering",))
    assert values["chunk_mean_correlation", "steering", "overall"] == pytest.approx(-1)


def test_slices_without_frames_have_no_rows():
    truth = np.full((3, 2, 3), 0.3, np.float32)
    slices = {where for _, _, where in scored(truth, truth)}
    assert slices == {"overall", "drive:a", "slot:1", "slot:2"}


def test_a_channel_without_maneuvers_has_a_fraction_of_zero_and_no_error():
    values = scored(*[np.zeros((3, 2, 3), np.float32)] * 2)
    assert values["maneuver_fraction", "brake", "overall"] == 0.0
    assert not [key for key in values if key[0] in ("maneuver_l1", "maneuver_slot_l1")]


def test_no_frames_give_no_rows():
    assert scored(*[np.zeros((0, 6, 3), np.float32)] * 2) == {}


def test_a_robot_arm_is_scored_without_steering_slices():
    truth = np.ones((2, 3, 2), np.float32)
    values = scored(truth - 0.5, truth, channels=("elbow", "wrist"))
    assert values["l1", "wrist", "overall"] == 0.5
    assert not [key for key in values if "flat" in key[2] or "spike" in key[2]]


def test_a_diverged_prediction_is_named_not_averaged():
    truth, prediction = truth_and_prediction()
    prediction[1, 0, 0] = np.nan
    with pytest.raises(DivergedError, match="'meank' is not finite on 1 of 2 frames"):
        scored(prediction, truth)


def test_what_is_clipped_is_held_within_the_range_of_its_channel():
    """Gas ends at 0 and 1, steering at -1 and 1; of x no range is known."""
    prediction = np.array([-0.5, 1.5, 1.5], np.float32).reshape(3, 1, 1).repeat(3, axis=2)
    frames = made_frames(np.zeros_like(prediction), ("gas", "steering", "x"))
    definitions = definitions_for(frames.channels)
    found = {
        clip: [
            row.value
            for row in score(prediction, frames, definitions, readout="meank", clip=clip)
            if (row.metric, row.slice, row.drive) == ("l1", "overall", "") and row.channel
        ]
        for clip in (False, True)
    }
    assert found[False] == pytest.approx([3.5 / 3] * 3)
    assert found[True] == pytest.approx([2 / 3, 2.5 / 3, 3.5 / 3])


def test_chunk_means_are_of_clipped_actions():
    """Gas 2 and 0 are held at 1 and 0: the mean is 0.5, and not 1."""
    prediction = np.array([2.0, 0.0], np.float32).reshape(1, 2, 1)
    frames = made_frames(np.zeros_like(prediction), ("gas",))
    rows = score(prediction, frames, definitions_for(frames.channels), readout="meank", clip=True)
    assert [row.value for row in rows if row.metric == "chunk_mean_l1" and not row.drive] == [0.5, 0.5]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_clipping_does_not_hide_what_is_not_finite(bad):
    frames = made_frames(np.zeros((2, 1, 1), np.float32), ("gas",))
    prediction = np.array([0.0, bad], np.float32).reshape(2, 1, 1)
    with pytest.raises(DivergedError, match="is not finite on 1 of 2 frames"):
        score(prediction, frames, definitions_for(frames.channels), readout="meank", clip=True)


def test_shapes_that_do_not_fit_are_refused():
    truth, prediction = truth_and_prediction()
    with pytest.raises(ValueError, match="must both be"):
        scored(prediction[:, :1], truth)
    with pytest.raises(ValueError, match="drive"):
        scored(prediction, truth, drive=np.array([0]))


def test_sums_are_in_float64():
    truth = np.zeros((200_000, 1, 1), np.float32)
    prediction = np.full_like(truth, 0.1)
    assert scored(prediction, truth, channels=("gas",))["l1", "gas", "overall"] == pytest.approx(
        float(np.float32(0.1)), rel=1e-12
    )


def key(**changes):
    return MetricKey(**({"slice": "spike_frame"} | changes))


def test_a_number_that_the_frames_have_is_let_through():
    frames = made_frames(truth_and_prediction()[0], drive=[0, 1])
    keys = [key(), key(slice="slot:2"), key(slice="overall", drive="b"), key(slice="overall", metric="maneuver_l1")]
    require_slices(frames, definitions_for(CHANNELS), keys)


REFUSED = [
    (
        key(),
        StudyError,
        "number l1 steering spike_frame meank will have no value: nothing in the 2 validation frames is",
    ),
    (key(channel="gripper"), UnknownNameError, "unknown channel 'gripper' in the rule's number l1 gripper spike_frame"),
    (key(slice="spike"), UnknownNameError, "unknown slice 'spike' in the rule's number .*: did you mean 'spike_slot'"),
    (key(slice="overall", drive="c"), UnknownNameError, "unknown validation drive 'c' in the rule's number"),
    (key(slice="overall", metric="maneuver_l1"), StudyError, "will have no value"),
    (key(slice="overall", metric="chunk_mean_correlation"), StudyError, "will have no value"),
]


@pytest.mark.parametrize(("wanted", "error", "told"), REFUSED, ids=[one[0].shown() for one in REFUSED])
def test_a_number_that_no_run_would_have_is_refused(wanted, error, told):
    flat = made_frames(np.zeros((2, 2, 3), np.float32))
    with pytest.raises(error, match=told):
        require_slices(flat, definitions_for(CHANNELS), [key(slice="flat_frame"), wanted])


def test_the_definitions_tell_slices_and_no_thresholds():
    given = {"far": SliceSettings(channel="x", size_above=1, slots="any")}
    assert define_metrics(given, ("x", "y"), {"x": 0.2, "y": 0.3}).to_json() == {
        "version": METRICS_VERSION,
        "slices": {"far": {"channel": "x", "size_above": 1.0, "slots": "any"}},
    }


def test_flowlabs_own_slices_written_out_are_the_same_definitions():
    own = define_metrics(None, CHANNELS, {})
    written = {name: SliceSettings.model_validate(table) for name, table in own.to_json()["slices"].items()}
    assert define_metrics(written, CHANNELS, {}).to_json() == own.to_json()


def test_a_slice_of_a_channel_that_the_cache_lacks_is_refused():
    given = {"far": SliceSettings(channel="z", size_above=1, slots="any")}
    with pytest.raises(UnknownNameError, match=r"unknown channel 'z' in slices.far: Known: x, y"):
        define_metrics(given, ("x", "y"), {})


def test_a_readout_by_modes_needs_a_channel_that_has_some():
    """A plug-in's channels are known only once its drives are read."""
    frames = made_frames(np.zeros((1, 2, 2), np.float32), ("x", "y"))
    keys = [key(slice="overall", channel="x", readout="mode")]
    with pytest.raises(StudyError, match=r"number l1 x overall mode: the readout 'mode' needs .* one of x, y"):
        require_slices(frames, definitions_for(("x", "y")), keys)
    require_slices(frames, definitions_for(("x", "y")), keys, SelectionSettings(channel="y"))


CHUNKS = st.tuples(st.integers(1, 12), st.integers(1, 4)).flatmap(
    lambda shape: st.tuples(*[arrays(np.float32, (*shape, 3), elements=ACTIONS)] * 2)
)


@settings(max_examples=40, deadline=None)
@given(CHUNKS, st.randoms(use_true_random=False))
def test_the_order_of_frames_does_not_matter(chunks, random):
    prediction, truth = chunks
    drive = np.arange(len(truth)) % 2
    order = list(range(len(truth)))
    random.shuffle(order)
    before = scored(prediction, truth, drive)
    after = scored(prediction[order], truth[order], drive[order])
    # a correlation may come and go with the last bit of a mean when the values differ by no more than that
    keys = {key for key in before if key[0] != "chunk_mean_correlation"}
    assert keys == {key for key in after if key[0] != "chunk_mean_correlation"}
    assert {key: after[key] for key in keys} == pytest.approx({key: before[key] for key in keys}, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(CHUNKS)
def test_the_truth_has_no_error_against_itself(chunks):
    values = scored(chunks[1], chunks[1])
    assert {value for key, value in values.items() if key[0].endswith("l1")} == {0.0}


@settings(max_examples=40, deadline=None)
@given(CHUNKS)
def test_l1_overall_is_the_mean_over_slots_and_over_drives_by_size(chunks):
    prediction, truth = chunks
    values = scored(prediction, truth, np.arange(len(truth)) % 2)
    slots = [values["l1", "steering", f"slot:{slot}"] for slot in range(1, truth.shape[1] + 1)]
    assert values["l1", "steering", "overall"] == pytest.approx(np.mean(slots), abs=1e-12)
    drives = [f"drive:{name}" for name in "ab" if ("num_frames", "", f"drive:{name}") in values]
    total = sum(values["l1", "steering", where] * values["num_frames", "", where] for where in drives)
    assert values["l1", "steering", "overall"] * len(truth) == pytest.approx(total, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(CHUNKS)
def test_correlations_stay_within_their_bounds(chunks):
    values = scored(*chunks)
    assert all(abs(value) <= 1 for key, value in values.items() if key[0] == "chunk_mean_correlation")


@settings(max_examples=40, deadline=None)
@given(CHUNKS)
def test_the_error_of_a_chunk_mean_never_exceeds_the_mean_error(chunks):
    values = scored(*chunks)
    for (metric, channel, where), value in values.items():
        if metric == "chunk_mean_l1":
            assert value <= values["l1", channel, where] + 1e-12
