"""What the `panel` rule says, on numbers that can be checked by hand."""

from pathlib import Path

import pytest

from flowlab.ledger.connection import read
from flowlab.verdict.judge import read_owed
from tests.verdict.campaign import FLAT, Campaign, panel_rule

# The published pilot. The seeds of the controls 0.3289 and 0.3387 were not published: 1000 and 1003 stand for them.
PUBLISHED_CONTROLS = {1000: 0.3289, 1001: 0.3555, 1002: 0.3237, 1003: 0.3387}


@pytest.fixture
def published(ledger: Path, runs: Path) -> Campaign:
    campaign = Campaign(ledger, runs, panel_rule(panel_seeds=(1000, 1001, 1002, 1003)))
    campaign.controls(PUBLISHED_CONTROLS)
    campaign.run("delta-off", 1001, 0.3274)
    campaign.run("delta-50", 1001, 0.3650)
    campaign.run("depth-2", 1001, 0.3487)
    return campaign


def test_the_published_panel_has_mean_0_3367_and_sd_0_0140(published: Campaign) -> None:
    verdict = published.verdicts()["depth-2"]
    assert verdict.panel_mean is not None and verdict.panel_sd is not None
    assert (f"{verdict.panel_mean:.4f}", f"{verdict.panel_sd:.4f}", verdict.panel_count) == ("0.3367", "0.0140", 4)


def test_delta_off_earns_its_second_seed(published: Campaign) -> None:
    verdict = published.verdicts()["delta-off"]
    assert (verdict.stage_reached, verdict.decision, verdict.owed) == ("stack", "undecided", "delta-off@1002")
    (owed,) = read_owed(published.ledger)
    assert (owed.lever, owed.seed, owed.why, owed.status) == ("delta-off", 1002, "stage stack", None)


def test_delta_off_is_not_stacked(published: Campaign) -> None:
    published.run("delta-off", 1002, 0.3276)
    verdict = published.verdicts()["delta-off"]
    assert (verdict.stage_reached, verdict.decision, verdict.owed) == ("stack", "drop", "")
    assert (verdict.num_pairs, verdict.pair_seeds) == (2, [1001, 1002])
    assert verdict.paired_deltas == pytest.approx([-0.0281, 0.0039], abs=1e-12)
    assert verdict.lever_mean == pytest.approx(0.3275)
    assert "stack: 0.0092 better than the panel mean at 1001, 1002, needs more than 0.015: dropped" in verdict.reason
    assert read_owed(published.ledger) == []


def test_delta_50_and_depth_2_never_pass_triage(published: Campaign) -> None:
    verdicts = published.verdicts()
    for lever in ("delta-50", "depth-2"):
        assert (verdicts[lever].stage_reached, verdicts[lever].decision, verdicts[lever].owed) == ("triage", "drop", "")
    assert verdicts["depth-2"].reason == "triage: 0.0068 better than the control at 1001, needs more than 0.01: dropped"
    assert verdicts["delta-50"].reason == "triage: 0.0095 worse than the control at 1001, needs more than 0.01: dropped"


def test_the_view_and_the_reader_say_the_same(published: Campaign) -> None:
    verdicts = published.verdicts()
    rows = read(published.ledger, "select lever, decision, stage_reached from verdicts").rows
    assert sorted(rows) == sorted((row.lever, row.decision, row.stage_reached) for row in verdicts.values())


@pytest.fixture
def campaign(ledger: Path, runs: Path) -> Campaign:
    """Controls 0.40 at 1001 and 0.38 at 1002: mean 0.39; flat 0.13 both."""
    campaign = Campaign(ledger, runs, panel_rule(guardrails=(FLAT,)))
    campaign.controls({1001: 0.40, 1002: 0.38}, flat=0.13)
    return campaign


def test_a_lever_that_passes_all_is_stacked(campaign: Campaign) -> None:
    campaign.run("good", 1001, 0.37, flat=0.13)
    campaign.run("good", 1002, 0.37, flat=0.13)
    verdict = campaign.verdicts()["good"]
    assert (verdict.stage_reached, verdict.decision, verdict.owed) == ("stack", "stack", "")
    assert verdict.reason.endswith("more than 0.015: passed"), "nothing is told of guardrails that passed"


