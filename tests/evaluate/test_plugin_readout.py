"""The readout of docs/plugins.md, word for word, keeps what a readout promises."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from flowlab.core.errors import PluginError
from flowlab.core.plugins import Readout
from flowlab.evaluate.conformance import ReadoutConformance
from flowlab.evaluate.definitions import define_metrics
from flowlab.evaluate.guarded import looks_at_truth
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
    with pytest.raises((AssertionError, PluginError)):
        getattr(TestNearestToMeanConforms(), promise)()


def plugin(tmp_path: Path, body: str, name: str = "mine"):
    """A readout whose call is `body`, as the study finds it."""
    code = (
        f'import numpy as np\nclass R:\n    name = "{name}"\n    def __call__(self, draws, frames):\n        {body}\n'
    )
    (tmp_path / "my_readouts.py").write_text(code)
    sys.modules.pop("my_readouts", None)
    return build_readout("my_readouts:R")


DRAWS = np.linspace(0, 1, 8, dtype=np.float32).reshape(2, 2, 2, 1)
FRAMES = made_frames(np.full((2, 2, 1), 0.5, np.float32), ["x"])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("draws[:] = 0; return draws.mean(axis=1)", "may change neither draws nor frames"),
        ("frames.truth[:] = 0; return draws.mean(axis=1)", "may change neither draws nor frames"),
        ("return draws", "gave an array (2, 2, 2, 1), expected (2, 2, 1)"),
        ("return draws[1:].mean(axis=1)", "gave an array (1, 2, 1), expected (2, 2, 1)"),
        ("return None", "gave an array (), expected (2, 2, 1)"),
        ("raise RuntimeError('boom')", "fails on draws (2, 2, 2, 1): RuntimeError: boom"),
        ("raise SystemExit(0)", "fails on draws (2, 2, 2, 1): SystemExit"),
        ("return draws.mean(axis=1) + np.random.rand()", "gives other chunks when it is asked again"),
        ("return draws.mean(axis=1) * np.nan", "not finite on 2 of 2 frames, of draws that are"),
    ],
)
def test_a_readout_that_breaks_a_promise_is_refused_in_one_sentence(tmp_path: Path, body: str, words: str) -> None:
    readout = plugin(tmp_path, body)
    before = DRAWS.copy(), FRAMES.truth.copy()
    with pytest.raises(PluginError, match=re.escape(words)):
        readout(DRAWS, FRAMES)
    np.testing.assert_array_equal(DRAWS, before[0])
    np.testing.assert_array_equal(FRAMES.truth, before[1])


def test_what_it_gives_in_another_type_is_taken_as_float32(tmp_path: Path) -> None:
    chunk = plugin(tmp_path, "return draws.mean(axis=1).tolist()")(DRAWS, FRAMES)
    assert chunk.dtype == np.float32 and chunk.shape == (2, 2, 1)


@pytest.mark.parametrize(("body", "expected"), [("return draws[:, 0]", False), ("return frames.truth", True)])
def test_a_readout_that_looks_at_the_truth_is_found_out(tmp_path: Path, body: str, expected: bool) -> None:
    readout = plugin(tmp_path, body)
    assert looks_at_truth(readout, DRAWS, FRAMES, readout(DRAWS, FRAMES)) is expected


@pytest.mark.parametrize("name", ["", "../x", "a b", "x" * 65])
def test_a_name_that_rows_cannot_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(PluginError, match="expected up to 64 letters, digits, _ and -"):
        plugin(tmp_path, "return draws[:, 0]", name)
