"""Turns what pydantic found wrong into one clear sentence with the nearest valid name."""

import difflib
import re
import types
import typing
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a text in quotes",
    "tuple_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "finite_number": "a finite number",
    "greater_than": "more than {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "less than {lt}",
    "less_than_equal": "{le} or less",
    "multiple_of": "a multiple of {multiple_of}",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "string_too_short": "a text of at least {min_length} character",
    "string_too_long": "a text of at most {max_length} characters",
    "string_pattern_mismatch": "small letters and digits joined by hyphens, like delta-off",
    "literal_error": "{expected}",
}
"""By pydantic's error type; the words in braces are pydantic's own context of that type."""

LONGEST_SHOWN = 60


def sentence(error: ValidationError, model: type[BaseModel], given: dict[str, Any]) -> str:
    """The first problem in `error` as a sentence: which key, what it got, what was expected.

    An unknown key comes before all else: it is often why another one is missing.
    """
    problems = error.errors()
    problem = next((found for found in problems if found["type"] == "extra_forbidden"), problems[0])
    path = tuple(part for part in problem["loc"] if part != "[key]")
    if problem["type"] == "extra_forbidden":
        return _unknown_key(path, model, given)
    where = dotted(path)
    if problem["type"] == "missing":
        return f"the table [{where}] is missing." if len(path) == 1 else f"{where} is missing."
    got, context = problem["input"], problem.get("ctx", {})
    if problem["type"] == "value_error":
        return f"{where}: {context['error']}."
    context = {name: f"{bound:g}" if isinstance(bound, float) else bound for name, bound in context.items()}
    expected = EXPECTED[problem["type"]].format(**context) if problem["type"] in EXPECTED else str(problem["msg"])
    hint = nearest(str(got), re.findall(r"'([^']*)'", expected)) if problem["type"] == "literal_error" else ""
    if hint:
        return f"{where}: got {shown(got)}: {hint}Expected {expected}."
    return f"{where}: got {shown(got)}, expected {expected}."


def require_each_once(name: str, values: Sequence[object]) -> None:
    """Raises ValueError, as a validator does, for a list that names something twice."""
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{name} names {value} twice")


def dotted(path: Iterable[str | int]) -> str:
    """A place in the file: ("rules", "panel", "guardrails", 0) -> "rules.panel.guardrails[0]"."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def nearest(got: str, known: Iterable[str]) -> str:
    """ "did you mean 'x'? " for the nearest known name, or nothing."""
    near = difflib.get_close_matches(got, list(known), n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}? " if near else ""


def shown(value: Any) -> str:
    """A value as the file has it, and of what kind it is where that is not plain to see."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a table"
    text = repr(value) if isinstance(value, str | list) else str(value)
    text = text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
    return f"the text {text}" if isinstance(value, str) else text


def _unknown_key(path: tuple[str | int, ...], model: type[BaseModel], given: dict[str, Any]) -> str:
    *tables, key = path
    known = sorted(_model_at(model, tables, given).model_fields)
    where = f" in [{dotted(tables)}]" if tables else ""
    return f"unknown key {str(key)!r}{where}: {nearest(str(key), known)}Known: {', '.join(known)}."


def _model_at(model: type[BaseModel], tables: list[str | int], given: Any) -> type[BaseModel]:
    """The model of the table at `tables`, where pydantic has just found a key too many."""
    kind: Any = model
    for part in tables:
        given = given[part]
        kind = _chosen(_inside(kind, part), given)
    return kind


def _inside(kind: Any, part: str | int) -> Any:
    """The type at `part` of a model, of a table of tables or of a list."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind.model_fields[str(part)].annotation
    arguments = typing.get_args(kind)
    return arguments[1] if typing.get_origin(kind) is dict else arguments[0]


def _chosen(kind: Any, given: Any) -> Any:
    """`kind`, or of several models the first whose fixed words (drives.source, ...) are the ones given."""
    if typing.get_origin(kind) not in (typing.Union, types.UnionType):
        return kind
    options = [option for option in typing.get_args(kind) if option is not type(None)]
    return options[0] if len(options) == 1 else next(option for option in options if _fits(option, given))


def _fits(model: type[BaseModel], given: dict[str, Any]) -> bool:
    for name, field in model.model_fields.items():
        words = typing.get_args(field.annotation) if typing.get_origin(field.annotation) is typing.Literal else None
        if words is not None and given.get(name, field.default) not in words:
            return False
    return True
