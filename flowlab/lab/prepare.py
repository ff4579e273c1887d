"""From recordings to a cache: each step is done once, and skipped when its result is there."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from flowlab.cache.build import build_cache
from flowlab.cache.cache import Cache, open_cache
from flowlab.core.digest import digest_json
from flowlab.core.errors import MissingError
from flowlab.core.files import write_json_atomic
from flowlab.core.plugins import Source
from flowlab.core.progress import SILENT, Progress
from flowlab.core.types import Split
from flowlab.drives.carracing import record
from flowlab.drives.source import open_source
from flowlab.drives.splits import choose_split
from flowlab.encoder.weights import encoder_id, find_encoder, load_encoder, save_encoder
from flowlab.encoder.pretrain import train_encoder
from flowlab.lab.plan import Base
from flowlab.lab.stats import Stats, fit_stats, load_stats, stats_path, store_stats
from flowlab.study.recipe import ActionSpaceSettings
from flowlab.study.settings import CarRacingDrives
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
