"""Experiment databases for people who train small heads on big frozen encoders."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowlab.notebook.study import open_study as open_study

__all__ = ["open_study"]


def __getattr__(name: str) -> Any:
    """What notebooks ask for, imported once it is asked for: `import flowlab` itself brings nothing in."""
    if name in __all__:
        return getattr(import_module("flowlab.notebook.study"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
