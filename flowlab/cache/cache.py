"""Opens a cache and keeps its splits in memory: load once, index there, never read random rows from disk."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowlab.cache.aligned import empty_aligned
from flowlab.cache.attributes import SIDES, array_layouts, has_waypoints, read_attributes
from flowlab.cache.identity import LAYOUT_VERSION
from flowlab.cache.layout import ArrayLayout, Chunk
from flowlab.cache.places import is_there
from flowlab.core.digest import has_digest
from flowlab.core.errors import CacheCorruptError, CacheLayoutError, CacheMismatchError, MissingError, unknown_name
from flowlab.core.stores import Place, store_at
from flowlab.core.types import ConditionSpec


@dataclass(frozen=True)
class ResidentSplit:
    """One side of the split, in memory. N windows."""

    condition: dict[str, Tensor]  # variant -> (N, S, D) float16
    action: Tensor  # (N, H, A) float32 raw
    history_action: Tensor  # (N, T, A) float32 raw, the last one is now
    speed_mps: Tensor  # (N, T) float32
    frame_index: Tensor  # (N, T) int64
    time_us: Tensor  # (N, T) int64
    drive: Tensor  # (N,) int64, positions in drive_ids
    waypoints: Tensor | None  # (N, 10, 2) float32 metres
    drive_ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.action)


@dataclass(frozen=True)
class Cache:
    """An opened cache. Nothing is read before `split` asks for it."""

    path: Place
    attributes: dict[str, Any]

    @property
    def cache_id(self) -> str:
        return self.attributes["cache_id"]

    @property
    def spec(self) -> ConditionSpec:
        return ConditionSpec.from_json(self.attributes["identity"]["spec"])

    @property
    def channels(self) -> tuple[str, ...]:
        return tuple(self.attributes["identity"]["channels"])

    @property
    def variants(self) -> tuple[str, ...]:
        return tuple(self.attributes["identity"]["variants"])

    @property
    def layouts(self) -> dict[str, ArrayLayout]:
        """Its arrays by their paths, "train/action"."""
        identity, num_windows = self.attributes["identity"], self.attributes["num_windows"]
        found = array_layouts(identity, num_windows, has_waypoints(self.attributes))
        return {layout.name: layout for layout in found}

    @property
    def horizon(self) -> int:
        return self.attributes["identity"]["windows"]["horizon"]

    def num_windows(self, side: str) -> int:
        return self.attributes["num_windows"][side]

    def split(
        self, side: str, device: torch.device | str = "cpu", variants: Sequence[str] | None = None
    ) -> ResidentSplit:
        """The windows of "train" or "val" on `device`, read in parallel straight into their tensors.

        Conditions are read in `variants` only, or in all that the cache has. Raises MissingError for one it has not.
        """
        if side not in SIDES:
            raise unknown_name("side of the split", side, SIDES)
        chosen = self.variants if variants is None else variants
        layouts = self.layouts

        def load(name: str) -> Tensor:
            return self._load(layouts[f"{side}/{name}"], device)

        return ResidentSplit(
            condition={variant: self.condition(side, variant, device) for variant in chosen},
            action=load("action"),
            history_action=load("history_action"),
            speed_mps=load("speed_mps"),
            frame_index=load("frame_index"),
            time_us=load("time_us"),
            drive=load("drive"),
            waypoints=load("waypoints") if f"{side}/waypoints" in layouts else None,
            drive_ids=tuple(self.attributes["identity"]["split"][side]),
        )

    def condition(self, side: str, variant: str, device: torch.device | str = "cpu") -> Tensor:
        """The conditions (N, S, D) of one variant on `device`, float16. Raises MissingError for one it has not."""
        return self._load(self.condition_layout(side, variant), device)

    def condition_layout(self, side: str, variant: str) -> ArrayLayout:
        """How those conditions lie on disk. Raises MissingError for a variant that the cache has not."""
        if variant not in self.variants:
            raise MissingError(
                f"cache {self.cache_id} holds no variant {variant!r}. Add it to cache.variants: flowlab cache build"
            )
        return self.layouts[f"{side}/condition/{variant}"]

    def _load(self, layout: ArrayLayout, device: torch.device | str) -> Tensor:
        return torch.from_numpy(read_array(self.path, layout, self.attributes["digests"])).to(device)


def read_array(place: Place, layout: ArrayLayout, digests: Mapping[str, str]) -> NDArray:
    """The whole array, its chunk files read into place: by two threads from a disk, by more from an object store.

    What is handed out is what was written: each file's bytes are compared with its digest as they come in. Raises
    CacheCorruptError naming the first file that differs.
    """
    store, out = store_at(place), empty_aligned(layout.shape, layout.dtype)

    def read(chunk: Chunk) -> None:
        read_chunk(place, chunk, digests, out[chunk.first : chunk.first + chunk.num])

    with ThreadPoolExecutor(store.threads) as pool:
        list(pool.map(read, layout.chunks()))
    return out


def read_chunk(place: Place, chunk: Chunk, digests: Mapping[str, str], out: NDArray) -> None:
    """Read a chunk file's rows into `out`, and compare its bytes with its digest as they come in."""
    view = out.reshape(-1).view(np.uint8).data
    try:
        num, padding = store_at(place).read_into(chunk.key, view)
    except OSError as error:
        raise corrupt(place, f"{chunk.key} cannot be read: {why(error)}") from None
    if num != view.nbytes or not has_digest(digests.get(chunk.key), view, padding):
        raise corrupt(place, f"{chunk.key} is not what was written")


