"""Fitted stats: the action space's knots, the label densities and the maneuver thresholds, kept beside the cache.

They are fitted on the train split once per action space; their digest is part of every recipe's digest.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from flowlab.core.digest import digest_json
from flowlab.core.files import write_json_atomic
from flowlab.evaluate.slices import fit_thresholds
from flowlab.policy.action_space import ActionSpace, fit_action_space
from flowlab.policy.space_json import space_from_json, space_to_json
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
