"""Simulated campaigns, judged by the views, against the same rules computed in numpy on numbers of its own."""

from dataclasses import replace

import numpy as np
import pytest

from flowlab.study.rule import CLIMB_BARS, CLIMB_STACKS, preset_rule, write_out
from flowlab.study.settings import MetricKey, RuleSettings
from flowlab.verdict.campaigns import Screen, draw
from flowlab.verdict.simulate import Campaigns, simulate

SIGMA = 0.014
NULL = Campaigns(levers=35, real=0, effect=0.02, sigma=SIGMA, rho=0.0, spread=0.0, campaigns=600, seed=0)


def share_stacked(preset: str, effect: float, num: int = 400_000) -> float:
    """The share of levers that pass, each in a campaign of its own."""
    stream = np.random.default_rng(1)
    control = SIGMA * stream.standard_normal((num, 8 if preset in ("fresh", "climb") else 4))
    lever = SIGMA * stream.standard_normal((num, 6)) - effect
    panel = control.mean(axis=1)
    if preset == "panel":
        passed = (control[:, 0] - lever[:, 0] > 0.010) & (panel - lever[:, :2].mean(axis=1) > 0.015)
    elif preset == "fresh":
        passed = (panel - lever[:, 0] > 0.010) & (panel - lever[:, :2].mean(axis=1) > 0.015)
        passed &= panel - lever[:, 2:4].mean(axis=1) > 0.010
    elif preset == "climb":
        passed, is_open = np.zeros(num, dtype=bool), np.ones(num, dtype=bool)
        for n, (bar, above) in enumerate(zip(CLIMB_BARS, CLIMB_STACKS, strict=True), start=1):
            better = panel - lever[:, :n].mean(axis=1)
            is_open &= better > bar
            if above is not None:
                passed |= is_open & (better > above)
                is_open &= better <= above
    elif preset == "paired":
        passed = (control[:, :2] - lever[:, :2] > 0.010).all(axis=1)
    else:
        passed = panel - lever[:, 0] > 2 * control.std(axis=1, ddof=1)
    return float(passed.mean())


@pytest.mark.parametrize(
    ("preset", "controls"), [("two-sigma", 4), ("paired", 4), ("panel", 4), ("fresh", 8), ("climb", 8)]
)
def test_error_rate_and_power_are_those_of_the_rule(preset, controls):
    rule = preset_rule(preset, controls)
    null = simulate(rule, NULL)
    # levers of one campaign share its panel, so the error of the mean is that of campaigns rather than of levers
    assert null.null_stacked == pytest.approx(share_stacked(preset, 0.0), abs=0.012)
    assert null.false_stacks == pytest.approx(35 * null.null_stacked)
    assert (null.power, null.false_discovery_rate) == (None, 1.0)
    real = simulate(rule, replace(NULL, real=35))
    assert real.power == pytest.approx(share_stacked(preset, 0.02), abs=0.03)
    assert (real.null_stacked, real.false_stacks, real.any_false_stack) == (None, 0.0, 0.0)


def test_what_is_stacked_looks_better_than_it_is_and_fresh_seeds_less_so():
    panel = simulate(preset_rule("panel", 8), replace(NULL, real=35, campaigns=200))
    fresh = simulate(preset_rule("fresh", 8), replace(NULL, real=35, campaigns=200))
    assert panel.overestimate > 0.004 > 0
    assert 0 < fresh.overestimate < panel.overestimate


def test_runs_are_counted_up_to_the_stage_reached():
    """Without noise every null lever fails at once, and every real one goes all the way: 1 seed, or 4."""
    exact = replace(NULL, levers=10, real=3, sigma=0.0, campaigns=5)
    rates = simulate(preset_rule("fresh", 8), exact)
    assert (rates.runs, rates.control_runs) == (7 * 1 + 3 * 4, 8)
    assert (rates.power, rates.null_stacked, rates.any_false_stack) == (1.0, 0.0, 0.0)
    assert rates.reported_effect == pytest.approx(0.02)


def test_seeds_in_common_pair_away_under_full_correlation():
    """At rho 1 lever and control at one seed are the same run: a paired delta of exactly the effect."""
    rates = simulate(preset_rule("paired", 4), replace(NULL, rho=1.0, real=10, campaigns=20))
    assert (rates.power, rates.null_stacked) == (1.0, 0.0)


def test_the_same_seed_gives_the_same_answer_and_blocks_do_not_show(monkeypatch):
    rule, asked = preset_rule("panel", 4), replace(NULL, campaigns=30)
    assert simulate(rule, asked) == simulate(rule, asked)
    assert simulate(rule, asked) != simulate(rule, replace(asked, seed=1))
    monkeypatch.setattr("flowlab.verdict.simulate.LEVERS_PER_BLOCK", 350)  # ten campaigns at a time
    assert simulate(rule, asked).campaigns == 30


