import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowlab.core.errors import StudyError
from flowlab.study.draft import SIMULATED, Draft, Guard
from flowlab.study.slices import SliceSettings
from flowlab.study.split import SplitSettings
from flowlab.study.study import Study, build_study
from flowlab.study.template import draft_study, kebab, key_of, quoted, study_text, write_study
from flowlab.study.template_tables import Seen, no_slices, selection_table, slices_table, split_table

ARM = """\
[drives]
source = "synthetic"
channels = ["lift", "grip"]

"""
SPLIT = "[split]\nnum_val = 1\n\n"
SLICE = {"high_lift": (SliceSettings(channel="lift", above=2.5, slots="any"), "12% of the frames")}


def arm(**changes) -> Draft:
    """The draft for an arm with two channels and nothing that a car has."""
    draft = {
        "drives": ARM,
        "split": SPLIT,
        "channels": ("lift", "grip"),
        "lead": "lift",
        "slice": "overall",
        "guards": (Guard("lift", "high_lift", 0.03), Guard("grip", "overall", 0.2)),
        "slices": slices_table("Slices of its own.", SLICE),
        "selection": selection_table("lift", 0.3, (0.04, 0.2, 0.1)),
    }
    return Draft(**draft | changes)


def drafted(draft: Draft, folder: Path = Path("My Study_1")) -> Study:
    return draft_study(folder, draft)[1]


def uncommented(text: str, first: str, last: str) -> str:
    """The lines of `text` from the comment `first` to the comment `last`, as TOML."""
    lines = text.splitlines()
    begin = lines.index(f"#   {first}")
    end = next(number for number in range(begin, len(lines)) if lines[number].startswith(f"#   {last}"))
    return "\n".join(line.removeprefix("#").removeprefix("   ") for line in lines[begin : end + 1])


@pytest.mark.parametrize("source", SIMULATED)
def test_the_slice_that_is_shown_as_a_comment_is_one(source):
    table = uncommented(study_text("s", SIMULATED[source]), "[slices.sharp_right]", "slots")
    sharp = SliceSettings.model_validate(tomllib.loads(table)["slices"]["sharp_right"])
    assert sharp.to_json() == {"channel": "steering", "above": 0.5, "slots": "any"}


@pytest.mark.parametrize("source", SIMULATED)
def test_what_is_written_is_a_study(source):
    study = drafted(SIMULATED[source])
    assert study.name == "my-study-1"
    assert study.file.drives.source == source
    assert study.levers == ("delta-off", "lds-off", "lr-half", "depth-2")
    assert study.recipe("lr-half").train.lr == study.control.train.lr / 2
    assert study.recipe("depth-2").decoder.layers == 2
    assert study.rule.panel_seeds == tuple(range(1001, 1009))
    assert study.rule.judged_seeds == tuple(range(1001, 1007))
    assert [(guard.channel, guard.slice) for guard in study.rule.guardrails] == [
        ("steering", "flat_frame"),
        ("steering", "overall"),
        ("gas", "overall"),
        ("brake", "overall"),
    ]


def test_the_demo_study_has_these_levers_too_and_the_same_rule():
    demo = build_study(Path(), tomllib.loads((Path(__file__).parents[2] / "experiments.toml").read_text()))
    new = drafted(SIMULATED["carracing"])
    for name, lever in new.file.levers.items():
        assert (list(demo.file.levers[name].set), demo.file.levers[name].tags) == (list(lever.set), lever.tags)
    assert new.rule.digest() == demo.rule.digest()


def test_what_has_no_steering_is_judged_in_units_of_sigma_and_merges_nothing():
    study = drafted(arm())
    assert {stage.bar_unit for stage in study.rule.stages} == {"sigma"}
    assert len(study.rule.control_seeds) == 16
    assert study.rule.primary.shown() == "l1 lift overall meank"
    assert [guard.margin for guard in study.rule.guardrails] == [0.03, 0.2]
    assert study.control.action_space.merge is False
    assert "standardise" in study.levers
    assert (study.selection.channel, study.selection.gap, study.selection.vote_temperatures) == (
        "lift",
        0.3,
        (0.04, 0.2),
    )
    assert study.slices["high_lift"].above == 2.5


def test_a_range_too_small_for_temperatures_leaves_voting_as_it_is():
    assert drafted(arm(selection=selection_table("lift", 0.001, None))).selection.vote_temperatures == (0.02, 0.1)


