"""Experiment databases for people who train small heads on big frozen encoders."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowlab.lab.export_folder import load_policy as load_policy
    from flowlab.notebook.study import open_study as open_study

__all__ = ["load_policy", "open_study"]
PLACES = {"load_policy": "flowlab.lab.export_folder", "open_study": "flowlab.notebook.study"}


def __getattr__(name: str) -> Any:
    """What notebooks ask for, imported once it is asked for: `import flowlab` itself brings nothing in."""
    if name in PLACES:
        return getattr(import_module(PLACES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
