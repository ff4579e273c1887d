"""Each recording has one id, whatever its folder is called, and none is passed over without a word."""

from pathlib import Path

import pytest

from flowlab.core.errors import DriveError
from flowlab.study.drive_folders import find_drive_folders


def make(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "log.csv").touch()
    return folder


def ids(*roots: Path) -> dict[str, Path]:
    return find_drive_folders(roots, "log.csv")


def test_a_folder_and_its_child_of_one_name_are_two_drives(tmp_path):
    outer = make(tmp_path / "rec")
    inner, innermost = make(outer / "rec"), make(outer / "rec" / "rec")
    assert ids(outer) == {".": outer, "rec": inner, "rec/rec": innermost}


def test_a_root_that_is_a_drive_has_its_own_name_beside_children_of_other_names(tmp_path):
    outer = make(tmp_path / "rec")
    inner = make(outer / "a")
    assert ids(outer) == {"rec": outer, "a": inner}


def test_names_with_any_separator_stay_apart(tmp_path):
    names = [
        "a/b",
        "a__b",
        "a-b",
        "a_b",
        "a.b",
        "a b",
        "a:b",
        "a%2Fb",
        "a\\b",
        "a\nb",
        "ä",
        "a\u0308",
        f"{'x' * 250}/y",
    ]
    folders = {name: make(tmp_path / "rec" / name) for name in names}
    assert ids(tmp_path / "rec") == folders


def test_links_to_folders_are_followed(tmp_path):
    elsewhere = make(tmp_path / "disk" / "monday" / "one").parent
    (tmp_path / "rec").mkdir()
    (tmp_path / "rec" / "linked").symlink_to(elsewhere)
    assert ids(tmp_path / "rec") == {"linked/one": tmp_path / "rec" / "linked" / "one"}


def test_links_that_lead_round_are_followed_once(tmp_path):
    folder = make(tmp_path / "rec" / "one")
    (tmp_path / "rec" / "self").symlink_to(tmp_path / "rec")
    (tmp_path / "other").mkdir()
    (tmp_path / "rec" / "there").symlink_to(tmp_path / "other")
    (tmp_path / "other" / "back").symlink_to(tmp_path / "rec")
    (tmp_path / "other" / "up").symlink_to("..")
    beside = make(tmp_path / "two")
    assert ids(tmp_path / "rec") == {"one": folder, "there/up/two": tmp_path / "rec" / "there" / "up" / "two"}
    assert (tmp_path / "rec" / "there" / "up" / "two").resolve() == beside


def test_a_link_to_a_recording_that_is_there_already_is_refused(tmp_path):
    make(tmp_path / "rec" / "one")
    (tmp_path / "rec" / "latest").symlink_to("one")
    with pytest.raises(DriveError, match="is found twice, as 'latest' and 'one'"):
        ids(tmp_path / "rec")


def test_a_link_to_nowhere_is_named(tmp_path):
    make(tmp_path / "rec" / "one")
    (tmp_path / "rec" / "two").symlink_to("/nowhere/at/all")
    with pytest.raises(DriveError, match=r"rec/two is a link to /nowhere/at/all, which is not there"):
        ids(tmp_path / "rec")


def test_a_recording_in_a_folder_called_img_is_found_and_images_of_one_are_not_looked_through(tmp_path):
    folder = make(tmp_path / "rec" / "IMG")
    make(folder / "IMG")
    assert ids(tmp_path / "rec") == {"IMG": folder}


def test_a_folder_whose_name_is_no_text_is_a_sentence(tmp_path):
    try:
        make(tmp_path / "rec" / "one\udcff")
    except OSError:
        pytest.skip("this file system takes no such name")
    with pytest.raises(DriveError, match=r"one\\xff' is not UTF-8 text"):
        ids(tmp_path / "rec")
