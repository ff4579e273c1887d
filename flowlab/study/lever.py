"""Levers: one named change to the control recipe."""

from typing import Any

from pydantic import ValidationError

from flowlab.core.errors import StudyError, unknown_name
from flowlab.study.problems import sentence
from flowlab.study.recipe import Recipe


def pull(name: str, control: Recipe, changes: dict[str, Any]) -> Recipe:
    """The control recipe with `changes` made: {"objective.delta_weight": 0.0}.

    Raises UnknownNameError for a key that no recipe has and StudyError for a value of the wrong type, or one that the control
    has already: such a lever would change nothing that it names.
    """
    settings = control.to_json()
    known = dict(flat_keys(settings))
    for key, value in changes.items():
        *tables, last = key.split(".")
        place = settings
        for table in tables:
            place = place.get(table) if isinstance(place, dict) else None  # type: ignore[assignment]
        if not isinstance(place, dict) or last not in place:
            raise unknown_name(f"key in levers.{name}.set", key, known)
        place[last] = value
    try:
        recipe = Recipe.model_validate(settings)
    except ValidationError as error:
        raise StudyError(f"levers.{name}: {sentence(error, Recipe, settings)}") from None
    before, after = dict(flat_keys(control.to_json())), dict(flat_keys(recipe.to_json()))
    for key, value in changes.items():
        inside = [k for k in before.keys() | after.keys() if k == key or k.startswith(f"{key}.")]
        if all(before.get(k) == after.get(k) for k in inside):
            raise StudyError(
                f"levers.{name} sets {key} = {value!r}, which the control has already: it changes nothing. "
                f"Give another value, or an empty set for a placebo."
            )
    return recipe


def flat_keys(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Every leaf of nested tables as (dotted key, value)."""
    pairs: list[tuple[str, Any]] = []
    for key, value in settings.items():
        pairs += flat_keys(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]
    return pairs


def changed_keys(control: Recipe, recipe: Recipe) -> list[str]:
    """The dotted keys in which two recipes differ, sorted."""
    before, after = dict(flat_keys(control.to_json())), dict(flat_keys(recipe.to_json()))
    return sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