def test_the_slice_that_is_shown_where_there_is_none_is_one():
    text = study_text("s", arm(slices=no_slices("lift"), guards=(Guard("grip", "overall", 0.2),)))
    assert tomllib.loads(uncommented(text, "[slices.high_lift]", "slots"))["slices"]["high_lift"]["channel"] == "lift"


def test_keyboard_recordings_are_read_out_by_the_median_and_a_lever_puts_the_published_recipe_back():
    study = drafted(Draft(drives='[drives]\nsource = "synthetic"\n\n', split=SPLIT, by_keys=True))
    assert {number.readout for number in (study.rule.primary, *study.rule.guardrails)} == {"mediank"}
    assert study.control.objective.delta_weight == 1.0
    assert study.recipe("published").objective.delta_weight == 10.0
    assert study.recipe("published").decoder.init == "torch" != study.control.decoder.init


def test_the_backbone_that_is_shown_as_a_comment_is_a_lever_that_applies():
    text = study_text("s", arm(backbone=(126, 168)))
    shown = uncommented(text, "[levers.dinov2]", '"encoder.image_width"')
    study = build_study(Path(), tomllib.loads(f"{text}\n{shown}"))
    encoder = study.setup("dinov2").inputs.encoder
    assert (encoder.kind, encoder.image_height, encoder.image_width) == ("huggingface", 126, 168)


def test_windows_say_how_many_seconds_they_are():
    text = study_text("s", arm(horizon=16, hz=30.0, in_seconds=True))
    assert "history = 6  # frames up to now that the encoder sees: 0.2 s\n" in text
    assert "horizon = 16  # slots of the chunk that the policy predicts: 0.53 s\n" in text
    assert "history_s = 0.2 and horizon_s = 0.53 mean the same" in text


@pytest.mark.parametrize("num", [3, 40])
def test_names_of_a_split_are_all_there_whether_one_a_line_or_many(num):
    names = tuple(f"episode_{number:06d}" for number in range(num))
    text = split_table(SplitSettings(val=names, without=("other",)), 0.2)
    assert tomllib.loads(text)["split"] == {"val": list(names), "without": ["other"]}
    assert max(map(len, text.splitlines())) <= 120
    assert "# 20% of the frames validate." in text


def test_blocks_and_overfitting_are_said_in_capitals():
    blocks = split_table(SplitSettings(blocks={"seconds": 17.0, "gap_s": 1.7}, val=("a#002",)), 0.2)
    assert "# ONE RECORDING ALONE" in blocks
    assert tomllib.loads(blocks)["split"] == {"blocks": {"seconds": 17, "gap_s": 1.7}, "val": ["a#002"]}
    assert "# TRAIN = VALIDATION" in split_table(SplitSettings(scale="overfit"), None)


def test_how_much_was_seen_is_one_line():
    seen = Seen({"a": 1200, "b": 34}, 150.0, (8.4, 9.62), 9.0, 0.1, None, (), {}, {})
    assert seen.in_words() == "2 drives, 1,234 frames, 2 min, 8.4 to 9.62 Hz"


def test_a_study_is_never_overwritten(tmp_path):
    path = write_study(tmp_path, "first = 1\n")
    with pytest.raises(StudyError, match=r"holds an experiments.toml already"):
        write_study(tmp_path, "second = 2\n")
    assert path.read_text() == "first = 1\n"


def test_a_file_in_the_folders_place_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match="cannot be written"):
        write_study(tmp_path / "file", "")


def test_a_name_that_is_none_is_refused():
    with pytest.raises(StudyError, match="got the text 'My Study'"):
        draft_study(Path("s"), SIMULATED["synthetic"], "My Study")


@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_any_text_survives_toml(text):
    assert tomllib.loads(f"key = {quoted(text)} # {quoted(text)}")["key"] == text


@pytest.mark.parametrize(("text", "name"), [("Lake District 2", "lake-district-2"), ("___", "study"), ("a.b", "a-b")])
def test_a_folder_name_becomes_a_study_name(text, name):
    assert kebab(text) == name


@pytest.mark.parametrize(("name", "key"), [("lift", "lift"), ("lift.pos", '"lift.pos"'), ("", '""')])
def test_a_key_is_bare_where_it_can_be(name, key):
    assert key_of(name) == key
    assert tomllib.loads(f"{key_of(name)} = 1") == {name: 1}
