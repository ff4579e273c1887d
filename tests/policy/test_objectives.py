import math

import pytest
import torch

from flowlab.policy.decoder import keep_all
from flowlab.policy.flow_time import FlowTimes
from flowlab.policy.objectives import Batch, DeltaLoss, FlowMatching, Regression, delta_squared, weighted_mean
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
        ObjectiveSettings(delta_weight=10.0, delta_weighted=False),  # t = 1/2
        ObjectiveSettings(delta_weight=4.0, flow_time=FlowTime(mean=math.log(3))),  # t = 3/4
    ]
    decoder = Answers(torch.ones(2, 1, 2, 1))
    losses = FlowMatching(settings, True, CPU).losses(decoder, [], one_frame())["loss"]
    # velocity errors 0 and 2, weight 2: 4. Implied differences 2 t against 2: (2 t - 2)^2 is 1 and 1/4, once and twice
    assert losses.tolist() == pytest.approx([4 + 10 * 1, 4 + 4 * 2 * 0.25], rel=1e-6)
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


def test_delta_squared_of_a_constant_chunk_by_hand():
    action = torch.tensor([0.0, 1.0, 3.0]).reshape(1, 1, 3, 1)
    assert delta_squared(torch.full_like(action, 7.0), action).flatten().tolist() == [1, 4]


def test_delta_squared_of_the_right_chunk_is_zero_and_blind_to_an_offset():
    action = torch.tensor([[0.0, 1.0, 3.0], [2.0, 2.0, -4.0]]).reshape(2, 1, 3, 1)
    assert delta_squared(action, action).shape == (2, 1, 2, 1)
    assert not delta_squared(action, action).any()
    assert not delta_squared(action + 5, action).any()


def test_the_delta_loss_by_hand_of_runs_that_differ_in_its_weights():
    """Errors 1 and 3 of two channels in a first frame, 5 and 7 in a second, at the maneuver weights 2, 0, 1 and 1."""
    squared = torch.tensor([[1.0, 3.0], [5.0, 7.0]]).reshape(1, 2, 1, 2).expand(3, 2, 1, 2)
    weight = torch.tensor([[2.0, 0.0], [1.0, 1.0]]).expand(3, 2, 2)
    laws = [(10.0, True), (10.0, False), (0.5, True)]
    delta = DeltaLoss([ObjectiveSettings(delta_weight=w, delta_weighted=by) for w, by in laws], CPU)
    # weighted (2 + 0 + 5 + 7) / 4 = 3.5, plain (1 + 3 + 5 + 7) / 4 = 4
    assert delta(squared, weight).tolist() == [35, 40, 1.75]


def test_the_gradient_of_the_delta_loss():
    generator = torch.Generator().manual_seed(6)
    x0, x1, v = torch.randn(3, 2, 2, 3, 2, generator=generator, dtype=torch.float64)
    t = torch.rand(2, 2, generator=generator, dtype=torch.float64)
    xt = point_on_path(x0, x1, t)
    assert torch.autograd.gradcheck(lambda v: delta_squared(implied_action(xt, v, t), x1), v.requires_grad_())


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


def test_the_weighted_mean_by_hand():
    squared = torch.tensor([[[1.0, 4.0], [3.0, 0.0]]]).unsqueeze(0)  # one run and frame, two slots of two channels
    assert weighted_mean(squared, torch.tensor([[[2.0, 0.5]]])).tolist() == [(2 * 1 + 0.5 * 4 + 2 * 3) / 4]


def test_a_chunk_that_stands_still_costs_the_movement_of_the_truth():
    action = torch.tensor([[0.0, 1.0, 3.0], [1.0, -1.0, -1.0], [5.0, 5.0, 5.0]]).reshape(3, 1, 3, 1)
    still = action.mean(dim=2, keepdim=True).expand_as(action)
    assert delta_squared(still, action).flatten(1).tolist() == [[1, 4], [4, 0], [0, 0]]


