"""Numbers of two evaluations never meet: not in Python, not in the views."""

from pathlib import Path

import pytest

from flowlab.core.errors import EvaluationMismatchError, UnknownNameError
from flowlab.ledger.connection import read
from flowlab.verdict.compare import compare_runs
from tests.verdict.campaign import Campaign, panel_rule


@pytest.fixture
def campaign(ledger: Path, runs: Path) -> Campaign:
    campaign = Campaign(ledger, runs, panel_rule())
    campaign.run("control", 1001, 0.40)
    campaign.run("lever", 1001, 0.37)
    campaign.run("lever", 1001, 0.37, evaluation="other")
    campaign.verdicts()
    return campaign


def run_id(campaign: Campaign, lever: str, evaluation: str = "evaluation") -> str:
    (found,) = read(
        campaign.ledger,
        "select run_id from runs where lever = ? and evaluation_json = ?",
        [lever, f'{{"named":"{evaluation}"}}'],
    ).rows
    return found[0]


def test_two_runs_of_one_evaluation_are_compared(campaign: Campaign) -> None:
    rows = compare_runs(campaign.ledger, run_id(campaign, "control"), run_id(campaign, "lever"))
    assert [row.slice for row in rows] == ["flat_frame", "spike_frame"]
    assert rows[1].difference == pytest.approx(-0.03)


def test_two_evaluations_are_refused_with_their_first_difference(campaign: Campaign) -> None:
    control, other = run_id(campaign, "control"), run_id(campaign, "lever", "other")
    with pytest.raises(EvaluationMismatchError, match='evaluated with named = "evaluation" and "other"'):
        compare_runs(campaign.ledger, control, other)


def test_the_views_pair_within_one_evaluation_only(campaign: Campaign) -> None:
    rows = read(campaign.ledger, "select distinct run_id, control_run_id from pairs").rows
    assert rows == [(run_id(campaign, "lever"), run_id(campaign, "control"))]


def test_a_run_that_is_not_there_is_named_with_the_nearest(campaign: Campaign) -> None:
    lever = run_id(campaign, "lever")
    with pytest.raises(UnknownNameError, match="did you mean"):
        compare_runs(campaign.ledger, lever, lever[:-1])
