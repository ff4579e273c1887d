"""What was imported is shown, and has no say in what is stacked: not even a control that a hand wrote onto our base."""

from pathlib import Path

from tests.verdict.campaign import Campaign, panel_rule


def test_an_imported_control_lets_its_panel_stack_nothing(ledger: Path, runs: Path) -> None:
    campaign = Campaign(ledger, runs, panel_rule())
    campaign.run("control", 1001, 0.40)
    campaign.run("control", 1002, 0.40, cache="imported", origin="mlflow:a.db")
    for seed in (1001, 1002):
        campaign.run("good", seed, 0.30)
    verdict = campaign.verdicts()["good"]
    assert verdict.decision == "undecided"
    assert "imported: 1 of its controls were not trained under this rule" in verdict.reason


def test_a_pair_with_an_imported_control_stacks_nothing(ledger: Path, runs: Path) -> None:
    campaign = Campaign(ledger, runs, panel_rule(panel_seeds=(1003, 1004)))
    campaign.controls({1002: 0.40, 1003: 0.40, 1004: 0.40})
    campaign.run("control", 1001, 0.90, cache="imported", origin="mlflow:a.db")
    for seed in (1001, 1002):
        campaign.run("good", seed, 0.30)
    assert campaign.verdicts()["good"].decision == "undecided"


def test_imported_controls_tell_no_sigma(ledger: Path, runs: Path) -> None:
    campaign = Campaign(ledger, runs, panel_rule())
    for seed in range(-9, 0):  # without seeds: they may well be one run nine times
        campaign.run("control", seed, 0.4 + seed * 1e-6, evaluation="elsewhere", cache="imported", origin="mlflow:a.db")
    assert campaign.ask("control_spread") == []
