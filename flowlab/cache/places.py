"""Where caches are. Needs no torch: `flowlab ledger verify` asks it too."""

from pathlib import Path

from flowlab.cache.attributes import MANIFEST
from flowlab.core.stores import Place


def is_there(path: Place) -> bool:
    """Whether there is a cache at `path`, whole or damaged. In an object store, what has no manifest is none yet."""
    return path.is_dir() if isinstance(path, Path) else MANIFEST in path.stamps([MANIFEST])


def find_caches(home: Place) -> list[Place]:
    """Where the caches are that lie in a folder, whole or damaged, by name."""
    if isinstance(home, Path):
        return sorted(home.glob("*.zarr"))
    return [place for name in home.folders() if name.endswith(".zarr") and is_there(place := home / name)]
