"""A lock holds between processes, is waited for, and goes with the process that held it."""

import errno
import fcntl
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest

from flowlab.core.errors import BusyError, NoAccessError, NoLocksError
from flowlab.core.locks import hold, hold_descriptor, is_held, take

HOLDER = """
import sys
from pathlib import Path
from flowlab.core.locks import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
print("free", flush=True)
sys.stdin.readline()
"""


@contextmanager
def another_process(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock on `path` until it is given a line, and lives until it is given another."""
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def let_go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "free\n"


def test_what_another_process_holds_is_refused_until_it_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_held(path)
    with another_process(path) as process:
        assert is_held(path)
        with pytest.raises(BlockingIOError), hold(path, patience_s=0):
            pass
        with pytest.raises(BusyError, match="in use"), hold(path, 0.02, BusyError("in use")):
            pass
        with path.open("ab") as file, pytest.raises(BlockingIOError):
            take(file.fileno(), path, patience_s=0)
        let_go(process)
        assert not is_held(path)
        with hold(path, patience_s=0):
            assert process.poll() is None, "it lives, and holds nothing any more"


def test_a_lock_goes_with_the_process_that_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with another_process(path) as process:
        os.kill(process.pid, signal.SIGKILL)
        with hold(path):  # waits for as long as it takes
            assert process.wait() == -signal.SIGKILL


def test_a_lock_ends_with_its_block_even_by_an_error_and_can_be_held_again(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with pytest.raises(ZeroDivisionError), hold(path):
        assert is_held(path)
        raise ZeroDivisionError
    assert not is_held(path)
    with path.open("ab") as file:
        with hold_descriptor(file.fileno(), path):
            assert is_held(path)
        assert not is_held(path)
        take(file.fileno(), path)
        assert is_held(path)
    assert not is_held(path)


def test_to_ask_makes_no_file(tmp_path: Path) -> None:
    assert not is_held(tmp_path / "none")
    assert not is_held(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_who_waits_for_long_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowlab.core.locks.TELL_AFTER_S", 0.0)
    monkeypatch.setattr("flowlab.core.locks.POLL_S", 0.001)
    told: list[str] = []
    with (
        hold(tmp_path / "lock", tell=lambda: told.append("nobody holds it")),
        pytest.raises(BlockingIOError),
        hold(tmp_path / "lock", 0.02, tell=lambda: told.append("waiting")),
    ):
        pass
    assert told == ["waiting"]


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_there_are_no_locks_that_is_said_and_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "lock"

    def refuse(file: object, how: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", refuse)
        words = f"{path} cannot be locked: locks are what is missing"
        with pytest.raises(NoLocksError, match=words) as caught, hold(path):
            pass
        assert list(tmp_path.iterdir()) == []
        path.touch()
        assert is_held(path), "as far as anybody can tell"
    assert os.strerror(number) in str(caught.value) and "local disk" in str(caught.value)
    assert "room" not in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value), "it comes back from a worker whole"


def test_a_lock_in_a_place_that_this_user_may_not_write_is_no_traceback(tmp_path: Path) -> None:
    with (
        patch.object(Path, "open", side_effect=PermissionError(errno.EACCES, "Permission denied")),
        pytest.raises(NoAccessError, match=f"you may not write {tmp_path / 'lock'}. Ask for write access"),
        hold(tmp_path / "lock"),
    ):
        pass
