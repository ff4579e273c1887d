import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flowlab.core.errors import StoreError
from flowlab.core.object_store import ObjectStore
from flowlab.core.stores import LocalStore, Place, Store, place_of, store_at
from tests.core.s3_server import ENVIRONMENT

ROOT = Path(__file__).parents[2]
ODD = "a folder/ä #%+?&=.c/0"


@pytest.fixture(params=["disk", "bucket", "folder of a bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "disk":
        return LocalStore(tmp_path)
    bucket = request.getfixturevalue("bucket")
    return bucket if request.param == "bucket" else bucket / "some" / "folder"


def test_what_was_put_is_read(store: Store):
    for key in ("zarr.json", "train/action/c/0/0", ODD):
        store.put(key, key.encode())
        assert store.read(key) == key.encode()
    store.put("zarr.json", b"")
    assert store.read("zarr.json") == b""


def test_what_is_not_there_is_a_missing_file(store: Store):
    store.put("a/b", b"1")
    for key in ("b", "a", "a/b/c"):
        with pytest.raises(OSError):
            store.read(key)
    assert store.stamps(["b", "a/b/c"]) == {} and store.stamps(["b"]) == {} and store.stamps([]) == {}


def test_a_key_is_new_once(store: Store):
    assert store.put_new("a/b", b"first")
    assert not store.put_new("a/b", b"second")
    assert store.read("a/b") == b"first"


def test_one_of_many_writers_has_a_new_key(bucket: ObjectStore):
    with ThreadPoolExecutor(8) as pool:
        for turn in range(5):
            kept = list(pool.map(lambda i, key=f"{turn}": bucket.put_new(key, bytes([i])), range(8)))
            assert sum(kept) == 1
            assert bucket.read(f"{turn}") == bytes([kept.index(True)])


@pytest.mark.parametrize("size", [0, 3, 5, 8])
def test_bytes_go_into_the_memory_that_is_given(store: Store, size: int):
    store.put("x", b"hello")
    memory = bytearray(8)
    num, rest = store.read_into("x", memoryview(memory)[:size])
    assert (num, rest) == (min(size, 5), b"hello"[size:])
    assert memory == b"hello"[:size].ljust(8, b"\0")


def test_keys_and_stamps_are_of_this_folder_alone(store: Store):
    for key in ("b", "a/c", "a/d", "ab"):
        store.put(key, key.encode())
    assert store.all_keys() == ["a/c", "a/d", "ab", "b"]
    stamps = store.stamps(["a/c", "a/d", "a/e"])
    assert {key: stamp[0] for key, stamp in stamps.items()} == {"a/c": 3, "a/d": 3}
    assert store.stamps(["a/c"])["a/c"] == stamps["a/c"]
    store.remove(["a/c", "not there"])
    store.remove([])
    assert store.all_keys() == ["a/d", "ab", "b"]


def test_a_stamp_is_another_one_once_other_bytes_were_written(store: Store):
    store.put("a", b"1")
    before = store.stamps(["a"])
    store.put("a", b"2")
    assert store.stamps(["a"]) != before


def test_folders_are_those_right_below(bucket: ObjectStore):
    for key in ("x/1.zarr/zarr.json", "x/1.zarr/a/b", "x/2.zarr.partial/p", "x/file", "y/z"):
        bucket.put(key, b"1")
    assert (bucket / "x").folders() == ["1.zarr", "2.zarr.partial"]
    assert bucket.folders() == ["x", "y"]
    assert (bucket / "none").folders() == []


def test_a_folder_of_a_bucket_is_named_as_a_path_is():
    place = ObjectStore("s3://b/caches") / "0123.zarr"
    assert (place.name, place.stem, str(place)) == ("0123.zarr", "0123", "s3://b/caches/0123.zarr")
    assert ObjectStore("s3://b/runs").stem == "runs"


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("s3://b/a/", ObjectStore("s3://b/a")),
        ("gs://b", ObjectStore("gs://b")),
        ("S3://b//a", ObjectStore("s3://b/a")),
        ("file:///a%20b/c", Path("/a b/c")),
    ],
)
def test_a_url_names_a_place(url: str, place: Place):
    assert place_of(url) == place
    assert isinstance(store_at(place), LocalStore if isinstance(place, Path) else ObjectStore)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("caches", "expected s3://BUCKET/FOLDER"),
        ("http://a/b", "expected s3://BUCKET/FOLDER"),
        ("s3:///b", "names no bucket"),
        ("file://a/b", "three slashes"),
        ("s3://b/a?x=1", "without"),
        ("s3://b/a/../c", "without . and .."),
    ],
)
def test_any_other_url_is_refused_in_one_sentence(url: str, says: str):
    with pytest.raises(ValueError, match=says):
        place_of(url)


