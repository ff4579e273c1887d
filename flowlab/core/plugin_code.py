"""The source code that a plug-in consists of: its module, and the modules of its own project that these import.

Nothing is imported to know that: modules are found by name below the folder where the plug-in lies, and their imports
are read from their text. What a plug-in imports from elsewhere, or reads from files of its own, is no part of it.
"""

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from flowlab.core.digest import digest_bytes, digest_json
from flowlab.core.plugins import TABLE, locate

INSTALLED = ("site-packages", "dist-packages")
SUFFIXES = (".py", ".so", ".pyd")


def source_digest(kind: str, name: str) -> str:
    """16 hex digits over the code of the plug-in `name`; "" for flowlab's own, and where there is no such file.

    A run's identity holds it, so that an edited plug-in, or an edited helper of one, makes another run.
    """
    if name in TABLE[kind]:
        return ""
    module = locate(kind, name).partition(":")[0]
    try:
        top = importlib.util.find_spec(module.partition(".")[0])
    except (ImportError, ValueError):
        return ""
    found = _own_modules(module, top.origin or "", list(top.submodule_search_locations or ())) if top else {}
    if module not in found:
        return ""
    digests = {own: digest_bytes(path.read_bytes()) for own, path in found.items()}
    return digests[module] if len(digests) == 1 else digest_json(digests)


def _own_modules(module: str, origin: str, packages: list[str]) -> dict[str, Path]:
    """The file of each module that `module` and what it imports consists of, by its name.

    They lie beside the plug-in's top module or package, at `origin` or in `packages`; of an installed one they are that
    module or package alone.
    """
    places = [Path(folder).parent for folder in packages] or [Path(origin).parent]
    only = module.partition(".")[0] if any(part in INSTALLED for place in places for part in place.parts) else ""
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        parents = [name.rsplit(".", cut)[0] for cut in range(1, name.count(".") + 1)]
        for own in (name, *parents):  # a package's own __init__ runs before its modules
            top = own.partition(".")[0]
            is_other = own in found or top == "flowlab" or (only and top != only)
            path = None if is_other else _file_of(own, places)
            if path is not None:
                found[own] = path
                waiting += _imports(own, path)
    return found


def _file_of(module: str, places: list[Path]) -> Path | None:
    for place in places:
        path = place.joinpath(*module.split("."))
        candidates = [path / "__init__.py", *(path.with_name(f"{path.name}{suffix}") for suffix in SUFFIXES)]
        candidates += sorted(path.parent.glob(f"{path.name}.*.so")) if path.parent.is_dir() else []
        for candidate in candidates:
            if candidate.is_file():
                return candidate
    return None


def _imports(module: str, path: Path) -> list[str]:
    """The names of modules that the text at `path` may import: more of them than there are is no harm."""
    if path.suffix != ".py":
        return []
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return []  # whoever imports it is told
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return [name for node in ast.walk(tree) for name in _named(node, package) if all(name.split("."))]


def _named(node: ast.AST, package: str) -> Iterator[str]:
    """The modules that one statement or call names."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        base = ".".join([*above, *([node.module] if node.module else [])])
        yield base
        yield from (f"{base}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
            yield node.args[0].value
