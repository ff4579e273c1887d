import math

import pytest
import torch

from flowlab.policy.decoder import keep_all
from flowlab.policy.flow_time import FlowTimes
from flowlab.policy.objectives import Batch, FlowMatching, Regression, delta_mse
from flowlab.policy.path import implied_action, point_on_path
from flowlab.study.recipe import FlowTime, ObjectiveSettings

CPU = torch.device("cpu")


class Answers:
    """Stands for a decoder: gives the velocity (R, B, H, M) that it was made with, and keeps what it was asked."""

    def __init__(self, velocity):
        self.velocity = velocity

    def __call__(self, xt, t, memory, drop=keep_all):
        self.xt, self.t = xt, t
        return self.velocity.unsqueeze(2)


def one_frame(weight: float = 2.0) -> Batch:
    """Two runs, one frame of two slots and one channel: noise 0, action 1 then 3, t = sigmoid(mean)."""
    action = torch.tensor([1.0, 3.0]).reshape(1, 1, 2, 1).expand(2, 1, 2, 1)
    return Batch(action, torch.zeros(2, 1, 2, 1), torch.zeros(2, 1), torch.full((2, 1, 1), weight))


def test_the_loss_by_hand():
    settings = [
        ObjectiveSettings(delta_weight=10.0),  # t = 1/2
        ObjectiveSettings(delta_weight=4.0, flow_time=FlowTime(mean=math.log(3))),  # t = 3/4
    ]
    decoder = Answers(torch.ones(2, 1, 2, 1))
    losses = FlowMatching(settings, True, CPU).losses(decoder, [], one_frame())["loss"]
    # velocity errors 0 and 2, weight 2: 4. Implied differences 2 t against 2: (2 t - 2)^2 is 1 and 1/4.
    assert losses.tolist() == pytest.approx([4 + 10 * 1, 4 + 4 * 0.25], rel=1e-6)
    assert decoder.xt.shape == (2, 1, 1, 2, 1)
    assert decoder.xt.flatten().tolist() == pytest.approx([0.5, 1.5, 0.75, 2.25])


def batch(horizon: int = 3) -> Batch:
    generator = torch.Generator().manual_seed(3)
    action, noise = torch.randn(2, 2, 4, horizon, 2, generator=generator)
    return Batch(action, noise, torch.randn(2, 4, generator=generator), torch.ones(2, 4, 2))


def losses_of(settings, velocity, batch, slots_in_time=True):
    return FlowMatching(settings, slots_in_time, CPU).losses(Answers(velocity), [], batch)["loss"]


def test_without_weights_and_delta_loss_it_is_the_plain_squared_error():
    velocity = torch.randn(2, 4, 3, 2, generator=torch.Generator().manual_seed(4))
    losses = losses_of([ObjectiveSettings(delta_weight=0.0)] * 2, velocity, batch())
    plain = (velocity - (batch().action - batch().noise)).double().square().flatten(1).mean(1)
    assert losses.tolist() == pytest.approx(plain.tolist(), rel=1e-6)


def test_the_true_velocity_costs_nothing():
    truth = batch().action - batch().noise
    losses = losses_of([ObjectiveSettings(), ObjectiveSettings(delta_weight=50.0)], truth, batch())
    assert losses.tolist() == pytest.approx([0, 0], abs=1e-10)


def test_a_chunk_of_one_slot_has_no_delta_loss():
    velocity = torch.zeros(2, 4, 1, 2)
    settings = [ObjectiveSettings(delta_weight=w) for w in (0.0, 50.0)]
    losses = losses_of(settings, velocity, batch(horizon=1), slots_in_time=False)
    plain = (batch(1).action - batch(1).noise).square().flatten(1).mean(1)
    assert torch.allclose(losses, plain)


def test_flow_times_follow_each_runs_law():
    laws = [FlowTime(), FlowTime(mean=-1.0, std=2.0)]
    times = FlowTimes(laws, CPU)(torch.tensor([[0.0, 1.0], [0.5, -1.0]]))
    expected = [1 / 2, 1 / (1 + math.exp(-1)), 1 / 2, 1 / (1 + math.exp(3))]
    assert times.flatten().tolist() == pytest.approx(expected, rel=1e-6)


