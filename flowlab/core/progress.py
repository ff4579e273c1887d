"""How long work tells that it moves, without knowing who looks. The CLI hands in a bar; tests and workers nothing."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One piece of work under way."""

    def advance(self, count: int = 1) -> None:
        """`count` more units are done."""


class Progress(Protocol):
    """Opens tasks and passes messages on."""

    def task(self, what: str, total: int, unit: str) -> AbstractContextManager[Task]:
        """A context manager that yields a Task of `total` units named `unit` ("frames", "steps")."""

    def under_way(self, what: str) -> AbstractContextManager[None]:
        """A context manager around what nobody can count ("load the cache"): it is named while it lasts."""

    def say(self, message: str) -> None:
        """One line for the person who waits."""


class _SilentTask:
    def advance(self, count: int = 1) -> None:
        del count


class Silent:
    """Progress that nobody sees."""

    @contextmanager
    def task(self, what: str, total: int, unit: str) -> Iterator[Task]:
        del what, total, unit
        yield _SilentTask()

    @contextmanager
    def under_way(self, what: str) -> Iterator[None]:
        del what
        yield

    def say(self, message: str) -> None:
        del message


SILENT = Silent()
