import numpy as np
import pytest
import torch

from flowlab.policy.decoder import Decoder, initialise
from flowlab.study.recipe import DecoderSettings
from flowlab.train.validate import validate


@pytest.fixture
def decoder() -> Decoder:
    built = Decoder(2, DecoderSettings(width=16, heads=2, layers=1), 4, 2, 12)
    initialise(built, (1, 2))
    return built


def test_a_decoder_that_answers_zero_has_the_mean_square_of_the_velocity(decoder, validation):
    with torch.no_grad():
        decoder.velocity.weight.zero_()
    expected = np.square(validation.action.double().numpy() - validation.noise.double().numpy()).mean()
    assert validate(decoder, validation).tolist() == pytest.approx([expected] * 2, rel=1e-6)


def test_blocks_of_any_size_give_the_same_mean(decoder, validation, monkeypatch):
    whole = validate(decoder, validation)
    monkeypatch.setattr("flowlab.train.validate.BLOCK", 7)  # 20 frames: 7, 7 and 6
    assert validate(decoder, validation).tolist() == pytest.approx(whole.tolist(), rel=1e-6)
    assert whole[0] != whole[1]


def test_flow_times_are_spread_evenly(validation):
    assert validation.time.sort().values.tolist() == pytest.approx([(i + 0.5) / 20 for i in range(20)])


def test_noise_is_fixed_by_the_bank_seed(split_of):
    first, second = split_of(50)[1], split_of(50)[1]
    assert torch.equal(first.noise, second.noise) and torch.equal(first.time, second.time)
    assert abs(first.noise.mean()) < 0.3 and 0.8 < first.noise.std() < 1.2
