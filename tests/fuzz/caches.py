"""Mutants of a cache's metadata and chunk files: `python -m tests.fuzz.caches --count 1000 --seed 1`.

Each cache is one sentence, or it gives the numbers that were written, bit for bit.
"""

import json
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from flowlab.cache.build import build_cache
from flowlab.cache.cache import Cache, ResidentSplit, open_cache
from flowlab.cache.catalogue import describe_cache, list_caches
from flowlab.cache.verify import damage, prove_cache, verify_cache
from flowlab.core.errors import FlowlabError
from tests.cache.number_encoder import NumberEncoder
from tests.cache.three_drives import SPLIT, VARIANTS, WINDOWS, three_drives
from tests.fuzz import mutate

STATES = ("whole", "corrupt", "old layout", "newer layout")
TENSORS = ("action", "history_action", "speed_mps", "frame_index", "time_us", "drive", "waypoints")


class Written:
    """A small cache, another with the same arrays and other numbers, and what the first one holds."""

    def __init__(self, folder: Path) -> None:
        self.path = build_cache(three_drives(), SPLIT, WINDOWS, NumberEncoder(), VARIANTS, folder / "caches")
        other = NumberEncoder(scale=2.0)
        other.digest = "another-encoder"
        self.other = build_cache(three_drives(), SPLIT, WINDOWS, other, VARIANTS, folder / "others")
        files = sorted(path for path in self.path.rglob("*") if path.is_file())
        self.content = {path: path.read_bytes() for path in files}
        self.metadata = [path for path in files if path.name == "zarr.json"]
        self.chunks = [path for path in files if path.name != "zarr.json"]
        self.cache = verify_cache(self.path)
        self.sides = {side: self.cache.split(side) for side in ("train", "val")}

    @contextmanager
    def changed(self, chance: random.Random) -> Iterator[None]:
        """The first cache with one to three of its files changed; as it was afterwards."""
        try:
            for _ in range(chance.choice([1, 1, 1, 2, 3])):
                (self.change_metadata if chance.random() < 0.6 else self.change_chunk)(chance)
            yield
        finally:
            for path, content in self.content.items():
                if not path.exists() or path.read_bytes() != content:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)

    def change_metadata(self, chance: random.Random) -> None:
        root = self.path / "zarr.json"
        path = root if chance.random() < 0.5 else chance.choice(self.metadata)
        content, how = self.content[path], chance.random()
        if how < 0.3:
            path.write_bytes(mutate.damaged(content, chance))
        elif how < 0.8:
            path.write_bytes(mutate.json_changed(content, chance))
        elif how < 0.9:
            path.write_bytes(self.content[chance.choice(self.metadata)])
        elif how < 0.95:
            path.write_bytes((self.other / path.relative_to(self.path)).read_bytes())
        else:
            path.unlink(missing_ok=True)

    def change_chunk(self, chance: random.Random) -> None:
        path, how = chance.choice(self.chunks), chance.randrange(5)
        if how == 0:
            path.write_bytes(mutate.damaged(self.content[path], chance))
        elif how == 1:
            other = chance.choice([one for one in self.chunks if len(self.content[one]) == len(self.content[path])])
            path.write_bytes(self.content[other])
            other.write_bytes(self.content[path])
        elif how == 2:
            path.write_bytes((self.other / path.relative_to(self.path)).read_bytes())
        elif how == 3:
            path.write_bytes(mutate.flip(self.content[path], chance))
        else:
            path.unlink(missing_ok=True)

    def look(self) -> str:
        """What becomes of the cache as it is now. Raises AssertionError if it is taken, and gives other numbers."""
        (listed,) = list_caches(self.path.parent)
        assert listed["state"] in STATES, listed
        fault = damage(self.path)
        try:
            cache = open_cache(self.path, self.path.stem)  # as runs do
        except FlowlabError:
            assert fault or listed["state"] in STATES[2:], "cannot be opened, and nothing is said to be wrong with it"
            raise
        describe_cache(self.path)
        try:
            verify_cache(self.path)
        except FlowlabError:
            assert fault, "is not whole, and passed for proved"
            self.require_same(cache, may_refuse=True)
            raise
        prove_cache(self.path)
        self.require_same(cache, may_refuse=False)
        return "taken as it was"

    def require_same(self, cache: Cache, may_refuse: bool) -> None:
        """Raises AssertionError for a split with other numbers, or a refused one where none may be refused."""
        assert cache.attributes["identity"] == self.cache.attributes["identity"]
        for side, written in self.sides.items():
            try:
                found = cache.split(side)
            except FlowlabError:
                assert may_refuse, "a whole cache that cannot be read"
                continue
            assert _bits(found) == _bits(written), f"{side} holds other numbers"


def _bits(split: ResidentSplit) -> dict[str, bytes]:
    tensors = {name: getattr(split, name) for name in TENSORS} | split.condition
    found = {name: value.contiguous().view(torch.uint8).numpy().tobytes() for name, value in tensors.items()}
    found |= {f"shape of {name}": repr((value.shape, value.dtype)).encode() for name, value in tensors.items()}
    return found | {"drive_ids": json.dumps(split.drive_ids).encode()}


def run(count: int, seed: int) -> mutate.Tally:
    tally = mutate.Tally()
    with tempfile.TemporaryDirectory() as folder:
        written = Written(Path(folder))
        for number in range(count):
            with written.changed(random.Random(f"{seed} {number}")):
                tally.attempt(f"seed {seed} {number}", written.look)
        tally.attempt("put back", written.look)
    return tally


if __name__ == "__main__":
    mutate.main(run, 1000)
