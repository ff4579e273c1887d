import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowlab.core.errors import DriveError, MissingError, StudyError, UnknownNameError
from flowlab.core.plugins import TABLE, study_path
from flowlab.study.recipe import DecoderSettings, ObjectiveSettings
from flowlab.study.settings import DRIVES_BY_SOURCE
from flowlab.study.slices import SliceSettings
from flowlab.study.study import load_study
from flowlab.study.template import SIZES, choose_val, find_udacity_drives, kebab, quoted, write_study

SEVEN = ["jungle_a/drive_00", "lake_a/drive_00", "lake_b/drive_00", "lake_b/drive_01"]
SEVEN += [f"lake_c/drive_0{number}" for number in range(3)]


def recordings(root, drives=SEVEN):
    for drive in drives:
        (root / drive / "IMG").mkdir(parents=True)
        (root / drive / "driving_log.csv").touch()
    return root


def test_the_slice_that_is_shown_as_a_comment_is_one(tmp_path):
    path = write_study(tmp_path / "study", "synthetic", None, None)
    comment = [line.removeprefix("#   ") for line in path.read_text().splitlines() if line.startswith("#   ")]
    table = "\n".join(comment[comment.index("[slices.sharp_right]") : comment.index("[selection]")])
    sharp = SliceSettings.model_validate(tomllib.loads(table)["slices"]["sharp_right"])
    assert sharp.to_json() == {"channel": "steering", "above": 0.5, "slots": "any"}


@pytest.mark.parametrize("source", SIZES)
def test_what_is_written_is_a_study(tmp_path, source):
    root = str(recordings(tmp_path / "recordings")) if source == "udacity" else None
    path = write_study(tmp_path / "My Study_1", source, root, None)
    study = load_study(path.parent)
    assert path == tmp_path / "My Study_1" / "experiments.toml"
    assert study.name == "my-study-1"
    assert study.file.drives.source == source
    of_loss = "published" if source == "udacity" else "lds-off"
    assert study.levers == ("delta-off", of_loss, "lr-half", "depth-2")
    assert study.recipe("lr-half").train.lr == study.control.train.lr / 2
    assert study.recipe("depth-2").decoder.layers == 2
    assert study.rule.panel_seeds == (1001, 1002, 1003, 1004)
    assert study.rule.judged_seeds == (1001, 1002)
    assert [(guard.channel, guard.slice) for guard in study.rule.guardrails] == [
        ("steering", "flat_frame"),
        ("steering", "overall"),
        ("gas", "overall"),
        ("brake", "overall"),
    ]


def test_a_study_of_keyboard_recordings_reads_out_the_median_and_puts_the_published_recipe_back_by_a_lever(tmp_path):
    study = load_study(write_study(tmp_path / "s", "udacity", str(recordings(tmp_path / "recordings")), None).parent)
    published = study.recipe("published")
    assert study.rule.primary.readout == "mediank"
    assert {guard.readout for guard in study.rule.guardrails} == {"mediank"}
    assert published.objective == ObjectiveSettings()
    assert published.decoder.init == DecoderSettings().init != study.control.decoder.init


def test_the_demo_study_has_these_levers_too_and_the_same_rule(tmp_path):
    demo = load_study(Path(__file__).parents[2])
    new = load_study(write_study(tmp_path, "carracing", None, None).parent)
    for name, lever in new.file.levers.items():
        assert (list(demo.file.levers[name].set), demo.file.levers[name].tags) == (list(lever.set), lever.tags)
    assert new.rule.digest() == demo.rule.digest()


def test_every_built_in_source_has_a_template():
    assert set(SIZES) == set(TABLE["sources"]) == set(DRIVES_BY_SOURCE)


def test_udacity_names_its_validation_drives_and_lists_all(tmp_path):
    path = write_study(tmp_path / "study", "udacity", str(recordings(tmp_path / "rec")), None)
    assert load_study(path.parent).file.split.val == ("lake_b/drive_01", "lake_c/drive_02")
    comments = [line for line in path.read_text().splitlines() if line.startswith("#   ")]
    assert [line.strip('# "') for line in comments if "drive_0" in line] == SEVEN


def test_one_drive_trains_and_validates(tmp_path):
    path = write_study(tmp_path / "study", "udacity", str(recordings(tmp_path / "rec", ["a/one"])), None)
    assert load_study(path.parent).file.split.scale == "overfit"


