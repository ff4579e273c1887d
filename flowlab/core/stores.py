"""Where files lie that may be large: in a folder of this machine, or in one of an object store.

Both are read and written by one Protocol, `Store`. A place is what people name, a path or a URL; a store is how bytes
are had from it, by keys such as "train/action/c/0".
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote, urlsplit

from flowlab.core.files import stamp_of, write_atomic
from flowlab.core.object_store import ObjectStore

Place = Path | ObjectStore
"""A folder on disk, or one of an object store; `place / name` is a folder or file in it, `stem` its name."""

SCHEMES = ("s3", "gs", "file")

Item = TypeVar("Item")
Result = TypeVar("Result")


class Store(Protocol):
    """Bytes by key. A key that is not there raises FileNotFoundError; what else fails is an OSError or StoreError."""

    @property
    def threads(self) -> int:
        """How many large reads at once pay."""

    def read(self, key: str) -> bytes: ...

    def read_into(self, key: str, view: memoryview) -> tuple[int, bytes]:
        """Fill `view` from the beginning; how many bytes that were, and what there is beyond."""

    def put(self, key: str, content: bytes | memoryview) -> None:
        """Keep it, whole or not at all, in the place of what there was."""

    def put_new(self, key: str, content: bytes | memoryview) -> bool:
        """Keep it unless there is something; whether it was kept."""

    def stamps(self, keys: Iterable[str]) -> Mapping[str, Sequence[Any]]:
        """Of each key that is there its size in bytes, and what else changes whenever it is written."""

    def all_keys(self) -> list[str]:
        """Every key there is, sorted."""

    def folders(self) -> list[str]:
        """The names of the folders right below, sorted."""

    def remove(self, keys: Iterable[str]) -> None:
        """Remove these, whether they are there or not."""

    def each(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """`work` on each of many small items, at once where that pays."""


@dataclass(frozen=True)
class LocalStore:
    """A folder of this machine. `put_new` is for whoever holds the lock on what is written."""

    folder: Path
    threads: int = 2

    def read(self, key: str) -> bytes:
        return (self.folder / key).read_bytes()

    def read_into(self, key: str, view: memoryview) -> tuple[int, bytes]:
        with (self.folder / key).open("rb", buffering=0) as file:
            return file.readinto(view), file.read()

    def put(self, key: str, content: bytes | memoryview) -> None:
        write_atomic(self.folder / key, content)

    def put_new(self, key: str, content: bytes | memoryview) -> bool:
        if (self.folder / key).exists():
            return False
        self.put(key, content)
        return True

    def stamps(self, keys: Iterable[str]) -> dict[str, list[int]]:
        return {key: stamp for key in keys if (stamp := stamp_of(self.folder / key))}

    def all_keys(self) -> list[str]:
        return sorted(file.relative_to(self.folder).as_posix() for file in self.folder.rglob("*") if file.is_file())

    def folders(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("*/"))

    def remove(self, keys: Iterable[str]) -> None:
        for key in keys:
            (self.folder / key).unlink(missing_ok=True)

    def each(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        return [work(item) for item in items]


def store_at(place: Place) -> Store:
    """How to read and write there."""
    return LocalStore(place) if isinstance(place, Path) else place


def place_of(url: str) -> Place:
    """The place that a URL names. Raises ValueError, as one sentence, for a URL that names none."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ValueError(f"expected s3://BUCKET/FOLDER, gs://BUCKET/FOLDER or file:///FOLDER, got {url!r}")
    if parts.query or parts.fragment:
        raise ValueError(f"expected a URL without ? and #, got {url!r}")
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise ValueError(f"expected file:///FOLDER with three slashes, got {url!r}")
        return Path(unquote(parts.path))
    if not parts.netloc:
        raise ValueError(f"expected {parts.scheme}://BUCKET/FOLDER, got {url!r}, which names no bucket")
    folders = [name for name in parts.path.split("/") if name]
    if not {".", ".."}.isdisjoint(folders):
        raise ValueError(f"expected a folder without . and .., which no bucket knows, got {url!r}")
    return ObjectStore("/".join([f"{parts.scheme}://{parts.netloc}", *folders]))
