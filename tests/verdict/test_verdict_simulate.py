"""Simulated campaigns, judged by the views, against the same rules computed in numpy on numbers of its own."""

from dataclasses import replace

import numpy as np
import pytest

from flowlab.study.rule import preset_rule
from flowlab.verdict.simulate import Campaigns, simulate

SIGMA = 0.014
NULL = Campaigns(levers=35, real=0, effect=0.02, sigma=SIGMA, rho=0.0, spread=0.0, campaigns=600, seed=0)


def share_stacked(preset: str, effect: float, num: int = 400_000) -> float:
    """The share of levers that pass, each in a campaign of its own."""
    stream = np.random.default_rng(1)
    control = SIGMA * stream.standard_normal((num, 8 if preset == "fresh" else 4))
    lever = SIGMA * stream.standard_normal((num, 4)) - effect
    panel = control.mean(axis=1)
    if preset == "panel":
        passed = (control[:, 0] - lever[:, 0] > 0.010) & (panel - lever[:, :2].mean(axis=1) > 0.015)
    elif preset == "fresh":
        passed = (panel - lever[:, 0] > 0.010) & (panel - lever[:, :2].mean(axis=1) > 0.015)
        passed &= panel - lever[:, 2:].mean(axis=1) > 0.010
    elif preset == "paired":
        passed = (control[:, :2] - lever[:, :2] > 0.010).all(axis=1)
    else:
        passed = panel - lever[:, 0] > 2 * control.std(axis=1, ddof=1)
    return float(passed.mean())


@pytest.mark.parametrize(("preset", "controls"), [("two-sigma", 4), ("paired", 4), ("panel", 4), ("fresh", 8)])
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
    monkeypatch.setattr("flowlab.verdict.simulate.LEVERS_PER_BLOCK", 70)  # two campaigns at a time
    assert simulate(rule, asked).campaigns == 30
