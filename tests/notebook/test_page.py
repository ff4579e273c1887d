"""Every block of docs/python.md runs, in order, on a tiny trained study."""

import re
from pathlib import Path

import pytest

from flowlab.study.study import Study

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_page_runs(finished: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my-study").symlink_to(finished.root)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for number, block in enumerate(BLOCKS, 1):
        exec(compile(block, f"docs/python.md, block {number}", "exec"), names)
    assert len(BLOCKS) == 6
    assert names["spread"].shape == (names["num_frames"], 3)
    assert names["table"]["prediction"].dtype.shape == names["chunks"].shape[1:] == (6, 3)
    assert len(names["numbers"]) > 100


def test_the_page_tells_every_way_to_ask() -> None:
    from flowlab.notebook.study import OpenRun, OpenStudy

    for kind in (OpenStudy, OpenRun):
        for name in (name for name, value in vars(kind).items() if not name.startswith("_") and callable(value)):
            assert f".{name}(" in PAGE, name
