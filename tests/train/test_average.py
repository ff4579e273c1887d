import pytest
import torch

from flowlab.core.types import ConditionSpec, TokenGroup
from flowlab.policy.decoder import Decoder, initialise
from flowlab.study.recipe import DecoderSettings
from flowlab.train.average import CohortAverage
from flowlab.train.flat import FlatWeights


@pytest.fixture
def decoder() -> Decoder:
    built = Decoder(
        3, DecoderSettings(init="xavier", width=16, heads=2, layers=1), 4, 2, ConditionSpec(12, (TokenGroup("t", 5),))
    )
    initialise(built, (1, 1, 1))
    return built


def set_all(decoder: Decoder, value: float) -> None:
    with torch.no_grad():
        decoder.velocity.bias.fill_(value)


def test_three_runs_with_decays_of_their_own_by_hand(decoder):
    """Bias 0 at the start, then 1 and 3. The decay in effect is min(d, 1/10) at first, then min(d, 2/11)."""
    average = CohortAverage(decoder, FlatWeights(decoder).weights, [0.0, 0.15, 0.999])
    for step, value in enumerate((1.0, 3.0)):
        set_all(decoder, value)
        average.update(step)
    found = average.decoder.velocity.bias[:, 0].tolist()
    assert found[0] == 3.0
    assert found[1] == pytest.approx(0.15 * 0.9 + 0.85 * 3)  # after the first step 0.1 * 0 + 0.9 * 1
    assert found[2] == pytest.approx(2 / 11 * 0.9 + 9 / 11 * 3)


def test_late_in_training_the_decay_is_the_one_that_was_given(decoder):
    average = CohortAverage(decoder, FlatWeights(decoder).weights, [0.0, 0.5, 0.999])
    set_all(decoder, 1.0)
    average.update(10_000)
    assert average.decoder.velocity.bias[:, 0].tolist() == pytest.approx([1.0, 0.5, 0.001], rel=1e-4)


def test_only_runs_with_an_average_have_one_to_keep(decoder):
    average = CohortAverage(decoder, FlatWeights(decoder).weights, [0.0, 0.9, 0.0])
    assert [bool(average.run_state(run)) for run in range(3)] == [False, True, False]


def test_the_trained_weights_are_left_alone(decoder):
    before = {name: value.clone() for name, value in decoder.named_parameters()}
    CohortAverage(decoder, FlatWeights(decoder).weights, [0.5] * 3).update(0)
    assert all(torch.equal(before[name], value) for name, value in decoder.named_parameters())
