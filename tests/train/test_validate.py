from dataclasses import fields
from statistics import NormalDist

import numpy as np
import pytest
import torch

from flowlab.core.types import ConditionSpec, TokenGroup
from flowlab.policy.decoder import Decoder, initialise
from flowlab.policy.objectives import FlowMatching, Regression
from flowlab.study.recipe import DecoderSettings, FlowTime, ObjectiveSettings
from flowlab.train.validate import Validation, validate

FLOW = FlowMatching([ObjectiveSettings()] * 2, True, torch.device("cpu"))


@pytest.fixture
def decoder() -> Decoder:
    built = Decoder(
        2, DecoderSettings(width=16, heads=2, layers=1), 4, 2, ConditionSpec(12, (TokenGroup("tokens", 5),))
    )
    initialise(built, (1, 2))
    return built


def test_a_decoder_that_answers_zero_has_the_mean_square_of_the_velocity(decoder, validation):
    with torch.no_grad():
        decoder.velocity.weight.zero_()
        decoder.velocity.bias.zero_()
    expected = np.square(validation.action.double().numpy() - validation.noise.double().numpy()).mean()
    assert validate(FLOW, decoder, validation)["flow_mse"]["overall"].tolist() == pytest.approx(
        [expected] * 2, rel=1e-6
    )


def test_blocks_of_any_size_give_the_same_mean(decoder, validation, monkeypatch):
    whole = validate(FLOW, decoder, validation)
    monkeypatch.setattr("flowlab.train.validate.BLOCK", 7)  # 20 frames: 7, 7 and 6
    blocks = validate(FLOW, decoder, validation)
    for metric in ("flow_mse", "law_flow_mse"):
        first, second = whole[metric]["overall"].tolist()
        assert blocks[metric]["overall"].tolist() == pytest.approx([first, second], rel=1e-6)
        assert first != second


def test_flow_times_are_spread_evenly(validation):
    assert validation.time.sort().values.tolist() == pytest.approx([(i + 0.5) / 20 for i in range(20)])


def test_noise_is_fixed_by_the_bank_seed(split_of):
    first, second = split_of(50)[1], split_of(50)[1]
    assert torch.equal(first.noise, second.noise) and torch.equal(first.time, second.time)
    assert abs(first.noise.mean()) < 0.3 and 0.8 < first.noise.std() < 1.2


def test_eight_buckets_of_flow_time_make_up_the_whole(decoder, validation):
    """20 evenly spread times fall 2, 3, 2, 3, 2, 3, 2, 3 into eighths: 1/8 opens the second one."""
    found = validate(FLOW, decoder, validation)["flow_mse"]
    assert list(found) == ["overall", *(f"time:{bucket}" for bucket in range(1, 9))]
    counts = [2, 3, 2, 3, 2, 3, 2, 3]
    assert np.histogram(validation.time.numpy(), bins=8, range=(0, 1))[0].tolist() == counts
    weighted = sum(count * found[f"time:{bucket}"] for bucket, count in enumerate(counts, start=1)) / 20
    assert weighted.tolist() == pytest.approx(found["overall"].tolist(), rel=1e-12)


def test_a_bucket_holds_the_frames_of_its_flow_times(decoder, validation):
    late = validation.time >= 7 / 8
    picked = Validation(*(getattr(validation, field.name)[late] for field in fields(Validation)))
    alone = validate(FLOW, decoder, picked)["flow_mse"]
    assert list(alone) == ["overall", "time:8"]
    found = validate(FLOW, decoder, validation)["flow_mse"]["time:8"]
    assert alone["overall"].tolist() == pytest.approx(found.tolist(), rel=1e-6)


def test_a_regression_has_no_buckets_and_no_law(decoder, validation):
    regression = Regression([ObjectiveSettings()] * 2, True, torch.device("cpu"))
    found = validate(regression, decoder, validation)
    assert {metric: list(of) for metric, of in found.items()} == {"chunk_mse": ["overall"]}


def test_a_law_s_flow_times_are_made_of_evenly_spread_quantiles_in_the_order_of_the_uniform_ones(validation):
    quantiles = [NormalDist().inv_cdf(time) for time in validation.time.tolist()]
    assert validation.time_normal.tolist() == pytest.approx(quantiles, abs=1e-6)


class Level(FlowMatching):
    """Says the flow time as its error."""

    error_metric = "level"

    def errors(self, decoder, memory, action, noise, t):
        return t


def test_the_error_at_the_law_s_times_is_each_run_s_own(decoder, validation):
    """beta with alpha 1 is uniform up to its end: the times' mean is 1/2 up to 1, and 1/4 up to 1/2."""
    laws = [FlowTime(kind="uniform"), FlowTime(kind="beta", alpha=1.0, end=0.5)]
    level = Level([ObjectiveSettings(flow_time=law) for law in laws], True, torch.device("cpu"))
    found = validate(level, decoder, validation)
    assert list(found) == ["level", "law_level"]
    assert found["level"]["overall"].tolist() == pytest.approx([0.5, 0.5], abs=1e-7)
    assert list(found["law_level"]) == ["overall"]
    assert found["law_level"]["overall"].tolist() == pytest.approx([0.5, 0.25], abs=1e-7)


def test_both_errors_look_at_one_memory_of_a_block(decoder, validation, monkeypatch):
    monkeypatch.setattr("flowlab.train.validate.BLOCK", 7)  # 20 frames: 7, 7 and 6
    asked, remember = [], decoder.remember
    monkeypatch.setattr(decoder, "remember", lambda condition: asked.append(1) or remember(condition))
    assert list(validate(FLOW, decoder, validation)) == ["flow_mse", "law_flow_mse"]
    assert len(asked) == 3


def test_one_slot_has_the_noise_that_it_has_among_four(split_of):
    whole, cut = split_of(50)[1], split_of(50, slots=1)[1]
    assert cut.action.shape == (20, 1, 2)
    assert torch.equal(cut.noise, whole.noise[:, :1]) and torch.equal(cut.time, whole.time)
