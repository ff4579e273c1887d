"""Writes `study.stacked` into the text of an experiments.toml and leaves every other byte of it alone."""

import re

from flowlab.core.errors import StudyError
from flowlab.study.document import FILE_NAME, parse_document

MARK = "\ufeff"  # the byte order mark that Windows editors put in front
TABLE = re.compile(r"^\ufeff?\[study\][ \t]*(#[^\r\n]*)?(?=\r?$)", re.MULTILINE)
KEY = re.compile(r"^stacked[ \t]*=[ \t]*\[[^\]]*\][^\r\n]*(?=\r?$)", re.MULTILINE)


def with_stacked(text: str, stacked: tuple[str, ...]) -> str:
    """`text` with these levers stacked. Raises StudyError for a file that is written in an unusual way."""
    names = ", ".join(f'"{lever}"' for lever in stacked)
    line = f"stacked = [{names}]  # by flowlab stack; do not edit"
    new = _edited(text, line)
    wanted = parse_document(text.removeprefix(MARK))
    wanted["study"]["stacked"] = list(stacked)
    if new is None or _parsed(new) != wanted:
        raise StudyError(
            f"{FILE_NAME}: the table [study] is written in an unusual way, so nothing was stacked. Begin it with a "
            f"line [study] of its own, and give the command again."
        )
    return new


def _parsed(text: str) -> dict | None:
    try:
        return parse_document(text.removeprefix(MARK))
    except StudyError:
        return None


def _edited(text: str, line: str) -> str | None:
    table = TABLE.search(text)
    if table is None:
        return None
    following = re.compile(r"^\[", re.MULTILINE).search(text, table.end())
    end = following.start() if following else len(text)
    old = KEY.search(text, table.end(), end)
    if old is not None:
        return text[: old.start()] + line + text[old.end() :]
    newline = "\r\n" if text[table.end() : table.end() + 2] == "\r\n" else "\n"
    return f"{text[: table.end()]}{newline}{line}{text[table.end() :]}"
