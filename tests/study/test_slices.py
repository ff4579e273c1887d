"""Slices and channels as data, as experiments.toml has them."""

import pytest
from pydantic import ValidationError

from flowlab.core.digest import canonical_json
from flowlab.core.errors import StudyError, UnknownNameError
from flowlab.core.vocabulary import CHUNK_READOUTS, SINGLE_MEAN, TAKEN_SLICES
from flowlab.study.document import parse_document
from flowlab.study.rule import Rule, largest_difference, require_sealable
from flowlab.study.settings import MetricKey, PluginDrives, StudyFile
from flowlab.study.slices import SliceSettings, frame_slices, slices_for, slot_slices
from flowlab.study.study import build_study

ARM = """
[study]
name = "arm"
rule = "panel"
primary = { channel = "gripper", slice = "closing" }

[drives]
source = "synthetic"
channels = ["x", "y", "gripper"]

[split]
num_val = 1

[slices.closing]
channel = "gripper"
above = 0.4
slots = "any"

[slices.far]
channel = "y"
size_above = 1
slots = "each"

[control.action_space]
merge = false

[rules.panel]
preset = "panel"
panel_seeds = [1001, 1002]
judged_seeds = [1001, 1002]
guardrails = [{ channel = "x", slice = "far", margin = 3.0 }]
"""


@pytest.fixture
def arm(tmp_path):
    """The study of the arm, with a change made to its text."""

    def build(old="", new=""):
        assert old in ARM
        return build_study(tmp_path, parse_document(ARM.replace(old, new, 1)))

    return build


def test_a_study_has_its_own_channels_and_slices(arm):
    study = arm()
    assert study.channels == ("x", "y", "gripper")
    assert list(study.slices) == ["closing", "far"]
    assert frame_slices(study.slices) == ("overall", "closing")
    assert slot_slices(study.slices, 2) == ("far", "slot:1", "slot:2")
    assert study.slices["far"].to_json() == {"channel": "y", "size_above": 1.0, "slots": "each"}


def test_an_empty_table_of_slices_takes_flowlabs_own_away():
    steering = ("gas", "brake", "steering")
    assert list(slices_for(None, steering)) == ["flat_frame", "spike_frame", "flat_slot", "spike_slot"]
    assert slices_for({}, steering) == {}


def test_flowlabs_own_slices_need_their_channel_where_the_channels_are_known():
    assert slices_for(None, ("x", "y")) == {}
    assert len(slices_for(None, None)) == 4


PROBLEMS = [
    ('channel = "gripper", slice', "slice", "study.primary names no channel. Name one: x, y, gripper."),
    (
        'channel = "x", slice',
        'channel = "z", slice',
        "unknown channel 'z' in rules.panel.guardrails[0]: Known: gripper",
    ),
    (
        'slice = "closing"',
        'slice = "spike_frame"',
        "unknown slice of l1 'spike_frame' in study.primary: Known: closing",
    ),
    ('slice = "closing"', 'slice = "far", metric = "chunk_mean_l1"', "unknown slice of chunk_mean_l1 'far'"),
    (
        'channel = "gripper", slice = "closing"',
        'channel = "", slice = "overall", metric = "maneuver_l1"',
        "maneuver_l1 is taken per channel. Name one: x, y, gripper.",
    ),
    (
        "merge = false",
        "merge = true",
        "control has action_space.merge, which needs the channels gas and brake, and the drives have x, y, gripper. "
        "Set action_space.merge = false.",
    ),
    (
        "[rules.panel]",
        "[control.evaluation]\nclip = true\n[rules.panel]",
        "control.evaluation.clip does nothing here: no actuator range is known of the channels x, y, gripper. Leave it",
    ),
    ('["x", "y", "gripper"]', '["x", "y", "x"]', "drives: channels names x twice."),
    (
        '["x", "y", "gripper"]',
        '["x:y"]',
        "drives.channels[0]: a channel is named by letters, digits, _, . and -, up to",
    ),
    ('["x", "y", "gripper"]', "[]", "drives.channels: got [], expected a list of at least 1."),
]


@pytest.mark.parametrize(("old", "new", "told"), PROBLEMS, ids=[problem[1][:30] for problem in PROBLEMS])
def test_one_clear_sentence(arm, old, new, told):
    with pytest.raises((StudyError, UnknownNameError)) as raised:
        arm(old, new)
    assert told in str(raised.value)


