"""Copies a cache: from an object store to a disk, where many processes of one machine read it."""

import shutil
from pathlib import Path

from flowlab.cache.attributes import MANIFEST, SIDES
from flowlab.cache.cache import corrupt, open_cache, why
from flowlab.cache.verify import damage, trust_cache
from flowlab.core.digest import has_digest
from flowlab.core.locks import hold
from flowlab.core.progress import SILENT, Progress
from flowlab.core.stores import LocalStore, Place, store_at


def copy_cache(source: Place, folder: Path, progress: Progress = SILENT) -> Path:
    """The copy in `folder` of the cache at `source`, made unless there is one with the same content; proved either way.

    It appears whole or not at all, and processes that ask at the same time share one copy. Raises CacheCorruptError for
    a file that is not what was written, MissingError where there is no cache, OSError where the disk refuses.
    """
    cache = open_cache(source)
    path = folder / source.name
    folder.mkdir(parents=True, exist_ok=True)
    told = f"waiting for another flowlab process, which copies cache {cache.cache_id}"
    with hold(folder / f"{source.stem}.lock", tell=lambda: progress.say(told)):
        manifest = store_at(source).read(MANIFEST)
        if path.exists() and LocalStore(path).read(MANIFEST) == manifest and not damage(path, progress):
            return path
        partial = folder / f"{source.stem}.copy"
        shutil.rmtree(partial, ignore_errors=True)  # of a copy that was killed
        try:
            _copy(source, LocalStore(partial), cache.attributes["digests"], progress)
            LocalStore(partial).put(MANIFEST, manifest)
            shutil.rmtree(path, ignore_errors=True)
            partial.rename(path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        trust_cache(path)
    return path


def _copy(source: Place, target: LocalStore, digests: dict[str, str], progress: Progress) -> None:
    store = store_at(source)
    others = [key for key in store.all_keys() if key not in digests and key != MANIFEST and key.split("/")[0] in SIDES]

    def copy(key: str) -> None:
        try:
            content = store.read(key)
        except FileNotFoundError as error:
            raise corrupt(source, f"{key} cannot be read: {why(error)}") from None
        if key in digests and not has_digest(digests[key], content):
            raise corrupt(source, f"{key} is not what was written")
        target.put(key, content)
        task.advance()

    with progress.task(f"copy cache {source.stem}", len(digests) + len(others), "files") as task:
        store.each(copy, [*sorted(digests), *others])
