"""Draws go to disk block by block: the same files as all at once, nothing half, and little memory."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowlab.core.files import trouble
from flowlab.evaluate import draw_bank
from flowlab.evaluate.draw_bank import BankWriter, as_kept, bank_of, digest_bank, read_bank, to_raw, write_bank
from flowlab.evaluate.frames import ValidationFrames
from flowlab.lab.run_dir import RunDir
from flowlab.policy.action_space import ActionSpace, Identity
from tests.evaluate.made_frames import made_frames

TOLD = {"run_id": "control-1", "step": 3}


def some(num: int, precision: str = "float32") -> tuple[np.ndarray, ValidationFrames]:
    """Kept draws (N, 3, 2, 2) and their frames."""
    stream = np.random.default_rng(num)
    frames = made_frames(stream.uniform(-1, 1, (num, 2, 2)).astype(np.float32), ("x", "y"))
    return as_kept(stream.normal(size=(num, 3, 2, 2)).astype(np.float32), precision), frames


@settings(max_examples=8, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 70), max_size=5).map(sorted),
    chunk=st.integers(1, 80),
    precision=st.sampled_from(["float16", "float32"]),
)
def test_a_bank_written_in_any_blocks_is_the_same_files(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], chunk: int, precision: str
) -> None:
    folder = tmp_path_factory.mktemp("bank")
    model, frames = some(70, precision)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draw_bank, "CHUNK_FRAMES", chunk)
        write_bank(folder / "whole.zarr", bank_of(model, frames, TOLD), frames)
        with BankWriter(folder / "blocks.zarr", frames, model.shape[1:], precision) as writer:
            for block in np.split(model, cuts):
                writer.append(block)
            writer.flush()
            space = ActionSpace(("x", "y"), ("x", "y"), Identity())
            assert np.array_equal(to_raw(writer.draws, space, 3), to_raw(model, space, 3)), "read before it is finished"
            writer.finish(TOLD)
    assert digest_bank(folder / "blocks.zarr") == digest_bank(folder / "whole.zarr")
    assert np.array_equal(read_bank(folder / "blocks.zarr").model, model)


def test_an_unfinished_bank_is_thrown_away_and_leaves_the_one_before(tmp_path: Path) -> None:
    model, frames = some(40)
    write_bank(tmp_path / "draws.zarr", bank_of(model, frames, TOLD), frames)
    before = digest_bank(tmp_path / "draws.zarr")
    with BankWriter(tmp_path / "draws.zarr", frames, model.shape[1:]) as writer:
        writer.append(model[:30])
        writer.flush()
        assert writer.partial.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["draws.zarr"]
    assert digest_bank(tmp_path / "draws.zarr") == before


KILLED = """
import sys
from pathlib import Path
import numpy as np
from flowlab.lab.run_dir import RunDir
from tests.evaluate.made_frames import made_frames

frames = made_frames(np.zeros((5000, 2, 2), np.float32), ("x", "y"))
with RunDir(Path(sys.argv[1])) as out, out.begin_draws(frames, (3, 2, 2), "float32") as bank:
    for _ in range(4):
        bank.append(np.ones((1024, 3, 2, 2), np.float32))
    print("drawn", flush=True)
    sys.stdin.read()
"""


def test_a_kill_while_draws_are_written_leaves_nothing_half(tmp_path: Path) -> None:
    folder = tmp_path / "control-1"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "drawn\n"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert (folder / "draws.zarr.partial").is_dir()
    assert not (folder / "draws.zarr").exists()
    with RunDir(folder):
        assert not list(folder.glob("*.partial")), "the next process clears up"


def test_a_disk_that_refuses_is_told_with_the_bank_s_name(tmp_path: Path) -> None:
    """The folder of the draws is a file, as if the disk could not hold another chunk."""
    model, frames = some(40)
    with BankWriter(tmp_path / "draws.zarr", frames, model.shape[1:]) as writer:
        chunks = writer.partial / "draws" / "c"
        chunks.write_text("")
        with pytest.raises(NotADirectoryError) as refused:
            writer.append(model)
    assert "draws.zarr" in trouble(refused.value, tmp_path)
    assert list(tmp_path.iterdir()) == []


PEAK = """
import resource
import sys
from contextlib import ExitStack
from pathlib import Path
import numpy as np
import torch
import zarr
from flowlab.core.types import ConditionSpec, TokenGroup
from flowlab.evaluate.definitions import define_metrics
from flowlab.evaluate.draw_bank import BankWriter
from flowlab.evaluate.draws import draw_shape
from flowlab.evaluate.scorer import Scorer
from flowlab.policy.action_space import ActionSpace, Identity
from flowlab.policy.decoder import Decoder, initialise
from flowlab.study.recipe import DecoderSettings, EvaluationSettings
from tests.evaluate.made_frames import made_frames

class Noise:
    "Draws that are their own noise: memory is what is looked at."
    deterministic = False

    def sample(self, decoder, memory, x0, solver, steps):
        return x0

def evaluate(num_frames, folder):
    decoder = Decoder(4, DecoderSettings(width=8, layers=1, heads=2), 16, 2, ConditionSpec(8, (TokenGroup("t", 1),)))
    initialise(decoder, range(4))
    truth = np.zeros((num_frames, 16, 2), np.float32)
    frames = made_frames(truth, ("x", "y"), condition=torch.zeros(num_frames, 1, 8).half())
    definitions = define_metrics({}, frames.channels, {"x": 0.5, "y": 0.5})
    space = ActionSpace(frames.channels, frames.channels, Identity())
    scorer = Scorer(frames, definitions, space, EvaluationSettings(draws=128))
    with ExitStack() as stack:
        shape = draw_shape(Noise(), decoder, scorer.settings)
        banks = {run: stack.enter_context(BankWriter(folder / f"{run}.zarr", frames, shape)) for run in range(4)}
        scorer.draw(Noise(), decoder, banks)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

torch.set_num_threads(1)
evaluate(1100, Path(sys.argv[1]))
before = peak()
evaluate(3000, Path(sys.argv[1]))
print(peak() - before)
"""


def test_drawing_takes_no_more_memory_for_more_frames(tmp_path: Path) -> None:
    """Four runs of 3,000 frames draw 197 MB, 125 more than of 1,100; in memory is the last chunk of each run."""
    done = subprocess.run([sys.executable, "-c", PEAK, str(tmp_path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 40e6
