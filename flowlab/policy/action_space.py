"""Between raw actions and the space that the decoder sees. Fitted on the train split only; metrics are always raw.

    raw (..., A) --merge--> physical (..., M) --transform per channel--> model (..., M)

Merging turns two raw channels into one signed channel, the first minus the second (core/vocabulary.py names them); its
inverse is the positive and the negative part, so the round trip is exact where the two are never both above 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowlab.core.errors import CacheMismatchError
from flowlab.core.vocabulary import MERGED, MERGED_FROM
from flowlab.study.recipe import ActionSpaceSettings, model_channels

STD_FLOOR = 1e-6


class Transform(Protocol):
    """An invertible map of physical chunks (..., H, M), each channel by itself."""

    def to_model(self, physical: Tensor) -> Tensor: ...

    def to_physical(self, model: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Identity:
    """The physical values themselves."""

    def to_model(self, physical: Tensor) -> Tensor:
        return physical

    def to_physical(self, model: Tensor) -> Tensor:
        return model


@dataclass(frozen=True)
class Standardise:
    """Zero mean and unit standard deviation per channel, over the train split's slots."""

    mean: Tensor  # (M,)
    std: Tensor  # (M,)

    def to_model(self, physical: Tensor) -> Tensor:
        return (physical - self.mean.to(physical.device)) / self.std.to(physical.device)

    def to_physical(self, model: Tensor) -> Tensor:
        return model * self.std.to(model.device) + self.mean.to(model.device)


@dataclass(frozen=True)
class Gaussianize:
    """Quantile knots per channel against standard normal quantiles, straight lines between them.

    A value that many frames share (a wheel exactly straight) spans several knots: it maps to the middle of their normal
    quantiles, and everything in between maps back to exactly that value. Beyond the outer knots the map ends, on both
    ways, as published; with `tails` "linear" it goes on as a straight line with the slope of the whole range.
    """

    physical: Tensor  # (M, Q) quantiles of the train split, non-decreasing
    model: Tensor  # (Q,) standard normal quantiles, increasing
    tails: Literal["end", "linear"]

    def to_model(self, physical: Tensor) -> Tensor:
        if self.tails == "end":
            ends = self.physical.to(physical.device)
            physical = physical.clamp(ends[:, 0], ends[:, -1])
        return self._each(physical, _interpolate_up)

    def to_physical(self, model: Tensor) -> Tensor:
        if self.tails == "end":
            model = model.clamp(float(self.model[0]), float(self.model[-1]))
        return self._each(model, _interpolate_down)

    def _each(self, x: Tensor, interpolate: "Interpolate") -> Tensor:
        knots, normal = self.physical.to(x.device), self.model.to(x.device)
        channels = [interpolate(x[..., c].contiguous(), knots[c].contiguous(), normal) for c in range(len(knots))]
        return torch.stack(channels, dim=-1)


@dataclass(frozen=True)
class MuLaw:
    """sign(x) log(1 + mu |x|) / log(1 + mu): small actions get more room. It needs no fitting.

    Beyond -1 and 1 the map goes on as a straight line with the slope that it has there, so that a draw outside of the
    range is brought back in proportion and not exponentially far.
    """

    mu: Tensor  # ()

    def to_model(self, physical: Tensor) -> Tensor:
        mu = self.mu.to(physical.device)
        size = physical.abs()
        curve = torch.log1p(mu * size.clamp_max(1)) / torch.log1p(mu)
        return physical.sign() * (curve + self._end_slope(mu) * (size - 1).clamp_min(0))

    def to_physical(self, model: Tensor) -> Tensor:
        mu = self.mu.to(model.device)
        size = model.abs()
        exponent = size.clamp_max(1) * torch.log1p(mu)
        grown = exponent.exp() - 1 if torch.onnx.is_in_onnx_export() else torch.expm1(exponent)  # ONNX has no expm1
        curve = grown / mu
        return model.sign() * (curve + (size - 1).clamp_min(0) / self._end_slope(mu))

    @staticmethod
    def _end_slope(mu: Tensor) -> Tensor:
        return mu / ((1 + mu) * torch.log1p(mu))


