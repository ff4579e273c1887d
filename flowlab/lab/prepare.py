"""From recordings to a cache: each step is done once, and skipped when its result is there."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from flowlab.cache.build import build_cache
from flowlab.cache.cache import Cache, has_old_layout, open_cache
from flowlab.core.digest import digest_json
from flowlab.core.errors import MissingError
from flowlab.core.files import write_json_atomic
from flowlab.core.plugins import Encoder, Source, resolve
from flowlab.core.progress import SILENT, Progress
from flowlab.core.types import Split
from flowlab.drives.carracing import record
from flowlab.drives.source import open_source
from flowlab.drives.splits import choose_split
from flowlab.encoder.pretrain import train_encoder
from flowlab.encoder.weights import encoder_id, find_encoder, load_encoder, save_encoder
from flowlab.evaluate.stats import Stats, fit_stats, load_stats, stats_path, store_stats
from flowlab.lab.plan import Base
from flowlab.study.recipe import Recipe
from flowlab.study.settings import OWN_ENCODER, CarRacingDrives
from flowlab.study.study import Study


def open_drives(study: Study, progress: Progress = SILENT) -> tuple[Source, Split]:
    """The study's source, recorded first if it is a simulator's, and which drives train and which validate."""
    settings = study.file.drives
    if isinstance(settings, CarRacingDrives):
        record(settings, study.root, progress)
    source = open_source(settings, study.root)
    drives = [source.load(drive_id) for drive_id in source.drive_ids()]
    skipped = sum(len(drive.skipped) for drive in drives)
    if skipped:
        progress.say(f"{skipped} rows of the recordings cannot be used; flowlab drives show names them")
    return source, choose_split(drives, study.file.split)


def prepare_encoder(study: Study, source: Source, split: Split, device: torch.device, progress: Progress) -> Path:
    """The study's frozen encoder, pretrained on its train drives unless that has been done. Returns where it lies."""
    folder = study.caches / "encoders"
    name = encoder_id(study.file.encoder, study.file.windows, source, split.train)
    found = find_encoder(folder, name)
    if found is not None:
        return found
    progress.say(f"pretraining the encoder on {len(split.train)} train drives")
    encoder = train_encoder(source, split.train, study.file.encoder, study.file.windows, progress, device)
    return save_encoder(encoder, folder, name)


def open_encoder(study: Study, source: Source, split: Split, device: torch.device, progress: Progress) -> Encoder:
    """The frozen encoder that the study names: its own, trained if need be, or a plug-in, which comes frozen."""
    settings = study.file.encoder
    if settings.kind == OWN_ENCODER:
        return load_encoder(prepare_encoder(study, source, split, device, progress), device)
    build = resolve("encoders", settings.kind)
    return build(settings, source.channels, source.has_waypoints, study.file.windows.history).to(device)


def find_study_encoder(study: Study) -> Path | None:
    """The study's frozen encoder, if its drives are there and it has been trained."""
    source = open_source(study.file.drives, study.root)
    split = choose_split([source.load(drive_id) for drive_id in source.drive_ids()], study.file.split)
    name = encoder_id(study.file.encoder, study.file.windows, source, split.train)
    return find_encoder(study.caches / "encoders", name)


def prepare_cache(study: Study, device: torch.device, progress: Progress = SILENT) -> tuple[Path, bool]:
    """The study's cache with its fitted stats, built unless it is there. Returns its path and whether it is new."""
    found = find_cache(study)
    if found is not None and not has_old_layout(found):
        return found, False
    source, split = open_drives(study, progress)
    encoder = open_encoder(study, source, split, device, progress)
    variants = study.file.cache.variants
    path = build_cache(source, split, study.file.windows, encoder, variants, study.caches, progress, device)
    cache = open_cache(path)
    prepare_stats(study, cache, study.control)
    write_json_atomic(_pointer(study), {"cache_id": cache.cache_id})
    return path, True


def find_cache(study: Study) -> Path | None:
    """The cache built for the study's present drives, split, windows, encoder and cache tables; None if none was."""
    try:
        cache_id = json.loads(_pointer(study).read_text())["cache_id"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    path = study.caches / f"{cache_id}.zarr"
    return path if path.is_dir() else None


def require_cache(study: Study) -> Cache:
    """The study's cache, opened. Raises MissingError with the next step when it has not been built."""
    path = find_cache(study)
    if path is None:
        raise MissingError(
            f"study {study.name!r} has no cache for its present drives, split, windows and encoder. "
            f"Build it: flowlab cache build"
        )
    return open_cache(path, expect_id=path.stem)


def prepare_stats(study: Study, cache: Cache, recipe: Recipe, train_raw: torch.Tensor | None = None) -> Stats:
    """The stats for that cache and the recipe's action space and horizon: read, or fitted and stored."""
    settings, horizon = recipe.action_space, recipe.decoder.horizon or cache.horizon
    path = stats_path(study.caches, cache.cache_id, settings, horizon)
    stats = load_stats(path)
    if stats is None:
        raw = cache.split("train", variants=()).action if train_raw is None else train_raw
        stats = fit_stats(settings, horizon, cache.channels, raw)
        store_stats(path, stats)
    return stats


@dataclass(frozen=True)
class Ground:
    """A study's cache with what its runs are compared on."""

    cache: Cache
    base: Base


def open_ground(study: Study) -> Ground:
    """The cache and the base that the study's runs stand on. Raises MissingError when there is no cache."""
    cache = require_cache(study)
    stats = prepare_stats(study, cache, study.control)
    return Ground(cache, Base(cache.cache_id, stats.digest(), val_digest(cache)))


def val_digest(cache: Cache) -> str:
    """What the validation drives are, by content."""
    identity = cache.attributes["identity"]
    return digest_json({drive_id: identity["manifest"][drive_id] for drive_id in identity["split"]["val"]})


def _pointer(study: Study) -> Path:
    """Where the id of the cache for exactly these tables of experiments.toml is written down."""
    file = study.file
    tables = {
        "drives": file.drives.model_dump(mode="json"),
        "split": file.split.model_dump(mode="json"),
        "windows": file.windows.model_dump(mode="json"),
        "encoder": file.encoder.model_dump(mode="json"),
        "cache": file.cache.model_dump(mode="json"),
    }
    return study.caches / "inputs" / f"{digest_json(tables)}.json"
