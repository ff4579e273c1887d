import math

import pytest
import torch

from flowlab.policy.decoder import keep_all
from flowlab.policy.objectives import FlowBatch, FlowLoss, delta_mse, flow_mse
from flowlab.policy.path import implied_action, point_on_path
from flowlab.study.recipe import FlowObjective, LogitNormal

CPU = torch.device("cpu")


class Answers:
    """Stands for a decoder: gives the velocity (R, B, H, M) that it was made with, and keeps what it was asked."""

    def __init__(self, velocity):
        self.velocity = velocity

    def __call__(self, xt, t, memory, drop=keep_all):
        self.xt, self.t = xt, t
        return self.velocity.unsqueeze(2)


def one_frame(weight: float = 2.0) -> FlowBatch:
    """Two runs, one frame of two slots and one channel: noise 0, action 1 then 3, t = sigmoid(mean)."""
    action = torch.tensor([1.0, 3.0]).reshape(1, 1, 2, 1).expand(2, 1, 2, 1)
    return FlowBatch(action, torch.zeros(2, 1, 2, 1), torch.zeros(2, 1), torch.full((2, 1, 1), weight))


def test_the_loss_by_hand():
    settings = [
        FlowObjective(delta_weight=10.0),  # t = 1/2
        FlowObjective(delta_weight=4.0, flow_time=LogitNormal(mean=math.log(3))),  # t = 3/4
    ]
    decoder = Answers(torch.ones(2, 1, 2, 1))
    losses = FlowLoss(settings, CPU)(decoder, [], one_frame())
    # velocity errors 0 and 2, weight 2: 4. Implied differences 2 t against 2: (2 t - 2)^2 is 1 and 1/4.
    assert losses.tolist() == pytest.approx([4 + 10 * 1, 4 + 4 * 0.25], rel=1e-6)
    assert decoder.xt.shape == (2, 1, 1, 2, 1)
    assert decoder.xt.flatten().tolist() == pytest.approx([0.5, 1.5, 0.75, 2.25])


def batch(horizon: int = 3) -> FlowBatch:
    generator = torch.Generator().manual_seed(3)
    action, noise = torch.randn(2, 2, 4, horizon, 2, generator=generator)
    return FlowBatch(action, noise, torch.randn(2, 4, generator=generator), torch.ones(2, 4, 2))


def test_without_weights_and_delta_loss_it_is_the_plain_squared_error():
    velocity = torch.randn(2, 4, 3, 2, generator=torch.Generator().manual_seed(4))
    losses = FlowLoss([FlowObjective(delta_weight=0.0)] * 2, CPU)(Answers(velocity), [], batch())
    plain = (velocity - (batch().action - batch().noise)).double().square().flatten(1).mean(1)
    assert losses.tolist() == pytest.approx(plain.tolist(), rel=1e-6)


def test_the_true_velocity_costs_nothing():
    truth = batch().action - batch().noise
    losses = FlowLoss([FlowObjective(), FlowObjective(delta_weight=50.0)], CPU)(Answers(truth), [], batch())
    assert losses.tolist() == pytest.approx([0, 0], abs=1e-10)


def test_a_chunk_of_one_slot_has_no_delta_loss():
    velocity = torch.zeros(2, 4, 1, 2)
    losses = FlowLoss([FlowObjective(delta_weight=w) for w in (0.0, 50.0)], CPU)(
        Answers(velocity), [], batch(horizon=1)
    )
    plain = (batch(1).action - batch(1).noise).square().flatten(1).mean(1)
    assert torch.allclose(losses, plain)


def test_flow_times_follow_each_runs_law():
    laws = [LogitNormal(), LogitNormal(mean=-1.0, std=2.0)]
    times = FlowLoss([FlowObjective(flow_time=law) for law in laws], CPU).times(torch.tensor([[0.0, 1.0], [0.5, -1.0]]))
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
    errors = flow_mse(Answers(torch.ones(1, 2, 2, 1)), [], action, noise, torch.full((1, 2), 0.5))
    assert errors.tolist() == [[(0 + 4) / 2, (1 + 9) / 2]]
