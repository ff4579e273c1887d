"""No number that cannot be reckoned with passes anything: not NaN, which is more than any bar, nor an infinity."""

from pathlib import Path

import pyarrow
import pytest

from flowlab.ledger.answers import answer_of
from flowlab.ledger.migrate import view_statements
from flowlab.ledger.scratch import fill
from tests.verdict.campaign import FLAT, Campaign, panel_rule, preset
from tests.verdict.simulated import simulated

HUGE = 1e308  # finite; the sum of two is not, nor the square of one
KINDS: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "huge levers": ((0.4, 0.38), (HUGE, HUGE)),
    "huge and negative levers": ((0.4, 0.38), (-HUGE, -HUGE)),
    "huge controls": ((HUGE, HUGE), (0.3, 0.3)),
    "all huge": ((HUGE, HUGE), (HUGE, HUGE)),  # the means are infinite, their difference is NaN
    "huge controls of both signs": ((HUGE, -HUGE), (0.3, 0.3)),
    "squares out of range": ((1e200, -1e200), (0.3, 0.3)),
    "all alike": ((0.4, 0.4), (0.4, 0.4)),
    "all zero": ((0.0, 0.0), (0.0, 0.0)),
    "next to zero": ((5e-324, 0.0), (0.0, 5e-324)),
}


def all_kinds() -> pyarrow.Table:
    """One campaign a kind: two controls, and a lever at all seeds that a preset may judge."""
    rows = []
    for campaign, (controls, levers) in enumerate(KINDS.values()):
        seeds = {"control": dict(zip((1001, 1002), controls, strict=True))}
        seeds["wide"] = {1001: levers[0], 1002: levers[1], 1003: levers[0], 1004: levers[1]}
        rows += [
            {"campaign": campaign, "lever": lever, "seed": seed, "value": value}
            for lever, by_seed in seeds.items()
            for seed, value in by_seed.items()
        ]
    return pyarrow.Table.from_pylist(rows)


@pytest.mark.parametrize("name", ["panel", "two-sigma", "paired", "fresh"])
def test_nothing_is_stacked_by_a_number_that_is_none(name: str) -> None:
    judged = (1001, 1002, 1003, 1004) if name == "fresh" else (1001, 1002)
    with simulated(preset(name, (1001, 1002), judged)) as ledger:
        fill(ledger.connection, all_kinds())
        decided = ledger.ask("decisions")
        views = view_statements() if name == "two-sigma" else ()
        assert [view for view in views if answer_of(ledger.connection, view) is None] == []
        assert not any(row["is_unequal"] for row in ledger.ask("unequal_variance"))
    assert [row["decision"] for row in decided] == ["drop"] * len(KINDS)
    assert max(len(row["reason"]) for row in decided) < 250, "no number of 300 digits"
    assert all(row["effect"] is None or abs(row["effect"]) <= HUGE for row in decided)


@pytest.mark.parametrize(("lever", "controls"), [(-HUGE, 0.1), (0.1, HUGE), (HUGE, HUGE)])
def test_no_guardrail_is_passed_by_a_number_that_is_none(
    ledger: Path, runs: Path, lever: float, controls: float
) -> None:
    """The mean of two is infinite, below or above, or the excess of one infinity over another NaN."""
    campaign = Campaign(ledger, runs, panel_rule(guardrails=(FLAT,)))
    for seed, value in {1001: 0.40, 1002: 0.38}.items():
        campaign.run("control", seed, value, flat=controls)
        campaign.run("wide", seed, 0.30, flat=lever)
    verdict = campaign.verdicts()["wide"]
    assert (verdict.stage_reached, verdict.decision) == ("stack", "drop")
    assert "guardrail steering l1 flat_frame: no number to reckon with" in verdict.reason
