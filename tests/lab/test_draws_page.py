"""docs/draws.md: its code brings a run's draws back to raw, and their error is the one on record."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowlab.lab.banks import raw_draws
from flowlab.lab.checkpoints import find_runs, open_checkpoint
from flowlab.lab.late_rows import read_rows
from tests.lab.small_study import train, write_small

PAGE = Path(__file__).parents[2] / "docs" / "draws.md"


def test_the_code_of_the_page_gives_what_flowlab_gives(tmp_path: Path) -> None:
    study = write_small(tmp_path, "")
    train(study, "control")
    (run_id,) = find_runs(study, ["control-1001"])
    found: dict[str, Any] = {"path": str(study.runs / run_id / "draws.zarr")}
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    exec(code, found)
    checkpoint = open_checkpoint(study, run_id)
    np.testing.assert_allclose(found["raw"], raw_draws(checkpoint, checkpoint.evaluation), atol=1e-6)
    on_record = read_rows(study, run_id)
    for c, name in enumerate(("gas", "brake", "steering")):
        assert found["error"][c] == pytest.approx(on_record[("l1", name, "overall", "meank", -1, "")], abs=1e-6)
    assert found["drives"] == checkpoint.frames().frame_drives
