"""What caches there are, and what is in one."""

from pathlib import Path
from typing import Any

from flowlab.cache.cache import Cache, has_old_layout, open_cache
from flowlab.core.errors import CacheLayoutError, FlowlabError


def list_caches(caches_dir: Path) -> list[dict[str, Any]]:
    """One record per cache in the folder: whole, corrupt, partial (a build that was interrupted), or of old layout."""
    records = []
    for path in sorted(caches_dir.glob("*.zarr*")):
        if path.suffix == ".partial":
            records.append(_record(path.name.split(".")[0], "partial", path))
            continue
        try:
            records.append(_record(path.stem, "whole", path, open_cache(path, path.stem)))
        except CacheLayoutError:
            records.append(_record(path.stem, "old layout" if has_old_layout(path) else "newer layout", path))
        except FlowlabError:
            records.append(_record(path.stem, "corrupt", path))
    return records


def _record(name: str, state: str, path: Path, cache: Cache | None = None) -> dict[str, Any]:
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


def describe_cache(path: Path) -> dict[str, Any]:
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


def _num_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
