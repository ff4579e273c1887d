"""What a study's runs stand on: the validation frames, the control's cache, the levers' caches, and how to compare."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from flowlab.cache.cache import Cache, open_cache
from flowlab.core.digest import base_id, digest_json
from flowlab.core.errors import CacheMismatchError
from flowlab.core.plugin_code import source_digest
from flowlab.core.progress import SILENT, Progress
from flowlab.core.vocabulary import CONTROL
from flowlab.evaluate.definitions import define_metrics
from flowlab.evaluate.frames import ValidationFrames, cover, read_frames
from flowlab.evaluate.stats import Stats, fit_stats, load_stats, stats_path, store_stats
from flowlab.lab.caches import Wanted, frames_wanted, prepare_cache, require_cache, val_drives, wanted_caches
from flowlab.lab.meaning import require_same_meaning
from flowlab.ledger.connection import read
from flowlab.policy.weights import Edges
from flowlab.study.lever import flat_keys
from flowlab.study.recipe import ActionSpaceSettings, Recipe
from flowlab.study.selection import selection_for
from flowlab.study.study import Study
from flowlab.study.versions import spell


def name_recipe(recipe: Recipe, cache_id: str, stats_digest: str) -> str:
    """The name of `recipe` trained from that cache with those stats; with one name and one seed, it is the same run."""
    plugins = {
        kind: digest
        for kind, name in (("objectives", recipe.objective.kind), ("decoders", recipe.decoder.kind))
        if (digest := source_digest(kind, name))
    }
    named = {"recipe": recipe.digest(cache_id), "stats": stats_digest}
    return digest_json(named | ({"plugins": plugins} if plugins else {}))


@dataclass(frozen=True)
class Supply:
    """What a run is trained from: a cache, and the stats fitted on the train split of that cache or another."""

    cache: Cache
    stats_cache: Cache
    stats_digest: str

    def recipe_digest(self, recipe: Recipe) -> str:
        """The name of `recipe` trained from here; two runs with one digest and one seed are the same run."""
        return name_recipe(recipe, self.cache.cache_id, self.stats_digest)


@dataclass(frozen=True)
class Base:
    """What runs are compared on: a control, and one way to evaluate."""

    control_digest: str
    evaluation: dict[str, Any]  # all that must agree before two numbers may be compared

    @cached_property
    def evaluation_id(self) -> str:
        return digest_json(self.evaluation)

    @cached_property
    def base_id(self) -> str:
        return base_id(self.control_digest, self.evaluation_id)


@dataclass(frozen=True)
class Ground:
    """Everything that runs of a study share. It can be sent to another process."""

    base: Base
    frames_cache: Cache  # whose validation side every run is scored on: that of the tables of experiments.toml
    thresholds: dict[str, float]  # maneuver thresholds that every run of this evaluation is scored by
    supplies: dict[str, Supply] = field(repr=False)  # by lever, the control among them

    @property
    def control(self) -> Supply:
        return self.supplies[CONTROL]

    def recipe_digest(self, lever: str, recipe: Recipe) -> str:
        """The name of a lever's recipe trained from the lever's cache."""
        return self.supplies[lever].recipe_digest(recipe)


def open_ground(
    study: Study,
    levers: Sequence[str] = (),
    device: torch.device | None = None,
    progress: Progress = SILENT,
) -> Ground:
    """The ground that the control and these levers stand on; caches that are missing are built if there is a `device`.

    Raises MissingError for a cache that is missing and may not be built, CacheMismatchError for a lever whose cache
    lacks some of the validation frames, StudyError before anything is built if the file does not mean what it did.
    """
    require_same_meaning(study)
    with progress.under_way("open the caches"):
        return _open_ground(study, levers, device, progress)


def _open_ground(study: Study, levers: Sequence[str], device: torch.device | None, progress: Progress) -> Ground:
    frames_cache = _open(study, frames_wanted(study), device, progress)
    caches: dict[str, Cache] = {}
    for wanted in wanted_caches(study, val_drives(frames_cache), tuple(dict.fromkeys(levers))):
        cache = frames_cache if wanted.inputs == study.file_setup.inputs else _open(study, wanted, device, progress)
        caches |= dict.fromkeys(wanted.levers, cache)
    frames = validation_frames(frames_cache)
    covering = {frames_cache.cache_id}
    for lever, cache in caches.items():
        if cache.cache_id not in covering:
            require_cover(frames, validation_frames(cache), _who(study, lever))
            covering.add(cache.cache_id)
    of_control = _open_stats_cache(study, frames_cache, caches[CONTROL], device, progress)
    control = Supply(caches[CONTROL], of_control, prepare_stats(study, of_control, study.control, progress).digest())
    supplies = {lever: _supply(study, lever, cache, control) for lever, cache in caches.items()}
    settings = spell({"evaluation": study.control.evaluation.model_dump(mode="json")})["evaluation"]
    definitions = define_metrics(study.file.slices, frames.channels, {})
    evaluation = {"frames": frames.digest(), "metrics": definitions.to_json(), **settings}
    evaluation |= _other_selection(study, frames.channels)
    base = Base(supplies[CONTROL].recipe_digest(study.control), evaluation)
    return Ground(base, frames_cache, _thresholds(study, base, frames_cache), supplies)


def _other_selection(study: Study, channels: Sequence[str]) -> dict[str, Any]:
    """How draws are selected, where that is not as it is without a table [selection]: other numbers have its names."""
    selection = selection_for(study.file.selection, channels)
    if selection is None or selection == selection_for(None, channels):
        return {}
    return {"selection": selection.to_json()}


def validation_frames(cache: Cache) -> ValidationFrames:
    """The validation side of a cache, without its conditions."""
    return read_frames(cache.split("val", variants=()), cache.channels)


def require_cover(frames: ValidationFrames, own: ValidationFrames, who: str) -> None:
    """Raises CacheMismatchError, naming whose cache it is, if `own` lacks some of the validation frames."""
    try:
        cover(frames, own)
    except CacheMismatchError as error:
        raise CacheMismatchError(f"{who}: {error}") from None


def _who(study: Study, lever: str) -> str:
    """A lever with what it sets, for a message."""
    if lever == CONTROL:
        return "the control"
    return f"lever {lever!r} sets {', '.join(key for key, _ in flat_keys(study.file.levers[lever].set))}"


def _open(study: Study, wanted: Wanted, device: torch.device | None, progress: Progress) -> Cache:
    if device is None:
        return require_cache(study, wanted)
    path = prepare_cache(study, wanted, device, progress).path
    return open_cache(path, expect_id=path.stem)


def _open_stats_cache(
    study: Study, frames_cache: Cache, control: Cache, device: torch.device | None, progress: Progress
) -> Cache:
    """The cache on whose train split the control's stats are fitted."""
    for inputs, cache in ((study.file_setup.inputs, frames_cache), (study.base.inputs, control)):
        if study.stats_inputs == inputs:
            return cache
    return _open(study, Wanted(study.stats_inputs, val_drives(frames_cache), ()), device, progress)


