"""What an amendment to `climb`, or of a rule that screens, would change: every lever under both, before and after."""

from pathlib import Path

import pytest

from flowlab.core.digest import digest_json
from flowlab.journal.lines import StudyJournal
from flowlab.study.rule import Rule
from flowlab.study.settings import ScreenBar
from flowlab.verdict.rejudged import read_rejudged, rejudge
from flowlab.verdict.seal import amend_rule
from tests.verdict.campaign import EVALUATION, Campaign, preset, sealable

EIGHT = tuple(range(1001, 1009))
PANEL = sealable(preset("panel", EIGHT, EIGHT[:2]))
CLIMB = sealable(preset("climb", EIGHT, EIGHT[:6]))
LUCKY = {
    "good": (0.35, 0.36),  # 0.045 better: both stack it
    "robbed": (0.362, 0.362),  # its control at 1001 had luck; 0.038 better than the panel's mean
    "waits": (0.355, 0.385),  # 0.030 better: enough for two seeds of `panel`, not of `climb`
    "asks": (0.355,),
    "worse": (0.405,),
}
"""Levers on a base whose mean is 0.4 and whose control at 1001 is 0.37."""


def fill(campaign: Campaign, base: str, first: float, levers: dict[str, tuple[float, ...]]) -> None:
    """A panel of eight whose mean is 0.4 and whose first one is `first`, and levers at 1001, 1002."""
    others = (3.2 - first) / 7
    for seed, value in zip(EIGHT, (first, *[others] * 7), strict=True):
        campaign.run("control", seed, value, control=base)
    for lever, values in levers.items():
        for seed, value in zip(EIGHT, values, strict=False):
            campaign.run(lever, seed, value, control=base)


@pytest.fixture
def campaign(ledger: Path, runs: Path) -> Campaign:
    """Two bases, on one of which the first control had luck, on the other none."""
    campaign = Campaign(ledger, runs, PANEL)
    campaign.flat = 0.1
    fill(campaign, "base", 0.37, LUCKY)
    fill(campaign, "moved", 0.43, {"flattered": (0.389, 0.37)})  # 0.041 than its control, 0.011 than the panel's mean
    campaign.run("unlike", 1001, 0.35, device="cuda:0")
    campaign.verdicts()
    return campaign


def test_an_amendment_from_panel_to_climb_lists_every_flip(campaign: Campaign) -> None:
    rows = rejudge(CLIMB, PANEL.digest(), campaign.ledger)
    found = {row.lever: (row.amended_outcome, row.outcome, row.flipped) for row in rows}
    assert found == {
        "asks": ("undecided", "undecided", False),
        "flattered": ("stack", "drop", True),
        "good": ("stack", "stack", False),
        "robbed": ("drop", "stack", True),
        "unlike": ("undecided", "undecided", False),
        "waits": ("stack", "undecided", True),
        "worse": ("drop", "drop", False),
    }
    reasons = {row.lever: row.reason for row in rows}
    assert reasons["flattered"] is not None and reasons["robbed"] is not None
    assert "seed-1: 0.0110 better than the panel mean at 1001, needs more than 0.012: dropped" in reasons["flattered"]
    assert "seed-2: 0.0380 better than the panel mean at 1001, 1002, more than 0.036: stacks" in reasons["robbed"]


def test_what_is_foretold_of_climb_is_what_the_ledger_says_of_it_after(campaign: Campaign) -> None:
    """Word for word, where a pair was trained on two devices too."""
    foretold = rejudge(CLIMB, PANEL.digest(), campaign.ledger)
    assert "unlike pairs" in next(row.amended_reason for row in foretold if row.lever == "unlike")
    amend_rule(CLIMB, "panel fooled us", campaign.runs, campaign.ledger)
    assert read_rejudged(campaign.ledger) == foretold


def screening(name: str, guard: float) -> Rule:
    rule = preset("screen", (1001, 1002), (2001, 2002, 2003))
    return sealable(rule.model_copy(update={"name": name, "screen": ScreenBar(guard=guard)}))


def test_a_rule_that_screens_is_rejudged_with_its_screens(ledger: Path, runs: Path) -> None:
    """Levers a, of 0.03, and b, of 0: 1.5 x their median 0.015 is 0.0225. a went on by the rule that is replaced."""
    rule = screening("screen", 1.0)
    campaign = Campaign(ledger, runs, rule)
    campaign.flat = 0.1
    campaign.controls({1001: 0.4, 1002: 0.4})
    rows = {"screen1_row1": [], "screen1_row2": ["a"], "screen1_row3": ["b"]}
    with StudyJournal.of(runs) as journal:
        journal.screen(
            screen="screen1",
            rule_digest=rule.digest(),
            control_digest="base",
            cache_id="cache",
            evaluation_id=digest_json(EVALUATION),
            sigma=0.014,
            sigma_df=15,
            bar=0.010,
            guard=1.0,
            levers=[{"lever": lever, "recipe_digest": f"{lever}-recipe"} for lever in "ab"],
            rows=[
                {"name": name, "seed": seed, "recipe_digest": f"{name}-recipe", "levers": on}
                for seed, (name, on) in enumerate(rows.items(), start=5001)
            ],
            weights=[[-1.0, 1.0, 0.0], [-1.0, 0.0, 1.0]],
            excluded={},
        )
    campaign.verdicts()
    for seed, (name, value) in enumerate(zip(rows, (0.40, 0.37, 0.40), strict=True), start=5001):
        campaign.run(name, seed, value)
    for seed in rule.judged_seeds:
        campaign.run("a", seed, 0.38)
    assert {lever: row.decision for lever, row in campaign.verdicts().items()} == {"a": "stack", "b": "drop"}
    later = screening("later", 0.5)
    foretold = rejudge(later, rule.digest(), ledger)
    assert [(row.lever, row.amended_outcome, row.outcome) for row in foretold] == [
        ("a", "stack", "undecided"),
        ("b", "drop", "undecided"),
    ]
    amend_rule(later, "a test", runs, ledger)
    assert read_rejudged(ledger) == foretold
