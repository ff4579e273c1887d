import torch

from flowlab.core.types import ConditionSpec, TokenGroup
from flowlab.policy.decoder import Decoder, initialise
from flowlab.policy.layers import ALIGNMENT
from flowlab.study.recipe import DecoderSettings
from flowlab.train.flat import FlatWeights

SPEC = ConditionSpec(12, (TokenGroup("tokens", 5),))


def build() -> Decoder:
    decoder = Decoder(3, DecoderSettings(width=24, heads=3, layers=2), 5, 3, SPEC)
    initialise(decoder, (1, 2, 3))
    return decoder


def test_parameters_keep_their_values_and_live_in_the_rows():
    decoder, plain = build(), build()
    flat = FlatWeights(decoder)
    for (name, parameter), (_, other) in zip(decoder.named_stacked(), plain.named_stacked(), strict=True):
        assert torch.equal(parameter, other), name
        assert torch.equal(flat.by_name(flat.weights[1])[name], other[1]), name
    flat.weights += 1
    for (name, parameter), (_, other) in zip(decoder.named_stacked(), plain.named_stacked(), strict=True):
        assert torch.equal(parameter, other + 1), name


def test_every_run_s_part_of_every_parameter_begins_where_memory_is_aligned():
    decoder = build()
    FlatWeights(decoder)
    for name, parameter in decoder.named_stacked():
        for own in parameter:
            assert own.data_ptr() % ALIGNMENT == 0 and own.is_contiguous(), name


def test_those_that_decay_come_first_and_nothing_overlaps():
    decoder = build()
    flat = FlatWeights(decoder)
    taken = torch.zeros(flat.weights.shape[1], dtype=torch.int64)
    for name, parameter in decoder.named_stacked():
        begin, shape = flat.places[name]
        assert (begin + shape.numel() <= flat.num_decaying) == parameter.decays, name
        taken[begin : begin + shape.numel()] += 1
    assert taken.max() == 1
    assert taken.sum() == sum(parameter[0].numel() for _, parameter in decoder.named_stacked())
