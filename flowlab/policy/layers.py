"""Layers with a leading run axis R: R separate sets of weights, one program.

A run's result must not depend on who shares its cohort, so no operation here mixes runs, and a cohort of one goes the
same way.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlab.encoder.transformer import RotaryAngles

Initialise = Callable[[Tensor, torch.Generator], object]
Drop = Callable[[str, Tensor], Tensor]
"""Dropout by the name of its place: (name, x) -> x (R, ...) with some entries zeroed and the rest scaled up."""

VECTOR = 64  # entries; a multiple of what any CPU kernel takes at a time
ALIGNMENT = 64  # bytes; torch has every tensor on a CPU begin at a multiple of it


def _xavier(weight: Tensor, generator: torch.Generator) -> None:
    nn.init.xavier_uniform_(weight, generator=generator)


def _trunc_normal(weight: Tensor, generator: torch.Generator) -> None:
    nn.init.trunc_normal_(weight, std=0.02, generator=generator)


def _zeros(weight: Tensor, generator: torch.Generator) -> None:
    del generator
    nn.init.zeros_(weight)


def _ones(weight: Tensor, generator: torch.Generator) -> None:
    del generator
    nn.init.ones_(weight)


def uniform(bound: float) -> Initialise:
    """Uniform between -bound and bound."""
    return lambda weight, generator: nn.init.uniform_(weight, -bound, bound, generator=generator)


NAMED: dict[str, Initialise] = {"xavier": _xavier, "trunc-normal": _trunc_normal, "zeros": _zeros, "ones": _ones}


class StackedParameter(nn.Parameter):
    """A parameter (R, ...) that knows how one run's slice of it is initialised, and whether weight decay applies."""

    initialise: Initialise
    decays: bool

    def __deepcopy__(self, memo: dict[int, Any]) -> "StackedParameter":
        made: StackedParameter = super().__deepcopy__(memo)
        made.initialise, made.decays = self.initialise, self.decays
        return made


class Stacked(Protocol):
    """R sets of weights of one shape: decoders, rankers."""

    def named_stacked(self) -> list[tuple[str, StackedParameter]]:
        """Every parameter (R, ...) by name."""


def stacked_parameter(num_runs: int, *shape: int, init: str | Initialise, decays: bool = False) -> StackedParameter:
    """(R, *shape), to be filled run by run from the run's own stream."""
    parameter = StackedParameter(torch.zeros(num_runs, *shape))
    parameter.initialise = NAMED[init] if isinstance(init, str) else init
    parameter.decays = decays
    return parameter


class StackedLinear(nn.Module):
    """R linear maps: (R, ..., in) -> (R, ..., out) as one batched matrix product.

    A product with a vector goes through other kernels for one run than for several, which round differently. So a
    width of 1 is computed as a width of 2, with a column of zeros.

    `init`: "torch" fills weights and biases as nn.Linear does, uniform up to 1 / sqrt(in). The others have zero biases:
    "xavier", "zeros", or a law of the weights' own.
    """

    def __init__(self, num_runs: int, num_in: int, num_out: int, init: str | Initialise) -> None:
        super().__init__()
        of_weight = of_bias = uniform(1 / math.sqrt(num_in))
        if init != "torch":
            of_weight, of_bias = NAMED[init] if isinstance(init, str) else init, _zeros
        self.weight = stacked_parameter(num_runs, num_in, num_out, init=of_weight, decays=True)
        self.bias = stacked_parameter(num_runs, num_out, init=of_bias)

    def forward(self, x: Tensor) -> Tensor:
        return _mapped(x, self.weight, self.bias)


def side_by_side(x: Tensor, layers: Sequence[StackedLinear]) -> Tensor:
    """What the layers make of x (R, ..., in), side by side in the last axis, as one product."""
    weight, bias = torch.cat([layer.weight for layer in layers], 2), torch.cat([layer.bias for layer in layers], 1)
    return _mapped(x, weight, bias)


