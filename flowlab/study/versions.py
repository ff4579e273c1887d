"""Versions of the recipe: what the keys meant that an older file leaves out, and how a recipe is spelled to be named.

Version 2 is the published control. Version 1 was flowlab's own idea of it; what differed is here and in decision 0033.
"""

import copy
from collections.abc import Mapping
from typing import Any

from flowlab.core.errors import StudyError
from flowlab.study.document import FILE_NAME
from flowlab.study.problems import shown

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
    "evaluation.precision": "float32",
}
"""The keys that version 1 did not have, with the value that is the same as having none."""

ADDED_SINCE: dict[str, Any] = {
    "train.shuffle": "rows",
    "train.arithmetic": "float32",
    "evaluation.arithmetic": "float32",
}
"""Keys that recipes of version 2 did not always have, with the value that is the same as having none."""

ADDED_TO_INPUTS: dict[str, Any] = {
    "drives.max_fault_share": 0.02,
    "split.blocks": None,
    "split.val_per": None,
    "split.train_per": None,
}
"""Keys that inputs did not always have: at these values they change nothing that is in a cache."""

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
    if type(version) is not int or version not in VERSIONS:
        raise StudyError(
            f"{FILE_NAME}: control.version: got {shown(version)}, expected the number "
            f"{' or '.join(map(str, VERSIONS))}. Write {NEWEST} for the published control, 1 for the one before it."
        )
    return version, dict(tables) | {"control": {key: value for key, value in control.items() if key != "version"}}


def write_out(tables: Mapping[str, Any], version: int) -> dict[str, Any]:
    """The tables of an experiments.toml with what that version means by the keys that they leave out.

    Tables that are no tables are left to those who check them.
    """
    written = dict(tables)
    if version == NEWEST:
        return written
    control, split, levers = (written.get(name, {}) for name in ("control", "split", "levers"))
    if isinstance(control, dict):
        written["control"] = fill_in(control, BEFORE)
    num_train = pilot_of_before(split) if isinstance(split, dict) else None
    if num_train is None:
        return written
    if split.get("scale") == "pilot":
        written["split"] = {"num_train": num_train} | split
    if isinstance(levers, dict):
        written["levers"] = {name: _counted_as_before(lever, num_train) for name, lever in levers.items()}
    return written


def fill_in(recipe: dict[str, Any], missing: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a recipe's tables with those values, by dotted key, wherever they say nothing of their own."""
    for key, value in missing.items():
        recipe = _with_default(recipe, key.split("."), value)
    return recipe


def is_before(recipe: dict[str, Any]) -> bool:
    """Whether a recorded recipe is of version 1, which did not have the keys of `ADDED`."""
    return fill_in(recipe, ADDED) != recipe


def read_recorded(recipe: dict[str, Any]) -> dict[str, Any]:
    """The tables of a recorded recipe, with what it did by the keys that it lacks."""
    return fill_in(recipe, BEFORE | ADDED) if is_before(recipe) else recipe


def _with_default(table: dict[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    """A copy of nested tables with `value` at `path`, where nothing stands there yet."""
    first, *rest = path
    if not rest:
        return {first: value} | table
    inner = table.get(first, {})
    return table | {first: _with_default(inner, rest, value)} if isinstance(inner, dict) else table


def pilot_of_before(split: Mapping[str, Any]) -> int | None:
    """How many drives trained at scale "pilot" in version 1, given the rest of [split]; None where that is no split."""
    val = split.get("val")
    num_val = len(val) if isinstance(val, list | tuple) else split.get("num_val")
    return max(1, PILOT_DRIVES - num_val) if isinstance(num_val, int) else None


def _counted_as_before(lever: Any, num_train: int) -> Any:
    """A lever that sets split.scale, and so says how many drives train, with the number that version 1 meant."""
    changes = lever.get("set") if isinstance(lever, dict) else None
    if not isinstance(changes, dict):
        return lever
    nested = changes.get("split")
    inside = {f"split.{key}": value for key, value in nested.items()} if isinstance(nested, dict) else {}
    given = changes | inside
    if "split.scale" not in given or "split.num_train" in given:
        return lever
    counted = num_train if given["split.scale"] == "pilot" else None
    return lever | {"set": changes | {"split.num_train": counted}}


def spell(settings: dict[str, Any]) -> dict[str, Any]:
    """The tables of a recipe or of inputs, without those keys that say what was done before there were such.

    It is what digests are taken of, so that a recipe, and a cache, keep their names whichever version has written them.
    """
    spelled = copy.deepcopy(settings)
    for key, value in (ADDED | ADDED_SINCE | ADDED_TO_INPUTS).items():
        *path, last = key.split(".")
        place: Any = spelled
        for name in path:
            place = place.get(name, {})
        if last in place and place[last] == value:
            del place[last]
    split = spelled.get("split", {})
    before = pilot_of_before(split) if split.get("scale") == "pilot" else None
    if "num_train" in split and split["num_train"] == before:
        del split["num_train"]
    return spelled
