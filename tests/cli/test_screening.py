"""`flowlab screen` before anything runs: what it shows, and what it refuses."""

import json
from pathlib import Path

import pytest

from tests.cli.tiny_study import TINY
from tests.cli.tiny_study import flowlab_here as flowlab

LEVERS = """
[levers.slow]
set = { "train.lr" = 5e-4 }
[levers.slower]
set = { "train.lr" = 1e-4 }
[levers.deep]
set = { "decoder.layers" = 2 }
[levers.ema]
set = { "train.ema_decay" = 0.9 }
[levers.short]
set = { "windows.history" = 4 }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study whose rule has a screen, and no cache yet: six levers and a placebo."""
    text = TINY.replace("STEPS", "20") + LEVERS
    text = text.replace('preset = "panel"', 'preset = "screen"').replace("judged_seeds = [1001, 1002]", JUDGED)
    (tmp_path / "experiments.toml").write_text(text)
    return tmp_path


JUDGED = "judged_seeds = [2001, 2002, 2003]"


def test_a_dry_run_shows_the_screen_and_leaves_nothing_behind(folder):
    shown = " ".join(flowlab(folder, "screen", "--dry-run").stdout.split())
    assert "placebo it changes nothing that the control does not have already" in shown
    assert "both change train.lr" in shown
    assert "screen1: 6 levers in 12 rows (d-optimal)" in shown
    assert "12 runs, each at a seed of its own; 1 cache beside the control's" in shown
    assert "at sigma 0.0140 (assumed: this study has not measured it yet)" in shown
    assert "goes on that is more than 0.0100 better" in shown
    assert [path.name for path in folder.iterdir()] == ["experiments.toml"]


def test_what_a_dry_run_shows_as_json(folder):
    found = json.loads(flowlab(folder, "screen", "--dry-run", "--rows", "20", "--json").stdout)
    assert found["levers"] == ["delta-off", "slow", "slower", "deep", "ema", "short"]
    assert list(found["excluded"]) == ["placebo"]
    assert found["conflicts"] == [{"levers": ["slow", "slower"], "reason": "both change train.lr"}]
    assert list(found["rows"])[-1] == "screen1_row20"
    assert min(found["se"].values()) == pytest.approx(2 * 0.014 / 20**0.5)  # the best that 20 runs can tell


def test_levers_that_split_a_cohort_can_be_left_out(folder):
    told = flowlab(folder, "screen", "--dry-run", "--same-shape", "--json").stdout
    found = json.loads(told)
    assert found["levers"] == ["delta-off", "slow", "slower", "ema"]
    assert found["excluded"]["short"] == "it needs a cache of its own (windows.history)"
    assert found["caches"] == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--levers", "slow,deap"], "unknown lever 'deap': did you mean 'deep'"),
        (["--levers", "slow,slow"], "--levers got 'slow,slow', which names a lever twice"),
        (
            ["--levers", "slow,deep,placebo"],
            "4 levers that can be on together, and here are 2. placebo:",
        ),
        (["--rows", "6"], "6 rows cannot tell 6 levers apart"),
    ],
)
def test_a_screen_that_cannot_be_is_refused_in_one_sentence_and_nothing_is_built(folder, arguments, told):
    assert told in flowlab(folder, "screen", *arguments, code=2).stderr
    assert [path.name for path in folder.iterdir()] == ["experiments.toml"]


def test_a_rule_without_a_bar_for_screens_is_refused(folder):
    path = folder / "experiments.toml"
    path.write_text(path.read_text().replace('preset = "screen"', 'preset = "fresh"').replace("2003]", "2003, 2004]"))
    told = flowlab(folder, "screen", code=2).stderr
    assert "rule 'panel' says nothing of screens" in told
    assert "screen = { bar = 0.010, guard = 2.0 }" in told
