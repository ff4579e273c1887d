"""Proves all at once that a study's files are what was written: caches, encoders, stats."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from flowlab.cache.places import find_caches
from flowlab.cache.verify import verify_cache
from flowlab.core.errors import FlowlabError, StoreError
from flowlab.core.progress import SILENT, Progress
from flowlab.core.stores import Place
from flowlab.encoder.weights import prove_encoder
from flowlab.evaluate.stats import load_stats
from flowlab.lab.contents import require_known_contents
from flowlab.study.study import Study


class Proof(NamedTuple):
    """A file or cache of the study, and what is wrong with it; "" if it is what was written."""

    path: Place
    fault: str


def prove_all(study: Study, progress: Progress = SILENT) -> list[Proof]:
    """Every cache, encoder and file of stats in the study's folder, read whole."""
    encoders = (study.caches / "encoders").glob("*.safetensors")
    return [
        *(Proof(path, _fault(_prove_cache, study, path, progress)) for path in find_caches(study.cache_home)),
        *(Proof(path, _fault(prove_encoder, path)) for path in sorted(encoders)),
        *(Proof(path, _stats_fault(path)) for path in sorted((study.caches / "stats").glob("*.json"))),
    ]


def _fault(prove: Callable[..., object], *given: object) -> str:
    """What `prove` says against the file; "" if it says nothing."""
    try:
        prove(*given)
    except StoreError:
        raise
    except FlowlabError as error:
        return str(error)
    return ""


def _prove_cache(study: Study, path: Place, progress: Progress) -> None:
    require_known_contents(study, [verify_cache(path, progress).attributes])


def _stats_fault(path: Path) -> str:
    return "" if load_stats(path) else f"{path.name} is not what was stored. The next run fits it anew."
