"""Opens the source of drives that a study names."""

from pathlib import Path

from flowlab.core.errors import DriveError
from flowlab.core.plugins import Source, resolve
from flowlab.study.recipe import Frozen


def open_source(settings: Frozen, root: Path) -> Source:
    """The source of the study in `root`, built from its table [drives].

    Raises UnknownNameError with the nearest name, and DriveError for a plug-in that is no Source.
    """
    name: str = settings.model_dump()["source"]
    build = resolve("sources", name)
    source = build(settings, root) if callable(build) else build
    if not isinstance(source, Source):
        raise DriveError(
            f"source {name!r} is {type(source).__name__}, which is not a Source: it needs channels, has_waypoints, "
            f"drive_ids, load, images and digest."
        )
    return source
