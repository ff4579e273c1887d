"""A study of an arm: its own channels, its own slices and its own primary, through the three commands."""

import json
from pathlib import Path

import pytest

from tests.cli.tiny_study import TINY, ask, flowlab_here

pytestmark = pytest.mark.slow

CHANGES = {
    'channel = "steering", slice = "spike_frame"': 'channel = "gripper", slice = "closing"',
    "frames = 120\n": 'frames = 120\nchannels = ["x", "y", "gripper"]\n',
    "[control.decoder]": "[control.action_space]\nmerge = false\n\n[control.decoder]",
    'guardrails = [{ slice = "flat_frame", margin = 0.004 }]': (
        'guardrails = [{ channel = "x", slice = "reaching", margin = 0.004 }]\n'
        '[slices.closing]\nchannel = "gripper"\nabove = 0.4\nslots = "any"\n'
        '[slices.reaching]\nchannel = "x"\nsize_above = 0.1\nslots = "all"\n'
        '[slices.far]\nchannel = "y"\nabove = 0.3\nslots = "each"\n'
    ),
}


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, text = tmp_path_factory.mktemp("arm"), TINY.replace("STEPS", "10")
    for old, new in CHANGES.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    (folder / "experiments.toml").write_text(text)
    flowlab_here(folder, "cache", "build")
    flowlab_here(folder, "run", "--lever", "placebo", "--seeds", "1001")
    return folder


def test_the_rule_judges_by_the_study_s_own_numbers(arm: Path) -> None:
    (verdict,) = json.loads(flowlab_here(arm, "verdict", "--json").stdout)
    assert (verdict["lever"], verdict["decision"]) == ("placebo", "drop")
    (rule,) = ask(arm, "select metric, channel, slice from rules")
    assert rule == {"metric": "l1", "channel": "gripper", "slice": "closing"}


def test_runs_have_the_study_s_slices_and_no_others(arm: Path) -> None:
    rows = ask(
        arm, "select distinct slice from final_metrics where slice not similar to '(slot|lag):.*' order by slice"
    )
    assert [row["slice"] for row in rows if not row["slice"].startswith("time:")] == [
        "closing",
        "far",
        "overall",
        "reaching",
    ]


def test_drives_are_shown_with_the_study_s_frame_slices(arm: Path) -> None:
    shown = flowlab_here(arm, "drives", "show")
    assert "closing" in shown.stdout
    assert "spike" not in shown.stdout
    drive, *_ = json.loads(flowlab_here(arm, "drives", "show", "--json").stdout)
    assert list(drive["slices"]) == ["closing", "reaching"]
    assert 0 < drive["slices"]["closing"] < drive["windows"]


def test_stats_are_shown_by_the_arm_s_own_channels(arm: Path) -> None:
    shown = flowlab_here(arm, "stats").stdout
    assert all(f"  {name}, physical" in shown for name in ("x", "y", "gripper"))
    told = json.loads(flowlab_here(arm, "stats", "--json").stdout)
    assert [one["name"] for one in told["channels"]] == ["x", "y", "gripper"]
    (run,) = ask(arm, "select distinct recipe_digest from runs where lever = 'control'")
    assert run["recipe_digest"] == told["recipe_digest"]