def _supply(study: Study, lever: str, cache: Cache, control: Supply) -> Supply:
    """What the runs of a lever (or the control) are trained from; its digest names the stats of the control's recipe.

    A lever on the action space has stats of another kind, fitted on the same split: its recipe's digest tells it apart.
    """
    setup = study.setup(lever)
    if lever == CONTROL or setup.stats == "control":
        return replace(control, cache=cache)
    return Supply(cache, cache, prepare_stats(study, cache, setup.recipe).digest())


def _thresholds(study: Study, base: Base, frames_cache: Cache) -> dict[str, float]:
    """The maneuver thresholds of this evaluation: those on record, else the 0.90 quantiles of the train side.

    They stay when recordings are added to the train side: the metric would mean something else otherwise.
    """
    question = """
        select thresholds_json from bases where evaluation_id = ? and thresholds_json is not null
        order by entry limit 1"""
    if study.ledger.exists():
        for (text,) in read(study.ledger, question, [base.evaluation_id]).rows:
            return json.loads(text)
    return prepare_stats(study, frames_cache, study.file.control).thresholds


def prepare_stats(study: Study, cache: Cache, recipe: Recipe, progress: Progress = SILENT) -> Stats:
    """The stats for that cache and the recipe's action space, densities and horizon: read, or fitted and stored.

    Says so where a file is there and not what was stored: it is fitted anew.
    """
    path = stats_file(study, cache, recipe)
    stats = load_stats(path)
    if stats is None:
        if path.exists():
            progress.say(f"{path.relative_to(study.root)} is not what was stored: fitted anew")
        stats = fit_stats(*fitted_by(cache, recipe), cache.channels, cache.split("train", variants=()).action)
        store_stats(path, stats)
    return stats


def stats_file(study: Study, cache: Cache, recipe: Recipe) -> Path:
    """Where those stats are kept."""
    return stats_path(study.caches, cache.cache_id, *fitted_by(cache, recipe))


def fitted_by(cache: Cache, recipe: Recipe) -> tuple[ActionSpaceSettings, Edges, int]:
    """What of a recipe stats are fitted by: the action space, how densities are smoothed, and the number of slots."""
    return recipe.action_space, recipe.objective.lds.edges, recipe.decoder.horizon or cache.horizon


def val_digest(cache: Cache) -> str:
    """What the validation drives of a cache are, by content."""
    identity = cache.attributes["identity"]
    return digest_json({drive_id: identity["manifest"][drive_id] for drive_id in identity["split"]["val"]})
