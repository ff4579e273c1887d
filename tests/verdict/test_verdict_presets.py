"""The other presets on the published pilot: one lever, four rules, and what each makes of it."""

import pytest

from flowlab.core.errors import StudyError
from flowlab.study.rule import write_out
from flowlab.study.settings import MetricKey, RuleSettings, StageSettings
from flowlab.verdict.judge import read_owed
from tests.verdict.campaign import Campaign, preset

PANEL = (1000, 1001, 1002, 1003)
CONTROLS = {1000: 0.3289, 1001: 0.3555, 1002: 0.3237, 1003: 0.3387}


def campaign_of(ledger, runs, name, judged) -> Campaign:
    campaign = Campaign(ledger, runs, preset(name, PANEL, judged))
    campaign.controls(CONTROLS)
    return campaign


def test_paired_keeps_delta_off_at_1001_and_its_confirmation_fails(ledger, runs):
    campaign = campaign_of(ledger, runs, "paired", (1001, 1002))
    campaign.run("delta-off", 1001, 0.3274)
    verdict = campaign.verdicts()["delta-off"]
    assert (verdict.stage_reached, verdict.decision, verdict.owed) == ("confirm", "undecided", "delta-off@1002")
    assert "keep: 0.0281 better than the control at 1001, more than 0.01: passed" in verdict.reason
    campaign.run("delta-off", 1002, 0.3276)
    verdict = campaign.verdicts()["delta-off"]
    assert (verdict.stage_reached, verdict.decision) == ("confirm", "drop")
    assert verdict.effect == pytest.approx(-0.0039)
    assert verdict.reason.endswith("confirm: 0.0039 worse than the control at 1002, needs more than 0.01: dropped")


def test_two_sigma_asks_for_twice_the_panels_deviation(ledger, runs):
    """The panel's mean is 0.3367 and its sd 0.0140: 0.3087 is not better by more than 0.0280, 0.3080 is."""
    campaign = campaign_of(ledger, runs, "two-sigma", (1001,))
    campaign.run("delta-off", 1001, 0.3274)
    campaign.run("better", 1001, 0.3080)
    verdicts = campaign.verdicts()
    assert (verdicts["delta-off"].decision, verdicts["better"].decision) == ("drop", "stack")
    assert "needs more than 2 panel sd, 0.0280: dropped" in verdicts["delta-off"].reason


def test_fresh_does_not_let_delta_off_pass_triage(ledger, runs):
    """0.3367 - 0.3274 is 0.0093: the panel's mean forgives the unlucky control at 1001."""
    campaign = campaign_of(ledger, runs, "fresh", (1001, 1002, 2001, 2002))
    campaign.run("delta-off", 1001, 0.3274)
    verdict = campaign.verdicts()["delta-off"]
    assert (verdict.stage_reached, verdict.decision, verdict.effect) == ("triage", "drop", None)


def test_fresh_reports_the_effect_of_its_fresh_seeds_alone(ledger, runs):
    campaign = campaign_of(ledger, runs, "fresh", (1001, 1002, 2001, 2002))
    for seed, value in {1001: 0.30, 1002: 0.30}.items():
        campaign.run("lucky", seed, value)
    verdict = campaign.verdicts()["lucky"]
    assert (verdict.stage_reached, verdict.decision, verdict.owed) == ("stack", "undecided", "lucky@2001, lucky@2002")
    assert [(owed.seed, owed.why) for owed in read_owed(campaign.ledger)] == [
        (2001, "stage stack"),
        (2002, "stage stack"),
    ]
    for seed, value in {2001: 0.3300, 2002: 0.3234}.items():
        campaign.run("lucky", seed, value)
    verdict = campaign.verdicts()["lucky"]
    assert (verdict.decision, verdict.effect) == ("drop", pytest.approx(0.0100, abs=1e-9))
    assert verdict.lever_mean == pytest.approx(0.31335), "all four seeds: shown, and not what decides"


@pytest.mark.parametrize(
    ("stages", "told"),
    [
        ([{"bar": 2.5}], "no outcome can pass stage 'one': its bar is 2.5"),
        ([{"bar": -3.0}], "every outcome passes stage 'one': its bar is -3"),
        ([{"bar": 101.0, "bar_unit": "panel-sd"}], "hardly an outcome passes stage 'one': its bar is 101 panel"),
        ([{"bar": -1000.0, "bar_unit": "panel-sd"}], "nearly every outcome passes stage 'one': its bar is -1000"),
        ([{"bar": 0.02}, {"bar": 0.01}], "whatever passes stage 'one' passes stage 'two' too"),
        ([{"first_seed": 3}], "stage 'one' needs 3 judged seeds, judged_seeds has 2"),
    ],
)
def test_a_stage_that_decides_nothing_is_refused(stages, told):
    names = ("one", "two")
    made = [
        StageSettings(**{"name": names[i], "statistic": "panel", "num_seeds": 1, "bar": 0.01} | stage)
        for i, stage in enumerate(stages)
    ]
    settings = RuleSettings(stages=tuple(made), panel_seeds=(1, 2), judged_seeds=(1, 2))
    with pytest.raises(StudyError, match=told):
        write_out("mine", settings, MetricKey(slice="overall"))
