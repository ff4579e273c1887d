"""The stats that runs of a control or a lever are trained with, from where, and what they say."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flowlab.cache.cache import Cache
from flowlab.core.vocabulary import CONTROL
from flowlab.evaluate.stats import Stats
from flowlab.evaluate.stats_facts import ModelChannel, RawChannel, model_facts, raw_facts
from flowlab.lab.ground import open_ground, prepare_stats, stats_file
from flowlab.study.recipe import Recipe
from flowlab.study.study import Study
from flowlab.train.data import channel_alphas


@dataclass(frozen=True)
class ShownStats:
    """Stored stats, and what they say of the windows that they were fitted on and of those that are weighed by them."""

    lever: str
    recipe: Recipe
    recipe_digest: str
    path: Path
    stats: Stats
    is_controls: bool  # whether the control is trained with the very same
    is_named: bool  # whether the recipe's digest names these, or the action space and the control's stats
    fitted_on: Cache
    trained_from: Cache
    num_slots: int  # of a chunk that the action space is fitted on
    raw_channels: tuple[RawChannel, ...]
    channels: tuple[ModelChannel, ...]

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON but for intervals without an end, which are infinite."""
        return {
            "lever": self.lever,
            "recipe_digest": self.recipe_digest,
            "path": str(self.path),
            "digest": self.stats.digest(),
            "is_controls": self.is_controls,
            "cache_id": self.fitted_on.cache_id,
            "num_windows": self.fitted_on.num_windows("train"),
            "num_slots": self.num_slots,
            "trained_from": self.trained_from.cache_id,
            "action_space": self.recipe.action_space.model_dump(mode="json"),
            "lds": self.recipe.objective.lds.model_dump(mode="json"),
            "raw_channels": [asdict(channel) for channel in self.raw_channels],
            "channels": [asdict(channel) for channel in self.channels],
            "stats": self.stats.to_json(),
        }


def show_stats(study: Study, lever: str = CONTROL) -> ShownStats:
    """The stats of a lever's recipe (or the control's), fitted and stored unless they are, as `run` does it.

    Raises MissingError where the cache that they are fitted on, or trained from, is not built yet.
    """
    recipe = study.recipe(lever)
    ground = open_ground(study, [lever])
    supply = ground.supplies[lever]
    stats = prepare_stats(study, supply.stats_cache, recipe)
    path = stats_file(study, supply.stats_cache, recipe)
    fitted = supply.stats_cache.split("train", variants=()).action
    is_one_cache = supply.cache.cache_id == supply.stats_cache.cache_id
    trained = fitted if is_one_cache else supply.cache.split("train", variants=()).action
    num_slots = recipe.decoder.horizon or supply.stats_cache.horizon
    lds = recipe.objective.lds
    law = (channel_alphas(lds, stats.space.channels), lds.cap, lds.cap_on)
    return ShownStats(
        lever=lever,
        recipe=recipe,
        recipe_digest=ground.recipe_digest(lever, recipe),
        path=path,
        stats=stats,
        is_named=stats.digest() == supply.stats_digest,
        is_controls=path == stats_file(study, ground.control.stats_cache, study.control),
        fitted_on=supply.stats_cache,
        trained_from=supply.cache,
        num_slots=num_slots,
        raw_channels=raw_facts(stats, ground.thresholds, fitted.numpy()),
        channels=model_facts(stats, fitted[:, :num_slots], trained, law),
    )
