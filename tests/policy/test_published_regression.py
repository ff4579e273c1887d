"""A regression on slot queries is the published one: the trunk without noise and flow time."""

import pytest
import torch

from flowlab.policy.layers import keep_all
from flowlab.policy.objectives import Batch, Regression
from flowlab.study.recipe import ManeuverWeights, ObjectiveSettings
from tests.policy.published_sizes import (
    CHANNELS,
    HORIZON,
    PUBLISHED,
    SMALL,
    inputs,
    published_regression,
    somewhat_trained,
    velocity,
)

QUERIES = PUBLISHED.model_copy(update={"kind": "slot-queries"})
SMALL_QUERIES = SMALL.model_copy(update={"kind": "slot-queries"})
PLAIN = ObjectiveSettings(kind="regression", delta_weight=0.0, lds=ManeuverWeights(alpha=0.0))


@pytest.fixture(scope="module")
def ours():
    return somewhat_trained(QUERIES)


def objective() -> Regression:
    return Regression([PLAIN], slots_in_time=True, device=torch.device("cpu"))


def test_both_have_the_published_number_of_parameters(ours):
    theirs = published_regression(ours, QUERIES)
    assert [sum(p.numel() for p in module.parameters()) for module in (ours, theirs)] == [3_001_602, 3_001_602]


def test_weight_decay_takes_the_matrices_but_not_the_queries_and_the_norms(ours):
    theirs = published_regression(ours, QUERIES).named_parameters()
    matrices = sum(p.numel() for name, p in theirs if p.ndim > 1 and name != "queries")
    assert sum(p.numel() for _, p in ours.named_stacked() if p.decays) == matrices


def test_the_same_weights_give_the_same_chunks(ours):
    xt, condition = inputs(8)
    with torch.no_grad():
        expected = published_regression(ours, QUERIES)(condition)
        found = velocity(ours, xt, torch.full((8,), 0.3), condition)
    assert expected.abs().max() > 0.5
    assert (found - expected).abs().max() < 1e-5


def test_a_sample_is_that_chunk_whatever_the_noise(ours):
    _, condition = inputs(3)
    noise = torch.randn(1, 3, 4, HORIZON, CHANNELS, generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        expected = published_regression(ours, QUERIES)(condition)
        draws = objective().sample(ours, ours.remember(condition[None]), noise, "heun", 4)[0]
    assert (draws - expected[:, None]).abs().max() < 1e-5


def test_it_ignores_the_noisy_chunk_and_the_flow_time():
    ours = somewhat_trained(SMALL_QUERIES)
    xt, condition = inputs(4)
    early, late = torch.zeros(4), torch.ones(4)
    assert torch.equal(velocity(ours, xt, early, condition), velocity(ours, -5 * xt, late, condition))


def test_it_sees_its_condition():
    ours = somewhat_trained(SMALL_QUERIES)
    xt, condition = inputs(4)
    t = torch.zeros(4)
    assert (velocity(ours, xt, t, condition) - velocity(ours, xt, t, 2 * condition)).abs().max() > 1e-2


def test_its_loss_is_the_plain_mean_squared_error_of_the_chunk():
    """The published regression has neither maneuver weights nor a delta loss."""
    ours = somewhat_trained(SMALL_QUERIES)
    action, condition = inputs(5)
    batch = Batch(action[None, :, :], torch.zeros(1, *action.shape), torch.zeros(1, 5), torch.ones(1, 5, CHANNELS))
    loss = objective().losses(ours, ours.remember(condition[None]), batch, keep_all)["loss"]
    expected = torch.nn.functional.mse_loss(published_regression(ours, SMALL_QUERIES)(condition), action)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_gradients_are_the_same():
    ours = somewhat_trained(SMALL_QUERIES)
    theirs = published_regression(ours, SMALL_QUERIES)
    target, condition = inputs(5)
    condition.requires_grad_()
    of_condition = []
    for out in (velocity(ours, target, torch.zeros(5), condition), theirs(condition)):
        (out - target).square().mean().backward()
        of_condition.append(condition.grad.clone())
        condition.grad = None
    assert of_condition[1].abs().max() > 1e-4
    assert (of_condition[0] - of_condition[1]).abs().max() < 1e-4 * of_condition[1].abs().max()
