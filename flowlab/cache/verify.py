"""Proves that a cache's bytes are the ones that were written, once per change of its files."""

from contextlib import suppress
from pathlib import Path

from flowlab.cache.attributes import content_of
from flowlab.cache.cache import Cache, corrupt, open_cache, why
from flowlab.core.digest import digest_json, has_digest
from flowlab.core.errors import CacheCorruptError, CacheLayoutError
from flowlab.core.files import write_atomic
from flowlab.core.progress import SILENT, Progress
from flowlab.core.stores import Place, store_at


def verify_cache(path: Place, progress: Progress = SILENT) -> Cache:
    """The cache, once every chunk file was read and has its digest, and it is the one that its folder is named after.

    Raises CacheCorruptError, which names the first file that is not what was written.
    """
    cache = open_cache(path)
    if cache.cache_id != path.stem:
        raise corrupt(path, f"it says that it is {cache.cache_id}")
    digests, store = cache.attributes["digests"], store_at(path)

    def prove(key: str) -> None:
        try:
            content = store.read(key)
        except OSError as error:
            raise corrupt(path, f"{key} cannot be read: {why(error)}") from None
        if not has_digest(digests[key], content):
            raise corrupt(path, f"{key} is not what was written")
        task.advance()

    with progress.task(f"verify cache {cache.cache_id}", len(digests), "chunks") as task:
        store.each(prove, sorted(digests))
    return cache


def prove_cache(path: Place, progress: Progress = SILENT, local: Path | None = None) -> None:
    """As `verify_cache`, but for files that have not changed since they were read the last time.

    What is remembered is one digest of the sizes, inodes and times of all files; whoever loses it reads once more. It
    lies beside the cache, or in the folder `local` of this machine for one in an object store.
    """
    state = _state(open_cache(path))
    with suppress(OSError, UnicodeError):
        if (memo := _memo(path, local)) is not None and memo.read_text() == state:
            return
    verify_cache(path, progress)
    _remember(path, local, state)


def trust_cache(path: Place, local: Path | None = None) -> None:
    """Take the cache for proved, as whoever has just written it may."""
    _remember(path, local, _state(open_cache(path)))


def _memo(path: Place, local: Path | None) -> Path | None:
    folder = path.parent if isinstance(path, Path) else local
    return folder and folder / "verified" / path.stem


def _remember(path: Place, local: Path | None, state: str) -> None:
    memo = _memo(path, local)
    with suppress(OSError):  # in a folder that may only be read the next one reads once more
        if memo is not None:
            write_atomic(memo, state.encode())


def damage(path: Place, progress: Progress = SILENT, local: Path | None = None) -> str:
    """What is wrong with the cache at `path`; "" if it can be proved, by what `local` remembers."""
    try:
        prove_cache(path, progress, local)
    except (CacheCorruptError, CacheLayoutError) as error:
        return str(error).partition(". ")[0]
    return ""


def _state(cache: Cache) -> str:
    """What changes whenever one of the cache's files is written: size, inode, and times to the nanosecond."""
    stamps = store_at(cache.path).stamps(cache.attributes["digests"])
    files = [[key, *stamps.get(key, [])] for key in sorted(cache.attributes["digests"])]
    return digest_json([content_of(cache.attributes), files])