def test_an_improvement_of_exactly_the_bar_is_not_more_than_it(ledger: Path, runs: Path) -> None:
    campaign = Campaign(ledger, runs, panel_rule())
    assert 0.3555 - 0.3455 > 0.010  # in floats; by hand it is 0.0100
    campaign.controls({1001: 0.3555, 1002: 0.3555})
    campaign.run("equal", 1001, 0.3455)
    campaign.run("more", 1001, 0.3455 - 1e-8)
    verdicts = campaign.verdicts()
    assert verdicts["equal"].decision == "drop"
    assert verdicts["more"].stage_reached == "stack"


@pytest.mark.parametrize(("flat", "decision"), [(0.134, "stack"), (0.1341, "drop")])
def test_a_guardrail_lets_exactly_its_margin_pass(campaign: Campaign, flat: float, decision: str) -> None:
    assert 0.134 - 0.130 > 0.004  # in floats
    for seed in (1001, 1002):
        campaign.run("lever", seed, 0.30, flat=flat)
    verdict = campaign.verdicts()["lever"]
    assert verdict.decision == decision
    assert ("guardrail steering l1 flat_frame: 0.1341 against the panel's 0.1300, over" in verdict.reason) == (
        decision == "drop"
    )


def test_a_guardrail_without_its_metric_leaves_the_lever_undecided(campaign: Campaign) -> None:
    campaign.run("lever", 1001, 0.30, flat=0.13)
    campaign.run("lever", 1002, 0.30)
    assert campaign.verdicts()["lever"].decision == "undecided"


def test_only_the_first_judged_seed_counts_for_triage(campaign: Campaign) -> None:
    campaign.run("late", 1002, 0.20, flat=0.13)
    verdict = campaign.verdicts()["late"]
    assert (verdict.stage_reached, verdict.decision, verdict.owed) == ("triage", "undecided", "late@1001")
    assert verdict.reason == "triage: waits for late@1001"


def test_runs_outside_the_judged_seeds_and_replicates_are_exploratory(campaign: Campaign) -> None:
    campaign.run("lever", 1001, 0.395, flat=0.13)
    campaign.run("lever", 1001, 0.2, replicate=1)
    campaign.run("lever", 7, 0.2)
    verdict = campaign.verdicts()["lever"]
    assert (verdict.decision, verdict.num_pairs, verdict.lever_mean) == ("drop", 1, 0.395)
    rows = read(campaign.ledger, "select seed, replicate from exploratory_runs order by seed").rows
    assert rows == [(7, 0), (1001, 1)]


def test_a_replicate_does_not_stand_in_for_a_run_that_is_owed(campaign: Campaign) -> None:
    campaign.run("lever", 1001, 0.2, flat=0.13, replicate=1)
    assert campaign.verdicts()["lever"].owed == "lever@1001"


def test_an_incomplete_panel_is_never_used(ledger: Path, runs: Path) -> None:
    campaign = Campaign(ledger, runs, panel_rule(panel_seeds=(1001, 1002, 1003)))
    campaign.controls({1001: 0.40, 1002: 0.38})
    for seed in (1001, 1002):
        campaign.run("lever", seed, 0.30)
    verdict = campaign.verdicts()["lever"]
    assert (verdict.stage_reached, verdict.decision, verdict.owed) == ("stack", "undecided", "control@1003")
    assert verdict.reason.endswith("stack: waits for the panel")


def test_a_missing_control_is_owed_before_anything_can_pair(ledger: Path, runs: Path) -> None:
    campaign = Campaign(ledger, runs, panel_rule())
    campaign.run("lever", 1001, 0.30)
    verdict = campaign.verdicts()["lever"]
    assert (verdict.decision, verdict.owed) == ("undecided", "control@1001, control@1002")
    assert (verdict.num_pairs, verdict.paired_deltas, verdict.panel_mean) == (0, [], None)


def test_a_run_that_did_not_finish_is_not_judged_and_stays_owed(campaign: Campaign) -> None:
    campaign.run("lever", 1001, 0.2, flat=0.13, ending="running")
    assert campaign.verdicts()["lever"].owed == "lever@1001"
    assert [(owed.seed, owed.status) for owed in read_owed(campaign.ledger)] == [(1001, "running")]


