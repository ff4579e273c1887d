from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowlab.core.errors import StudyError, UnknownNameError
from flowlab.study.combining import find_conflicts, find_row_conflict, row_name, solo_faults, with_rows
from flowlab.study.lever import changed_keys
from flowlab.study.study import load_study

DEMO = load_study(Path(__file__).parents[2])


@pytest.fixture
def study_of(tmp_path, good_text):
    """The study of the good text with these levers added, by name the text of what they set."""

    def build(old="", new="", **levers):
        text = good_text.replace(old, new) if old else good_text
        for name, changes in levers.items():
            text += f'\n[levers."{name.replace("_", "-")}"]\nset = {{ {changes} }}\n'
        (tmp_path / "experiments.toml").write_text(text)
        return load_study(tmp_path)

    return build


def test_levers_on_different_keys_can_be_on_together(study_of):
    study = study_of(slow='"train.lr" = 1e-5', deep='"decoder.layers" = 8')
    assert find_conflicts(study, study.levers) == {}


def test_levers_that_change_one_key_cannot_even_to_one_value(study_of):
    study = study_of(slow='"train.lr" = 1e-5', slow_too='"train.lr" = 1e-5, "train.steps" = 9')
    assert find_conflicts(study, ["slow", "slow-too"]) == {("slow", "slow-too"): "both change train.lr"}


def test_a_table_and_a_key_in_it_are_one_key(study_of):
    study = study_of(
        "lds = { alpha = 0.5 }",
        "lds = { alpha = 0.5, channel_alpha = { steering = 1.0 } }",
        none='"objective.lds.channel_alpha" = {}',
        steering='"objective.lds.channel_alpha.steering" = 2.0',
    )
    conflict = find_conflicts(study, ["none", "steering"])
    assert conflict == {("none", "steering"): "both change objective.lds.channel_alpha"}


def test_a_value_that_both_repeat_from_the_control_is_in_nobodys_way(study_of):
    same = '"train.batch" = 1024'
    study = study_of(slow=f'"train.lr" = 1e-5, {same}', deep=f'"decoder.layers" = 8, {same}')
    assert find_conflicts(study, ["slow", "deep"]) == {}


def test_a_value_that_one_repeats_and_the_other_changes_is_one_key(study_of):
    study = study_of(slow='"train.lr" = 1e-5, "train.batch" = 1024', small='"train.batch" = 64')
    assert find_conflicts(study, ["slow", "small"]) == {("slow", "small"): "both change train.batch"}


@pytest.mark.parametrize("order", [["plain", "cap"], ["cap", "plain"]])
def test_a_setting_that_the_other_lever_makes_useless_is_a_conflict_in_either_order(study_of, order):
    study = study_of(plain='"objective.lds.alpha" = 0.0', cap='"objective.lds.cap" = 5.0')
    ((pair, reason),) = find_conflicts(study, order).items()
    assert pair == tuple(order)
    assert reason.startswith(f"{order[0]} + {order[1]} sets objective.lds.cap, which does nothing here")


def test_a_table_begun_anew_by_one_lever_makes_the_order_matter(study_of):
    study = study_of(other='"drives.source" = "synthetic"', seeded='"drives.seed" = 5')
    reasons = find_conflicts(study, ["other", "seeded"])
    assert reasons == {("other", "seeded"): "which of the changes is made first matters"}


def test_two_sound_levers_that_make_no_sound_recipe_cannot_be_on_together(study_of):
    study = study_of(dropping='"train.history_dropout" = 0.5', lean='"cache.variants" = ["normal"]')
    assert "needs the variant 'no-history'" in find_conflicts(study, ["dropping", "lean"])["dropping", "lean"]


TALL = {"tall": '"encoder.image_height" = 1024', "wide": '"encoder.image_width" = 1024', "fine": '"encoder.patch" = 2'}


