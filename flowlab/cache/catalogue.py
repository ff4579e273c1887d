"""What caches there are, and what is in one."""

from pathlib import Path
from typing import Any

from flowlab.cache.cache import Cache, has_old_layout, open_cache
from flowlab.cache.places import find_caches
from flowlab.core.errors import CacheLayoutError, FlowlabError, StoreError
from flowlab.core.stores import Place, store_at


def list_caches(home: Place) -> list[dict[str, Any]]:
    """One record per cache in the folder: whole, corrupt, partial (a build that was interrupted), or of old layout."""
    records = []
    for path in sorted([*find_caches(home), *_partial(home)], key=str):
        if path.name.endswith(".partial"):
            records.append(_record(path.name.split(".")[0], "partial", path))
            continue
        try:
            records.append(_record(path.stem, "whole", path, open_cache(path, path.stem)))
        except StoreError:
            raise
        except CacheLayoutError:
            records.append(_record(path.stem, "old layout" if has_old_layout(path) else "newer layout", path))
        except FlowlabError:
            records.append(_record(path.stem, "corrupt", path))
    return records


def _partial(home: Place) -> list[Place]:
    if isinstance(home, Path):
        return [*home.glob("*.zarr?*")]
    return [home / name for name in home.folders() if name.endswith(".zarr.partial")]


def _record(name: str, state: str, path: Place, cache: Cache | None = None) -> dict[str, Any]:
    return {
        "cache_id": name,
        "state": state,
        "train": cache.num_windows("train") if cache else None,
        "val": cache.num_windows("val") if cache else None,
        "condition": str(cache.spec) if cache else None,
        "variants": ", ".join(cache.variants) if cache else None,
        "megabytes": round(_num_bytes(path) / 1e6, 1),
        "built_us": cache.attributes["built_us"] if cache else None,
    }


def describe_cache(path: Place) -> dict[str, Any]:
    """What a cache holds, what it was built from and what was dropped."""
    cache = open_cache(path)
    identity = cache.attributes["identity"]
    return {
        "cache_id": cache.cache_id,
        "condition": str(cache.spec),
        "channels": list(cache.channels),
        "variants": list(cache.variants),
        "num_train": cache.num_windows("train"),
        "num_val": cache.num_windows("val"),
        "dropped": cache.attributes["dropped"],
        "encoder": identity["encoder"],
        "windows": identity["windows"],
        "train_drives": identity["split"]["train"],
        "val_drives": identity["split"]["val"],
        "megabytes": round(_num_bytes(path) / 1e6, 1),
        "built_us": cache.attributes["built_us"],
    }


def _num_bytes(path: Place) -> int:
    store = store_at(path)
    return sum(stamp[0] for stamp in store.stamps(store.all_keys()).values())
