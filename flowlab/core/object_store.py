"""Folders of an object store, by obstore. Credentials and endpoint are those of the environment (AWS_*, GOOGLE_*).

An object is there whole or not at all; there is no renaming, but `put_new` lets exactly one writer have a key.
"""

import os
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from flowlab.core.errors import StoreError, told_by

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Client

THREADS = 16
"""How many requests are under way at once: each waits for the network most of its time."""

FOR_CREDENTIALS = ("/latest/api/token", "/latest/meta-data", "/computeMetadata/", "Missing AccessKeyId")
"""What is in the error of a client that found no credentials, and asked the machine that it might be running on."""

ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT", "GOOGLE_BASE_URL")
"""Where the environment may say that a store is not at AWS or Google."""

RETRIES, PATIENCE_S, REQUEST_S = 4, 60, 600

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, order=True)
class ObjectStore:
    """A folder of a bucket, "s3://bucket/folder"; a Store (core/stores.py), and named as a path is."""

    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> "ObjectStore":
        return ObjectStore(f"{self.url}/{name}")

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def stem(self) -> str:
        return self.name.rpartition(".")[0] or self.name

    @property
    def threads(self) -> int:
        return THREADS

    def read(self, key: str) -> bytes:
        return bytes(self._get(key))

    def read_into(self, key: str, view: memoryview) -> tuple[int, bytes]:
        content = self._get(key)
        num = min(len(content), view.nbytes)
        view[:num] = content[:num]
        return num, bytes(content[num:])

    def put(self, key: str, content: bytes | memoryview) -> None:
        with self._told("write"):
            import obstore

            obstore.put(self._client, self._path(key), content, use_multipart=False)

    def put_new(self, key: str, content: bytes | memoryview) -> bool:
        with self._told("write"):
            import obstore
            from obstore.exceptions import AlreadyExistsError

            try:
                obstore.put(self._client, self._path(key), content, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return False
        return True

    def stamps(self, keys: Iterable[str]) -> dict[str, list[Any]]:
        wanted = set(keys)
        if len(wanted) == 1:
            return self._stamp_of(*wanted)
        below = posixpath.commonpath([posixpath.dirname(key) for key in wanted]) if wanted else ""
        return {key: stamp for key, stamp in self._listed(below) if key in wanted}

    def all_keys(self) -> list[str]:
        return sorted(key for key, _ in self._listed())

    def folders(self) -> list[str]:
        with self._told("list"):
            import obstore

            found = obstore.list_with_delimiter(self._client, self._prefix)["common_prefixes"]
        return sorted(path.rstrip("/").rpartition("/")[2] for path in found)

    def remove(self, keys: Iterable[str]) -> None:
        paths = [self._path(key) for key in keys]
        with self._told("remove from"), suppress(FileNotFoundError):
            import obstore

            if paths:
                obstore.delete(self._client, paths)

    def each(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        from concurrent.futures import ThreadPoolExecutor  # takes long to import, and every study imports this module

        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(work, items))

    @property
    def _client(self) -> "Client":
        return _client_of(self._bucket)

    @property
    def _bucket(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def _prefix(self) -> str:
        return self.url.removeprefix(self._bucket).strip("/")

    def _path(self, key: str) -> str:
        return f"{self._prefix}/{key}".lstrip("/")

    def _get(self, key: str) -> memoryview:
        with self._told("read"):
            import obstore

            return memoryview(obstore.get(self._client, self._path(key)).bytes())

    def _stamp_of(self, key: str) -> dict[str, list[Any]]:
        with self._told("read"):
            import obstore

            try:
                return {key: _stamp(obstore.head(self._client, self._path(key)))}
            except FileNotFoundError:
                return {}

    def _listed(self, below: str = "") -> Iterator[tuple[str, list[Any]]]:
        """The keys below a folder, all without one, with their stamps."""
        start, prefix = self._path(""), self._path(below).strip("/")
        with self._told("list"):
            import obstore

            for page in obstore.list(self._client, prefix or None):
                for meta in page:
                    yield meta["path"].removeprefix(start), _stamp(meta)

    @contextmanager
    def _told(self, act: str) -> Iterator[None]:
        """Errors as one sentence. FileNotFoundError stays, where it is the object that is missing."""
        try:
            yield
        except StoreError:
            raise
        except Exception as error:  # obstore raises its own classes and Python's, by what the store answers
            if isinstance(error, FileNotFoundError) and "NoSuchBucket" not in str(error):
                raise
            raise _sentence(self, act, error) from None


def _stamp(meta: Mapping[str, Any]) -> list[Any]:
    return [meta["size"], meta["e_tag"], meta["last_modified"].isoformat()]


@cache
def _client_of(bucket: str) -> "Client":
    """The client for a bucket, made once in a process: it keeps its connections."""
    from obstore.store import from_url

    plain = any(_scheme_of(name) == "http" for name in ENDPOINTS)  # somebody has asked for it
    return from_url(
        bucket,
        client_options={"allow_http": plain, "timeout": timedelta(seconds=REQUEST_S)},
        retry_config={"max_retries": RETRIES, "retry_timeout": timedelta(seconds=PATIENCE_S)},
    )


def _scheme_of(name: str) -> str:
    """Of the endpoint that a variable names. Raises StoreError for what is no URL: the client would panic at it."""
    endpoint = os.environ.get(name, "")
    if not endpoint:
        return ""
    try:
        parts = urlsplit(endpoint)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or any(sign.isspace() for sign in endpoint):
        raise StoreError(f"{name} is {endpoint!r}, expected http://HOST:PORT or https://HOST. Correct it, or unset it.")
    return parts.scheme


def _sentence(store: ObjectStore, act: str, error: Exception) -> StoreError:
    """What went wrong and what to do about it."""
    text = str(error)
    if isinstance(error, ImportError):
        return StoreError(f"{store} needs a library that is not installed: pip install 'flowlab[stores]'")
    if "NoSuchBucket" in text:
        return StoreError(f"{store}: there is no such bucket. Create it, or correct the URL in [stores].")
    if any(asked in text for asked in FOR_CREDENTIALS):
        return StoreError(
            f"{store} needs credentials, and the environment has none. Set AWS_ACCESS_KEY_ID and "
            f"AWS_SECRET_ACCESS_KEY for s3, GOOGLE_SERVICE_ACCOUNT for gs."
        )
    if isinstance(error, PermissionError) or any(code in text for code in ("403 Forbidden", "401 Unauthorized")):
        return StoreError(
            f"you may not {act} {store}: the object store refuses these credentials. Give ones that may "
            f"(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for s3, GOOGLE_SERVICE_ACCOUNT for gs)."
        )
    if "error sending request" in text or "operation timed out" in text:
        return StoreError(
            f"{store} cannot be reached. Check the network, and AWS_ENDPOINT_URL where the bucket is not at AWS. What "
            f"is there already stays: give the same command again."
        )
    return StoreError(f"cannot {act} {store}: {told_by(error)}")