def test_a_root_that_is_itself_a_drive_is_named_by_its_folder(tmp_path):
    assert find_udacity_drives(recordings(tmp_path, ["lake"]) / "lake") == ["lake"]


def test_the_template_and_the_source_find_the_same_drives(tmp_path):
    from flowlab.drives.udacity import UdacitySource

    root = recordings(tmp_path / "rec", [*SEVEN, "deep/er/still", ".", "rec", "rec/IMG"])
    path = write_study(tmp_path / "study", "udacity", str(root), None)
    source = UdacitySource(load_study(path.parent).file.drives, path.parent)
    assert source.drive_ids() == find_udacity_drives(root)


@pytest.mark.parametrize(("given", "written"), [("rec", "../../rec"), ("./studies/../rec", "../../rec")])
def test_a_relative_root_is_rewritten_for_the_study(tmp_path, monkeypatch, given, written):
    recordings(tmp_path / "rec")
    (tmp_path / "studies").mkdir()
    monkeypatch.chdir(tmp_path)
    path = write_study(Path("studies/one"), "udacity", given, None)
    (root,) = load_study(path.parent).file.drives.roots
    assert root == written
    assert study_path(path.parent.resolve(), root).resolve() == (tmp_path / "rec").resolve()


def test_an_absolute_root_stays_absolute(tmp_path):
    path = write_study(tmp_path / "study", "udacity", str(recordings(tmp_path / "rec")), None)
    assert load_study(path.parent).file.drives.roots == (str(tmp_path / "rec"),)


def test_a_study_is_never_overwritten(tmp_path):
    path = write_study(tmp_path, "synthetic", None, None)
    before = path.read_bytes()
    with pytest.raises(StudyError, match=r"holds an experiments.toml already"):
        write_study(tmp_path, "carracing", None, None)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("source", "root", "name", "error", "fragment"),
    [
        ("udacty", None, None, UnknownNameError, "did you mean 'udacity'?"),
        ("udacity", None, None, StudyError, "Say where they lie: --root PATH"),
        ("udacity", "nowhere", None, MissingError, "no folder nowhere"),
        ("udacity", ".", None, MissingError, "holds no drives: no driving_log.csv"),
        ("carracing", ".", None, StudyError, "Leave --root out"),
        ("carracing", None, "My Study", StudyError, "study.name: got the text 'My Study'"),
    ],
)
def test_what_does_not_fit_is_refused_and_writes_nothing(tmp_path, monkeypatch, source, root, name, error, fragment):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=fragment):
        write_study(tmp_path / "study", source, root, name)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_folders_place_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match="cannot be written"):
        write_study(tmp_path / "file", "synthetic", None, None)


def test_a_drive_whose_name_is_not_text_is_refused(tmp_path):
    folder = os.fsencode(tmp_path) + b"/lake_\xe9"
    os.mkdir(folder)  # noqa: PTH102 -- a name that pathlib would have to escape
    with open(folder + b"/driving_log.csv", "wb"):  # noqa: PTH123
        pass
    with pytest.raises(DriveError, match="is not UTF-8 text"):
        write_study(tmp_path / "study", "udacity", str(tmp_path), None)


TRACKS = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 5), min_size=1)


@given(TRACKS)
def test_both_sides_of_the_split_hold_drives_and_known_tracks_come_first(tracks):
    drives = [f"{track}/{index}" for track, count in tracks.items() for index in range(count)]
    val = choose_val(drives)
    if len(drives) == 1:
        assert val == []
        return
    assert 0 < len(val) < len(drives)
    assert len(val) <= max(1, len(drives) / 4 + 0.5)
    spare = sum(count - 1 for count in tracks.values())
    unseen = {drive[0] for drive in val} - {drive[0] for drive in drives if drive not in val}
    assert not unseen or spare < len(val)


@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_any_text_survives_toml(text):
    assert tomllib.loads(f"key = {quoted(text)} # {quoted(text)}")["key"] == text


@pytest.mark.parametrize(("text", "name"), [("Lake District 2", "lake-district-2"), ("___", "study"), ("a.b", "a-b")])
def test_a_folder_name_becomes_a_study_name(text, name):
    assert kebab(text) == name
