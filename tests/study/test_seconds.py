"""Windows in seconds: how many frames they are, by source, and one sentence for what cannot be."""

import json
from pathlib import Path
from typing import Any

import pytest

from flowlab.core.errors import StudyError, UnknownNameError
from flowlab.study.seconds import in_frames
from flowlab.study.study import build_study, load_study

SYNTHETIC = {"source": "synthetic"}


def frames(root: Path, drives: Any, **windows: Any) -> dict[str, Any]:
    return in_frames(root, {"drives": drives, "windows": windows})["windows"]


def write_info(folder: Path, fps: Any) -> None:
    (folder / "meta").mkdir(parents=True)
    info = {"codebase_version": "v3.0", "fps": fps, "features": {}}
    (folder / "meta" / "info.json").write_text(json.dumps(info))


def test_seconds_become_the_frames_of_the_source(tmp_path):
    write_info(tmp_path / "arm", 30)
    lerobot = {"source": "lerobot", "root": "arm"}
    assert frames(tmp_path, SYNTHETIC, history_s=0.6, horizon_s=2, max_gap_s=1.0) == {
        "history": 6,
        "horizon": 20,
        "max_gap_s": 1.0,
    }
    assert frames(tmp_path, lerobot, horizon_s=0.5) == {"horizon": 15}
    assert frames(tmp_path, {"source": "carracing", "hz": 12.0}, history_s=1.0) == {"history": 12}  # 50 / 4 = 12.5 Hz
    assert frames(tmp_path, {"source": "carracing"}, history_s=1.0, horizon=3) == {"history": 10, "horizon": 3}


def test_a_moment_is_one_frame(tmp_path):
    assert frames(tmp_path, SYNTHETIC, history_s=1e-6) == {"history": 1}


@pytest.mark.parametrize(
    ("drives", "windows", "told"),
    [
        (SYNTHETIC, {"history_s": 1, "history": 6}, r"windows has history \(frames\) and history_s \(seconds\)"),
        (SYNTHETIC, {"history_s": 0}, r"windows\.history_s: got 0, expected a number of seconds, more than 0\."),
        (SYNTHETIC, {"horizon_s": -1.5}, r"windows\.horizon_s: got -1\.5, expected"),
        (SYNTHETIC, {"horizon_s": True}, r"windows\.horizon_s: got true, expected"),
        (SYNTHETIC, {"horizon_s": "1"}, r"windows\.horizon_s: got the text '1', expected"),
        (SYNTHETIC, {"horizon_s": float("nan")}, r"windows\.horizon_s: got nan, expected"),
        (SYNTHETIC, {"horizon_s": 500}, r"500 s are 5000 frames at 10 Hz, expected 4096 or less"),
        ({"source": "udacity", "root": "rec"}, {"horizon_s": 1}, r"'udacity' say nowhere .* Give windows\.horizon, in"),
        ({"source": "mine:Source"}, {"history_s": 1}, r"'mine:Source' say nowhere .* Give windows\.history, in frames"),
        (
            {"source": "lerobot", "root": "gone"},
            {"history_s": 1},
            r"gone is no LeRobot .* Or give windows\.history, in",
        ),
    ],
)
def test_one_sentence_for_what_cannot_be(tmp_path, drives, windows, told):
    with pytest.raises(StudyError, match=f"^experiments.toml: .*{told}"):
        frames(tmp_path, drives, **windows)


def test_a_study_has_its_windows_in_seconds(tmp_path, good_text):
    path = tmp_path / "experiments.toml"
    path.write_text(good_text.replace("[split]", "[windows]\nhistory_s = 0.8\nhorizon_s = 1.2\n[split]"))
    windows = load_study(tmp_path).file.windows
    assert (windows.history, windows.horizon) == (8, 12)


@pytest.mark.parametrize("drives", [{"source": "carracing", "hz": "fast"}, {"source": "carr"}, {}, "carracing"])
def test_what_is_wrong_with_the_drives_is_told_first(tmp_path, drives):
    with pytest.raises((StudyError, UnknownNameError), match=r"drives|source|carr"):
        build_study(tmp_path, {"drives": drives, "windows": {"history_s": 1.0}})
