"""An action space as plain JSON, whole, and back: every number as it was fitted."""

from typing import Any

import torch

from flowlab.policy.action_space import (
    ActionSpace,
    ChunkDCT,
    Gaussianize,
    GaussianizeDCT,
    Identity,
    MuLaw,
    Standardise,
    Transform,
)

PLAIN: dict[str, type[Identity] | type[Standardise] | type[MuLaw] | type[ChunkDCT]] = {
    "identity": Identity,
    "standardise": Standardise,
    "mu-law": MuLaw,
    "chunk-dct": ChunkDCT,
}
"""Transforms that consist of tensors alone."""


def space_to_json(space: ActionSpace) -> dict[str, Any]:
    """An action space as plain JSON, whole: its channels, its transform and what was fitted for it."""
    return {
        "raw_channels": list(space.raw_channels),
        "channels": list(space.channels),
        "transform": _transform_to_json(space.transform),
    }


def space_from_json(value: dict[str, Any]) -> ActionSpace:
    """What `space_to_json` wrote."""
    return ActionSpace(tuple(value["raw_channels"]), tuple(value["channels"]), _transform_from_json(value["transform"]))


def _transform_to_json(transform: Transform) -> dict[str, Any]:
    """Its kind and what was fitted. Linear tails are not mentioned: so they were kept when there were no others."""
    if isinstance(transform, GaussianizeDCT):
        gaussianize, dct = _transform_to_json(transform.gaussianize), _transform_to_json(transform.dct)
        return {"kind": "gaussianize-dct", "gaussianize": gaussianize, "dct": dct}
    if isinstance(transform, Gaussianize):
        tails = {} if transform.tails == "linear" else {"tails": transform.tails}
        knots = {"physical": transform.physical.tolist(), "model": transform.model.tolist()}
        return {"kind": "gaussianize", **knots, **tails}
    kind = next(name for name, cls in PLAIN.items() if isinstance(transform, cls))
    return {"kind": kind, **{name: value.tolist() for name, value in vars(transform).items()}}


def _transform_from_json(value: dict[str, Any]) -> Transform:
    fitted = dict(value)
    kind = fitted.pop("kind")
    if kind == "gaussianize-dct":
        gaussianize, dct = _transform_from_json(fitted["gaussianize"]), _transform_from_json(fitted["dct"])
        assert isinstance(gaussianize, Gaussianize) and isinstance(dct, ChunkDCT)
        return GaussianizeDCT(gaussianize, dct)
    if kind == "gaussianize":
        physical, model = torch.tensor(fitted["physical"]), torch.tensor(fitted["model"])
        return Gaussianize(physical, model, fitted.get("tails", "linear"))
    return PLAIN[kind](**{name: torch.tensor(values) for name, values in fitted.items()})
