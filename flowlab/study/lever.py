"""Levers: one named change to the control recipe."""

from typing import Any

from pydantic import ValidationError

from flowlab.core.errors import StudyError, unknown_name
from flowlab.study.problems import sentence, shown
from flowlab.study.recipe import Recipe
from flowlab.study.unused import why_unused

OPEN_TABLES = ("objective.lds.channel_alpha", "objective.options", "decoder.options")
"""Tables of a recipe whose keys are not fixed: channels, and the options of plug-ins."""


def pull(name: str, control: Recipe, changes: dict[str, Any], slots: int | None = None) -> Recipe:
    """The control recipe with `changes` made: {"objective.delta_weight": 0.0}, or the same as nested tables.

    Raises UnknownNameError for a key that no recipe has and StudyError for a value of the wrong type, or one that the
    control has already, or that nothing looks at: such a lever would change nothing that it names. `slots`: how many a
    chunk of the study has, where that is known.
    """
    settings = control.to_json()
    leaves = flat_keys(changes)
    for position, (key, value) in enumerate(leaves):
        if key in [earlier for earlier, _ in leaves[:position]]:
            raise StudyError(f"levers.{name} sets {key} twice. Keep one of them.")
        _put(settings, key, value, name)
    try:
        recipe = Recipe.model_validate(settings)
    except ValidationError as error:
        raise StudyError(f"levers.{name} sets {sentence(error, Recipe, settings)}") from None
    unused = why_unused(recipe, [key for key, _ in leaves], slots)
    if unused is not None:
        raise StudyError(f"levers.{name} sets {unused[0]}, which does nothing here: {unused[1]}. Leave it out.")
    changed = changed_keys(control, recipe)
    for key, value in leaves:
        if not any(found == key or found.startswith(f"{key}.") for found in changed):
            raise StudyError(
                f"levers.{name} sets {key} to {shown(value)}, which the control has already: it changes nothing. "
                f"Give another value, or an empty set for a placebo."
            )
    return recipe


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


def changed_keys(control: Recipe, recipe: Recipe) -> list[str]:
    """The dotted keys in which two recipes differ, sorted. An open table that is empty in one of them is no key."""
    before, after = (dict(flat_keys(of.to_json())) for of in (control, recipe))
    keys = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    return sorted(key for key in keys if before.get(key) != {} and after.get(key) != {})
