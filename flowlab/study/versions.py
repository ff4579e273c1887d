"""Versions of the recipe: what the keys meant that an older file leaves out, and how a recipe is spelled to be named.

Version 2 is the published control. Version 1 was flowlab's own idea of it; what differed is here and in decision 0033.
"""

import copy
from collections.abc import Mapping
from typing import Any

from flowlab.core.errors import StudyError

NEWEST = 2
VERSIONS = (1, NEWEST)

BEFORE: dict[str, Any] = {
    "objective.delta_weighted": False,
    "objective.lds.cap_on": "multiple-of-mean",
    "objective.lds.edges": "mirror",
    "action_space.tails": "linear",
    "decoder.gate": "silu",
    "decoder.init": "xavier",
    "decoder.dropout_at": "residuals",
    "decoder.final_norm": True,
    "decoder.adaln_silu": True,
    "decoder.first_wave": 0,
    "decoder.logit_limit": 1e-4,
    "decoder.rotary_slots": False,
    "train.warmup_from_zero": False,
    "evaluation.clip": False,
}
"""By dotted key, what version 1 did where the file says nothing."""

ADDED: dict[str, Any] = {key: value for key, value in BEFORE.items() if key != "decoder.rotary_slots"} | {
    "action_space.relative_floor": 0.05,
    "train.keep_every": 0,
}
"""The keys that version 1 did not have, with the value that is the same as having none."""

PILOT_DRIVES = 30
"""What split.scale = "pilot" counts: train drives; in version 1 train and validation drives together."""


def take_version(tables: Mapping[str, Any]) -> tuple[int | None, dict[str, Any]]:
    """What control.version says, None where it says nothing, and the tables without it.

    Raises StudyError for a version that there is not.
    """
    control = tables.get("control")
    if not isinstance(control, dict) or "version" not in control:
        return None, dict(tables)
    version = control["version"]
    if isinstance(version, bool) or version not in VERSIONS:
        raise StudyError(
            f"control.version is {version!r}, and flowlab knows {', '.join(map(str, VERSIONS))}. "
            f"Write {NEWEST} for the published control."
        )
    return version, dict(tables) | {"control": {key: value for key, value in control.items() if key != "version"}}


def write_out(tables: Mapping[str, Any], version: int) -> dict[str, Any]:
    """The tables of an experiments.toml with what that version means by the keys that they leave out.

    Tables that are no tables are left to those who check them.
    """
    written = dict(tables)
    if version == NEWEST:
        return written
    control: Any = written.get("control", {})
    if isinstance(control, dict):
        for key, value in BEFORE.items():
            control = _with_default(control, key.split("."), value)
        written["control"] = control
    split = written.get("split")
    if isinstance(split, dict) and split.get("scale") == "pilot" and "num_train" not in split:
        val = split.get("val")
        num_val = len(val) if isinstance(val, list) else split.get("num_val")
        if isinstance(num_val, int):
            written["split"] = split | {"num_train": max(1, PILOT_DRIVES - num_val)}
    return written


def _with_default(table: dict[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    """A copy of nested tables with `value` at `path`, where nothing stands there yet."""
    first, *rest = path
    if not rest:
        return {first: value} | table
    inner = table.get(first, {})
    return table | {first: _with_default(inner, rest, value)} if isinstance(inner, dict) else table


def spell(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe's tables without those keys of version 2 that say what version 1 did without them.

    It is what digests are taken of, so a recipe keeps its name whichever version has written it.
    """
    spelled = copy.deepcopy(recipe)
    for key, value in ADDED.items():
        *path, last = key.split(".")
        place: Any = spelled
        for name in path:
            place = place.get(name, {})
        if last in place and place[last] == value:
            del place[last]
    return spelled