def test_delta_mse_of_a_constant_chunk_by_hand():
    action = torch.tensor([0.0, 1.0, 3.0]).reshape(1, 1, 3, 1)
    assert delta_mse(torch.full_like(action, 7.0), action).tolist() == [(1 + 4) / 2]


def test_delta_mse_of_the_right_chunk_is_zero_and_blind_to_an_offset():
    action = torch.tensor([[0.0, 1.0, 3.0], [2.0, 2.0, -4.0]]).reshape(2, 1, 3, 1)
    assert delta_mse(action, action).tolist() == [0, 0]
    assert delta_mse(action + 5, action).tolist() == [0, 0]


def test_the_gradient_of_the_delta_loss():
    generator = torch.Generator().manual_seed(6)
    x0, x1, v = torch.randn(3, 2, 2, 3, 2, generator=generator, dtype=torch.float64)
    t = torch.rand(2, 2, generator=generator, dtype=torch.float64)
    xt = point_on_path(x0, x1, t)
    assert torch.autograd.gradcheck(lambda v: delta_mse(implied_action(xt, v, t), x1), v.requires_grad_())


def test_flow_mse_is_per_frame_and_unweighted():
    action, noise = torch.tensor([[1.0, 3.0], [2.0, 4.0]]).reshape(1, 2, 2, 1), torch.zeros(1, 2, 2, 1)
    objective = FlowMatching([ObjectiveSettings()], True, CPU)
    errors = objective.errors(Answers(torch.ones(1, 2, 2, 1)), [], action, noise, torch.full((1, 2), 0.5))
    assert errors.tolist() == [[(0 + 4) / 2, (1 + 9) / 2]]


def test_a_constant_chunk_pays_the_delta_loss_where_the_truth_moves():
    """Actions 1 and 3, velocity such that the implied chunk is 2 and 2: difference 0 against 2, squared 4, times 10."""
    chunk = torch.full((2, 1, 2, 1), 2.0)
    losses = [
        Regression([ObjectiveSettings(delta_weight=weight)] * 2, True, CPU).losses(Answers(chunk), [], one_frame(1.0))
        for weight in (0.0, 10.0)
    ]
    assert losses[0]["loss"].tolist() == [1.0, 1.0]
    assert losses[1]["loss"].tolist() == [41.0, 41.0]
    assert losses[1]["delta_mse"].tolist() == [4.0, 4.0]


def test_the_regression_loss_is_weighted_and_its_report_is_not():
    found = Regression([ObjectiveSettings(delta_weight=0.0)] * 2, True, CPU)
    losses = found.losses(Answers(torch.zeros(2, 1, 2, 1)), [], one_frame(weight=2.0))
    assert losses["loss"].tolist() == [2 * (1 + 9) / 2] * 2
    assert losses["chunk_mse"].tolist() == [(1 + 9) / 2] * 2


def test_a_regression_asks_once_at_zero_noise_and_flow_time_zero():
    decoder = Answers(torch.full((2, 1, 2, 1), 0.5))
    noise = torch.randn(2, 1, 3, 2, 1, generator=torch.Generator().manual_seed(8))
    draws = Regression([ObjectiveSettings()] * 2, True, CPU).sample(decoder, [], noise, "heun", 9)
    assert draws.shape == noise.shape and (draws == 0.5).all()
    assert (decoder.xt == 0).all() and decoder.t.tolist() == [[0.0], [0.0]]


def test_a_regressions_error_is_per_frame_and_unweighted():
    action = torch.tensor([[1.0, 3.0], [2.0, 4.0]]).reshape(1, 2, 2, 1)
    objective = Regression([ObjectiveSettings()], True, CPU)
    errors = objective.errors(Answers(torch.ones(1, 2, 2, 1)), [], action, action, torch.ones(1, 2))
    assert errors.tolist() == [[(0 + 4) / 2, (1 + 9) / 2]]


def test_without_slots_in_time_nothing_is_said_of_differences():
    for objective in (FlowMatching, Regression):
        losses = objective([ObjectiveSettings()] * 2, False, CPU).losses(Answers(torch.zeros(2, 4, 3, 2)), [], batch())
        assert "delta_mse" not in losses
