"""Writes `study.stacked` into the text of an experiments.toml and leaves every other byte of it alone."""

import re

from flowlab.core.errors import StudyError
from flowlab.study.document import FILE_NAME, parse_document

TABLE = re.compile(r"^\[study\][ \t]*(#.*)?$", re.MULTILINE)
KEY = re.compile(r"^stacked[ \t]*=[ \t]*\[[^\]]*\][^\n]*$", re.MULTILINE)


def with_stacked(text: str, stacked: tuple[str, ...]) -> str:
    """`text` with these levers stacked. Raises StudyError for a file that is written in an unusual way."""
    names = ", ".join(f'"{lever}"' for lever in stacked)
    line = f"stacked = [{names}]  # by flowlab stack; do not edit"
    new = _edited(text, line)
    wanted = parse_document(text)
    wanted.setdefault("study", {})["stacked"] = list(stacked)
    if new is None or parse_document(new) != wanted:
        raise StudyError(f"{FILE_NAME}: the table [study] is written in an unusual way. Add this line to it: {line}")
    return new


def _edited(text: str, line: str) -> str | None:
    table = TABLE.search(text)
    if table is None:
        return None
    following = re.compile(r"^\[", re.MULTILINE).search(text, table.end())
    end = following.start() if following else len(text)
    old = KEY.search(text, table.end(), end)
    if old is not None:
        return text[: old.start()] + line + text[old.end() :]
    return f"{text[: table.end()]}\n{line}{text[table.end() :]}"
