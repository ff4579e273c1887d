"""Proves all at once that a study's files are what was written: caches, encoders, stats."""

from pathlib import Path
from typing import NamedTuple

from flowlab.cache.verify import verify_cache
from flowlab.core.errors import FlowlabError
from flowlab.core.progress import SILENT, Progress
from flowlab.encoder.weights import load_encoder
from flowlab.evaluate.stats import load_stats
from flowlab.lab.contents import require_known_contents
from flowlab.study.study import Study


class Proof(NamedTuple):
    """A file or cache of the study, and what is wrong with it; "" if it is what was written."""

    path: Path
    fault: str


def prove_all(study: Study, progress: Progress = SILENT) -> list[Proof]:
    """Every cache, encoder and file of stats in the study's folder, read whole."""
    caches, encoders = study.caches.glob("*.zarr"), (study.caches / "encoders").glob("*.safetensors")
    return [
        *(Proof(path, _cache_fault(study, path, progress)) for path in sorted(caches)),
        *(Proof(path, _encoder_fault(path)) for path in sorted(encoders)),
        *(Proof(path, _stats_fault(path)) for path in sorted((study.caches / "stats").glob("*.json"))),
    ]


def _cache_fault(study: Study, path: Path, progress: Progress) -> str:
    try:
        require_known_contents(study, [verify_cache(path, progress).attributes])
    except FlowlabError as error:
        return str(error)
    return ""


def _encoder_fault(path: Path) -> str:
    try:
        load_encoder(path)
    except FlowlabError as error:
        return str(error)
    return ""


def _stats_fault(path: Path) -> str:
    return "" if load_stats(path) else f"{path.name} is not what was stored. The next run fits it anew."