def test_three_levers_may_combine_in_pairs_and_not_all_at_once(study_of):
    study = study_of(**TALL)
    assert find_conflicts(study, ["tall", "wide", "fine"]) == {}
    assert find_row_conflict(study, ["tall", "fine"]) is None
    pair, reason = find_row_conflict(study, ["delta-off", "tall", "wide", "fine"])
    assert pair == ("tall", "wide")
    assert reason.startswith("with fine tall + wide + fine sets")
    assert "262144 patches" in reason


def test_a_row_whose_levers_cannot_be_on_together_is_refused(study_of):
    with pytest.raises(StudyError, match=r"screen1_row01 cannot have tall, wide, fine on together: .* 262144 patches"):
        with_rows(study_of(**TALL), {"screen1_row01": ("tall", "wide", "fine")})


def test_a_lever_that_changes_nothing_or_hardly_cannot_be_screened(study_of):
    study = study_of(placebo="", same='"train.lr" = 1.6e-4', twin='"train.lr" = 1.6000000001e-4')
    faults = solo_faults(study, study.levers)
    assert list(faults) == ["placebo", "same", "twin"]
    assert faults["placebo"] == faults["same"]
    assert faults["same"] == "it changes nothing that the control does not have already, like a placebo"
    assert "less than a millionth" in faults["twin"]


def test_a_lever_with_stats_of_its_own_cannot_be_screened(study_of, tmp_path):
    study_of(fewer='"drives.count" = 3')
    path = tmp_path / "experiments.toml"
    path.write_text(path.read_text() + 'stats = "own"\n')
    assert list(solo_faults(load_study(tmp_path), ["fewer", "delta-off"])) == ["fewer"]


def test_a_stacked_lever_and_one_that_makes_no_sense_on_it_cannot_be_screened(study_of):
    study = study_of(
        'rule = "panel"',
        'rule = "panel"\nstacked = ["plain"]',
        plain='"objective.lds.alpha" = 0.0',
        cap='"objective.lds.cap" = 5.0',
    )
    faults = solo_faults(study, study.levers)
    assert list(faults) == ["plain", "cap"]
    assert "stacked" in faults["plain"]
    assert "with alpha 0 all weights are 1" in faults["cap"]


def test_an_unknown_lever_names_the_nearest(study_of):
    with pytest.raises(UnknownNameError, match="did you mean 'delta-off'"):
        solo_faults(study_of(), ["delta-of"])


def test_a_row_changes_what_its_levers_change_and_says_which_they_are(study_of):
    study = study_of(slow='"train.lr" = 1e-5', deep='"decoder.layers" = 8')
    name = row_name("screen1", 7)
    found = with_rows(study, {name: ("slow", "deep")})
    assert name == "screen1_row07"
    assert changed_keys(found.base, found.setup(name)) == ["decoder.layers", "train.lr"]
    assert found.file.levers[name].hypothesis == "row 7 of screen1: slow, deep"
    assert found.levers == (*study.levers, name)
    assert found.base == study.base


COMBINE = ("lr-half", "warmup-100", "lds-1.0", "lds-cap-5", "lds-steering", "merge-off", "depth-2", "stratified")


@settings(max_examples=15, deadline=None)
@given(st.permutations(COMBINE))
def test_a_row_is_its_levers_changes_one_after_the_other_in_any_order(order):
    setup = DEMO.base
    for lever in order:
        setup = DEMO.changed(lever, setup)
    assert with_rows(DEMO, {"screen1_row01": COMBINE}).setup("screen1_row01") == setup


def test_most_levers_of_the_demo_study_can_be_on_together():
    levers = ("lr-half", "lr-double", "delta-off", "horizon-1", "lds-off", "lds-cap-5", "regression", "depth-2", "ema")
    assert set(find_conflicts(DEMO, levers)) == {
        ("lr-half", "lr-double"),
        ("delta-off", "horizon-1"),
        ("delta-off", "regression"),
        ("horizon-1", "regression"),
        ("lds-off", "lds-cap-5"),
        ("lds-off", "regression"),
        ("lds-cap-5", "regression"),
    }
