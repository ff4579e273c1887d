import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flowlab.evaluate.readouts import READOUTS, meank, mediank, single

CHUNKS = arrays(np.float32, st.tuples(*[st.integers(1, 4)] * 3), elements=st.floats(-1, 1, width=32))


def test_single_is_the_first_draw():
    draws = np.arange(2 * 3 * 1 * 1, dtype=np.float32).reshape(2, 3, 1, 1)
    assert single(draws).ravel().tolist() == [0, 3]


def test_meank_is_the_mean_over_draws():
    draws = np.array([1.0, 2.0, 6.0], dtype=np.float32).reshape(1, 3, 1, 1)
    assert meank(draws).ravel().tolist() == [3.0]


@given(CHUNKS, st.integers(1, 32))
def test_meank_of_equal_draws_is_single_bit_for_bit(chunk, num_draws):
    draws = np.repeat(chunk[:, None], num_draws, axis=1)
    assert (meank(draws) == single(draws)).all()


def test_mediank_is_the_median_over_draws_entry_by_entry():
    draws = np.array([[1.0, 9.0], [2.0, 8.0], [6.0, 0.0]], dtype=np.float32).reshape(1, 3, 2, 1)
    assert mediank(draws).ravel().tolist() == [2.0, 8.0]


@given(arrays(np.float32, (1, 9, 2, 1), elements=st.floats(-1, 1, width=32)), arrays(np.float32, (1, 2, 1)))
def test_no_chunk_is_nearer_to_the_draws_than_mediank(draws, other):
    def distance(chunk):
        return np.abs(draws.astype(np.float64) - chunk[:, None]).sum()

    assert distance(mediank(draws)) <= distance(np.nan_to_num(other)) + 1e-6


def test_every_readout_is_known_by_name():
    assert list(READOUTS) == ["single", "meank", "mediank"]
