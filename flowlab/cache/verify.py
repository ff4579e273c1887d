"""Proves that a cache's bytes are the ones that were written."""

from pathlib import Path

from flowlab.cache.cache import open_cache
from flowlab.core.digest import digest_bytes
from flowlab.core.errors import CacheCorruptError
from flowlab.core.progress import SILENT, Progress


def verify_cache(path: Path, progress: Progress = SILENT) -> None:
    """Read every chunk file and compare its digest. Raises CacheCorruptError naming the first that differs."""
    digests = open_cache(path).attributes["digests"]
    with progress.task("verify", len(digests), "chunks") as task:
        for key, expected in sorted(digests.items()):
            if digest_bytes((path / key).read_bytes()) != expected:
                raise CacheCorruptError(
                    f"cache {path.stem}: {key} is not what was written. Remove {path.name} and rebuild: "
                    f"flowlab cache build"
                )
            task.advance()
