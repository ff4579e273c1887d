"""The learned ranker: the published sizes, the network against plain torch, and its losses by hand."""

import math

import pytest
import torch
from torch import nn

from flowlab.policy.ranker import (
    Ranker,
    RankerSizes,
    build_ranker,
    listwise_loss,
    listwise_target,
    pointwise_loss,
    spread_weight,
)

CPU = torch.device("cpu")
SMALL = RankerSizes(width=16, num_tokens=3, token_width=4, horizon=2, num_channels=3)


# published as 3.69 M and 1.52 M; the last two rank chunks of two model channels
@pytest.mark.parametrize(
    ("width", "num_channels", "expected"), [(512, 3, 3_691_521), (256, 3, 1_522_689), (512, 2, 3_688_449)]
)
def test_the_published_sizes(width: int, num_channels: int, expected: int) -> None:
    ranker = Ranker(1, RankerSizes(width, 12, 384, 6, num_channels))
    assert sum(parameter.numel() for parameter in ranker.parameters()) == expected


def test_it_is_the_plain_network_on_c_d_and_their_product() -> None:
    ranker = build_ranker(SMALL, [1, 2], CPU)
    ranker.centre.fill_(0.5)
    ranker.scale.fill_(2.0)
    generator = torch.Generator().manual_seed(0)
    condition = torch.randn(2, 5, 3, 4, generator=generator)
    draws = torch.randn(2, 5, 4, 2, 3, generator=generator)
    scores = ranker(draws, ranker.remember(condition))
    own = ranker.run_tensors(1)

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        return x @ own[f"{name}.weight"] + own[f"{name}.bias"]

    entries = nn.functional.layer_norm(condition[1].flatten(1), (12,))
    c = linear("condition_leave", linear("condition_enter", entries).relu())[:, None].expand(5, 4, 16)
    d = linear("draw_leave", linear("draw_enter", (draws[1].flatten(2) - 0.5) / 2).relu())
    expected = linear("head_leave", linear("head_enter", torch.cat([c, d, c * d], -1)).relu())[..., 0]
    assert torch.allclose(scores[1], expected, rtol=0, atol=1e-5)


def test_a_seed_has_its_initial_weights_whoever_is_beside_it() -> None:
    alone, beside = build_ranker(SMALL, [2], CPU), build_ranker(SMALL, [1, 2], CPU)
    for name, value in alone.run_tensors(0).items():
        assert torch.equal(value, beside.run_tensors(1)[name]), name


def test_the_listwise_loss_by_hand() -> None:
    """Scores ln 1, ln 3 have the softmax 1/4, 3/4; L1 0 and 0.02 ln 2 at tau 0.02 the target 2/3, 1/3."""
    scores = torch.tensor([[[0.0, math.log(3)]]])
    target = listwise_target(torch.tensor([[[0.0, 0.02 * math.log(2)]]]), 0.02)
    assert target.flatten().tolist() == pytest.approx([2 / 3, 1 / 3])
    expected = -(2 / 3 * math.log(1 / 4) + 1 / 3 * math.log(3 / 4))
    assert listwise_loss(scores, target).item() == pytest.approx(expected, abs=1e-6)


def test_the_listwise_loss_of_equal_scores_is_the_logarithm_of_their_number() -> None:
    target = listwise_target(torch.rand(1, 7, 5, generator=torch.Generator().manual_seed(0)), 0.1)
    assert listwise_loss(torch.full((1, 7, 5), 3.0), target).flatten().tolist() == pytest.approx([math.log(5)] * 7)


def test_scores_far_apart_lose_no_more_than_their_distance() -> None:
    loss = listwise_loss(torch.tensor([[[1000.0, 0.0]]]), torch.tensor([[[0.0, 1.0]]]))
    assert loss.item() == pytest.approx(1000.0)


def test_the_pointwise_loss_is_none_where_the_score_is_minus_l1_by_tau() -> None:
    error = torch.tensor([[[0.1, 0.3]]])
    assert pointwise_loss(-error / 0.02, error, 0.02).item() == pytest.approx(0.0, abs=1e-12)
    assert pointwise_loss(torch.zeros(1, 1, 2), error, 0.02).item() == pytest.approx((0.01 + 0.09) / 2)


def test_a_frame_counts_by_the_spread_of_its_draws_over_the_mean_spread() -> None:
    """Standard deviations 0.1 and 0.3, their mean 0.2."""
    error = torch.tensor([[0.4, 0.6], [0.2, 0.8]])
    assert spread_weight(error).tolist() == pytest.approx([0.5, 1.5])
    assert spread_weight(torch.full((2, 3), 0.2)).tolist() == [1.0, 1.0]
