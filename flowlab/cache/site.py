"""Where a cache is built: beside its place on disk and then renamed, or in an object store, where nothing is renamed.

There the manifest is put last, and only if there is none: of two builders one is first, and the other finds its cache.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from flowlab.cache.attributes import MANIFEST
from flowlab.cache.places import is_there
from flowlab.cache.verify import damage, trust_cache
from flowlab.core.object_store import ObjectStore
from flowlab.core.progress import Progress
from flowlab.core.stores import LocalStore, Place


class Site(Protocol):
    """One cache's building site. The caller holds this machine's lock on it."""

    @property
    def place(self) -> Place:
        """Where the cache is once it is whole."""

    @property
    def pieces(self) -> Place:
        """Where finished drives are kept."""

    @property
    def is_taken(self) -> bool:
        """Whether there is a cache, or what is left of one."""

    def fault(self, progress: Progress) -> str:
        """What is wrong with the cache that is there; "" if it is whole."""

    def condemn(self) -> None:
        """The cache that is there is damaged: it makes way, at the latest when the new one is whole."""

    def is_done(self) -> bool:
        """Whether another machine has built the cache meanwhile."""

    def open(self) -> Place:
        """Where to write the arrays."""

    def close(self, manifest: bytes) -> None:
        """Make what was written the cache, unless another builder was first."""

    def clear(self) -> None:
        """Remove what a whole cache does not need."""


@dataclass(frozen=True)
class FolderSite:
    """On a disk: written in `<cache_id>.zarr.partial`, and seen under its name once it is whole."""

    place: Path

    @property
    def _partial(self) -> Path:
        return self.place.with_name(f"{self.place.name}.partial")

    @property
    def pieces(self) -> Path:
        return self._partial / "pieces"

    @property
    def is_taken(self) -> bool:
        return self.place.exists()

    def fault(self, progress: Progress) -> str:
        return damage(self.place, progress)

    def condemn(self) -> None:
        pass  # until the new one is whole, whoever has it open reads on

    def is_done(self) -> bool:
        return False  # the lock has kept everybody out

    def open(self) -> Path:
        store = self._partial / "store"
        shutil.rmtree(store, ignore_errors=True)
        return store

    def close(self, manifest: bytes) -> None:
        store = self._partial / "store"
        LocalStore(store).put(MANIFEST, manifest)
        if self.place.exists():
            shutil.rmtree(self.place)  # the damaged one
        store.rename(self.place)
        trust_cache(self.place)

    def clear(self) -> None:
        shutil.rmtree(self._partial, ignore_errors=True)


@dataclass(frozen=True)
class StoreSite:
    """In an object store: written in its place, where it is no cache before it has its manifest.

    No object is ever written over with other bytes: several machines may build one cache at the same time.
    """

    place: ObjectStore
    local: Path  # where this machine remembers which caches it has proved

    @property
    def pieces(self) -> ObjectStore:
        return ObjectStore(f"{self.place.url}.partial")

    @property
    def is_taken(self) -> bool:
        return is_there(self.place)

    def fault(self, progress: Progress) -> str:
        return damage(self.place, progress, self.local)

    def condemn(self) -> None:
        self.place.remove([MANIFEST])  # first: from now on it is none
        self.place.remove(self.place.all_keys())

    def is_done(self) -> bool:
        return is_there(self.place)

    def open(self) -> ObjectStore:
        return self.place

    def close(self, manifest: bytes) -> None:
        if self.place.put_new(MANIFEST, manifest):
            trust_cache(self.place, self.local)

    def clear(self) -> None:
        self.pieces.remove(self.pieces.all_keys())


def site_of(home: Place, name: str, local: Path) -> Site:
    """The building site of the cache of that name among the caches at `home`."""
    place = home / f"{name}.zarr"
    return FolderSite(place) if isinstance(place, Path) else StoreSite(place, local)
