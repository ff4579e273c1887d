from pathlib import Path

import pytest

from flowlab.core.errors import BusyError, StudyError
from flowlab.core.folders import CLAIM, claimed_folder


def test_a_claimed_folder_appears_with_what_was_written_and_nothing_else(tmp_path: Path):
    with claimed_folder(tmp_path / "new" / "out") as folder:
        (folder / "data").write_text("whole")
        assert not (tmp_path / "new" / "out").exists()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]
    assert [path.name for path in (tmp_path / "new" / "out").iterdir()] == ["data"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_after_an_error_nothing_is_left(tmp_path: Path, error: type[BaseException]):
    with pytest.raises(error), claimed_folder(tmp_path / "out") as folder:
        (folder / "data").write_text("half")
        raise error
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_begun_anew(tmp_path: Path):
    left = tmp_path / "out.partial"
    (left / "deep").mkdir(parents=True)
    (left / "deep" / "half").write_text("half")
    (left / CLAIM).touch()
    with claimed_folder(tmp_path / "out") as folder:
        assert [path.name for path in folder.iterdir()] == [CLAIM]
    assert not list((tmp_path / "out").iterdir())


def test_a_folder_of_somebody_else_s_is_left_alone(tmp_path: Path):
    theirs = tmp_path / "out.partial" / "notes"
    theirs.parent.mkdir()
    theirs.write_text("mine")
    with (
        pytest.raises(StudyError, match="is in the way, and flowlab did not make it"),
        claimed_folder(tmp_path / "out"),
    ):
        pass
    assert theirs.read_text() == "mine"


def test_two_cannot_write_one_folder(tmp_path: Path):
    with claimed_folder(tmp_path / "out") as folder:
        (folder / "data").write_text("first")
        with pytest.raises(BusyError, match="another flowlab process writes"), claimed_folder(tmp_path / "out"):
            pass
    assert (tmp_path / "out" / "data").read_text() == "first"


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "data").write_text("old")
    with pytest.raises(StudyError, match="out is not empty"), claimed_folder(tmp_path / "out"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
