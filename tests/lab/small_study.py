"""A study whose caches are built in this process in a blink: few short synthetic drives, an encoder of a few steps."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from flowlab.lab.launch import Where, launch
from flowlab.study.study import Study, load_study
from tests.cli.tiny_study import TINY

CPU = torch.device("cpu")
SMALLER = {
    "frames = 120": "frames = 90",
    "num_val = 1": 'val = ["drive_03"]',
    "image_steps = 10": "image_steps = 1",
    "window_steps = 20": "window_steps = 1",
    "batch = 64": "batch = 32",
    "STEPS": "2",
    "warmup_steps = 5": "warmup_steps = 1",
    "draws = 4": "draws = 2",
}
LEVERS = """
[levers.narrow]
set = { "encoder.width" = 8 }
[levers.narrow-slow]
set = { "encoder.width" = 8, "train.lr" = 5e-4 }
[levers.fewer]
set = { "split.without" = ["drive_01"] }
[levers.fewer-own]
set = { "split.without" = ["drive_01"] }
stats = "own"
[levers.short]
set = { "windows.history" = 4 }
[levers.more]
set = { "drives.count" = 6 }
[levers.normal-only]
set = { "cache.variants" = ["normal"] }
[levers.same-width]
set = { "encoder.width" = 16 }
"""


def small_text(levers: str = LEVERS) -> str:
    text = TINY
    for old, new in SMALLER.items():
        assert old in text
        text = text.replace(old, new)
    return text + levers


def write_small(folder: Path, levers: str = LEVERS) -> Study:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "experiments.toml").write_text(small_text(levers))
    return load_study(folder)


def edited(study: Study, old: str, new: str) -> Study:
    """The study once its file has `new` in place of `old`, which must be there."""
    path = study.root / "experiments.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return load_study(study.root)


class Said:
    """Progress that keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)

    def task(self, what: str, total: int, unit: str):
        from flowlab.core.progress import SILENT

        self.lines.append(re.sub(r"\s+", " ", what))
        return SILENT.task(what, total, unit)

    def under_way(self, what: str):
        from flowlab.core.progress import SILENT

        return SILENT.under_way(what)


class Then(Said):
    """Progress that does something as soon as these words are said."""

    def __init__(self, act: Callable[[], Any], words: str = "") -> None:
        super().__init__()
        self.act, self.words = act, words

    def say(self, message: str) -> None:
        super().say(message)
        if self.words in message:
            self.act()


def train(study: Study, *levers: str, seed: int = 1001) -> None:
    """Train these levers, and what their comparison needs, in this process; the rule is simulated on few levers."""
    where = Where(CPU, "inline")
    with patch("flowlab.lab.sealing.NUM_LEVERS", 100), patch("flowlab.verdict.panel_size.LEVERS_PER_SIZE", 100):
        for lever in levers:
            launch(
                study,
                [lever],
                [seed],
                where,
                again=False,
                progress=Said(),
                show=lambda *_: None,
                announce=lambda _: None,
            )
