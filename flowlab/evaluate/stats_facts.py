"""What fitted stats say of a train split, channel by channel: ranges, atoms, histograms, densities and weights."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowlab.evaluate.slices import REST_RAW, maneuver_slots
from flowlab.evaluate.stats import Stats
from flowlab.policy.action_space import ChunkDCT, Gaussianize, GaussianizeDCT, Transform
from flowlab.policy.weights import CapOn, bin_index, chunk_labels

NUM_COLUMNS = 68
ATOM_SHARE = 0.01
"""A value that at least this share of the slots have is an atom."""
NOISE_SPAN = 3.0
"""Histograms in model space hold at least -3 to 3, where nearly all of the noise is that draws start from."""

Law = tuple[Sequence[float], float, CapOn]
"""Maneuver weights: alpha per model channel, cap, and what is capped."""


@dataclass(frozen=True)
class RawChannel:
    """One column of the recorded actions, over all slots of the train chunks."""

    name: str
    low: float
    high: float
    at_rest: float  # the share of slots that do not move
    threshold: float  # of maneuvers, as runs are scored by it
    fitted_threshold: float  # as these stats have it
    num_reaching: int  # chunks that reach the threshold in force


@dataclass(frozen=True)
class Histogram:
    """The share of slots in columns of equal width from `low` to `high`."""

    low: float
    high: float
    share: tuple[float, ...]


@dataclass(frozen=True)
class Atom:
    """A physical value that many slots share, the model value that it has, and all that map back to it.

    The interval may be endless. None for both where a chunk's coefficients, and not its slots, are mapped.
    """

    value: float
    share: float
    model: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Bin:
    """Labels from `low` to `high`: their smoothed density, and the chunks that a run is trained from."""

    low: float
    high: float
    density: float
    num_chunks: int
    weight: float | None  # of each of them


@dataclass(frozen=True)
class ModelChannel:
    """One channel as the decoder sees it, before and after the transform; only the predicted slots."""

    name: str
    low: float  # physical
    high: float
    model_low: float
    model_high: float
    num_distinct_knots: int | None  # None without knots
    atoms: tuple[Atom, ...]  # the largest first
    before: Histogram
    after: tuple[Histogram, ...]  # one, or one per coefficient
    largest_label: float
    bins: tuple[Bin, ...]
    densest: Bin  # of those that hold chunks, as are the next three
    rarest: Bin
    lightest: Bin
    heaviest: Bin


def raw_facts(stats: Stats, thresholds: Mapping[str, float], raw: NDArray) -> tuple[RawChannel, ...]:
    """Each raw channel of the train chunks (N, H, A); `thresholds` are those in force."""
    facts = []
    for index, name in enumerate(stats.space.raw_channels):
        column, threshold = raw[..., index], thresholds[name]
        facts.append(
            RawChannel(
                name=name,
                low=float(column.min()),
                high=float(column.max()),
                at_rest=float((np.abs(column) <= REST_RAW).mean()),
                threshold=threshold,
                fitted_threshold=stats.thresholds[name],
                num_reaching=int(maneuver_slots(column, threshold).any(axis=1).sum()),
            )
        )
    return tuple(facts)


def model_facts(stats: Stats, slots: Tensor, trained: Tensor, law: Law) -> tuple[ModelChannel, ...]:
    """Each model channel: of the raw slots (N, H, A) that the action space was fitted on, and of the raw chunks that a
    run is trained from (N, H, A), weighed by `law`.
    """
    space = stats.space
    physical, model = space.to_physical(slots), space.to_model(slots).double().numpy()
    chunks = space.to_physical(trained)
    labels, weights = chunk_labels(chunks), stats.density.weights(chunks, *law).numpy()
    channels = []
    for c, name in enumerate(space.channels):
        before, after = physical[..., c].double().numpy(), model[..., c]
        bins = _bins(stats, c, labels[:, c], weights[:, c])
        filled = [one for one in bins if one.weight is not None]
        channels.append(
            ModelChannel(
                name=name,
                low=float(before.min()),
                high=float(before.max()),
                model_low=float(after.min()),
                model_high=float(after.max()),
                num_distinct_knots=_num_distinct_knots(space.transform, c),
                atoms=_atoms(space.transform, c, physical),
                before=_histogram(before, float(before.min()), float(before.max())),
                after=_histograms_after(space.transform, after),
                largest_label=float(stats.density.top[c]),
                bins=bins,
                densest=max(filled, key=lambda one: one.density),
                rarest=min(filled, key=lambda one: one.density),
                lightest=min(filled, key=_by_weight),
                heaviest=max(filled, key=_by_weight),
            )
        )
    return tuple(channels)


def _by_weight(one: Bin) -> tuple[float, float]:
    """Of bins that weigh the same, as those at the cap do, the rarer one is the heavier."""
    return one.weight or 0.0, -one.density


def _bins(stats: Stats, c: int, labels: NDArray[np.float64], weights: NDArray) -> tuple[Bin, ...]:
    """The bins of one channel with the labels (N,) and weights (N,) of the chunks that a run is trained from."""
    top, density = float(stats.density.top[c]), stats.density.share[c]
    index = bin_index(labels, top)
    num_chunks = np.bincount(index, minlength=len(density))
    of_bin = dict(zip(index.tolist(), weights.tolist(), strict=True))  # chunks of one bin have one weight
    edges = np.linspace(0, top, len(density) + 1).tolist()
    return tuple(
        Bin(edges[i], edges[i + 1], float(density[i]), int(num_chunks[i]), of_bin.get(i)) for i in range(len(density))
    )


def _histogram(values: NDArray, low: float, high: float) -> Histogram:
    if low == high:  # a channel that never moves: one full column in the middle
        low, high = low - 1, high + 1
    count, _ = np.histogram(values, bins=NUM_COLUMNS, range=(low, high))
    return Histogram(low, high, tuple((count / values.size).tolist()))


def _histograms_after(transform: Transform, model: NDArray) -> tuple[Histogram, ...]:
    """Of model values (N, H): all slots together, or each coefficient by itself, on one range."""
    low, high = min(-NOISE_SPAN, float(model.min())), max(NOISE_SPAN, float(model.max()))
    parts = model.T if isinstance(transform, ChunkDCT | GaussianizeDCT) else [model]
    return tuple(_histogram(part, low, high) for part in parts)


def _num_distinct_knots(transform: Transform, c: int) -> int | None:
    if isinstance(transform, GaussianizeDCT):
        transform = transform.gaussianize
    return len(transform.physical[c].unique()) if isinstance(transform, Gaussianize) else None


def _atoms(transform: Transform, c: int, physical: Tensor) -> tuple[Atom, ...]:
    """The atoms of channel `c` among the physical slots (N, H, M)."""
    values, count = np.unique(physical[..., c].numpy(), return_counts=True)
    share = count / count.sum()
    atoms = []
    for i in np.argsort(-share, kind="stable"):
        if share[i] >= ATOM_SHARE:
            slot = torch.full((1, physical.shape[-1]), float(values[i]))
            atoms.append(Atom(float(values[i]), float(share[i]), *_in_model_space(transform, c, slot)))
    return tuple(atoms)


def _in_model_space(
    transform: Transform, c: int, slot: Tensor
) -> tuple[float, tuple[float, float]] | tuple[None, None]:
    """The model value of channel `c` of one physical slot (1, M), and the interval that maps back to it."""
    if isinstance(transform, ChunkDCT | GaussianizeDCT):
        return None, None
    model = float(transform.to_model(slot)[0, c])
    if not isinstance(transform, Gaussianize):
        return model, (model, model)
    same = (transform.physical[c] == slot[0, c]).nonzero().flatten()
    if not len(same):
        return model, (model, model)
    first, last = transform.model[same[0]], transform.model[same[-1]]
    beyond = torch.stack([transform.model[0] - 1, transform.model[-1] + 1])[:, None].expand(2, slot.shape[1])
    held_low, held_high = (transform.to_physical(beyond)[:, c] == slot[0, c]).tolist()
    return model, (-math.inf if held_low else float(first), math.inf if held_high else float(last))
