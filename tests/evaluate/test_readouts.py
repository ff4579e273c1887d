import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flowlab.evaluate.readouts import READOUTS, meank, single

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


def test_both_readouts_are_known_by_name():
    assert list(READOUTS) == ["single", "meank"]
