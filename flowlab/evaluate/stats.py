"""Fitted stats: the action space's knots, the label densities and the maneuver thresholds, kept beside the cache.

They are fitted on the train split once per action space; their digest is part of every recipe's digest.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowlab.core.digest import digest_json
from flowlab.core.files import write_json_atomic
from flowlab.evaluate.slices import fit_thresholds
from flowlab.policy.action_space import (
    ActionSpace,
    ChunkDCT,
    Gaussianize,
    GaussianizeDCT,
    Identity,
    MuLaw,
    Standardise,
    Transform,
    fit_action_space,
)
from flowlab.policy.weights import Edges, LabelDensity, fit_label_density
from flowlab.study.recipe import ActionSpaceSettings
from flowlab.study.versions import spell


@dataclass(frozen=True)
class Stats:
    """What is fitted on the train split."""

    space: ActionSpace
    density: LabelDensity
    thresholds: dict[str, float]  # raw channel -> the |action| above which a slot belongs to a maneuver

    def to_json(self) -> dict:
        """All of it as plain JSON; `from_json` reads it back exactly."""
        return {
            **space_to_json(self.space),
            "label_density": {"top": self.density.top.tolist(), "share": self.density.share.tolist()},
            "thresholds": self.thresholds,
        }

    @classmethod
    def from_json(cls, value: dict) -> "Stats":
        space = space_from_json(value)
        density = LabelDensity(np.array(value["label_density"]["top"]), np.array(value["label_density"]["share"]))
        return cls(space, density, value["thresholds"])

    def digest(self) -> str:
        return digest_json(self.to_json())


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


def fit_stats(
    settings: ActionSpaceSettings, edges: Edges, horizon: int, channels: tuple[str, ...], train_raw: Tensor
) -> Stats:
    """Stats of the train split's raw chunks (N, H, A). The action space is fitted on their first `horizon` slots."""
    space = fit_action_space(settings, channels, train_raw[:, :horizon])
    density = fit_label_density(space.to_physical(train_raw), edges)
    return Stats(space, density, fit_thresholds(train_raw.cpu().numpy(), channels))


def stats_path(caches: Path, cache_id: str, settings: ActionSpaceSettings, edges: Edges, horizon: int) -> Path:
    """Where the stats for that cache, action space, smoothing of densities and number of slots are kept.

    Mirrored edges are not mentioned, nor settings of later versions: those that an older flowlab fitted are found.
    """
    settings_of = spell({"action_space": settings.model_dump(mode="json")})["action_space"]
    smoothing = {} if edges == "mirror" else {"edges": edges}
    name = digest_json({"settings": settings_of, "horizon": horizon} | smoothing)
    return caches / "stats" / f"{cache_id}-{name}.json"


def store_stats(path: Path, stats: Stats) -> None:
    write_json_atomic(path, {"digest": stats.digest(), "stats": stats.to_json()})


def load_stats(path: Path) -> Stats | None:
    """The stats at `path`, or None if there are none yet or they are not as written: they are then fitted anew.

    The digest is taken of the text before anything is built of it, and of what was built once more.
    """
    try:
        content = json.loads(path.read_text())
        value, expected = content["stats"], content["digest"]
        if digest_json(value) != expected:
            return None
        stats = Stats.from_json(value)
        return stats if stats.digest() == expected else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, AssertionError, RecursionError):
        return None
