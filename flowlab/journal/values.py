"""What the fields of a line may hold: each check gives the value back, or says in one sentence what is wrong with it.

Ledgers keep these sentences, and their chains prove them: a sentence stays as it is.
"""

import sys
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import PlainValidator, ValidationInfo
from pydantic_core import PydanticCustomError

from flowlab.core.digest import canonical_json
from flowlab.study.lever import flat_keys

MAX_WHOLE = 2**63 - 1
MAX_NUMBER = sys.float_info.max


class BadLine(ValueError):
    """A field of a line that is missing or of the wrong type."""


def as_text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise BadLine(f"{name} is {value!r}, expected a text")
    return value


def as_whole(value: Any, name: str) -> int:
    if type(value) is not int or abs(value) > MAX_WHOLE:
        raise BadLine(f"{name} is {value!r}, expected a whole number")
    return value


def as_number(value: Any, name: str) -> float:
    if type(value) not in (int, float) or not abs(value) <= MAX_NUMBER:
        raise BadLine(f"{name} is {value!r}, expected a finite number")
    return float(value)


def as_list(value: Any, name: str) -> list[Any]:
    """A list of its own. Writers may have a tuple; a journal has lists only."""
    if not isinstance(value, list | tuple):
        raise BadLine(f"{name} is {value!r}, expected a list")
    return list(value)


def as_texts(value: Any, name: str) -> list[str]:
    return [as_text(item, name) for item in as_list(value, name)]


def as_numbers(value: Any, name: str) -> list[float]:
    return [as_number(item, name) for item in as_list(value, name)]


def as_object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadLine(f"{name} is {value!r}, expected an object")
    return value


def as_table(value: Any, name: str) -> dict[str, Any]:
    """An object that is kept as one text. Raises ValueError if JSON cannot hold it: 1e999 is read as infinity."""
    canonical_json(as_object(value, name))
    return value


def as_settings(value: Any, name: str) -> dict[str, Any]:
    """An object that is kept leaf by leaf."""
    for _, leaf in flat_keys(as_object(value, name)):
        canonical_json(leaf)
    return value


def as_facts(value: Any, name: str) -> dict[str, Any]:
    """An object that is kept key by key."""
    for fact in as_object(value, name).values():
        canonical_json(fact)
    return value


def as_seconds(value: Any, name: str) -> dict[str, float]:
    return {phase: as_number(seconds, phase) for phase, seconds in as_object(value, name).items()}


def checked(check: Callable[[Any, str], Any], or_none: bool = False) -> PlainValidator:
    """`check` as pydantic wants it: called with the value and the field's name. `or_none`: the field may be missing."""

    def validate(value: Any, info: ValidationInfo) -> Any:
        if or_none and value is None:
            return None
        try:
            return check(value, str(info.field_name))
        except ValueError as error:
            raise fault(str(error)) from None

    return PlainValidator(validate)


def fault(sentence: str) -> PydanticCustomError:
    """What a validator raises. pydantic cannot carry every text: half a surrogate pair is one that it refuses."""
    return PydanticCustomError("fault", "a fault", {"error": BadLine(sentence)})


Text = Annotated[str, checked(as_text)]
Texts = Annotated[list[str], checked(as_texts)]
Whole = Annotated[int, checked(as_whole)]
Number = Annotated[float, checked(as_number)]
Matrix = Annotated[
    list[list[float]], checked(lambda value, name: [as_numbers(row, name) for row in as_list(value, name)])
]
Object = Annotated[dict[str, Any], checked(as_object)]
Table = Annotated[dict[str, Any], checked(as_table)]
Settings = Annotated[dict[str, Any], checked(as_settings)]
Facts = Annotated[dict[str, Any], checked(as_facts)]
Seconds = Annotated[dict[str, float], checked(as_seconds)]

TextOrNone = Annotated[str | None, checked(as_text, or_none=True)]
WholeOrNone = Annotated[int | None, checked(as_whole, or_none=True)]
NumberOrNone = Annotated[float | None, checked(as_number, or_none=True)]
ObjectOrNone = Annotated[dict[str, Any] | None, checked(as_object, or_none=True)]
TableOrNone = Annotated[dict[str, Any] | None, checked(as_table, or_none=True)]
