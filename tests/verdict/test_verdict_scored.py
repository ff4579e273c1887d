"""A policy that is scored again is as old as its training: a rule that is sealed in between may not stack it."""

from pathlib import Path

from flowlab.ledger.ingest import ingest
from flowlab.verdict.seal import amend_rule
from tests.verdict.campaign import Campaign, panel_rule, sealable


def controls(campaign: Campaign) -> None:
    for seed, value in {1001: 0.40, 1002: 0.38}.items():
        campaign.run("control", seed, value)


def test_a_scoring_of_runs_younger_than_the_rule_is_judged_by_it(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path / "ledger.duckdb", tmp_path / "runs", panel_rule())
    controls(campaign)
    for seed in (1001, 1002):
        source = campaign.run("wide", seed, 0.5, evaluation="other")
        campaign.run("wide", seed, 0.36, scored_from=source)
    verdict = campaign.verdicts()["wide"]
    assert (verdict.decision, verdict.effect) == ("stack", 0.39 - 0.36)


def test_a_scoring_of_runs_older_than_the_rule_is_post_hoc(tmp_path: Path) -> None:
    """Trained and looked at in one evaluation; then a rule is sealed for another, and only then scored under that."""
    campaign = Campaign(tmp_path / "ledger.duckdb", tmp_path / "runs", panel_rule(name="first"))
    sources = [campaign.run("wide", seed, 0.5, evaluation="other") for seed in (1001, 1002)]
    ingest(campaign.ledger, campaign.runs)
    amend_rule(sealable(panel_rule(panel_seeds=(1001, 1002, 1003))), "a test", campaign.runs, campaign.ledger)
    controls(campaign)
    campaign.run("control", 1003, 0.39)
    for seed, source in zip((1001, 1002), sources, strict=True):
        campaign.run("wide", seed, 0.36, scored_from=source)
    campaign.run("young", 1001, 0.35)
    campaign.run("young", 1002, 0.35)
    ingest(campaign.ledger, campaign.runs)
    in_force = {row["lever"]: row for row in campaign.ask("verdicts where rule = 'panel'")}
    assert in_force["young"]["decision"] == "stack"
    assert in_force["wide"]["decision"] == "undecided"
    assert "post-hoc: 4 of its runs are older than the rule" in in_force["wide"]["reason"]


def test_a_scoring_of_a_run_that_the_ledger_does_not_have_is_post_hoc(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path / "ledger.duckdb", tmp_path / "runs", panel_rule())
    controls(campaign)
    for seed in (1001, 1002):
        campaign.run("wide", seed, 0.36, scored_from="wide-of-elsewhere")
    assert "post-hoc" in campaign.verdicts()["wide"].reason


def test_the_view_tells_both_evaluations(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path / "ledger.duckdb", tmp_path / "runs", panel_rule())
    source = campaign.run("wide", 1001, 0.5, evaluation="other")
    again = campaign.run("wide", 1001, 0.36, scored_from=source)
    (row,) = campaign.ask("scorings")
    assert (row["run_id"], row["source_run_id"]) == (again, source)
    assert (row["evaluation_json"], row["source_evaluation_json"]) == ('{"named":"evaluation"}', '{"named":"other"}')