def test_a_lever_whose_run_crashed_is_dropped(campaign: Campaign) -> None:
    campaign.run("lever", 1001, 0.2, flat=0.13, ending="crashed")
    verdict = campaign.verdicts()["lever"]
    assert (verdict.decision, verdict.owed) == ("drop", "")
    assert "crashed at seed 1001" in verdict.reason


def test_a_finished_run_without_the_primary_metric_is_named_and_not_owed(campaign: Campaign) -> None:
    campaign.run("lever", 1001, None, flat=0.13)
    verdict = campaign.verdicts()["lever"]
    assert (verdict.decision, verdict.owed) == ("undecided", "")
    assert verdict.reason == "triage: waits for lever@1001, which finished without the primary metric"


def test_a_lever_trained_from_another_cache_pairs_with_its_control(campaign: Campaign) -> None:
    """One control, one evaluation: what either was trained from is no part of the base."""
    campaign.run("lever", 1001, 0.2, flat=0.13, cache="other")
    verdict = campaign.verdicts()["lever"]
    assert (verdict.num_pairs, verdict.panel_count, verdict.stage_reached) == (1, 2, "stack")
    rows = read(campaign.ledger, "select delta from pairs where lever = 'lever' and slice = 'spike_frame'").rows
    assert rows == [(pytest.approx(-0.2),)]
    rows = read(campaign.ledger, "select distinct lever, cache_id from final_metrics order by all").rows
    assert rows == [("control", "cache"), ("lever", "other")]


def test_runs_of_another_control_never_pair(campaign: Campaign) -> None:
    campaign.run("lever", 1001, 0.2, control="other")
    verdict = campaign.verdicts()["lever"]
    assert (verdict.num_pairs, verdict.panel_count, verdict.stage_reached) == (0, 0, "triage")
    assert verdict.reason == "triage: waits for control@1001"
    assert read(campaign.ledger, "select * from pairs where lever = 'lever'").rows == []


def test_runs_of_another_evaluation_never_pair_and_are_not_judged(campaign: Campaign) -> None:
    campaign.run("lever", 1001, 0.2, evaluation="other")
    assert campaign.verdicts() == {}
    assert read(campaign.ledger, "select * from pairs where lever = 'lever'").rows == []
    assert read(campaign.ledger, "select lever, why from exploratory_runs").rows == [("lever", "evaluation")]


def test_imported_runs_are_shown_and_never_stacked(campaign: Campaign) -> None:
    for lever, value in (("control", 0.40), ("better", 0.20)):
        for seed in (1001, 1002):
            campaign.run(lever, seed, value, flat=0.1, cache="imported", evaluation="elsewhere", origin="mlflow:a.db")
    verdict = campaign.verdicts()["better"]
    assert (verdict.stage_reached, verdict.decision, verdict.panel_mean) == ("stack", "undecided", 0.4)
    assert "imported: 2 of its runs were not trained under this rule" in verdict.reason


def test_another_recipe_under_the_control_s_name_is_no_control(campaign: Campaign) -> None:
    campaign.run("control", 1001, 0.9, recipe="changed")
    campaign.run("lever", 1001, 0.2, flat=0.13)
    verdict = campaign.verdicts()["lever"]
    assert verdict.panel_count == 2
    assert verdict.paired_deltas == pytest.approx([-0.2])


def test_a_placebo_has_deltas_of_exactly_zero_and_is_no_control(campaign: Campaign) -> None:
    campaign.run("placebo", 1001, 0.40, flat=0.13, recipe="base")
    verdict = campaign.verdicts()["placebo"]
    assert (verdict.paired_deltas, verdict.panel_count, verdict.decision) == ([0.0], 2, "drop")


def test_a_changed_recipe_of_one_lever_is_judged_apart(campaign: Campaign) -> None:
    campaign.run("lever", 1001, 0.30, flat=0.13, recipe="first")
    campaign.run("lever", 1002, 0.30, flat=0.13, recipe="second")
    campaign.verdicts()
    rows = read(campaign.ledger, "select recipe_digest, owed from verdicts order by all").rows
    assert rows == [("first", "lever@1002"), ("second", "lever@1001")]
