"""Whether a cache still holds what earlier runs read of it. Needs no torch: `flowlab ledger verify` asks it too."""

from collections.abc import Iterable
from typing import Any

from flowlab.cache.attributes import build_name, content_of, read_attributes
from flowlab.cache.places import find_caches
from flowlab.core.errors import CacheCorruptError, CacheMismatchError
from flowlab.core.stores import Place
from flowlab.ledger.connection import read
from flowlab.study.study import Study


def require_known_contents(study: Study, caches: Iterable[dict[str, Any]]) -> None:
    """Raises CacheMismatchError for a cache, given by its attributes, of which an earlier run read another content.

    A cache that was built once more may hold other bits, and no run has read those.
    """
    if not study.ledger.exists():
        return
    rows = read(study.ledger, "select * from cache_contents").records()
    known = {row["cache"]: row for row in rows}
    for attributes in caches:
        row, content = known.get(build_name(attributes)), content_of(attributes)
        if row is not None and row["content"] != content:
            raise CacheMismatchError(
                f"cache {attributes['cache_id']} holds {content}, and run {row['first_run_id']} was trained from "
                f"{row['content']} of the same build: it was changed since. Remove {attributes['cache_id']}.zarr and "
                f"rebuild: flowlab cache build"
            )


def require_contents_of_disk(study: Study) -> None:
    """As `require_known_contents`, of every cache in the study's folder that says what it is."""
    require_known_contents(study, _readable(find_caches(study.cache_home)))


def _readable(paths: Iterable[Place]) -> list[dict[str, Any]]:
    found = []
    for path in paths:
        try:
            found.append(read_attributes(path))
        except CacheCorruptError:
            continue  # no run can be trained from it, and `flowlab cache verify` tells
    return found
