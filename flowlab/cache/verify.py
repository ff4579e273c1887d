"""Proves that a cache's bytes are the ones that were written, once per change of its files."""

from contextlib import suppress
from pathlib import Path

from flowlab.cache.attributes import content_of
from flowlab.cache.cache import Cache, corrupt, open_cache
from flowlab.core.digest import digest_bytes, digest_json
from flowlab.core.errors import CacheCorruptError, CacheLayoutError
from flowlab.core.files import write_atomic
from flowlab.core.progress import SILENT, Progress
from flowlab.drives.memo import stamp_of


def verify_cache(path: Path, progress: Progress = SILENT) -> Cache:
    """The cache, once every chunk file was read and has its digest, and it is the one that its folder is named after.

    Raises CacheCorruptError, which names the first file that is not what was written.
    """
    cache = open_cache(path)
    if cache.cache_id != path.stem:
        raise corrupt(path, f"it says that it is {cache.cache_id}")
    digests = cache.attributes["digests"]
    with progress.task(f"verify cache {cache.cache_id}", len(digests), "chunks") as task:
        for key, expected in sorted(digests.items()):
            try:
                found = digest_bytes((path / key).read_bytes())
            except OSError as error:
                raise corrupt(path, f"{key} cannot be read: {error.strerror}") from None
            if found != expected:
                raise corrupt(path, f"{key} is not what was written")
            task.advance()
    return cache


def prove_cache(path: Path, progress: Progress = SILENT) -> None:
    """As `verify_cache`, but for files that have not changed since they were read the last time.

    What is remembered is one digest of the sizes, inodes and times of all files; whoever loses it reads once more.
    """
    state = _state(open_cache(path))
    with suppress(OSError, UnicodeError):
        if _memo(path).read_text() == state:
            return
    verify_cache(path, progress)
    _remember(path, state)


def trust_cache(path: Path) -> None:
    """Take the cache for proved, as whoever has just written it may."""
    _remember(path, _state(open_cache(path)))


def _memo(path: Path) -> Path:
    return path.parent / "verified" / path.stem


def _remember(path: Path, state: str) -> None:
    with suppress(OSError):  # in a folder that may only be read the next one reads once more
        write_atomic(_memo(path), state.encode())


def damage(path: Path, progress: Progress = SILENT) -> str:
    """What is wrong with the cache at `path`; "" if it can be proved."""
    try:
        prove_cache(path, progress)
    except (CacheCorruptError, CacheLayoutError) as error:
        return str(error).partition(". ")[0]
    return ""


def _state(cache: Cache) -> str:
    """What changes whenever one of the cache's files is written: size, inode, and times to the nanosecond."""
    files = [[key, *stamp_of(cache.path / key)] for key in sorted(cache.attributes["digests"])]
    return digest_json([content_of(cache.attributes), files])
