import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flowlab.core.errors import PluginError, UnknownNameError
from flowlab.core.plugins import TABLE
from flowlab.core.vocabulary import BOUNDS, CHUNK_READOUTS, MODE_READOUTS, READOUTS
from flowlab.evaluate.conformance import ReadoutConformance
from flowlab.evaluate.guarded import Guarded
from flowlab.evaluate.mode_readouts import Mode
from flowlab.evaluate.readouts import MeanFirst, MeanK, MedianK, Single, build_readout, own_readouts
from flowlab.study.selection import SelectionSettings
from tests.evaluate.made_frames import made_frames

CHUNKS = arrays(np.float32, st.tuples(*[st.integers(1, 4)] * 3), elements=st.floats(-1, 1, width=32))


def read_out(readout, draws):
    truth = np.zeros((len(draws), *draws.shape[2:]), np.float32)
    return readout(draws, made_frames(truth, ["x"] * draws.shape[3]))


class TestSingleConforms(ReadoutConformance):
    def readout(self):
        return Single()


class TestMeanKConforms(ReadoutConformance):
    def readout(self):
        return MeanK()


class TestMedianKConforms(ReadoutConformance):
    def readout(self):
        return MedianK()


class TestMeanFirstConforms(ReadoutConformance):
    def readout(self):
        return MeanFirst(2)


def test_single_is_the_first_draw():
    draws = np.arange(2 * 3 * 1 * 1, dtype=np.float32).reshape(2, 3, 1, 1)
    assert read_out(Single(), draws).ravel().tolist() == [0, 3]


def test_meank_is_the_mean_over_draws():
    draws = np.array([1.0, 2.0, 6.0], dtype=np.float32).reshape(1, 3, 1, 1)
    assert read_out(MeanK(), draws).ravel().tolist() == [3.0]


@given(CHUNKS, st.integers(1, 32))
def test_meank_of_equal_draws_is_single_bit_for_bit(chunk, num_draws):
    draws = np.repeat(chunk[:, None], num_draws, axis=1)
    assert (read_out(MeanK(), draws) == read_out(Single(), draws)).all()


def test_mediank_is_the_median_over_draws_entry_by_entry():
    draws = np.array([[1.0, 9.0], [2.0, 8.0], [6.0, 0.0]], dtype=np.float32).reshape(1, 3, 2, 1)
    assert read_out(MedianK(), draws).ravel().tolist() == [2.0, 8.0]


@given(arrays(np.float32, (1, 9, 2, 1), elements=st.floats(-1, 1, width=32)), arrays(np.float32, (1, 2, 1)))
def test_no_chunk_is_nearer_to_the_draws_than_mediank(draws, other):
    def distance(chunk):
        return np.abs(draws.astype(np.float64) - chunk[:, None]).sum()

    assert distance(read_out(MedianK(), draws)) <= distance(np.nan_to_num(other)) + 1e-6


def test_the_readouts_that_rules_may_name_are_those_of_the_table_and_one_that_is_no_chunk():
    assert tuple(TABLE["readouts"]) == (*CHUNK_READOUTS, *MODE_READOUTS)
    assert (*CHUNK_READOUTS, "single-mean", *MODE_READOUTS) == READOUTS


def test_every_run_is_scored_with_a_ladder_up_to_its_draws_and_with_selection_where_there_are_modes():
    selection = SelectionSettings(vote_temperatures=(0.5,))
    rungs = ("meank-1", "meank-2", "meank-4")
    votes = ("vote-committed-0_5", "vote-gated-0_5", "vote-bound-0_5")
    assert tuple(readout.name for readout in own_readouts(None, 8)) == (*CHUNK_READOUTS, *rungs)
    assert tuple(readout.name for readout in own_readouts(selection, 1)) == (
        *CHUNK_READOUTS,
        *MODE_READOUTS,
        *votes,
        *BOUNDS,
    )


def test_there_need_be_no_votes():
    names = {readout.name for readout in own_readouts(SelectionSettings(vote_temperatures=()), 1)}
    assert names == {*CHUNK_READOUTS, *MODE_READOUTS, *BOUNDS}


@pytest.mark.parametrize("readout", own_readouts(SelectionSettings(), 4), ids=lambda readout: readout.name)
def test_a_readout_is_built_by_its_name(readout):
    assert build_readout(readout.name, SelectionSettings()) == readout


def test_modes_are_told_as_the_study_says():
    assert build_readout("mode", SelectionSettings(gap=0.5)).settings.gap == 0.5
    assert build_readout("mode") == Mode()


def test_a_rung_is_the_mean_of_the_first_draws_and_of_all_where_there_are_fewer():
    draws = np.array([1.0, 2.0, 6.0], dtype=np.float32).reshape(1, 3, 1, 1)
    assert [read_out(MeanFirst(num), draws).item() for num in (1, 2, 3, 4)] == [1.0, 1.5, 3.0, 3.0]


def test_an_unknown_readout_names_the_nearest():
    with pytest.raises(UnknownNameError, match="unknown readout 'meadiank': did you mean 'mediank'"):
        build_readout("meadiank")


def test_a_plug_in_is_found_as_module_and_attribute():
    assert build_readout(f"{__name__}:MeanK") == Guarded(MeanK())


def test_a_plug_in_that_is_no_readout_is_refused():
    with pytest.raises(PluginError, match="is function, which is not a Readout: it needs a name"):
        build_readout(f"{__name__}:read_out")


def test_a_plug_in_that_cannot_be_built_is_named():
    with pytest.raises(PluginError, match="NeedsMore' cannot be built: TypeError"):
        build_readout(f"{__name__}:NeedsMore")


class NeedsMore:
    def __init__(self, more):
        self.more = more
