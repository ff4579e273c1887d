from pathlib import Path

import pytest

from flowlab.core.digest import digest_bytes
from flowlab.core.plugin_code import source_digest

NAME = "plug_in:Mine"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def changes(project: Path, plug_in: str, edited: str, files: dict[str, str], name: str = NAME) -> bool:
    """Whether the digest of a plug-in with this text changes with the file `edited`."""
    for path, text in {"plug_in.py": plug_in, **files}.items():
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text(text)
    before = source_digest("objectives", name)
    assert before
    (project / edited).write_text("X = 2")
    return source_digest("objectives", name) != before


def test_one_file_alone_is_its_bytes(project: Path):
    (project / "plug_in.py").write_text("import json\nimport torch\n")
    assert source_digest("objectives", NAME) == digest_bytes(b"import json\nimport torch\n")


@pytest.mark.parametrize(
    "line",
    [
        "import helper",
        "from helper import X",
        "def later():\n    import helper",
        "import importlib\nhelper = importlib.import_module('helper')",
        "import between",
    ],
)
def test_a_helper_is_part_of_it_however_it_is_imported(project: Path, line: str):
    assert changes(project, line, "helper.py", {"helper.py": "X = 1", "between.py": "import helper"})


@pytest.mark.parametrize("edited", ["pack/__init__.py", "pack/inner/__init__.py", "pack/inner/sums.py", "pack/more.py"])
def test_packages_and_relative_imports_are_followed(project: Path, edited: str):
    files = {
        "pack/__init__.py": "",
        "pack/mine.py": "from .inner import sums",
        "pack/inner/__init__.py": "",
        "pack/inner/sums.py": "from ..more import X",
        "pack/more.py": "X = 1",
    }
    assert changes(project, "", edited, files, "pack.mine:Mine")


def test_what_it_does_not_import_is_no_part_of_it(project: Path):
    assert not changes(project, "import helper", "other.py", {"helper.py": "", "other.py": ""})


def test_of_an_installed_plug_in_its_own_package_alone(project: Path, monkeypatch: pytest.MonkeyPatch):
    place = project / "site-packages"
    place.mkdir()
    monkeypatch.syspath_prepend(place)
    files = {"site-packages/plug_one.py": "import neighbour", "site-packages/neighbour.py": ""}
    assert not changes(project, "", "site-packages/neighbour.py", files, "plug_one:Mine")


def test_a_circle_of_imports_and_broken_text_end(project: Path):
    assert changes(project, "import a", "b.py", {"a.py": "import b", "b.py": "import a"})
    (project / "plug_in.py").write_text("def (")
    assert source_digest("objectives", NAME) == digest_bytes(b"def (")


def test_flowlab_s_own_and_what_is_not_there_have_none():
    assert source_digest("objectives", "flow") == ""
    assert source_digest("objectives", "no_such_module_at_all:Mine") == ""