@pytest.mark.parametrize("source", ['channels = ["x", "steering", "gripper"]', "options = { count = 1 }"])
def test_clip_may_be_given_where_a_channel_has_a_range_or_the_channels_are_not_known(tmp_path, source):
    kind = "synthetic" if source.startswith("channels") else "my_module:Source"
    text = ARM.replace('source = "synthetic"\nchannels = ["x", "y", "gripper"]', f'source = "{kind}"\n{source}')
    text = text.replace('channel = "y"', 'channel = "x"').replace("[rules", "[control.evaluation]\nclip = true\n[rules")
    assert build_study(tmp_path, parse_document(text)).control.evaluation.clip


def test_clip_may_be_turned_off_where_it_would_do_nothing(arm):
    study = arm("[rules.panel]", "[control.evaluation]\nclip = false\n[rules.panel]")
    assert not study.control.evaluation.clip


@pytest.mark.parametrize("readout", [*CHUNK_READOUTS, SINGLE_MEAN])
def test_a_rule_may_look_at_maneuver_slots_of_any_readout(arm, readout):
    primary = f'metric = "maneuver_slot_l1", channel = "gripper", slice = "overall", readout = "{readout}"'
    study = arm('channel = "gripper", slice = "closing"', primary)
    assert study.rule.primary.shown() == f"maneuver_slot_l1 gripper overall {readout}"


def test_a_plug_in_s_channels_are_not_known_before_it_is_opened(arm):
    study = arm('source = "synthetic"\nchannels = ["x", "y", "gripper"]', 'source = "my_module:Source"')
    assert study.channels is None
    assert isinstance(study.file.drives, PluginDrives)


IMPOSSIBLE = [
    {"above": 0.5, "below": 0.5},
    {"size_above": 0.5, "size_below": 0.5},
    {"size_below": 0.0},
    {"above": 0.5, "size_below": 0.5},
    {"below": -0.5, "size_below": 0.5},
    {"size_above": 0.5, "above": -0.5, "below": 0.5},
]


@pytest.mark.parametrize("bounds", IMPOSSIBLE, ids=str)
def test_bounds_that_nothing_can_satisfy_are_refused(bounds):
    with pytest.raises(ValidationError, match="no value can satisfy"):
        SliceSettings(channel="x", slots="any", **bounds)


POSSIBLE = [
    {"above": 0.5, "below": 0.6},
    {"size_above": 0.5, "above": 0.0},
    {"size_above": 0.5, "below": 0.0},
    {"size_above": -1.0},
    {"above": -0.5, "size_below": 0.5},
]


@pytest.mark.parametrize("bounds", POSSIBLE, ids=str)
def test_bounds_that_something_satisfies_are_taken(bounds):
    SliceSettings(channel="x", slots="any", **bounds)


@pytest.mark.parametrize("name", [*TAKEN_SLICES, "a:b", "a b", "", "x" * 65])
def test_a_name_that_is_taken_or_no_name_is_refused(name):
    tables = parse_document(ARM) | {"slices": {name: {"channel": "x", "above": 0.5, "slots": "any"}}}
    with pytest.raises(ValidationError, match=r"the name .* is taken|named by letters"):
        StudyFile.model_validate(tables)


def test_a_drive_is_a_key_of_its_own(arm):
    study = arm('slice = "closing"', 'slice = "overall", drive = "drive_05"')
    assert study.rule.primary.drive == "drive_05"
    assert study.rule.primary.shown() == "l1 gripper drive:drive_05 meank"


def test_a_rule_without_a_drive_has_the_digest_that_it_had_before_there_was_one():
    rule = MetricKey(slice="overall").model_dump(exclude_none=True)
    assert rule == {
        "metric": "l1",
        "channel": "steering",
        "slice": "overall",
        "readout": "meank",
        "direction": "lower",
    }


def test_a_rule_that_was_sealed_with_a_drive_in_its_slice_is_still_read(arm):
    sealed = arm().rule.to_json()
    sealed["primary"]["slice"] = "drive:drive_05"
    rule = Rule.model_validate_json(canonical_json(sealed))
    assert rule.to_json() == sealed


def test_no_difference_exceeds_the_range_of_a_known_channel_and_others_have_none(arm):
    keys = {name: MetricKey(channel=name, slice="overall") for name in ("steering", "gas", "gripper", "")}
    assert [largest_difference(key) for key in keys.values()] == [2.0, 1.0, float("inf"), float("inf")]
    correlation = MetricKey(metric="chunk_mean_correlation", channel="gripper", slice="overall", direction="higher")
    assert largest_difference(correlation) == 2.0
    require_sealable(arm().rule.judging({"frames": "0"}))  # a margin of 3 may be sensible for a channel in metres
