"""What `cache build` and `drives show` say of recordings that cannot be used, whole or in part."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flowlab.cli.main import run_command
from flowlab.core.errors import FaultyDriveError
from flowlab.lab.caches import frames_wanted, open_drives
from flowlab.study.study import load_study
from tests.drives.recordings import write_sound
from tests.lab.small_study import Said, small_text

NUM = 100


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study of three recordings of 100 frames, `c` of which validates."""
    folder = tmp_path_factory.mktemp("sound")
    for number, name in enumerate("abc"):
        write_sound(folder / "rec" / name, NUM, steering=number / 10)
    text = small_text("").replace('source = "synthetic"\ncount = 4\nframes = 90', 'source = "udacity"\nroot = "rec"')
    (folder / "experiments.toml").write_text(text.replace('["drive_03"]', '["c"]'))
    return folder


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    """A copy of that study, to be damaged."""
    return Path(shutil.copytree(sound, tmp_path / "study"))


def spoil(folder: Path, drive: str, rows: int, old: str, new: str) -> None:
    """Put `new` for `old` in the first rows of a drive."""
    path = folder / "rec" / drive / "driving_log.csv"
    path.write_text(path.read_text().replace(old, new, rows))


def shown(folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str, str]:
    code = run_command(["drives", "show", "--study", str(folder), *more])
    return code, *capsys.readouterr()


def open_all(folder: Path) -> tuple[Said, Callable[[], object]]:
    study, said = load_study(folder), Said()
    return said, lambda: open_drives(study, frames_wanted(study), said)


def test_what_is_left_out_is_told_for_each_reason(folder, capsys):
    spoil(folder, "a", 2, ",0.0,", ",7,")
    spoil(folder, "b", 1, ",0.1,0.5,", ",0.1,0.5,0,")
    said, ask = open_all(folder)
    ask()
    assert said.lines == [
        "3 rows of the recordings cannot be used (steering is out of its range [-1, 1]: 2, more cells than columns: "
        "1); flowlab drives show names them"
    ]
    code, _, err = shown(folder, capsys)
    assert code == 0
    assert "a: 2 of 100 rows cannot be used, steering is out of its range [-1, 1]; the first is row 0: steering" in err
    assert "b: 1 of 100 rows cannot be used, more cells than columns; the first is row 0: 8 columns, expected 7" in err


def test_a_refused_drive_is_shown_among_the_others_and_refuses_what_would_use_it(folder, capsys):
    spoil(folder, "b", 9, ",0.1,", ",12.5,")
    _, ask = open_all(folder)
    with pytest.raises(FaultyDriveError, match=r"drive 'b' is refused, since 9 of its 100 rows .* steering is out of"):
        ask()
    code, out, err = shown(folder, capsys, "--json")
    drives = {drive["drive_id"]: drive for drive in json.loads(out)}
    assert code == 2 and err.startswith("error: drive 'b' is refused, since 9 of its 100 rows")
    assert [(drives[name]["frames"], drives[name]["side"]) for name in "abc"] == [
        (100, "train"),
        (0, "train"),
        (100, "val"),
    ]
    assert drives["a"]["refused"] is None and drives["b"]["refused"].startswith("drive 'b' is refused, since 9 of")
    code, out, err = shown(folder, capsys)
    assert code == 2 and err.startswith("error: drive 'b' is refused")
    rows = [line.split()[:3] for line in out.splitlines() if line.startswith(("a ", "b ", "c "))]
    assert rows == [["a", "train", "100"], ["b", "train", "0"], ["c", "val", "100"]]


def test_a_refused_drive_that_the_split_leaves_out_stands_in_nobody_s_way(folder, capsys):
    spoil(folder, "b", 9, ",0.1,", ",12.5,")
    path = folder / "experiments.toml"
    path.write_text(path.read_text().replace('val = ["c"]', 'val = ["c"]\nwithout = ["b"]'))
    _, ask = open_all(folder)
    assert ask()[1].train == ("a",)
    code, _, err = shown(folder, capsys)
    assert code == 0 and "b: drive 'b' is refused, since 9 of its 100 rows" in err


def test_several_refused_drives_are_counted(folder, capsys):
    for name, value in (("a", "0.0"), ("b", "0.1"), ("c", "0.2")):
        spoil(folder, name, 9, f",{value},", ",12.5,")
    _, ask = open_all(folder)
    with pytest.raises(FaultyDriveError, match=r"drive 'a' is refused.* 2 more cannot be used either: flowlab drives"):
        ask()
    code, _, err = shown(folder, capsys)
    assert code == 2 and "b: drive 'b' is refused" in err and err.endswith("Nor can be used: b, c.\n")


def test_two_drives_of_identical_content_are_named(folder, capsys):
    shutil.copytree(folder / "rec" / "c", folder / "rec" / "c copy")
    code, _, err = shown(folder, capsys)
    assert code == 0
    assert "c: the same recording, with identical content, is there as c copy" in err
    assert "c validates and trains as c copy: a build of the cache refuses that" in err
    assert [drive["same_as"] for drive in json.loads(shown(folder, capsys, "--json")[1])] == [[], [], ["c copy"], ["c"]]


def test_copies_that_both_train_are_no_reason_for_a_build_to_refuse(folder, capsys):
    shutil.copytree(folder / "rec" / "a", folder / "rec" / "a copy")
    err = shown(folder, capsys)[2]
    assert "a: the same recording, with identical content, is there as a copy" in err and "refuses" not in err


def test_what_was_done_with_a_recording_is_told(folder, capsys):
    path = folder / "rec" / "a" / "driving_log.csv"
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *rows[50:], *rows[:50]]))
    said, ask = open_all(folder)
    ask()
    told = "its 100 rows were not in the order of their time stamps, by which they are now sorted"
    assert said.lines == [f"note: drive a: {told}"]
    assert f"a: {told}" in shown(folder, capsys)[2]
