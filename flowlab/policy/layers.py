"""Layers with a leading run axis R: R separate sets of weights, one program.

A run's result must not depend on who shares its cohort, so no operation here mixes runs, and a cohort of one goes the
same way.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlab.encoder.transformer import RotaryAngles

Initialise = Callable[[Tensor, torch.Generator], object]

VECTOR = 64  # entries; a multiple of what any CPU kernel takes at a time


def _xavier(weight: Tensor, generator: torch.Generator) -> None:
    nn.init.xavier_uniform_(weight, generator=generator)


def _trunc_normal(weight: Tensor, generator: torch.Generator) -> None:
    nn.init.trunc_normal_(weight, std=0.02, generator=generator)


def _zeros(weight: Tensor, generator: torch.Generator) -> None:
    del generator
    nn.init.zeros_(weight)


class StackedParameter(nn.Parameter):
    """A parameter (R, ...) that knows how one run's slice of it is initialised, and whether weight decay applies."""

    initialise: Initialise
    decays: bool


def stacked_parameter(num_runs: int, *shape: int, init: str, decays: bool = False) -> StackedParameter:
    """(R, *shape), to be filled run by run from the run's own stream."""
    parameter = StackedParameter(torch.zeros(num_runs, *shape))
    parameter.initialise = {"xavier": _xavier, "trunc-normal": _trunc_normal, "zeros": _zeros}[init]
    parameter.decays = decays
    return parameter


class StackedLinear(nn.Module):
    """R linear maps: (R, ..., in) -> (R, ..., out) as one batched matrix product.

    A product with a vector goes through other kernels for one run than for several, which round differently. So a
    width of 1 is computed as a width of 2, with a column of zeros.
    """

    def __init__(self, num_runs: int, num_in: int, num_out: int, init: str = "xavier") -> None:
        super().__init__()
        self.weight = stacked_parameter(num_runs, num_in, num_out, init=init, decays=True)
        self.bias = stacked_parameter(num_runs, num_out, init="zeros")

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(x.shape[0], -1, x.shape[-1])
        num_in, num_out = self.weight.shape[1:]
        if num_in > 1 and num_out > 1:
            out = torch.baddbmm(self.bias.unsqueeze(1), rows, self.weight)
        else:
            more_in, more_out = int(num_in == 1), int(num_out == 1)
            bias, weight = F.pad(self.bias, (0, more_out)), F.pad(self.weight, (0, more_out, 0, more_in))
            out = torch.baddbmm(bias.unsqueeze(1), F.pad(rows, (0, more_in)), weight)[..., :num_out]
        return out.reshape(*x.shape[:-1], num_out)


class GatedMLP(nn.Module):
    """GLU with a SiLU gate (Shazeer, 2020): out(a * silu(b)), hidden width = multiplier * width, a multiple of 4."""

    def __init__(self, num_runs: int, width: int, multiplier: float) -> None:
        super().__init__()
        hidden = 4 * max(1, round(width * multiplier / 4))
        self.enter = StackedLinear(num_runs, width, 2 * hidden)
        self.leave = StackedLinear(num_runs, hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.enter(x).chunk(2, dim=-1)
        return self.leave(value * F.silu(gate))


class Attention(nn.Module):
    """Multi-head attention. Queries (R, B, L, W); keys and values come from `keys_values`, so that they can be kept.

    `source_width` is the width of what is attended to, W if it is not given. With `rotary`, queries and keys are turned
    by their place, so that their product depends on the distance between two places alone.
    """

    def __init__(
        self, num_runs: int, width: int, heads: int, source_width: int = 0, rotary: RotaryAngles | None = None
    ) -> None:
        super().__init__()
        self.heads, self.rotary = heads, rotary
        self.query = StackedLinear(num_runs, width, width)
        self.key = StackedLinear(num_runs, source_width or width, width)
        self.value = StackedLinear(num_runs, source_width or width, width)
        self.leave = StackedLinear(num_runs, width, width)

    def keys_values(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """(R, B, S, source width) -> two of (R * B, heads, S, W / heads)."""
        keys = self._split(self.key(source))
        return keys if self.rotary is None else self.rotary(keys), self._split(self.value(source))

    def forward(self, x: Tensor, keys_values: tuple[Tensor, Tensor]) -> Tensor:
        keys, values = keys_values
        queries = self._split(self.query(x))
        if self.rotary is not None:
            queries = self.rotary(queries)
        out = F.scaled_dot_product_attention(queries, keys, values)
        return self.leave(out.transpose(1, 2).reshape(x.shape))

    def _split(self, x: Tensor) -> Tensor:
        *batch, length, width = x.shape
        return x.reshape(math.prod(batch), length, self.heads, width // self.heads).transpose(1, 2)


class StackedMLP(nn.Module):
    """Linear, SiLU, linear: (R, ..., in) -> (R, ..., out)."""

    def __init__(self, num_runs: int, num_in: int, num_hidden: int, num_out: int) -> None:
        super().__init__()
        self.enter = StackedLinear(num_runs, num_in, num_hidden)
        self.leave = StackedLinear(num_runs, num_hidden, num_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(in_whole_vectors(F.silu, self.enter(x)))


def spread(x: Tensor, num_runs: int) -> Tensor:
    """(...) -> (R, ...): the same for every run, without a copy."""
    return x.unsqueeze(0).expand(num_runs, *x.shape)


def in_whole_vectors(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """function(x), elementwise, with x (R, ...) padded so that each run fills whole vectors of the processor.

    A CPU kernel does what is left over after whole vectors by a scalar routine, whose exp and log differ in the last
    bit. Without padding an entry's bits would depend on its place in the tensor, and so on who shares the cohort.
    """
    rows = x.reshape(x.shape[0], -1)
    missing = -rows.shape[1] % VECTOR
    if not missing:
        return function(x)
    return function(F.pad(rows, (0, missing)))[:, : rows.shape[1]].reshape(x.shape)


def norm(x: Tensor) -> Tensor:
    """LayerNorm over the last axis, without affine parameters."""
    return F.layer_norm(x, x.shape[-1:])


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """AdaLN (Peebles & Xie, ICCV 2023): norm(x) (1 + scale) + shift."""
    return norm(x) * (1 + scale) + shift
