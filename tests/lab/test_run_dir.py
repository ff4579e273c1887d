"""One process at a time works on a run."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from flowlab.core.errors import BusyError
from flowlab.evaluate.draw_bank import bank_of, read_bank
from flowlab.lab.run_dir import RunDir
from tests.evaluate.made_frames import made_frames

HOLD = """
import sys
from pathlib import Path
from flowlab.lab.run_dir import RunDir

with RunDir(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_turned_away_until_the_first_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "control-1"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(BusyError, match="control-1 is being trained by another process"), RunDir(path):
        pass
    holder.kill()
    holder.communicate()
    with RunDir(path) as out:
        out.journal.finished()


def test_draws_that_are_kept_again_take_the_place_of_the_first(tmp_path: Path) -> None:
    frames = made_frames(np.zeros((2, 2, 3), np.float32))
    draws = np.arange(2 * 3 * 2 * 2, dtype=np.float32).reshape(2, 3, 2, 2)
    with RunDir(tmp_path / "control-1") as out:
        out.save_draws(bank_of(draws, frames, {}), frames)
        out.save_draws(bank_of(draws + 1, frames, {}), frames)
    assert np.array_equal(read_bank(tmp_path / "control-1" / "draws.zarr").model, draws + 1)
    assert not list(tmp_path.rglob("*.partial"))
    content = (tmp_path / "control-1" / "journal.jsonl").read_text()
    assert content.count('"name":"draws.zarr"') == 2


@pytest.mark.parametrize("fields", ["", ',"name":[],"digest":"d"', ',"name":"policy.safetensors"', ',"digest":{}'])
def test_a_run_goes_on_after_a_damaged_line_of_its_journal(tmp_path: Path, fields: str) -> None:
    path = tmp_path / "control-1"
    path.mkdir()
    (path / "journal.jsonl").write_text(f'{{"kind":"artifact","time_us":1{fields}}}\n')
    with RunDir(path) as out:
        out.save_policy({"w": torch.ones(1)}, {})
    assert '"name":"policy.safetensors","digest":"' in (path / "journal.jsonl").read_text()


def test_what_a_killed_process_left_half_written_is_removed_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / "control-1-0" / "resume.safetensors.4711.partial"
    left.parent.mkdir()
    left.write_bytes(b"half")
    with RunDir(left.parent):
        assert not left.exists()
