"""What a cache says of itself, in the attributes of its zarr.json: what they have to hold, and which arrays follow."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from flowlab.cache.identity import cache_id
from flowlab.cache.layout import ArrayLayout
from flowlab.core.digest import digest_json
from flowlab.core.errors import CacheCorruptError
from flowlab.core.stores import Place, store_at
from flowlab.core.types import NUM_WAYPOINTS, ConditionSpec

SIDES = ("train", "val")

MANIFEST = "zarr.json"
"""The file of a cache that has its attributes. It is written last: where it is, the cache is whole."""

Count = Annotated[int, Field(ge=1, le=2**40)]


class _Said(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


class _Spec(_Said):
    width: Count
    groups: list[Annotated[list[str | Count], Field(min_length=2, max_length=2)]]


class _Split(_Said):
    train: list[str]
    val: list[str]


class _Windows(_Said):
    history: Count
    horizon: Count


class _Identity(_Said):
    encoder: str
    spec: _Spec
    channels: Annotated[list[str], Field(min_length=1)]
    manifest: dict[str, str]
    split: _Split
    windows: _Windows
    variants: Annotated[list[str], Field(min_length=1)]
    layout: int


class _NumWindows(_Said, extra="forbid"):  # all of it is in the digest of the content
    train: Count
    val: Count


class Attributes(_Said):
    """The attributes of a cache. What is there beside these is part of the identity all the same."""

    cache_id: str
    identity: _Identity
    num_windows: _NumWindows
    dropped: dict[str, int]
    digests: dict[str, str]
    built_us: int


def read_attributes(path: Place) -> dict[str, Any]:
    """The attributes of the cache at `path`. Raises CacheCorruptError unless they are those of the cache they name."""
    try:
        attributes = json.loads(store_at(path).read(MANIFEST))["attributes"]
        Attributes.model_validate(attributes)
        if cache_id(attributes["identity"]) != attributes["cache_id"]:
            raise ValueError("its identity was edited")
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise CacheCorruptError(
            f"{path} is not a cache of flowlab. Remove it and rebuild: flowlab cache build"
        ) from None
    return attributes


def content_of(attributes: Mapping[str, Any]) -> str:
    """16 hex digits over all that a cache holds, as long as its chunk files have the digests that it names."""
    return digest_json({name: attributes[name] for name in ("digests", "dropped", "num_windows")})


def build_name(attributes: Mapping[str, Any]) -> str:
    """The cache, and when it was built (microseconds since 1970): one name, one content, for ever.

    Built once more, on another machine or with other libraries, a cache may differ in its last bits.
    """
    return f"{attributes['cache_id']}.zarr built {attributes['built_us']}"


def has_waypoints(attributes: Mapping[str, Any]) -> bool:
    """Whether the cache of these attributes holds waypoints: a digest of them tells."""
    return any(key.startswith("train/waypoints/") for key in attributes["digests"])


def array_layouts(
    identity: Mapping[str, Any], num_windows: Mapping[str, int], with_waypoints: bool
) -> list[ArrayLayout]:
    """The arrays that a cache of this identity consists of, with so many windows on each side."""
    spec, num_channels = ConditionSpec.from_json(identity["spec"]), len(identity["channels"])
    history, horizon = identity["windows"]["history"], identity["windows"]["horizon"]
    rows: dict[str, tuple[int, ...]] = {
        "drive": (),
        "action": (horizon, num_channels),
        "history_action": (history, num_channels),
        "speed_mps": (history,),
        "frame_index": (history,),
        "time_us": (history,),
    }
    if with_waypoints:
        rows["waypoints"] = (NUM_WAYPOINTS, 2)
    rows |= {f"condition/{variant}": (spec.num_tokens, spec.width) for variant in identity["variants"]}
    return [
        ArrayLayout(f"{side}/{name}", (num_windows[side], *shape)) for side in SIDES for name, shape in rows.items()
    ]
