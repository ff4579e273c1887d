"""A control that crashed: verdicts and owed runs tell one story, whatever stage its lever has reached."""

from pathlib import Path

import pytest

from flowlab.study.rule import Rule
from flowlab.verdict.judge import read_broken_panels, read_owed
from tests.verdict.campaign import Campaign, panel_rule, preset

PANEL = panel_rule()
FRESH = preset("fresh", (1001, 1002), (1003, 1004, 1005, 1006))
PAIRED = preset("paired", (1001, 1002, 1003), (1001, 1002))
STORY = "will never be complete, for control@{} crashed: nothing more is owed, amend the rule to other panel seeds"


@pytest.mark.parametrize(
    ("rule", "crashed", "controls", "lever_seeds"),
    [
        (PANEL, 1001, (), (1001,)),  # its own pair, and the rest of the panel is not there
        (PANEL, 1001, (1002,), (1002,)),  # the lever has not run at the seed of its first stage
        (PANEL, 1002, (1001,), (1001,)),  # a stage is passed, the next one needs the panel
        (FRESH, 1002, (1001,), (1003,)),
        (PAIRED, 1003, (1001, 1002), (1001, 1002)),  # all that its stages pair with is there: guardrails need the panel
    ],
)
def test_nothing_is_owed_and_the_verdict_says_why(
    ledger: Path, runs: Path, rule: Rule, crashed: int, controls: tuple[int, ...], lever_seeds: tuple[int, ...]
) -> None:
    campaign = Campaign(ledger, runs, rule)
    campaign.run("control", crashed, None, ending="crashed")
    for seed in controls:
        campaign.run("control", seed, 0.40)
    for seed in lever_seeds:
        campaign.run("wide", seed, 0.30)
    verdict = campaign.verdicts()["wide"]
    assert (verdict.decision, verdict.owed) == ("undecided", "")
    assert STORY.format(crashed) in verdict.reason
    assert f"waits for control@{crashed}" not in verdict.reason
    assert read_owed(ledger) == []
    assert read_broken_panels(ledger) == {rule.name: [crashed]}


def test_a_stage_that_fails_at_whole_pairs_still_drops(ledger: Path, runs: Path) -> None:
    """0.005 better at 1001, where triage asks for 0.010; the control that crashed is at 1002."""
    campaign = Campaign(ledger, runs, PANEL)
    campaign.run("control", 1001, 0.400)
    campaign.run("control", 1002, None, ending="crashed")
    campaign.run("wide", 1001, 0.395)
    verdict = campaign.verdicts()["wide"]
    assert (verdict.decision, verdict.stage_reached) == ("drop", "triage")
    assert "never be complete" not in verdict.reason


def test_a_control_that_crashed_outside_the_panel_is_in_nobody_s_way(ledger: Path, runs: Path) -> None:
    campaign = Campaign(ledger, runs, PANEL)
    campaign.run("control", 7, None, ending="crashed")
    campaign.run("control", 1001, 0.40)
    campaign.run("wide", 1001, 0.30)
    assert campaign.verdicts()["wide"].owed == "wide@1002, control@1002"
    assert [(run.lever, run.seed) for run in read_owed(ledger)] == [("control", 1002), ("wide", 1002)]
    assert read_broken_panels(ledger) == {}
