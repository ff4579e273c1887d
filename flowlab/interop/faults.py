"""What of a file cannot be read: a few rows or runs are left out and counted, most of them are a refusal."""

import difflib
from collections.abc import Iterable
from pathlib import Path

from flowlab.core.errors import LedgerError, UnknownNameError, unknown_name
from flowlab.interop.cells import SHOWN_CHARS

KNOWN_NAMES = 12


class Faults:
    """What is wrong with `things`, such as "rows of a.csv", by kind. The first one of a kind is told in words."""

    def __init__(self, things: str) -> None:
        self._things = things
        self._found: dict[str, set[str | int | Path]] = {}
        self._first: dict[str, str] = {}

    def add(self, kind: str, which: str | int | Path, told: str) -> None:
        """One of the things has a fault of that kind; telling the same one again changes nothing."""
        self._found.setdefault(kind, set()).add(which)
        self._first.setdefault(kind, told)

    @property
    def having(self) -> set[str | int | Path]:
        """Which of the things have a fault of any kind."""
        return set().union(*self._found.values())

    def notes(self, total: int) -> list[str]:
        """A sentence a kind. Raises LedgerError if more than half of all `total` things have one kind of fault."""
        notes = []
        for kind, found in self._found.items():
            told = f"{len(found)} of {total} {self._things}"
            if 2 * len(found) > total:
                raise LedgerError(
                    f"{self._first[kind]} {told} are like that, so none is imported. Mend them in a copy."
                )
            notes.append(f"{told} left out: {self._first[kind]}".rstrip("."))
        return notes


def unknown(kind: str, got: str, known: Iterable[str], where: str) -> UnknownNameError:
    """`unknown_name` for names that others chose: of many the nearest and the first are told, and long ones are cut."""
    names = sorted({name if len(name) <= SHOWN_CHARS else f"{name[:SHOWN_CHARS]}..." for name in known})
    near = difflib.get_close_matches(got, names, n=1, cutoff=0.5)
    few = near + [name for name in names if name not in near][:KNOWN_NAMES]
    more = len(names) - len(few)
    error = unknown_name(kind, got, few, where)
    return error if more <= 0 else UnknownNameError(f"{str(error).removesuffix('.')}, and {more} more.")
