import subprocess
import sys

import numpy as np
import pytest

from flowlab.evaluate.bank import noise, noise_blocks

SHAPE = {"num_draws": 4, "horizon": 3, "num_channels": 2, "bank_seed": 0}
DRIVES = ("a", "a", "b", "b", "b")
FRAMES = np.array([7, 8, 7, 8, 9])
PINNED = [0.7737485, 0.7317690]


def test_a_frame_has_the_same_noise_alone_as_among_others():
    together = noise(DRIVES, FRAMES, **SHAPE)
    alone = [noise(DRIVES[i : i + 1], FRAMES[i : i + 1], **SHAPE)[0] for i in range(5)]
    assert (together == np.stack(alone)).all()


def test_fewer_draws_are_the_first_of_more():
    few = noise(DRIVES, FRAMES, **{**SHAPE, "num_draws": 2})
    assert (few == noise(DRIVES, FRAMES, **SHAPE)[:, :2]).all()


def test_frames_drives_and_bank_seeds_have_noise_of_their_own():
    bank = [*noise(DRIVES, FRAMES, **SHAPE), *noise(DRIVES, FRAMES, **{**SHAPE, "bank_seed": 1})]
    assert len({row.tobytes() for row in bank}) == 10


def test_blocks_are_the_whole_bank_cut_into_rows():
    blocks = list(noise_blocks(DRIVES, FRAMES, **SHAPE, block_frames=2))
    assert [rows for rows, _ in blocks] == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert (np.concatenate([block for _, block in blocks]) == noise(DRIVES, FRAMES, **SHAPE)).all()


def test_no_frames_make_no_blocks():
    assert list(noise_blocks((), FRAMES[:0], **SHAPE)) == []


def test_an_id_for_every_frame_is_required():
    with pytest.raises(ValueError, match="zip"):
        noise(("a",), FRAMES, **SHAPE)


def test_numpy_texts_name_the_same_drive():
    assert (noise(np.array(DRIVES), FRAMES, **SHAPE) == noise(DRIVES, FRAMES, **SHAPE)).all()


def test_another_process_draws_the_same_numbers():
    code = (
        "import numpy as np; from flowlab.evaluate.bank import noise;"
        "print(noise(['a'], np.array([7]), num_draws=4, horizon=3, num_channels=2, bank_seed=0).tobytes().hex())"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert told == noise(["a"], np.array([7]), **SHAPE).tobytes().hex()


def test_the_first_numbers_of_the_bank_are_pinned():
    first = noise(["a"], np.array([7]), **SHAPE)[0, 0, 0]
    assert first == pytest.approx(PINNED, abs=1e-6)


def test_it_is_standard_normal():
    bank = noise(["a"] * 5000, np.arange(5000), num_draws=32, horizon=6, num_channels=2, bank_seed=0)
    assert bank.dtype == np.float32
    assert abs(float(bank.mean())) < 0.003  # four standard errors of 1.9 million numbers
    assert abs(float(bank.std()) - 1) < 0.003