@dataclass(frozen=True)
class ChunkDCT:
    """The orthonormal DCT-II over the horizon, then zero mean and unit deviation per coefficient and channel.

    Model slot 0 is the chunk's mean (times the root of H), the last one its fastest wiggle. A coefficient that hardly
    varies is divided by `sigma_floor` at least, so that its noise is not blown up to the size of the others.
    """

    mean: Tensor  # (H, M)
    std: Tensor  # (H, M), at least the floor

    def to_model(self, physical: Tensor) -> Tensor:
        basis = dct_basis(len(self.mean)).to(physical)
        return (basis @ physical - self.mean.to(physical.device)) / self.std.to(physical.device)

    def to_physical(self, model: Tensor) -> Tensor:
        basis = dct_basis(len(self.mean)).to(model)
        return basis.T @ (model * self.std.to(model.device) + self.mean.to(model.device))


@dataclass(frozen=True)
class GaussianizeDCT:
    """Gaussianize, then the DCT of the Gaussian chunk: the published order, with a floor relative to its mean's."""

    gaussianize: Gaussianize
    dct: ChunkDCT

    def to_model(self, physical: Tensor) -> Tensor:
        return self.dct.to_model(self.gaussianize.to_model(physical))

    def to_physical(self, model: Tensor) -> Tensor:
        return self.gaussianize.to_physical(self.dct.to_physical(model))


def dct_basis(length: int) -> Tensor:
    """(length, length) float64, orthonormal: row k is the DCT-II basis vector of frequency k."""
    slots = torch.arange(length, dtype=torch.float64)
    rows = torch.cos(math.pi / length * slots[:, None] * (slots + 0.5)) * math.sqrt(2 / length)
    rows[0] /= math.sqrt(2)
    return rows


class Interpolate(Protocol):
    def __call__(self, x: Tensor, physical: Tensor, model: Tensor, /) -> Tensor: ...


def _interpolate_up(x: Tensor, physical: Tensor, model: Tensor) -> Tensor:
    """Physical -> model. On a run of equal knots: the middle of their model values."""
    last = len(physical) - 1
    above = torch.searchsorted(physical, x, right=True)  # the first knot > x
    first = torch.searchsorted(physical, x)  # the first knot >= x
    left, right = (above - 1).clamp(0, last - 1), above.clamp(1, last)
    share = (x - physical[left]) / (physical[right] - physical[left]).clamp_min(torch.finfo(x.dtype).tiny)
    between = torch.lerp(model[left], model[right], share.clamp(0, 1))
    on_knots = 0.5 * (model[first.clamp_max(last)] + model[(above - 1).clamp_min(0)])
    inside = torch.where(above > first, on_knots, between)
    slope = _tail_slope(physical, model)
    if slope is None:  # the channel never moves
        return inside
    low, high = x < physical[0], x > physical[-1]
    inside = torch.where(low, model[0] + (x - physical[0]) / slope, inside)
    return torch.where(high, model[-1] + (x - physical[-1]) / slope, inside)


def _interpolate_down(z: Tensor, physical: Tensor, model: Tensor) -> Tensor:
    """Model -> physical."""
    right = _num_up_to(model, z).clamp(1, len(model) - 1)
    left = right - 1
    share = (z - model[left]) / (model[right] - model[left])
    inside = torch.lerp(physical[left], physical[right], share.clamp(0, 1))
    slope = _tail_slope(physical, model)
    if slope is None:
        return inside
    inside = torch.where(z < model[0], physical[0] + (z - model[0]) * slope, inside)
    return torch.where(z > model[-1], physical[-1] + (z - model[-1]) * slope, inside)


def _num_up_to(knots: Tensor, z: Tensor) -> Tensor:
    """How many of the knots (Q,), in order, are at most z: where z would be put behind its equals."""
    if torch.onnx.is_in_onnx_export():  # ONNX has no search
        return (z.unsqueeze(-1) >= knots).long().sum(dim=-1)
    return torch.searchsorted(knots, z, right=True)


def _tail_slope(physical: Tensor, model: Tensor) -> Tensor | None:
    slope = (physical[-1] - physical[0]) / (model[-1] - model[0])
    return slope if bool(slope > 0) else None