def test_a_lever_that_stacks_at_once_is_run_at_no_more_seeds():
    """Without noise a lever 0.0279 better is below the third stack bar, 0.028, and above the fourth, 0.024."""
    exact = replace(NULL, levers=1, real=1, effect=0.0279, sigma=0.0, campaigns=1)
    assert simulate(preset_rule("climb", 8), exact).runs == 4


def test_a_screen_sends_on_what_is_better_and_its_rows_are_runs(monkeypatch):
    """Without noise: 16 rows for 10 levers, then 3 seeds for each of the 3 that are better, and none for the others."""
    monkeypatch.setattr("flowlab.verdict.simulate.WEIGHTS_PER_BLOCK", 2 * 10 * 16)  # two campaigns at a time, then one
    rates = simulate(preset_rule("screen", 8), replace(NULL, levers=10, real=3, sigma=0.0, campaigns=3))
    assert (rates.power, rates.null_stacked) == (1.0, 0.0)
    assert (rates.runs, rates.screen_runs, rates.control_runs) == (16 + 3 * 3, 16, 8)


def test_levers_that_do_the_same_thing_hide_each_other_in_a_screen():
    """Of two real levers worth 0.018 alone and no more together, each adds 0.018 in half of the rows: 0.009."""
    exact = replace(NULL, levers=10, real=2, effect=0.018, sigma=0.0, overlap=1.0, campaigns=1, rows=20)
    rates = simulate(preset_rule("screen", 8), exact)
    assert (rates.power, rates.runs) == (0.0, 20)  # the bar is 0.010


def test_pairs_of_levers_that_are_on_together_add_to_a_row():
    """Three levers are three pairs, two are one pair, which is among the three: variances 3 and 1, covariance 1."""
    on = np.array([[True, True, True], [True, True, False], [False, False, True]])
    screen = Screen(on, np.zeros((3, 3)), ["row-0", "row-1", "row-2"], [1, 2, 3])
    asked = replace(NULL, levers=3, sigma=0.0)
    for together in (replace(asked, interactions=0.1), replace(asked, real=3, effect=0.0, real_interactions=0.1)):
        runs = draw(preset_rule("screen", 8), together, screen, 0, 20_000).runs.to_pandas()
        rows = np.array([runs.value[runs.lever == name] for name in screen.row_names])
        assert np.cov(rows) == pytest.approx(0.01 * np.array([[3, 1, 0], [1, 1, 0], [0, 0, 0]]), abs=5e-4)


def test_heavy_tails_have_the_same_variance_and_a_narrower_middle():
    """Half of all draws of a t with 3 degrees lie within 0.7649; over the root of 3, its sd, that is 0.4416."""
    asked = replace(NULL, levers=1, sigma=1.0, noise="t3")
    values = draw(preset_rule("panel", 8), asked, None, 0, 10_000).runs["value"].to_numpy()
    assert np.median(np.abs(values - 0.35)) == pytest.approx(0.4416, abs=0.01)


def test_loud_levers_are_counted_apart():
    rates = simulate(preset_rule("climb", 8), replace(NULL, campaigns=80, loud=2.0, num_loud=20))
    assert rates.loud_stacked > 2 * rates.null_stacked
    assert rates.false_stacks == pytest.approx(20 * rates.loud_stacked + 15 * rates.null_stacked)


def test_every_other_lever_without_effect_shares_its_seeds_luck():
    asked = replace(NULL, levers=5, real=1, rho=0.9, half_rho=True)
    assert asked.rhos == [0.0, 0.0, 0.9, 0.0, 0.9]


def test_bars_in_a_measured_sigma_scale_with_it_and_effects_do_not():
    """With sigma a fifth, known all but exactly, what is a fifth as much better is found as often, and told as such."""
    rule, asked = preset_rule("climb", 8), replace(NULL, levers=10, real=10, campaigns=40)
    known = simulate(rule, asked)
    scaled = simulate(rule, replace(asked, sigma=SIGMA / 5, effect=0.004, sealed_df=10**9))
    assert scaled.power == pytest.approx(known.power, abs=0.01)
    assert scaled.reported_effect == pytest.approx(known.reported_effect / 5, rel=0.02)


def test_a_rule_in_sigma_measures_it_on_its_own_controls():
    settings = RuleSettings(
        preset="climb", bars="sigma", panel_seeds=tuple(range(8)), judged_seeds=tuple(range(6)),
        calibration_seeds=tuple(range(8, 24)),
    )  # fmt: skip
    rates = simulate(write_out("climb", settings, MetricKey(slice="overall")), replace(NULL, real=35, campaigns=60))
    assert rates.control_runs == 24
    assert rates.power == pytest.approx(share_stacked("climb", 0.02), abs=0.06)
