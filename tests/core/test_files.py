import json
import random
import signal
import subprocess
import sys
import time

import pytest

from flowlab.core.files import write_atomic, write_json_atomic

WRITER = """
import sys
from pathlib import Path
from flowlab.core.files import write_atomic

path = Path(sys.argv[1])
size = 1 << 20
while True:
    for letter in b"abcdefgh":
        write_atomic(path, bytes([letter]) * size)
        print(flush=True)
"""


def test_a_writer_that_is_killed_leaves_a_whole_file(tmp_path):
    path = tmp_path / "state"
    for attempt in range(6):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as writer:
            writer.stdout.readline()  # it has written once: from here on the file must always be whole
            time.sleep(random.Random(attempt).uniform(0, 0.02))
            writer.send_signal(signal.SIGKILL)
        assert writer.returncode == -signal.SIGKILL
        content = path.read_bytes()
        assert len(content) == 1 << 20
        assert len(set(content)) == 1, "bytes of two writes are mixed"


def test_a_reader_sees_only_whole_files_while_they_are_replaced(tmp_path):
    path = tmp_path / "state"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as writer:
        writer.stdout.readline()
        contents = [path.read_bytes() for _ in range(40)]
        writer.kill()
    assert {(len(content), len(set(content))) for content in contents} == {(1 << 20, 1)}


def test_a_write_that_fails_leaves_the_old_file_and_no_remains(tmp_path):
    path = tmp_path / "state"
    path.write_bytes(b"old")
    with pytest.raises(TypeError):
        write_atomic(path, "not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]


def test_folders_are_made(tmp_path):
    write_atomic(tmp_path / "a" / "b" / "file", b"x")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"x"


def test_json_is_readable_and_reads_back(tmp_path):
    write_json_atomic(tmp_path / "file", {"b": 1, "a": [1.5]})
    text = (tmp_path / "file").read_text()
    assert json.loads(text) == {"b": 1, "a": [1.5]}
    assert text.startswith('{\n  "a"')


def test_json_that_is_not_finite_is_refused_and_writes_nothing(tmp_path):
    with pytest.raises(ValueError, match="Out of range"):
        write_json_atomic(tmp_path / "file", float("nan"))
    assert list(tmp_path.iterdir()) == []