def test_a_bucket_that_is_not_there_is_named(buckets: Path):
    store = ObjectStore("s3://never-made/a")
    for act in (
        lambda: store.read("x"),
        lambda: store.put("x", b""),
        lambda: store.put_new("x", b""),
        store.all_keys,
        store.folders,
    ):
        with pytest.raises(StoreError, match=r"^s3://never-made/a: there is no such bucket. Create it"):
            act()


def test_who_may_not_is_told_so(bucket: ObjectStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "stranger")
    for act in (
        lambda: bucket.read("x"),
        lambda: bucket.put("x", b""),
        lambda: bucket.put_new("x", b""),
        lambda: bucket.stamps(["x"]),
        bucket.all_keys,
        bucket.folders,
    ):
        with pytest.raises(StoreError, match=r"^you may not (read|write|list) s3://.*refuses these credentials"):
            act()


def test_a_store_that_is_not_reached_is_told_so(monkeypatch: pytest.MonkeyPatch):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        for name, value in ENVIRONMENT.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        with pytest.raises(StoreError, match=r"^s3://unreached/a cannot be reached. Check the network"):
            ObjectStore("s3://unreached/a").read("x")


@pytest.mark.parametrize("endpoint", ["here", "http://", "ftp://a", "http://a:port", "http://a b", "http://[::1"])
def test_an_endpoint_that_is_no_url_is_named(endpoint: str, monkeypatch: pytest.MonkeyPatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(StoreError, match=r"AWS_ENDPOINT_URL is .* expected http://HOST:PORT"):
        ObjectStore("s3://without-an-endpoint/a").read("x")


def test_without_credentials_that_is_what_is_told(monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", f"http://127.0.0.1:{nobody.getsockname()[1]}")  # what AWS runs
        with pytest.raises(StoreError, match=r"needs credentials, and the environment has none. Set AWS_ACCESS_KEY_ID"):
            ObjectStore("s3://nobody/a").read("x")


def test_a_request_that_fails_once_is_made_again(monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            for reply in (
                b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: "a"\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT'
                b"\r\nConnection: close\r\n\r\nhi",
            ):
                connection, _ = server.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(reply)

        answering = threading.Thread(target=answer)
        answering.start()
        for name, value in ENVIRONMENT.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert ObjectStore("s3://slow-down").read("x") == b"hi"
        answering.join()


def test_nobody_pays_for_a_store_that_he_has_not(tmp_path: Path):
    program = (
        "import sys; from pathlib import Path; from flowlab.core.stores import *; "
        f"store_at(Path({str(tmp_path)!r})).put('a', b'1'); place_of('s3://b/a'); "
        "import flowlab.cache.places, flowlab.study.study; assert 'obstore' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_without_obstore_the_library_is_named():
    program = (
        "import sys; sys.modules['obstore'] = None; from flowlab.core.stores import place_of\n"
        "try: place_of('s3://b/a').read('x')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.startswith("StoreError s3://b/a needs a library that is not installed: pip install")