@pytest.mark.parametrize("objective", [FlowMatching, Regression])
def test_the_delta_loss_is_all_that_slots_in_time_add(objective):
    settings, answers, of = [ObjectiveSettings(delta_weight=50.0)] * 2, Answers(torch.zeros(2, 4, 3, 2)), batch()
    on, off = (objective(settings, in_time, CPU).losses(answers, [], of) for in_time in (True, False))
    assert (on["delta_mse"] > 0.1).all()
    assert torch.allclose(on["loss"], off["loss"] + 50 * on["delta_mse"], rtol=1e-6)


def test_what_is_reported_is_unweighted_and_carries_no_gradient():
    velocity = torch.ones(2, 1, 2, 1, requires_grad=True)
    reported = FlowMatching([ObjectiveSettings()] * 2, True, CPU).losses(Answers(velocity), [], one_frame(weight=7.0))
    assert reported["flow_mse"].tolist() == [2, 2]  # velocity errors 0 and 2
    assert reported["delta_mse"].tolist() == [1, 1]  # t = 1/2 implies the difference 1 where the truth has 2
    assert [reported[name].requires_grad for name in ("loss", "flow_mse", "delta_mse")] == [True, False, False]


def test_what_a_regression_reports_is_unweighted_and_carries_no_gradient():
    chunk = torch.ones(2, 1, 2, 1, requires_grad=True)
    reported = Regression([ObjectiveSettings()] * 2, True, CPU).losses(Answers(chunk), [], one_frame(weight=7.0))
    assert reported["chunk_mse"].tolist() == [2, 2]  # errors 0 and 2
    assert reported["delta_mse"].tolist() == [4, 4]  # difference 0 where the truth has 2
    assert [reported[name].requires_grad for name in ("loss", "chunk_mse", "delta_mse")] == [True, False, False]


@pytest.mark.parametrize("objective", [FlowMatching, Regression])
def test_the_gradient_of_the_whole_loss(objective):
    generator = torch.Generator().manual_seed(7)
    x0, x1, velocity = torch.randn(3, 2, 2, 3, 2, generator=generator, dtype=torch.float64)
    normal, weight = torch.rand(2, 2, generator=generator), torch.rand(2, 2, 2, generator=generator)
    of = Batch(x1, x0, normal.double(), weight.double())
    settings = [ObjectiveSettings(delta_weight=delta_weight) for delta_weight in (0.5, 3.0)]
    losses = objective(settings, True, CPU).losses
    assert torch.autograd.gradcheck(lambda v: losses(Answers(v), [], of)["loss"], velocity.requires_grad_())


class Moves(Answers):
    """Answers with what it was made with at zero noise and flow time 0, and with something else elsewhere."""

    def __call__(self, xt, t, memory, drop=keep_all):
        return super().__call__(xt, t, memory) + 10 * xt + 100 * t[:, :, None, None, None]


def test_the_right_chunk_costs_a_regression_nothing():
    regression = Regression([ObjectiveSettings(), ObjectiveSettings(delta_weight=50.0)], True, CPU)
    assert regression.losses(Moves(batch().action), [], batch())["loss"].tolist() == [0, 0]


def test_a_regressions_loss_and_error_do_not_see_noise_and_flow_time():
    of, regression, decoder = batch(), Regression([ObjectiveSettings()] * 2, True, CPU), Moves(torch.ones(2, 4, 3, 2))
    other = Batch(of.action, of.noise + 1, of.time_normal + 1, of.weight)
    assert torch.equal(*(regression.losses(decoder, [], given)["loss"] for given in (of, other)))
    errors = [regression.errors(decoder, [], of.action, b.noise, b.time_normal.sigmoid()) for b in (of, other)]
    assert torch.equal(*errors)
    assert torch.allclose(errors[0], (1 - of.action).square().mean(dim=(2, 3)))


@pytest.mark.parametrize(("solver", "num_steps"), [("euler", 1), ("heun", 32)])
def test_every_draw_of_a_regression_is_the_same_chunk(solver, num_steps):
    chunk = torch.randn(2, 4, 3, 2, generator=torch.Generator().manual_seed(8))
    noise = torch.randn(2, 4, 5, 3, 2, generator=torch.Generator().manual_seed(9))
    draws = Regression([ObjectiveSettings()] * 2, True, CPU).sample(Moves(chunk), [], noise, solver, num_steps)
    assert torch.equal(draws, chunk.unsqueeze(2).expand(2, 4, 5, 3, 2))
