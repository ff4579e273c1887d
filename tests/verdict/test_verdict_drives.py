"""How much an effect depends on which drives validate."""

import pytest

from tests.verdict.campaign import PRIMARY, Campaign, panel_rule


def noise_of(campaign: Campaign, lever: str = "lever") -> float | None:
    (row,) = campaign.ask(f"effects where lever = '{lever}'")
    return row["evaluation_noise"]


def even_controls(campaign: Campaign) -> None:
    for seed in (1001, 1002):
        campaign.run("control", seed, 0.40, drives={"a": (10, 0.42), "b": (10, 0.38)})


def test_drives_whose_effects_differ_and_whose_runs_do_not(ledger, runs):
    """Effects of 0.02 and 0 on drives of one size: their sample variance is 0.0002, that of a mean of two 0.0001."""
    campaign = Campaign(ledger, runs, panel_rule())
    even_controls(campaign)
    for seed in (1001, 1002):
        campaign.run("lever", seed, 0.39, drives={"a": (10, 0.40), "b": (10, 0.38)})
    assert noise_of(campaign) == pytest.approx(0.01)


def test_what_seeds_say_of_the_drives_by_chance_is_taken_off(ledger, runs):
    """Above its mean, drive a has 0.03 and 0.01 in the controls, 0.00 and 0.02 in the lever: 0.02 against 0.01.

    Squared, 0.0001; by chance it would be 0.0002 / 2 on either side, so more than all of it. With 0.01 and 0.01 on the
    lever's side 0.0001 - 0.0001 is left, with -0.01 and -0.01 0.0009 - 0.0001 of either drive: 0.0008 in all.
    """
    for index, (lever, expected) in enumerate([((0.00, 0.02), 0), ((0.01, 0.01), 0), ((-0.01, -0.01), 0.0008**0.5)]):
        campaign = Campaign(ledger.with_name(f"{index}.duckdb"), runs.with_name(f"runs-{index}"), panel_rule())
        for seed, control, ours in zip((1001, 1002), (0.03, 0.01), lever, strict=True):
            campaign.run("control", seed, 0.4, drives={"a": (10, 0.4 + control), "b": (10, 0.4 - control)})
            campaign.run("lever", seed, 0.4, drives={"a": (10, 0.4 + ours), "b": (10, 0.4 - ours)})
        assert noise_of(campaign) == pytest.approx(expected, abs=1e-9)


def test_drives_count_by_their_frames(ledger, runs):
    """Effects of 0.02 on 30 frames and 0 on 10: 0.005 and 0.015 from their mean 0.015.

    Weights 3/4 and 1/4: 9/16 x 0.005^2 + 1/16 x 0.015^2 is 0.000225 / 8; 40/9 is 5/8 over 9/16 x 1/8 + 1/16 x 9/8.
    """
    campaign = Campaign(ledger, runs, panel_rule())
    for seed in (1001, 1002):
        campaign.run("control", seed, 0.40, drives={"a": (30, 0.42), "b": (10, 0.38)})
        campaign.run("lever", seed, 0.39, drives={"a": (30, 0.40), "b": (10, 0.38)})
    assert noise_of(campaign) == pytest.approx((0.000225 / 8 * 40 / 9) ** 0.5)


def test_a_rule_over_all_frames_takes_the_drives_themselves(ledger, runs):
    """`overall` on a drive is `drive:ID`. The numbers are those of the first test."""
    rule = panel_rule().model_copy(update={"primary": PRIMARY.model_copy(update={"slice": "overall"})})
    campaign = Campaign(ledger, runs, rule)
    even_controls(campaign)
    for seed in (1001, 1002):
        campaign.run("lever", seed, 0.39, drives={"a": (10, 0.40), "b": (10, 0.38)})
    assert noise_of(campaign) == pytest.approx(0.01)


def test_an_incomplete_panel_has_no_evaluation_noise_either(ledger, runs):
    campaign = Campaign(ledger, runs, panel_rule(panel_seeds=(1001, 1002, 1003)))
    even_controls(campaign)
    for seed in (1001, 1002):
        campaign.run("lever", seed, 0.39, drives={"a": (10, 0.40), "b": (10, 0.38)})
    assert noise_of(campaign) is None


def test_one_seed_cannot_tell_drives_from_chance(ledger, runs):
    campaign = Campaign(ledger, runs, panel_rule())
    even_controls(campaign)
    campaign.run("lever", 1001, 0.39, drives={"a": (10, 0.40), "b": (10, 0.38)})
    assert noise_of(campaign) is None


def test_a_lever_that_is_as_much_better_on_each_drive_has_no_evaluation_noise(ledger, runs):
    """The runs differ by drive, the effect does not."""
    campaign = Campaign(ledger, runs, panel_rule())
    for seed in (1001, 1002):
        campaign.run("control", seed, 0.5, drives={"a": (10, 0.75), "b": (30, 0.25)})
        campaign.run("lever", seed, 0.4, drives={"a": (10, 0.625), "b": (30, 0.125)})
    assert noise_of(campaign) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("lacks", ["control", "lever", "second drive"])
def test_no_evaluation_noise_where_drives_are_not_told_apart(ledger, runs, lacks):
    drives = {"a": (10, 0.4)} if lacks == "second drive" else {"a": (10, 0.4), "b": (10, 0.3)}
    campaign = Campaign(ledger, runs, panel_rule())
    campaign.run("control", 1001, 0.4, drives=drives)
    campaign.run("control", 1002, 0.4, drives=None if lacks == "control" else drives)
    campaign.run("lever", 1001, 0.3, drives=drives)
    campaign.run("lever", 1002, 0.3, drives=None if lacks == "lever" else drives)
    assert noise_of(campaign) is None
