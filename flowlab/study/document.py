"""experiments.toml as text: what can go wrong before any key has a meaning."""

import math
import tomllib
from pathlib import Path
from typing import Any

from flowlab.core.errors import MissingError, StudyError
from flowlab.study.problems import dotted, shown

FILE_NAME = "experiments.toml"


def read_document(path: Path) -> dict[str, Any]:
    """The file as plain tables. Raises StudyError or MissingError in one sentence."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise MissingError(
            f"no {path.name} in {path.parent}. Start one: flowlab init {path.parent} --source carracing"
        ) from None
    except OSError as error:
        raise StudyError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        text = content.decode("utf-8-sig")  # Windows editors put a byte order mark in front
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start]
        raise StudyError(
            f"{path.name} is not UTF-8 text: byte 0x{byte:02x} in line {line}. Save it as UTF-8."
        ) from None
    return parse_document(text)


def parse_document(text: str) -> dict[str, Any]:
    """TOML as plain tables of texts, booleans, 64-bit integers, finite floats and lists. Raises StudyError."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StudyError(f"{FILE_NAME} is not valid TOML: {error}.") from None
    except ValueError:  # Python's own limit on the digits of an integer
        raise StudyError(f"{FILE_NAME} is not valid TOML: one of its integers has thousands of digits.") from None
    except RecursionError:
        raise StudyError(f"{FILE_NAME} is not valid TOML: its lists or tables are nested too deeply.") from None
    _require_plain(tables, ())
    return tables


def _require_plain(value: Any, path: tuple[str | int, ...]) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _require_plain(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _require_plain(item, (*path, index))
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise StudyError(f"{FILE_NAME}: {dotted(path)}: got {shown(value)}, expected an integer of 64 bits.")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise StudyError(f"{FILE_NAME}: {dotted(path)}: got {shown(value)}, expected a finite number.")
    elif not isinstance(value, str):
        raise StudyError(f"{FILE_NAME}: {dotted(path)}: got the date or time {value}, expected a text or a number.")
