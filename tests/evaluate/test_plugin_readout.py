"""The readout of docs/plugins.md, word for word, keeps what a readout promises."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from flowlab.core.plugins import Readout
from flowlab.evaluate.conformance import ReadoutConformance
from flowlab.evaluate.definitions import define_metrics
from flowlab.evaluate.metrics import score
from flowlab.evaluate.readouts import build_readout
from tests.evaluate.made_frames import made_frames

PAGE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text()
_, CODE = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "my_readouts.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("my_readouts", None)


class TestNearestToMeanConforms(ReadoutConformance):
    def readout(self) -> Readout:
        return build_readout("my_readouts:NearestToMean")


def test_it_is_found_and_scored_as_the_page_says() -> None:
    """Draws 0, 1 and 5 have the mean 2: the nearest is 1, and the truth 1.5 is half away."""
    draws = np.float32([0, 1, 5]).reshape(1, 3, 1, 1)
    frames = made_frames(np.full((1, 1, 1), 1.5, np.float32), ["x"])
    readout = build_readout("my_readouts:NearestToMean")
    definitions = define_metrics(None, frames.channels, {"x": 0.5})
    rows = score(readout(draws, frames), frames, definitions, readout=readout.name)
    assert ("l1", "x", "overall", "nearest-to-mean", 0.5) in [tuple(row[:5]) for row in rows]


BROKEN = {
    "test_the_truth_is_not_looked_at": ("draws.mean(axis=1, keepdims=True)", "frames.truth[:, None]"),
    "test_changes_nothing_that_it_is_given": ("        distance", "        draws *= 2\n        distance"),
    "test_the_order_of_frames_does_not_matter": ("distance.argmin(axis=1)", "np.arange(len(draws)) % draws.shape[1]"),
    "test_gives_one_finite_chunk_per_frame": ("distance.argmin(axis=1)", "distance.argmin(axis=1), :1"),
    "test_is_a_readout_with_a_name_that_metric_rows_can_have": ("nearest-to-mean", "nearest:to:mean"),
}


@pytest.mark.parametrize("promise", BROKEN)
def test_a_broken_promise_is_found(promise: str, tmp_path: Path) -> None:
    old, new = BROKEN[promise]
    assert old in CODE
    (tmp_path / "my_readouts.py").write_text(CODE.replace(old, new))
    with pytest.raises(AssertionError):
        getattr(TestNearestToMeanConforms(), promise)()
