"""flowlab's control starts as torch's own layers do, each parameter from a stream of its own."""

import pytest
import torch
from scipy import stats

from flowlab.policy.decoder import run_weights
from flowlab.study.recipe import DecoderSettings
from tests.policy.published import PublishedDecoder, PublishedRegression
from tests.policy.published_sizes import (
    CHANNELS,
    HORIZON,
    PUBLISHED,
    SMALL,
    TOKENS_WIDTH,
    published,
    published_regression,
    untrained,
)

SIZES = (PUBLISHED.width, PUBLISHED.layers, PUBLISHED.heads, TOKENS_WIDTH, HORIZON, CHANNELS)
ENOUGH = 20_000  # entries of a matrix to compare distributions by
QUERIES = PUBLISHED.model_copy(update={"kind": "slot-queries"})


@pytest.fixture(scope="module")
def weights():
    return run_weights(untrained(), 0)


def std(weight: torch.Tensor) -> float:
    return weight.std(correction=0).item()


@pytest.mark.parametrize(
    ("name", "published_std"),
    [
        ("blocks.0.cross.query.weight", (2 / (4 * 256)) ** 0.5),  # .0442: Xavier's of the three matrices as one
        ("blocks.3.slots.value.weight", (2 / (4 * 256)) ** 0.5),
        ("blocks.0.cross.leave.weight", (1 / (3 * 256)) ** 0.5),  # .0361: uniform up to 1 / sqrt(in)
        ("blocks.2.mlp.enter.weight", (1 / (3 * 256)) ** 0.5),
        ("condition.project.weight", (1 / (3 * 384)) ** 0.5),
        ("time.leave.weight", (1 / (3 * 1024)) ** 0.5),
    ],
)
def test_matrices_start_with_the_published_deviation(weights, name, published_std):
    assert std(weights[name]) == pytest.approx(published_std, rel=0.02)


def test_the_action_projection_starts_with_the_published_deviation(weights):
    assert std(weights["action.weight"]) == pytest.approx(0.403, rel=0.05)  # 512 entries of 0.408


@pytest.mark.parametrize("kind", ["transformer", "slot-queries"])
def test_every_parameter_is_distributed_as_torch_starts_it(kind):
    """Against the constructors of torch's layers themselves, by Kolmogorov and Smirnov's test of two samples."""
    torch.manual_seed(0)
    theirs = PublishedDecoder(*SIZES) if kind == "transformer" else PublishedRegression(*SIZES)
    ours = published(untrained()) if kind == "transformer" else published_regression(untrained(QUERIES), QUERIES)
    for (name, found), expected in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        one, other = (p.detach().flatten()[:ENOUGH].numpy() for p in (found, expected))
        assert stats.ks_2samp(one, other).pvalue > 1e-4, name
        if expected.numel() >= 256:
            assert found.abs().max().item() == pytest.approx(expected.abs().max().item(), rel=0.05), name


def test_zero_and_one_are_exactly_what_torch_and_the_description_start_so():
    weights = {**run_weights(untrained(), 0), **run_weights(untrained(QUERIES), 0)}
    zero = {name for name, weight in weights.items() if not weight.any()}
    attention = ("query.bias", "key.bias", "value.bias", "leave.bias")
    for name in weights:
        of_attention = (".cross." in name or ".slots." in name) and name.endswith(attention)
        assert (name in zero) == (of_attention or ".modulation." in name or name.endswith(".shift")), name
        if name.endswith(".scale"):
            assert torch.equal(weights[name], torch.ones(PUBLISHED.width))


def test_a_bias_does_not_repeat_its_matrix_nor_a_layer_the_one_before(weights):
    """Each has a stream of its own, by its name."""
    first, second = weights["blocks.0.mlp.leave.weight"], weights["blocks.1.mlp.leave.weight"]
    assert not torch.isin(first.flatten()[:256], second.flatten()[:256]).any()
    assert not torch.isin(first.flatten()[:256], weights["blocks.0.mlp.leave.bias"]).any()


def test_one_seed_starts_alike_twice_and_two_differ_in_whatever_is_random():
    once, again, other = (run_weights(untrained(SMALL, (seed,)), 0) for seed in (1, 1, 2))
    assert all(torch.equal(weight, again[name]) for name, weight in once.items())
    assert all(torch.equal(weight, other[name]) == (not weight.any()) for name, weight in once.items())


@pytest.mark.parametrize("more", [{"layers": 4}, {"final_norm": True, "adaln_silu": True}, {"slot_adaln": True}])
def test_what_two_decoders_share_starts_alike(more):
    plain = run_weights(untrained(SMALL), 0)
    changed = run_weights(untrained(DecoderSettings(**SMALL.model_dump() | more)), 0)
    assert set(plain) <= set(changed)
    assert all(torch.equal(weight, changed[name]) for name, weight in plain.items())


def test_the_run_axis_holds_what_each_run_would_have_alone():
    together = untrained(SMALL, (1, 2))
    for run, seed in enumerate((1, 2)):
        alone = run_weights(untrained(SMALL, (seed,)), 0)
        assert all(torch.equal(weight, alone[name]) for name, weight in run_weights(together, run).items())