def why(error: OSError) -> str:
    """Why a file could not be read, in a few words."""
    return error.strerror or "it is missing"


def corrupt(place: Place, what: str) -> CacheCorruptError:
    """The error for a cache of which something is not as it was written."""
    return CacheCorruptError(f"cache {place.stem}: {what}. Build it anew: flowlab cache build")


def open_cache(path: Place, expect_id: str | None = None, expect_spec: ConditionSpec | None = None) -> Cache:
    """The cache at `path`, once its identity, its arrays and the size of every chunk file have been checked.

    Raises MissingError, CacheLayoutError, CacheMismatchError or CacheCorruptError, each with the next step.
    """
    if not is_there(path):
        raise MissingError(f"there is no cache at {path}. Build it: flowlab cache build")
    cache = Cache(path, read_attributes(path))
    found, spec, layout = cache.cache_id, cache.spec, cache.attributes["identity"]["layout"]
    if layout != LAYOUT_VERSION:
        raise CacheLayoutError(
            f"cache {found} has layout {layout}, and this flowlab reads layout {LAYOUT_VERSION}. Build the new one "
            f"beside it: flowlab cache build"
        )
    if expect_id is not None and found != expect_id:
        raise CacheMismatchError(
            f"cache {path.name} says that it is {found}; this recipe names {expect_id}. Rebuild: flowlab cache build"
        )
    if expect_spec is not None and spec != expect_spec:
        raise CacheMismatchError(
            f"cache {found} holds {spec}; this recipe expects {expect_spec}. Rebuild: flowlab cache build"
        )
    _require_digests(cache)
    for fault in store_at(path).each(lambda array: array.why_not(path), cache.layouts.values()):
        if fault:
            raise corrupt(path, fault)
    return cache


def has_old_layout(path: Place) -> bool:
    """Whether a cache is whole in its own terms, but of arrays that an earlier flowlab wrote."""
    try:
        return read_attributes(path)["identity"]["layout"] < LAYOUT_VERSION
    except CacheCorruptError:
        return False


def _require_digests(cache: Cache) -> None:
    """Raises CacheCorruptError unless there is a digest for every chunk file of its arrays, and for no other file."""
    layouts, digests = cache.layouts.values(), cache.attributes["digests"]
    num = sum(layout.num_chunks for layout in layouts)  # first: what an edited file says may be any number
    if num != len(digests) or any(chunk.key not in digests for layout in layouts for chunk in layout.chunks()):
        raise corrupt(cache.path, f"it names {len(digests)} chunk files, and its arrays have {num}")
