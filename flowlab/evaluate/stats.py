"""Fitted stats: the action space's knots, the label densities and the maneuver thresholds, kept beside the cache.

They are fitted on the train split once per action space; their digest is part of every recipe's digest.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

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
    Identity,
    MuLaw,
    Standardise,
    Transform,
    fit_action_space,
)
from flowlab.policy.weights import LabelDensity, fit_label_density
from flowlab.study.recipe import ActionSpaceSettings

TRANSFORMS: dict[str, type[Identity] | type[Standardise] | type[Gaussianize] | type[MuLaw] | type[ChunkDCT]] = {
    "identity": Identity,
    "standardise": Standardise,
    "gaussianize": Gaussianize,
    "mu-law": MuLaw,
    "chunk-dct": ChunkDCT,
}


@dataclass(frozen=True)
class Stats:
    """What is fitted on the train split."""

    space: ActionSpace
    density: LabelDensity
    thresholds: dict[str, float]  # raw channel -> the |action| above which a slot belongs to a maneuver

    def to_json(self) -> dict:
        """All of it as plain JSON; `from_json` reads it back exactly."""
        kind = next(name for name, cls in TRANSFORMS.items() if isinstance(self.space.transform, cls))
        fitted = {name: value.tolist() for name, value in asdict(self.space.transform).items()}  # type: ignore[call-overload]
        return {
            "raw_channels": list(self.space.raw_channels),
            "channels": list(self.space.channels),
            "transform": {"kind": kind, **fitted},
            "label_density": {"top": self.density.top.tolist(), "share": self.density.share.tolist()},
            "thresholds": self.thresholds,
        }

    @classmethod
    def from_json(cls, value: dict) -> "Stats":
        fitted = dict(value["transform"])
        transform: Transform = TRANSFORMS[fitted.pop("kind")](**{k: torch.tensor(v) for k, v in fitted.items()})
        space = ActionSpace(tuple(value["raw_channels"]), tuple(value["channels"]), transform)
        density = LabelDensity(np.array(value["label_density"]["top"]), np.array(value["label_density"]["share"]))
        return cls(space, density, value["thresholds"])

    def digest(self) -> str:
        return digest_json(self.to_json())


def fit_stats(settings: ActionSpaceSettings, horizon: int, channels: tuple[str, ...], train_raw: Tensor) -> Stats:
    """Stats of the train split's raw chunks (N, H, A). The action space is fitted on their first `horizon` slots."""
    space = fit_action_space(settings, channels, train_raw[:, :horizon])
    density = fit_label_density(space.to_physical(train_raw))
    return Stats(space, density, fit_thresholds(train_raw.cpu().numpy(), channels))


def stats_path(caches: Path, cache_id: str, settings: ActionSpaceSettings, horizon: int) -> Path:
    """Where the stats for that cache, action space and number of slots are kept."""
    name = digest_json({"settings": settings.model_dump(mode="json"), "horizon": horizon})
    return caches / "stats" / f"{cache_id}-{name}.json"


def store_stats(path: Path, stats: Stats) -> None:
    write_json_atomic(path, {"digest": stats.digest(), "stats": stats.to_json()})


def load_stats(path: Path) -> Stats | None:
    """The stats at `path`, or None if there are none yet or they are not as written: they are then fitted anew."""
    try:
        content = json.loads(path.read_text())
        stats = Stats.from_json(content["stats"])
        return stats if stats.digest() == content["digest"] else None
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return None
