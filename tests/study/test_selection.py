"""The table [selection] of experiments.toml."""

import tomllib

import pytest

from flowlab.core.errors import StudyError, UnknownNameError
from flowlab.core.vocabulary import MODE_READOUTS
from flowlab.study.document import parse_document
from flowlab.study.draft import SIMULATED
from flowlab.study.selection import SelectionSettings, name_of, selection_for
from flowlab.study.study import build_study
from flowlab.study.template import study_text
from tests.study.test_slices import ARM


@pytest.fixture
def built(tmp_path, good_text):
    """The study of the cars with a table [selection] of that text; with `arm` that of the arm."""

    def build(table="", arm=False, old="", new=""):
        text = (ARM if arm else good_text).replace(old, new, 1)
        return build_study(tmp_path, parse_document(text + (f"\n[selection]\n{table}\n" if table else "")))

    return build


def test_a_car_s_modes_are_those_of_steering_without_a_table(built):
    assert built().selection == SelectionSettings(conflict=("gas", "brake"))


def test_an_arm_has_none_without_a_table_and_its_own_with_one(built):
    assert built(arm=True).selection is None
    assert built('channel = "gripper"\ngap = 0.3', arm=True).selection == SelectionSettings(channel="gripper", gap=0.3)


def test_the_defaults_are_taken_to_fit_a_source_whose_channels_are_not_known_yet():
    assert selection_for(None, None) == SelectionSettings()


def test_what_was_resolved_stays_as_it_is(built):
    selection = built().selection
    assert selection_for(selection, ("gas", "brake", "steering")) == selection


PROBLEMS = [
    ('channel = "steerin"', "unknown channel 'steerin' in selection.channel: did you mean 'steering'"),
    ('conflict = ["gas", "brakes"]', "unknown channel 'brakes' in selection.conflict: did you mean 'brake'"),
    ('conflict = ["gas", "gas"]', "conflict names gas twice. Name two channels."),
    ('conflict = ["gas"]', "selection.conflict"),
    ("minority = 0.6", "selection.minority: got 0.6, expected 0.5 or less."),
    ("minority = 0.0", "selection.minority: got 0.0, expected more than 0."),
    ("gap = -0.1", "selection.gap: got -0.1, expected 0 or more."),
    ('gap = "wide"', "selection.gap: got the text 'wide', expected a number."),
    ("vote_temperatures = [0.0]", "selection.vote_temperatures[0]: got 0.0, expected 1e-06 or more."),
    ("vote_temperatures = [0.1, 0.1]", "vote_temperatures names 0.1 twice. Give it once."),
    ("gaps = 0.1", "unknown key 'gaps' in [selection]: did you mean 'gap'"),
]


@pytest.mark.parametrize(("table", "told"), PROBLEMS, ids=[problem[0] for problem in PROBLEMS])
def test_one_clear_sentence(built, table, told):
    with pytest.raises((StudyError, UnknownNameError)) as raised:
        built(table)
    assert told in str(raised.value)


def test_a_table_without_a_channel_says_which_there_are(built):
    with pytest.raises(StudyError, match=r"\[selection\] names no channel. Name one: x, y, gripper."):
        built("gap = 0.2", arm=True)


def test_a_bar_for_channels_that_are_not_there_is_refused(built):
    with pytest.raises(
        StudyError, match=r"selection.conflict_above does nothing here: the drives have no gas and brak"
    ):
        built('channel = "x"\nconflict_above = 0.2', arm=True)
    two = built('channel = "x"\nconflict = ["x", "y"]\nconflict_above = 0.2', arm=True)
    assert two.selection.conflict == ("x", "y")


@pytest.mark.parametrize("readout", MODE_READOUTS)
def test_a_rule_may_name_a_readout_by_modes_where_there_are_some(built, readout):
    named = f'primary = {{ slice = "spike_frame", readout = "{readout}" }}'
    assert built(old='primary = { slice = "spike_frame" }', new=named).rule.primary.readout == readout
    of_arm = {"arm": True, "old": 'slice = "closing" }', "new": f'slice = "closing", readout = "{readout}" }}'}
    with pytest.raises(StudyError, match=f"study.primary: the readout '{readout}' needs a channel whose draws have"):
        built(**of_arm)
    assert built('channel = "gripper"', **of_arm).rule.primary.readout == readout


@pytest.mark.parametrize("readout", ["oracle-mode", "best-draw", "meank-4", "vote-committed-0_02"])
def test_a_rule_may_name_neither_a_bound_nor_a_rung_nor_a_vote(built, readout):
    named = f'primary = {{ slice = "spike_frame", readout = "{readout}" }}'
    with pytest.raises(UnknownNameError, match=f"unknown readout '{readout}' in study.primary"):
        built(old='primary = { slice = "spike_frame" }', new=named)


@pytest.mark.parametrize(("temperature", "name"), [(0.05, "0_05"), (1.0, "1"), (20.0, "20"), (1e-6, "0_000001")])
def test_a_temperature_has_a_name_without_a_point(temperature, name):
    assert name_of(temperature) == name


def test_what_the_template_shows_as_a_comment_are_the_defaults():
    text = study_text("s", SIMULATED["synthetic"])
    comment = [line.removeprefix("#   ") for line in text.splitlines() if line.startswith("#   ")]
    table = tomllib.loads("\n".join(comment[comment.index("[selection]") :]))["selection"]
    assert table == {name: SelectionSettings().to_json()[name] for name in table}
    assert len(table) == 3
