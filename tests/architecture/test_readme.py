"""The README's map of the packages says what their docstrings say, in the order in which they import each other."""

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_map_has_the_first_line_of_each_packages_docstring() -> None:
    docstrings = {
        path.parent.name: (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()[0].removesuffix(".")
        for path in (ROOT / "flowlab").glob("*/__init__.py")
    }
    text = (ROOT / "README.md").read_text()
    section = text[text.index("## Where things are") : text.index("## Read on")]
    assert dict(re.findall(r"^    (\w+) +(.*)$", section, re.MULTILINE)) == docstrings


def test_the_map_stands_in_the_order_of_the_layers() -> None:
    text = (ROOT / "README.md").read_text()
    section = text[text.index("## Where things are") : text.index("## Read on")]
    shown = re.findall(r"^    (\w+) ", section, re.MULTILINE)
    (layers,) = [
        contract["layers"]
        for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
    ]
    assert shown == [name for layer in layers for name in layer.split(" | ")]
