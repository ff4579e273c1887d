"""Opens a cache and keeps its splits in memory: load once, index there, never read random rows from disk."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from numpy.typing import NDArray
from torch import Tensor

from flowlab.cache.identity import LAYOUT_VERSION, cache_id
from flowlab.cache.layout import check_sizes, chunk_files, is_plain
from flowlab.core.errors import CacheCorruptError, CacheLayoutError, CacheMismatchError, MissingError, unknown_name
from flowlab.core.types import ConditionSpec

READ_THREADS = 2
SIDES = ("train", "val")


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

    path: Path
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
    def horizon(self) -> int:
        return self.attributes["identity"]["windows"]["horizon"]

    def num_windows(self, side: str) -> int:
        return self.attributes["num_windows"][side]

    def split(
        self, side: str, device: torch.device | str = "cpu", variants: Sequence[str] | None = None
    ) -> ResidentSplit:
        """The windows of "train" or "val" on `device`, read with two threads straight into their tensors.

        Conditions are read in `variants` only, or in all that the cache has. Raises MissingError for one it has not.
        """
        if side not in SIDES:
            raise unknown_name("side of the split", side, SIDES)
        for variant in variants or ():
            if variant not in self.variants:
                raise MissingError(
                    f"cache {self.cache_id} holds no variant {variant!r}. Add it to cache.variants: flowlab cache build"
                )
        chosen = self.variants if variants is None else variants
        group = zarr.open_group(self.path, path=side, mode="r")

        def load(name: str) -> Tensor:
            array = group[name]
            assert isinstance(array, zarr.Array)
            return torch.from_numpy(read_array(self.path, array)).to(device)

        has_waypoints = "waypoints" in group
        return ResidentSplit(
            condition={variant: load(f"condition/{variant}") for variant in chosen},
            action=load("action"),
            history_action=load("history_action"),
            speed_mps=load("speed_mps"),
            frame_index=load("frame_index"),
            time_us=load("time_us"),
            drive=load("drive"),
            waypoints=load("waypoints") if has_waypoints else None,
            drive_ids=tuple(self.attributes["identity"]["split"][side]),
        )


def read_array(store: Path, array: zarr.Array) -> NDArray:
    """The whole array. Plain ones are read chunk file by chunk file into place; any other layout goes through zarr."""
    if not is_plain(array):
        return np.asarray(array[:])
    out = np.empty(array.shape, array.dtype)
    check_sizes(store, array)

    def read(piece: tuple[Path, int, int]) -> None:
        path, first, num = piece
        with path.open("rb", buffering=0) as file:
            view = out[first : first + num].reshape(-1).view(np.uint8).data
            if file.readinto(view) != view.nbytes:
                raise CacheCorruptError(
                    f"cache {store.stem}: {path.relative_to(store)} ended early. Rebuild: flowlab cache build"
                )

    with ThreadPoolExecutor(READ_THREADS) as pool:
        list(pool.map(read, chunk_files(store, array)))
    return out


def open_cache(path: Path, expect_id: str | None = None, expect_spec: ConditionSpec | None = None) -> Cache:
    """The cache at `path`, once its identity and the size of every chunk file have been checked.

    Raises MissingError, CacheLayoutError, CacheMismatchError or CacheCorruptError, each with the next step.
    """
    if not path.is_dir():
        raise MissingError(f"there is no cache at {path}. Build it: flowlab cache build")
    cache, spec, layout = _read(path)
    attributes, found = cache.attributes, cache.cache_id
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
    for name in array_names(attributes):
        try:
            array = zarr.open_array(path, path=name, mode="r")
        except (OSError, ValueError, KeyError):
            raise CacheCorruptError(
                f"cache {found}: array {name} cannot be opened. Rebuild: flowlab cache build"
            ) from None
        side = name.split("/")[0]
        if array.shape[0] != cache.num_windows(side):
            raise CacheCorruptError(
                f"cache {found}: array {name} holds {array.shape[0]} windows, expected {cache.num_windows(side)}: it "
                f"is another cache's. Remove {path.name} and rebuild: flowlab cache build"
            )
        if is_plain(array):
            check_sizes(path, array)
    return cache


def has_old_layout(path: Path) -> bool:
    """Whether a cache is whole in its own terms, but of arrays that an earlier flowlab wrote."""
    try:
        return _read(path)[2] < LAYOUT_VERSION
    except CacheCorruptError:
        return False


def _read(path: Path) -> tuple[Cache, ConditionSpec, int]:
    """The cache at `path`, its spec and layout version. Raises CacheCorruptError unless it is what it says it is."""
    try:
        attributes = json.loads((path / "zarr.json").read_text())["attributes"]
        cache, identity = Cache(path, attributes), attributes["identity"]
        if cache_id(identity) != cache.cache_id:
            raise ValueError("its identity was edited")
        return cache, cache.spec, int(identity["layout"])
    except (OSError, ValueError, KeyError, TypeError):
        raise CacheCorruptError(
            f"{path} is not a cache of flowlab. Remove it and rebuild: flowlab cache build"
        ) from None


def array_names(attributes: dict[str, Any]) -> list[str]:
    """The arrays of a cache, from the paths of its chunk files."""
    return sorted({key.split("/c/")[0] for key in attributes["digests"]})
