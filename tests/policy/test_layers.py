import math
from statistics import NormalDist

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from flowlab.policy.layers import Attention, GatedMLP, StackedLinear, in_whole_vectors, modulate, norm
from flowlab.policy.streams import stream

RUNS, WIDTH = 3, 8


def filled(module: nn.Module) -> nn.Module:
    """The module in double precision with a draw of its own in every entry, biases too."""
    module.double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return module


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def test_a_stacked_linear_is_one_plain_linear_per_run():
    layer, x = filled(StackedLinear(RUNS, WIDTH, 5, "torch")), normal(RUNS, 2, 4, WIDTH)
    expected = torch.stack([F.linear(x[r], layer.weight[r].T, layer.bias[r]) for r in range(RUNS)])
    assert torch.allclose(layer(x), expected, rtol=0, atol=1e-12)


def test_attention_is_torchs_multi_head_attention_per_run():
    layer = filled(Attention(RUNS, WIDTH, heads=2, source_width=WIDTH, init="torch"))
    x, source = normal(RUNS, 2, 3, WIDTH), normal(RUNS, 2, 5, WIDTH) / 3
    out = layer(x, layer.keys_values(source))
    for run in range(RUNS):
        plain = nn.MultiheadAttention(WIDTH, 2, batch_first=True, dtype=torch.float64)
        parts = (layer.query, layer.key, layer.value)
        with torch.no_grad():
            plain.in_proj_weight.copy_(torch.cat([part.weight[run].T for part in parts]))
            plain.in_proj_bias.copy_(torch.cat([part.bias[run] for part in parts]))
            plain.out_proj.weight.copy_(layer.leave.weight[run].T)
            plain.out_proj.bias.copy_(layer.leave.bias[run])
        expected, _ = plain(x[run], source[run], source[run], need_weights=False)
        assert torch.allclose(out[run], expected, rtol=0, atol=1e-10)


# at 1.5: x / (1 + exp(-x)), and x times the normal distribution's share below it, 0.9331928
GATES = {"silu": 1.5 / (1 + math.exp(-1.5)), "gelu": 1.5 * NormalDist().cdf(1.5)}


@pytest.mark.parametrize("gate", GATES)
def test_the_gated_mlp_by_hand(gate):
    """Four hidden values 2 x, their gates x, and each counts three quarters: 3 in all."""
    layer = GatedMLP(1, 1, multiplier=4.0, gate=gate, init="torch")
    with torch.no_grad():
        layer.enter.weight.copy_(torch.tensor([[[2.0] * 4 + [1.0] * 4]]))
        layer.enter.bias.zero_()
        layer.leave.weight.fill_(3.0 / 4)
        layer.leave.bias.fill_(0.5)
    assert layer(torch.tensor([[[1.5]]])).item() == pytest.approx(3 * 3.0 * GATES[gate] + 0.5, rel=1e-6)


def test_the_gated_mlp_drops_of_its_hidden_layer_by_name():
    """All of it dropped, what is left is the bias on the way out."""
    layer, seen = filled(GatedMLP(RUNS, WIDTH, 1.0, "gelu", "torch")), []

    def drop(name, x):
        seen.append((name, tuple(x.shape)))
        return torch.zeros_like(x)

    out = layer(normal(RUNS, 2, 3, WIDTH), drop, "here")
    assert seen == [("here", (RUNS, 2, 3, 8))]
    assert torch.equal(out, layer.leave.bias[:, None, None].expand(out.shape))


@pytest.mark.parametrize(("multiplier", "hidden"), [(1.0, 8), (4.0, 32), (0.7, 4), (0.01, 4)])
def test_the_hidden_width_of_the_mlp_is_a_multiple_of_4(multiplier, hidden):
    assert GatedMLP(1, WIDTH, multiplier, "gelu", "torch").leave.weight.shape == (1, hidden, WIDTH)


def test_dropped_attention_weights_leave_the_sum_over_the_rest():
    """Two tokens with equal keys weigh a half each; the first dropped and the other doubled, its value is left."""
    layer = Attention(1, 4, heads=1, source_width=4, init="torch")
    with torch.no_grad():
        for part in (layer.value, layer.leave):
            part.weight.copy_(torch.eye(4))
            part.bias.zero_()
        layer.key.weight.zero_()
    source = torch.tensor([[[[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]]])
    x, kept = torch.ones(1, 1, 3, 4), layer.keys_values(source)
    assert layer(x, kept)[0, 0, 0].tolist() == pytest.approx([3, 4, 5, 6])
    seen = []

    def drop_first(name, weights):
        seen.append((name, tuple(weights.shape)))
        return weights * torch.tensor([0.0, 2.0])

    assert layer(x, kept, drop_first, "weights")[0, 0, 0].tolist() == pytest.approx([5, 6, 7, 8])
    assert seen == [("weights", (1, 1, 1, 3, 2))]  # run, frame, head, query, token


@pytest.mark.parametrize("function", [torch.sigmoid, torch.logit, F.silu, torch.sin, torch.cos])
@pytest.mark.parametrize("shape", [(5, 1), (5, 7), (5, 3, 11), (5, 64), (5, 2, 3, 43)])
def test_in_whole_vectors_gives_each_run_its_bits_alone(function, shape):
    x = torch.rand(shape, generator=torch.Generator().manual_seed(8))
    together = in_whole_vectors(function, x)
    alone = torch.cat([in_whole_vectors(function, x[run : run + 1]) for run in range(5)])
    assert torch.equal(together, alone)
    assert torch.allclose(together, function(x.double()).float(), rtol=1e-5, atol=1e-6)


def test_in_whole_vectors_passes_gradients_on():
    x = normal(2, 3, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: in_whole_vectors(F.silu, x), x)


def test_norm_has_mean_zero_and_variance_one():
    x = norm(normal(4, 64) * 5 + 2)
    assert torch.allclose(x.mean(-1), torch.zeros(4, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(x.var(-1, unbiased=False), torch.ones(4, dtype=torch.float64), atol=1e-5)


def test_modulate_scales_and_shifts_the_norm():
    x = torch.tensor([[-1.0, 1.0]], dtype=torch.float64)  # its own norm, but for the epsilon
    assert torch.allclose(modulate(x, torch.tensor(0.5), torch.tensor(2.0)), 3 * x + 0.5, atol=1e-4)


@pytest.mark.parametrize(
    "other", [(8, "noise", 3), (7, "order", 3), (7, "noise", 4), (7, "noise"), (7, "noise", "3"), (7, 3, "noise")]
)
def test_streams_of_other_names_are_others(other):
    draws = torch.randn(16, generator=stream(7, "noise", 3))
    assert torch.equal(draws, torch.randn(16, generator=stream(7, "noise", 3)))
    assert not torch.equal(draws, torch.randn(16, generator=stream(*other)))


def test_a_stream_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    torch.randn(16, generator=stream(7, "noise", 3))
    assert torch.equal(torch.get_rng_state(), before)