def _mapped(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x (R, ..., in) through weights (R, in, out) and biases (R, out): (R, ..., out), in the numbers of the weights."""
    rows, bias = x.reshape(x.shape[0], -1, x.shape[-1]).to(weight.dtype), bias.to(weight.dtype)
    num_in, num_out = weight.shape[1:]
    if num_in > 1 and num_out > 1:
        out = torch.baddbmm(bias.unsqueeze(1), rows, weight)
    else:
        more_in, more_out = int(num_in == 1), int(num_out == 1)
        bias, weight = F.pad(bias, (0, more_out)), F.pad(weight, (0, more_out, 0, more_in))
        out = torch.baddbmm(bias.unsqueeze(1), F.pad(rows, (0, more_in)), weight)[..., :num_out]
    return out.reshape(*x.shape[:-1], num_out)


def keep_all(name: str, x: Tensor) -> Tensor:
    """No dropout."""
    del name
    return x


class GatedMLP(nn.Module):
    """GLU (Shazeer, 2020): out(a * gate(b)), hidden width = multiplier * width, a multiple of 4."""

    def __init__(self, num_runs: int, width: int, multiplier: float, gate: Literal["gelu", "silu"], init: str) -> None:
        super().__init__()
        hidden = 4 * max(1, round(width * multiplier / 4))
        # GELU goes through one kernel for a strided tensor and through another for a contiguous one, which round
        # differently; a gate is contiguous where it is one run's one row
        self.gate: Callable[[Tensor], Tensor] = partial(in_whole_vectors, F.gelu) if gate == "gelu" else F.silu
        self.enter = StackedLinear(num_runs, width, 2 * hidden, init)
        self.leave = StackedLinear(num_runs, hidden, width, init)

    def forward(self, x: Tensor, drop: Drop = keep_all, name: str = "") -> Tensor:
        """x (R, ..., W) -> the same shape; `drop` is asked about the hidden layer, by `name`."""
        value, gate = self.enter(x).chunk(2, dim=-1)
        return self.leave(drop(name, value * self.gate(gate)))


class Attention(nn.Module):
    """Multi-head attention. Queries (R, B, L, W); keys and values come from `keys_values`, so that they can be kept.

    `source_width` is the width of what is attended to. With `rotary`, queries and keys are turned by their place, so
    that their product depends on the distance between two places alone. `init` "torch" is nn.MultiheadAttention's:
    Xavier's, over the three matrices as one where they have one shape, zero biases.
    """

    def __init__(
        self,
        num_runs: int,
        width: int,
        heads: int,
        source_width: int,
        init: Literal["torch", "xavier"],
        rotary: RotaryAngles | None = None,
    ) -> None:
        super().__init__()
        self.heads, self.rotary = heads, rotary
        into: str | Initialise = "xavier"
        if init == "torch" and source_width == width:
            into = uniform(math.sqrt(6 / (width + 3 * width)))
        self.query = StackedLinear(num_runs, width, width, into)
        self.key = StackedLinear(num_runs, source_width, width, into)
        self.value = StackedLinear(num_runs, source_width, width, into)
        leave: str | Initialise = uniform(1 / math.sqrt(width)) if init == "torch" else init
        self.leave = StackedLinear(num_runs, width, width, leave)

    def keys_values(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """(R, B, S, source width) -> two of (R * B, heads, S, W / heads)."""
        return self.split(*side_by_side(source, (self.key, self.value)).chunk(2, dim=-1))

    def split(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """What `key` and `value` make of a source, two of (R, B, S, W), in the shape of `keys_values`."""
        return self._turned(self._by_head(keys, 1)), self._by_head(values, 1)

    def forward(
        self, x: Tensor, keys_values: tuple[Tensor, Tensor], drop: Drop | None = None, name: str = ""
    ) -> Tensor:
        """x (R, B, L, W) -> the same shape. `drop`, where it is given, is asked about the weights, by `name`."""
        return self._attend(self._turned(self._by_head(self.query(x), 1)), *keys_values, drop, name, x)

    def of_itself(self, x: Tensor, drop: Drop | None = None, name: str = "") -> Tensor:
        """Attention of x (R, B, L, W) to itself."""
        width = x.shape[-1]
        mixed = side_by_side(x, (self.query, self.key, self.value))
        queries_keys, values = mixed.split((2 * width, width), dim=-1)
        queries, keys = self._turned(self._by_head(queries_keys, 2)).chunk(2, dim=1)
        return self._attend(queries, keys, self._by_head(values, 1), drop, name, x)

    def _attend(
        self, queries: Tensor, keys: Tensor, values: Tensor, drop: Drop | None, name: str, like: Tensor
    ) -> Tensor:
        """What queries (R * B, heads, L, W / heads) get, of the shape of `like` (R, ..., L, W)."""
        if drop is None:
            out = F.scaled_dot_product_attention(queries, keys, values)
        else:
            out = self._by_weights(queries, keys, values, partial(drop, name), len(like))
        return self.leave(out.transpose(1, 2).reshape(like.shape))

    def _by_weights(
        self, queries: Tensor, keys: Tensor, values: Tensor, drop: Callable[[Tensor], Tensor], num_runs: int
    ) -> Tensor:
        """(R * B, heads, L, W / heads), by way of weights (R, B, heads, L, S), of which `drop` may drop some."""

        def by_run(x: Tensor) -> Tensor:
            return x.reshape(num_runs, -1, *x.shape[2:])

        scores = _ProductOfEachRun.apply(by_run(queries), by_run(keys).transpose(-1, -2))
        weights = (scores / math.sqrt(queries.shape[-1])).softmax(dim=-1).unflatten(1, (-1, self.heads))
        return _ProductOfEachRun.apply(drop(weights).flatten(1, 2), by_run(values)).reshape(queries.shape)

    def _turned(self, x: Tensor) -> Tensor:
        """Queries or keys (..., L, W / heads), turned by their place if they are to be: each pair of features times one
        complex number. A graph that is exported has no such numbers."""
        if self.rotary is None:
            return x
        if torch.onnx.is_in_onnx_export():
            return self.rotary(x)
        pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs * torch.complex(self.rotary.cos, self.rotary.sin)).flatten(-2).to(x.dtype)

    def _by_head(self, x: Tensor, times: int) -> Tensor:
        """(R, B, L, times * W) -> (R * B, times * heads, L, W / heads)."""
        *batch, length, width = x.shape
        heads = times * self.heads
        return x.reshape(math.prod(batch), length, heads, width // heads).transpose(1, 2)


class _ProductOfEachRun(torch.autograd.Function):
    """(R, N, L, D) @ (R, N, D, S), on a CPU one run after the other and each from where memory is aligned.

    How a product of many small matrices is rounded depends on how many they are and where they lie.
    """

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(left, right)
        return _products(left, right)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        left, right = ctx.saved_tensors
        return _products(gradient, right.transpose(-1, -2)), _products(left.transpose(-1, -2), gradient)


def _products(left: Tensor, right: Tensor) -> Tensor:
    if left.device.type != "cpu":
        return left @ right
    found = left.new_empty(*left.shape[:3], right.shape[3])
    for a, b, out in zip(left, right, found, strict=True):
        if out.data_ptr() % ALIGNMENT == 0:
            torch.bmm(aligned(a), aligned(b), out=out)
        else:
            out.copy_(torch.bmm(aligned(a), aligned(b)))
    return found


def aligned(x: Tensor) -> Tensor:
    """x, in a place of its own unless it begins where a tensor of its own would."""
    return x if x.data_ptr() % ALIGNMENT == 0 else x.clone()


class StackedMLP(nn.Module):
    """Linear, SiLU, linear: (R, ..., in) -> (R, ..., out)."""

    def __init__(self, num_runs: int, num_in: int, num_hidden: int, num_out: int, init: str) -> None:
        super().__init__()
        self.enter = StackedLinear(num_runs, num_in, num_hidden, init)
        self.leave = StackedLinear(num_runs, num_hidden, num_out, init)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(in_whole_vectors(F.silu, self.enter(x)))


def spread(x: Tensor, num_runs: int) -> Tensor:
    """(...) -> (R, ...): the same for every run, without a copy."""
    return x.unsqueeze(0).expand(num_runs, *x.shape)


def in_whole_vectors(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """function(x), elementwise, with x (R, ...) padded so that each run fills whole vectors of the processor.

    A CPU kernel does what is left over after whole vectors by a scalar routine, whose exp and log differ in the last
    bit. Without padding an entry's bits would depend on its place in the tensor, and so on who shares the cohort. A GPU
    has no such routine. A graph that is exported is computed by other kernels, and for any number of frames. Both have
    the function alone.
    """
    if x.device.type != "cpu" or torch.onnx.is_in_onnx_export():
        return function(x)
    rows = x.reshape(x.shape[0], -1)
    missing = -rows.shape[1] % VECTOR
    if not missing:
        return function(rows.contiguous()).reshape(x.shape)
    return function(F.pad(rows, (0, missing)))[:, : rows.shape[1]].reshape(x.shape)


class AffineNorm(nn.Module):
    """LayerNorm over the last axis of (R, ..., W), with a scale and a shift for each run."""

    def __init__(self, num_runs: int, width: int) -> None:
        super().__init__()
        self.scale = stacked_parameter(num_runs, width, init="ones")
        self.shift = stacked_parameter(num_runs, width, init="zeros")

    def forward(self, x: Tensor) -> Tensor:
        between = (1,) * (x.ndim - 2)
        num_runs, width = self.scale.shape
        return norm(x) * self.scale.reshape(num_runs, *between, width) + self.shift.reshape(num_runs, *between, width)


def norm(x: Tensor) -> Tensor:
    """LayerNorm over the last axis, without affine parameters."""
    return F.layer_norm(x, (int(x.shape[-1]),))  # int: in an exported graph the width is no axis that may vary


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """AdaLN (Peebles & Xie, ICCV 2023): norm(x) (1 + scale) + shift."""
    return norm(x) * (1 + scale) + shift
