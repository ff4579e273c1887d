"""Checked access to what a journal line says, so that whatever passes can be inserted."""

import sys
from typing import Any

MAX_WHOLE = 2**63 - 1
MAX_NUMBER = sys.float_info.max


class BadLine(ValueError):
    """A field of a line that is missing or of the wrong type."""


class Fields:
    """Checked access to the fields of one line."""

    def __init__(self, fields: Any) -> None:
        if not isinstance(fields, dict):
            raise BadLine(f"got {fields!r}, expected an object")
        self._fields: dict[str, Any] = fields

    def text(self, name: str) -> str:
        return as_text(self._fields.get(name), name)

    def has(self, name: str) -> bool:
        """Whether the field is there and not null: lines of earlier versions lack some."""
        return self._fields.get(name) is not None

    def whole(self, name: str) -> int:
        return as_whole(self._fields.get(name), name)

    def number(self, name: str) -> float:
        return as_number(self._fields.get(name), name)

    def table(self, name: str) -> dict[str, Any]:
        value = self._fields.get(name)
        if not isinstance(value, dict):
            raise BadLine(f"{name} is {value!r}, expected an object")
        return value

    def items(self, name: str) -> list[Any]:
        value = self._fields.get(name)
        if not isinstance(value, list):
            raise BadLine(f"{name} is {value!r}, expected a list")
        return value

    def texts(self, name: str) -> list[str]:
        return [as_text(item, name) for item in self.items(name)]


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
