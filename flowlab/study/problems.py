"""Turns what pydantic found wrong into one clear sentence with the nearest valid name."""

import difflib
import types
import typing
from typing import Any

from pydantic import BaseModel, ValidationError

EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a text in quotes",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "finite_number": "a finite number",
}


def sentence(error: ValidationError, model: type[BaseModel], given: Any) -> str:
    """The first problem in `error` as a sentence: which key, what it got, what was expected."""
    problem = error.errors()[0]
    path = tuple(part for part in problem["loc"] if part != "[key]")
    where = ".".join(str(part) for part in path)
    if problem["type"] == "extra_forbidden":
        return _unknown_key(path, model, given)
    if problem["type"] == "missing":
        return f"{where} is missing."
    if problem["type"] == "value_error":
        return f"{where + ': ' if where else ''}{str(problem['msg']).removeprefix('Value error, ')}."
    expected = EXPECTED.get(problem["type"])
    got = _shown(problem["input"])
    if expected is None:
        message = problem["msg"]
        return f"{where}: got {got}; {message[0].lower()}{message[1:]}."
    return f"{where}: got {got}, expected {expected}."


def _unknown_key(path: tuple, model: type[BaseModel], given: Any) -> str:
    *tables, key = path
    known = _known_keys(model, given, tables)
    near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
    table = ".".join(str(part) for part in tables)
    where = f" in [{table}]" if table else ""
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown key {str(key)!r}{where}: {hint}Known: {', '.join(known)}."


def _known_keys(model: type[BaseModel], given: Any, tables: list) -> list[str]:
    """The keys that the table at `tables` may have."""
    current: Any = model
    for part in tables:
        given = given.get(part) if isinstance(given, dict) else None
        current = _child(current, part, given)
        if current is None:
            return []
    return sorted(current.model_fields)


def _child(model: Any, part: Any, given: Any) -> Any:
    field = model.model_fields.get(part) if isinstance(model, type) and issubclass(model, BaseModel) else None
    annotation = field.annotation if field is not None else _item(model, part)
    if part == "drives" and isinstance(given, dict):
        from flowlab.study.settings import DRIVES_BY_SOURCE, PluginDrives  # settings -> recipe; here only to name keys

        return DRIVES_BY_SOURCE.get(str(given.get("source")), PluginDrives)
    for option in _options(annotation):
        if isinstance(option, type) and issubclass(option, BaseModel):
            kind = option.model_fields.get("kind")
            wanted = given.get("kind") if isinstance(given, dict) else None
            if wanted is None or kind is None or wanted == kind.default:
                return option
    return annotation


def _item(container: Any, part: Any) -> Any:
    """The type of an item of `dict[str, X]` or `tuple[X, ...]`."""
    del part
    arguments = typing.get_args(container)
    for option in _options(container):
        if typing.get_origin(option) is dict:
            return typing.get_args(option)[1]
        if typing.get_origin(option) in (tuple, list):
            return typing.get_args(option)[0]
    return arguments[0] if arguments else None


def _options(annotation: Any) -> tuple:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _shown(value: Any) -> str:
    return f"{value!r} ({type(value).__name__})" if isinstance(value, str | bool) else repr(value)
