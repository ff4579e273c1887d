"""What stats are told to say of a train split: numbers that can be counted by hand."""

import math

import numpy as np
import pytest
import torch

from flowlab.evaluate.stats import Stats, fit_stats
from flowlab.evaluate.stats_facts import ModelChannel, model_facts, raw_facts
from flowlab.policy.action_space import ActionSpace, Identity
from flowlab.policy.weights import NUM_BINS, LabelDensity
from flowlab.study.recipe import ActionSpaceSettings

LAW = ([0.5], 15.0, "inverse-density")


def chunks_of(slots: list[float]) -> torch.Tensor:
    """(N, 1, 1): a chunk of one slot for each value."""
    return torch.tensor(slots).reshape(-1, 1, 1)


def facts(raw: torch.Tensor, **settings) -> ModelChannel:
    """The only channel of raw chunks (N, H, 1), all of which a run is trained from."""
    stats = fit_stats(ActionSpaceSettings(merge=False, **settings), "repeat", raw.shape[1], ("x",), raw)
    (channel,) = model_facts(stats, raw, raw, LAW)
    return channel


def mostly_zero() -> torch.Tensor:
    """600 slots of 0 and 400 that go from 0.0025 to 1 in equal steps."""
    return chunks_of([0.0] * 600 + [(i + 1) / 400 for i in range(400)])


def two_bins() -> Stats:
    """Density 0.64 in the lowest bin and 0.04 in the highest: 1 / sqrt is 1.25 and 5."""
    share = np.zeros((1, NUM_BINS))
    share[0, 0], share[0, -1] = 0.64, 0.04
    space = ActionSpace(("x",), ("x",), Identity())
    return Stats(space, LabelDensity(np.array([1.0]), share), {"x": 0.5})


def test_a_raw_channel_has_its_range_its_share_at_rest_and_the_chunks_that_reach_the_threshold_in_force() -> None:
    raw = np.array([[0.0, 0.001], [0.0, -0.2], [0.5, 0.25], [0.9, 0.0]])[..., None]
    (channel,) = raw_facts(two_bins(), {"x": 0.25}, raw)
    assert (channel.low, channel.high) == (-0.2, 0.9)
    assert channel.at_rest == 4 / 8
    assert channel.num_reaching == 2
    assert (channel.threshold, channel.fitted_threshold) == (0.25, 0.5)


def test_the_largest_atom_has_its_share_and_its_knots_interval_from_the_end_of_the_map_on() -> None:
    channel = facts(mostly_zero(), knots=10)
    (atom,) = channel.atoms
    assert (atom.value, atom.share) == (0.0, 0.6)
    assert channel.num_distinct_knots == 5, "of 0.05, 0.15 ... 0.95 the first six are quantiles of zeros"
    assert atom.interval is not None
    low, high = atom.interval
    assert low == -math.inf
    assert high == pytest.approx(0.1257, abs=1e-4), "the standard normal quantile of 0.55"


def test_all_of_the_interval_maps_back_to_the_atom_and_nothing_above_it() -> None:
    raw = mostly_zero()
    space = fit_stats(ActionSpaceSettings(merge=False, knots=10), "repeat", 1, ("x",), raw).space
    (atom,) = facts(raw, knots=10).atoms
    assert atom.interval is not None
    high = atom.interval[1]
    assert space.to_raw(torch.tensor([[-50.0], [-1.0], [high]])).flatten().tolist() == [0.0, 0.0, 0.0]
    assert float(space.to_raw(torch.tensor([[high + 1e-3]]))) > 0


def test_with_linear_tails_an_atom_at_the_end_begins_at_the_outer_knot() -> None:
    (atom,) = facts(mostly_zero(), knots=10, tails="linear").atoms
    assert atom.interval == pytest.approx((-1.6449, 0.1257), abs=1e-4)


def test_without_knots_one_value_alone_maps_back_to_an_atom() -> None:
    raw = mostly_zero()
    channel = facts(raw, transform="standardise")
    (atom,) = channel.atoms
    assert channel.num_distinct_knots is None
    assert atom.model == pytest.approx(-float(raw.mean() / raw.std(correction=0)), rel=1e-5)
    assert atom.interval == (atom.model, atom.model)


def test_everything_maps_back_to_a_channel_that_never_moves() -> None:
    channel = facts(chunks_of([0.25] * 50))
    (atom,) = channel.atoms
    assert (atom.share, atom.interval) == (1.0, (-math.inf, math.inf))
    assert channel.lightest.weight == channel.heaviest.weight == 1.0
    assert max(channel.before.share) == 1.0


@pytest.mark.parametrize("transform", ["chunk-dct", "gaussianize-dct"])
def test_under_a_dct_there_is_a_histogram_for_each_coefficient_and_no_interval(transform: str) -> None:
    raw = mostly_zero().reshape(250, 4, 1)
    channel = facts(raw, transform=transform)
    assert len(channel.after) == 4
    assert all(sum(one.share) == pytest.approx(1.0) for one in channel.after)
    (atom,) = channel.atoms
    assert (atom.share, atom.model, atom.interval) == (0.6, None, None)


def test_histograms_hold_every_slot_and_in_model_space_the_noise() -> None:
    channel = facts(chunks_of([-1.0, 0.0, 0.5, 1.0] * 25), transform="identity")
    assert (channel.before.low, channel.before.high) == (-1.0, 1.0)
    assert (channel.after[0].low, channel.after[0].high) == (-3.0, 3.0)
    assert [share for share in channel.before.share if share] == [0.25] * 4
    assert (channel.before.share[0], channel.before.share[-1]) == (0.25, 0.25)


def test_weights_are_those_that_a_run_has() -> None:
    raw = chunks_of([0.0, 0.0, 0.0, 1.0])
    (channel,) = model_facts(two_bins(), raw, raw, LAW)
    assert channel.lightest.weight == pytest.approx(4 / 7)  # 1.25, 1.25, 1.25, 5 have mean 35 / 16
    assert channel.heaviest.weight == pytest.approx(16 / 7)
    assert (channel.densest, channel.rarest) == (channel.lightest, channel.heaviest)
    assert (channel.densest.num_chunks, channel.rarest.num_chunks) == (3, 1)
    assert (channel.densest.low, channel.densest.high) == (0.0, 1 / 64)
    assert [one.weight for one in channel.bins[1:-1]] == [None] * 62


def test_chunks_of_another_cache_are_weighed_with_the_same_density() -> None:
    raw, trained = chunks_of([0.0, 0.0, 0.0, 1.0]), chunks_of([0.0, 1.0])
    (channel,) = model_facts(two_bins(), raw, trained, LAW)
    assert channel.lightest.weight == pytest.approx(0.4)  # 1.25 and 5 have mean 25 / 8
    assert channel.heaviest.weight == pytest.approx(1.6)
    assert channel.before.share[0] == 0.75, "the histograms are of the slots that were fitted on"