@dataclass(frozen=True)
class ActionSpace:
    """Raw <-> model actions for named channels."""

    raw_channels: tuple[str, ...]
    channels: tuple[str, ...]  # the physical and model channels' names, M of them
    transform: Transform

    @property
    def is_merged(self) -> bool:
        """Whether one model channel stands for two raw ones."""
        return self.channels != self.raw_channels

    def to_physical(self, raw: Tensor) -> Tensor:
        """(..., A) -> (..., M): merged, not yet transformed."""
        if not self.is_merged:
            return raw
        plus, minus = (raw[..., self.raw_channels.index(name)] for name in MERGED_FROM)
        signed = plus - minus
        columns = [signed if name == MERGED else raw[..., self.raw_channels.index(name)] for name in self.channels]
        return torch.stack(columns, dim=-1)

    def to_model(self, raw: Tensor) -> Tensor:
        """(..., A) -> (..., M)."""
        return self.transform.to_model(self.to_physical(raw))

    def to_raw(self, model: Tensor) -> Tensor:
        """(..., M) -> (..., A)."""
        physical = self.transform.to_physical(model)
        if not self.is_merged:
            return physical
        signed = physical[..., self.channels.index(MERGED)]
        parts = dict(zip(MERGED_FROM, (signed.clamp_min(0), (-signed).clamp_min(0)), strict=True))
        columns = [
            parts[name] if name in parts else physical[..., self.channels.index(name)] for name in self.raw_channels
        ]
        return torch.stack(columns, dim=-1)


def fit_action_space(settings: ActionSpaceSettings, raw_channels: Sequence[str], train_raw: Tensor) -> ActionSpace:
    """The action space of `settings`, fitted on the train split's raw chunks (N, H, A).

    Raises CacheMismatchError when two channels are to be merged that the cache does not have.
    """
    raw_channels = tuple(raw_channels)
    if settings.merge and not set(MERGED_FROM) <= set(raw_channels):
        raise CacheMismatchError(
            f"action_space.merge needs the channels {' and '.join(MERGED_FROM)}; the cache holds "
            f"{', '.join(raw_channels)}. Set action_space.merge = false."
        )
    channels = model_channels(settings, raw_channels)
    bare = ActionSpace(raw_channels, channels, Identity())
    physical = bare.to_physical(train_raw.cpu()).double()
    return ActionSpace(raw_channels, channels, _fit_transform(settings, physical))


def _fit_transform(settings: ActionSpaceSettings, chunks: Tensor) -> Transform:
    """Fitted on physical chunks (N, H, M) in float64."""
    slots = chunks.flatten(0, 1)
    if settings.transform == "identity":
        return Identity()
    if settings.transform == "mu-law":
        return MuLaw(torch.tensor(settings.mu))
    if settings.transform == "standardise":
        return Standardise(slots.mean(dim=0).float(), _std(slots).clamp_min(STD_FLOOR).float())
    if settings.transform == "chunk-dct":
        mean, std = _coefficients(chunks)
        return ChunkDCT(mean.float(), std.clamp_min(settings.sigma_floor).float())
    gaussianize = fit_gaussianize(slots.numpy(), settings.knots, settings.tails)
    if settings.transform == "gaussianize":
        return gaussianize
    mean, std = _coefficients(gaussianize.to_model(chunks.float()).double())
    floor = (settings.relative_floor * std[0]).clamp_min(STD_FLOOR)
    return GaussianizeDCT(gaussianize, ChunkDCT(mean.float(), std.maximum(floor).float()))


def _coefficients(chunks: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (H, M) of the DCT's coefficients over chunks (N, H, M)."""
    coefficients = dct_basis(chunks.shape[1]) @ chunks
    return coefficients.mean(dim=0), _std(coefficients)


def _std(x: Tensor) -> Tensor:
    return x.std(dim=0, correction=0)


def fit_gaussianize(
    physical: NDArray[np.float64], num_knots: int, tails: Literal["end", "linear"] = "end"
) -> Gaussianize:
    """Knots at the quantiles (i + 0.5) / num_knots of each column; the outer two are its smallest and largest value."""
    shares = (np.arange(num_knots) + 0.5) / num_knots
    knots = np.quantile(physical, shares, axis=0)
    knots[0], knots[-1] = physical.min(axis=0), physical.max(axis=0)
    normal = torch.special.ndtri(torch.tensor(shares))
    return Gaussianize(torch.tensor(knots.T.copy()).float(), normal.float(), tails)
