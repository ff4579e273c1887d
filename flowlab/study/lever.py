"""Levers: one named change to the control's setup."""

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ValidationError

from flowlab.core.errors import StudyError, unknown_name
from flowlab.study.problems import sentence, shown
from flowlab.study.recipe import Recipe
from flowlab.study.settings import Inputs, LeverSettings, drives_model, encoder_model
from flowlab.study.setup import Setup
from flowlab.study.split import BlockSettings, PerStratum
from flowlab.study.unused import why_unused

OPEN_TABLES = (
    "objective.lds.channel_alpha",
    "objective.options",
    "decoder.options",
    "drives.options",
    "encoder.options",
)
"""Tables of a setup whose keys are not fixed: channels, and the options of plug-ins."""

FIXED = {
    "evaluation": "a lever and its control must be evaluated in one way to be compared. Change control.{key} instead",
    "windows.horizon": "the chunk is what all runs predict. Change decoder.horizon, or windows.horizon of the study",
    "split.val": "every run is scored on the control's validation frames. Leave it out",
    "split.num_val": "every run is scored on the control's validation frames. Leave it out",
    "split.val_per": "every run is scored on the control's validation frames. Leave it out",
    "split.blocks": "other blocks are other validation frames, and every run is scored on the control's. Leave it out",
    "split.scale": "every run is scored on the control's validation frames. Leave 'overfit' out",
}
"""Keys (or tables) that no lever may set, and why. split.scale: only where it is, or would be, 'overfit'."""


ABSENT_TABLES: dict[str, type[BaseModel]] = {
    "split.val_per": PerStratum,
    "split.train_per": PerStratum,
    "split.blocks": BlockSettings,
}
"""Tables that a setup need not have."""


def pull(name: str, control: Setup, lever: LeverSettings) -> Setup:
    """The control's setup with the lever's changes made: {"objective.delta_weight": 0.0}, or the same as nested tables.

    Raises UnknownNameError for a key that no setup has and StudyError for a value of the wrong type, for one that
    nothing looks at, and for a key that a lever may not set. A value that the control has already is no error (the base
    may have moved): `idle_keys` names those.
    """
    settings = control.to_json()
    leaves = flat_keys(lever.set)
    _begin_anew(settings, dict(leaves))
    for position, (key, value) in enumerate(leaves):
        if key in [earlier for earlier, _ in leaves[:position]]:
            raise StudyError(f"levers.{name} sets {key} twice. Keep one of them.")
        _put(settings, key, value, name)
        _require_settable(name, key, control, value)
    recipe = _checked(name, Recipe, settings)
    inputs = _checked(name, Inputs, settings)
    unused = why_unused(recipe, [key for key, _ in leaves], inputs.windows.horizon)
    if unused is not None:
        raise StudyError(f"levers.{name} sets {unused[0]}, which does nothing here: {unused[1]}. Leave it out.")
    return Setup(recipe=recipe, inputs=inputs, stats=lever.stats)


def _begin_anew(settings: dict[str, Any], changes: dict[str, Any]) -> None:
    """Where the lever takes another source of drives or kind of encoder, that table has the keys of the new one; one
    that was not there and is given some keys has them all.
    """
    by_word: dict[str, tuple[str, Callable[[dict[str, Any]], type[BaseModel]]]] = {
        "drives": ("source", drives_model),
        "encoder": ("kind", encoder_model),
    }
    for table, (word, model_of) in by_word.items():
        given = changes.get(f"{table}.{word}")
        if isinstance(given, str) and given != settings[table][word]:
            settings[table] = _keys_of(model_of({word: given}))
    for key, model in ABSENT_TABLES.items():
        table, name = key.split(".")
        if settings[table][name] is None and any(given.startswith(f"{key}.") for given in changes):
            settings[table][name] = _keys_of(model)


def _keys_of(model: type[BaseModel]) -> dict[str, Any]:
    """The keys of a table with their defaults; None for one that has to be given."""
    return {name: None if of.is_required() else of.get_default() for name, of in model.model_fields.items()}


def idle_keys(control: Setup, setup: Setup, lever: LeverSettings) -> list[str]:
    """The keys that the lever sets to what the control has already."""
    changed = changed_keys(control, setup)
    return [
        key
        for key, _ in flat_keys(lever.set)
        if not any(found == key or found.startswith(f"{key}.") for found in changed)
    ]


TWIN = 1e-6
"""The share by which a number has to change to be another one, for people."""


def twin_keys(control: Setup, setup: Setup) -> list[str]:
    """The changed keys, if all that the lever changes are numbers, and none by more than a millionth of itself."""
    before, after = (dict(flat_keys(of.to_json())) for of in (control, setup))
    keys = changed_keys(control, setup)
    pairs = [(before.get(key), after.get(key)) for key in keys]
    return keys if all(isinstance(a, float) and isinstance(b, float) and _is_near(a, b) for a, b in pairs) else []


def _is_near(one: float, other: float) -> bool:
    return abs(one - other) < TWIN * max(abs(one), abs(other))


def _checked(name: str, model: type[BaseModel], settings: dict[str, Any]) -> Any:
    """The part of `settings` that `model` is about, as that model."""
    part = {table: settings[table] for table in model.model_fields}
    try:
        return model.model_validate(part)
    except ValidationError as error:
        raise StudyError(f"levers.{name} sets {sentence(error, model, part)}") from None


def _require_settable(name: str, key: str, control: Setup, value: Any) -> None:
    """Raises StudyError for a key that no lever may set."""
    if key == "split.scale" and "overfit" not in (value, control.inputs.split.scale):
        return
    for fixed, why in FIXED.items():
        if key == fixed or key.startswith(f"{fixed}."):
            raise StudyError(f"levers.{name} sets {key}: {why.format(key=key)}.")


def _put(settings: dict[str, Any], key: str, value: Any, lever: str) -> None:
    """Put `value` at the dotted `key`, which must be there, or below a table whose keys are not fixed."""
    *tables, last = key.split(".")
    is_open = any(key.startswith(f"{table}.") for table in OPEN_TABLES)
    place: Any = settings
    for table in tables:
        if is_open and isinstance(place, dict):
            place.setdefault(table, {})
        place = place.get(table) if isinstance(place, dict) else None
    if not isinstance(place, dict) or (last not in place and not is_open):
        raise unknown_name("key", key, dict(flat_keys(settings)), f"levers.{lever}.set")
    if isinstance(place.get(last), dict) and key not in OPEN_TABLES and not is_open:
        inside = ", ".join(f"{key}.{leaf}" for leaf, _ in flat_keys(place[last]))
        raise StudyError(
            f"levers.{lever} sets {key} to {shown(value)}, but {key} is a table. Set a key in it: {inside}."
        )
    place[last] = value


def flat_keys(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Every leaf of nested tables as (dotted key, value). An empty table is a leaf."""
    pairs: list[tuple[str, Any]] = []
    for key, value in settings.items():
        nested = isinstance(value, dict) and value
        pairs += flat_keys(value, f"{prefix}{key}.") if nested else [(f"{prefix}{key}", value)]
    return pairs


def changed_keys(control: Setup, setup: Setup) -> list[str]:
    """The dotted keys in which two setups differ, sorted. An open table that is empty in one of them is no key."""
    before, after = (dict(flat_keys(of.to_json())) for of in (control, setup))
    keys = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    return sorted(key for key in keys if before.get(key) != {} and after.get(key) != {})
